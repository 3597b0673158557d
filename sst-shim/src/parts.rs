//! The parts of a server's data that have a directory option of their own.
//!
//! Each part is a root of the transfer, also where it lies in the data directory: so donor and
//! joiner may keep it in different places.

use fastsst_mover::tree::FileKind;
use fastsst_mover::walk::{Class, Filter};
use fastsst_proto::RelPath;

use crate::name_pattern::matches;

/// A part of the data, by the option that says where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// `InnoDB`'s system tablespace.
    DataHome,
    /// `InnoDB`'s redo log.
    RedoLog,
    /// `InnoDB`'s undo tablespaces.
    Undo,
    /// Aria's log and control file.
    AriaLog,
}

impl Part {
    pub(crate) const ALL: [Self; 4] = [Self::DataHome, Self::RedoLog, Self::Undo, Self::AriaLog];

    /// The option that names its directory.
    pub(crate) const fn option(self) -> &'static str {
        match self {
            Self::DataHome => "innodb-data-home-dir",
            Self::RedoLog => "innodb-log-group-home-dir",
            Self::Undo => "innodb-undo-directory",
            Self::AriaLog => "aria-log-dir-path",
        }
    }

    /// What donor and joiner call its root.
    pub(crate) const fn root(self) -> &'static str {
        match self {
            Self::DataHome => "innodb-data-home",
            Self::RedoLog => "innodb-log",
            Self::Undo => "innodb-undo",
            Self::AriaLog => "aria-log",
        }
    }

    /// What it is, for messages.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::DataHome => "system tablespace",
            Self::RedoLog => "redo log",
            Self::Undo => "undo tablespaces",
            Self::AriaLog => "Aria log",
        }
    }

    /// Files that make up the part, with the rank in which they are read (see `files`): what is
    /// read later covers what changed before.
    const fn files(self) -> &'static [(&'static str, u8)] {
        match self {
            // No more than servers make by themselves: the directory may have copies, or files of
            // another server.
            Self::DataHome => {
                &[("ibdata%", RANK_OF_TABLESPACES), ("ibdata%%", RANK_OF_TABLESPACES)]
            }
            // MySQL has `undo_001`, and user-made ones with an extension of their own.
            Self::Undo => &[
                ("undo%%%", RANK_OF_TABLESPACES),
                ("undo_%%%", RANK_OF_TABLESPACES),
                ("*.ibu", RANK_OF_TABLESPACES),
            ],
            Self::AriaLog => &[("aria_log_control", 4), ("aria_log.*", 5)],
            Self::RedoLog => &[("ib_logfile%", RANK_OF_REDO_LOG)],
        }
    }

    /// Files that belong there, and are made anew at each start or are left over.
    const fn discarded(self) -> &'static [&'static str] {
        match self {
            Self::DataHome => &["ibtmp*"],
            Self::RedoLog => &["ib_logfile101"],
            Self::Undo | Self::AriaLog => &[],
        }
    }
}

/// System and undo tablespaces come after all others.
const RANK_OF_TABLESPACES: u8 = 3;

/// The redo log comes last of all.
const RANK_OF_REDO_LOG: u8 = 6;

/// Directory of `MySQL`'s redo log, below that of the part.
pub(crate) const REDO_DIRECTORY: &[u8] = b"#innodb_redo";

/// Which names are whose.
#[derive(Debug, Clone, Default)]
pub(crate) struct PartNames {
    /// Files of the system tablespace, as configured.
    system_files: Vec<String>,
}

impl PartNames {
    pub(crate) fn new(system_files: Vec<String>) -> Self {
        Self { system_files }
    }

    /// The part that a file directly in a directory belongs to, and its rank.
    pub(crate) fn of(&self, name: &[u8]) -> Option<(Part, u8)> {
        if self.system_files.iter().any(|file| file.as_bytes() == name) {
            return Some((Part::DataHome, RANK_OF_TABLESPACES));
        }
        Part::ALL.into_iter().find_map(|part| {
            let rank = part.files().iter().find(|(pattern, _)| matches(pattern.as_bytes(), name));
            rank.map(|(_, rank)| (part, *rank))
        })
    }

    /// Whether a joiner replaces, in the part's directory, what has this name.
    pub(crate) fn replaces(&self, part: Part, name: &[u8]) -> bool {
        self.belongs(part, name)
            || part.discarded().iter().any(|pattern| matches(pattern.as_bytes(), name))
    }

    /// Whether what has this name, directly in the part's directory, is data of the part.
    pub(crate) fn belongs(&self, part: Part, name: &[u8]) -> bool {
        self.of(name).is_some_and(|(of, _)| of == part)
            || (part == Part::RedoLog && name == REDO_DIRECTORY)
    }
}

/// What of a directory is one part.
#[derive(Debug)]
pub(crate) struct PartFilter {
    pub(crate) part: Part,
    pub(crate) names: PartNames,
}

impl Filter for PartFilter {
    fn class(&self, path: &RelPath, kind: FileKind) -> Class {
        let bytes = path.as_bytes();
        let in_redo_directory = bytes.strip_prefix(REDO_DIRECTORY);
        match (kind, in_redo_directory) {
            (FileKind::Directory, Some(b"")) if self.part == Part::RedoLog => Class::Send,
            (FileKind::File, Some([b'/', ..])) if self.part == Part::RedoLog => {
                Class::Last(RANK_OF_REDO_LOG)
            }
            (FileKind::File, _) => match self.names.of(bytes) {
                Some((part, rank)) if part == self.part => Class::Last(rank),
                Some(_) | None => Class::Skip,
            },
            (
                FileKind::Directory
                | FileKind::Symlink
                | FileKind::Fifo
                | FileKind::Socket
                | FileKind::Device,
                _,
            ) => Class::Skip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(part: Part) -> PartFilter {
        PartFilter { part, names: PartNames::new(vec!["sys1".to_owned()]) }
    }

    #[test]
    fn every_file_is_of_one_part() {
        let all = [
            (Part::DataHome, ["ibdata1", "sys1"].as_slice()),
            (Part::Undo, &["undo001", "undo_002", "mine.ibu"]),
            (Part::AriaLog, &["aria_log_control", "aria_log.00000001"]),
            (Part::RedoLog, &["ib_logfile0", "#innodb_redo/#ib_redo7"]),
        ];
        for (part, names) in all {
            for name in names {
                let path = RelPath::parse(name.as_bytes()).unwrap();
                for other in Part::ALL {
                    let class = filter(other).class(&path, FileKind::File);
                    assert_eq!(class != Class::Skip, part == other, "{name} {other:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_read_later_covers_what_changed_before() {
        let names = PartNames::default();
        let ranks = ["undo001", "aria_log_control", "aria_log.00000001", "ib_logfile0"]
            .map(|name| names.of(name.as_bytes()).unwrap().1);
        assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
        assert_eq!(names.of(b"ibdata1").unwrap().1, names.of(b"undo001").unwrap().1);
    }

    #[test]
    fn nothing_else_of_a_directory_is_touched() {
        for part in Part::ALL {
            for name in [
                "syslog",
                "ibdata1.bak",
                "ibdata_other1",
                "mysql-bin.000001",
                "undo_old",
                "db1/ib_logfile0",
                "undo1",
            ] {
                let path = RelPath::parse(name.as_bytes()).unwrap();
                assert_eq!(filter(part).class(&path, FileKind::File), Class::Skip, "{name}");
                assert!(!filter(part).names.replaces(part, name.as_bytes()), "{name}");
            }
            let path = RelPath::parse(b"undo001").unwrap();
            assert_eq!(filter(part).class(&path, FileKind::Directory), Class::Skip);
        }
        let names = PartNames::default();
        assert!(names.replaces(Part::DataHome, b"ibtmp1"));
        assert!(names.replaces(Part::RedoLog, b"ib_logfile101"));
        assert!(names.replaces(Part::RedoLog, b"#innodb_redo"));
        assert!(!names.replaces(Part::Undo, b"ib_logfile0"));
    }
}
