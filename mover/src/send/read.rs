//! Stage *read* of the donor: large files from the plan become chunks in buffers.

use std::sync::Arc;

use fastsst_proto::chunk::{ChunkHeader, Encoding, all_pages};
use fastsst_proto::hash::zero_chunk_hash;
use fastsst_proto::types::{chunk_count, chunk_len};
use fastsst_proto::{ChunkIndex, ChunkRef, FileId, Generation, PageMask};
use flume::Sender;

use super::catalog::{FileToRead, Hashes, lock};
use super::open::Source;
use super::parcel::Parcel;
use super::plan::{Plan, Task};
use crate::cancel::Cancel;
use crate::compress::{Compression, Encoded, How};
use crate::disk::{IoEngine, IoJob, OpenFile};
use crate::error::{Code, Error, Result};
use crate::pool::Pool;
use crate::throttle::Throttle;

/// What a completed read belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadTag {
    pub(super) at: ChunkRef,
    pub(super) file_size: u64,
    /// Bytes the chunk must have.
    pub(super) len: u32,
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
    pub(super) throttle: Arc<Throttle>,
    /// Counts holes.
    pub(super) compression: Arc<Compression>,
    pub(super) cancel: Cancel,
}

impl Reader {
    /// Works until the plan is closed.
    ///
    /// # Errors
    /// A file cannot be read, or the transfer was cancelled.
    pub(super) fn run(mut self) -> Result<()> {
        while let Some(task) = self.plan.next(&self.cancel)? {
            match task {
                Task::File(id) => self.read_file(id)?,
                Task::Chunk(at) => self.read_again(at)?,
            }
        }
        Ok(())
    }

    fn read_file(&mut self, id: FileId) -> Result<()> {
        let Some((found, file)) = self.open(id)? else { return Ok(()) };
        let size = found.stat.size;
        let mut extents = found.stat.is_sparse().then(|| file.extents());
        for index in 0..chunk_count(size) {
            let chunk = ChunkIndex(u32::try_from(index).map_err(|error| {
                Error::new(Code::Limit, format!("{} is too large", found.path)).because(error)
            })?);
            let at = ChunkRef { file: id, generation: found.generation, chunk };
            self.plan.chunk_planned();
            let len = u64::from(chunk_len(size, chunk));
            let hole = match &mut extents {
                Some(extents) => extents.is_hole(chunk.offset(), len)?,
                None => false,
            };
            if hole { self.send_hole(at, size)? } else { self.read_chunk(at, size, &file)? }
        }
        Ok(())
    }

    /// A chunk whose lane died; it is still counted as planned.
    fn read_again(&mut self, at: ChunkRef) -> Result<()> {
        match self.open(at.file)? {
            Some((found, file)) if found.generation == at.generation => {
                self.read_chunk(at, found.stat.size, &file)
            }
            Some(_) | None => self.plan.chunks_settled(1),
        }
    }

    fn open(&self, id: FileId) -> Result<Option<(FileToRead, Arc<OpenFile>)>> {
        let Some(found) = lock(&self.source.catalog).file(id) else { return Ok(None) };
        let file = self.source.open(id, &found)?;
        Ok(file.map(|file| (found, file)))
    }

    fn read_chunk(&mut self, at: ChunkRef, file_size: u64, file: &Arc<OpenFile>) -> Result<()> {
        let len = chunk_len(file_size, at.chunk);
        self.throttle.pass(len, &self.cancel)?;
        let buf = self.pool.acquire().ok_or_else(|| self.cancel.reason())?;
        self.plan.read_started();
        let tag = ReadTag { at, file_size, len };
        let len = usize::try_from(len).unwrap_or(0);
        let job = IoJob::read(Arc::clone(file), at.chunk.offset(), len, buf, tag);
        self.engine.submit(job).map_err(|_closed| self.cancel.reason())
    }

    /// A hole is hashed without being read and travels without a payload.
    fn send_hole(&self, at: ChunkRef, file_size: u64) -> Result<()> {
        self.cancel.check()?;
        let plain_len = chunk_len(file_size, at.chunk);
        let hash = zero_chunk_hash(file_size, at.chunk);
        self.hashes.insert((at.file, at.generation, file_size), at.chunk, hash)?;
        let header = ChunkHeader {
            at,
            encoding: Encoding::Raw,
            plain_len,
            payload_len: 0,
            sent: PageMask::NONE,
            zero: all_pages(plain_len),
            hash,
        };
        let encoded = Encoded { header, payload: bytes::Bytes::new() };
        self.compression.histogram.count(How::Zero);
        self.lanes.send(Parcel::from(encoded)).map_err(|_closed| self.cancel.reason())
    }
}

/// Which declaration of a file a tag belongs to.
pub(super) fn file_of(tag: &ReadTag) -> (FileId, Generation, u64) {
    (tag.at.file, tag.at.generation, tag.file_size)
}
