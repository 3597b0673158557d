//! The joiner's stages and threads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use flume::Receiver;

use super::catalog::Catalog;
use super::control::Feed;
use super::lane::{Arrived, Lanes};
use super::verify::{VerifyWorker, WriteTag};
use super::write::{CloseWorker, DeclareWorker, StoreWorker, WriteWorker};
use super::{Joiner, LOOK};
use crate::cancel::Cancel;
use crate::disk::IoEngine;
use crate::error::{Error, Result};
use crate::pool::Pool;
use crate::runtime::spawn;

/// Chunks that wait between two stages, as at the donor.
const BETWEEN_STAGES: usize = 16;

/// Complete files that wait to be closed. Why: entries come in batches of 4096, and empty files
/// are complete at once.
const COMPLETE: usize = 8192;

/// Threads that close files: each waits for the disk most of the time.
const CLOSERS: usize = 4;

/// How often queues are looked at, to say what limited the transfer.
const SAMPLE: Duration = Duration::from_millis(50);

/// All stages of one reception; its threads end when it and the lanes are gone.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) catalog: Arc<Catalog>,
    pools: [Pool; 2],
    io: String,
    zero_bytes: Arc<AtomicU64>,
    sampler: Arc<Sampler>,
}

impl Pipeline {
    /// Starts every stage; nothing flows yet. The feed goes to the control thread.
    pub(super) fn start(joiner: &Joiner<'_>) -> Result<(Self, Feed)> {
        let cancel = joiner.cancel;
        let catalog = Arc::new(Catalog::new(joiner.names.clone(), joiner.stagings.clone()));
        let buffers =
            usize::try_from(joiner.options.buffer_bytes >> 20).unwrap_or(usize::MAX).max(8);
        let (network, plain) = (Pool::new(buffers * 3 / 4), Pool::new((buffers / 4).max(4)));
        let (arrived_tx, arrived_rx) = flume::bounded(BETWEEN_STAGES);
        // Room for every buffer there is, so that the engine never waits for its owner.
        let (done_tx, done_rx) = flume::bounded(network.capacity() + plain.capacity());
        let engine = Arc::new(IoEngine::start(joiner.options.io, BETWEEN_STAGES, done_tx)?);
        let io = engine.kind().to_string();
        let (stored_tx, stored_rx) = flume::bounded(BETWEEN_STAGES);
        let (complete_tx, complete_rx) = flume::bounded(COMPLETE);
        let zero_bytes = Arc::new(AtomicU64::new(0));
        let sampler = Arc::new(Sampler::new(arrived_rx.clone(), Arc::clone(&engine)));
        for number in 0..crate::send::worker_count() {
            let worker = VerifyWorker {
                arrived: arrived_rx.clone(),
                engine: Arc::clone(&engine),
                stored: stored_tx.clone(),
                zstd: decompressor()?,
                pool: plain.clone(),
                zero_bytes: Arc::clone(&zero_bytes),
                cancel: cancel.clone(),
            };
            spawn(&format!("fastsst-ver-{number}"), cancel, || worker.run())?;
        }
        let writes = WriteWorker { writes: done_rx, stored: stored_tx, cancel: cancel.clone() };
        spawn("fastsst-write", cancel, || writes.run())?;
        let store = StoreWorker {
            stored: stored_rx,
            complete: complete_tx.clone(),
            progress: Arc::clone(joiner.progress),
            cancel: cancel.clone(),
        };
        spawn("fastsst-store", cancel, || store.run())?;
        for number in 0..CLOSERS {
            let closer = CloseWorker {
                complete: complete_rx.clone(),
                catalog: Arc::clone(&catalog),
                orders: joiner.control.orders.clone(),
                progress: Arc::clone(joiner.progress),
                cancel: cancel.clone(),
            };
            spawn(&format!("fastsst-close-{number}"), cancel, || closer.run())?;
        }
        let watched = Arc::clone(&sampler);
        spawn("fastsst-sample", cancel, move || watched.run())?;
        let lanes = Arc::new(Lanes {
            token: joiner.secrets.token.clone(),
            transfer: joiner.secrets.transfer,
            software: joiner.software.clone(),
            catalog: Arc::clone(&catalog),
            pool: network.clone(),
            arrived: arrived_tx,
            progress: Arc::clone(joiner.progress),
            cancel: cancel.clone(),
        });
        let (changes, changes_rx) = flume::bounded(BETWEEN_STAGES);
        let declare = DeclareWorker {
            changes: changes_rx,
            catalog: Arc::clone(&catalog),
            complete: complete_tx,
            orders: joiner.control.orders.clone(),
            cancel: cancel.clone(),
        };
        spawn("fastsst-declare", cancel, || declare.run())?;
        let feed = Feed { lanes, changes, backlog: VecDeque::new() };
        let pools = [network, plain];
        Ok((Self { catalog, pools, io, zero_bytes, sampler }, feed))
    }

    /// Waits until every declared file is written and closed.
    ///
    /// # Errors
    /// The transfer was cancelled, for instance because a write failed.
    pub(super) fn wait_closed(&self, cancel: &Cancel) -> Result<()> {
        while self.catalog.open_files() > 0 {
            cancel.sleep(LOOK)?;
        }
        cancel.check()
    }

    /// How files were written.
    pub(super) fn io(&self) -> String {
        self.io.clone()
    }

    /// Bytes that were holes or zero pages.
    pub(super) fn zero_bytes(&self) -> u64 {
        self.zero_bytes.load(Ordering::Relaxed)
    }

    /// Which stage the others waited for most.
    pub(super) fn limited_by(&self) -> String {
        self.sampler.verdict()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // Wakes whoever waits for a buffer when the transfer failed.
        for pool in &self.pools {
            pool.close();
        }
        self.sampler.stop.store(true, Ordering::Relaxed);
    }
}

fn decompressor() -> Result<zstd::bulk::Decompressor<'static>> {
    zstd::bulk::Decompressor::new().map_err(|error| Error::bug("zstd cannot start").because(error))
}

/// Looks at the queues now and then, to say which stage the others waited for.
#[derive(Debug)]
struct Sampler {
    arrived: Receiver<Arrived>,
    engine: Arc<IoEngine<WriteTag>>,
    stop: AtomicBool,
    /// Samples in which the network, the processor, the disk were what the others waited for.
    seen: [AtomicU64; 3],
}

impl Sampler {
    fn new(arrived: Receiver<Arrived>, engine: Arc<IoEngine<WriteTag>>) -> Self {
        Self { arrived, engine, stop: AtomicBool::new(false), seen: Default::default() }
    }

    fn run(&self) -> Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(SAMPLE);
            let is_full = |len: usize| len * 2 >= BETWEEN_STAGES;
            let stage = match (is_full(self.engine.queued()), is_full(self.arrived.len())) {
                (true, _) => 2,
                (false, true) => 1,
                (false, false) => 0,
            };
            if let Some(count) = self.seen.get(stage) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn verdict(&self) -> String {
        let names = ["network", "cpu", "disk-write"];
        let most =
            names.iter().zip(&self.seen).max_by_key(|(_, seen)| seen.load(Ordering::Relaxed));
        most.map_or("", |(name, _)| name).to_string()
    }
}
