//! In which order top-level names leave and enter a root.
//!
//! A server may start between any two moves (the machine crashes, the unit starts again before
//! anybody can recover). Each order keeps it from finding a set of `InnoDB` files that looks whole
//! and is not. Only names matter here; what is in the files is nobody's business in this module.

use fastsst_proto::path::RelPath;

use super::is_directory;
use super::record::Name;
use crate::error::Result;
use crate::tree::Dir;

/// A name that leaves.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leaving {
    pub(super) path: RelPath,
    /// Whether it is one of `InnoDB`'s system files.
    pub(super) is_system: bool,
}

/// Kinds of names, in the order in which they enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Directory,
    File,
    Undo,
    Data,
    Log,
}

/// How names leave: the system tablespace first, since it knows the position; then the log and
/// the undo tablespaces that would be strange without it; then the rest.
///
/// # Errors
/// E09: a name cannot be examined.
pub(super) fn departure(dir: &Dir, names: Vec<RelPath>) -> Result<Vec<Leaving>> {
    let mut ranked = Vec::with_capacity(names.len());
    for path in names {
        let rank = match is_directory(dir, &path)? {
            true => Rank::Directory,
            false => rank_of_file(path.as_bytes()),
        };
        ranked.push((turn_to_leave(rank), path, rank > Rank::File));
    }
    ranked.sort();
    Ok(ranked.into_iter().map(|(_, path, is_system)| Leaving { path, is_system }).collect())
}

/// How names enter: the log last, without which a set is not complete; before it the system
/// tablespace and the undo tablespaces; before those everything else, directories first.
pub(super) fn arrival(names: &[Name]) -> Vec<&Name> {
    let mut names: Vec<&Name> = names.iter().collect();
    names.sort_by_key(|name| {
        // Of several logs, the first is the one that is looked for.
        let is_last = name.path.as_bytes() == b"ib_logfile0";
        let rank = match name.is_directory {
            true => Rank::Directory,
            false => rank_of_file(name.path.as_bytes()),
        };
        (rank, is_last)
    });
    names
}

fn turn_to_leave(rank: Rank) -> u8 {
    match rank {
        Rank::Data => 0,
        Rank::Log => 1,
        Rank::Undo => 2,
        Rank::File => 3,
        Rank::Directory => 4,
    }
}

fn rank_of_file(name: &[u8]) -> Rank {
    let table = [(&b"ib_logfile"[..], Rank::Log), (b"ibdata", Rank::Data), (b"undo", Rank::Undo)];
    let found = table.iter().find(|(prefix, _)| name.starts_with(prefix));
    found.map_or(Rank::File, |(_, rank)| *rank)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::staging::rel;

    const NAMES: [&str; 6] =
        ["aria_log_control", "ib_logfile0", "ib_logfile1", "ibdata1", "mysql", "undo001"];

    #[test]
    fn the_system_tablespace_leaves_first() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("mysql")).unwrap();
        let dir = Dir::open_target(tree.path()).unwrap();
        let names = NAMES.map(|name| rel(name.as_bytes()).unwrap()).to_vec();
        let leaving = departure(&dir, names).unwrap();
        let leaving = leaving.into_iter().map(|it| (it.path.to_string(), it.is_system));
        let expected = [
            ("ibdata1", true),
            ("ib_logfile0", true),
            ("ib_logfile1", true),
            ("undo001", true),
            ("aria_log_control", false),
            ("mysql", false),
        ];
        assert!(leaving.eq(expected.map(|(name, is)| (name.to_owned(), is))));
    }

    #[test]
    fn the_log_enters_last() {
        let names = NAMES.map(|name| Name {
            path: rel(name.as_bytes()).unwrap(),
            is_directory: name == "mysql",
            late_mode: None,
        });
        let entering: Vec<_> = arrival(&names).iter().map(|it| it.path.to_string()).collect();
        let expected =
            ["mysql", "aria_log_control", "undo001", "ibdata1", "ib_logfile1", "ib_logfile0"];
        assert_eq!(entering, expected);
    }
}
