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
        let others = layout.stagings();
        let (free, replaced) = (staging.free_bytes()?, staging.replaced_bytes(others)?);
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
    // One that gets nothing may be full.
    for room in rooms.values().filter(|room| room.needed > 0) {
        room.check(room.needed)?;
    }
    // How the rest spreads over the roots is not known before the walk: the file system with the most
    // room must be able to take it.
    let rest = declaration.bytes_estimate.saturating_sub(told);
    let roomiest = rooms.values().max_by_key(|room| room.bytes().saturating_sub(room.needed));
    match roomiest.filter(|_| rest > 0) {
        Some(room) => room.check(room.needed.saturating_add(rest)),
        None => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use fastsst_proto::frame::DeclKind;

    use super::*;
    use crate::staging::tests::{begin, fails};

    fn declaration(sizes: &[(&str, u64)], bytes: u64) -> Declaration {
        Declaration {
            kind: DeclKind::Full,
            roots: ["a", "b"].map(str::to_owned).to_vec(),
            properties: sizes
                .iter()
                .map(|(root, size)| (bytes_property(root), size.to_string()))
                .collect(),
            bytes_estimate: bytes,
            files_estimate: 0,
            lanes: 1,
            capture: "test".to_owned(),
        }
    }

    fn layout(a: &Path, b: &Path) -> Layout {
        let stagings = vec![begin(a), begin(b)];
        let names = ["a", "b"].map(str::to_owned);
        Layout::new(stagings, &names, vec![(0, None), (1, None)]).unwrap()
    }

    #[test]
    fn what_several_roots_need_of_one_file_system_is_added_up() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let layout = layout(a.path(), b.path());
        let free = Arc::clone(&layout.stagings()[0]).free_bytes().unwrap();
        let most = free / 4 * 3;
        check(&layout, &declaration(&[("a", most)], most)).unwrap();
        check(&layout, &declaration(&[], most)).unwrap();
        let words = fails(
            check(&layout, &declaration(&[("a", most), ("b", most)], 2 * most)),
            Code::DiskFull,
        );
        for place in [&a, &b] {
            assert!(words.contains(place.path().to_str().unwrap()), "{words}");
        }
        assert!(words.contains("file system mounted at /"), "{words}");
        // Without a size of each, or where there is more than that: the sum.
        for sizes in [&[][..], &[("a", most)][..], &[("a", 1), ("b", 1)][..]] {
            fails(check(&layout, &declaration(sizes, 2 * most)), Code::DiskFull);
        }
    }

    #[test]
    fn each_file_system_must_have_room_for_its_own_roots() {
        let memory = Path::new("/dev/shm");
        let (Ok(a), b) = (tempfile::tempdir_in(memory), tempfile::tempdir().unwrap()) else {
            return;
        };
        let layout = layout(a.path(), b.path());
        let [one, two] = layout.stagings() else { panic!("two places") };
        if one.device().unwrap() == two.device().unwrap() {
            return;
        }
        let (small, large) = match one.free_bytes().unwrap() < two.free_bytes().unwrap() {
            true => (("a", one), "b"),
            false => (("b", two), "a"),
        };
        let bytes = small.1.free_bytes().unwrap();
        // As much as the larger one could take.
        check(&layout, &declaration(&[(large, bytes / 2)], bytes / 2)).unwrap();
        let words = fails(check(&layout, &declaration(&[(small.0, bytes)], bytes)), Code::DiskFull);
        assert!(words.contains(small.1.place()) && !words.contains(" and /"), "{words}");
    }

    #[test]
    fn a_mount_point_is_the_uppermost_directory_of_its_file_system() {
        assert_eq!(mount_point(Path::new("/proc/self")), Some("/proc".into()));
        assert_eq!(mount_point(Path::new("/")), Some("/".into()));
        assert_eq!(mount_point(Path::new("/none/such")), None);
    }
}
