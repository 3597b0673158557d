//! Files that tell others that a state transfer runs: one that locks, one that shows.
//!
//! `wsrep_sst.pid` is locked with flock(2) for the life of the process. A lock dies with its
//! owner, whatever killed it, so a file left behind never blocks anybody, and process ids that
//! are used again (containers) mean nothing. `sst_in_progress` is what probes, operators and
//! resource agents look for on a joiner.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fastsst_mover::{Code, Error, Result};
use rustix::fs::{FlockOperation, OFlags, flock};

pub(crate) const LOCK_FILE: &str = "wsrep_sst.pid";
pub(crate) const PROGRESS_FILE: &str = "sst_in_progress";

/// How long an earlier transfer of this node may take to end. Why: it notices within a second
/// that its server is gone, and ends within another.
const PATIENCE: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(100);

/// `rw-rw----`, less the umask, as the server makes its files.
const MODE: u32 = 0o660;

/// The markers of this process; removed when dropped, or before by [`Markers::remove`].
#[derive(Debug)]
pub(crate) struct Markers {
    datadir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    files: Vec<PathBuf>,
    /// Keeps the lock for the life of the process, also after the file is gone.
    _lock: File,
}

impl Markers {
    /// Makes this process the only state transfer of the node.
    ///
    /// # Errors
    /// E05 while another one lives; E03 when the directory is not writable.
    pub(crate) fn lock(datadir: &Path) -> Result<Self> {
        let path = datadir.join(LOCK_FILE);
        let deadline = Instant::now() + PATIENCE;
        let mut lock = loop {
            if let Some(lock) = try_lock(&path).map_err(|error| not_writable(&path, error))? {
                break lock;
            }
            if Instant::now() >= deadline {
                return Err(busy(&path));
            }
            std::thread::sleep(POLL);
        };
        // The stock scripts look for a process id in the file.
        let owner = format!("{}\n", std::process::id());
        lock.set_len(0)
            .and_then(|()| lock.write_all(owner.as_bytes()))
            .map_err(|error| Error::write(path.display(), error))?;
        let state = Mutex::new(State { files: vec![path], _lock: lock });
        Ok(Self { datadir: datadir.to_owned(), state })
    }

    /// Shows that a joiner receives; a file left behind by a dead one becomes ours.
    ///
    /// # Errors
    /// E03, E07 or E09.
    pub(crate) fn show(&self) -> Result<()> {
        let path = self.datadir.join(PROGRESS_FILE);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        open(&path).map_err(|error| not_writable(&path, error))?;
        state.files.push(path);
        Ok(())
    }

    /// Removes the markers durably. Calling it again does nothing.
    pub(crate) fn remove(&self) {
        if !self.unlink() {
            return;
        }
        if let Err(error) = File::open(&self.datadir).and_then(|directory| directory.sync_all()) {
            tracing::warn!("cannot sync {}: {error}", self.datadir.display());
        }
    }

    /// Removes the markers without waiting for the disk: a server may be locked until this process
    /// ends. Returns whether there were any.
    pub(crate) fn unlink(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let files = std::mem::take(&mut state.files);
        if files.is_empty() {
            return false;
        }
        // The lock file last: nobody may enter before the node looks idle.
        for path in files.iter().rev() {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("cannot remove {}: {error}; remove it", path.display());
                }
                _ => {}
            }
        }
        true
    }
}

impl Drop for Markers {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The locked file, or `None` while somebody else has it.
fn try_lock(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // The owner before us may have removed the name between our open and our lock.
        let ours = file.metadata()?;
        match fs::symlink_metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                return Ok(Some(file));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .custom_flags(flags)
        .open(path)
}

fn not_writable(path: &Path, error: io::Error) -> Error {
    if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) {
        return Error::new(Code::Access, format!("cannot make {}", path.display())).because(error);
    }
    Error::write(path.display(), error)
}

fn busy(path: &Path) -> Error {
    let owner = fs::read_to_string(path).unwrap_or_default();
    Error::new(
        Code::Busy,
        format!(
            "another state transfer of this node runs (process {}, it holds {}); wait for it or \
             end it",
            owner.trim(),
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_files_do_not_block_and_all_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name| directory.path().join(name);
        // Process 1 lives, which a check by process id would take for the owner.
        fs::write(file(LOCK_FILE), "1\n").unwrap();
        fs::write(file(PROGRESS_FILE), "").unwrap();
        let markers = Markers::lock(directory.path()).unwrap();
        markers.show().unwrap();
        let owner = fs::read_to_string(file(LOCK_FILE)).unwrap();
        assert_eq!(owner.trim(), std::process::id().to_string());
        markers.remove();
        markers.remove();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_living_are_respected_and_followed_when_they_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(LOCK_FILE);
        let first = Markers::lock(directory.path()).unwrap();
        assert!(try_lock(&path).unwrap().is_none());
        drop(first);
        assert!(try_lock(&path).unwrap().is_some());
    }

    #[test]
    fn a_symlink_in_the_place_of_a_marker_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", directory.path().join(LOCK_FILE)).unwrap();
        assert!(Markers::lock(directory.path()).is_err());
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = Markers::lock(Path::new("/nonexistent/d")).unwrap_err();
        assert_eq!(error.code(), Code::Access);
        assert!(error.to_string().contains("/nonexistent/d"), "{error}");
    }
}
