//! The joiner's account of the manifest: what was declared, what is gone, and the sums.

use alloc::vec::Vec;

use crate::error::ProtocolError;
use crate::limits::{FILES_MAX, GENERATION_MAX, TOTAL_BYTES_MAX};
use crate::manifest::Entry;
use crate::types::{FileId, Generation};

/// What is kept of an entry. Unit: 24 bytes; the owner keeps the entry itself.
#[derive(Debug, Clone, Copy)]
struct Known {
    id: FileId,
    generation: Generation,
    is_gone: bool,
    size: u64,
    /// Tells whether a later declaration names the same root, kind and path.
    place: u64,
}

/// Everything declared so far.
#[derive(Debug)]
pub(crate) struct Tally {
    roots: usize,
    /// Ascending by number, because new entries ascend.
    known: Vec<Known>,
    entries: u64,
    bytes: u64,
    is_complete: bool,
}

impl Tally {
    pub(crate) fn new(roots: usize) -> Self {
        Self { roots, known: Vec::new(), entries: 0, bytes: 0, is_complete: false }
    }

    /// Takes a new entry, or a known one with a higher generation.
    pub(crate) fn add(&mut self, entry: &Entry) -> Result<(), ProtocolError> {
        self.is_complete = false;
        if usize::from(entry.root.0) >= self.roots {
            return Err(inconsistent("entry below a root that was not declared"));
        }
        let place = place(entry);
        let old_size = match self.known.last() {
            Some(last) if entry.id <= last.id => {
                let known = self.known_mut(entry.id)?;
                if known.place != place {
                    return Err(inconsistent("an entry was declared again with another path"));
                }
                if entry.generation <= known.generation {
                    return Err(inconsistent("an entry was declared again without a change"));
                }
                known.generation = entry.generation;
                core::mem::replace(&mut known.size, entry.size)
            }
            _ => {
                self.append(entry, place)?;
                0
            }
        };
        self.bytes = self.bytes - old_size + entry.size;
        check_limit("bytes of the transfer", TOTAL_BYTES_MAX, self.bytes)
    }

    /// Takes away an entry for good.
    pub(crate) fn remove(&mut self, id: FileId) -> Result<(), ProtocolError> {
        self.is_complete = false;
        let known = self.known_mut(id)?;
        known.is_gone = true;
        self.bytes -= known.size;
        self.entries -= 1;
        Ok(())
    }

    /// Compares the donor's sums with ours at the end of a walk.
    pub(crate) fn end(&mut self, entries: u64, bytes: u64) -> Result<(), ProtocolError> {
        if (entries, bytes) != (self.entries, self.bytes) {
            return Err(inconsistent("the manifest's sums differ from its entries"));
        }
        self.is_complete = true;
        Ok(())
    }

    /// Compares the donor's sums with ours at the end of the transfer.
    pub(crate) fn finish(&self, entries: u64, bytes: u64) -> Result<(), ProtocolError> {
        if !self.is_complete {
            return Err(inconsistent("Finish before the manifest's end"));
        }
        if (entries, bytes) != (self.entries, self.bytes) {
            return Err(inconsistent("the final sums differ from the manifest"));
        }
        Ok(())
    }

    fn append(&mut self, entry: &Entry, place: u64) -> Result<(), ProtocolError> {
        check_limit("entries of the transfer", FILES_MAX, self.known.len() as u64 + 1)?;
        self.known.push(Known {
            id: entry.id,
            generation: entry.generation,
            is_gone: false,
            size: entry.size,
            place,
        });
        self.entries += 1;
        Ok(())
    }

    fn known_mut(&mut self, id: FileId) -> Result<&mut Known, ProtocolError> {
        let found = self.known.binary_search_by_key(&id, |known| known.id);
        let known = found.ok().and_then(|index| self.known.get_mut(index));
        known.filter(|known| !known.is_gone).ok_or(inconsistent("no entry has this number"))
    }
}

fn inconsistent(what: &'static str) -> ProtocolError {
    ProtocolError::Inconsistent { what }
}

fn check_limit(what: &'static str, limit: u64, value: u64) -> Result<(), ProtocolError> {
    if value > limit { Err(ProtocolError::Limit { what, limit, value }) } else { Ok(()) }
}

/// 64 bits of a hash are enough: the donor is proven, this finds its mistakes.
fn place(entry: &Entry) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[entry.root.0, entry.kind.number()]).update(entry.path.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

// An entry's sums stay far below u64::MAX whatever the peer declares.
const _: () = assert!(
    TOTAL_BYTES_MAX.checked_add(crate::limits::FILE_BYTES_MAX).is_some()
        && GENERATION_MAX < u16::MAX
);
