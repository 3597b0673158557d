//! Finds everything below a root, in a fixed order, without following any link.
//!
//! A directory comes before what is in it, and what is in it comes in bytewise order of names.
//! Held directory descriptors keep the walk inside its root (see [`crate::tree`]). What vanishes
//! while the walk goes on is left out silently, as the next walk would; what cannot be read is an
//! error, because a copy that lacks it would look complete.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use fastsst_proto::limits::{FILE_BYTES_MAX, PATH_DEPTH_MAX};
use fastsst_proto::path::{PathError, RelPath};

use crate::error::{Code, Error, Result};
use crate::tree::{Dir, FileKind, Stat};

/// Name, at the top of a root, of what a joiner keeps there while it receives.
pub const STAGING_NAME: &[u8] = b".fastsst";

/// How an entry is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Not at all; of a directory, nothing in it either.
    Skip,
    /// In the order of the walk.
    Send,
    /// After everything with [`Class::Send`] or a lower number.
    Last(u8),
    /// It may change while it is sent: as it was long when it was found, changes tolerated.
    Volatile,
}

/// Decides what is sent and how.
pub trait Filter: fmt::Debug + Send + Sync {
    /// The class of an entry; asked once per entry and walk.
    fn class(&self, path: &RelPath, kind: FileKind) -> Class;
}

/// Sends everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllFiles;

impl Filter for AllFiles {
    fn class(&self, _path: &RelPath, _kind: FileKind) -> Class {
        Class::Send
    }
}

/// A tree to be sent.
#[derive(Debug, Clone)]
pub struct SourceRoot {
    /// What donor and joiner call it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What of it is sent.
    pub filter: Arc<dyn Filter>,
}

impl SourceRoot {
    /// Opens the root, for [`walk`] and for reading what it finds.
    ///
    /// # Errors
    /// As [`Dir::open_source`].
    pub fn open(&self) -> Result<Dir> {
        Dir::open_source(&self.path)
    }
}

/// A file, directory or symbolic link that the filter wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is below the root.
    pub path: RelPath,
    /// What it is. Names with equal `dev` and `ino` and `nlink` above 1 are one file.
    pub stat: Stat,
    /// Content of a symbolic link; absent otherwise.
    pub link_target: Option<Vec<u8>>,
    /// As the filter said; never [`Class::Skip`].
    pub class: Class,
}

/// What a walk came across.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalkTotals {
    /// Files, every name of a hard-linked file counted.
    pub files: u64,
    /// Directories, the root not counted.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Sum of the sizes of all files, every name counted. Unit: bytes.
    pub bytes: u64,
    /// Sockets, pipes and devices, which were left out.
    pub specials: u64,
    /// Entries that were gone before they could be looked at.
    pub vanished: u64,
}

/// Walks over everything in `dir` and gives what `filter` wants to `sink`, which may stop it.
///
/// # Errors
/// E08 when something cannot be read, E23 when a directory was swapped for a link, E29 when a
/// path or file is beyond the limits of the protocol, and whatever `sink` returns.
pub fn walk(
    dir: &Dir,
    filter: &dyn Filter,
    sink: &mut dyn FnMut(Found) -> Result<()>,
) -> Result<WalkTotals> {
    let device = dir.stat_self()?.dev;
    let mut walker = Walker { filter, sink, totals: WalkTotals::default() };
    walker.enter(dir, &Place { path: None, depth: 0, device })?;
    Ok(walker.totals)
}

struct Walker<'a> {
    filter: &'a dyn Filter,
    sink: &'a mut dyn FnMut(Found) -> Result<()>,
    totals: WalkTotals,
}

/// The directory the walk is in.
struct Place {
    /// Absent for the root.
    path: Option<RelPath>,
    /// Directories below the root. Range: at most [`PATH_DEPTH_MAX`], which bounds the recursion.
    depth: usize,
    /// Its file system.
    device: u64,
}

impl Walker<'_> {
    fn enter(&mut self, dir: &Dir, place: &Place) -> Result<()> {
        for name in dir.names()? {
            if place.path.is_none() && name == STAGING_NAME {
                continue;
            }
            let path = join(place, &name).map_err(|error| {
                let what = format!("a path in {} is beyond the limits", dir.place());
                Error::new(Code::Unsupported, what).because(error)
            })?;
            self.look_at(dir, place, path)?;
        }
        Ok(())
    }

    fn look_at(&mut self, dir: &Dir, place: &Place, path: RelPath) -> Result<()> {
        let name = in_directory(&path)?;
        let Some(stat) = dir.stat(&name)? else {
            self.totals.vanished += 1;
            return Ok(());
        };
        let class = self.filter.class(&path, stat.kind);
        if class == Class::Skip {
            return Ok(());
        }
        match stat.kind {
            FileKind::File => self.file(Found { path, stat, link_target: None, class }),
            FileKind::Symlink => match dir.read_link(&name)? {
                Some(target) => {
                    self.totals.symlinks += 1;
                    (self.sink)(Found { path, stat, link_target: Some(target), class })
                }
                None => {
                    self.totals.vanished += 1;
                    Ok(())
                }
            },
            FileKind::Directory => {
                self.directory(dir, place, Found { path, stat, link_target: None, class })
            }
            FileKind::Fifo | FileKind::Socket | FileKind::Device => {
                self.totals.specials += 1;
                tracing::warn!("{} {} is left out", stat.kind, dir.place_of(&name));
                Ok(())
            }
        }
    }

    fn file(&mut self, found: Found) -> Result<()> {
        if found.stat.size > FILE_BYTES_MAX {
            let what = format!("{} has {} bytes, which is too large", found.path, found.stat.size);
            return Err(Error::new(Code::Unsupported, what));
        }
        self.totals.files += 1;
        self.totals.bytes += found.stat.size;
        (self.sink)(found)
    }

    fn directory(&mut self, dir: &Dir, place: &Place, found: Found) -> Result<()> {
        let name = in_directory(&found.path)?;
        // Opened before it is reported: what is reported can be entered.
        let Some(inner) = dir.open_dir_if_there(&name)? else {
            self.totals.vanished += 1;
            return Ok(());
        };
        let inner_place = Place {
            path: Some(found.path.clone()),
            depth: place.depth + 1,
            device: found.stat.dev,
        };
        if inner_place.device != place.device {
            tracing::warn!("{} is another file system; it is included", inner.place());
        }
        self.totals.directories += 1;
        (self.sink)(found)?;
        self.enter(&inner, &inner_place)
    }
}

fn join(place: &Place, name: &[u8]) -> Result<RelPath, PathError> {
    debug_assert!(place.depth <= PATH_DEPTH_MAX, "RelPath bounds the depth");
    match &place.path {
        Some(path) => path.join(name),
        None => RelPath::parse(name),
    }
}

/// The last component of `path` as a path of its own.
fn in_directory(path: &RelPath) -> Result<RelPath> {
    RelPath::parse(path.name()).map_err(|error| Error::bug("a name is no path").because(error))
}

#[cfg(test)]
mod tests;
