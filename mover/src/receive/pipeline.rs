//! The joiner's stages and threads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fastsst_proto::{Bottleneck, PageKey};
use flume::{Receiver, Sender};

use super::catalog::{Catalog, Item, Purpose};
use super::compare::{self, Comparison};
use super::control::{Change, Feed};
use super::lane::{Arrived, Lanes};
use super::small::{self, Group, SmallWorker};
use super::targets::Layout;
use super::verify::{Verifier, VerifyWorker, WriteTag};
use super::write::{CloseWorker, Closing, DeclareWorker, StoreWorker, WriteWorker};
use super::{Joiner, LOOK};
use crate::bottleneck::{Samples, is_half_full};
use crate::cancel::Cancel;
use crate::carried::Carried;
use crate::disk::IoEngine;
use crate::error::{Error, Result};
use crate::pool::Pool;
use crate::progress::Progress;
use crate::runtime::spawn;

/// Chunks that wait between two stages, as at the donor.
const BETWEEN_STAGES: usize = 16;

/// Complete files that wait to be closed. Why: entries come in batches of 4096, and empty files
/// are complete at once.
const COMPLETE: usize = 8192;

/// Threads that close files: each waits for the disk most of the time.
const CLOSERS: usize = 4;

/// All stages of one reception; its threads end when it and the lanes are gone.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) catalog: Arc<Catalog>,
    pools: [Pool; 2],
    io: String,
    zero_bytes: Arc<AtomicU64>,
    carried: Arc<Carried>,
    samples: Arc<Samples>,
    /// Present when there is a stale copy.
    comparison: Option<Arc<Comparison>>,
}

impl Pipeline {
    /// Starts every stage; nothing flows yet. The feed goes to the control thread.
    pub(super) fn start(joiner: &Joiner<'_>, layout: Layout) -> Result<(Self, Feed)> {
        let cancel = joiner.cancel;
        let catalog = Arc::new(Catalog::new(layout, Purpose::Build));
        catalog.make_prefixes()?;
        let comparison = start_comparing(joiner, &catalog)?;
        let buffers =
            usize::try_from(joiner.options.buffer_bytes >> 20).unwrap_or(usize::MAX).max(8);
        let (network, plain) = (Pool::new(buffers * 3 / 4), Pool::new((buffers / 4).max(4)));
        let (arrived_tx, arrived_rx) = flume::bounded(BETWEEN_STAGES);
        // Room for every buffer there is, so that the engine never waits for its owner.
        let (done_tx, done_rx) = flume::bounded(network.capacity() + plain.capacity());
        let engine = Arc::new(IoEngine::start(
            joiner.options.io,
            BETWEEN_STAGES,
            done_tx,
            &[network.clone(), plain.clone()],
        )?);
        let io = engine.kind().to_string();
        let (stored_tx, stored_rx) = flume::bounded(BETWEEN_STAGES);
        let (complete_tx, complete_rx) = flume::bounded(COMPLETE);
        let zero_bytes = Arc::new(AtomicU64::new(0));
        let (groups, groups_rx) = flume::bounded(BETWEEN_STAGES);
        let watched = (arrived_rx.clone(), Arc::clone(&engine), groups_rx.clone());
        for number in 0..joiner.options.thread_count() {
            let worker = VerifyWorker {
                arrived: arrived_rx.clone(),
                engine: Arc::clone(&engine),
                stored: stored_tx.clone(),
                verifier: Verifier::new(&zero_bytes)?,
                comparison: comparison.clone(),
                pool: plain.clone(),
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
        let closing = Closing {
            catalog: Arc::clone(&catalog),
            orders: joiner.control.orders.clone(),
            progress: Arc::clone(joiner.progress),
            cancel: cancel.clone(),
        };
        start_closers(&closing, &complete_rx)?;
        start_small((&closing, comparison.as_ref()), &zero_bytes, &groups_rx)?;
        let storing = comparison.clone().map(|comparison| (comparison, Arc::clone(&zero_bytes)));
        let samples = watch(watched, (joiner.progress, storing), cancel)?;
        let carried = Arc::<Carried>::default();
        let lanes = Arc::new(Lanes {
            secrets: joiner.secrets.clone(),
            catalog: Arc::clone(&catalog),
            comparison: comparison.clone(),
            pool: network.clone(),
            arrived: arrived_tx,
            groups,
            progress: Arc::clone(joiner.progress),
            carried: Arc::clone(&carried),
            cancel: cancel.clone(),
        });
        let changes = start_declare(&closing, comparison.clone(), complete_tx)?;
        let data = Some((lanes, Arc::clone(&samples)));
        let feed = Feed { data, changes, backlog: VecDeque::new() };
        let pools = [network, plain];
        Ok((Self { catalog, pools, io, zero_bytes, carried, samples, comparison }, feed))
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

    /// How many bytes came over which transport.
    pub(super) fn carried(&self) -> &Carried {
        &self.carried
    }

    /// What limited the transfer, as far as the joiner sees.
    pub(super) fn limited_by(&self) -> Bottleneck {
        self.samples.verdict()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // Wakes whoever waits for a buffer when the transfer failed.
        for pool in &self.pools {
            pool.close();
        }
        if let Some(comparison) = &self.comparison {
            comparison.close();
        }
        self.samples.stop();
    }
}

/// Starts the threads that read the stale copy, if there is one and the donor can make use of it.
pub(super) fn start_comparing(
    joiner: &Joiner<'_>,
    catalog: &Arc<Catalog>,
) -> Result<Option<Arc<Comparison>>> {
    if !joiner.compares {
        return Ok(None);
    }
    let key = PageKey::new(&joiner.secrets.side.transfer);
    let (orders, cancel) = (&joiner.control.orders, joiner.cancel);
    let both = (joiner.progress, cancel);
    let comparison = Arc::new(Comparison::new(catalog, orders, key, both));
    let bufs = Pool::new(compare::THREADS);
    for number in 0..compare::THREADS {
        let (comparing, buf) = (Arc::clone(&comparison), bufs.acquire());
        let buf = buf.ok_or_else(|| Error::bug("too few buffers to compare"))?;
        let name = format!("fastsst-cmp-{number}");
        spawn(&name, cancel, move || comparing.work(buf))?;
    }
    Ok(Some(comparison))
}

fn start_declare(
    closing: &Closing,
    comparison: Option<Arc<Comparison>>,
    complete: Sender<Arc<Item>>,
) -> Result<Sender<Change>> {
    start_declare_with(|changes| DeclareWorker {
        changes,
        catalog: Arc::clone(&closing.catalog),
        comparison,
        complete,
        orders: closing.orders.clone(),
        progress: Arc::clone(&closing.progress),
        cancel: closing.cancel.clone(),
    })
}

/// Starts the thread that declares; returns where the donor's changes go.
pub(super) fn start_declare_with(
    worker: impl FnOnce(Receiver<Change>) -> DeclareWorker,
) -> Result<Sender<Change>> {
    let (changes_tx, changes) = flume::bounded(BETWEEN_STAGES);
    let declare = worker(changes);
    let cancel = declare.cancel.clone();
    spawn("fastsst-declare", &cancel, || declare.run())?;
    Ok(changes_tx)
}

fn start_closers(closing: &Closing, complete: &Receiver<Arc<Item>>) -> Result<()> {
    for number in 0..CLOSERS {
        let closer = CloseWorker { complete: complete.clone(), closing: closing.clone() };
        spawn(&format!("fastsst-close-{number}"), &closing.cancel, || closer.run())?;
    }
    Ok(())
}

/// Starts the threads that store small files.
fn start_small(
    (closing, comparison): (&Closing, Option<&Arc<Comparison>>),
    zero_bytes: &Arc<AtomicU64>,
    groups: &Receiver<Group>,
) -> Result<()> {
    let spares = Pool::new(small::THREADS);
    for number in 0..small::THREADS {
        let worker = SmallWorker {
            groups: groups.clone(),
            verifier: Verifier::new(zero_bytes)?,
            comparison: comparison.cloned(),
            closing: closing.clone(),
        };
        let spare = spares.acquire().ok_or_else(|| Error::bug("too few spare buffers"))?;
        spawn(&format!("fastsst-small-{number}"), &closing.cancel, || worker.run(spare))?;
    }
    Ok(())
}

/// Who wants to know how fast files are stored, and what of them was zeros. Unit: bytes.
type Storing = (Arc<Comparison>, Arc<AtomicU64>);

fn watch(
    (arrived, engine, groups): (Receiver<Arrived>, Arc<IoEngine<WriteTag>>, Receiver<Group>),
    (progress, storing): (&Arc<Progress>, Option<Storing>),
    cancel: &Cancel,
) -> Result<Arc<Samples>> {
    let progress = Arc::clone(progress);
    let samples = Arc::new(Samples::default());
    // The last stage with work waiting before it is the slowest; without any, what comes before.
    let (mut received, mut stored, mut looked) = (0, 0, Instant::now());
    let look = move |_| {
        if let Some((comparison, zeros)) = &storing {
            let unsent = progress.kept_bytes() + zeros.load(Ordering::Relaxed);
            let sent = progress.bytes_done().saturating_sub(unsent);
            let came = sent.saturating_sub(std::mem::replace(&mut stored, sent));
            let passed = std::mem::replace(&mut looked, Instant::now()).elapsed();
            if came > 0 {
                comparison.worth.stored(came, passed);
            }
        }
        let now = progress.lane_bytes();
        let moved = std::mem::replace(&mut received, now) != now;
        if engine.queued() * 2 >= BETWEEN_STAGES || is_half_full(&groups) {
            Bottleneck::DiskWrite
        } else if is_half_full(&arrived) {
            Bottleneck::Cpu
        } else if moved {
            Bottleneck::Network
        } else {
            // The donor's server is being locked, or everything is here.
            Bottleneck::Unknown
        }
    };
    let watching = Arc::clone(&samples);
    spawn("fastsst-sample", cancel, move || watching.watch(look))?;
    Ok(samples)
}
