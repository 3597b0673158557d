//! Whether the donor's files fit, before anything is touched.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fastsst_proto::frame::Declaration;

use super::targets::Layout;
use crate::error::{Code, Error, Result};
use crate::send::bytes_property;
use crate::staging::Staging;
use crate::summary::mib;

/// Room to leave on a file system. Why: directories, the commit record, the server's first log
/// records; a file system filled to the last block fails in odd places.
pub(super) const RESERVE: u64 = 16 << 20;

/// A file system that some of the places are on.
#[derive(Debug)]
struct Room<'a> {
    places: Vec<&'a Staging>,
    /// Unit: bytes.
    free: u64,
    /// What goes. Unit: bytes.
    replaced: u64,
    /// Of the roots whose size the donor has told. Unit: bytes.
    needed: u64,
}

/// Checks that what is declared fits when the old content is gone, on each file system.
///
/// # Errors
/// E07 with both figures.
pub(super) fn check(layout: &Layout, declaration: &Declaration) -> Result<()> {
    let mut rooms = BTreeMap::new();
    for staging in layout.stagings() {
        let (free, replaced) = (staging.free_bytes()?, staging.replaced_bytes()?);
        let room = rooms.entry(staging.device()?);
        let room = room.or_insert(Room { places: Vec::new(), free, replaced: 0, needed: 0 });
        room.places.push(staging);
        room.replaced = room.replaced.saturating_add(replaced);
    }
    let mut told = 0_u64;
    for (number, name) in declaration.roots.iter().enumerate() {
        let bytes = bytes_of(declaration, name);
        let (Some(bytes), Some(staging)) = (bytes, layout.staging_of(number)) else { continue };
        if let Some(room) = rooms.get_mut(&staging.device()?) {
            room.needed = room.needed.saturating_add(bytes);
            told = told.saturating_add(bytes);
        }
    }
    for room in rooms.values() {
        room.check(room.needed)?;
    }
    // How the rest spreads over the roots is not known before the walk: the file system with the most
    // room must be able to take it.
    let rest = declaration.bytes_estimate.saturating_sub(told);
    let roomiest = rooms.values().max_by_key(|room| room.bytes().saturating_sub(room.needed));
    roomiest.map_or(Ok(()), |room| room.check(room.needed.saturating_add(rest)))
}

/// What the donor has told of the size of one root. Unit: bytes.
fn bytes_of(declaration: &Declaration, root: &str) -> Option<u64> {
    let key = bytes_property(root);
    let told = declaration.properties.iter().find(|(name, _)| *name == key);
    told.and_then(|(_, value)| value.parse().ok())
}

impl Room<'_> {
    /// When the old content is gone. Unit: bytes.
    fn bytes(&self) -> u64 {
        self.free.saturating_add(self.replaced)
    }

    fn check(&self, bytes: u64) -> Result<()> {
        let needed = bytes.saturating_add(RESERVE);
        if self.bytes() >= needed {
            return Ok(());
        }
        let places: Vec<_> = self.places.iter().map(|staging| staging.place()).collect();
        let mounted = self.places.first().and_then(|staging| mount_point(staging.path()));
        let mounted = mounted.map_or_else(String::new, |at| {
            format!(" (on the file system mounted at {})", at.display())
        });
        Err(Error::new(
            Code::DiskFull,
            format!(
                "not enough space below {}{mounted}: {:.0} MiB free when the old data is gone, {:.0} \
                 MiB needed; free space and start again, nothing has been touched",
                places.join(" and "),
                mib(self.bytes()),
                mib(needed)
            ),
        ))
    }
}

/// The uppermost directory on the way to `path` that is on its file system.
fn mount_point(path: &Path) -> Option<PathBuf> {
    let device = |path: &Path| fs::metadata(path).ok().map(|stat| stat.dev());
    let here = device(path)?;
    path.ancestors().take_while(|above| device(above) == Some(here)).last().map(Path::to_path_buf)
}
