//! The first touch: what is in the roots becomes the stale copies, and new trees begin.

use std::collections::HashMap;
use std::sync::Arc;

use fastsst_proto::FileHash;
use fastsst_proto::path::RelPath;

use super::journal::{self, Journal};
use super::stale::Stale;
use super::{Staging, refuse_mount_points};
use crate::commit::{self, Aside, Hook, Room};
use crate::error::{Error, Result};
use crate::in_use;

/// What the journal of an interrupted transfer says.
struct Left {
    records: HashMap<RelPath, journal::Record>,
    /// Of files that are as it says.
    vouched: HashMap<RelPath, FileHash>,
}

impl Staging {
    /// Everything in the root that is not kept becomes the stale copy, and the new tree begins.
    ///
    /// # Errors
    /// E29: a mount point is in the way. E30: a server uses the old files. E03, E09: something
    /// cannot be moved; what was moved is put back.
    pub fn prepare(&self) -> Result<()> {
        self.prepare_with(&mut |_| Ok(()))
    }

    /// [`Staging::prepare`], calling `hook` before each step, for tests that crash there.
    ///
    /// # Errors
    /// As [`Staging::prepare`], and those of `hook`.
    pub fn prepare_with(&self, hook: Hook<'_>) -> Result<()> {
        prepare_each(&[self], hook)
    }

    /// [`Staging::prepare_with`] for all roots of a transfer, the leader first: either all of them
    /// are prepared, or none.
    ///
    /// # Errors
    /// As [`Staging::prepare_with`].
    pub fn prepare_all(stagings: &[Arc<Self>], hook: Hook<'_>) -> Result<()> {
        prepare_each(&stagings.iter().map(|staging| &**staging).collect::<Vec<_>>(), hook)
    }

    /// Where in this root declared roots go, besides its top. To be said before it is prepared.
    pub(crate) fn expect_prefixes(&self, prefixes: Vec<RelPath>) -> Result<()> {
        self.prefixes.set(prefixes).map_err(|_set| Error::bug("a root gets its prefixes twice"))
    }

    pub(crate) fn prefixes(&self) -> &[RelPath] {
        self.prefixes.get().map_or(&[], Vec::as_slice)
    }

    fn may_be_prepared(&self) -> Result<()> {
        if self.shared.new.get().is_some() {
            return Err(again());
        }
        let names = self.replaced_names()?;
        refuse_mount_points(&self.dir, &names)?;
        // Where nothing is replaced a server is not disturbed.
        if names.is_empty() { Ok(()) } else { in_use::check_with(&self.dir, self.prefixes()) }
    }

    fn begin_tree(&self, Aside { old, new }: Aside, left: Left) -> Result<()> {
        say_what_was_left(&left.vouched, left.records.len());
        let staging = self.lock.staging();
        let journal = Journal::begin(staging, &self.root.name)?;
        staging.sync()?;
        self.dir.sync()?;
        let stale = Stale::new(old, left.vouched)?;
        self.shared.stale.set(stale).map_err(|_set| again())?;
        self.shared.journal.set(journal).map_err(|_set| again())?;
        self.shared.new.set(new).map_err(|_set| again())
    }
}

fn prepare_each(stagings: &[&Staging], hook: Hook<'_>) -> Result<()> {
    for (number, staging) in stagings.iter().enumerate() {
        staging.run(|| staging.may_be_prepared())?;
        // A data directory has files with locks; others may be shared by mistake.
        if number > 0 {
            staging.run(|| in_use::check_writers(&staging.dir, &staging.replaced_names()?))?;
        }
    }
    make_room(stagings, hook).map_err(|error| {
        stagings.iter().fold(error, |error, staging| staging.shared.health.remember(error))
    })
}

fn make_room(stagings: &[&Staging], hook: Hook<'_>) -> Result<()> {
    let (mut rooms, mut left) = (Vec::new(), Vec::new());
    for staging in stagings {
        let lock = &staging.lock;
        rooms.push(Room {
            lock,
            path: &staging.path,
            names: staging.replaced_names()?,
            prefixes: staging.prefixes(),
        });
        let records = journal::load(lock.staging(), &staging.root.name)?;
        left.push(Left { records, vouched: HashMap::new() });
    }
    let asides = commit::set_aside(
        &rooms,
        &mut |root, path, stat| {
            let Some(Left { records, vouched }) = left.get_mut(root) else { return };
            if let Some(record) = records.remove(path).filter(|it| it.is_about(stat)) {
                vouched.insert(path.clone(), record.hash);
            }
        },
        hook,
    )?;
    for ((staging, aside), left) in stagings.iter().zip(asides).zip(left) {
        staging.begin_tree(aside, left)?;
    }
    share_room(stagings)
}

/// Roots on one file system give each other the room of their stale copies.
fn share_room(stagings: &[&Staging]) -> Result<()> {
    for staging in stagings {
        let device = staging.dir.stat_self()?.dev;
        let mut neighbours = Vec::new();
        for other in stagings.iter().filter(|other| other.number != staging.number) {
            if other.dir.stat_self()?.dev == device {
                neighbours.push(Arc::downgrade(&other.shared));
            }
        }
        staging.shared.neighbours.set(neighbours).map_err(|_set| again())?;
    }
    Ok(())
}

/// What the next lines of the log follow from.
fn say_what_was_left(vouched: &HashMap<RelPath, FileHash>, changed: usize) {
    if !vouched.is_empty() {
        tracing::info!(
            "an interrupted transfer has left {} files that are complete and durable",
            vouched.len()
        );
    }
    if changed > 0 {
        tracing::info!(
            "{changed} files that its journal names are gone or have changed; they are compared, or \
             sent again"
        );
    }
}

fn again() -> Error {
    Error::bug("a staging is prepared twice")
}
