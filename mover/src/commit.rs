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
//! only forward, in this process or, by [`recover`], in a later one. Steps and reasons are
//! `docs/DURABILITY.md`. This is the only file that moves anything between directories.

mod adopt;
mod aside;
mod merge;
mod order;
mod record;

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::Arc;

use fastsst_proto::path::RelPath;
use rustix::fs::Mode;
use rustix::io::Errno;

pub(crate) use self::adopt::{adopt, adopt_as};
pub(crate) use self::aside::{Aside, set_aside};
pub(crate) use self::merge::OnFile;

use self::order::{Leaving, arrival, departure};
use self::record::{Name, Record};
use crate::error::{Code, Error, Result};
use crate::in_use;
use crate::staging::{
    self, Durable, JOURNAL, Keep, LOCK, Lock, NEW, OLD, OWNER_WRITE, Place, Staging, TRASH, clear,
    rel,
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
    /// Step 9: the record goes.
    DropRecord,
    /// Step 9: the staging directory goes.
    DropStaging,
}

/// Called before each step; an error stops everything as it is then, as a crash would.
pub type Hook<'a> = &'a mut dyn FnMut(Step) -> Result<()>;

/// Steps 5 to 9: puts new trees whose files are durable in place.
///
/// # Errors
/// E29: more than one root. E23: something that is kept has the name of something new. E07, E09;
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
    // With several roots the records of all would have to become valid at once.
    let [staging] = stagings else {
        let what = format!("{} roots cannot be received into; use one", stagings.len());
        return Err(Error::new(Code::Unsupported, what));
    };
    // 4. Files: done, this proves it.
    if !durable.covers(stagings) {
        return Err(Error::bug("the tree changed after it was synced"));
    }
    staging.run(|| {
        let lock = staging.lock();
        let record = decide(staging, hook)?;
        // ───────────────────────── POINT OF NO RETURN ─────────────────────────
        // The record is durable. Nothing below may give up on the new tree or bring anything of
        // the old one back: whoever comes next finds the record and goes on here.
        forward(lock, staging.keep(), &record, hook)
    })
}

/// Finishes a commit that was interrupted in this root; touches nothing else.
///
/// [`Staging::begin`] does the same; this is for whoever does not go on to receive.
///
/// # Errors
/// E05: a process works there. E03, E09: the root cannot be written.
pub fn recover(root: &Place) -> Result<Recovered> {
    let dir = Arc::new(Dir::open_target(&root.path)?);
    if dir.stat(&rel(STAGING_NAME)?)?.is_none() {
        return Ok(Recovered::Nothing);
    }
    recover_locked(&Lock::take(&dir)?, &*root.keep, &mut |_| Ok(()))
}

/// [`recover`] for the holder of the lock, which is void after [`Recovered::CompletedCommit`].
pub(crate) fn recover_locked(lock: &Lock, keep: &dyn Keep, hook: Hook<'_>) -> Result<Recovered> {
    match Record::load(lock.staging())? {
        Some(record) => {
            tracing::info!("finishing the commit that was interrupted in {}", lock.root().place());
            forward(lock, keep, &record, hook)?;
            Ok(Recovered::CompletedCommit)
        }
        None if lock.staging().names()?.iter().any(|name| name != LOCK) => {
            Ok(Recovered::Unfinished)
        }
        None => Ok(Recovered::Nothing),
    }
}

/// Steps 5 and 6.
fn decide(staging: &Staging, hook: Hook<'_>) -> Result<Record> {
    let (root, new) = (staging.lock().root(), staging.new_dir()?);
    // A server that had opened the old files before they were moved would go on writing to them.
    in_use::check(new)?;
    // 5. Directories, deepest first.
    hook(Step::Directories)?;
    let late = staging.finish_directories()?;
    let mut names = Vec::new();
    for name in new.names()? {
        let path = rel(&name)?;
        let is_there = root.stat(&path)?.is_some();
        if is_there && staging.keep().keep(&name) {
            return Err(staging::kept(&path, root.place()));
        }
        let is_directory = is_directory(new, &path)?;
        names.push(Name { late_mode: late.get(&path).copied(), path, is_directory });
    }
    staging::refuse_mount_points(root, &staging.replaced_names()?)?;
    let is_kept = |name: &Vec<u8>| name != STAGING_NAME && staging.keep().keep(name);
    let kept = root.names()?.into_iter().filter(is_kept).collect();
    // 6. The record: its content, then its name. The root has had the name of the staging
    //    directory since prepare.
    let record = Record { names, kept };
    hook(Step::WriteRecord)?;
    let file = record.write(staging.lock().staging())?;
    hook(Step::SyncRecord)?;
    file.sync()?;
    staging.lock().staging().sync()?;
    Ok(record)
}

/// Steps 7 to 9. May be interrupted and run again, by another process, any number of times.
fn forward(lock: &Lock, keep: &dyn Keep, record: &Record, hook: Hook<'_>) -> Result<()> {
    lock.touch();
    put_in_place(lock, keep, record, hook).map_err(|error| {
        Error::new(
            error.code(),
            format!(
                "the new files are complete but not all in their place in {}; start again, that is \
                 finished first",
                lock.root().place()
            ),
        )
        .because(error)
    })?;
    clean_up(lock, hook)
}

/// Steps 7 and 8.
fn put_in_place(lock: &Lock, keep: &dyn Keep, record: &Record, hook: Hook<'_>) -> Result<()> {
    let (root, staging) = (lock.root(), lock.staging());
    // It goes only after the record, in step 9. If it is missing, it was empty.
    let Some(new) = staging.open_dir_if_there(&rel(NEW)?)? else { return root.sync() };
    let waiting: BTreeSet<Vec<u8>> = new.names()?.into_iter().collect();
    // 7. Names: what is not of the new tree goes, then the new tree comes.
    // Once all has come, what else is in the root came later, perhaps months: it stays.
    if !waiting.is_empty() {
        let is_leftover = |name: &[u8]| match record.has(name) {
            // The new one is here already if it is not waiting any more.
            true => waiting.contains(name),
            false => name != STAGING_NAME && !keep.keep(name) && !record.kept.contains(name),
        };
        let names = root.names()?.into_iter().filter(|name| is_leftover(name));
        let names = names.map(|name| rel(&name)).collect::<Result<Vec<_>>>()?;
        move_leftovers(lock, names, hook)?;
    }
    for name in arrival(&record.names) {
        if waiting.contains(name.path.as_bytes()) {
            hook(Step::MoveIn)?;
            move_entry(&new, &name.path, root, &name.path)?;
        }
    }
    let forgotten = new.names()?;
    if !forgotten.is_empty() {
        return Err(Error::bug(format!("{} new entries are not in the record", forgotten.len())));
    }
    for name in &record.names {
        if let Some(mode) = name.late_mode {
            hook(Step::LatePermission)?;
            set_mode(root, &name.path, mode)?;
        }
    }
    // 8. Both ends of the moves.
    hook(Step::SyncRoot)?;
    root.sync()?;
    new.sync()
}

/// What the server made while the new tree was on its way, such as the empty `InnoDB` files of
/// `--wsrep_recover`: moved aside now, because that is quick, removed in step 9.
fn move_leftovers(lock: &Lock, names: Vec<RelPath>, hook: Hook<'_>) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let old_name = rel(OLD)?;
    if lock.staging().stat(&old_name)?.is_none() {
        lock.staging().mkdir(&old_name)?;
    }
    let old = lock.staging().open_dir(&old_name)?;
    let mut free = 0_u64;
    for Leaving { path, .. } in departure(lock.root(), names)? {
        let mut number = rel(free.to_string().as_bytes())?;
        while old.stat(&number)?.is_some() {
            free += 1;
            number = rel(free.to_string().as_bytes())?;
        }
        hook(Step::Leftover)?;
        move_entry(lock.root(), &path, &old, &number)?;
    }
    Ok(())
}

/// Step 9. The tree is in its place and durable, so what fails here is only said.
fn clean_up(lock: &Lock, hook: Hook<'_>) -> Result<()> {
    let (root, staging) = (lock.root(), lock.staging());
    // 9. The record first: from here on nothing of this commit is ever done again. What is old is
    //    no stale copy any more by then: the next transfer would prefer it to the new tree.
    hook(Step::DropRecord)?;
    let dropped = old_to_trash(staging).and_then(|()| {
        staging.unlink(&rel(record::FILE)?)?;
        staging.sync()
    });
    say(lock, dropped);
    hook(Step::DropStaging)?;
    let removed = rel(STAGING_NAME).and_then(|name| {
        for inner in [OLD, TRASH, NEW, JOURNAL, LOCK] {
            clear(staging, &rel(inner)?)?;
        }
        clear(root, &name)?;
        root.sync()
    });
    say(lock, removed);
    Ok(())
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

fn say(lock: &Lock, result: Result<()>) {
    if let Err(error) = result {
        tracing::warn!(
            "the new files are in place, but {}/.fastsst stays: {error}",
            lock.root().place()
        );
    }
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
mod tests;
