//! Everything about a tree that a transfer must keep, or must not touch.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::{Done, b3sum, root_hash};

/// Name, at the top of a target, of what a receiver keeps for itself.
const STAGING: &[u8] = b".fastsst";

/// A tree, without its root and without what a receiver keeps for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing(BTreeMap<Vec<u8>, Item>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    /// 0 unless a file.
    size: u64,
    /// 1 for a directory.
    names: u64,
    /// Of the names of one file the smallest.
    first_name: Vec<u8>,
    /// What a symbolic link holds.
    link: Option<Vec<u8>>,
    /// BLAKE3 of a file.
    content: Option<String>,
}

impl Listing {
    /// Reads a tree, the content of its files included.
    #[must_use]
    pub fn of(root: &Path) -> Self {
        let mut listing = Self(BTreeMap::new());
        let mut inodes = HashMap::new();
        listing.add(root, root, &mut inodes);
        let firsts: HashMap<_, _> = inodes
            .into_iter()
            .map(|(inode, mut names): (_, Vec<Vec<u8>>)| {
                names.sort_unstable();
                (inode, names)
            })
            .collect();
        for names in firsts.values() {
            for name in names {
                let item = listing.0.get_mut(name).expect("it was just added");
                item.first_name.clone_from(&names[0]);
            }
        }
        listing
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether everything in it is in the other one, and the same there.
    #[must_use]
    pub fn is_part_of(&self, other: &Self) -> bool {
        self.0.iter().all(|(name, item)| other.0.get(name) == Some(item))
    }

    /// The two are equal; panics with the first differences otherwise.
    pub fn assert_eq(&self, other: &Self, what: &str) {
        assert!(self == other, "{what}\n{}", self.differences(other));
    }

    /// The first differences between the two, a few lines for each.
    #[must_use]
    pub fn differences(&self, other: &Self) -> String {
        const SHOWN: usize = 8;
        let names = self.0.keys().chain(other.0.keys().filter(|it| !self.0.contains_key(*it)));
        let differences: Vec<String> = names
            .filter(|name| self.0.get(*name) != other.0.get(*name))
            .take(SHOWN)
            .map(|name| {
                let (here, there) = (self.0.get(name), other.0.get(name));
                format!("{}:\n  {here:?}\n  {there:?}", name.escape_ascii())
            })
            .collect();
        differences.join("\n")
    }

    fn add(
        &mut self,
        root: &Path,
        directory: &Path,
        inodes: &mut HashMap<(u64, u64), Vec<Vec<u8>>>,
    ) {
        let entries = fs::read_dir(directory);
        let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        for entry in entries {
            let entry = entry.unwrap();
            if directory == root && entry.file_name().as_bytes() == STAGING {
                continue;
            }
            let (path, found) = (entry.path(), entry.metadata().unwrap());
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            let kind = found.file_type();
            let is_file = kind.is_file();
            let item = Item {
                kind: match () {
                    () if is_file => "file",
                    () if kind.is_dir() => "directory",
                    () if kind.is_symlink() => "link",
                    () if kind.is_fifo() => "fifo",
                    () => "other",
                },
                mode: found.mode() & 0o7777,
                owner: (found.uid(), found.gid()),
                mtime: (found.mtime(), found.mtime_nsec()),
                size: if is_file { found.size() } else { 0 },
                names: if kind.is_dir() { 1 } else { found.nlink() },
                first_name: name.clone(),
                link: kind
                    .is_symlink()
                    .then(|| fs::read_link(&path).unwrap().into_os_string().into_vec()),
                content: is_file.then(|| b3sum(&path)),
            };
            if is_file {
                inodes.entry((found.dev(), found.ino())).or_default().push(name.clone());
            }
            self.0.insert(name, item);
            if kind.is_dir() {
                self.add(root, &path, inodes);
            }
        }
    }
}

/// The target is the source: names, kinds, contents, links, modes, owners, times; and every hash
/// that anybody computed says so.
pub fn assert_same_tree(source: &Path, target: &Path, done: &Done) {
    let (ours, theirs) = (Listing::of(source), Listing::of(target));
    ours.assert_eq(&theirs, "source and target differ");
    let hash = root_hash(source);
    assert_eq!(hash, root_hash(target), "verify at both ends");
    assert_eq!(done.sent["root_hash"], hash.as_str(), "{:#}", done.sent);
    assert_eq!(done.received["root_hash"], hash.as_str(), "{:#}", done.received);
    assert_eq!(done.sent["entries"], theirs.len() as u64, "{:#}", done.sent);
    assert_eq!(done.received["entries"], theirs.len() as u64, "{:#}", done.received);
}
