//! The commit over all roots of a transfer: one decision, and the way from there.
//!
//! ```text
//!  followers:  5 ─▶ 6 record ─┐                    ┌▶ 7 ─▶ 8 ─▶ 9 ─┐
//!  leader:     5 ─────────────┴▶ 6 record ═════════┴▶ 7 ─▶ 8 ──────┴▶ 9
//!                                          └── point of no return
//! ```
//!
//! The leader's record names the followers, and counts for them. A follower's record says what is to
//! be done there, once the leader's names the same transfer.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use fastsst_proto::path::RelPath;

use super::order::{Holds, Leaving, departure, is_system_file, turn_to_enter};
use super::record::{self, Follower, Name, Part, Record, TransferId};
use super::{
    Hook, Recovered, Step, clear_staging, is_directory, move_entry, old_to_trash, set_mode,
};
use crate::error::{Code, Error, Result};
use crate::in_use;
use crate::random::random;
use crate::staging::{self, Keep, LOCK, Lock, NEW, OLD, Place, Staging, rel};
use crate::tree::Dir;
use crate::walk::STAGING_NAME;

/// A root whose new tree is decided.
struct Decided<'a> {
    lock: &'a Lock,
    keep: &'a dyn Keep,
    record: Record,
}

/// Steps 5 to 9.
///
/// # Errors
/// As [`super::commit`].
pub(super) fn commit(
    (leader, followers): (&Arc<Staging>, &[Arc<Staging>]),
    hook: Hook<'_>,
) -> Result<()> {
    let parts = decide((leader, followers), hook)?;
    // ───────────────────────── POINT OF NO RETURN ─────────────────────────
    // The leader's record is durable. Nothing below may give up on the new trees or bring anything
    // of the old ones back: whoever comes next finds the record and goes on here.
    forward(&parts, hook)
}

/// Steps 5 and 6. The leader is the last of the answer.
fn decide<'a>(
    (leader, followers): (&'a Arc<Staging>, &'a [Arc<Staging>]),
    hook: Hook<'_>,
) -> Result<Vec<Decided<'a>>> {
    let mut parts = Vec::with_capacity(followers.len() + 1);
    let transfer = random()?;
    // 5. Directories, of all roots.
    for staging in followers {
        let part = Part::Follower { transfer, leader: leader.path().to_owned() };
        parts.push(finish_tree(staging, part, hook)?);
    }
    let follow = |it: &Arc<Staging>| {
        Ok(Follower { path: it.path().to_owned(), ino: it.lock().root().stat_self()?.ino })
    };
    let part = match followers {
        [] => Part::Alone,
        _ => Part::Leader {
            transfer,
            followers: followers.iter().map(follow).collect::<Result<_>>()?,
        },
    };
    parts.push(finish_tree(leader, part, hook)?);
    // 6. The records, the leader's last: its content, then its name. The root has had the name of
    //    the staging directory since prepare.
    for Decided { lock, record, .. } in &parts {
        hook(Step::WriteRecord)?;
        let file = record.write(lock.staging())?;
        hook(Step::SyncRecord)?;
        file.sync()?;
        lock.staging().sync()?;
    }
    Ok(parts)
}

/// Step 5 in one root, and what its record will say.
fn finish_tree<'a>(staging: &'a Staging, part: Part, hook: Hook<'_>) -> Result<Decided<'a>> {
    let (lock, new) = (staging.lock(), staging.new_dir()?);
    let root = lock.root();
    // A server that had opened the old files before they were moved would go on writing to them.
    in_use::check_with(new, staging.prefixes())?;
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
        let holds = Holds::of(new, &path, staging.prefixes())?;
        names.push(Name { late_mode: late.get(&path).copied(), path, is_directory, holds });
    }
    staging::refuse_mount_points(root, &staging.replaced_names()?)?;
    let is_kept = |name: &Vec<u8>| name != STAGING_NAME && staging.keep().keep(name);
    let kept = root.names()?.into_iter().filter(is_kept).collect();
    Ok(Decided { lock, keep: staging.keep(), record: Record { part, names, kept } })
}

/// [`super::recover`] for the holder of the lock, which is void after [`Recovered::CompletedCommit`].
/// `places` are those that the caller knows, for what is kept in them.
///
/// # Errors
/// As [`super::recover`].
pub(crate) fn recover_locked(
    lock: &Lock,
    keep: &dyn Keep,
    places: &[Place],
    hook: Hook<'_>,
) -> Result<Recovered> {
    let record = Record::load(lock.staging())?;
    let followers = match record.as_ref().map(|record| &record.part) {
        Some(Part::Alone) => Vec::new(),
        Some(Part::Leader { transfer, followers }) => find((lock, *transfer), followers, places)?,
        Some(Part::Follower { transfer, leader }) => {
            refuse_decided(lock.root(), *transfer, leader)?;
            return left(lock);
        }
        None => return left(lock),
    };
    let Some(record) = record else { return left(lock) };
    tracing::info!("finishing the commit that was interrupted in {}", lock.root().place());
    let (mut parts, mut done) = (Vec::new(), Vec::new());
    for Found { lock, keep, record } in &followers {
        match record {
            Some(record) => parts.push(Decided { lock, keep: &**keep, record: record.clone() }),
            None => done.push(lock),
        }
    }
    parts.push(Decided { lock, keep, record });
    forward(&parts, hook)?;
    for lock in done {
        // Unless another transfer has begun there since.
        if lock.staging().stat(&rel(OLD)?)?.is_none() {
            clear_staging(lock);
        }
    }
    Ok(Recovered::CompletedCommit)
}

/// What is left where no commit is to be finished.
fn left(lock: &Lock) -> Result<Recovered> {
    let is_alone = lock.staging().names()?.iter().all(|name| name == LOCK);
    Ok(if is_alone { Recovered::Nothing } else { Recovered::Unfinished })
}

/// A root that follows one in which a commit is finished.
struct Found {
    lock: Lock,
    keep: Arc<dyn Keep>,
    /// Absent when everything is done there.
    record: Option<Record>,
}

fn find(
    (leader, transfer): (&Lock, TransferId),
    followers: &[Follower],
    places: &[Place],
) -> Result<Vec<Found>> {
    let mut found = Vec::with_capacity(followers.len());
    // The leader's `new` goes before the first record does.
    let may_be_done = leader.staging().stat(&rel(NEW)?)?.is_none();
    for follower in followers {
        let dir = Arc::new(Dir::open_target(&follower.path)?);
        let is_same = dir.stat_self()?.ino == follower.ino;
        if dir.stat(&rel(STAGING_NAME)?)?.is_none() {
            // Nothing was left to be done; or this is where its file system should be mounted.
            match (is_same, may_be_done) {
                (true, true) => continue,
                (true, false) => return Err(lost(leader.root(), &follower.path)),
                (false, _) => return Err(not_the_same(&follower.path)),
            }
        }
        let lock = Lock::take(&dir)?;
        let record = Record::load(lock.staging())?;
        match record.as_ref().map(|record| &record.part) {
            Some(Part::Follower { transfer: theirs, .. }) if *theirs == transfer => {}
            None if is_same && may_be_done => {}
            None if is_same => return Err(lost(leader.root(), &follower.path)),
            None => return Err(not_the_same(&follower.path)),
            Some(Part::Alone | Part::Leader { .. } | Part::Follower { .. }) => {
                return Err(of_another(&follower.path));
            }
        }
        found.push(Found { keep: keep_of(&dir, places)?, lock, record });
    }
    Ok(found)
}

/// What the caller keeps in this root; if it does not know it, everything but InnoDB's system files:
/// that none of them was kept stands in the record, so a server has made them since.
fn keep_of(dir: &Dir, places: &[Place]) -> Result<Arc<dyn Keep>> {
    let here = dir.stat_self()?;
    let is_here = |place: &&Place| {
        let there = Dir::open_target(&place.path).and_then(|dir| dir.stat_self());
        there.is_ok_and(|there| (there.dev, there.ino) == (here.dev, here.ino))
    };
    let keep = places.iter().find(is_here).map(|place| Arc::clone(&place.keep));
    Ok(keep.unwrap_or_else(|| Arc::new(KeepAllButSystem)))
}

/// Keeps whatever no record names.
#[derive(Debug)]
pub(crate) struct KeepAll;

impl Keep for KeepAll {
    fn keep(&self, _: &[u8]) -> bool {
        true
    }
}

/// Keeps whatever is no system file of `InnoDB`.
#[derive(Debug)]
struct KeepAllButSystem;

impl Keep for KeepAllButSystem {
    fn keep(&self, name: &[u8]) -> bool {
        !is_system_file(name)
    }
}

fn not_the_same(path: &Path) -> Error {
    Error::new(
        Code::Missing,
        format!(
            "some of the new files are in {}, which is another directory now; mount its file system \
             and start again",
            path.display()
        ),
    )
}

/// Its record goes only when nothing is waiting in any root, and that is durable.
fn lost(leader: &Dir, path: &Path) -> Error {
    Error::new(
        Code::Missing,
        format!(
            "some of the new files were in {0} and are gone: another file system is mounted there, or \
             somebody has received into it; mount the right one and start again. If they are lost, \
             remove {1}/.fastsst/commit and start again: everything is transferred anew",
            path.display(),
            leader.place()
        ),
    )
}

fn of_another(path: &Path) -> Error {
    Error::bug(format!(
        "some of the new files should be in {}, but what is there belongs to another transfer",
        path.display()
    ))
}

/// A record without its leader's says nothing; but that one must not find this root changed.
fn refuse_decided(root: &Dir, transfer: TransferId, leader: &Path) -> Result<()> {
    let dir = match Dir::open_target(leader) {
        Err(error) if error.code() == Code::Missing => return Ok(()),
        dir => dir?,
    };
    let Some(staging) = dir.open_dir_if_there(&rel(STAGING_NAME)?)? else { return Ok(()) };
    match Record::load(&staging)?.map(|record| record.part) {
        Some(Part::Leader { transfer: theirs, .. }) if theirs == transfer => Err(Error::new(
            Code::Unsupported,
            format!(
                "{} holds a part of the new files of {}, whose transfer is complete; start the node \
                 with that data directory first",
                root.place(),
                leader.display()
            ),
        )),
        Some(Part::Alone | Part::Leader { .. } | Part::Follower { .. }) | None => Ok(()),
    }
}

/// Steps 7 to 9; the leader is the last. May be interrupted and run again, by another process, any
/// number of times.
fn forward(parts: &[Decided<'_>], hook: Hook<'_>) -> Result<()> {
    let Some(leader) = parts.last() else { return Err(Error::bug("a commit without a root")) };
    for part in parts {
        part.lock.touch();
    }
    put_in_place(parts, hook).map_err(|error| {
        Error::new(
            error.code(),
            format!(
                "the new files are complete but not all in their place in {}; start again, that is \
                 finished first",
                leader.lock.root().place()
            ),
        )
        .because(error)
    })?;
    clean_up(parts, hook)
}

/// A root and what of its new tree is not there yet.
struct Arriving<'a> {
    part: &'a Decided<'a>,
    new: Dir,
    waiting: BTreeSet<Vec<u8>>,
}

/// Steps 7 and 8. Names leave and enter in one order over all roots.
fn put_in_place(parts: &[Decided<'_>], hook: Hook<'_>) -> Result<()> {
    let mut arriving = Vec::with_capacity(parts.len());
    for part in parts {
        // It goes only after the record, in step 9. If it is missing, it was empty.
        match part.lock.staging().open_dir_if_there(&rel(NEW)?)? {
            Some(new) => {
                let waiting = new.names()?.into_iter().collect();
                arriving.push(Arriving { part, new, waiting });
            }
            None => part.lock.root().sync()?,
        }
    }
    // 7. Names: what is not of the new trees goes, then the new trees come.
    // Once all has come, in all roots, what else is there came later, perhaps months: it stays.
    let mut leaving = Vec::new();
    if arriving.iter().any(|it| !it.waiting.is_empty()) {
        for (number, it) in arriving.iter().enumerate() {
            leaving.extend(it.leftovers(number)?);
        }
    }
    leaving.sort();
    move_leftovers(&arriving, leaving, hook)?;
    let mut names: Vec<_> = arriving.iter().flat_map(Arriving::names).collect();
    names.sort_by_key(|(_, name)| turn_to_enter(name));
    for (it, name) in names {
        hook(Step::MoveIn)?;
        move_entry(&it.new, &name.path, it.part.lock.root(), &name.path)?;
    }
    for it in &arriving {
        it.finish(hook)?;
    }
    // 8. Both ends of the moves.
    for it in &arriving {
        hook(Step::SyncRoot)?;
        it.part.lock.root().sync()?;
        it.new.sync()?;
    }
    Ok(())
}

impl Arriving<'_> {
    /// What is in the root and not of the new tree.
    fn leftovers(&self, number: usize) -> Result<Vec<Leaving>> {
        let Decided { lock, keep, record } = self.part;
        let is_leftover = |name: &[u8]| match record.get(name) {
            // The new one is here already if it is not waiting any more.
            Some(_) => self.waiting.contains(name),
            None => name != STAGING_NAME && !keep.keep(name) && !record.kept.contains(name),
        };
        let names = lock.root().names()?.into_iter().filter(|name| is_leftover(name));
        let names = names.map(|name| rel(&name)).collect::<Result<Vec<_>>>()?;
        let holds = |path: &RelPath| {
            let new = record.get(path.as_bytes());
            Ok(new.map_or_else(Holds::default, |name| name.holds))
        };
        departure((number, lock.root()), names, holds)
    }

    /// What is still to come.
    fn names(&self) -> impl Iterator<Item = (&Self, &Name)> {
        let names = self.part.record.names.iter();
        let names = names.filter(|name| self.waiting.contains(name.path.as_bytes()));
        names.map(move |name| (self, name))
    }

    /// All has come.
    fn finish(&self, hook: Hook<'_>) -> Result<()> {
        let forgotten = self.new.names()?.len();
        if forgotten > 0 {
            return Err(Error::bug(format!("{forgotten} new entries are not in the record")));
        }
        for name in &self.part.record.names {
            if let Some(mode) = name.late_mode {
                hook(Step::LatePermission)?;
                set_mode(self.part.lock.root(), &name.path, mode)?;
            }
        }
        Ok(())
    }
}

/// What a server made while the new tree was on its way, such as the empty `InnoDB` files of
/// `--wsrep_recover`: moved aside now, because that is quick, removed in step 9.
fn move_leftovers(arriving: &[Arriving<'_>], names: Vec<Leaving>, hook: Hook<'_>) -> Result<()> {
    // In each root, the first number that may be free.
    let mut numbers = vec![0_u64; arriving.len()];
    for Leaving { root, path, .. } in names {
        let lock = arriving.get(root).map(|it| it.part.lock);
        let (Some(lock), Some(free)) = (lock, numbers.get_mut(root)) else { continue };
        let old_name = rel(OLD)?;
        if lock.staging().stat(&old_name)?.is_none() {
            lock.staging().mkdir(&old_name)?;
        }
        let old = lock.staging().open_dir(&old_name)?;
        let mut number = rel(free.to_string().as_bytes())?;
        while old.stat(&number)?.is_some() {
            *free += 1;
            number = rel(free.to_string().as_bytes())?;
        }
        hook(Step::Leftover)?;
        move_entry(lock.root(), &path, &old, &number)?;
    }
    Ok(())
}

/// Step 9. The trees are in their places and durable, so what fails here is only said.
fn clean_up(parts: &[Decided<'_>], hook: Hook<'_>) -> Result<()> {
    // Nothing is waiting in any root. From here on a follower may be without its record; before,
    // one that is has lost its files.
    if let [_, .., leader] = parts {
        hook(Step::Settle)?;
        let staging = leader.lock.staging();
        let settled = staging.rmdir(&rel(NEW)?).and_then(|_| staging.sync());
        if let Err(error) = settled {
            super::say(leader.lock, &error);
            return Ok(());
        }
    }
    for (number, Decided { lock, .. }) in parts.iter().enumerate() {
        // 9. The record first: from here on nothing of this commit is ever done again. What is old
        //    is no stale copy any more by then: the next transfer would prefer it to the new tree.
        hook(Step::DropRecord)?;
        let staging = lock.staging();
        let dropped = old_to_trash(staging).and_then(|()| {
            staging.unlink(&rel(record::FILE)?)?;
            staging.sync()
        });
        let is_leader = number + 1 == parts.len();
        if let Err(error) = dropped {
            super::say(lock, &error);
            // While a follower has its record the leader's must say that it counts.
            if !is_leader {
                return Ok(());
            }
        }
        hook(Step::DropStaging)?;
        clear_staging(lock);
    }
    Ok(())
}
