//! Versions of servers: how they are written, which of two is newer, and where one is found.
//!
//! A server reads the files of older ones and upgrades them; it may not read those of newer ones,
//! and finds that out after its own files are gone. So the two are compared before anything is
//! touched.

mod binary;
mod found;

use std::fmt;

pub(crate) use self::found::of_server;

/// Longest version text that is taken. Unit: bytes. Why: real ones have at most 60.
const TEXT_BYTES_MAX: usize = 64;

/// The first series of MariaDB that has the redo log as one file, which later ones can start from
/// when it is clean. Source: contract 7.4.
const OLDEST_MARIADB_TO_UPGRADE: [u16; 2] = [10, 5];

/// The first major number that only MariaDB has.
const FIRST_MAJOR_OF_MARIADB: u16 = 10;

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fork {
    /// MariaDB.
    MariaDb,
    /// MySQL, and what is made from it: Codership's and Percona's.
    MySql,
}

/// The version of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerVersion {
    fork: Fork,
    numbers: [u16; 3],
    text: String,
}

/// What the versions of both ends mean for the joiner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// The same server, as far as its files are concerned.
    Same,
    /// The joiner's server upgrades the donor's files.
    Upgrade,
    /// The joiner's server is too old for the donor's files.
    DonorIsNewer,
    /// The donor's files are too old to be upgraded in one step.
    DonorIsTooOld,
    /// Files of the one mean nothing to the other.
    OtherFork,
}

impl ServerVersion {
    /// Reads `10.11.19-MariaDB-0+deb12u1`, `MariaDB 10.11.19`, `8.0.36-26.16` and the like.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        if text.is_empty() || text.len() > TEXT_BYTES_MAX || !text.bytes().all(is_plain) {
            return None;
        }
        let digits = text.find(|c: char| c.is_ascii_digit())?;
        let mut parts = text[digits..].split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        let patch: String = parts.next()?.chars().take_while(char::is_ascii_digit).collect();
        let numbers = [major, minor, patch.parse().ok()?];
        let is_mariadb =
            major >= FIRST_MAJOR_OF_MARIADB || text.to_ascii_lowercase().contains("mariadb");
        let fork = if is_mariadb { Fork::MariaDb } else { Fork::MySql };
        Some(Self { fork, numbers, text: text.to_owned() })
    }

    /// What it means that `donor` sends its files to a node that runs `self`.
    pub(crate) fn compare_donor(&self, donor: &Self) -> Comparison {
        if self.fork != donor.fork {
            return Comparison::OtherFork;
        }
        let (ours, theirs) = (self.format(), donor.format());
        match theirs.cmp(ours) {
            std::cmp::Ordering::Equal => Comparison::Same,
            std::cmp::Ordering::Greater => Comparison::DonorIsNewer,
            std::cmp::Ordering::Less if donor.can_be_upgraded() => Comparison::Upgrade,
            std::cmp::Ordering::Less => Comparison::DonorIsTooOld,
        }
    }

    /// The numbers that tell the format of the files: in MariaDB the series, which is what may be
    /// mixed in both directions; MySQL upgrades its dictionary with each release, too.
    fn format(&self) -> &[u16] {
        match self.fork {
            Fork::MariaDb => &self.numbers[..2],
            Fork::MySql => &self.numbers,
        }
    }

    fn can_be_upgraded(&self) -> bool {
        match self.fork {
            Fork::MariaDb => self.numbers[..2] >= OLDEST_MARIADB_TO_UPGRADE[..],
            Fork::MySql => true,
        }
    }

    /// Of two versions of one node's files, the one that tells more: the newer one.
    fn later(self, other: Self) -> Self {
        if other.numbers > self.numbers { other } else { self }
    }

    /// What an operator has to do after an older donor's files have come, for the end of a line.
    pub(crate) const fn after_upgrade(&self) -> &'static str {
        match self.fork {
            Fork::MariaDb => "; run mariadb-upgrade here once it has joined",
            Fork::MySql => " by itself",
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.fork {
            Fork::MariaDb => "MariaDB",
            Fork::MySql => "MySQL",
        };
        let [major, minor, patch] = self.numbers;
        write!(f, "{name} {major}.{minor}.{patch}")
    }
}

fn is_plain(byte: u8) -> bool {
    byte == b' ' || byte.is_ascii_graphic()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ServerVersion {
        ServerVersion::parse(text).unwrap_or_else(|| panic!("{text:?} is a version"))
    }

    #[test]
    fn versions_are_read_however_they_are_written() {
        for (text, shown) in [
            ("10.11.19-MariaDB\0", "MariaDB 10.11.19"),
            ("10.11.19-MariaDB-0+deb12u1-log", "MariaDB 10.11.19"),
            ("10.6.14-9-MariaDB-enterprise", "MariaDB 10.6.14"),
            ("MariaDB 10.5.23", "MariaDB 10.5.23"),
            ("Backup 11.8.3-MariaDB", "MariaDB 11.8.3"),
            ("11.4.2", "MariaDB 11.4.2"),
            ("8.0.36-26.16", "MySQL 8.0.36"),
            ("8.4.10", "MySQL 8.4.10"),
        ] {
            assert_eq!(version(text).to_string(), shown);
        }
        for text in ["", "MariaDB", "10", "10.11", "10.x.1", "10.11.", "99999999.1.1", "8\u{7}.0.1"]
        {
            assert_eq!(ServerVersion::parse(text), None, "{text:?}");
        }
        assert_eq!(ServerVersion::parse(&"1".repeat(65)), None);
    }

    #[test]
    fn a_joiner_takes_files_of_its_own_kind_that_are_not_newer() {
        for (joiner, donor, expected) in [
            ("10.11.6-MariaDB", "10.11.19-MariaDB", Comparison::Same),
            ("11.8.3-MariaDB", "10.11.19-MariaDB", Comparison::Upgrade),
            ("10.11.19-MariaDB", "11.4.1-MariaDB", Comparison::DonorIsNewer),
            ("10.6.1-MariaDB", "10.11.1-MariaDB", Comparison::DonorIsNewer),
            ("10.11.1-MariaDB", "10.4.30-MariaDB", Comparison::DonorIsTooOld),
            ("10.11.1-MariaDB", "8.0.36", Comparison::OtherFork),
            ("8.4.0", "8.0.36", Comparison::Upgrade),
            ("8.0.36", "8.0.37", Comparison::DonorIsNewer),
            ("8.0.36", "8.0.36", Comparison::Same),
        ] {
            let found = version(joiner).compare_donor(&version(donor));
            assert_eq!(found, expected, "{donor} to {joiner}");
        }
    }
}
