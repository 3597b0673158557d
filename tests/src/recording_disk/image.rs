//! A file that is mounted as a disk.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{OFlags, open, syncfs};

use super::Medium;
use super::holder::Holder;
use crate::cluster::program;
use crate::small_disk::Namespace;
use crate::wait::succeed;

/// Making a file system in memory.
const FORMAT: Duration = Duration::from_secs(60);

/// Mounts a disk: image, type, options, mount point.
const SCRIPT: &str = r#"mount -t "$2" -o "$3" "$1" "$4""#;

/// A file system that MariaDB's data lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4, as `mkfs` makes it.
    Ext4,
    /// XFS, as `mkfs` makes it.
    Xfs,
}

impl FileSystem {
    /// As `mount -t` has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// As `mount -o` has it. Nothing about barriers, which are the default.
    pub(super) fn options(self) -> &'static str {
        match self {
            Self::Ext4 => "loop",
            // Several images of one disk may be mounted beside each other.
            Self::Xfs => "loop,nouuid",
        }
    }

    /// Unit: MiB. Why: XFS wants 300 at least; ext4 gets a journal with 64.
    fn mib(self) -> u64 {
        match self {
            Self::Ext4 => 64,
            Self::Xfs => 300,
        }
    }
}

/// Makes an empty file system in a new file.
pub fn format(file: &Path, kind: FileSystem) {
    std::fs::File::create(file).unwrap().set_len(kind.mib() << 20).unwrap();
    let mut mkfs = Command::new(program(&format!("mkfs.{}", kind.name())));
    if kind == FileSystem::Ext4 {
        // Otherwise the kernel goes on with it for minutes, between the writes that matter.
        mkfs.args(["-E", "lazy_itable_init=0,lazy_journal_init=0"]);
    }
    succeed(mkfs.arg("-q").arg(file), FORMAT);
}

/// A file that is mounted as a disk.
#[derive(Debug)]
pub struct MountedImage(Holder);

impl MountedImage {
    /// Mounts `file` at `at`, an empty directory, for this test alone.
    ///
    /// # Errors
    /// What `mount` said.
    pub fn mount(file: &Path, kind: FileSystem, at: &Path) -> Result<Self, String> {
        let paths = [file, Path::new(kind.name()), Path::new(kind.options()), at];
        let mut holder = Holder::start(SCRIPT, &paths, Stdio::null());
        holder.wait_for("ready")?;
        Ok(Self(holder))
    }

    /// Saves a disk's content and mounts that.
    ///
    /// # Errors
    /// What `mount` said.
    pub fn of(medium: &Medium, kind: FileSystem, file: &Path, at: &Path) -> Result<Self, String> {
        medium.save(file);
        Self::mount(file, kind, at)
    }

    /// Where a process in the namespace finds it.
    #[must_use]
    pub fn inside(&self) -> PathBuf {
        self.0.inside().to_owned()
    }

    /// Where this process finds it.
    #[must_use]
    pub fn outside(&self) -> PathBuf {
        self.0.outside()
    }

    /// Unmounts it, so that the file has everything.
    pub fn unmount(self) {
        self.0.unmount();
    }
}

impl From<&MountedImage> for Namespace {
    fn from(disk: &MountedImage) -> Self {
        disk.0.namespace()
    }
}

/// Makes everything below a directory durable.
pub(super) fn sync(directory: &Path) {
    let directory = open(directory, OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty());
    syncfs(directory.unwrap()).unwrap();
}
