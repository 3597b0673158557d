//! Removing and measuring trees that were somebody's.

use std::collections::HashSet;

use fastsst_proto::path::RelPath;
use rustix::fs::{AtFlags, Mode};

use super::rel;
use crate::error::{Code, Error, Result};
use crate::tree::{Dir, FileKind};

/// Removes the entry `name` of our own directory `dir`, with everything in it, also where
/// directories forbid it to their owner.
///
/// # Errors
/// E03, E09.
pub(crate) fn clear(dir: &Dir, name: &RelPath) -> Result<()> {
    match dir.remove_tree(name) {
        Err(error) if error.code() == Code::Access => {
            make_writable(dir, name, DEPTH_MAX)?;
            dir.remove_tree(name).map(|_| ())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

fn make_writable(dir: &Dir, name: &RelPath, depth_left: usize) -> Result<()> {
    let Some(stat) = dir.stat(name)? else { return Ok(()) };
    if stat.kind != FileKind::Directory || depth_left == 0 {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(0o700);
    rustix::fs::chmodat(dir, name.as_bytes(), mode, AtFlags::empty())
        .map_err(|errno| Error::write(dir.place_of(name), errno.into()))?;
    let inner = dir.open_dir(name)?;
    for name in inner.names()? {
        make_writable(&inner, &rel(&name)?, depth_left - 1)?;
    }
    Ok(())
}

/// Space that removing these entries of `dir` sets free. Unit: bytes.
///
/// What cannot be examined or is on another file system does not count.
///
/// # Errors
/// E09: `dir` cannot be examined.
pub(super) fn allocated_bytes(dir: &Dir, names: &[RelPath]) -> Result<u64> {
    allocated_bytes_but(dir, names, &[]).map(|(bytes, _)| bytes)
}

/// [`allocated_bytes`], and the first of the directories with these inodes (on the file system of
/// `dir`) that is among them, by its number.
///
/// # Errors
/// As [`allocated_bytes`].
pub(super) fn allocated_bytes_but(
    dir: &Dir,
    names: &[RelPath],
    others: &[u64],
) -> Result<(u64, Option<usize>)> {
    let device = dir.stat_self()?.dev;
    let mut sum = Sum { device, seen: HashSet::new(), bytes: 0, others, met: None };
    for name in names {
        sum.add(dir, name, DEPTH_MAX);
    }
    Ok((sum.bytes, sum.met))
}

struct Sum<'a> {
    device: u64,
    /// Inodes with several names that were counted.
    seen: HashSet<u64>,
    bytes: u64,
    /// Inodes of directories that must not be there.
    others: &'a [u64],
    met: Option<usize>,
}

impl Sum<'_> {
    fn add(&mut self, dir: &Dir, name: &RelPath, depth_left: usize) {
        let Ok(Some(stat)) = dir.stat(name) else { return };
        let is_first = stat.nlink < 2 || self.seen.insert(stat.ino);
        if stat.dev != self.device || !is_first {
            return;
        }
        self.bytes = self.bytes.saturating_add(stat.blocks.saturating_mul(512));
        if stat.kind != FileKind::Directory || depth_left == 0 {
            return;
        }
        self.met = self.met.or_else(|| self.others.iter().position(|ino| *ino == stat.ino));
        let Ok(inner) = dir.open_dir(name) else { return };
        for name in inner.names().unwrap_or_default() {
            if let Ok(name) = rel(&name) {
                self.add(&inner, &name, depth_left - 1);
            }
        }
    }
}

/// How deep trees are followed: one descriptor is held per level, and none of ours is deeper.
const DEPTH_MAX: usize = 4 * fastsst_proto::limits::PATH_DEPTH_MAX;
