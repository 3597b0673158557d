//! What there is to copy, and making it elsewhere.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};

use super::extent::{count, direct};

/// Unit of `st_blocks`.
const BLOCK_BYTES: u64 = 512;

/// A file this small is allocated by its one write.
const RESERVE_FROM: u64 = 1 << 20;

/// A regular file of the source.
#[derive(Debug)]
pub(super) struct Listed {
    /// Below the root.
    pub(super) path: PathBuf,
    /// Where it has data.
    pub(super) data: Vec<Range<u64>>,
    size: u64,
    keep: Keep,
}

/// What a copy takes over besides the content.
#[derive(Debug, Clone, Copy)]
struct Keep {
    mode: u32,
    owner: (u32, u32),
    modified: SystemTime,
}

impl Keep {
    fn of(metadata: &Metadata) -> Self {
        let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
        let seconds = Duration::new(metadata.mtime().unsigned_abs(), 0);
        let whole = if metadata.mtime() < 0 {
            SystemTime::UNIX_EPOCH - seconds
        } else {
            SystemTime::UNIX_EPOCH + seconds
        };
        Self {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            modified: whole + Duration::new(0, nanoseconds),
        }
    }

    fn apply(&self, file: &File) -> io::Result<()> {
        if rustix::process::geteuid().is_root() {
            fchown(file, Some(self.owner.0), Some(self.owner.1))?;
        }
        file.set_permissions(Permissions::from_mode(self.mode))?;
        file.set_modified(self.modified)
    }
}

impl Listed {
    /// Bytes that are not holes.
    pub(super) fn data_bytes(&self) -> u64 {
        self.data.iter().map(|range| range.end - range.start).sum()
    }

    #[cfg(test)]
    pub(super) fn for_test(data: impl IntoIterator<Item = Range<u64>>) -> Self {
        let data = data.into_iter().collect();
        let keep = Keep { mode: 0, owner: (0, 0), modified: SystemTime::UNIX_EPOCH };
        Self { path: PathBuf::new(), size: 0, data, keep }
    }
}

/// Everything below a directory.
#[derive(Debug)]
pub(super) struct Listing {
    /// Regular files.
    pub(super) files: Vec<Listed>,
    /// Each after the one that it is in.
    directories: Vec<(PathBuf, Keep)>,
    links: Vec<(PathBuf, PathBuf, Keep)>,
}

impl Listing {
    /// Walks `root`.
    ///
    /// # Errors
    /// Something cannot be read, or is no file, directory or link.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut this = Self { files: Vec::new(), directories: Vec::new(), links: Vec::new() };
        let mut left = vec![PathBuf::new()];
        while let Some(directory) = left.pop() {
            let cannot = || format!("cannot list {}", directory.display());
            for entry in fs::read_dir(root.join(&directory)).with_context(cannot)? {
                let entry = entry.with_context(cannot)?;
                let (path, metadata) =
                    (directory.join(entry.file_name()), entry.metadata().with_context(cannot)?);
                let keep = Keep::of(&metadata);
                if metadata.is_dir() {
                    left.push(path.clone());
                    this.directories.push((path, keep));
                } else if metadata.is_symlink() {
                    this.links.push((path, fs::read_link(entry.path())?, keep));
                } else if metadata.is_file() {
                    let data = data(&entry.path(), &metadata).with_context(cannot)?;
                    this.files.push(Listed { path, data, size: metadata.len(), keep });
                } else {
                    bail!("{} is neither file, directory nor link", path.display());
                }
            }
        }
        Ok(this)
    }

    /// How large a file is.
    pub(super) fn average_bytes(&self) -> u64 {
        let bytes: u64 = self.files.iter().map(|file| file.size).sum();
        bytes / (self.files.len() as u64).max(1)
    }

    /// Makes directories and links.
    pub(super) fn make_directories(&self, target: &Path) -> Result<()> {
        for (path, _) in &self.directories {
            fs::create_dir(target.join(path))
                .with_context(|| format!("cannot create {}", path.display()))?;
        }
        for (path, to, keep) in &self.links {
            let link = target.join(path);
            symlink(to, &link).with_context(|| format!("cannot create {}", path.display()))?;
            if rustix::process::geteuid().is_root() {
                lchown(&link, Some(keep.owner.0), Some(keep.owner.1))?;
            }
        }
        Ok(())
    }

    /// Modes and times of directories, once nothing is created in them any more.
    pub(super) fn finish_directories(&self, target: &Path) -> Result<()> {
        for (path, keep) in self.directories.iter().rev() {
            let directory = File::open(target.join(path));
            directory
                .and_then(|directory| keep.apply(&directory))
                .with_context(|| format!("cannot finish {}", path.display()))?;
        }
        Ok(())
    }
}

/// Where a file has data: everywhere, unless it takes less space than its size.
fn data(path: &Path, metadata: &Metadata) -> io::Result<Vec<Range<u64>>> {
    let size = metadata.len();
    if metadata.blocks() * BLOCK_BYTES >= size {
        return Ok(std::iter::once(0..size).filter(|range| !range.is_empty()).collect());
    }
    let (file, mut at, mut found) = (File::open(path)?, 0, Vec::new());
    while at < size {
        let Ok(start) = seek(&file, SeekFrom::Data(at)) else { break };
        let end = seek(&file, SeekFrom::Hole(start))?.min(size);
        found.push(start..end);
        at = end;
    }
    Ok(found)
}

/// A file of the target, opened by whoever comes first, finished and closed by whoever is last.
#[derive(Debug)]
pub(super) struct Copied<'a> {
    /// What it is a copy of.
    pub(super) listed: &'a Listed,
    target: Mutex<Option<Arc<Target>>>,
    left: AtomicUsize,
}

/// An open file of the target.
#[derive(Debug)]
pub(super) struct Target {
    /// The file.
    pub(super) file: File,
    /// Whether only whole blocks can be written.
    pub(super) direct: bool,
}

impl<'a> Copied<'a> {
    /// Nothing of it is there yet.
    pub(super) fn new(listed: &'a Listed) -> Self {
        Self { listed, target: Mutex::new(None), left: AtomicUsize::new(count(listed)) }
    }

    /// The open file at `path`.
    pub(super) fn create(&self, path: &Path) -> io::Result<Arc<Target>> {
        let mut slot = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = slot.as_ref() {
            return Ok(Arc::clone(target));
        }
        let target = Arc::new(self.open(path)?);
        *slot = Some(Arc::clone(&target));
        Ok(target)
    }

    /// The last one sets size, mode and time.
    pub(super) fn extent_is_done(&self, file: &File) -> io::Result<()> {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            file.set_len(self.listed.size)?;
            self.listed.keep.apply(file)?;
            // Open files are few, however many files there are.
            *self.target.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Target> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let (file, direct) = match options.clone().custom_flags(direct()).open(path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                (options.open(path)?, false)
            }
            result => (result?, true),
        };
        let whole = self.listed.data_bytes() == self.listed.size;
        if whole && self.listed.size >= RESERVE_FROM {
            // A file system without it only makes this slower.
            fallocate(&file, FallocateFlags::empty(), 0, self.listed.size).unwrap_or(());
        }
        Ok(Target { file, direct })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::tree::Tree;

    #[test]
    fn a_tree_with_everything_is_copied() {
        let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = |name: &str| source.path().join(name);
        fs::create_dir_all(path("a/b")).unwrap();
        fs::write(path("a/b/odd"), vec![7; (17 << 20) + 3]).unwrap();
        fs::write(path("a/empty"), "").unwrap();
        fs::write(path("tiny"), "x").unwrap();
        let sparse = File::create(path("sparse")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"island", 3 << 20).unwrap();
        sparse.set_len(9 << 20).unwrap();
        sparse.set_modified(SystemTime::UNIX_EPOCH + Duration::new(5, 123_456_789)).unwrap();
        symlink("tiny", path("link")).unwrap();
        fs::set_permissions(path("a/b"), Permissions::from_mode(0o710)).unwrap();

        super::super::copy(source.path(), target.path()).unwrap();

        let cancel = Cancel::default();
        let read = |dir: &Path| Tree::read(dir, &cancel).unwrap();
        assert_eq!(read(source.path()).difference(&read(target.path())), None);
        let blocks = fs::metadata(target.path().join("sparse")).unwrap().blocks();
        assert!(blocks * BLOCK_BYTES < 2 << 20, "holes stay: {blocks} blocks");
    }
}
