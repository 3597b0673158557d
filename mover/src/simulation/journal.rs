//! The bytes of the model's journal: records that are chained by their hashes, read up to the first
//! that is damaged.

use fastsst_proto::FileHash;

use super::disk::Ino;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) path: u8,
    pub(super) size: u64,
    pub(super) ino: Ino,
    pub(super) ctime: u64,
    pub(super) hash: FileHash,
}

const HEADER: &[u8; 8] = b"journal1";
const BODY: usize = 1 + 8 + 8 + 8 + 32;

pub(super) fn header() -> Vec<u8> {
    HEADER.to_vec()
}

/// The bytes of a record that follows others.
pub(super) fn record(before: &[u8], record: &Record) -> Vec<u8> {
    let mut bytes = vec![record.path];
    for number in [record.size, record.ino, record.ctime] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(record.hash.0);
    let sum = sum(before, &bytes);
    bytes.extend(sum);
    bytes
}

/// All records up to the first that is damaged.
pub(super) fn read(bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut at = HEADER.len();
    if !bytes.starts_with(HEADER) {
        return records;
    }
    while let Some(body) = bytes.get(at..at + BODY) {
        if bytes.get(at + BODY..at + BODY + 32) != Some(&sum(&bytes[..at], body)) {
            break;
        }
        let number = |from: usize| u64::from_le_bytes(body[from..from + 8].try_into().unwrap());
        let hash = FileHash(body[25..].try_into().unwrap());
        let (size, ino, ctime) = (number(1), number(9), number(17));
        records.push(Record { path: body[0], size, ino, ctime, hash });
        at += BODY + 32;
    }
    records
}

/// Chained to the record before.
fn sum(before: &[u8], body: &[u8]) -> [u8; 32] {
    let chain = &before[before.len().saturating_sub(32)..];
    *blake3::Hasher::new().update(chain).update(body).finalize().as_bytes()
}
