//! Stages *hash* and *compress* of the donor: buffers become chunks for the lanes.

use std::sync::{Arc, Mutex};

use flume::{Receiver, Sender};

use super::catalog::{Catalog, Changed, Hashes, lock};
use super::parcel::Parcel;
use super::plan::Plan;
use super::read::{ReadTag, file_of};
use crate::cancel::Cancel;
use crate::compress::Encoder;
use crate::disk::IoDone;
use crate::error::{Error, Result};
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

    fn encode(&mut self, read: IoDone<ReadTag>) -> Result<()> {
        let IoDone { mut buf, tag, result } = read;
        self.plan.read_ended();
        let got = result.map_err(|error| self.unreadable(&tag, error))?;
        let wanted = usize::try_from(tag.len).unwrap_or(usize::MAX);
        if got < wanted {
            // The file was cut after it was opened; the next pass declares it again.
            self.changed.insert(tag.at.file);
            return self.plan.chunks_settled(1);
        }
        buf.set_len(wanted);
        let Some(encoded) = self.encoder.encode(tag.at, tag.file_size, buf)? else {
            return Err(self.cancel.reason());
        };
        if self.hashes.insert(file_of(&tag), tag.at.chunk, encoded.header.hash)? {
            self.progress.add_files(1);
        }
        self.lanes.send(Parcel::from(encoded)).map_err(|_closed| self.cancel.reason())
    }

    fn unreadable(&self, tag: &ReadTag, error: std::io::Error) -> Error {
        let path = lock(&self.catalog).file(tag.at.file).map(|file| file.path.to_string());
        Error::read(format!("{} at {} MiB", path.unwrap_or_default(), tag.at.chunk.0), error)
    }
}
