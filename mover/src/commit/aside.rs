//! Making room: the old content leaves the roots and becomes the stale copies.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fastsst_proto::path::RelPath;

use super::followers::{self, FOLLOWERS, LEADER};
use super::merge::merge;
use super::order::{Holds, Leaving, departure};
use super::{Hook, Step, is_directory, move_entry, record, set_mode};
use crate::error::{Error, Result};
use crate::staging::{Lock, NEW, OLD, TRASH, clear, rel};
use crate::tree::{Dir, Stat};
use crate::walk::STAGING_NAME;

/// A root in which room is made.
pub(crate) struct Room<'a> {
    pub(crate) lock: &'a Lock,
    /// Where it is, without symbolic links.
    pub(crate) path: &'a Path,
    /// The top-level names that leave.
    pub(crate) names: Vec<RelPath>,
    /// Directories in it that may hold a server's system files.
    pub(crate) prefixes: &'a [RelPath],
}

/// The directories of a transfer that begins, in one root.
#[derive(Debug)]
pub(crate) struct Aside {
    /// The stale copy.
    pub(crate) old: Dir,
    /// The new tree, empty.
    pub(crate) new: Dir,
}

/// Told of every file that an interrupted transfer has built, before it is moved: the number of its
/// root, its path below the new tree, and what it is.
pub(crate) type OnFile<'a> = &'a mut dyn FnMut(usize, &RelPath, &Stat);

/// The first touch: moves names out of the roots into the stale copies, and makes the empty new
/// trees. The first root is the leader.
///
/// What an interrupted transfer has built is part of the stale copy, too, and goes there first. Of
/// what both have, only one can stay: see [`Better`].
///
/// InnoDB's system files go first, `ibdata1` before all, in whichever root they are, and their absence
/// is durable before anything else moves: a server that starts on what is left makes an empty set of
/// them or refuses. It can never take a mutilated tree for its own, since its position is in them.
///
/// # Errors
/// E03, E07, E09: what was moved is back in its place.
pub(crate) fn set_aside(
    rooms: &[Room<'_>],
    on_file: OnFile<'_>,
    hook: Hook<'_>,
) -> Result<Vec<Aside>> {
    let remembered = remember(rooms, hook)?;
    let mut out = MoveOut { roots: Vec::with_capacity(rooms.len()), done: Vec::new() };
    let (mut names, mut leader) = (Vec::new(), Vec::new());
    for (number, room) in rooms.iter().enumerate() {
        followers::store(room.lock.staging(), LEADER, &leader)?;
        leader.resize_with(1, || room.path.to_owned());
        let mut on_file = |path: &RelPath, stat: &Stat| on_file(number, path, stat);
        out.roots.push(Moves::begin(room, &mut on_file, hook)?);
        let holds = |name: &RelPath| Holds::of(room.lock.root(), name, room.prefixes);
        names.extend(departure((number, room.lock.root()), room.names.clone(), holds)?);
    }
    names.sort();
    match out.all(names, hook) {
        Ok(()) => {}
        Err(Stopped::Failed(error)) => {
            out.undo()?;
            if let (Some(before), Some(leader)) = (remembered, rooms.first()) {
                followers::store(leader.lock.staging(), FOLLOWERS, &before)?;
            }
            return Err(error);
        }
        Err(stopped @ Stopped::Crashed(_)) => return Err(stopped.into_error()),
    }
    let roots = out.roots.into_iter();
    roots.map(|root| root.complete(hook)).collect()
}

/// The leader notes who follows it; returns what it had noted before, if that was something else.
fn remember(rooms: &[Room<'_>], hook: Hook<'_>) -> Result<Option<Vec<PathBuf>>> {
    let Some((leader, others)) = rooms.split_first() else { return Ok(None) };
    let (staging, paths) = (leader.lock.staging(), others.iter().map(|it| it.path.to_owned()));
    let (before, now) = (followers::load(staging, FOLLOWERS)?, paths.collect::<Vec<_>>());
    let is_new = before != now;
    if is_new {
        hook(Step::Remember)?;
        followers::store(staging, FOLLOWERS, &now)?;
    }
    if !now.is_empty() {
        // Whoever wrote the list may have been stopped before this.
        leader.lock.root().sync()?;
    }
    Ok(is_new.then_some(before))
}

/// Why moving out stopped.
enum Stopped {
    /// A crash, or a test that wants one.
    Crashed(Error),
    /// Something cannot be moved.
    Failed(Error),
}

impl Stopped {
    fn into_error(self) -> Error {
        match self {
            Self::Crashed(error) | Self::Failed(error) => error,
        }
    }
}

/// Which of two entries of the same name is worth more, one in the root and one that an interrupted
/// transfer has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Better {
    /// In the root is only the empty set of files that a server makes before it asks for a transfer.
    Left,
    /// In the root are directories, too: since the interruption somebody has made, or restored, a
    /// data directory there.
    Root,
}

impl Better {
    fn of((root, names): (&Dir, &[RelPath]), old: &Dir) -> Result<Self> {
        for name in names {
            if is_directory(root, name)? && old.stat(name)?.is_some() {
                return Ok(Self::Root);
            }
        }
        Ok(Self::Left)
    }
}

/// Moves out of several roots that can still be undone.
struct MoveOut<'a> {
    roots: Vec<Moves<'a>>,
    /// The root of each move.
    done: Vec<usize>,
}

impl MoveOut<'_> {
    fn all(&mut self, names: Vec<Leaving>, hook: Hook<'_>) -> Result<(), Stopped> {
        let mut unsynced = BTreeSet::new();
        for Leaving { root, path, is_system, .. } in names {
            if !is_system {
                self.sync(std::mem::take(&mut unsynced), hook)?;
            }
            hook(Step::MoveOut).map_err(Stopped::Crashed)?;
            let moves = self.roots.get_mut(root);
            let moves =
                moves.ok_or_else(|| Stopped::Failed(Error::bug("a name without a root")))?;
            moves.one(path).map_err(Stopped::Failed)?;
            self.done.push(root);
            if is_system {
                unsynced.insert(root);
            }
        }
        self.sync((0..self.roots.len()).collect(), hook)
    }

    fn sync(&self, roots: BTreeSet<usize>, hook: Hook<'_>) -> Result<(), Stopped> {
        for root in roots.into_iter().filter_map(|root| self.roots.get(root)) {
            hook(Step::SyncMoveOut).map_err(Stopped::Crashed)?;
            root.lock.root().sync().map_err(Stopped::Failed)?;
        }
        Ok(())
    }

    /// Puts everything back, the system files last.
    fn undo(&mut self) -> Result<()> {
        while let Some(root) = self.done.pop() {
            if let Some(moves) = self.roots.get_mut(root) {
                moves.undo_last();
            }
        }
        self.roots.iter().try_for_each(Moves::leave)
    }
}

/// Moves out of one root.
struct Moves<'a> {
    lock: &'a Lock,
    old: Dir,
    /// Whether this transfer has made `old`.
    is_first: bool,
    better: Better,
    /// For what is there twice; made when it is needed.
    trash: OnceCell<Dir>,
    done: Vec<Moved>,
}

/// What was done for one name.
struct Moved {
    path: RelPath,
    to: To,
    /// The permissions that had to be changed for it.
    mode: Option<u16>,
}

/// Where an entry of the root went.
enum To {
    Stale,
    /// To the stale copy, whose own one went to the trash by this name.
    StaleInsteadOf(RelPath),
    /// To the trash by this name.
    Trash(RelPath),
}

impl<'a> Moves<'a> {
    /// Makes what an interrupted transfer has built part of the stale copy.
    fn begin(room: &Room<'a>, on_file: super::merge::OnFile<'_>, hook: Hook<'_>) -> Result<Self> {
        let (lock, staging) = (room.lock, room.lock.staging());
        lock.touch();
        // Files get their final permissions in there, so nobody else may look in, whoever made it.
        set_mode(lock.root(), &rel(STAGING_NAME)?, 0o700)?;
        // Without being valid a record is worth nothing.
        for name in [record::FILE, TRASH] {
            clear(staging, &rel(name)?)?;
        }
        let (old_name, new_name) = (rel(OLD)?, rel(NEW)?);
        let is_first = staging.stat(&old_name)?.is_none();
        if is_first {
            staging.mkdir(&old_name)?;
        }
        let old = staging.open_dir(&old_name)?;
        if let Some(built) = staging.open_dir_if_there(&new_name)? {
            merge(&built, &old, on_file, hook)?;
            staging.rmdir(&new_name)?;
        }
        let better = Better::of((lock.root(), &room.names), &old)?;
        Ok(Self { lock, old, is_first, better, trash: OnceCell::new(), done: Vec::new() })
    }

    /// All roots have made room.
    fn complete(self, hook: Hook<'_>) -> Result<Aside> {
        let (staging, new_name) = (self.lock.staging(), rel(NEW)?);
        hook(Step::DropTrash)?;
        clear(staging, &rel(TRASH)?)?;
        staging.mkdir(&new_name)?;
        self.old.sync()?;
        Ok(Aside { old: self.old, new: staging.open_dir(&new_name)? })
    }

    fn one(&mut self, path: RelPath) -> Result<()> {
        let moved = self.move_out(path)?;
        self.done.push(moved);
        Ok(())
    }

    fn move_out(&self, path: RelPath) -> Result<Moved> {
        let (root, old) = (self.lock.root(), &self.old);
        if old.stat(&path)?.is_none() {
            let mode = move_entry(root, &path, old, &path)?;
            return Ok(Moved { path, to: To::Stale, mode });
        }
        let number = rel(self.done.len().to_string().as_bytes())?;
        let trash = self.trash()?;
        if self.better == Better::Left {
            let mode = move_entry(root, &path, trash, &number)?;
            return Ok(Moved { path, to: To::Trash(number), mode });
        }
        move_entry(old, &path, trash, &number)?;
        match move_entry(root, &path, old, &path) {
            Ok(mode) => Ok(Moved { path, to: To::StaleInsteadOf(number), mode }),
            Err(error) => {
                move_entry(trash, &number, old, &path)?;
                Err(error)
            }
        }
    }

    fn trash(&self) -> Result<&Dir> {
        if let Some(trash) = self.trash.get() {
            return Ok(trash);
        }
        let (staging, name) = (self.lock.staging(), rel(TRASH)?);
        staging.mkdir(&name)?;
        let made = staging.open_dir(&name)?;
        Ok(self.trash.get_or_init(|| made))
    }

    fn undo_last(&mut self) {
        let Some(moved) = self.done.pop() else { return };
        if let Err(error) = self.put_back(&moved) {
            tracing::error!("{} stays in {}: {error}", moved.path, self.lock.staging().place());
        }
    }

    fn put_back(&self, Moved { path, to, mode }: &Moved) -> Result<()> {
        let (root, old) = (self.lock.root(), &self.old);
        match to {
            To::Stale => move_entry(old, path, root, path)?,
            To::Trash(number) => move_entry(self.trash()?, number, root, path)?,
            To::StaleInsteadOf(number) => {
                move_entry(old, path, root, path)?;
                move_entry(self.trash()?, number, old, path)?
            }
        };
        mode.map_or(Ok(()), |mode| set_mode(root, path, mode))
    }

    /// Only what this transfer has made is gone again; the next one finds the rest.
    fn leave(&self) -> Result<()> {
        if self.is_first && self.old.names()?.is_empty() {
            clear(self.lock.staging(), &rel(OLD)?)?;
            followers::store(self.lock.staging(), LEADER, &[])?;
            self.lock.untouch();
        }
        Ok(())
    }
}
