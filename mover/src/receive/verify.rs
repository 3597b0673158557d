//! Stages *decompress* and *verify* of the joiner, and the writes that follow from them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fastsst_proto::ChunkRef;
use fastsst_proto::chunk::{ChunkHeader, Encoding};
use fastsst_proto::hash::{chunk_hash, zero_chunk_hash};
use flume::{Receiver, Sender};

use super::catalog::{Item, Novelty};
use super::lane::{Acks, Arrived};
use super::write::Stored;
use crate::cancel::Cancel;
use crate::compress::unpack;
use crate::disk::{IoEngine, IoJob};
use crate::error::{Code, Error, Result};
use crate::pool::{Pool, PoolBuf};

/// What a completed write belongs to: one verified chunk.
#[derive(Debug)]
pub(super) struct WriteTag {
    pub(super) at: ChunkRef,
    pub(super) item: Arc<Item>,
    pub(super) plain_len: u32,
    pub(super) acks: Acks,
}

/// Content of a chunk that has the hash it came with; only [`Verifier`] can make one.
pub(super) struct Verified<B> {
    pub(super) plain: B,
}

/// Decompresses and verifies; one per thread, as it keeps zstd's tables.
pub(super) struct Verifier {
    zstd: zstd::bulk::Decompressor<'static>,
    zero_bytes: Arc<AtomicU64>,
}

impl Verifier {
    /// `zero_bytes` counts what needs not be sent.
    ///
    /// # Errors
    /// zstd cannot be set up.
    pub(super) fn new(zero_bytes: &Arc<AtomicU64>) -> Result<Self> {
        let zstd = zstd::bulk::Decompressor::new()
            .map_err(|error| Error::bug("zstd cannot start").because(error))?;
        Ok(Self { zstd, zero_bytes: Arc::clone(zero_bytes) })
    }

    /// Verifies a chunk whose payload is at the start of `room`; its content is in `room` then, or
    /// in `spare` if it came compressed. `None`: it is a hole.
    pub(super) fn small<'a>(
        &mut self,
        header: &ChunkHeader,
        item: &Item,
        room: &'a mut [u8],
        spare: &'a mut [u8],
    ) -> Result<Option<Verified<&'a mut [u8]>>> {
        if self.is_hole(header, item)? {
            return Ok(None);
        }
        let plain = match header.encoding {
            Encoding::Raw => room,
            Encoding::Zstd => {
                let payload = room.get(..usize::try_from(header.payload_len).unwrap_or(0));
                let payload = payload.ok_or_else(|| Error::bug("a payload beyond its room"))?;
                self.decompress(header, item, payload, spare)?;
                spare
            }
        };
        check(header, item, plain)?;
        Ok(Some(Verified { plain }))
    }

    /// Verifies a chunk; if it came compressed its content is in `spare` then, and `payload` is
    /// free.
    fn large(
        &mut self,
        header: &ChunkHeader,
        item: &Item,
        payload: PoolBuf,
        spare: impl FnOnce() -> Result<PoolBuf>,
    ) -> Result<Verified<PoolBuf>> {
        let mut plain = match header.encoding {
            Encoding::Raw => payload,
            Encoding::Zstd => {
                let mut spare = spare()?;
                self.decompress(header, item, payload.filled(), spare.as_mut_slice())?;
                spare
            }
        };
        check(header, item, plain.as_mut_slice())?;
        plain.set_len(usize::try_from(header.plain_len).unwrap_or(0));
        Ok(Verified { plain })
    }

    /// Whether the chunk is a hole, which has its hash then.
    fn is_hole(&self, header: &ChunkHeader, item: &Item) -> Result<bool> {
        let zeros = header.plain_len - header.sent_bytes();
        self.zero_bytes.fetch_add(u64::from(zeros), Ordering::Relaxed);
        if !header.sent.is_empty() {
            return Ok(false);
        }
        if zero_chunk_hash(item.entry.size, header.at.chunk) != header.hash {
            return Err(corrupt(header, item, "a hole with the hash of something else"));
        }
        Ok(true)
    }

    fn decompress(
        &mut self,
        header: &ChunkHeader,
        item: &Item,
        payload: &[u8],
        room: &mut [u8],
    ) -> Result<()> {
        let sent = usize::try_from(header.sent_bytes()).unwrap_or(0);
        let room = room.get_mut(..sent);
        let room = room.ok_or_else(|| Error::bug("a chunk beyond its buffer"))?;
        match self.zstd.decompress_to_buffer(payload, room) {
            Ok(len) if len == sent => Ok(()),
            Ok(_) | Err(_) => Err(corrupt(header, item, "it does not decompress")),
        }
    }
}

/// Moves the sent pages at the start of `room` to their places and compares the hash.
fn check(header: &ChunkHeader, item: &Item, room: &mut [u8]) -> Result<()> {
    if !header.zero.is_empty() {
        unpack(room, header.plain_len, header.sent, header.zero);
    }
    let plain = room.get(..usize::try_from(header.plain_len).unwrap_or(usize::MAX));
    let plain = plain.ok_or_else(|| Error::bug("a chunk beyond its buffer"))?;
    if chunk_hash(item.entry.size, header.at.chunk, plain) != header.hash {
        return Err(corrupt(header, item, "its content does not have the hash it came with"));
    }
    Ok(())
}

/// One of the threads that verify chunks of large files.
pub(super) struct VerifyWorker {
    pub(super) arrived: Receiver<Arrived>,
    pub(super) engine: Arc<IoEngine<WriteTag>>,
    pub(super) stored: Sender<Stored>,
    pub(super) verifier: Verifier,
    /// Buffers for decompressed chunks; apart from the lanes', so that neither waits for the other.
    pub(super) pool: Pool,
    pub(super) cancel: Cancel,
}

impl VerifyWorker {
    /// Works until no more chunks arrive.
    ///
    /// # Errors
    /// A chunk is corrupt, or the transfer was cancelled.
    pub(super) fn run(mut self) -> Result<()> {
        while let Ok(arrived) = self.arrived.recv() {
            let Arrived { header, item, payload, acks } = arrived;
            let tag = WriteTag {
                at: header.at,
                plain_len: header.plain_len,
                acks,
                item: Arc::clone(&item),
            };
            if self.verifier.is_hole(&header, &item)? {
                if let Some(tag) = self.novelty(&header, tag)? {
                    self.tell(Stored::New(tag))?;
                }
                continue;
            }
            let spare = || self.pool.acquire().ok_or_else(|| self.cancel.reason());
            let verified = self.verifier.large(&header, &item, payload, spare)?;
            if let Some(tag) = self.novelty(&header, tag)? {
                self.write(verified, &header, tag)?;
            }
        }
        Ok(())
    }

    /// Passes on the chunks that are new; the others are acknowledged once they are written.
    fn novelty(&self, header: &ChunkHeader, tag: WriteTag) -> Result<Option<WriteTag>> {
        match tag.item.verified(header.at.chunk, header.hash, &tag.acks)? {
            Novelty::New => Ok(Some(tag)),
            Novelty::InFlight => Ok(None),
            Novelty::Written => {
                self.tell(Stored::Again(tag))?;
                Ok(None)
            }
        }
    }

    fn tell(&self, stored: Stored) -> Result<()> {
        self.stored.send(stored).map_err(|_closed| self.cancel.reason())
    }

    /// Submits the write of a chunk. In a sparse file zero pages are left out and stay holes.
    fn write(
        &self,
        verified: Verified<PoolBuf>,
        header: &ChunkHeader,
        tag: WriteTag,
    ) -> Result<()> {
        let staged = tag.item.staged.as_ref();
        let file =
            staged.ok_or_else(|| Error::bug("a chunk of something else than a file"))?.open()?;
        let sparse = tag.item.entry.sparse;
        let job = IoJob::write(file, header.at.chunk.offset(), verified.plain, tag);
        let job = if sparse { job.only(header.sent) } else { job };
        self.engine.submit(job).map_err(|_closed| self.cancel.reason())
    }
}

fn corrupt(header: &ChunkHeader, item: &Item, how: &str) -> Error {
    Error::new(
        Code::CorruptChunk,
        format!(
            "chunk {} of {} is corrupt: {how}; nothing of it was written; suspect memory or disk of \
             the donor and start the transfer again",
            header.at.chunk.0, item.entry.path
        ),
    )
}
