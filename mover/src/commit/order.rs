//! In which order top-level names leave and enter a root.
//!
//! A server may start between any two moves (the machine crashes, the unit starts again before
//! anybody can recover). Each order keeps it from finding a set of `InnoDB` files that looks whole
//! and is not. Only names matter here; what is in the files is nobody's business in this module.
//!
//! With several roots the order goes over all of them. A directory that is known to hold such files
//! (the server's log directory, say, in its data directory) counts as they do.

use fastsst_proto::path::RelPath;

use super::is_directory;
use super::record::Name;
use crate::error::{Code, Result};
use crate::tree::Dir;

/// A name that leaves. Ordered as they leave.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Leaving {
    turn: u8,
    /// Number of its root.
    pub(super) root: usize,
    pub(super) path: RelPath,
    /// Whether it is one of `InnoDB`'s system files.
    pub(super) is_system: bool,
}

/// Which of `InnoDB`'s system files are in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Holds {
    pub(super) undo: bool,
    pub(super) data: bool,
    pub(super) log: bool,
}

impl Holds {
    /// Looks into those of `prefixes` that are in the directory `name` of `dir`.
    ///
    /// # Errors
    /// E08, E09.
    pub(super) fn of(dir: &Dir, name: &RelPath, prefixes: &[RelPath]) -> Result<Self> {
        let mut holds = Self::default();
        let is_in = |prefix: &&RelPath| prefix.components().next() == Some(name.as_bytes());
        for prefix in prefixes.iter().filter(is_in) {
            let inner = match dir.open_dir_if_there(prefix) {
                // A symbolic link is on the way: what is behind it does not move.
                Err(error) if error.code() == Code::UnsafePath => None,
                inner => inner?,
            };
            for name in inner.map(|inner| inner.names()).transpose()?.unwrap_or_default() {
                match rank_of_file(&name) {
                    Rank::Undo => holds.undo = true,
                    Rank::Data => holds.data = true,
                    Rank::Log => holds.log = true,
                    Rank::Directory | Rank::File => {}
                }
            }
        }
        Ok(holds)
    }

    /// Leaves with the first of them.
    fn first(self) -> Rank {
        match self {
            Self { data: true, .. } => Rank::Data,
            Self { log: true, .. } => Rank::Log,
            Self { undo: true, .. } => Rank::Undo,
            Self { undo: false, data: false, log: false } => Rank::Directory,
        }
    }

    /// Enters with the last of them.
    fn last(self) -> Rank {
        match self {
            Self { log: true, .. } => Rank::Log,
            Self { data: true, .. } => Rank::Data,
            Self { undo: true, .. } => Rank::Undo,
            Self { undo: false, data: false, log: false } => Rank::Directory,
        }
    }
}

/// Kinds of names, in the order in which they enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Directory,
    File,
    Undo,
    Data,
    Log,
}

/// How names leave: the system tablespace first, since it knows the position; then the log and
/// the undo tablespaces that would be strange without it; then the rest.
///
/// `holds` says what is in a directory. The answer is in the order of `names`, to be sorted.
///
/// # Errors
/// E09: a name cannot be examined; and those of `holds`.
pub(super) fn departure(
    (root, dir): (usize, &Dir),
    names: Vec<RelPath>,
    holds: impl Fn(&RelPath) -> Result<Holds>,
) -> Result<Vec<Leaving>> {
    let mut leaving = Vec::with_capacity(names.len());
    for path in names {
        let rank = match is_directory(dir, &path)? {
            true => holds(&path)?.first(),
            false => rank_of_file(path.as_bytes()),
        };
        leaving.push(Leaving {
            turn: turn_to_leave(rank),
            root,
            path,
            is_system: rank > Rank::File,
        });
    }
    Ok(leaving)
}

/// How names enter: the log last, without which a set is not complete; before it the system
/// tablespace and the undo tablespaces; before those everything else, directories first.
pub(super) fn turn_to_enter(name: &Name) -> (Rank, bool) {
    let rank = match name.is_directory {
        true => name.holds.last(),
        false => rank_of_file(name.path.as_bytes()),
    };
    // Of several logs, the first is the one that is looked for.
    let is_last = name.path.as_bytes() == b"ib_logfile0" || name.holds.log;
    (rank, is_last)
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

/// Whether a file of this name is one of `InnoDB`'s system files.
pub(super) fn is_system_file(name: &[u8]) -> bool {
    rank_of_file(name) > Rank::File
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
        let nothing = |_: &RelPath| Ok(Holds::default());
        let mut leaving = departure((0, &dir), names, nothing).unwrap();
        leaving.sort();
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
            holds: Holds::default(),
            late_mode: None,
        });
        let entering = entering(&names);
        let expected =
            ["mysql", "aria_log_control", "undo001", "ibdata1", "ib_logfile1", "ib_logfile0"];
        assert_eq!(entering, expected);
    }

    fn entering(names: &[Name]) -> Vec<String> {
        let mut names: Vec<_> = names.iter().collect();
        names.sort_by_key(|name| turn_to_enter(name));
        names.into_iter().map(|name| name.path.to_string()).collect()
    }

    #[test]
    fn a_directory_goes_with_the_system_files_that_it_holds() {
        let tree = tempfile::tempdir().unwrap();
        for path in ["db", "redo/inner", "data", "undo"] {
            std::fs::create_dir_all(tree.path().join(path)).unwrap();
        }
        for path in
            ["redo/inner/ib_logfile0", "data/ibdata1", "undo/undo001", "db/undone.ibd", "ibdata2"]
        {
            std::fs::write(tree.path().join(path), "").unwrap();
        }
        std::os::unix::fs::symlink(tree.path(), tree.path().join("link")).unwrap();
        let dir = Dir::open_target(tree.path()).unwrap();
        let path = |path: &str| RelPath::parse(path.as_bytes()).unwrap();
        let prefixes = ["redo/inner", "data", "undo", "link/data", "none"].map(path);
        let names = ["data", "db", "ibdata2", "link", "redo", "undo"].map(path);
        let holds = |name: &RelPath| Holds::of(&dir, name, &prefixes);
        let mut leaving = departure((0, &dir), names.to_vec(), holds).unwrap();
        leaving.sort();
        let leaving: Vec<_> =
            leaving.iter().map(|it| (it.path.to_string(), it.is_system)).collect();
        let expected = [
            ("data", true),
            ("ibdata2", true),
            ("redo", true),
            ("undo", true),
            ("link", false),
            ("db", false),
        ];
        assert_eq!(leaving, expected.map(|(name, is)| (name.to_owned(), is)));
        let names = names.map(|path| Name {
            is_directory: !["ibdata2", "link"].contains(&path.to_string().as_str()),
            holds: holds(&path).unwrap(),
            late_mode: None,
            path,
        });
        assert_eq!(entering(&names), ["db", "link", "undo", "data", "ibdata2", "redo"]);
    }
}
