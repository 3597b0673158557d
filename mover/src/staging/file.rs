//! Files of the new tree: opened for their first chunk, closed when they are complete.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{
    Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};

use fastsst_proto::limits::CHUNK_BYTES_U64;
use fastsst_proto::manifest::Entry;
use fastsst_proto::path::RelPath;
use fastsst_proto::{FileHash, FileId};
use rustix::process::{Resource, Rlimit};

use super::health::Health;
use super::journal::{Journal, Record};
use super::owner::Owner;
use super::stale::{Basis, Stale};
use crate::disk::file::{FileMode, OpenFile};
use crate::error::{Code, Error, Result};
use crate::summary::mib;
use crate::tree::{Dir, Meta, Stat};

/// What a staging and its files have in common.
#[derive(Debug)]
pub(super) struct Shared {
    /// The tree being built; empty until it is.
    pub(super) new: OnceLock<Dir>,
    /// What files of it may begin with.
    pub(super) stale: OnceLock<Stale>,
    /// Others on the same file system.
    pub(super) neighbours: OnceLock<Vec<Weak<Self>>>,
    /// Which files of it are complete and durable.
    pub(super) journal: OnceLock<Journal>,
    /// Unfinished files, with the change that made them; another one there, or none, means that
    /// the file was declared again, is gone or is finished.
    pub(super) files: RwLock<HashMap<FileId, u64>>,
    /// Counts what was done to the tree.
    pub(super) changes: AtomicU64,
    pub(super) health: Health,
    pub(super) open: Arc<OpenSet>,
    pub(super) owner: Owner,
    pub(super) mode: FileMode,
}

impl Shared {
    pub(super) fn new_dir(&self) -> Result<&Dir> {
        self.new.get().ok_or_else(|| Error::bug("a staging is used before it is prepared"))
    }

    /// Notes a change; its number is new.
    pub(super) fn change(&self) -> u64 {
        self.changes.fetch_add(1, Ordering::AcqRel)
    }

    /// See [`super::Staging::drop_stale`].
    pub(super) fn drop_stale(&self) -> Result<u64> {
        self.stale.get().map_or(Ok(0), Stale::drop_all)
    }

    /// [`Shared::drop_stale`], also of the others on the same file system.
    fn drop_all_stale(&self) -> Result<u64> {
        let mut freed = self.drop_stale()?;
        let neighbours = self.neighbours.get().into_iter().flatten();
        for neighbour in neighbours.filter_map(Weak::upgrade) {
            freed += neighbour.drop_stale()?;
        }
        Ok(freed)
    }

    /// Does what needs room; when there is none, once more without what is left of the stale copies.
    fn with_room<T>(&self, act: impl Fn() -> Result<T>) -> Result<T> {
        match act() {
            Err(error) if error.code() == Code::DiskFull => match self.drop_all_stale()? {
                0 => Err(error),
                freed => {
                    tracing::info!(
                        "room is short: what is left of the old copy goes now ({:.0} MiB)",
                        mib(freed)
                    );
                    act()
                }
            },
            done => done,
        }
    }

    /// How many files are unfinished.
    pub(super) fn unfinished(&self) -> usize {
        self.read().len()
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, HashMap<FileId, u64>> {
        self.files.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<FileId, u64>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One declaration of one file of the new tree.
#[derive(Debug)]
pub struct StagedFile {
    entry: Entry,
    /// The change that made it.
    made_by: u64,
    shared: Arc<Shared>,
    /// The open file; closed before its first chunk, after its last, and now and then between.
    slot: Mutex<Option<Arc<OpenFile>>>,
    /// Whether room has been reserved.
    reserved: AtomicBool,
    /// Absent when it began empty.
    basis: OnceLock<Basis>,
    /// Present when it is only looked at, where it is.
    place: Option<Arc<Dir>>,
}

impl StagedFile {
    pub(super) fn new(
        entry: &Entry,
        made_by: u64,
        basis: Option<Basis>,
        shared: &Arc<Shared>,
    ) -> Self {
        Self {
            basis: basis.map_or_else(OnceLock::new, OnceLock::from),
            entry: entry.clone(),
            made_by,
            shared: Arc::clone(shared),
            slot: Mutex::default(),
            reserved: AtomicBool::new(false),
            place: None,
        }
    }

    /// A file that is only read, in the directory where it is.
    pub(super) fn looked_at(mut self, place: Option<Arc<Dir>>) -> Self {
        self.place = place;
        self
    }

    /// As the donor declared it.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// What the file had before anything of it arrived; `None` when it began empty.
    #[must_use]
    pub fn basis(&self) -> Option<Basis> {
        self.basis.get().copied()
    }

    /// The file, opened once more, for whoever reads what it began with; `None` when it is retired.
    ///
    /// # Errors
    /// E07, E09.
    pub fn peek(&self) -> Result<Option<OpenFile>> {
        // Only to read: that it fails says nothing about writing.
        Ok(self.open_current()?.map(|(file, _)| file))
    }

    /// See [`super::Staging::adopt`].
    pub(super) fn adopt(&self, path: &RelPath) -> Result<bool> {
        self.shared.health.run(|| {
            let Some(stale) = self.shared.stale.get() else { return Ok(false) };
            self.shared.change();
            let files = self.shared.write();
            if !self.is_current(&files) || self.basis.get().is_some() {
                return Ok(false);
            }
            let new = self.shared.new_dir()?;
            let Some(basis) = stale.claim_as(path, &self.entry.path, new)? else {
                return Ok(false);
            };
            self.basis.set(basis).map_err(|_set| Error::bug("a file is adopted twice"))?;
            Ok(true)
        })
    }

    /// Whether the file was declared again, is gone, or is finished: nothing more is to be
    /// written to it.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        !self.is_current(&self.shared.read())
    }

    /// The open file, to write at any offset. Opened on demand; room for all of it is reserved the
    /// first time, unless it has holes.
    ///
    /// At most a few hundred files stay open: beyond that those nobody is writing to are closed
    /// and opened again when it is their turn.
    ///
    /// # Errors
    /// E07, E09: it cannot be opened or there is no room. E21: see [`StagedFile::is_retired`].
    pub fn open(self: &Arc<Self>) -> Result<Arc<OpenFile>> {
        self.shared.health.run(|| self.open_unless_retired()?.ok_or_else(|| self.retired()))
    }

    /// All of the content is written: gives the file its size, owner, permissions and time, in
    /// this order, and closes it. A file of more than one chunk is made durable here, and the
    /// journal notes that, with the `hash` of all of it.
    ///
    /// Returns whether it is durable; if not, [`super::sync_all`] does that. Does nothing to a
    /// file that is retired.
    ///
    /// # Errors
    /// E03, E07, E09.
    pub fn finish(self: &Arc<Self>, hash: FileHash) -> Result<bool> {
        self.shared.health.run(|| {
            let Some(file) = self.open_unless_retired()? else { return Ok(false) };
            file.set_len(self.entry.size)?;
            let durable = self.complete(&file, &self.meta())?;
            if durable {
                self.note(&file, hash)?;
            }
            super::lock(&self.slot).take();
            self.retire();
            Ok(durable)
        })
    }

    /// Writes and finishes, in one go, a file that [`StagedFile::open`] was never asked of: opens
    /// it, writes its content from the start of `room`, and goes on as [`StagedFile::finish`]
    /// does. `room` is whole blocks of an aligned buffer; without it the file is one hole.
    ///
    /// # Errors
    /// Those of [`StagedFile::open`] and [`StagedFile::finish`].
    pub fn store(&self, room: Option<&mut [u8]>) -> Result<bool> {
        self.shared.health.run(|| {
            let (file, now) = self.open_current()?.ok_or_else(|| self.retired())?;
            // What it began with has the right length, and all of it is overwritten.
            match room {
                Some(room) => {
                    let len = usize::try_from(self.entry.size).unwrap_or(usize::MAX);
                    let write = |room: &mut [u8]| {
                        let written = file.write_whole(room, len);
                        written.map_err(|error| Error::write(file.place(), error))
                    };
                    let room = std::cell::RefCell::new(room);
                    self.shared.with_room(|| write(&mut room.borrow_mut()))?;
                }
                None => {
                    file.set_len(0)?;
                    file.set_len(self.entry.size)?;
                }
            }
            let durable = self.complete(&file, &self.meta().on(&now))?;
            drop(file);
            self.retire();
            Ok(durable)
        })
    }

    /// The last steps with an open file that has its content and size; whether it is durable.
    fn complete(&self, file: &OpenFile, meta: &Meta) -> Result<bool> {
        file.set_meta(meta)?;
        let durable = self.is_large() || !sync_fs_reports_errors();
        if durable {
            file.sync()?;
            file.drop_cache(0, self.entry.size);
        }
        Ok(durable)
    }

    /// The file is durable: the next transfer, should this one be interrupted, need not read it.
    fn note(&self, file: &OpenFile, hash: FileHash) -> Result<()> {
        let Some(journal) = self.shared.journal.get() else { return Ok(()) };
        let Stat { size, ino, ctime, .. } = file.stat()?;
        let path = self.entry.path.clone();
        journal.note(&Record { path, size, ino, ctime, hash })
    }

    fn meta(&self) -> Meta {
        self.shared.owner.meta(&self.entry)
    }

    /// Nothing more is to be written.
    fn retire(&self) {
        self.shared.change();
        let mut files = self.shared.write();
        if self.is_current(&files) {
            files.remove(&self.entry.id);
        }
    }

    fn retired(&self) -> Error {
        let what = format!("{} was declared again while it arrived", self.entry.path);
        Error::new(Code::SourceChanged, what)
    }

    /// A write to the file failed: nothing is written to its staging any more.
    #[must_use]
    pub fn write_failed(&self, error: io::Error) -> Error {
        let place = match self.shared.new.get() {
            Some(new) => new.place_of(&self.entry.path),
            None => self.entry.path.to_string(),
        };
        self.shared.health.remember(Error::write(place, error))
    }

    fn open_unless_retired(self: &Arc<Self>) -> Result<Option<Arc<OpenFile>>> {
        let mut slot = super::lock(&self.slot);
        if let Some(file) = &*slot {
            return Ok((!self.is_retired()).then(|| Arc::clone(file)));
        }
        let Some((file, _)) = self.open_current()? else { return Ok(None) };
        let file = Arc::new(file);
        *slot = Some(Arc::clone(&file));
        let is_built = self.place.is_none() && self.is_large() && !self.entry.sparse;
        if is_built && !self.reserved.swap(true, Ordering::AcqRel) {
            self.shared.with_room(|| file.preallocate(self.entry.size))?;
        }
        drop(slot);
        self.shared.open.opened(self);
        Ok(Some(file))
    }

    /// Opens the file by its path; `None` when it is retired.
    fn open_current(&self) -> Result<Option<(OpenFile, Stat)>> {
        // Held while the path is looked up, so that it cannot come to name another file.
        let files = self.shared.read();
        if !self.is_current(&files) {
            return Ok(None);
        }
        let path = &self.entry.path;
        if let Some(place) = &self.place {
            return place.open_file_read(path, self.shared.mode);
        }
        let new = self.shared.new_dir()?;
        let opened = new.open_file_write(path, self.shared.mode)?.ok_or_else(|| {
            let gone = io::Error::from(io::ErrorKind::NotFound);
            Error::write(new.place_of(path), gone)
        })?;
        Ok(Some(opened))
    }

    fn is_current(&self, files: &HashMap<FileId, u64>) -> bool {
        files.get(&self.entry.id) == Some(&self.made_by)
    }

    fn is_large(&self) -> bool {
        self.entry.size > CHUNK_BYTES_U64
    }

    /// Whether a descriptor is held.
    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        super::lock(&self.slot).is_some()
    }

    /// Closes the file if nobody is writing to it; whether it is closed now.
    fn close_if_idle(&self) -> bool {
        // Somebody is just opening, or finishing, it.
        let Ok(mut slot) = self.slot.try_lock() else { return false };
        match &*slot {
            // Nobody else has it, and nobody can get it while the slot is locked.
            Some(file) if Arc::strong_count(file) == 1 => *slot = None,
            Some(_) => return false,
            None => {}
        }
        true
    }
}

/// The files that are open, oldest first.
#[derive(Debug)]
pub(crate) struct OpenSet {
    limit: usize,
    queue: Mutex<VecDeque<Weak<StagedFile>>>,
}

impl OpenSet {
    pub(super) fn new() -> Self {
        // Half of what the process may open, for sockets and directories need some, too.
        let limit = raise_open_files_limit() / 2;
        Self::with_limit(usize::try_from(limit).unwrap_or(usize::MAX).clamp(8, OPEN_FILES_MAX))
    }

    fn with_limit(limit: usize) -> Self {
        Self { limit, queue: Mutex::default() }
    }

    /// Notes an open file, and closes others when there are too many.
    fn opened(&self, file: &Arc<StagedFile>) {
        let mut queue = super::lock(&self.queue);
        queue.push_back(Arc::downgrade(file));
        // Once around at most: what is being written to stays, and the buffers bound that.
        for _ in 0..queue.len() {
            if queue.len() <= self.limit {
                return;
            }
            let Some(oldest) = queue.pop_front() else { return };
            let is_open = oldest.upgrade().is_some_and(|file| !file.close_if_idle());
            if is_open {
                queue.push_back(oldest);
            }
        }
    }
}

/// Lets the process open as many files as the administrator allows; returns how many that is.
pub fn raise_open_files_limit() -> u64 {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let now = match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    now.unwrap_or(u64::MAX)
}

/// Whether `syncfs` tells of failed writes: it does since Linux 5.8.
fn sync_fs_reports_errors() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let uname = rustix::system::uname();
        uname.release().to_str().is_ok_and(|release| is_at_least(release, (5, 8)))
    })
}

fn is_at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= wanted,
        _ => false,
    }
}

/// Files kept open. Why: more than the donor has readers and the joiner buffers, less than the
/// 1024 descriptors of a process that may not have more.
/// Reached: the oldest that nobody is writing to is closed and opened again when needed.
const OPEN_FILES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_compare_by_number() {
        for (release, is) in
            [("5.8.0-1-amd64", true), ("5.10", true), ("6.1.0", true), ("5.7.19", false)]
        {
            assert_eq!(is_at_least(release, (5, 8)), is, "{release}");
        }
        assert!(!is_at_least("unknown", (5, 8)));
    }
}
