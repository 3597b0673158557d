//! The journal's bytes are the real ones; the model knows files by numbers.

use fastsst_proto::FileHash;
use fastsst_proto::path::RelPath;

use super::disk::Ino;
use crate::staging::journal::{self, decode, decode_each, encode_header, encode_record};
use crate::tree::FileTime;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) path: u8,
    pub(super) size: u64,
    pub(super) ino: Ino,
    pub(super) ctime: u64,
    pub(super) hash: FileHash,
}

const ROOT: &str = "data";

pub(super) fn header() -> Vec<u8> {
    encode_header(ROOT).0
}

/// The bytes of a record that follows others.
pub(super) fn record(before: &[u8], record: &Record) -> Vec<u8> {
    // After a flaw nothing that is appended counts, whatever it is tied to.
    let link = decode_each(before, ROOT, drop).unwrap_or_default();
    let real = journal::Record {
        path: RelPath::parse(record.path.to_string().as_bytes()).unwrap(),
        size: record.size,
        ino: record.ino,
        ctime: FileTime { s: i64::try_from(record.ctime).unwrap(), ns: 0 },
        hash: record.hash,
    };
    let mut bytes = Vec::new();
    encode_record(&real, &link, &mut bytes);
    bytes
}

/// All records up to the first that is damaged.
pub(super) fn read(bytes: &[u8]) -> Vec<Record> {
    let (records, _) = decode(bytes, ROOT);
    let mut records: Vec<_> = records
        .into_values()
        .map(|record| Record {
            path: record.path.to_string().parse().unwrap(),
            size: record.size,
            ino: record.ino,
            ctime: record.ctime.s.cast_unsigned(),
            hash: record.hash,
        })
        .collect();
    records.sort_by_key(|record| record.path);
    records
}
