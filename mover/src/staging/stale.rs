//! The stale copy: what was in the root, and what an interrupted transfer left.
//!
//! It lies in `.fastsst/old` and loses a file with each one that is adopted into the new tree. What
//! is left goes with the commit, or earlier when its room is needed.

use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::sync::Mutex;

use fastsst_proto::FileHash;
use fastsst_proto::limits::PAGE_BYTES;
use fastsst_proto::path::RelPath;
use rustix::fs::{AtFlags, Mode};

use super::clear::{allocated_bytes, clear};
use super::lock::error_kind;
use super::{lock, rel};
use crate::commit;
use crate::disk::file::FileMode;
use crate::error::{Code, Error, Result};
use crate::send::SMALL_BYTES_MAX;
use crate::tree::{Dir, FileKind, Stat};
use crate::walk::{AllFiles, walk};

/// What a file had before anything of it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basis {
    /// Its length before it was cut or extended to what was declared. Unit: bytes.
    pub size: u64,
    /// Its hash, when the journal of an interrupted transfer vouches for it.
    pub vouched: Option<FileHash>,
}

/// Files nobody has claimed yet.
#[derive(Debug)]
pub(super) struct Stale {
    dir: Dir,
    vouched: HashMap<RelPath, FileHash>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing is left, or there was nothing.
    is_empty: bool,
    /// Larger files by size, to find those that were renamed.
    large: HashMap<u64, BTreeSet<RelPath>>,
}

impl Stale {
    /// Takes over the directory, with what the journal vouches for.
    ///
    /// # Errors
    /// E09: it cannot be read.
    pub(super) fn new(dir: Dir, vouched: HashMap<RelPath, FileHash>) -> Result<Self> {
        let is_empty = dir.names()?.is_empty();
        let mut state = State { is_empty, large: HashMap::new() };
        let indexed = walk(&dir, &AllFiles, &mut |found| {
            if is_ours_alone(&found.stat) && found.stat.size > SMALL_BYTES_MAX {
                state.large.entry(found.stat.size).or_default().insert(found.path);
            }
            Ok(())
        });
        if let Err(error) = indexed {
            tracing::info!("renamed files are not looked for: {error}");
            state.large.clear();
        }
        Ok(Self { dir, vouched, state: Mutex::new(state) })
    }

    /// Moves the file at `path` to the same place in `new`, if there is one that may be patched.
    ///
    /// # Errors
    /// E07, E09; `AlreadyExists`: there is something at that place.
    pub(super) fn claim(&self, path: &RelPath, new: &Dir) -> Result<Option<Basis>> {
        let mut state = lock(&self.state);
        if state.is_empty {
            return Ok(None);
        }
        let Some(stat) = find(&self.dir, path)? else { return Ok(None) };
        match commit::adopt(&self.dir, path, new) {
            Err(error) if is_in_its_way(&error) => {
                tracing::info!("{path} is sent whole, its old copy cannot be used: {error}");
                return Ok(None);
            }
            adopted => adopted?,
        }
        state.forget(&stat, path);
        drop(state);
        make_accessible(new, path, &stat)?;
        Ok(Some(Basis { size: stat.size, vouched: self.vouched.get(path).copied() }))
    }

    /// Moves the file at `stale` over the empty one at `path` in `new`; nothing when it is gone.
    ///
    /// # Errors
    /// E07, E09.
    pub(super) fn claim_as(
        &self,
        stale: &RelPath,
        path: &RelPath,
        new: &Dir,
    ) -> Result<Option<Basis>> {
        let mut state = lock(&self.state);
        let Some(stat) = find(&self.dir, stale)? else { return Ok(None) };
        match commit::adopt_as(&self.dir, stale, new, path) {
            Err(error) if is_in_its_way(&error) => {
                tracing::info!("{path} is sent whole, {stale} cannot be used: {error}");
                state.forget(&stat, stale);
                return Ok(None);
            }
            adopted => adopted?,
        }
        state.forget(&stat, stale);
        drop(state);
        make_accessible(new, path, &stat)?;
        Ok(Some(Basis { size: stat.size, vouched: None }))
    }

    /// Files of this size.
    pub(super) fn twins(&self, size: u64) -> Vec<RelPath> {
        let state = lock(&self.state);
        state.large.get(&size).into_iter().flatten().cloned().collect()
    }

    /// The first page of a file, as far as it has one.
    ///
    /// # Errors
    /// E08, E09.
    pub(super) fn first_page(&self, path: &RelPath) -> Result<Option<Vec<u8>>> {
        let opened = self.dir.open_file_read(path, FileMode::Buffered)?;
        let Some((file, _)) = opened else { return Ok(None) };
        let mut page = vec![0; PAGE_BYTES];
        let mut filled = 0;
        while let Some(room) = page.get_mut(filled..).filter(|room| !room.is_empty()) {
            let offset = filled as u64;
            let read = rustix::io::retry_on_intr(|| rustix::io::pread(&file, &mut *room, offset));
            match read.map_err(|errno| Error::read(file.place(), errno.into()))? {
                0 => break,
                read => filled += read,
            }
        }
        page.truncate(filled);
        Ok(Some(page))
    }

    /// Removes what nobody has claimed; returns the space that sets free. Unit: bytes.
    ///
    /// # Errors
    /// E09.
    pub(super) fn drop_all(&self) -> Result<u64> {
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.is_empty, true) {
            return Ok(0);
        }
        state.large.clear();
        let names = self.dir.names()?.iter().map(|name| rel(name)).collect::<Result<Vec<_>>>()?;
        let bytes = allocated_bytes(&self.dir, &names)?;
        for name in &names {
            clear(&self.dir, name)?;
        }
        Ok(bytes)
    }
}

/// The file at `path` if it may be patched. Whatever is in the way of it is no error: then there is
/// none.
///
/// # Errors
/// E09.
pub(super) fn find(dir: &Dir, path: &RelPath) -> Result<Option<Stat>> {
    match dir.stat(path) {
        Ok(stat) => Ok(stat.filter(is_ours_alone)),
        Err(error) if error.code() == Code::UnsafePath => Ok(None),
        Err(error) => Err(error),
    }
}

impl State {
    fn forget(&mut self, stat: &Stat, path: &RelPath) {
        if let Some(paths) = self.large.get_mut(&stat.size) {
            paths.remove(path);
        }
    }
}

/// Whether a file of the stale copy cannot be moved for a reason of its own: a directory of another
/// owner, or another file system mounted there. It stays where it is then.
fn is_in_its_way(error: &Error) -> bool {
    !matches!(error_kind(error), Some(ErrorKind::AlreadyExists | ErrorKind::StorageFull))
        && error.code() != Code::DiskFull
}

/// A file with other names may have one outside of the stale copy, for instance in somebody's
/// backup made of hard links: it must not be patched. One of another owner (what an administrator
/// ran as root has left) could not be.
fn is_ours_alone(stat: &Stat) -> bool {
    let user = rustix::process::geteuid();
    let is_writable = user.is_root() || user.as_raw() == stat.uid;
    stat.kind == FileKind::File && stat.nlink == 1 && is_writable
}

/// Lets its owner read and write a file that is going to be patched.
fn make_accessible(new: &Dir, path: &RelPath, stat: &Stat) -> Result<()> {
    const READ_AND_WRITE: u16 = 0o600;
    if stat.mode & READ_AND_WRITE == READ_AND_WRITE {
        return Ok(());
    }
    let parent = path.parent().map(|parent| new.open_dir(&parent)).transpose()?;
    let mode = Mode::from_raw_mode(u32::from(READ_AND_WRITE));
    rustix::fs::chmodat(parent.as_ref().unwrap_or(new), path.name(), mode, AtFlags::empty())
        .map_err(|errno| Error::write(new.place_of(path), errno.into()))
}
