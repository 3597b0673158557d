//! Whether a copy equals its source, without the help of anyone who made it.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use blake3::Hasher;

use crate::cancel::Cancel;

/// Where a receiver of fastsst keeps its own files, at the top of the copy.
const STAGING_NAME: &str = ".fastsst";

/// Threads that read a tree. Why: it is not timed, and one reads a cold disk at a third of its speed.
const READERS: usize = 4;

/// Everything below a directory that a copy must have too.
#[derive(Debug)]
pub(crate) struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
    /// Size of all files.
    pub(crate) bytes: u64,
    /// How many files.
    pub(crate) files: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    content: Content,
}

#[derive(Debug, PartialEq, Eq)]
enum Content {
    /// Times of directories are left out: not everybody keeps them.
    Directory,
    Link(PathBuf),
    File {
        bytes: u64,
        modified: (i64, i64),
        hash: blake3::Hash,
    },
    Other,
}

impl Tree {
    /// Reads and hashes everything.
    ///
    /// # Errors
    /// Something cannot be read, or a signal has come.
    pub(crate) fn read(root: &Path, cancel: &Cancel) -> Result<Self> {
        let paths = walk(root)?;
        let next = AtomicUsize::new(0);
        // Each takes the next path, so that a large file does not keep the others waiting.
        let read = || {
            let mut found = Vec::new();
            while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                found.push((path, entry(path, cancel)?));
            }
            Ok::<_, anyhow::Error>(found)
        };
        let parts = thread::scope(|scope| {
            let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
            readers
                .into_iter()
                .map(|reader| reader.join().unwrap_or_else(|_| bail!("a reader panicked")))
                .collect::<Result<Vec<_>>>()
        })?;
        let mut tree = Self { entries: BTreeMap::new(), bytes: 0, files: 0 };
        for (path, entry) in parts.into_iter().flatten() {
            if let Content::File { bytes, .. } = &entry.content {
                tree.bytes += bytes;
                tree.files += 1;
            }
            let relative = path.strip_prefix(root).unwrap_or(path).to_owned();
            tree.entries.insert(relative, entry);
        }
        Ok(tree)
    }

    /// Names the first entry that is not the same in `copy`.
    pub(crate) fn difference(&self, copy: &Self) -> Option<String> {
        for (path, entry) in &self.entries {
            match copy.entries.get(path) {
                None => return Some(format!("{} is missing", path.display())),
                Some(copied) if copied != entry => {
                    return Some(format!("{}: {copied:?} is not {entry:?}", path.display()));
                }
                Some(_) => {}
            }
        }
        let extra = copy.entries.keys().find(|path| !self.entries.contains_key(*path));
        extra.map(|path| format!("{} is not in the source", path.display()))
    }
}

/// All regular files below `root`.
///
/// # Errors
/// A directory cannot be read.
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = walk(root)?;
    paths.retain(|path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()));
    Ok(paths)
}

fn walk(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut directories) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = directories.pop() {
        let cannot = || format!("cannot list {}", directory.display());
        for entry in fs::read_dir(&directory).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            if directory == root && entry.file_name() == STAGING_NAME {
                continue;
            }
            if entry.file_type().with_context(cannot)?.is_dir() {
                directories.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn entry(path: &Path, cancel: &Cancel) -> Result<Entry> {
    let cannot = || format!("cannot read {}", path.display());
    let metadata = fs::symlink_metadata(path).with_context(cannot)?;
    let content = content(path, &metadata, cancel).with_context(cannot)?;
    Ok(Entry { mode: metadata.mode(), owner: (metadata.uid(), metadata.gid()), content })
}

fn content(path: &Path, metadata: &Metadata, cancel: &Cancel) -> Result<Content> {
    let kind = metadata.file_type();
    Ok(if kind.is_dir() {
        Content::Directory
    } else if kind.is_symlink() {
        Content::Link(fs::read_link(path)?)
    } else if kind.is_file() {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Content::File { bytes: metadata.len(), modified, hash: hash(path, cancel)? }
    } else {
        Content::Other
    })
}

fn hash(path: &Path, cancel: &Cancel) -> Result<blake3::Hash> {
    let (mut file, mut hasher) = (File::open(path)?, Hasher::new());
    let mut buffer = vec![0; 1 << 20];
    loop {
        cancel.check()?;
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            bytes => hasher.update(&buffer[..bytes]),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_found() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let read = |dir: &tempfile::TempDir| Tree::read(dir.path(), &Cancel::default()).unwrap();
        for dir in [&one, &two] {
            fs::create_dir(dir.path().join("empty")).unwrap();
            let file = File::create(dir.path().join("f")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        let same = read(&one);
        assert_eq!(same.difference(&read(&two)), None);
        fs::create_dir(two.path().join(STAGING_NAME)).unwrap();
        assert_eq!(same.difference(&read(&two)), None, "the receiver's own files do not count");

        fs::write(two.path().join("g"), "").unwrap();
        assert_eq!(same.difference(&read(&two)).unwrap(), "g is not in the source");
        assert_eq!(read(&two).difference(&same).unwrap(), "g is missing");
        fs::write(two.path().join("f"), "x").unwrap();
        assert!(same.difference(&read(&two)).unwrap().starts_with("f: "));
    }
}
