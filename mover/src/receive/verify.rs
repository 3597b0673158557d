//! Stages *decompress* and *verify* of the joiner, and the writes that follow from them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fastsst_proto::ChunkRef;
use fastsst_proto::chunk::{ChunkHeader, Encoding};
use fastsst_proto::hash::{chunk_hash, zero_chunk_hash};
use flume::{Receiver, Sender};

use super::catalog::{Item, Novelty};
use super::lane::Arrived;
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
    pub(super) acks: Sender<ChunkRef>,
}

/// A chunk whose content has the hash it came with; only [`VerifyWorker`] can make one.
struct Verified {
    header: ChunkHeader,
    plain: PoolBuf,
}

/// One of the threads that decompress and verify.
pub(super) struct VerifyWorker {
    pub(super) arrived: Receiver<Arrived>,
    pub(super) engine: Arc<IoEngine<WriteTag>>,
    pub(super) stored: Sender<Stored>,
    pub(super) zstd: zstd::bulk::Decompressor<'static>,
    /// Buffers for decompressed chunks; apart from the lanes', so that neither waits for the other.
    pub(super) pool: Pool,
    pub(super) zero_bytes: Arc<AtomicU64>,
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
            let zeros = header.plain_len - header.sent_bytes();
            self.zero_bytes.fetch_add(u64::from(zeros), Ordering::Relaxed);
            if header.sent.is_empty() {
                self.verify_hole(&header, &item)?;
                if let Some(tag) = self.novelty(&header, tag)? {
                    self.tell(Stored::New(tag))?;
                }
                continue;
            }
            let verified = self.verify(header, payload, &item)?;
            if let Some(tag) = self.novelty(&header, tag)? {
                self.write(verified, tag)?;
            }
        }
        Ok(())
    }

    fn verify(&mut self, header: ChunkHeader, payload: PoolBuf, item: &Item) -> Result<Verified> {
        let mut plain = match header.encoding {
            Encoding::Raw => payload,
            Encoding::Zstd => self.decompress(&header, &payload, item)?,
        };
        let len = usize::try_from(header.plain_len).unwrap_or(0);
        if !header.zero.is_empty() {
            unpack(plain.as_mut_slice(), header.plain_len, header.sent, header.zero);
        }
        plain.set_len(len);
        if chunk_hash(item.entry.size, header.at.chunk, plain.filled()) != header.hash {
            return Err(corrupt(&header, item, "its content does not have the hash it came with"));
        }
        Ok(Verified { header, plain })
    }

    fn decompress(
        &mut self,
        header: &ChunkHeader,
        payload: &PoolBuf,
        item: &Item,
    ) -> Result<PoolBuf> {
        let mut plain = self.pool.acquire().ok_or_else(|| self.cancel.reason())?;
        let sent = usize::try_from(header.sent_bytes()).unwrap_or(0);
        let room = plain.as_mut_slice().get_mut(..sent);
        let room = room.ok_or_else(|| Error::bug("a chunk beyond its buffer"))?;
        match self.zstd.decompress_to_buffer(payload.filled(), room) {
            Ok(len) if len == sent => Ok(plain),
            Ok(_) | Err(_) => Err(corrupt(header, item, "it does not decompress")),
        }
    }

    fn verify_hole(&self, header: &ChunkHeader, item: &Item) -> Result<()> {
        if zero_chunk_hash(item.entry.size, header.at.chunk) != header.hash {
            return Err(corrupt(header, item, "a hole with the hash of something else"));
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
    fn write(&self, verified: Verified, tag: WriteTag) -> Result<()> {
        let Verified { header, plain } = verified;
        let staged = tag.item.staged.as_ref();
        let file =
            staged.ok_or_else(|| Error::bug("a chunk of something else than a file"))?.open()?;
        let sparse = tag.item.entry.sparse;
        let job = IoJob::write(file, header.at.chunk.offset(), plain, tag);
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
