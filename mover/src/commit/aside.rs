//! Making room: the old content leaves the root.

use fastsst_proto::path::RelPath;

use super::order::{Leaving, departure};
use super::{Hook, Step, move_entry, record, set_mode};
use crate::error::{Error, Result};
use crate::staging::{Lock, NEW, OLD, clear, rel};
use crate::tree::Dir;
use crate::walk::STAGING_NAME;

/// The first touch: moves `names` out of the root, removes them, and makes the empty new tree.
///
/// InnoDB's system files go first, `ibdata1` before all, and their absence is durable before
/// anything else moves: a server that starts on what is left makes an empty set of them or
/// refuses. It can never take a mutilated tree for its own, since its position is in them.
pub(crate) fn set_aside(lock: &Lock, names: Vec<RelPath>, hook: Hook<'_>) -> Result<Dir> {
    let staging = lock.staging();
    lock.touch();
    // Files get their final permissions in there, so nobody else may look in, whoever made it.
    set_mode(lock.root(), &rel(STAGING_NAME)?, 0o700)?;
    // Whatever an earlier transfer left: without a valid record it is worth nothing.
    for name in [record::FILE, NEW, OLD] {
        clear(staging, &rel(name)?)?;
    }
    let old_name = rel(OLD)?;
    staging.mkdir(&old_name)?;
    let old = staging.open_dir(&old_name)?;
    let mut out = Moves { from: lock.root(), to: &old, done: Vec::new() };
    if let Err(stopped) = out.all(departure(lock.root(), names)?, hook) {
        if let Stopped::Failed(error) = stopped {
            out.undo();
            clear(staging, &old_name)?;
            lock.untouch();
            return Err(error);
        }
        return Err(stopped.into_error());
    }
    hook(Step::DropOld)?;
    clear(staging, &old_name)?;
    let new_name = rel(NEW)?;
    staging.mkdir(&new_name)?;
    staging.sync()?;
    lock.root().sync()?;
    staging.open_dir(&new_name)
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

/// Moves out of the root that can still be undone.
struct Moves<'a> {
    from: &'a Dir,
    to: &'a Dir,
    /// With the permissions that had to be changed for it.
    done: Vec<(RelPath, Option<u16>)>,
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
            let mode = move_entry(self.from, &path, self.to, &path).map_err(Stopped::Failed)?;
            is_synced &= !is_system;
            self.done.push((path, mode));
        }
        hook(Step::SyncMoveOut).map_err(Stopped::Crashed)?;
        self.from.sync().map_err(Stopped::Failed)
    }

    /// Puts everything back, the system files last.
    fn undo(&mut self) {
        while let Some((path, mode)) = self.done.pop() {
            let back = move_entry(self.to, &path, self.from, &path)
                .and_then(|_| mode.map_or(Ok(()), |mode| set_mode(self.from, &path, mode)));
            if let Err(error) = back {
                tracing::error!("{} stays in {}: {error}", path, self.to.place());
            }
        }
    }
}
