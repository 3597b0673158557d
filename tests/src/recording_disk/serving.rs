//! The disk that records, mounted.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fuser::{Config, Session, SessionACL};

use super::holder::Holder;
use super::image::{FileSystem, sync};
use super::served::Disk;
use super::{History, Medium};
use crate::small_disk::Namespace;
use crate::wait::until;

/// Mounts the file that we serve over another one (the root of a FUSE file system may be a file:
/// 0100000), and a loop device on it: standard output is `/dev/fuse`.
const SCRIPT: &str = r#"mount -i -t fuse -o fd=1,rootmode=100000,user_id=0,group_id=0 recording "$1" \
&& echo served >&2 && mount -t "$2" -o "$3" "$1" "$4" >/dev/null"#;

/// The kernel gives the file back once nobody has it open.
const END: Duration = Duration::from_secs(30);

/// A mounted disk that writes down what it is told.
#[derive(Debug)]
pub struct RecordingDisk {
    /// `None` once it is unmounted.
    holder: Option<Holder>,
    disk: Disk,
    server: Option<JoinHandle<()>>,
}

impl RecordingDisk {
    /// Mounts what `medium` holds at `at`, an empty directory; `file` is an empty file in whose
    /// place the disk can be seen.
    #[must_use]
    pub fn mount(medium: Medium, kind: FileSystem, file: &Path, at: &Path) -> Self {
        File::create(file).unwrap();
        let fuse = File::options().read(true).write(true).open("/dev/fuse");
        let fuse = OwnedFd::from(fuse.expect("/dev/fuse: root, and a kernel with FUSE"));
        let output = Stdio::from(fuse.try_clone().unwrap());
        let paths = [file, Path::new(kind.name()), Path::new(kind.options()), at];
        let mut holder = Holder::start(SCRIPT, &paths, output);
        let disk = Disk::new(medium);
        holder.wait_for("served").unwrap_or_else(|why| panic!("FUSE: {why}"));
        let served = disk.clone();
        let server = thread::spawn(move || {
            let session = Session::from_fd(served, fuse, SessionACL::Owner, Config::default());
            // Ends with the mount.
            drop(session.expect("the kernel speaks FUSE").run());
        });
        holder.wait_for("ready").unwrap_or_else(|why| panic!("{kind:?}: {why}"));
        let this = Self { holder: Some(holder), disk, server: Some(server) };
        this.begin();
        this
    }

    /// Forgets what happened so far: the history begins with what is there now.
    pub fn begin(&self) {
        self.sync();
        drop(self.disk.take_history());
    }

    /// Makes everything durable that is there.
    pub fn sync(&self) {
        sync(&self.outside());
    }

    /// How many commands there were so far.
    #[must_use]
    pub fn commands(&self) -> usize {
        self.disk.commands()
    }

    /// What happened since it began.
    #[must_use]
    pub fn finish(self) -> History {
        self.disk.take_history()
    }

    /// Where a process in the namespace finds it.
    #[must_use]
    pub fn inside(&self) -> PathBuf {
        self.holder().inside().to_owned()
    }

    /// Where this process finds it.
    #[must_use]
    pub fn outside(&self) -> PathBuf {
        self.holder().outside()
    }

    fn holder(&self) -> &Holder {
        self.holder.as_ref().expect("there until it is dropped")
    }
}

impl From<&RecordingDisk> for Namespace {
    fn from(disk: &RecordingDisk) -> Self {
        disk.holder().namespace()
    }
}

impl Drop for RecordingDisk {
    fn drop(&mut self) {
        // First the namespace, then who serves it: unmounting writes.
        drop(self.holder.take());
        let Some(server) = self.server.take() else { return };
        if !thread::panicking() {
            until("the disk is unmounted", END, || server.is_finished().then_some(()));
        }
    }
}
