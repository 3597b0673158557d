//! Small files, from the frames of a lane to closed files in one thread.
//!
//! A lane packs small chunks that arrived back to back into one buffer and hands them on as a
//! group. One thread then verifies, writes and closes each file of it, and acknowledges them all
//! together; several threads hide the latency of the disk.

use std::ops::Range;
use std::sync::Arc;

use fastsst_proto::chunk::{ChunkHeader, Encoding};
use flume::Receiver;

use super::catalog::{Item, Novelty};
use super::compare::Comparison;
use super::lane::Acks;
use super::verify::Verifier;
use super::write::{Closing, acknowledge};
use crate::error::{Error, Result};
use crate::pool::{BUFFER_ALIGN, BUFFER_BYTES, PoolBuf};

/// Largest file that is received in a group. Unit: bytes. Why: as at the donor.
const SMALL_BYTES_MAX: u64 = crate::send::SMALL_BYTES_MAX;

/// Most chunks of one group. Why: their acknowledgements wait for each other.
const GROUP_CHUNKS_MAX: usize = 64;

/// How many threads. Why: as at the donor.
pub(super) const THREADS: usize = 8;

/// Small chunks that arrived one after the other.
#[derive(Debug)]
pub(super) struct Group {
    chunks: Vec<Small>,
    /// Their payloads, each at the start of a block.
    buf: PoolBuf,
    /// Where they are acknowledged when they are written.
    acks: Acks,
}

#[derive(Debug)]
struct Small {
    header: ChunkHeader,
    item: Arc<Item>,
    /// Whole blocks of the buffer, so that they can be written directly.
    place: Range<usize>,
}

/// Whether a chunk is all of a small file, and goes into a group.
///
/// Holes of sparse files are left to the general path.
pub(super) fn is_small(header: &ChunkHeader, item: &Item) -> bool {
    item.entry.size <= SMALL_BYTES_MAX
        && !item.entry.sparse
        && item.entry.generation == header.at.generation
}

impl Group {
    pub(super) fn new(buf: PoolBuf, acks: &Acks) -> Self {
        Self { chunks: Vec::new(), buf, acks: acks.clone() }
    }

    /// Room for the payload of one more chunk; `None` when the group is full.
    pub(super) fn place(&mut self, header: &ChunkHeader) -> Option<&mut [u8]> {
        let start = self.chunks.last().map_or(0, |last| last.place.end);
        let place = start..start + room_for(header);
        if self.chunks.len() >= GROUP_CHUNKS_MAX || place.end > BUFFER_BYTES {
            return None;
        }
        let len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        self.buf.as_mut_slice().get_mut(place)?.get_mut(..len)
    }

    /// The payload is in its place.
    pub(super) fn add(&mut self, header: ChunkHeader, item: Arc<Item>) {
        let start = self.chunks.last().map_or(0, |last| last.place.end);
        self.chunks.push(Small { place: start..start + room_for(&header), header, item });
    }
}

/// Bytes a chunk takes in the buffer of a group: what is raw is written from there.
fn room_for(header: &ChunkHeader) -> usize {
    let len = match header.encoding {
        Encoding::Raw => header.plain_len,
        Encoding::Zstd => header.payload_len,
    };
    usize::try_from(len).unwrap_or(BUFFER_BYTES).next_multiple_of(BUFFER_ALIGN)
}

/// One of the threads that store small files.
pub(super) struct SmallWorker {
    pub(super) groups: Receiver<Group>,
    pub(super) verifier: Verifier,
    /// Present when there is a stale copy.
    pub(super) comparison: Option<Arc<Comparison>>,
    pub(super) closing: Closing,
}

impl SmallWorker {
    /// Works until no more groups arrive; `spare` is where chunks are decompressed to.
    ///
    /// # Errors
    /// A chunk is corrupt, a file cannot be written, or the transfer was cancelled.
    pub(super) fn run(mut self, mut spare: PoolBuf) -> Result<()> {
        while let Ok(Group { chunks, mut buf, acks }) = self.groups.recv() {
            let mut stored = Vec::with_capacity(chunks.len());
            for Small { header, item, place } in chunks {
                let room = buf.as_mut_slice().get_mut(place);
                let room = room.ok_or_else(|| Error::bug("a small chunk beyond its buffer"))?;
                if self.store((&header, &item), room, spare.as_mut_slice(), &acks)? {
                    stored.push(header.at);
                }
            }
            // Free before the lane is woken, which may be waiting for it.
            drop(buf);
            acknowledge(&acks, stored);
        }
        Ok(())
    }

    /// Verifies a chunk, writes its file and closes it; false when it is not to be acknowledged
    /// because another lane's copy is just being written.
    fn store(
        &mut self,
        (header, item): (&ChunkHeader, &Arc<Item>),
        room: &mut [u8],
        spare: &mut [u8],
        acks: &Acks,
    ) -> Result<bool> {
        let verified = self.verifier.small(header, item, room, spare)?;
        if let Some(comparison) = &self.comparison {
            comparison.decided_file((header.at.file, header.at.generation));
        }
        match item.verified(header.at.chunk, header.hash, acks)? {
            Novelty::New => {}
            Novelty::InFlight => return Ok(false),
            Novelty::Written => return Ok(true),
        }
        let plain = verified.map(|verified| verified.plain);
        self.closing.close(item, |staged| staged.store(plain))?;
        self.closing.progress.add_bytes(u64::from(header.plain_len));
        let (_, waiting) = item.written(header.at.chunk);
        for acks in waiting {
            acknowledge(&acks, vec![header.at]);
        }
        Ok(true)
    }
}
