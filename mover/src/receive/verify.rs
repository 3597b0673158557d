//! Stages *decompress* and *verify* of the joiner, and the writes that follow from them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fastsst_proto::chunk::{ChunkHeader, Encoding, page_len};
use fastsst_proto::delta::Known;
use fastsst_proto::hash::{chunk_hash, page_hash, zero_chunk_hash};
use fastsst_proto::types::chunk_len;
use fastsst_proto::{ChunkRef, PageMask};
use flume::{Receiver, Sender};

use super::catalog::{Item, Novelty};
use super::compare::Comparison;
use super::lane::{Acks, Arrived, Outcome};
use super::write::Stored;
use crate::cancel::Cancel;
use crate::compress::{page_range, unpack};
use crate::disk::file::Room;
use crate::disk::{IoEngine, IoJob};
use crate::error::{Code, Error, Result};
use crate::pool::{Pool, PoolBuf};
use crate::staging::StagedFile;

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

    /// Verifies a chunk of which some pages came: `known` is what the others are. `None`: together
    /// they are not that chunk, since a truncated hash has collided.
    fn partial(
        &mut self,
        (header, known): (&ChunkHeader, Known),
        item: &Item,
        payload: PoolBuf,
        spare: impl FnOnce() -> Result<PoolBuf>,
    ) -> Result<Option<Verified<PoolBuf>>> {
        let mut pages = match header.encoding {
            Encoding::Raw => payload,
            Encoding::Zstd => {
                let mut spare = spare()?;
                self.decompress(header, item, payload.filled(), spare.as_mut_slice())?;
                spare
            }
        };
        self.zero_bytes.fetch_add(header.zero_bytes().into(), Ordering::Relaxed);
        let (size, chunk) = (item.entry.size, header.at.chunk);
        let (mut sent, mut rest) = (Vec::new(), pages.as_slice());
        for number in header.sent.pages() {
            let len = usize::try_from(page_len(header.plain_len, number)).unwrap_or(usize::MAX);
            let taken = rest.split_at_checked(len);
            let (page, after) = taken.ok_or_else(|| Error::bug("a page beyond its payload"))?;
            sent.push((number, page_hash(size, chunk, (number, page))));
            rest = after;
        }
        if known.patched((size, header.at), &sent, header.zero) != Some(header.hash) {
            return Ok(None);
        }
        unpack(pages.as_mut_slice(), header.plain_len, header.sent, header.zero);
        pages.set_len(usize::try_from(header.plain_len).unwrap_or(0));
        Ok(Some(Verified { plain: pages }))
    }

    /// Whether the chunk is a hole, which has its hash then.
    fn is_hole(&self, header: &ChunkHeader, item: &Item) -> Result<bool> {
        self.zero_bytes.fetch_add(header.zero_bytes().into(), Ordering::Relaxed);
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
    /// Present when there is a stale copy.
    pub(super) comparison: Option<Arc<Comparison>>,
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
            let known = self.known(&arrived);
            match arrived.header.is_complete() {
                true => self.whole(arrived)?,
                false => self.partial(arrived, known)?,
            }
        }
        Ok(())
    }

    /// What was known of the chunk: by sending it the donor has decided about that.
    fn known(&self, arrived: &Arrived) -> Option<Known> {
        let comparison = self.comparison.as_ref()?;
        let at = arrived.header.at;
        comparison.decided_file((at.file, at.generation));
        comparison.decided(at)
    }

    fn whole(&mut self, arrived: Arrived) -> Result<()> {
        let Arrived { header, item, payload, acks } = arrived;
        if self.verifier.is_hole(&header, &item)? {
            let tag = tag(&header, &item, acks);
            if let Some(tag) = self.novelty(&header, tag)? {
                self.clear(&item, header.at, header.zero)?;
                self.tell(Stored::New(tag))?;
            }
            return Ok(());
        }
        let spare = || self.pool.acquire().ok_or_else(|| self.cancel.reason());
        let verified = self.verifier.large(&header, &item, payload, spare)?;
        let tag = tag(&header, &item, acks);
        if let Some(tag) = self.novelty(&header, tag)? {
            self.write(verified, &header, tag)?;
        }
        Ok(())
    }

    /// A chunk of which some pages stay as they are.
    fn partial(&mut self, arrived: Arrived, known: Option<Known>) -> Result<()> {
        let Arrived { header, item, payload, acks } = arrived;
        let Some(known) = known else {
            // It came before, over a lane that died.
            return match item.seen(header.at.chunk, &acks) {
                Some(Novelty::New | Novelty::InFlight) => Ok(()),
                Some(Novelty::Written) => self.tell(Stored::Again(tag(&header, &item, acks))),
                None => {
                    again(&acks, header.at);
                    Ok(())
                }
            };
        };
        let spare = || self.pool.acquire().ok_or_else(|| self.cancel.reason());
        let verified = self.verifier.partial((&header, known), &item, payload, spare)?;
        let Some(verified) = verified else {
            tracing::debug!("chunk {} of {} again", header.at.chunk.0, item.entry.path);
            again(&acks, header.at);
            return Ok(());
        };
        let tag = tag(&header, &item, acks);
        if let Some(tag) = self.novelty(&header, tag)? {
            if let Some(comparison) = &self.comparison {
                comparison.kept(header.kept_bytes().into());
            }
            self.write(verified, &header, tag)?;
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

    /// Submits the write of the pages that came. In a sparse file zero pages are left out and
    /// become holes, and what was there before them goes.
    fn write(
        &self,
        verified: Verified<PoolBuf>,
        header: &ChunkHeader,
        tag: WriteTag,
    ) -> Result<()> {
        let file = staged(&tag.item)?.open()?;
        let pages = match tag.item.entry.sparse {
            true => {
                self.clear(&tag.item, header.at, header.zero)?;
                header.sent
            }
            false => header.sent | header.zero,
        };
        if pages.is_empty() {
            self.clear(&tag.item, header.at, header.zero)?;
            return self.tell(Stored::New(tag));
        }
        let job = IoJob::write(file, header.at.chunk.offset(), verified.plain, tag).only(pages);
        self.engine.submit(job).map_err(|_closed| self.cancel.reason())
    }

    /// Makes pages zero that may be something else: those of a file that was not empty.
    fn clear(&self, item: &Item, at: ChunkRef, zero: PageMask) -> Result<()> {
        let staged = staged(item)?;
        if zero.is_empty() || staged.basis().is_none() {
            return Ok(());
        }
        let file = staged.open()?;
        let (mut pages, plain_len) = (zero, chunk_len(item.entry.size, at.chunk));
        let room = if item.entry.sparse { Room::Freed } else { Room::Kept };
        while !pages.is_empty() {
            let first = pages.0.trailing_zeros();
            let count = (pages.0 >> first).trailing_ones();
            pages = pages & !PageMask::first(first + count);
            let (start, _) = page_range(plain_len, first);
            let (last, len) = page_range(plain_len, first + count - 1);
            let place = at.chunk.offset() + start as u64;
            file.clear(place, (last + len - start) as u64, room)
                .map_err(|error| staged.write_failed(error))?;
        }
        Ok(())
    }
}

fn tag(header: &ChunkHeader, item: &Arc<Item>, acks: Acks) -> WriteTag {
    WriteTag { at: header.at, plain_len: header.plain_len, acks, item: Arc::clone(item) }
}

fn staged(item: &Item) -> Result<&Arc<StagedFile>> {
    let staged = item.staged.as_ref();
    staged.ok_or_else(|| Error::bug("a chunk of something else than a file"))
}

/// The lane may have died; the donor then sends the chunk again, and is told again.
fn again(acks: &Acks, at: ChunkRef) {
    if acks.try_send(Outcome::Again(at)).is_err() {
        tracing::debug!("no lane to ask for a chunk again");
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
