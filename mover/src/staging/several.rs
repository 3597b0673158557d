//! Several places at once: each is a directory of its own, and none is in the way of another.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{OpenSet, Owner, Place, Staging};
use crate::disk::file::FileMode;
use crate::error::{Code, Error, Result};

/// How stagings of one transfer are begun.
#[derive(Debug, Clone)]
pub(crate) struct How {
    pub(crate) owner: Owner,
    /// How files are opened for writing.
    pub(crate) mode: FileMode,
    /// All of them count together.
    pub(crate) open: Arc<OpenSet>,
}

impl How {
    pub(crate) fn new(owner: Owner, mode: FileMode) -> Self {
        Self { owner, mode, open: Arc::new(OpenSet::new()) }
    }
}

impl Staging {
    /// Begins several places, the first one as the leader. See [`Staging::begin`].
    ///
    /// # Errors
    /// As [`Staging::begin`]. E29: two are one directory, or one is inside of another that does not
    /// keep it.
    pub(crate) fn begin_all(places: Vec<Place>, how: &How) -> Result<Vec<Arc<Self>>> {
        if places.is_empty() {
            return Err(Error::bug("no place to receive into"));
        }
        let mut stagings = Vec::with_capacity(places.len());
        for place in places {
            Self::join(&mut stagings, usize::MAX, place, how)?;
        }
        Ok(stagings)
    }

    /// Begins one more place; returns its number. From `dynamic` on, one that is there already is
    /// taken as it is.
    ///
    /// # Errors
    /// As [`Staging::begin_all`].
    pub(crate) fn join(
        stagings: &mut Vec<Arc<Self>>,
        dynamic: usize,
        place: Place,
        how: &How,
    ) -> Result<usize> {
        let new = Location::of(&place.path)?;
        for (number, other) in stagings.iter().enumerate() {
            let there = Location::of(&other.root.path)?;
            if there.is(&new) && number >= dynamic {
                return Ok(number);
            }
            refuse_overlap((&new, &place), (&there, &other.root))?;
        }
        stagings.push(Arc::new(Self::begin_with(place, how)?));
        Ok(stagings.len() - 1)
    }
}

/// Where a directory is, whatever path leads there.
#[derive(Debug)]
struct Location {
    /// Without symbolic links.
    path: PathBuf,
    /// Device and inode.
    node: (u64, u64),
}

impl Location {
    fn of(path: &Path) -> Result<Self> {
        let path = fs::canonicalize(path).map_err(|error| unreachable_place(path, error))?;
        let node = node(&path)?;
        Ok(Self { path, node })
    }

    fn is(&self, other: &Self) -> bool {
        self.node == other.node
    }

    /// The name in `outer` that leads here, if this is inside of it.
    fn name_in(&self, outer: &Self) -> Result<Option<Vec<u8>>> {
        let mut inner = self.path.as_path();
        while let (Some(parent), Some(name)) = (inner.parent(), inner.file_name()) {
            if node(parent)? == outer.node {
                return Ok(Some(name.as_bytes().to_vec()));
            }
            inner = parent;
        }
        Ok(None)
    }
}

fn node(path: &Path) -> Result<(u64, u64)> {
    let stat = fs::metadata(path).map_err(|error| unreachable_place(path, error))?;
    Ok((stat.dev(), stat.ino()))
}

fn unreachable_place(path: &Path, error: std::io::Error) -> Error {
    let is_missing = error.kind() == std::io::ErrorKind::NotFound;
    let code = if is_missing { Code::Missing } else { Code::Access };
    Error::new(code, format!("cannot open directory {}", path.display())).because(error)
}

/// What a place does not keep is moved away and replaced: another place must not be in there.
fn refuse_overlap(one: (&Location, &Place), two: (&Location, &Place)) -> Result<()> {
    if one.0.is(two.0) {
        return Err(Error::new(
            Code::Unsupported,
            format!(
                "{} and {} are the same directory; it can be received into once",
                one.1.path.display(),
                two.1.path.display()
            ),
        ));
    }
    for ((inner, place), (outer, around)) in [(one, two), (two, one)] {
        let name = inner.name_in(outer)?;
        if name.is_some_and(|name| !around.keep.keep(&name)) {
            return Err(Error::new(
                Code::Unsupported,
                format!(
                    "{} is inside of {}, all of which is replaced; use another directory",
                    place.path.display(),
                    around.path.display()
                ),
            ));
        }
    }
    Ok(())
}
