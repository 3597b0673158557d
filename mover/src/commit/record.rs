//! The commit record: what of the new tree has to be in the root.
//!
//! ```text
//!  one root:      "FSSTCMT1" | u32 names | name… | u32 kept | kept name… | 32 bytes BLAKE3 of all before
//!  several roots: "FSSTCMT2" | part | as above
//!  part:       the leader's:   1 | 16 bytes transfer | u32 followers | follower…
//!              a follower's:   2 | 16 bytes transfer | path of the leader
//!  follower:   path | u64 inode                  path: bytes
//!  name:       u8 flags (1 directory, 2 late permissions; of a directory: 4 holds undo tablespaces,
//!              8 the system tablespace, 16 the log) | u16 permissions | bytes
//!  kept name:  bytes                             bytes: u16 length and that many bytes
//! ```
//!
//! Little-endian. Whatever does not end in its own hash was not written completely, and so it was
//! not written at all.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fastsst_proto::path::RelPath;
use rustix::io::Errno;

use super::order::Holds;
use crate::disk::file::{FileMode, OpenFile};
use crate::error::{Code, Error, Result};
use crate::staging::rel;
use crate::tree::{Dir, as_path};

/// Name of the record in the staging directory.
pub(super) const FILE: &[u8] = b"commit";

/// What is to be done after the point of no return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) part: Part,
    /// The new tree's top-level names, ascending.
    pub(super) names: Vec<Name>,
    /// What was kept in the root then. The settings that say what is kept may have changed when
    /// somebody recovers.
    pub(super) kept: BTreeSet<Vec<u8>>,
}

/// What the root is to the other roots of the transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// There are none.
    Alone,
    /// This record decides for all of them.
    Leader { transfer: TransferId, followers: Vec<Follower> },
    /// Its record counts when that of the leader names the same transfer.
    Follower { transfer: TransferId, leader: PathBuf },
}

/// Another root of the transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Follower {
    pub(super) path: PathBuf,
    /// The directory's number on its file system: an unmounted one is not taken for it.
    pub(super) ino: u64,
}

/// A transfer, by a random number.
pub(super) type TransferId = [u8; 16];

/// A top-level name of the new tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) path: RelPath,
    pub(super) is_directory: bool,
    /// Of a directory.
    pub(super) holds: Holds,
    /// Permissions that it gets only in its place.
    pub(super) late_mode: Option<u16>,
}

impl Record {
    /// The top-level name of the new tree, if it has it.
    pub(super) fn get(&self, name: &[u8]) -> Option<&Name> {
        let found = self.names.binary_search_by(|known| known.path.as_bytes().cmp(name)).ok()?;
        self.names.get(found)
    }

    /// Writes the record, not yet durably.
    ///
    /// # Errors
    /// E07, E09. E24: it would be too long.
    pub(super) fn write(&self, staging: &Dir) -> Result<OpenFile> {
        let bytes = self.encode()?;
        let name = rel(FILE)?;
        staging.unlink(&name)?;
        let file = staging.create_file(&name, FileMode::Buffered)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(&file, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::write(file.place(), errno.into())),
            }
        }
        Ok(file)
    }

    /// Reads the record; `None` when there is none or it is not whole.
    ///
    /// # Errors
    /// E08: it is there and cannot be read.
    pub(super) fn load(staging: &Dir) -> Result<Option<Self>> {
        let opened = staging.open_file_read(&rel(FILE)?, FileMode::Buffered)?;
        let Some((file, stat)) = opened else { return Ok(None) };
        let len = usize::try_from(stat.size).unwrap_or(usize::MAX);
        if len > RECORD_BYTES_MAX {
            return Ok(None);
        }
        let mut bytes = vec![0; len];
        let mut rest = bytes.as_mut_slice();
        while !rest.is_empty() {
            match rustix::io::read(&file, &mut *rest) {
                Ok(0) => return Ok(None),
                Ok(read) => rest = rest.get_mut(read..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::read(file.place(), errno.into())),
            }
        }
        Ok(Self::decode(&bytes))
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.part.encode(&mut out)?;
        put_count(&mut out, self.names.len())?;
        for Name { path, is_directory, holds, late_mode } in &self.names {
            let flags = [
                (*is_directory, DIRECTORY),
                (late_mode.is_some(), LATE),
                (holds.undo, HOLDS_UNDO),
                (holds.data, HOLDS_DATA),
                (holds.log, HOLDS_LOG),
            ];
            out.push(flags.iter().filter(|(is, _)| *is).map(|(_, flag)| flag).sum());
            out.extend_from_slice(&late_mode.unwrap_or(0).to_le_bytes());
            put_bytes(&mut out, path.as_bytes())?;
        }
        put_count(&mut out, self.kept.len())?;
        for name in &self.kept {
            put_bytes(&mut out, name)?;
        }
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        match out.len() <= RECORD_BYTES_MAX {
            true => Ok(out),
            false => Err(too_long()),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, hash) = bytes.split_last_chunk::<{ blake3::OUT_LEN }>()?;
        if blake3::hash(content) != *hash {
            return None;
        }
        let mut rest = content;
        let part = Part::decode(&mut rest)?;
        let mut names = Vec::new();
        for _ in 0..take_u32(&mut rest)? {
            let [flags] = take(&mut rest)?;
            let mode = u16::from_le_bytes(take(&mut rest)?);
            let path = RelPath::parse(take_bytes(&mut rest)?).ok()?;
            // One component: it is moved from directory to directory by this name.
            if path.parent().is_some() {
                return None;
            }
            let late_mode = (flags & LATE != 0).then_some(mode);
            let holds = Holds {
                undo: flags & HOLDS_UNDO != 0,
                data: flags & HOLDS_DATA != 0,
                log: flags & HOLDS_LOG != 0,
            };
            names.push(Name { path, is_directory: flags & DIRECTORY != 0, holds, late_mode });
        }
        let mut kept = BTreeSet::new();
        for _ in 0..take_u32(&mut rest)? {
            kept.insert(take_bytes(&mut rest)?.to_vec());
        }
        let is_sorted = names.is_sorted_by(|a, b| a.path < b.path);
        (rest.is_empty() && is_sorted).then_some(Self { part, names, kept })
    }
}

impl Part {
    fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            // As it was before there could be several, so that either version finishes it.
            Self::Alone => out.extend_from_slice(MAGIC),
            Self::Leader { transfer, followers } => {
                out.extend_from_slice(MAGIC_SEVERAL);
                out.push(LEADER);
                out.extend_from_slice(transfer);
                put_count(out, followers.len())?;
                for Follower { path, ino } in followers {
                    put_bytes(out, path.as_os_str().as_bytes())?;
                    out.extend_from_slice(&ino.to_le_bytes());
                }
            }
            Self::Follower { transfer, leader } => {
                out.extend_from_slice(MAGIC_SEVERAL);
                out.push(FOLLOWER);
                out.extend_from_slice(transfer);
                put_bytes(out, leader.as_os_str().as_bytes())?;
            }
        }
        Ok(())
    }

    fn decode(rest: &mut &[u8]) -> Option<Self> {
        if let Some(after) = rest.strip_prefix(MAGIC) {
            *rest = after;
            return Some(Self::Alone);
        }
        *rest = rest.strip_prefix(MAGIC_SEVERAL)?;
        let [kind] = take(rest)?;
        let transfer = take(rest)?;
        match kind {
            LEADER => {
                let mut followers = Vec::new();
                for _ in 0..take_u32(rest)? {
                    let path = take_path(rest)?;
                    followers.push(Follower { path, ino: u64::from_le_bytes(take(rest)?) });
                }
                Some(Self::Leader { transfer, followers })
            }
            FOLLOWER => Some(Self::Follower { transfer, leader: take_path(rest)? }),
            _ => None,
        }
    }
}

/// An absolute path, as every root's is.
fn take_path(rest: &mut &[u8]) -> Option<PathBuf> {
    let path = as_path(take_bytes(rest)?);
    path.is_absolute().then(|| Path::to_path_buf(path))
}

fn put_count(out: &mut Vec<u8>, count: usize) -> Result<()> {
    let count = u32::try_from(count).map_err(|error| too_long().because(error))?;
    out.extend_from_slice(&count.to_le_bytes());
    Ok(())
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    let len = u16::try_from(bytes.len()).map_err(|error| too_long().because(error))?;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(u32::from_le_bytes)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::from(u16::from_le_bytes(take(rest)?));
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

fn too_long() -> Error {
    Error::new(Code::Limit, "too many entries directly in the root for a commit record")
}

const MAGIC: &[u8] = b"FSSTCMT1";
const MAGIC_SEVERAL: &[u8] = b"FSSTCMT2";
const LEADER: u8 = 1;
const FOLLOWER: u8 = 2;
const DIRECTORY: u8 = 1;
const LATE: u8 = 2;
const HOLDS_UNDO: u8 = 4;
const HOLDS_DATA: u8 = 8;
const HOLDS_LOG: u8 = 16;

/// Longest record. Unit: bytes. Why: a million top-level names of the longest kind, and no file
/// of somebody else's can make us allocate more.
/// Reached: writing one fails before the point of no return; one that is read does not count.
const RECORD_BYTES_MAX: usize = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(part: Part) -> Record {
        let name = |path: &[u8], is_directory, late_mode| Name {
            path: rel(path).unwrap(),
            is_directory,
            holds: Holds::default(),
            late_mode,
        };
        let holds = Holds { undo: true, log: true, data: false };
        let redo = Name { holds, ..name(b"redo", true, None) };
        Record {
            part,
            names: vec![name(b"ibdata1", false, None), name(b"mysql", true, Some(0o555)), redo],
            kept: BTreeSet::from([b"\xff.pem".to_vec(), b"grastate.dat".to_vec()]),
        }
    }

    fn parts() -> [Part; 3] {
        let follower = |path: &str, ino| Follower { path: path.into(), ino };
        [
            Part::Alone,
            Part::Leader {
                transfer: [7; 16],
                followers: vec![follower("/log", 1), follower("/\u{e4}", 2)],
            },
            Part::Follower { transfer: [8; 16], leader: "/var/lib/mysql".into() },
        ]
    }

    #[test]
    fn a_record_of_the_version_before_there_were_several_roots_still_counts() {
        let mut old = b"FSSTCMT1\x01\0\0\0\x01\0\0\x05\0mysql\x01\0\0\0\x04\0kept".to_vec();
        let hash = blake3::hash(&old);
        old.extend_from_slice(hash.as_bytes());
        let record = Record::decode(&old).unwrap();
        assert_eq!(record.part, Part::Alone);
        assert!(record.get(b"mysql").is_some() && record.kept.contains(b"kept".as_slice()));
        assert_eq!(record.encode().unwrap(), old);
    }

    #[test]
    fn a_path_that_depends_on_where_somebody_works_is_refused() {
        let record = sample(Part::Follower { transfer: [0; 16], leader: "var/lib/mysql".into() });
        assert_eq!(Record::decode(&record.encode().unwrap()), None);
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        for part in parts() {
            let record = sample(part);
            assert_eq!(Record::decode(&record.encode().unwrap()), Some(record.clone()));
        }
        let record = sample(Part::Alone);
        let tree = tempfile::tempdir().unwrap();
        let dir = Dir::open_target(tree.path()).unwrap();
        assert_eq!(Record::load(&dir).unwrap(), None);
        record.write(&dir).unwrap();
        assert_eq!(Record::load(&dir).unwrap(), Some(record.clone()));
        assert!(record.get(b"mysql").is_some() && record.get(b"grastate.dat").is_none());
    }

    #[test]
    fn a_torn_or_damaged_record_was_never_written() {
        for part in parts() {
            let bytes = sample(part).encode().unwrap();
            for len in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..len]), None, "cut to {len}");
                let mut flipped = bytes.clone();
                flipped[len] ^= 0x10;
                assert_eq!(Record::decode(&flipped), None, "bit flipped in {len}");
            }
            assert_eq!(Record::decode(&vec![0; bytes.len()]), None);
        }
    }

    #[test]
    fn names_that_could_leave_the_root_are_refused() {
        let mut record = sample(Part::Alone);
        record.names[0].path = RelPath::parse(b"a/b").unwrap();
        assert_eq!(Record::decode(&record.encode().unwrap()), None);
    }
}
