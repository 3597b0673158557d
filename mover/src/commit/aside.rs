//! Making room: the old content leaves the root and becomes the stale copy.

use std::cell::OnceCell;

use fastsst_proto::path::RelPath;

use super::merge::{OnFile, merge};
use super::order::{Leaving, departure};
use super::{Hook, Step, is_directory, move_entry, record, set_mode};
use crate::error::{Error, Result};
use crate::staging::{Lock, NEW, OLD, TRASH, clear, rel};
use crate::tree::Dir;
use crate::walk::STAGING_NAME;

/// The directories of a transfer that begins.
#[derive(Debug)]
pub(crate) struct Aside {
    /// The stale copy.
    pub(crate) old: Dir,
    /// The new tree, empty.
    pub(crate) new: Dir,
}

/// The first touch: moves `names` out of the root into the stale copy, and makes the empty new tree.
///
/// What an interrupted transfer has built is part of the stale copy, too, and goes there first. Of
/// what both have, only one can stay: see [`Better`].
///
/// InnoDB's system files go first, `ibdata1` before all, and their absence is durable before
/// anything else moves: a server that starts on what is left makes an empty set of them or
/// refuses. It can never take a mutilated tree for its own, since its position is in them.
pub(crate) fn set_aside(
    lock: &Lock,
    names: Vec<RelPath>,
    on_file: OnFile<'_>,
    hook: Hook<'_>,
) -> Result<Aside> {
    let staging = lock.staging();
    lock.touch();
    // Files get their final permissions in there, so nobody else may look in, whoever made it.
    set_mode(lock.root(), &rel(STAGING_NAME)?, 0o700)?;
    // Without being valid a record is worth nothing.
    for name in [record::FILE, TRASH] {
        clear(staging, &rel(name)?)?;
    }
    let (old_name, new_name, trash_name) = (rel(OLD)?, rel(NEW)?, rel(TRASH)?);
    let is_first = staging.stat(&old_name)?.is_none();
    if is_first {
        staging.mkdir(&old_name)?;
    }
    let old = staging.open_dir(&old_name)?;
    if let Some(built) = staging.open_dir_if_there(&new_name)? {
        merge(&built, &old, on_file, hook)?;
        staging.rmdir(&new_name)?;
    }
    let better = Better::of((lock.root(), &names), &old)?;
    let mut out = Moves {
        from: lock.root(),
        old: &old,
        staging,
        better,
        trash: OnceCell::new(),
        done: Vec::new(),
    };
    match out.all(departure(lock.root(), names)?, hook) {
        Ok(()) => {}
        Err(Stopped::Failed(error)) => {
            out.undo();
            // Only what this transfer has made is gone again; the next one finds the rest.
            if is_first && old.names()?.is_empty() {
                clear(staging, &old_name)?;
                lock.untouch();
            }
            return Err(error);
        }
        Err(stopped @ Stopped::Crashed(_)) => return Err(stopped.into_error()),
    }
    hook(Step::DropTrash)?;
    clear(staging, &trash_name)?;
    staging.mkdir(&new_name)?;
    old.sync()?;
    let new = staging.open_dir(&new_name)?;
    Ok(Aside { old, new })
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

/// Moves out of the root that can still be undone.
struct Moves<'a> {
    from: &'a Dir,
    old: &'a Dir,
    staging: &'a Dir,
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

impl Moves<'_> {
    fn all(&mut self, names: Vec<Leaving>, hook: Hook<'_>) -> Result<(), Stopped> {
        let mut is_synced = true;
        for Leaving { path, is_system } in names {
            if !is_system && !is_synced {
                hook(Step::SyncMoveOut).map_err(Stopped::Crashed)?;
                self.from.sync().map_err(Stopped::Failed)?;
                is_synced = true;
            }
            hook(Step::MoveOut).map_err(Stopped::Crashed)?;
            let moved = self.one(path).map_err(Stopped::Failed)?;
            is_synced &= !is_system;
            self.done.push(moved);
        }
        hook(Step::SyncMoveOut).map_err(Stopped::Crashed)?;
        self.from.sync().map_err(Stopped::Failed)
    }

    fn one(&mut self, path: RelPath) -> Result<Moved> {
        if self.old.stat(&path)?.is_none() {
            let mode = move_entry(self.from, &path, self.old, &path)?;
            return Ok(Moved { path, to: To::Stale, mode });
        }
        let number = rel(self.done.len().to_string().as_bytes())?;
        let trash = self.trash()?;
        if self.better == Better::Left {
            let mode = move_entry(self.from, &path, trash, &number)?;
            return Ok(Moved { path, to: To::Trash(number), mode });
        }
        move_entry(self.old, &path, trash, &number)?;
        match move_entry(self.from, &path, self.old, &path) {
            Ok(mode) => Ok(Moved { path, to: To::StaleInsteadOf(number), mode }),
            Err(error) => {
                move_entry(trash, &number, self.old, &path)?;
                Err(error)
            }
        }
    }

    fn trash(&self) -> Result<&Dir> {
        if let Some(trash) = self.trash.get() {
            return Ok(trash);
        }
        let name = rel(TRASH)?;
        self.staging.mkdir(&name)?;
        let made = self.staging.open_dir(&name)?;
        Ok(self.trash.get_or_init(|| made))
    }

    /// Puts everything back, the system files last.
    fn undo(&mut self) {
        while let Some(moved) = self.done.pop() {
            if let Err(error) = self.undo_one(&moved) {
                tracing::error!("{} stays in {}: {error}", moved.path, self.staging.place());
            }
        }
    }

    fn undo_one(&self, Moved { path, to, mode }: &Moved) -> Result<()> {
        match to {
            To::Stale => move_entry(self.old, path, self.from, path)?,
            To::Trash(number) => move_entry(self.trash()?, number, self.from, path)?,
            To::StaleInsteadOf(number) => {
                move_entry(self.old, path, self.from, path)?;
                move_entry(self.trash()?, number, self.old, path)?
            }
        };
        mode.map_or(Ok(()), |mode| set_mode(self.from, path, mode))
    }
}
