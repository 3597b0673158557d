//! Stage *read* of the donor: large files from the plan become chunks in buffers.

use std::ops::Range;
use std::sync::Arc;

use fastsst_proto::chunk::{ChunkHeader, Encoding, all_pages};
use fastsst_proto::hash::{page_hash, zero_chunk_hash};
use fastsst_proto::limits::PAGE_BYTES;
use fastsst_proto::types::{chunk_count, chunk_len};
use fastsst_proto::{
    Asked, ChunkHash, ChunkIndex, ChunkRef, FileHash, FileId, FileRef, Generation, Have, HaveChunk,
    How, PageKey, PageMask,
};
use flume::Sender;

use super::catalog::{FileToRead, Hashes, lock};
use super::control::Order;
use super::open::Source;
use super::parcel::Parcel;
use super::plan::{Plan, Task};
use crate::cancel::Cancel;
use crate::compress::{Compression, Encoded, How as Done};
use crate::disk::{Extents, IoEngine, IoJob, OpenFile, read_now};
use crate::error::{Code, Error, Result};
use crate::pool::Pool;
use crate::throttle::Throttle;

/// What a completed read belongs to.
#[derive(Debug)]
pub(super) struct ReadTag {
    pub(super) at: ChunkRef,
    pub(super) file_size: u64,
    /// Bytes the chunk must have.
    pub(super) len: u32,
    pub(super) purpose: Purpose,
}

impl ReadTag {
    /// Which declaration of which file, and its size.
    pub(super) fn file(&self) -> (FileId, Generation, u64) {
        (self.at.file, self.at.generation, self.file_size)
    }
}

/// What a chunk is read for.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    /// To be sent.
    Send,
    /// To be sent as far as it differs from what the joiner has.
    Compare(Box<HaveChunk>),
    /// To be sent once more, as before: the joiner has heard the decision.
    Again(Box<HaveChunk>),
    /// To be hashed: the joiner expects this of the whole file.
    Hash(FileHash),
}

/// Reads what the plan says, in its order.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) source: Arc<Source>,
    pub(super) plan: Arc<Plan>,
    pub(super) hashes: Arc<Hashes>,
    pub(super) pool: Pool,
    pub(super) engine: IoEngine<ReadTag>,
    pub(super) lanes: Sender<Parcel>,
    pub(super) orders: Sender<Order>,
    pub(super) key: PageKey,
    pub(super) throttle: Arc<Throttle>,
    /// Counts holes.
    pub(super) compression: Arc<Compression>,
    pub(super) cancel: Cancel,
}

/// A declared file that is open.
struct Opened {
    id: FileId,
    found: FileToRead,
    file: Arc<OpenFile>,
}

impl Opened {
    fn size(&self) -> u64 {
        self.found.stat.size
    }

    fn at(&self, chunk: ChunkIndex) -> ChunkRef {
        ChunkRef { file: self.id, generation: self.found.generation, chunk }
    }

    /// Where its holes are, if it has any.
    fn extents(&self) -> Option<Extents<'_>> {
        self.found.stat.is_sparse().then(|| self.file.extents())
    }
}

impl Reader {
    /// Works until the plan is closed.
    ///
    /// # Errors
    /// A file cannot be read, or the transfer was cancelled.
    pub(super) fn run(mut self) -> Result<()> {
        while let Some(task) = self.plan.next(&self.cancel)? {
            match task {
                Task::File(id) => self.read_file(id, &Purpose::Send)?,
                Task::Hash(id, expected) => self.read_file(id, &Purpose::Hash(expected))?,
                Task::Range(file, range) => self.read_range(file, range)?,
                Task::Compare(have) => self.compare(have)?,
                Task::Chunk(at, known) => self.read_again(at, known)?,
                Task::Ask(asked) => self.ask(asked)?,
                Task::Seek(file) => self.seek(file)?,
            }
        }
        Ok(())
    }

    fn read_file(&mut self, id: FileId, purpose: &Purpose) -> Result<()> {
        let Some(opened) = self.open(id)? else {
            if let Purpose::Hash(_) = purpose {
                self.plan.decided(1);
                self.withdraw(id)?;
            }
            return Ok(());
        };
        self.read_chunks(&opened, 0..chunk_count(opened.size()), purpose)
    }

    fn read_range(&mut self, (id, generation): FileRef, range: Range<u64>) -> Result<()> {
        match self.open(id)? {
            Some(opened) if opened.found.generation == generation => {
                self.read_chunks(&opened, range, &Purpose::Send)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn read_chunks(&mut self, opened: &Opened, range: Range<u64>, purpose: &Purpose) -> Result<()> {
        let mut extents = opened.extents();
        for index in range {
            let at = opened.at(chunk_index(index, opened)?);
            self.plan.chunk_planned();
            self.read_chunk(at, opened, purpose.clone(), &mut extents)?;
            // The joiner reads ahead only so far; a long file must not keep it waiting.
            if let Some(have) = self.plan.next_described() {
                self.compare(have)?;
            }
        }
        Ok(())
    }

    /// Reads chunks that the joiner has described.
    fn compare(&mut self, have: Have) -> Result<()> {
        let Have { file, generation, first_chunk, chunks } = have;
        let opened = self.open(file)?.filter(|opened| opened.found.generation == generation);
        let Some(opened) = opened else {
            self.plan.decided(chunks.len());
            return self.withdraw(file);
        };
        let mut extents = opened.extents();
        for (index, have) in (u64::from(first_chunk.0)..).zip(chunks) {
            let at = opened.at(chunk_index(index, &opened)?);
            self.plan.chunk_planned();
            self.read_chunk(at, &opened, Purpose::Compare(Box::new(have)), &mut extents)?;
        }
        Ok(())
    }

    /// A chunk whose lane died, or that could not be patched; it is still counted as planned.
    fn read_again(&mut self, at: ChunkRef, known: Option<Box<HaveChunk>>) -> Result<()> {
        match self.open(at.file)? {
            Some(opened) if opened.found.generation == at.generation => {
                let purpose = known.map_or(Purpose::Send, Purpose::Again);
                self.read_chunk(at, &opened, purpose, &mut None)
            }
            Some(_) | None => self.plan.chunks_settled(1),
        }
    }

    /// The joiner must not wait for decisions about a file that has changed.
    fn withdraw(&self, file: FileId) -> Result<()> {
        // Only what was declared first is ever asked about.
        match self.plan.withdraw((file, Generation(0))) {
            Some(asked) => self.ask(asked),
            None => Ok(()),
        }
    }

    /// A file whose turn has come only now.
    fn ask(&self, asked: Asked) -> Result<()> {
        self.orders.send(Order::Compare(vec![asked])).map_err(|_closed| self.cancel.reason())
    }

    /// Asks for a file by its first page.
    fn seek(&mut self, file: FileRef) -> Result<()> {
        let Some(opened) = self.open(file.0)? else { return self.withdraw(file.0) };
        let buf = self.pool.acquire().ok_or_else(|| self.cancel.reason())?;
        let (buf, got) = read_now(&opened.file, 0, PAGE_BYTES, buf);
        got.map_err(|error| Error::read(opened.file.place(), error))?;
        let page = page_hash(opened.size(), ChunkIndex(0), (0, buf.filled()));
        match self.plan.ask_again(file, How::Twin(self.key.of(&page))) {
            Some(asked) => self.ask(asked),
            None => Ok(()),
        }
    }

    fn open(&self, id: FileId) -> Result<Option<Opened>> {
        let Some(found) = lock(&self.source.catalog).file(id) else { return Ok(None) };
        let file = self.source.open(id, &found)?;
        Ok(file.map(|file| Opened { id, found, file }))
    }

    fn read_chunk(
        &mut self,
        at: ChunkRef,
        opened: &Opened,
        purpose: Purpose,
        extents: &mut Option<Extents<'_>>,
    ) -> Result<()> {
        let file_size = opened.size();
        let len = chunk_len(file_size, at.chunk);
        let is_hole = match extents {
            Some(extents) => extents.is_hole(at.chunk.offset(), len.into())?,
            None => false,
        };
        let tag = ReadTag { at, file_size, len, purpose };
        if is_hole && let Purpose::Send = tag.purpose {
            return self.send_hole(&tag);
        }
        self.throttle.pass(len, &self.cancel)?;
        let buf = self.pool.acquire().ok_or_else(|| self.cancel.reason())?;
        self.plan.read_started();
        let len = usize::try_from(len).unwrap_or(0);
        let job = IoJob::read(Arc::clone(&opened.file), at.chunk.offset(), len, buf, tag);
        self.engine.submit(job).map_err(|_closed| self.cancel.reason())
    }

    /// A hole is hashed without being read and travels without a payload.
    fn send_hole(&self, tag: &ReadTag) -> Result<()> {
        self.cancel.check()?;
        let hash = zero_chunk_hash(tag.file_size, tag.at.chunk);
        self.hashes.insert(tag.file(), tag.at.chunk, hash)?;
        let encoded = hole(tag, hash);
        self.compression.histogram.count(Done::Zero);
        self.lanes.send(Parcel::from(encoded)).map_err(|_closed| self.cancel.reason())
    }
}

fn hole(tag: &ReadTag, hash: ChunkHash) -> Encoded {
    let header = ChunkHeader {
        at: tag.at,
        encoding: Encoding::Raw,
        plain_len: tag.len,
        payload_len: 0,
        sent: PageMask::NONE,
        zero: all_pages(tag.len),
        hash,
    };
    Encoded { header, payload: bytes::Bytes::new() }
}

fn chunk_index(index: u64, opened: &Opened) -> Result<ChunkIndex> {
    let index = u32::try_from(index).map_err(|error| {
        Error::new(Code::Limit, format!("{} is too large", opened.found.path)).because(error)
    })?;
    Ok(ChunkIndex(index))
}
