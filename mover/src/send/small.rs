//! Small files, from the disk to a parcel of frames in one thread.
//!
//! A hand-over from thread to thread costs more than hashing 64 KiB. So a batch of small files is
//! opened, read, hashed and packed by one thread; several of them hide the latency of the disk.

use std::sync::Arc;

use fastsst_proto::types::chunk_len;
use fastsst_proto::{ChunkIndex, ChunkRef, FileHash, FileId, FileRef, Generation};
use flume::Sender;

use super::catalog::{FileToRead, Hashes};
use super::control::Order;
use super::estimate::Aim;
use super::open::Source;
use super::parcel::{Packing, Parcel};
use super::plan::{Plan, SmallTask};
use crate::compress::{Encoder, raw_header};
use crate::disk::read_now;
use crate::error::{Error, Result};
use crate::pool::{Pool, PoolBuf};
use crate::progress::Progress;
use crate::throttle::Throttle;

/// How many threads. Why: with four a transfer took a sixth longer, with 16 as long (measured:
/// 50,000 cold files of 4 to 128 KiB, two cores).
pub(super) const THREADS: usize = 8;

/// One of the threads that read small files.
#[derive(Debug)]
pub(super) struct SmallReader {
    pub(super) source: Arc<Source>,
    pub(super) plan: Arc<Plan>,
    pub(super) hashes: Arc<Hashes>,
    /// Buffers for parcels.
    pub(super) pool: Pool,
    pub(super) encoder: Encoder,
    pub(super) lanes: Sender<Parcel>,
    pub(super) orders: Sender<Order>,
    pub(super) aim: Aim,
    pub(super) throttle: Arc<Throttle>,
    pub(super) progress: Arc<Progress>,
}

/// A batch of which some files have been read.
struct Batch {
    packing: Packing,
    hashed: Vec<(FileId, Generation, FileHash)>,
    /// Files that are as the joiner has them.
    kept: usize,
    /// Files of which the joiner is told that.
    told: Vec<FileRef>,
    /// Files that were described and are no longer what was declared.
    withdrawn: Vec<FileRef>,
}

impl Batch {
    fn changed(&mut self, id: FileId, expected: Option<FileHash>) {
        if expected.is_some() {
            // Only what was declared first is ever asked about.
            self.withdrawn.push((id, Generation(0)));
        }
    }
}

impl SmallReader {
    /// Works until the plan is closed; `buf` is where files are read to, one after the other.
    ///
    /// # Errors
    /// A file cannot be read, or the transfer was cancelled.
    pub(super) fn run(mut self, mut buf: PoolBuf) -> Result<()> {
        let cancel = self.source.cancel.clone();
        while let Some(tasks) = self.plan.next_small(&cancel)? {
            let frames = self.pool.acquire().ok_or_else(|| cancel.reason())?;
            let hashed = Vec::with_capacity(tasks.len());
            let packing = Packing::new(frames);
            let (told, withdrawn) = (Vec::new(), Vec::new());
            let mut batch = Batch { packing, hashed, kept: 0, told, withdrawn };
            let ids: Vec<FileId> = tasks.iter().map(|(id, _)| *id).collect();
            for (task, found) in tasks.iter().zip(self.source.files(&ids)) {
                if let Some(found) = found {
                    buf = self.read(&mut batch, *task, &found, buf)?;
                }
            }
            let Batch { packing, hashed, kept, told, withdrawn } = batch;
            let read = hashed.len();
            self.hashes.insert_whole(hashed);
            self.decided(&tasks, told, &withdrawn)?;
            self.plan.small_ended((ids.len() - read + kept) as u64)?;
            if let Some(parcel) = packing.finish() {
                self.lanes.send(parcel).map_err(|_closed| cancel.reason())?;
            }
            self.progress.add_files(read as u64);
        }
        Ok(())
    }

    /// Tells the joiner which of the files it described can stay, and which have changed.
    fn decided(
        &self,
        tasks: &[SmallTask],
        told: Vec<FileRef>,
        withdrawn: &[FileRef],
    ) -> Result<()> {
        let described = tasks.iter().filter(|(_, expected)| expected.is_some()).count();
        if !told.is_empty() {
            let order = Order::SameFiles(told);
            self.orders.send(order).map_err(|_closed| self.source.cancel.reason())?;
        }
        let withdrawn: Vec<_> =
            withdrawn.iter().filter_map(|file| self.plan.withdraw(*file)).collect();
        if !withdrawn.is_empty() {
            let order = Order::Compare(withdrawn);
            self.orders.send(order).map_err(|_closed| self.source.cancel.reason())?;
        }
        if described > 0 {
            self.plan.decided(described);
        }
        Ok(())
    }

    /// Adds a file to the batch, unless it is no longer what was declared.
    fn read(
        &mut self,
        batch: &mut Batch,
        (id, expected): SmallTask,
        found: &FileToRead,
        buf: PoolBuf,
    ) -> Result<PoolBuf> {
        let Some(file) = self.source.open(id, found)? else {
            batch.changed(id, expected);
            return Ok(buf);
        };
        let at = ChunkRef { file: id, generation: found.generation, chunk: ChunkIndex(0) };
        let (size, len) = (found.stat.size, chunk_len(found.stat.size, at.chunk));
        self.throttle.pass(len, &self.source.cancel)?;
        let wanted = usize::try_from(len).unwrap_or(usize::MAX);
        let (mut buf, got) = read_now(&file, 0, wanted, buf);
        if got.map_err(|error| Error::read(file.place(), error))? < wanted {
            // The file was cut after it was opened; the next pass declares it again.
            self.source.changed.insert(id);
            batch.changed(id, expected);
            return Ok(buf);
        }
        let header = raw_header(at, size, &mut buf);
        let hash = FileHash(header.hash.0);
        let is_same = expected == Some(hash);
        if is_same {
            self.progress.add_bytes(size);
            self.progress.add_kept(size);
            batch.kept += 1;
        } else {
            batch.packing.add(header, buf.filled(), &mut self.encoder)?;
        }
        if is_same || expected.is_some() && self.aim == Aim::Estimate {
            batch.told.push((id, at.generation));
        }
        batch.hashed.push((id, at.generation, hash));
        Ok(buf)
    }
}
