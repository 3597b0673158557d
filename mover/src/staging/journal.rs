//! The journal: which files of an unfinished tree are complete and survive power loss.
//!
//! ```text
//!  "FSSTJNL1" | bytes root name | 32 bytes: the header's hash
//!  record:  u32 length of the body | body | 16 bytes: hash of the record before and of this
//!  body:    bytes path | u64 size | u64 inode | i64, u32 time of change | 32 bytes BLAKE3 of the file
//!                                                     bytes: u16 length and that many bytes
//! ```
//!
//! Little-endian. A record is written after its file was synced, so losing the end of the journal
//! costs reading and nothing else; it is never synced itself. Each hash covers the one before it: a
//! record of another journal has no place in this one, and what follows a damaged record does not
//! count.
//!
//! A record vouches for a file as long as inode, size and time of change are what it says. Every
//! write changes that time, and so does a rename.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use fastsst_proto::FileHash;
use fastsst_proto::path::RelPath;
use rustix::io::Errno;

use super::{clear, rel};
use crate::disk::file::{FileMode, OpenFile};
use crate::error::{Code, Error, Result};
use crate::tree::{Dir, FileTime, Stat};

/// Name of the journal in the staging directory.
pub(crate) const JOURNAL: &[u8] = b"journal";

const MAGIC: &[u8] = b"FSSTJNL1";

/// Bytes of a record's hash. Why: it finds accidents, and the chain the mixing of journals.
const LINK_BYTES: usize = 16;

/// Longest body. Unit: bytes. Why: the longest path and the fixed fields.
/// Reached: the record, and all after it, do not count.
const BODY_BYTES_MAX: usize = 8192;

/// Longest journal that is read. Unit: bytes. Why: half a million large files with usual names, and
/// no more memory than buffers have.
/// Reached: the rest does not count; the files are compared by reading.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// One complete file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) path: RelPath,
    /// Unit: bytes.
    pub(crate) size: u64,
    pub(crate) ino: u64,
    pub(crate) ctime: FileTime,
    pub(crate) hash: FileHash,
}

impl Record {
    /// Whether the file that is there now is the one that was recorded.
    pub(crate) fn is_about(&self, now: &Stat) -> bool {
        (self.size, self.ino, self.ctime) == (now.size, now.ino, now.ctime)
    }
}

/// What ties a record to the one before it.
pub(crate) type Link = [u8; 32];

/// Why a journal, or what follows in it, does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is not of this version.
    Version,
    /// It is about a root of another name.
    OtherRoot,
    /// It breaks off, as after a crash, or is damaged.
    Broken,
}

impl Flaw {
    fn words(self) -> &'static str {
        match self {
            Self::Version => "is damaged, or of another version",
            Self::OtherRoot => "is about another root",
            Self::Broken => "breaks off or is damaged",
        }
    }
}

/// The first bytes of a journal, and what its first record is tied to.
pub(crate) fn encode_header(root: &str) -> (Vec<u8>, Link) {
    let mut out = MAGIC.to_vec();
    put_bytes(&mut out, root.as_bytes());
    let link = *blake3::hash(&out).as_bytes();
    out.extend_from_slice(&link);
    (out, link)
}

/// Appends a record; returns what the next one is tied to.
pub(crate) fn encode_record(record: &Record, before: &Link, out: &mut Vec<u8>) -> Link {
    let mut body = Vec::new();
    put_bytes(&mut body, record.path.as_bytes());
    body.extend_from_slice(&record.size.to_le_bytes());
    body.extend_from_slice(&record.ino.to_le_bytes());
    body.extend_from_slice(&record.ctime.s.to_le_bytes());
    body.extend_from_slice(&record.ctime.ns.to_le_bytes());
    body.extend_from_slice(&record.hash.0);
    let link = tie(before, &body);
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&body);
    out.extend_from_slice(&link[..LINK_BYTES]);
    link
}

/// All records that count, the last one of each path, and the first flaw.
pub(crate) fn decode(bytes: &[u8], root: &str) -> (HashMap<RelPath, Record>, Option<Flaw>) {
    let mut records = HashMap::new();
    let read = decode_each(bytes, root, |record| {
        records.insert(record.path.clone(), record);
    });
    (records, read.err())
}

/// Reads record by record; returns what the next one would be tied to.
///
/// # Errors
/// The first flaw; the records before it have been given.
pub(crate) fn decode_each(
    bytes: &[u8],
    root: &str,
    mut take: impl FnMut(Record),
) -> Result<Link, Flaw> {
    let mut rest = bytes;
    let mut link = decode_header(&mut rest, root)?;
    while !rest.is_empty() {
        let (record, next) = decode_record(&mut rest, &link).ok_or(Flaw::Broken)?;
        link = next;
        take(record);
    }
    Ok(link)
}

fn decode_header(rest: &mut &[u8], root: &str) -> Result<Link, Flaw> {
    let whole = *rest;
    let after = rest.strip_prefix(MAGIC).ok_or(Flaw::Version)?;
    *rest = after;
    let name = take_bytes(rest).ok_or(Flaw::Version)?;
    let head = whole.len() - rest.len();
    let link: Link = take(rest).ok_or(Flaw::Version)?;
    let expected = whole.get(..head).map(blake3::hash);
    if expected.is_none_or(|hash| *hash.as_bytes() != link) {
        return Err(Flaw::Version);
    }
    if name != root.as_bytes() {
        return Err(Flaw::OtherRoot);
    }
    Ok(link)
}

fn decode_record(rest: &mut &[u8], before: &Link) -> Option<(Record, Link)> {
    let len = usize::try_from(u32::from_le_bytes(take(rest)?)).ok()?;
    if len > BODY_BYTES_MAX {
        return None;
    }
    let (body, after) = rest.split_at_checked(len)?;
    *rest = after;
    let link = tie(before, body);
    let found: [u8; LINK_BYTES] = take(rest)?;
    if found != link[..LINK_BYTES] {
        return None;
    }
    let mut body = body;
    let path = RelPath::parse(take_bytes(&mut body)?).ok()?;
    let size = u64::from_le_bytes(take(&mut body)?);
    let ino = u64::from_le_bytes(take(&mut body)?);
    let s = i64::from_le_bytes(take(&mut body)?);
    let ns = u32::from_le_bytes(take(&mut body)?);
    let hash = FileHash(take(&mut body)?);
    let record = Record { path, size, ino, ctime: FileTime { s, ns }, hash };
    body.is_empty().then_some((record, link))
}

fn tie(before: &Link, body: &[u8]) -> Link {
    *blake3::Hasher::new().update(before).update(body).finalize().as_bytes()
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // Root names and paths are far shorter than 64 KiB.
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::from(u16::from_le_bytes(take(rest)?));
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

/// Reads what an interrupted transfer has written; says what is wrong with it, and goes on without.
///
/// # Errors
/// E08: it is there and cannot be read.
pub(super) fn load(staging: &Dir, root: &str) -> Result<HashMap<RelPath, Record>> {
    let opened = match staging.open_file_read(&rel(JOURNAL)?, FileMode::Buffered) {
        Err(error) if error.code() == Code::UnsafePath => {
            tracing::warn!("the journal is not used: {error}");
            None
        }
        opened => opened?,
    };
    let Some((file, stat)) = opened else { return Ok(HashMap::new()) };
    let len = usize::try_from(stat.size.min(JOURNAL_BYTES_MAX)).unwrap_or(0);
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match rustix::io::read(&file, room) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::read(file.place(), errno.into())),
        }
    }
    bytes.truncate(filled);
    let (records, flaw) = decode(&bytes, root);
    if let Some(flaw) = flaw {
        tracing::warn!(
            "the journal {} {}: its first {} records count, every other file is compared by reading it",
            file.place(),
            flaw.words(),
            records.len()
        );
    }
    Ok(records)
}

/// A journal that is being written.
#[derive(Debug)]
pub(super) struct Journal {
    file: OpenFile,
    link: Mutex<Link>,
}

impl Journal {
    /// Begins anew.
    ///
    /// # Errors
    /// E07, E09.
    pub(super) fn begin(staging: &Dir, root: &str) -> Result<Self> {
        let name = rel(JOURNAL)?;
        clear(staging, &name)?;
        let file = staging.create_file(&name, FileMode::Buffered)?;
        let (header, link) = encode_header(root);
        write(&file, &header)?;
        Ok(Self { file, link: Mutex::new(link) })
    }

    /// Notes a file that is durable.
    ///
    /// # Errors
    /// E07, E09.
    pub(super) fn note(&self, record: &Record) -> Result<()> {
        let mut bytes = Vec::new();
        // Held while it is written: the order in the file is that of the chain.
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        *link = encode_record(record, &link, &mut bytes);
        write(&self.file, &bytes)
    }
}

fn write(file: &OpenFile, mut rest: &[u8]) -> Result<()> {
    while !rest.is_empty() {
        match rustix::io::write(file, rest) {
            Ok(0) => {
                return Err(Error::new(
                    Code::TargetWrite,
                    format!("cannot write {}", file.place()),
                ));
            }
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::write(file.place(), errno.into())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u8) -> Record {
        Record {
            path: RelPath::parse(format!("db/t{number}.ibd").as_bytes()).unwrap(),
            size: 1 << 20,
            ino: number.into(),
            ctime: FileTime { s: -5, ns: number.into() },
            hash: FileHash([number; 32]),
        }
    }

    fn journal(root: &str, numbers: &[u8]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut link) = encode_header(root);
        let mut ends = vec![bytes.len()];
        for number in numbers {
            link = encode_record(&record(*number), &link, &mut bytes);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn records_come_back_and_the_last_one_of_a_path_counts() {
        let (mut bytes, mut link) = encode_header("data");
        let newer = Record { size: 7, ..record(1) };
        for record in [record(1), record(2), newer.clone()] {
            link = encode_record(&record, &link, &mut bytes);
        }
        let (records, flaw) = decode(&bytes, "data");
        assert_eq!(flaw, None);
        assert_eq!(records.len(), 2);
        assert_eq!(records[&newer.path], newer);
    }

    #[test]
    fn a_torn_tail_costs_only_what_is_torn() {
        let (bytes, ends) = journal("data", &[1, 2, 3]);
        for len in 0..bytes.len() {
            let (records, flaw) = decode(&bytes[..len], "data");
            let whole = ends.iter().filter(|end| **end <= len).count();
            assert_eq!(records.len(), whole.saturating_sub(1), "cut to {len}");
            assert_eq!(flaw.is_none(), ends.contains(&len), "cut to {len}");
        }
    }

    #[test]
    fn nothing_after_a_damaged_byte_counts() {
        let (bytes, ends) = journal("data", &[1, 2, 3]);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            let (records, flaw) = decode(&flipped, "data");
            let whole = ends.iter().filter(|end| **end <= at).count();
            assert_eq!(records.len(), whole.saturating_sub(1), "flipped in {at}");
            assert!(flaw.is_some(), "flipped in {at}");
        }
    }

    #[test]
    fn records_of_another_journal_have_no_place_in_this_one() {
        let ((ours, ends), (theirs, _)) = (journal("data", &[1]), journal("data", &[2, 3]));
        let second = &theirs[journal("data", &[2]).1[1]..];
        let mixed = [&ours[..ends[1]], second].concat();
        let (records, flaw) = decode(&mixed, "data");
        assert_eq!((records.len(), flaw), (1, Some(Flaw::Broken)));
        assert_eq!(decode(&ours, "redo"), (HashMap::new(), Some(Flaw::OtherRoot)));
        let mut other_version = ours;
        other_version[7] = b'2';
        assert_eq!(decode(&other_version, "data"), (HashMap::new(), Some(Flaw::Version)));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let tree = tempfile::tempdir().unwrap();
        let dir = Dir::open_target(tree.path()).unwrap();
        assert!(load(&dir, "data").unwrap().is_empty());
        let journal = Journal::begin(&dir, "data").unwrap();
        for number in 1..=3 {
            journal.note(&record(number)).unwrap();
        }
        assert_eq!(load(&dir, "data").unwrap().len(), 3);
        Journal::begin(&dir, "data").unwrap();
        assert!(load(&dir, "data").unwrap().is_empty());
    }
}
