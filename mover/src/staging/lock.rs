//! The staging directory of a root, and the lock in it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FlockOperation, Timespec, Timestamps};
use rustix::io::Errno;

use super::rel;
use crate::disk::file::{FileMode, OpenFile};
use crate::error::{Code, Error, Result};
use crate::tree::{Dir, FileKind, FileTime};
use crate::walk::STAGING_NAME;

/// The staging directory, held for this process.
///
/// The kernel lets go of the lock when the process ends, however it ends; a lock file that is
/// left behind means nothing. Dropped before [`Lock::touch`], it leaves the root as it was.
#[derive(Debug)]
pub(crate) struct Lock {
    root: Arc<Dir>,
    staging: Dir,
    /// Holds the lock as long as it is open.
    _file: OpenFile,
    found: Found,
    touched: AtomicBool,
}

/// What was there before the lock.
#[derive(Debug)]
struct Found {
    /// Whether there was a lock file.
    lock_file: bool,
    /// The root's time before this process, if it made the staging directory.
    root_before: Option<FileTime>,
    /// The root's time right after that; another one later means that others work there.
    root_after: FileTime,
}

impl Lock {
    /// Takes the lock without waiting.
    ///
    /// # Errors
    /// E05: another process has it. E23: the staging directory or the lock is something else.
    /// E03, E09: it cannot be made.
    pub(crate) fn take(root: &Arc<Dir>) -> Result<Self> {
        for _ in 0..TRIES {
            let before = root.stat_self()?.mtime;
            let Some((staging, made)) = open_staging(root)? else { continue };
            let Some((file, lock_file)) = open_lock(&staging)? else { continue };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(busy(root)),
                Err(errno) => return Err(Error::write(file.place(), errno.into())),
            }
            // The one before us may have removed the file between our opening and locking it.
            if !is_current(root, &file)? {
                continue;
            }
            let root_before = made.then_some(before);
            let found = Found { lock_file, root_before, root_after: root.stat_self()?.mtime };
            let root = Arc::clone(root);
            let touched = AtomicBool::new(false);
            return Ok(Self { root, staging, _file: file, found, touched });
        }
        Err(busy(root))
    }

    /// The root.
    pub(crate) fn root(&self) -> &Dir {
        &self.root
    }

    /// The staging directory.
    pub(crate) fn staging(&self) -> &Dir {
        &self.staging
    }

    /// From now on the root is not as it was, and the staging directory stays when the lock goes.
    pub(crate) fn touch(&self) {
        self.touched.store(true, Ordering::Release);
    }

    /// The root is as it was again.
    pub(crate) fn untouch(&self) {
        self.touched.store(false, Ordering::Release);
    }

    /// Removes the lock file and, when nothing else is in it, the staging directory.
    fn leave(&self) -> Result<()> {
        let (staging_name, lock_name) = (rel(STAGING_NAME)?, rel(LOCK)?);
        let is_alone = self.staging.names()? == [LOCK];
        if is_alone || !self.found.lock_file {
            self.staging.unlink(&lock_name)?;
        }
        if !is_alone {
            return Ok(());
        }
        let is_quiet = self.root.stat_self()?.mtime == self.found.root_after;
        self.root.rmdir(&staging_name)?;
        match self.found.root_before {
            Some(before) if is_quiet => set_mtime(&self.root, before),
            Some(_) | None => Ok(()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.touched.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = self.leave() {
            tracing::warn!("cannot remove the lock below {}: {error}", self.root.place());
        }
    }
}

/// Opens or makes the staging directory; says whether it was made; `None` when it vanished.
fn open_staging(root: &Dir) -> Result<Option<(Dir, bool)>> {
    let name = rel(STAGING_NAME)?;
    let made = match root.stat(&name)? {
        None => match root.mkdir(&name) {
            Ok(()) => true,
            Err(_) if root.stat(&name)?.is_some() => return Ok(None),
            Err(error) => return Err(error),
        },
        Some(stat) if stat.kind == FileKind::Directory => false,
        Some(stat) => return Err(not_ours(root, stat.kind)),
    };
    Ok(root.open_dir_if_there(&name)?.map(|staging| (staging, made)))
}

/// Opens or makes the lock file; says whether it was there; `None` when it came or went meanwhile.
fn open_lock(staging: &Dir) -> Result<Option<(OpenFile, bool)>> {
    let name = rel(LOCK)?;
    if let Some((file, _)) = staging.open_file_write(&name, FileMode::Buffered)? {
        return Ok(Some((file, true)));
    }
    match staging.stat(&name)? {
        None => match staging.create_file(&name, FileMode::Buffered) {
            Ok(file) => Ok(Some((file, false))),
            // Another process made it, or removed the directory.
            Err(error) if error_kind(&error) == Some(io::ErrorKind::AlreadyExists) => Ok(None),
            Err(error) if error_kind(&error) == Some(io::ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        },
        Some(stat) if stat.kind == FileKind::File => Ok(None),
        Some(stat) => Err(not_ours(staging, stat.kind)),
    }
}

fn is_current(root: &Dir, file: &OpenFile) -> Result<bool> {
    let path = rel(&[STAGING_NAME, b"/", LOCK].concat())?;
    let (there, ours) = (root.stat(&path)?, file.stat()?);
    Ok(there.is_some_and(|there| (there.dev, there.ino) == (ours.dev, ours.ino)))
}

fn set_mtime(dir: &Dir, mtime: FileTime) -> Result<()> {
    let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let mtime = Timespec { tv_sec: mtime.s, tv_nsec: mtime.ns.into() };
    let times = Timestamps { last_access: omit, last_modification: mtime };
    rustix::fs::futimens(dir, &times).map_err(|errno| Error::write(dir.place(), errno.into()))
}

fn busy(root: &Dir) -> Error {
    Error::new(
        Code::Busy,
        format!(
            "another process receives into {}; wait for it or stop it (its lock is .fastsst/lock)",
            root.place()
        ),
    )
}

fn not_ours(dir: &Dir, kind: FileKind) -> Error {
    Error::new(
        Code::UnsafePath,
        format!("a {kind} is where fastsst keeps its own files in {}; remove it", dir.place()),
    )
}

/// What the system said, if that is the cause.
pub(super) fn error_kind(error: &Error) -> Option<io::ErrorKind> {
    let cause = std::error::Error::source(error)?;
    cause.downcast_ref::<io::Error>().map(io::Error::kind)
}

/// Name of the lock file in the staging directory.
pub(crate) const LOCK: &[u8] = b"lock";

/// How often somebody else may come or go while the lock is taken before that counts as busy.
const TRIES: usize = 16;
