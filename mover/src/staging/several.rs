//! Several places at once: each is a directory of its own, and none is in the way of another.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::OpenSet;
use super::{Owner, Place, Staging, rel};
use crate::commit;
use crate::disk::file::FileMode;
use crate::error::{Code, Error, Result};
use crate::tree::Dir;
use crate::walk::STAGING_NAME;

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
        for place in &places {
            refuse_overlaps(place, &stagings)?;
            stagings.push(Arc::new(Self::begin_with(place.clone(), how, &places)?));
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
        let node = Location::of(&place.path)?.node;
        for (number, other) in stagings.iter().enumerate().skip(dynamic) {
            if Location::of(&other.path)?.node == node {
                return Ok(number);
            }
        }
        refuse_overlaps(&place, stagings)?;
        stagings.push(Arc::new(Self::begin_with(place, how, &[])?));
        Ok(stagings.len() - 1)
    }

    /// Whether an interrupted transfer into this leader has touched other places, too.
    ///
    /// # Errors
    /// E08.
    pub(crate) fn has_forgotten(&self) -> Result<bool> {
        Ok(!commit::load_list(self.lock.staging(), commit::FOLLOWERS)?.is_empty())
    }

    /// Begins the places that an interrupted transfer into the leader has touched and this one would
    /// not: what it has left there goes when this one commits. What is in them stays.
    ///
    /// # Errors
    /// As [`Staging::begin`].
    pub(crate) fn join_forgotten(stagings: &mut Vec<Arc<Self>>, how: &How) -> Result<()> {
        let Some(leader) = stagings.first() else { return Ok(()) };
        let leader = Arc::clone(leader);
        for path in commit::load_list(leader.lock.staging(), commit::FOLLOWERS)? {
            if !follows(&path, leader.path())? {
                continue;
            }
            let keep = Arc::new(commit::KeepAll);
            let place = Place { name: FORGOTTEN.to_owned(), path, keep };
            // One that takes part, or is inside of one and goes with its old content.
            if refuse_overlaps(&place, stagings).is_ok() {
                tracing::info!(
                    "what an earlier transfer has left in {} goes",
                    place.path.display()
                );
                stagings.push(Arc::new(Self::begin_with(place, how, &[])?));
            }
        }
        Ok(())
    }
}

/// Whether a transfer into `leader` has left something in the place at `path`.
fn follows(path: &Path, leader: &Path) -> Result<bool> {
    let dir = match Dir::open_target(path) {
        Err(error) if error.code() == Code::Missing => return Ok(false),
        dir => dir?,
    };
    let staging = dir.open_dir_if_there(&rel(STAGING_NAME)?)?;
    let whose = staging.map(|staging| commit::load_list(&staging, commit::LEADER)).transpose()?;
    Ok(whose.is_some_and(|paths| paths == [leader]))
}

/// What a place is called that no longer takes part.
const FORGOTTEN: &str = "forgotten";

fn refuse_overlaps(place: &Place, stagings: &[Arc<Staging>]) -> Result<()> {
    let new = Location::of(&place.path)?;
    stagings.iter().try_for_each(|other| {
        refuse_overlap((&new, place), (&Location::of(&other.path)?, &other.root))
    })
}

/// A directory's path without symbolic links.
///
/// # Errors
/// E02, E03.
pub(super) fn canonical(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|error| unreachable_place(path, error))
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
        let path = canonical(path)?;
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
