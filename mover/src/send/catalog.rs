//! What the donor has declared: every entry, how it looked when it was declared, and its hash.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fastsst_proto::limits::{FILES_MAX, GENERATION_MAX};
use fastsst_proto::manifest::{Entry, EntryKind};
use fastsst_proto::{
    ChunkHash, ChunkIndex, FileHash, FileId, FileTree, Generation, RelPath, RootHash, RootIndex,
    TreeError,
};

use crate::error::{Code, Error, Result};
use crate::manifest::Manifest;
use crate::tree::{FileKind, Stat};
use crate::tree_hash::{TreeLine, root_hash};
use crate::walk::{Class, Found};

/// Everything declared so far.
#[derive(Debug)]
pub(crate) struct Catalog {
    roots: Vec<String>,
    items: Vec<Item>,
    /// Item numbers by (root, path), complete after each pass.
    sorted: Vec<u32>,
    /// First name of each file with several in one root, by root, device and inode.
    links: HashMap<(RootIndex, u64, u64), FileId>,
    /// Whether each item was met in the current pass.
    met: Vec<bool>,
    pass: u32,
}

#[derive(Debug)]
struct Item {
    root: RootIndex,
    path: RelPath,
    kind: EntryKind,
    stat: Stat,
    link_target: Option<Vec<u8>>,
    class: Class,
    generation: Generation,
    gone: bool,
}

/// What the reader needs to know of a file.
#[derive(Debug)]
pub(crate) struct FileToRead {
    pub(crate) root: RootIndex,
    pub(crate) path: RelPath,
    pub(crate) stat: Stat,
    pub(crate) generation: Generation,
    pub(crate) class: Class,
}

/// What a walk's find means for the joiner.
#[derive(Debug)]
pub(crate) enum Change {
    /// It is as it was declared.
    None,
    /// It must be declared, and its content sent when it is a file.
    Declare(Entry),
}

impl Catalog {
    /// Nothing declared; `roots` are the names by root number.
    pub(crate) fn new(roots: Vec<String>) -> Self {
        Self {
            roots,
            items: Vec::new(),
            sorted: Vec::new(),
            links: HashMap::new(),
            met: Vec::new(),
            pass: 0,
        }
    }

    /// A walk begins.
    pub(crate) fn begin_pass(&mut self) {
        self.pass += 1;
        self.met.clear();
        self.met.resize(self.items.len(), false);
    }

    /// Compares what a walk found with what was declared.
    ///
    /// # Errors
    /// Too many entries, an entry that changes for ever, a hard link whose file changed.
    pub(crate) fn meet(
        &mut self,
        root: RootIndex,
        found: Found,
        changed: &Changed,
    ) -> Result<Change> {
        let Some(id) = self.find(root, &found.path) else {
            return self.declare_new(root, found);
        };
        let index = usize_of(id.0);
        if let Some(met) = self.met.get_mut(index) {
            *met = true;
        }
        let Some(item) = self.items.get_mut(index) else {
            return Err(Error::bug("an entry is in the order but not in the catalog"));
        };
        // Taken note of in any case, or the next pass would find it changed once more.
        let was_changed = changed.take(id);
        if item.is_same(&found) && !was_changed {
            return Ok(Change::None);
        }
        if plain_kind(item.stat.kind) != plain_kind(found.stat.kind) {
            return Err(keeps_changing(&found.path, "it became something else"));
        }
        if item.kind == EntryKind::HardLink || found.stat.nlink > 1 && item.kind == EntryKind::File
        {
            return Err(keeps_changing(&found.path, "a file with several names changed"));
        }
        if item.generation.0 >= GENERATION_MAX {
            return Err(keeps_changing(&found.path, "it kept changing"));
        }
        item.generation.0 += 1;
        item.stat = found.stat;
        item.link_target = found.link_target;
        Ok(Change::Declare(item.entry(id)))
    }

    /// The walk is over: entries it did not meet any more, children before their directories.
    pub(crate) fn end_pass(&mut self) -> Vec<FileId> {
        let mut gone = Vec::new();
        for (index, item) in self.items.iter_mut().enumerate().rev() {
            if !item.gone && !self.met.get(index).copied().unwrap_or(true) {
                item.gone = true;
                gone.push(FileId(u32_of(index)));
            }
        }
        let items = &self.items;
        // An inode may be used again by another file.
        self.links.retain(|_, first| items.get(usize_of(first.0)).is_some_and(|item| !item.gone));
        // An entry that comes back after it was gone is a new one.
        self.sorted = (0..u32_of(items.len()))
            .filter(|index| items.get(usize_of(*index)).is_some_and(|item| !item.gone))
            .collect();
        self.sorted.sort_unstable_by(|a, b| key(items, *a).cmp(&key(items, *b)));
        gone
    }

    /// Entries that exist, and the sum of their sizes.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let live = self.items.iter().filter(|item| !item.gone);
        live.fold((0, 0), |(entries, bytes), item| (entries + 1, bytes + item.size()))
    }

    /// Regular files that exist.
    pub(crate) fn files(&self) -> u64 {
        let files = self.items.iter().filter(|item| !item.gone && item.kind == EntryKind::File);
        files.count() as u64
    }

    /// What the reader needs; `None` when the file is gone.
    pub(crate) fn file(&self, id: FileId) -> Option<FileToRead> {
        let item = self.items.get(usize_of(id.0)).filter(|item| !item.gone)?;
        Some(FileToRead {
            root: item.root,
            path: item.path.clone(),
            stat: item.stat,
            generation: item.generation,
            class: item.class,
        })
    }

    /// The hash of the whole tree.
    ///
    /// # Errors
    /// E99: a file without a hash.
    pub(crate) fn root_hash(&self, hashes: &Hashes) -> Result<RootHash> {
        root_hash(self.lines(hashes)?)
    }

    /// Everything there is, with its hashes.
    ///
    /// # Errors
    /// As [`Catalog::root_hash`].
    pub(crate) fn manifest(&self, hashes: &Hashes) -> Result<Manifest> {
        Manifest::of(self.roots.clone(), self.lines(hashes)?)
    }

    fn lines(&self, hashes: &Hashes) -> Result<Vec<TreeLine<'_>>> {
        let mut lines = Vec::with_capacity(self.items.len());
        for (index, item) in self.items.iter().enumerate().filter(|(_, item)| !item.gone) {
            let file_hash = match item.kind {
                EntryKind::File => {
                    Some(hashes.of(FileId(u32_of(index)), item.size()).ok_or_else(|| {
                        Error::bug(format!("{} was not hashed completely", item.path))
                    })?)
                }
                EntryKind::Directory | EntryKind::Symlink | EntryKind::HardLink => None,
            };
            lines.push(TreeLine {
                root: self.roots.get(usize::from(item.root.0)).map_or("", String::as_str),
                path: &item.path,
                kind: item.kind,
                mode: item.stat.mode,
                size: item.size(),
                link_target: item.link_target.as_deref(),
                file_hash,
            });
        }
        Ok(lines)
    }

    fn declare_new(&mut self, root: RootIndex, found: Found) -> Result<Change> {
        if self.items.len() as u64 >= FILES_MAX {
            return Err(Error::new(Code::Limit, format!("more than {FILES_MAX} files")));
        }
        let id = FileId(u32_of(self.items.len()));
        let mut item = Item {
            root,
            kind: plain_kind(found.stat.kind),
            path: found.path,
            link_target: found.link_target,
            class: found.class,
            generation: Generation(0),
            gone: false,
            stat: found.stat,
        };
        if item.kind == EntryKind::File && item.stat.nlink > 1 {
            let inode = (root, item.stat.dev, item.stat.ino);
            let first = *self.links.entry(inode).or_insert(id);
            let first = self.items.get(usize_of(first.0));
            if let Some(first) = first {
                item.kind = EntryKind::HardLink;
                item.link_target = Some(first.path.as_bytes().to_vec());
            }
        }
        let entry = item.entry(id);
        self.items.push(item);
        self.met.push(true);
        Ok(Change::Declare(entry))
    }

    fn find(&self, root: RootIndex, path: &RelPath) -> Option<FileId> {
        let wanted = (root, path);
        let found =
            self.sorted.binary_search_by(|index| key(&self.items, *index).cmp(&Some(wanted)));
        found.ok().and_then(|place| self.sorted.get(place)).map(|index| FileId(*index))
    }
}

impl Item {
    fn size(&self) -> u64 {
        if self.kind == EntryKind::File { self.stat.size } else { 0 }
    }

    fn is_same(&self, found: &Found) -> bool {
        let content = self.class == Class::Volatile && self.stat.size <= found.stat.size
            || !found.stat.differs_from(&self.stat);
        // A directory's time says that names changed, and names are compared one by one.
        let content = content || self.kind == EntryKind::Directory;
        let same_meta = self.stat.mode == found.stat.mode
            && self.stat.uid == found.stat.uid
            && self.stat.gid == found.stat.gid;
        content && same_meta && self.link_is_same(found)
    }

    fn link_is_same(&self, found: &Found) -> bool {
        match self.kind {
            EntryKind::HardLink => {
                self.stat.ino == found.stat.ino && self.stat.dev == found.stat.dev
            }
            EntryKind::Symlink => {
                found.stat.kind == FileKind::Symlink && self.link_target == found.link_target
            }
            EntryKind::File | EntryKind::Directory => self.kind == plain_kind(found.stat.kind),
        }
    }

    fn entry(&self, id: FileId) -> Entry {
        Entry {
            id,
            generation: self.generation,
            root: self.root,
            path: self.path.clone(),
            kind: self.kind,
            size: self.size(),
            mode: self.stat.mode,
            uid: self.stat.uid,
            gid: self.stat.gid,
            mtime_s: self.stat.mtime.s,
            mtime_ns: self.stat.mtime.ns,
            sparse: self.kind == EntryKind::File && self.stat.is_sparse(),
            link_target: self.link_target.clone(),
        }
    }
}

/// Hashes of the files, growing chunk by chunk.
#[derive(Debug, Default)]
pub(crate) struct Hashes {
    trees: Mutex<HashMap<FileId, (Generation, FileTree)>>,
    done: Mutex<HashMap<FileId, (Generation, FileHash)>>,
}

impl Hashes {
    /// Adds a chunk's hash; true when it was the last one of the file.
    ///
    /// A chunk that is read a second time (its lane died) does not change the hash: should the
    /// content differ, the file's timestamps or, at the very end, the root hash tell.
    pub(crate) fn insert(
        &self,
        file: (FileId, Generation, u64),
        chunk: ChunkIndex,
        hash: ChunkHash,
    ) -> Result<bool> {
        let (id, generation, size) = file;
        if lock(&self.done).get(&id).is_some_and(|(done, _)| *done == generation) {
            return Ok(false);
        }
        let mut trees = lock(&self.trees);
        let slot = trees.entry(id).or_insert_with(|| (generation, FileTree::new(size)));
        if slot.0 != generation {
            *slot = (generation, FileTree::new(size));
        }
        match slot.1.insert(chunk, hash) {
            Ok(()) | Err(TreeError::Duplicate) => {}
            Err(TreeError::OutOfRange) => {
                return Err(Error::bug("a chunk beyond the end of its file"));
            }
        }
        if slot.1.missing() > 0 {
            return Ok(false);
        }
        let hash = trees.remove(&id).and_then(|(_, tree)| tree.finish());
        let hash = hash.ok_or_else(|| Error::bug("a complete file has no hash"))?;
        lock(&self.done).insert(id, (generation, hash));
        Ok(true)
    }

    /// Adds the hashes of files that were read in one go; the first one of a file stays, as in
    /// [`Hashes::insert`].
    pub(crate) fn insert_whole(&self, files: Vec<(FileId, Generation, FileHash)>) {
        let mut done = lock(&self.done);
        for (id, generation, hash) in files {
            let slot = done.entry(id).or_insert((generation, hash));
            if slot.0 != generation {
                *slot = (generation, hash);
            }
        }
    }

    /// The hash of a complete file.
    pub(crate) fn of(&self, id: FileId, size: u64) -> Option<FileHash> {
        if size == 0 {
            return FileTree::new(0).finish();
        }
        lock(&self.done).get(&id).map(|(_, hash)| *hash)
    }
}

/// Files that turned out to be different while they were read.
#[derive(Debug, Default)]
pub(crate) struct Changed(Mutex<HashSet<FileId>>);

impl Changed {
    /// The file must be declared again.
    pub(crate) fn insert(&self, id: FileId) {
        lock(&self.0).insert(id);
    }

    /// Whether it was; it is not any more.
    fn take(&self, id: FileId) -> bool {
        lock(&self.0).remove(&id)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(items: &[Item], index: u32) -> Option<(RootIndex, &RelPath)> {
    items.get(usize_of(index)).map(|item| (item.root, &item.path))
}

fn plain_kind(kind: FileKind) -> EntryKind {
    match kind {
        FileKind::Directory => EntryKind::Directory,
        FileKind::Symlink => EntryKind::Symlink,
        // A walk gives no others.
        FileKind::File | FileKind::Fifo | FileKind::Socket | FileKind::Device => EntryKind::File,
    }
}

fn keeps_changing(path: &RelPath, what: &str) -> Error {
    Error::new(
        Code::SourceChanged,
        format!(
            "{path}: {what} while it was sent; stop what writes to it, or use a capture that freezes"
        ),
    )
}

fn usize_of(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// The catalog never holds more than [`FILES_MAX`] items.
fn u32_of(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(size: u64) -> Found {
        let file = tempfile::tempfile().unwrap();
        let stat = Stat { size, ..Stat::of(&file).unwrap() };
        let path = RelPath::parse(b"t").unwrap();
        Found { path, stat, link_target: None, class: Class::Send }
    }

    /// Meets a file in a pass of its own; whether it is declared.
    fn pass(catalog: &mut Catalog, found: &Found, changed: &Changed) -> bool {
        catalog.begin_pass();
        let change = catalog.meet(RootIndex(0), found.clone(), changed).unwrap();
        assert!(catalog.end_pass().is_empty());
        matches!(change, Change::Declare(_))
    }

    #[test]
    fn a_file_that_changed_once_is_declared_once_more() {
        let (mut catalog, changed) = (Catalog::new(vec!["data".to_owned()]), Changed::default());
        let before = found(1);
        assert!(pass(&mut catalog, &before, &changed));
        // Seen by whoever read it, and by the next walk.
        changed.insert(FileId(0));
        let after = found(2);
        assert!(pass(&mut catalog, &after, &changed));
        assert!(!pass(&mut catalog, &after, &changed), "nothing has changed since");
        changed.insert(FileId(0));
        assert!(pass(&mut catalog, &after, &changed), "only the reader has seen it");
    }
}
