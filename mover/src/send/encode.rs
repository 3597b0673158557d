//! Stages *hash*, *compare* and *compress* of the donor: buffers become chunks for the lanes.

use std::sync::{Arc, Mutex};

use fastsst_proto::delta::{self, Verdict};
use fastsst_proto::hash::{chunk_from_pages, chunk_hash, page_hashes};
use fastsst_proto::{ChunkHash, FileHash, HaveChunk, How, PageKey, PageMask};
use flume::{Receiver, Sender};

use super::catalog::{Catalog, Changed, Hashes, lock};
use super::control::Order;
use super::estimate::Aim;
use super::parcel::Parcel;
use super::plan::Plan;
use super::read::{Purpose, ReadTag};
use crate::cancel::Cancel;
use crate::compress::{Encoded, Encoder};
use crate::disk::IoDone;
use crate::error::{Error, Result};
use crate::pool::PoolBuf;
use crate::progress::Progress;

/// One of the threads that hash and compress.
#[derive(Debug)]
pub(super) struct EncodeWorker {
    pub(super) reads: Receiver<IoDone<ReadTag>>,
    pub(super) encoder: Encoder,
    pub(super) plan: Arc<Plan>,
    pub(super) catalog: Arc<Mutex<Catalog>>,
    pub(super) changed: Arc<Changed>,
    pub(super) hashes: Arc<Hashes>,
    pub(super) lanes: Sender<Parcel>,
    pub(super) orders: Sender<Order>,
    pub(super) key: PageKey,
    pub(super) aim: Aim,
    pub(super) progress: Arc<Progress>,
    pub(super) cancel: Cancel,
}

impl EncodeWorker {
    /// Works until no more reads come.
    ///
    /// # Errors
    /// A read failed, or the transfer was cancelled.
    pub(super) fn run(mut self) -> Result<()> {
        while let Ok(read) = self.reads.recv() {
            self.encode(read)?;
        }
        Ok(())
    }

    /// The read counts as under way until everything that follows from it is asked or on its way.
    fn encode(&mut self, read: IoDone<ReadTag>) -> Result<()> {
        let IoDone { mut buf, tag, result } = read;
        let got = result.map_err(|error| self.unreadable(&tag, error))?;
        let wanted = usize::try_from(tag.len).unwrap_or(usize::MAX);
        if got < wanted {
            self.was_cut(&tag)?;
        } else {
            buf.set_len(wanted);
            match &tag.purpose {
                Purpose::Send => self.send(&tag, buf)?,
                Purpose::Compare(have) => self.compare(&tag, have, buf)?,
                Purpose::Again(have) => self.send_again(&tag, have, buf)?,
                Purpose::Hash(expected) => self.hash(&tag, expected, &buf)?,
            }
        }
        self.plan.read_ended();
        Ok(())
    }

    /// The file was cut after it was opened; the next pass declares it again.
    fn was_cut(&self, tag: &ReadTag) -> Result<()> {
        self.changed.insert(tag.at.file);
        let asked = match tag.purpose {
            Purpose::Compare(_) | Purpose::Hash(_) => {
                self.plan.withdraw((tag.at.file, tag.at.generation))
            }
            Purpose::Send | Purpose::Again(_) => None,
        };
        // A file that is hashed counts as one description, a chunk that is compared as well.
        let is_decided = match tag.purpose {
            Purpose::Compare(_) => true,
            Purpose::Hash(_) => asked.is_some(),
            Purpose::Send | Purpose::Again(_) => false,
        };
        self.plan.decided(usize::from(is_decided));
        if let Some(asked) = asked {
            self.order(Order::Compare(vec![asked]))?;
        }
        self.plan.chunks_settled(1)
    }

    fn send(&mut self, tag: &ReadTag, buf: PoolBuf) -> Result<()> {
        let Some(encoded) = self.encoder.encode(tag.at, tag.file_size, buf)? else {
            return Err(self.cancel.reason());
        };
        self.hashed(tag, encoded.header.hash)?;
        self.lanes.send(Parcel::from(encoded)).map_err(|_closed| self.cancel.reason())
    }

    /// Sends the pages that differ from what the joiner has.
    fn compare(&mut self, tag: &ReadTag, have: &HaveChunk, buf: PoolBuf) -> Result<()> {
        let (hash, verdict) = self.judge(tag, have, &buf)?;
        self.hashed(tag, hash)?;
        match verdict {
            Verdict::Same => {
                self.progress.add_bytes(tag.len.into());
                self.progress.add_kept(tag.len.into());
                self.order(Order::Same(vec![tag.at]))?;
                self.plan.decided(1);
                self.plan.chunks_settled(1)
            }
            Verdict::Differs(differs) => {
                let encoded = self.encode_pages((tag, hash), (have, differs), buf)?;
                self.progress.add_kept(encoded.header.kept_bytes().into());
                if self.aim == Aim::Estimate {
                    self.order(Order::Same(vec![tag.at]))?;
                }
                self.plan.decided(1);
                self.lanes.send(Parcel::from(encoded)).map_err(|_closed| self.cancel.reason())
            }
        }
    }

    /// Sends a chunk whose lane died, in part as before. Should it look equal now (somebody writes to
    /// the file), all of it is sent: the joiner may have changed its own meanwhile.
    fn send_again(&mut self, tag: &ReadTag, have: &HaveChunk, buf: PoolBuf) -> Result<()> {
        let (hash, verdict) = self.judge(tag, have, &buf)?;
        let Verdict::Differs(differs) = verdict else { return self.send(tag, buf) };
        let encoded = self.encode_pages((tag, hash), (have, differs), buf)?;
        self.lanes.send(Parcel::from(encoded)).map_err(|_closed| self.cancel.reason())
    }

    fn judge(
        &self,
        tag: &ReadTag,
        have: &HaveChunk,
        buf: &PoolBuf,
    ) -> Result<(ChunkHash, Verdict)> {
        let pages = page_hashes(tag.file_size, tag.at.chunk, buf.filled());
        let hash = chunk_from_pages(tag.file_size, tag.at.chunk, &pages);
        let hash = hash.ok_or_else(|| Error::bug("a chunk without pages was compared"))?;
        Ok((hash, delta::compare(have, &self.key, (hash, &pages))))
    }

    fn encode_pages(
        &mut self,
        (tag, hash): (&ReadTag, ChunkHash),
        (have, differs): (&HaveChunk, PageMask),
        buf: PoolBuf,
    ) -> Result<Encoded> {
        self.plan.sent_in_part(tag.at, have.clone());
        let encoded = self.encoder.encode_pages((tag.at, hash), differs, buf)?;
        encoded.ok_or_else(|| self.cancel.reason())
    }

    /// Sends nothing; once the file is complete its hash decides.
    fn hash(&self, tag: &ReadTag, expected: &FileHash, buf: &PoolBuf) -> Result<()> {
        let hash = chunk_hash(tag.file_size, tag.at.chunk, buf.filled());
        // Chunk by chunk, so that both ends see that something moves.
        self.progress.add_bytes(tag.len.into());
        if self.hashed(tag, hash)? {
            let file = (tag.at.file, tag.at.generation);
            if self.hashes.of(file.0, tag.file_size) == Some(*expected) {
                self.progress.add_kept(tag.file_size);
                self.order(Order::SameFiles(vec![file]))?;
            } else if let Some(asked) = self.plan.ask_again(file, How::Pages) {
                // All of it is read once more.
                self.progress.take_back(tag.file_size);
                self.order(Order::Compare(vec![asked]))?;
            }
            self.plan.decided(1);
        }
        self.plan.chunks_settled(1)
    }

    /// Notes the hash of a chunk; whether its file is complete now.
    fn hashed(&self, tag: &ReadTag, hash: ChunkHash) -> Result<bool> {
        let is_complete = self.hashes.insert(tag.file(), tag.at.chunk, hash)?;
        if is_complete {
            self.progress.add_files(1);
        }
        Ok(is_complete)
    }

    fn order(&self, order: Order) -> Result<()> {
        self.orders.send(order).map_err(|_closed| self.cancel.reason())
    }

    fn unreadable(&self, tag: &ReadTag, error: std::io::Error) -> Error {
        let path = lock(&self.catalog).file(tag.at.file).map(|file| file.path.to_string());
        Error::read(format!("{} at {} MiB", path.unwrap_or_default(), tag.at.chunk.0), error)
    }
}
