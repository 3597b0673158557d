//! Stages *write* and *sync* of the joiner: completed writes become acknowledgements, complete
//! files are closed.

use std::sync::Arc;

use fastsst_proto::manifest::Entry;
use fastsst_proto::types::chunk_len;
use fastsst_proto::{ChunkRef, FileRef, Generation};
use flume::{Receiver, Sender};

use super::catalog::{Catalog, Item};
use super::compare::Comparison;
use super::control::{Change, Order};
use super::lane::{Acks, Outcome};
use super::verify::WriteTag;
use crate::cancel::Cancel;
use crate::disk::IoDone;
use crate::error::{Code, Error, Result};
use crate::progress::Progress;
use crate::staging::StagedFile;

/// A chunk that is in its file.
#[derive(Debug)]
pub(super) enum Stored {
    /// For the first time.
    New(WriteTag),
    /// It had been stored before.
    Again(WriteTag),
}

/// Takes completed writes.
#[derive(Debug)]
pub(super) struct WriteWorker {
    pub(super) writes: Receiver<IoDone<WriteTag>>,
    pub(super) stored: Sender<Stored>,
    pub(super) cancel: Cancel,
}

impl WriteWorker {
    /// Works until no more writes complete.
    ///
    /// # Errors
    /// A write failed; from then on nothing is written any more.
    pub(super) fn run(self) -> Result<()> {
        while let Ok(IoDone { tag, result, .. }) = self.writes.recv() {
            if let Err(error) = result {
                return Err(match &tag.item.staged {
                    Some(staged) => staged.write_failed(error),
                    None => Error::bug("something else than a file was written"),
                });
            }
            self.stored.send(Stored::New(tag)).map_err(|_closed| self.cancel.reason())?;
        }
        Ok(())
    }
}

/// Acknowledges stored chunks and hands complete files on.
#[derive(Debug)]
pub(super) struct StoreWorker {
    pub(super) stored: Receiver<Stored>,
    pub(super) complete: Sender<Arc<Item>>,
    pub(super) progress: Arc<Progress>,
    pub(super) cancel: Cancel,
}

impl StoreWorker {
    /// Works until nothing is stored any more.
    ///
    /// # Errors
    /// The transfer was cancelled.
    pub(super) fn run(self) -> Result<()> {
        while let Ok(stored) = self.stored.recv() {
            let (chunk, complete) = match &stored {
                Stored::New(chunk) => {
                    self.progress.add_bytes(u64::from(chunk.plain_len));
                    let (complete, waiting) = chunk.item.written(chunk.at.chunk);
                    for acks in waiting {
                        acknowledge(&acks, vec![chunk.at]);
                    }
                    (chunk, complete)
                }
                Stored::Again(chunk) => (chunk, false),
            };
            acknowledge(&chunk.acks, vec![chunk.at]);
            if complete {
                let item = Arc::clone(&chunk.item);
                self.complete.send(item).map_err(|_closed| self.cancel.reason())?;
            }
        }
        Ok(())
    }
}

/// The lane may have died; the donor then sends the chunks again and is told again.
pub(super) fn acknowledge(acks: &Acks, chunks: Vec<ChunkRef>) {
    if !chunks.is_empty() && acks.try_send(Outcome::Stored(chunks)).is_err() {
        tracing::debug!("no lane to acknowledge chunks");
    }
}

/// Declares what the donor said, in its order.
#[derive(Debug)]
pub(super) struct DeclareWorker {
    pub(super) changes: Receiver<Change>,
    pub(super) catalog: Arc<Catalog>,
    /// Present when there is a stale copy.
    pub(super) comparison: Option<Arc<Comparison>>,
    pub(super) complete: Sender<Arc<Item>>,
    pub(super) orders: Sender<Order>,
    pub(super) progress: Arc<Progress>,
    pub(super) cancel: Cancel,
}

impl DeclareWorker {
    /// Works until the conversation is over.
    ///
    /// # Errors
    /// The target cannot be written, or the donor makes no sense.
    pub(super) fn run(self) -> Result<()> {
        while let Ok(change) = self.changes.recv() {
            match change {
                Change::Entries(entries) => self.declare(entries)?,
                Change::Gone(files) => {
                    if let Some(comparison) = &self.comparison {
                        let last = Generation(u16::MAX);
                        files.iter().for_each(|file| comparison.withdraw((*file, last)));
                    }
                    self.catalog.gone(&files)?;
                }
                Change::ManifestEnd => self.with_stale(|comparison| {
                    comparison.manifest_is_complete()?;
                    self.make_room(comparison)
                })?,
                Change::Compare(asked) => self.with_stale(|comparison| {
                    comparison.ask(&asked)?;
                    self.make_room(comparison)
                })?,
                Change::Same(chunks) => self.with_stale(|comparison| {
                    chunks.iter().try_for_each(|at| self.keep_chunk(comparison, *at))
                })?,
                Change::SameFiles(files) => self.with_stale(|comparison| {
                    files.iter().try_for_each(|file| self.keep_file(comparison, *file))
                })?,
                Change::Finish(finish) => {
                    let order = Order::AllDeclared(finish);
                    self.orders.send(order).map_err(|_closed| self.cancel.reason())?;
                }
            }
        }
        Ok(())
    }

    fn declare(&self, entries: Vec<Entry>) -> Result<()> {
        if let Some(comparison) = &self.comparison {
            for entry in &entries {
                if let Some(before) = entry.generation.0.checked_sub(1) {
                    comparison.withdraw((entry.id, Generation(before)));
                }
            }
        }
        for item in self.catalog.declare(entries)? {
            self.complete(item)?;
        }
        Ok(())
    }

    /// What only concerns a transfer that compares; the session lets nothing else through.
    fn with_stale(&self, act: impl FnOnce(&Comparison) -> Result<()>) -> Result<()> {
        self.comparison.as_deref().map_or(Ok(()), act)
    }

    /// A chunk stays as it is.
    fn keep_chunk(&self, comparison: &Comparison, at: ChunkRef) -> Result<()> {
        let Some(known) = comparison.decided(at) else {
            return Err(undescribed(format!("chunk {} of entry {}", at.chunk.0, at.file.0)));
        };
        let Some(item) = self.catalog.exactly((at.file, at.generation)) else { return Ok(()) };
        let is_complete = item.kept(at.chunk, known.hash)?;
        self.kept(chunk_len(item.entry.size, at.chunk).into());
        if is_complete { self.complete(item) } else { Ok(()) }
    }

    /// A file stays as it is.
    fn keep_file(&self, comparison: &Comparison, file: FileRef) -> Result<()> {
        let Some(hash) = comparison.decided_file(file) else {
            return Err(undescribed(format!("entry {}", file.0.0)));
        };
        let Some(item) = self.catalog.exactly(file) else { return Ok(()) };
        item.kept_whole(hash)?;
        self.kept(item.entry.size);
        self.complete(item)
    }

    fn kept(&self, bytes: u64) {
        self.progress.add_bytes(bytes);
        self.progress.add_kept(bytes);
    }

    fn complete(&self, item: Arc<Item>) -> Result<()> {
        self.complete.send(item).map_err(|_closed| self.cancel.reason())
    }

    /// Once it is known what of the old copy nobody wants, that goes if its room is needed.
    fn make_room(&self, comparison: &Comparison) -> Result<()> {
        if comparison.knows_all_names() { self.catalog.make_room() } else { Ok(()) }
    }
}

fn undescribed(what: String) -> Error {
    let what = format!("the donor decided about {what}, which was not described");
    Error::new(Code::Protocol, what)
}

/// What follows when a file is complete and closed.
#[derive(Debug, Clone)]
pub(super) struct Closing {
    pub(super) catalog: Arc<Catalog>,
    pub(super) orders: Sender<Order>,
    pub(super) progress: Arc<Progress>,
    pub(super) cancel: Cancel,
}

impl Closing {
    /// Has a complete file closed by `finish`, which says whether it survives power loss then;
    /// counts it, and tells the donor.
    ///
    /// # Errors
    /// Those of `finish`; the conversation is over.
    pub(super) fn close(
        &self,
        item: &Item,
        finish: impl FnOnce(&Arc<StagedFile>) -> Result<bool>,
    ) -> Result<()> {
        let staged = item.staged.as_ref();
        let durable =
            finish(staged.ok_or_else(|| Error::bug("something else than a file is complete"))?)?;
        self.progress.add_files(1);
        if durable {
            let file: FileRef = (item.entry.id, item.entry.generation);
            let order = Order::Durable(vec![file]);
            self.orders.send(order).map_err(|_closed| self.cancel.reason())?;
        }
        self.catalog.closed(item);
        Ok(())
    }
}

/// Gives complete files their final size and attributes and makes large ones durable, while
/// others are still arriving.
#[derive(Debug)]
pub(super) struct CloseWorker {
    pub(super) complete: Receiver<Arc<Item>>,
    pub(super) closing: Closing,
}

impl CloseWorker {
    /// Works until no more files become complete.
    ///
    /// # Errors
    /// A file cannot be finished or synced.
    pub(super) fn run(self) -> Result<()> {
        while let Ok(item) = self.complete.recv() {
            let hash = item.hash().ok_or_else(|| Error::bug("a complete file has no hash"))?;
            self.closing.close(&item, |staged| staged.finish(hash))?;
        }
        Ok(())
    }
}
