//! The place below a root where the new tree is built, beside what is there.
//!
//! ```text
//!  <root>/.fastsst/lock      held with flock while a process works here
//!  <root>/.fastsst/new/      the new tree
//!  <root>/.fastsst/old/      the stale copy: what was in the root, or was built by a transfer that
//!                            was interrupted; files leave it for the new tree
//!  <root>/.fastsst/journal   which files of the new tree are complete and durable
//!  <root>/.fastsst/commit    the commit record, see `commit`
//!
//!  begin ─▶ untouched ──prepare─▶ building ──sync_all─▶ durable ──commit─▶ in place
//!               │                    │                     │
//!            dropped: as if       dropped: the next      dropped: the same
//!            never begun          prepare builds on it
//! ```
//!
//! Everything is reached through held descriptors (see [`crate::tree`]). The order in which
//! things become durable is `docs/DURABILITY.md`; its step numbers are used here. Whatever has to
//! move between directories is moved by `commit`.

mod clear;
mod entries;
mod file;
mod health;
pub(crate) mod journal;
mod lock;
mod owner;
mod prepare;
mod several;
mod stale;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use fastsst_proto::path::RelPath;

pub use self::file::{StagedFile, raise_open_files_limit};
pub use self::owner::Owner;
pub use self::stale::Basis;

pub(crate) use self::clear::clear;
pub(crate) use self::entries::kept;
pub(crate) use self::journal::JOURNAL;
pub(crate) use self::lock::{LOCK, Lock};
pub(crate) use self::several::How;

use self::file::Shared;
use self::health::Health;
use crate::commit::{self, Recovered};
use crate::disk::file::FileMode;
use crate::error::{Code, Error, Result};
use crate::tree::{Dir, FileKind, Meta};
use crate::walk::STAGING_NAME;

/// Name of the tree being built, in the staging directory.
pub(crate) const NEW: &[u8] = b"new";

/// Name of the stale copy, in the staging directory.
pub(crate) const OLD: &[u8] = b"old";

/// Name of what is on its way out, in the staging directory.
pub(crate) const TRASH: &[u8] = b"trash";

/// What of a root belongs to the node and survives a transfer.
pub trait Keep: fmt::Debug + Send + Sync {
    /// Whether the entry of this name, directly in the root, is kept.
    fn keep(&self, top_level_name: &[u8]) -> bool;
}

/// A directory in which a new tree is built.
#[derive(Debug, Clone)]
pub struct Place {
    /// What it is called here, in messages and in its journal. What an interrupted transfer has left
    /// is vouched for only under the same name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What of it is kept.
    pub keep: Arc<dyn Keep>,
}

/// A root with its lock, and from [`Staging::prepare`] on the new tree.
#[derive(Debug)]
pub struct Staging {
    /// Different for every staging of this process.
    number: u64,
    root: Place,
    /// Where it is, without symbolic links.
    path: PathBuf,
    dir: Arc<Dir>,
    lock: Lock,
    shared: Arc<Shared>,
    /// Directories of the new tree and what they get in step 5. A parent sorts before its content.
    directories: Mutex<BTreeMap<RelPath, Meta>>,
    /// Further names of a file, by the name it was declared with.
    links: Mutex<HashMap<RelPath, Vec<RelPath>>>,
    /// Where in the root declared roots go, besides its top.
    prefixes: OnceLock<Vec<RelPath>>,
    recovered: Recovered,
}

/// Proof that step 4 is done: everything in the new trees is on disk.
///
/// Only [`sync_all`] can make it, and it is worth nothing once the trees have changed.
#[derive(Debug)]
pub struct Durable {
    /// The stagings, each with its number of changes.
    proven: Vec<(u64, u64)>,
}

impl Durable {
    /// Whether the proof is about these stagings as they are now; it is good for one commit.
    pub(crate) fn covers(self, stagings: &[Arc<Staging>]) -> bool {
        self.proven == state_of(stagings)
    }
}

/// Step 4: makes all files of the new trees durable, with one sync for each file system.
///
/// # Errors
/// E07 or E09; the staging is dead then, as are its files. E99: a file is unfinished.
pub fn sync_all(stagings: &[Arc<Staging>]) -> Result<Durable> {
    let proven = state_of(stagings);
    let mut synced = HashSet::new();
    for staging in stagings {
        staging.shared.health.run(|| staging.sync_unless_in(&mut synced))?;
    }
    Ok(Durable { proven })
}

fn state_of(stagings: &[Arc<Staging>]) -> Vec<(u64, u64)> {
    let state =
        |staging: &Arc<Staging>| (staging.number, staging.shared.changes.load(Ordering::Acquire));
    stagings.iter().map(state).collect()
}

impl Staging {
    /// Locks the root and finishes a commit that was interrupted there. Touches nothing else.
    ///
    /// `mode` is how files are opened for writing.
    ///
    /// # Errors
    /// E02 or E03: the root cannot be opened. E05: another process receives into it. E23: the
    /// staging directory is not a directory.
    pub fn begin(root: Place, owner: Owner, mode: FileMode) -> Result<Self> {
        Self::begin_with(root, &How::new(owner, mode), &[])
    }

    /// `places` are those that the caller knows, for what is kept in them.
    fn begin_with(root: Place, how: &How, places: &[Place]) -> Result<Self> {
        let How { owner, mode, open } = how.clone();
        let dir = Arc::new(Dir::open_target(&root.path)?);
        let path = several::canonical(&root.path)?;
        let (lock, recovered) = lock_and_recover(&dir, &*root.keep, places)?;
        let shared = Arc::new(Shared {
            new: OnceLock::new(),
            neighbours: OnceLock::new(),
            stale: OnceLock::new(),
            journal: OnceLock::new(),
            files: RwLock::default(),
            changes: AtomicU64::new(0),
            health: Health::default(),
            open,
            owner,
            mode,
        });
        Ok(Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            root,
            path,
            dir,
            lock,
            shared,
            directories: Mutex::default(),
            links: Mutex::default(),
            prefixes: OnceLock::new(),
            recovered,
        })
    }

    /// What an earlier process had left in the root.
    #[must_use]
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// The root's path, for messages.
    #[must_use]
    pub fn place(&self) -> &str {
        self.dir.place()
    }

    /// The root's path without symbolic links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Which file system the root is on.
    ///
    /// # Errors
    /// E09.
    pub(crate) fn device(&self) -> Result<u64> {
        Ok(self.dir.stat_self()?.dev)
    }

    /// Space that may still be used on the root's file system. Unit: bytes.
    ///
    /// # Errors
    /// E09.
    pub fn free_bytes(&self) -> Result<u64> {
        self.dir.free_bytes()
    }

    /// Space that [`Staging::prepare`] sets free. Unit: bytes; too low rather than too high.
    ///
    /// # Errors
    /// E09. E29: one of `others` is in there, by a way that paths do not show.
    pub fn replaced_bytes(&self, others: &[Arc<Self>]) -> Result<u64> {
        let mut names = self.replaced_names()?;
        names.push(rel(STAGING_NAME)?);
        let device = self.device()?;
        let (mut inodes, mut places) = (Vec::new(), Vec::new());
        for other in others.iter().filter(|other| other.number != self.number) {
            let there = other.dir.stat_self()?;
            if there.dev == device {
                inodes.push(there.ino);
                places.push(other.place());
            }
        }
        let (bytes, met) = clear::allocated_bytes_but(&self.dir, &names, &inodes)?;
        match met.and_then(|met| places.get(met)) {
            None => Ok(bytes),
            Some(other) => Err(Error::new(
                Code::Unsupported,
                format!(
                    "{other} is a directory inside of {} mounted once more, all of which is replaced; \
                     use another directory",
                    self.place()
                ),
            )),
        }
    }

    /// Whether there is something a transfer can build on: old content, or what an interrupted one
    /// has left. To be asked before [`Staging::prepare`].
    ///
    /// # Errors
    /// E09.
    pub fn has_stale(&self) -> Result<bool> {
        for name in [NEW, OLD] {
            let left = self.lock.staging().open_dir_if_there(&rel(name)?)?;
            if left.map(|left| left.names()).transpose()?.is_some_and(|names| !names.is_empty()) {
                return Ok(true);
            }
        }
        Ok(!self.replaced_names()?.is_empty())
    }

    /// Files of the stale copy that have this size and are nobody's yet. Only those of more than
    /// 128 KiB are known.
    #[must_use]
    pub fn twins(&self, size: u64) -> Vec<RelPath> {
        self.shared.stale.get().map_or_else(Vec::new, |stale| stale.twins(size))
    }

    /// The first page of a file of the stale copy; `None` when it is gone.
    ///
    /// # Errors
    /// E08, E09.
    pub fn first_page(&self, path: &RelPath) -> Result<Option<Vec<u8>>> {
        self.shared.stale.get().map_or(Ok(None), |stale| stale.first_page(path))
    }

    /// Makes a file of the stale copy the content of `file`, which nobody has opened; false when it
    /// is gone, or `file` has other names.
    ///
    /// # Errors
    /// E07, E09.
    pub fn adopt(&self, file: &Arc<StagedFile>, path: &RelPath) -> Result<bool> {
        let has_links = lock(&self.links).get(&file.entry().path).is_some_and(|it| !it.is_empty());
        if has_links { Ok(false) } else { file.adopt(path) }
    }

    /// Removes what no file of the new tree has adopted; returns how much space that sets free.
    /// Unit: bytes. For when room is needed; otherwise it goes with the commit.
    ///
    /// # Errors
    /// E09.
    pub fn drop_stale(&self) -> Result<u64> {
        self.shared.health.run(|| self.shared.drop_stale())
    }

    pub(crate) fn lock(&self) -> &Lock {
        &self.lock
    }

    pub(crate) fn keep(&self) -> &dyn Keep {
        &*self.root.keep
    }

    /// The tree being built.
    pub(crate) fn new_dir(&self) -> Result<&Dir> {
        self.shared.new_dir()
    }

    /// Runs a step of the commit; after a failed one the staging is dead.
    pub(crate) fn run<T>(&self, step: impl FnOnce() -> Result<T>) -> Result<T> {
        self.shared.health.run(step)
    }

    /// Step 5: directories get their attributes and become durable, deepest first. Before that
    /// they had to be writable; a later change inside would have changed their times.
    ///
    /// Returns the permissions that top-level directories get only once they are in the root:
    /// moving a directory into another one writes to it, so without write permission for its
    /// owner only root could.
    pub(crate) fn finish_directories(&self) -> Result<BTreeMap<RelPath, u16>> {
        let new = self.new_dir()?;
        let directories = lock(&self.directories);
        let is_few = directories.len() <= DIRECTORY_SYNCS_MAX;
        let mut late = BTreeMap::new();
        for (path, meta) in directories.iter().rev() {
            let mut meta = *meta;
            if path.parent().is_none() && meta.mode & OWNER_WRITE == 0 {
                late.insert(path.clone(), meta.mode);
                meta.mode |= OWNER_WRITE;
            }
            let directory = new.open_dir(path)?;
            meta.apply(std::os::fd::AsFd::as_fd(&directory))
                .map_err(|error| Error::write(new.place_of(path), error))?;
            if is_few {
                directory.sync()?;
            }
        }
        match is_few {
            true => new.sync()?,
            false => new.sync_fs()?,
        }
        Ok(late)
    }

    /// Names directly in the root that are not kept.
    pub(crate) fn replaced_names(&self) -> Result<Vec<RelPath>> {
        let names = self.dir.names()?.into_iter();
        names
            .filter(|name| name != STAGING_NAME && !self.root.keep.keep(name))
            .map(|name| rel(&name))
            .collect()
    }

    fn sync_unless_in(&self, synced: &mut HashSet<u64>) -> Result<()> {
        let unfinished = self.shared.unfinished();
        if unfinished != 0 {
            return Err(Error::bug(format!("{unfinished} files are unfinished")));
        }
        // The root's descriptor is older than every write, so it sees every failed one.
        match synced.insert(self.dir.stat_self()?.dev) {
            true => self.dir.sync_fs(),
            false => Ok(()),
        }
    }
}

/// Takes the lock of a root and finishes a commit that was interrupted there.
fn lock_and_recover(
    dir: &Arc<Dir>,
    keep: &dyn Keep,
    places: &[Place],
) -> Result<(Lock, Recovered)> {
    let mut recovered = Recovered::Nothing;
    loop {
        let lock = Lock::take(dir)?;
        match commit::recover_locked(&lock, keep, places, &mut |_| Ok(()))? {
            // The lock file has gone with the staging directory: once more from the start.
            Recovered::CompletedCommit if recovered == Recovered::Nothing => {
                recovered = Recovered::CompletedCommit;
            }
            // What could not be cleaned up has been said.
            Recovered::CompletedCommit => {
                return Err(Error::new(
                    Code::Access,
                    format!(
                        "the record of a finished transfer cannot be removed from {}/.fastsst; make \
                         it writable, or remove it there by hand",
                        lock.root().place()
                    ),
                ));
            }
            Recovered::Nothing => return Ok((lock, recovered)),
            Recovered::Unfinished => return Ok((lock, Recovered::Unfinished)),
        }
    }
}

/// Refuses what cannot be moved, before anything is.
pub(crate) fn refuse_mount_points(dir: &Dir, names: &[RelPath]) -> Result<()> {
    let device = dir.stat_self()?.dev;
    for name in names {
        let stat = dir.stat(name)?;
        if stat.is_some_and(|stat| stat.kind == FileKind::Directory && stat.dev != device) {
            return Err(Error::new(
                Code::Unsupported,
                format!(
                    "{} is a mount point and cannot be replaced; unmount it, or keep it",
                    dir.place_of(name)
                ),
            ));
        }
    }
    Ok(())
}

/// A single name as a path.
pub(crate) fn rel(name: &[u8]) -> Result<RelPath> {
    RelPath::parse(name).map_err(|error| {
        let name = String::from_utf8_lossy(name);
        Error::bug(format!("{name:?} came as a file name")).because(error)
    })
}

/// A lock whose holder panicked guards nothing that could be half-changed: see each use.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Write permission of the owner.
pub(crate) const OWNER_WRITE: u16 = 0o200;

/// Directories that are synced one by one. With more, one sync of the file system is cheaper
/// even though it includes what others write there.
const DIRECTORY_SYNCS_MAX: usize = 256;

#[cfg(test)]
mod stale_tests;
#[cfg(test)]
pub(crate) mod tests;
