//! What the donor declares becomes files, directories and links of the new tree.

use std::io::ErrorKind;
use std::sync::Arc;

use fastsst_proto::manifest::{Entry, EntryKind};
use fastsst_proto::path::RelPath;
use fastsst_proto::{FileId, Generation, RootIndex};

use super::lock::error_kind;
use super::stale::find;
use super::{Basis, NEW, OLD, StagedFile, Staging, lock, rel};
use crate::error::{Code, Error, Result};
use crate::pool::Pool;
use crate::tree::{Dir, FileKind, FileTime, Meta};
use crate::walk::STAGING_NAME;

impl Staging {
    /// Makes a declared entry; of a file the name and what the stale copy has by it: its content
    /// follows, and even an empty one must be finished.
    ///
    /// A generation above 0 replaces what the same entry was before. A file then gets a new inode:
    /// writes of the earlier declaration that are still on their way end up nowhere.
    ///
    /// # Errors
    /// E16: the path exists, its directory or the first name of a hard link does not. E23: the
    /// path leads through a link, or names something of this node's that is kept. E07, E09.
    pub fn create(&self, entry: &Entry) -> Result<Option<Arc<StagedFile>>> {
        self.run(|| {
            let new = self.new_dir()?;
            self.refuse_kept(&entry.path)?;
            if entry.generation.0 > 0 {
                self.take_back(new, entry)?;
            }
            self.make(new, entry).map_err(|error| blame(entry, error))
        })
    }

    /// Takes back an entry that the donor no longer has; of a directory, what is in it must have
    /// gone before.
    ///
    /// # Errors
    /// E16: a directory is not empty. E09.
    pub fn remove(&self, entry: &Entry) -> Result<()> {
        self.run(|| {
            let new = self.new_dir()?;
            self.take_back(new, entry)?;
            if entry.kind == EntryKind::Directory {
                new.rmdir(&entry.path).map_err(|error| blame(entry, error))?;
                lock(&self.directories).remove(&entry.path);
            }
            lock(&self.links).remove(&entry.path);
            Ok(())
        })
    }

    /// Makes the directory at `path` and those above it, as far as they are missing, as of this
    /// process and for its group to read.
    ///
    /// # Errors
    /// E23: they are something of this node's that is kept. E07, E09.
    pub(crate) fn make_directories(&self, path: &RelPath) -> Result<()> {
        self.run(|| {
            let new = self.new_dir()?;
            let mut missing = vec![path.clone()];
            while let Some(parent) = missing.last().and_then(RelPath::parent) {
                missing.push(parent);
            }
            for path in missing.into_iter().rev() {
                self.refuse_kept(&path)?;
                if is_kind(new, &path, FileKind::Directory)? {
                    continue;
                }
                new.mkdir(&path)?;
                let meta = Meta { mode: OWN_DIRECTORY, owner: None, mtime: FileTime::now() };
                lock(&self.directories).insert(path, meta);
            }
            self.shared.change();
            Ok(())
        })
    }

    /// A directory that [`Staging::make_directories`] has made gets what the donor has declared of it.
    pub(crate) fn take_over_directory(&self, entry: &Entry) {
        lock(&self.directories).insert(entry.path.clone(), self.shared.owner.meta(entry));
        self.shared.change();
    }

    /// Adds a small file of this node's, which no other thread knows of.
    ///
    /// # Errors
    /// E23: it is there already, or kept. E24: it is longer than 1 MiB. E07, E09.
    pub(crate) fn add_own(&self, path: &RelPath, content: &[u8]) -> Result<()> {
        if let Some(parent) = path.parent() {
            self.make_directories(&parent)?;
        }
        if self.new_dir()?.stat(path)?.is_some() {
            let what =
                format!("the donor sends {path}, which this node writes itself; exclude it there");
            return Err(Error::new(Code::UnsafePath, what));
        }
        let pool = Pool::new(1);
        let mut buf = pool.acquire().ok_or_else(|| Error::bug("a new pool has no buffer"))?;
        let Some(room) = buf.as_mut_slice().get_mut(..content.len()) else {
            let what = format!("{path} has {} bytes, more than one buffer", content.len());
            return Err(Error::new(Code::Limit, what));
        };
        room.copy_from_slice(content);
        let staged = self.create(&own_entry(path, content.len()))?;
        let staged = staged.ok_or_else(|| Error::bug("a file was declared and is none"))?;
        staged.store(Some(buf.as_mut_slice())).map(drop)
    }

    /// A file as it is before anything is prepared, to be read and not to be changed: in the root,
    /// or where an interrupted transfer has left it.
    ///
    /// # Errors
    /// E09.
    pub fn look(&self, entry: &Entry) -> Result<Arc<StagedFile>> {
        let made_by = self.shared.change();
        let mut found = None;
        for place in self.places()? {
            // The root last but one: what an interrupted transfer has built is preferred.
            let is_root = place.place() == self.place();
            let is_kept = is_root && self.keep().keep(first_name(&entry.path));
            if let Some(stat) = find(&place, &entry.path)?.filter(|_| !is_kept) {
                found = Some((place, Basis { size: stat.size, vouched: None }));
                break;
            }
        }
        let (place, basis) = found.unzip();
        self.shared.write().insert(entry.id, made_by);
        let file = StagedFile::new(entry, made_by, basis, &self.shared);
        Ok(Arc::new(file.looked_at(place)))
    }

    /// Nothing that was looked at is looked at any more.
    pub fn looked_enough(&self) {
        self.shared.write().clear();
    }

    /// Where old content may be, before it is moved.
    fn places(&self) -> Result<Vec<Arc<Dir>>> {
        let staging = self.lock.staging();
        let open = |name: &[u8]| Ok(staging.open_dir_if_there(&rel(name)?)?.map(Arc::new));
        let (new, old): (Option<_>, Option<_>) = (open(NEW)?, open(OLD)?);
        Ok(new.into_iter().chain([Arc::clone(&self.dir)]).chain(old).collect())
    }

    fn make(&self, new: &Dir, entry: &Entry) -> Result<Option<Arc<StagedFile>>> {
        let path = &entry.path;
        let meta = || self.shared.owner.meta(entry);
        match entry.kind {
            EntryKind::File => return self.make_file(new, entry).map(Some),
            EntryKind::Directory => {
                let again = entry.generation.0 > 0 && is_kind(new, path, FileKind::Directory)?;
                if !again {
                    new.mkdir(path)?;
                }
                lock(&self.directories).insert(path.clone(), meta());
            }
            EntryKind::Symlink => {
                new.symlink(path, target(entry)?)?;
                new.set_meta(path, &meta())?;
            }
            EntryKind::HardLink => self.make_link(new, entry)?,
        }
        self.shared.change();
        Ok(None)
    }

    fn make_file(&self, new: &Dir, entry: &Entry) -> Result<Arc<StagedFile>> {
        let made_by = self.shared.change();
        let basis = self.adopt_by_name(new, entry)?;
        if basis.is_none() {
            new.make_file(&entry.path)?;
        }
        self.shared.write().insert(entry.id, made_by);
        // A file declared again has the names it had.
        for link in lock(&self.links).get(&entry.path).into_iter().flatten() {
            new.unlink(link)?;
            new.hardlink(&entry.path, link)?;
        }
        let staged = StagedFile::new(entry, made_by, basis, &self.shared);
        if basis.is_some_and(|basis| basis.size != entry.size)
            && let Some(file) = staged.peek()?
        {
            // Chunks are compared as if it had this length.
            file.set_len(entry.size)?;
        }
        Ok(Arc::new(staged))
    }

    /// A file that the stale copy has by the same name is moved, and patched where it differs. One
    /// that is declared again gets a new inode instead.
    fn adopt_by_name(&self, new: &Dir, entry: &Entry) -> Result<Option<Basis>> {
        match self.shared.stale.get() {
            Some(stale) if entry.generation.0 == 0 => stale.claim(&entry.path, new),
            Some(_) | None => Ok(None),
        }
    }

    fn make_link(&self, new: &Dir, entry: &Entry) -> Result<()> {
        let first = RelPath::parse(target(entry)?).map_err(|error| {
            let what = format!("{} is a hard link to an impossible path", entry.path);
            Error::new(Code::Protocol, what).because(error)
        })?;
        // Looked at before: the kernel would also make another name of a symbolic link.
        if !is_kind(new, &first, FileKind::File)? {
            let what = format!("{} is a hard link to {first}, which is no file", entry.path);
            return Err(Error::new(Code::Protocol, what));
        }
        new.hardlink(&first, &entry.path)?;
        lock(&self.links).entry(first).or_default().push(entry.path.clone());
        Ok(())
    }

    /// Removes what an entry is now, except a directory. Hard links to it stay.
    fn take_back(&self, new: &Dir, entry: &Entry) -> Result<()> {
        self.shared.change();
        let mut files = self.shared.write();
        files.remove(&entry.id);
        if !is_kind(new, &entry.path, FileKind::Directory)? {
            new.unlink(&entry.path)?;
        }
        drop(files);
        if entry.kind == EntryKind::HardLink {
            for links in lock(&self.links).values_mut() {
                links.retain(|link| *link != entry.path);
            }
        }
        Ok(())
    }

    /// What is kept must not be overwritten, whatever the donor has by that name. Whatever is
    /// deeper is in a directory that was declared, and checked, before.
    fn refuse_kept(&self, path: &RelPath) -> Result<()> {
        if path.as_bytes().contains(&b'/') {
            return Ok(());
        }
        let name = path.as_bytes();
        if name == STAGING_NAME || (self.keep().keep(name) && self.dir.stat(path)?.is_some()) {
            return Err(kept(path, self.place()));
        }
        Ok(())
    }
}

/// A file that nobody has declared.
fn own_entry(path: &RelPath, len: usize) -> Entry {
    let FileTime { s, ns } = FileTime::now();
    Entry {
        // No declared entry has this number: it is beyond the most there can be.
        id: FileId(u32::MAX),
        generation: Generation(0),
        root: RootIndex(0),
        path: path.clone(),
        kind: EntryKind::File,
        size: len as u64,
        mode: OWN_FILE,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime_s: s,
        mtime_ns: ns,
        sparse: false,
        link_target: None,
    }
}

/// Permissions of what the joiner adds. Why: as the server makes its own files and directories.
const OWN_FILE: u16 = 0o640;
const OWN_DIRECTORY: u16 = 0o750;

fn first_name(path: &RelPath) -> &[u8] {
    path.components().next().unwrap_or_default()
}

/// The donor sends what this node keeps.
pub(crate) fn kept(path: &RelPath, place: &str) -> Error {
    Error::new(
        Code::UnsafePath,
        format!("the donor sends {path}, which belongs to this node in {place}; exclude it there"),
    )
}

fn is_kind(dir: &Dir, path: &RelPath, kind: FileKind) -> Result<bool> {
    Ok(dir.stat(path)?.is_some_and(|stat| stat.kind == kind))
}

fn target(entry: &Entry) -> Result<&[u8]> {
    entry.link_target.as_deref().ok_or_else(|| Error::bug("a link without a target was decoded"))
}

/// In a tree that only we write to, these are the donor's mistakes.
fn blame(entry: &Entry, error: Error) -> Error {
    let how = match error_kind(&error) {
        Some(ErrorKind::AlreadyExists) => "declared twice",
        Some(ErrorKind::NotFound | ErrorKind::NotADirectory) => "declared before its directory",
        Some(ErrorKind::DirectoryNotEmpty) => "taken back before what is in it",
        Some(_) | None => return error,
    };
    Error::new(Code::Protocol, format!("{} was {how}", entry.path)).because(error)
}
