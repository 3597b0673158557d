//! The moment the new tree takes its place, and what a crash in the middle of it needs.
//!
//! ```text
//!  step 4      5             6            7             8          9
//!  files ─▶ directories ─▶ record ═══▶ put in ─▶ root's sync ─▶ clean up
//!  synced   synced         synced │    place
//!                                 └── point of no return
//! ```
//!
//! One rename for each top-level name cannot be atomic, so the record decides: before it is on
//! disk the new tree is not in the root, and the next transfer builds on it; from then on there is
//! only forward, in this process or, by [`recover`], in a later one. With several roots one record
//! decides for all (see `together`). Steps and reasons are `docs/DURABILITY.md`. Only this file, and
//! those in its directory, move anything between directories.

mod adopt;
mod aside;
mod followers;
mod merge;
mod order;
mod record;
mod together;

use std::os::fd::AsFd;
use std::sync::Arc;

use fastsst_proto::path::RelPath;
use rustix::fs::Mode;
use rustix::io::Errno;

pub(crate) use self::adopt::{adopt, adopt_as};
pub(crate) use self::aside::{Aside, Room, set_aside};
pub(crate) use self::followers::{FOLLOWERS, LEADER, load as load_list};
pub(crate) use self::together::{KeepAll, recover_locked};

use self::followers::UNFINISHED;
use crate::error::{Error, Result};
use crate::staging::{
    Durable, JOURNAL, LOCK, Lock, NEW, OLD, OWNER_WRITE, Place, Staging, TRASH, clear, rel,
};
use crate::tree::{Dir, FileKind};
use crate::walk::STAGING_NAME;

/// What an earlier process had left in a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// No transfer, or one that had touched nothing.
    Nothing,
    /// A transfer that was not complete, or that was and had not cleaned up behind itself; the
    /// next one builds on what is left of it.
    Unfinished,
    /// A transfer that was complete; its tree is in place now.
    CompletedCommit,
}

/// A step that changes something; a crash may come before each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Prepare: the leader notes which other roots it takes along.
    Remember,
    /// Prepare: one more file of an interrupted transfer becomes part of the stale copy.
    Merge,
    /// Prepare: one more entry of the root goes to the staging directory.
    MoveOut,
    /// Prepare: what was moved out becomes durable; once after `InnoDB`'s system files, once at the
    /// end.
    SyncMoveOut,
    /// Prepare: what was moved out and is in the stale copy already is removed.
    DropTrash,
    /// Step 5: directories get their attributes and become durable.
    Directories,
    /// Step 6: the record is written.
    WriteRecord,
    /// Step 6: the record becomes durable. The last step before the point of no return.
    SyncRecord,
    /// Step 7: one more entry that appeared in the root meanwhile goes.
    Leftover,
    /// Step 7: one more entry of the new tree comes to its place.
    MoveIn,
    /// Step 7: a directory loses the permission that let it be moved.
    LatePermission,
    /// Step 8: the new names in the root become durable.
    SyncRoot,
    /// Step 9, with several roots: the leader notes that nothing is waiting in any.
    Settle,
    /// Step 9: the record goes.
    DropRecord,
    /// Step 9: the staging directory goes.
    DropStaging,
}

/// Called before each step; an error stops everything as it is then, as a crash would.
pub type Hook<'a> = &'a mut dyn FnMut(Step) -> Result<()>;

/// Steps 5 to 9: puts new trees whose files are durable in place, all or none. The first one is the
/// leader.
///
/// # Errors
/// E23: something that is kept has the name of something new. E07, E09;
/// after step 6 the tree is decided, and the next [`Staging::begin`] finishes. E99: the proof is
/// about something else.
pub fn commit(stagings: &[Arc<Staging>], durable: Durable) -> Result<()> {
    commit_with(stagings, durable, &mut |_| Ok(()))
}

/// [`commit`], calling `hook` before each step, for tests that crash there.
///
/// # Errors
/// As [`commit`], and those of `hook`.
pub fn commit_with(stagings: &[Arc<Staging>], durable: Durable, hook: Hook<'_>) -> Result<()> {
    let Some((leader, followers)) = stagings.split_first() else {
        return Err(Error::bug("a commit of nothing"));
    };
    // 4. Files: done, this proves it.
    if !durable.covers(stagings) {
        return Err(Error::bug("the tree changed after it was synced"));
    }
    for staging in followers {
        staging.run(|| Ok(()))?;
    }
    leader.run(|| together::commit((leader, followers), hook))
}

/// Finishes a commit that was interrupted in this root; touches nothing else.
///
/// [`Staging::begin`] does the same; this is for whoever does not go on to receive. If the root is a
/// leader, its followers are finished, too.
///
/// # Errors
/// E05: a process works there. E02, E03, E09: the root cannot be opened or written. E29: the root
/// follows one that must be recovered first.
pub fn recover(root: &Place) -> Result<Recovered> {
    let dir = Arc::new(Dir::open_target(&root.path)?);
    if dir.stat(&rel(STAGING_NAME)?)?.is_none() {
        return Ok(Recovered::Nothing);
    }
    recover_locked(&Lock::take(&dir)?, &*root.keep, &[], &mut |_| Ok(()))
}

/// The staging directory goes, once nothing in it is needed any more.
fn clear_staging(lock: &Lock) {
    let (root, staging) = (lock.root(), lock.staging());
    let removed = rel(STAGING_NAME).and_then(|name| {
        for inner in [OLD, TRASH, NEW, JOURNAL, UNFINISHED, FOLLOWERS, LEADER, LOCK] {
            clear(staging, &rel(inner)?)?;
        }
        clear(root, &name)?;
        root.sync()
    });
    if let Err(error) = removed {
        say(lock, &error);
    }
}

/// Prepare removes the trash of whoever was interrupted.
fn old_to_trash(staging: &Dir) -> Result<()> {
    let (old, trash) = (rel(OLD)?, rel(TRASH)?);
    if staging.stat(&old)?.is_none() {
        return Ok(());
    }
    clear(staging, &trash)?;
    move_entry(staging, &old, staging, &trash).map(drop)
}

fn say(lock: &Lock, error: &Error) {
    tracing::warn!(
        "the new files are in place, but {}/.fastsst stays: {error}",
        lock.root().place()
    );
}

/// Moves an entry from directory to directory; within one file system, so at once.
///
/// A directory that forbids its owner to write cannot be moved by him; it gets the permission,
/// and its former permissions are returned.
fn move_entry(from: &Dir, name: &RelPath, to: &Dir, new_name: &RelPath) -> Result<Option<u16>> {
    let rename = || rustix::fs::renameat(from, name.as_bytes(), to, new_name.as_bytes());
    let failed = |errno: Errno| {
        let error = std::io::Error::from(errno);
        Error::write(format!("{} (to move it away)", from.place_of(name)), error)
    };
    match rename() {
        Ok(()) => Ok(None),
        Err(Errno::ACCESS) => {
            let stat = from.stat(name)?.filter(|stat| stat.kind == FileKind::Directory);
            let Some(stat) = stat.filter(|stat| stat.mode & OWNER_WRITE == 0) else {
                return Err(failed(Errno::ACCESS));
            };
            set_mode(from, name, stat.mode | OWNER_WRITE)?;
            rename().map_err(failed)?;
            Ok(Some(stat.mode))
        }
        Err(errno) => Err(failed(errno)),
    }
}

fn set_mode(dir: &Dir, name: &RelPath, mode: u16) -> Result<()> {
    let Some(stat) = dir.stat(name)? else { return Ok(()) };
    if stat.mode == mode {
        return Ok(());
    }
    let directory = dir.open_dir(name)?;
    rustix::fs::fchmod(directory.as_fd(), Mode::from_raw_mode(u32::from(mode)))
        .map_err(|errno| Error::write(dir.place_of(name), errno.into()))
}

fn is_directory(dir: &Dir, path: &RelPath) -> Result<bool> {
    Ok(dir.stat(path)?.is_some_and(|stat| stat.kind == FileKind::Directory))
}

#[cfg(test)]
mod several_tests;
#[cfg(test)]
mod tests;
