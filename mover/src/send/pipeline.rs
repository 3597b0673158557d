//! The donor's stages and threads, started together and ended together.

use std::collections::BTreeMap;
use std::slice::from_ref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fastsst_proto::manifest::Entry;
use fastsst_proto::{Bottleneck, LaneId, PageKey, RootHash, TransferId};
use flume::{Receiver, Sender};

use super::catalog::{Catalog, Changed, Hashes};
use super::control::Order;
use super::encode::EncodeWorker;
use super::estimate::{Aim, swallow};
use super::lane::{Connected, Lane, Shared};
use super::notices::Notices;
use super::open::Source;
use super::pace::{Pace, Queues};
use super::parcel::Parcel;
use super::plan::{Plan, Planned};
use super::read::{ReadTag, Reader};
use super::small::{self, SmallReader};
use super::transport::{Decision, Switch, Way};
use super::{BATCH, Donor, LANES_END};
use crate::bottleneck::Samples;
use crate::cancel::Cancel;
use crate::carried::Carried;
use crate::compress::{Compression, Encoder};
use crate::disk::{IoDone, IoEngine};
use crate::error::{Error, Result};
use crate::level::Controller;
use crate::manifest::Manifest;
use crate::net::{Carrier, NetOptions};
use crate::options::Compress;
use crate::pool::Pool;
use crate::runtime::spawn;
use crate::throttle::Throttle;
use crate::tree::Dir;
use crate::walk::SourceRoot;

/// Chunks that wait between two stages. Why: enough that no stage starves for a scheduling
/// quantum (16 MiB at 2 GiB/s are 8 ms), far less than the pool.
pub(super) const BETWEEN_STAGES: usize = 16;

/// All stages of one transfer.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) plan: Arc<Plan>,
    pub(super) changed: Arc<Changed>,
    catalog: Arc<Mutex<Catalog>>,
    hashes: Arc<Hashes>,
    orders: Sender<Order>,
    cancel: Cancel,
    shared: Arc<Shared>,
    io: String,
    samples: Arc<Samples>,
    throttle: Arc<Throttle>,
    compression: Arc<Compression>,
    key: PageKey,
    aim: Aim,
    threads: Vec<JoinHandle<()>>,
    pools: [Pool; 2],
}

/// Figures of the pipeline after its end.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) lanes_replaced: u64,
    pub(super) zero_bytes: u64,
    /// Chunks by what was done to them.
    pub(super) chunks: BTreeMap<String, u64>,
    pub(super) transport: Carrier,
    pub(super) transport_reason: String,
    pub(super) io: String,
}

impl Pipeline {
    /// Starts every stage; nothing flows yet.
    pub(super) fn start(
        donor: &Donor<'_>,
        (transfer, peer, way): (TransferId, std::net::SocketAddr, &Way),
        (lanes, settle): (u16, Duration),
        aim: Aim,
    ) -> Result<Self> {
        let (options, cancel) = (&donor.options, donor.cancel);
        let roots = donor.roots.iter().map(SourceRoot::open);
        let roots = roots.collect::<Result<Vec<_>>>()?;
        let names = donor.roots.iter().map(|root| root.name.clone()).collect();
        // Half of the memory holds plain chunks, half compressed ones.
        let buffers = usize::try_from(options.buffer_bytes >> 20).unwrap_or(usize::MAX).max(8);
        let (pool, wire) = (Pool::new(buffers * 3 / 4), Pool::new((buffers / 4).max(4)));
        let (parcel_tx, parcel_rx) = flume::bounded(BETWEEN_STAGES);
        // Room for every buffer there is, so that the engine never waits for its owner.
        let (read_tx, read_rx) = flume::bounded(pool.capacity());
        let engine = IoEngine::start(options.io, BETWEEN_STAGES, read_tx, from_ref(&pool))?;
        let io = engine.kind().to_string();
        let (plan, changed, hashes) = (Arc::clone(&donor.plan), Arc::default(), Arc::default());
        let catalog = Arc::new(Mutex::new(Catalog::new(names)));
        let samples = Arc::<Samples>::default();
        let shared = Arc::new(Shared {
            peer,
            pin: donor.ticket.pin,
            token: donor.ticket.token.clone(),
            transfer,
            software: donor.software.clone(),
            net: NetOptions::of(options),
            switch: Switch::new(Decision::new(options.transport, way, lanes, Instant::now())),
            carried: Carried::default(),
            notices: Notices::default(),
            orders: donor.control.orders.clone(),
            parcels: parcel_rx.clone(),
            plan: Arc::clone(&plan),
            progress: Arc::clone(donor.progress),
            connected: Connected::none(),
            reconnect_timeout: options.reconnect_timeout,
            replaced: AtomicU64::new(0),
            zero_bytes: AtomicU64::new(0),
            samples: Arc::clone(&samples),
            cancel: cancel.clone(),
        });
        let throttle = Arc::new(Throttle::new(options.rlimit));
        let queues = Queues {
            reads: read_rx.clone(),
            parcels: parcel_rx,
            wire: wire.clone(),
            throttle: Arc::clone(&throttle),
            joiner: Arc::clone(&donor.control.joiner_limited_by),
        };
        let mut pipeline = Self {
            plan,
            changed,
            catalog,
            hashes,
            orders: donor.control.orders.clone(),
            cancel: cancel.clone(),
            shared,
            io,
            samples,
            throttle,
            compression: Arc::new(Compression::new(options.compress)),
            key: PageKey::new(&transfer),
            aim,
            threads: Vec::new(),
            pools: [pool.clone(), wire.clone()],
        };
        pipeline.start_readers(donor, (roots, settle), engine, &parcel_tx)?;
        pipeline.start_encoders(donor, &read_rx, &parcel_tx)?;
        match aim {
            Aim::Transfer => pipeline.start_lanes(donor, lanes)?,
            Aim::Estimate => pipeline.start_sink()?,
        }
        pipeline.start_pace(donor, queues)?;
        Ok(pipeline)
    }

    fn start_pace(&mut self, donor: &Donor<'_>, queues: Queues) -> Result<()> {
        let follows = donor.options.compress == Compress::Auto;
        let controller = follows.then(Controller::default);
        let (lanes, compression) = (Arc::clone(&self.shared), Arc::clone(&self.compression));
        let mut pace = Pace::new(queues, lanes, compression, controller);
        let samples = Arc::clone(&self.samples);
        let watch = move || samples.watch(|tick| pace.look(tick));
        self.threads.push(spawn("fastsst-sample", &self.cancel, watch)?);
        Ok(())
    }

    fn start_readers(
        &mut self,
        donor: &Donor<'_>,
        (roots, settle): (Vec<Dir>, Duration),
        engine: IoEngine<ReadTag>,
        lanes: &Sender<Parcel>,
    ) -> Result<()> {
        let source = Arc::new(Source {
            roots,
            catalog: Arc::clone(&self.catalog),
            changed: Arc::clone(&self.changed),
            mode: donor.options.io.file_mode(),
            settle,
            cancel: self.cancel.clone(),
        });
        let reader = Reader {
            source: Arc::clone(&source),
            plan: Arc::clone(&self.plan),
            hashes: Arc::clone(&self.hashes),
            pool: self.pools[0].clone(),
            engine,
            lanes: lanes.clone(),
            orders: self.orders.clone(),
            key: self.key.clone(),
            throttle: Arc::clone(&self.throttle),
            compression: Arc::clone(&self.compression),
            cancel: self.cancel.clone(),
        };
        self.threads.push(spawn("fastsst-read", &self.cancel, || reader.run())?);
        let read_to = Pool::new(small::THREADS);
        for number in 0..small::THREADS {
            let reader = SmallReader {
                source: Arc::clone(&source),
                plan: Arc::clone(&self.plan),
                hashes: Arc::clone(&self.hashes),
                pool: self.pools[0].clone(),
                encoder: Encoder::new(Arc::clone(&self.compression), self.pools[1].clone())?,
                lanes: lanes.clone(),
                orders: self.orders.clone(),
                aim: self.aim,
                throttle: Arc::clone(&self.throttle),
                progress: Arc::clone(donor.progress),
            };
            let buf = read_to.acquire().ok_or_else(|| self.cancel.reason())?;
            let name = format!("fastsst-small-{number}");
            self.threads.push(spawn(&name, &self.cancel, || reader.run(buf))?);
        }
        Ok(())
    }

    fn start_encoders(
        &mut self,
        donor: &Donor<'_>,
        reads: &Receiver<IoDone<ReadTag>>,
        lanes: &Sender<Parcel>,
    ) -> Result<()> {
        for number in 0..donor.options.thread_count() {
            let worker = EncodeWorker {
                reads: reads.clone(),
                encoder: Encoder::new(Arc::clone(&self.compression), self.pools[1].clone())?,
                plan: Arc::clone(&self.plan),
                catalog: Arc::clone(&self.catalog),
                changed: Arc::clone(&self.changed),
                hashes: Arc::clone(&self.hashes),
                lanes: lanes.clone(),
                orders: self.orders.clone(),
                key: self.key.clone(),
                aim: self.aim,
                progress: Arc::clone(donor.progress),
                cancel: self.cancel.clone(),
            };
            let name = format!("fastsst-enc-{number}");
            self.threads.push(spawn(&name, &self.cancel, || worker.run())?);
        }
        Ok(())
    }

    /// Stands in for the lanes when nothing is sent.
    fn start_sink(&mut self) -> Result<()> {
        let lanes = Arc::clone(&self.shared);
        self.threads.push(spawn("fastsst-sink", &self.cancel, move || swallow(&lanes))?);
        Ok(())
    }

    fn start_lanes(&mut self, donor: &Donor<'_>, lanes: u16) -> Result<()> {
        for number in 0..lanes {
            let ready = donor.control.ready.get(usize::from(number));
            let (_, ready) = ready.ok_or_else(|| Error::bug("more lanes agreed than asked for"))?;
            let lane =
                Lane { id: LaneId(number), ready: ready.clone(), shared: Arc::clone(&self.shared) };
            let name = format!("fastsst-lane-{number}");
            self.threads.push(spawn(&name, &self.cancel, || lane.run())?);
        }
        Ok(())
    }

    /// The catalog, for the walk.
    pub(super) fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Declares an entry together with others; its content is planned when the joiner was told.
    pub(super) fn declare(&self, entry: Entry, batch: &mut Batch) -> Result<()> {
        batch.entries.push(entry);
        if batch.entries.len() >= BATCH { self.flush(batch) } else { Ok(()) }
    }

    /// Sends what [`Pipeline::declare`] has gathered.
    pub(super) fn flush(&self, batch: &mut Batch) -> Result<()> {
        if !batch.entries.is_empty() {
            let entries = Order::Entries(std::mem::take(&mut batch.entries));
            self.orders.send(entries).map_err(|_closed| self.cancel.reason())?;
        }
        let asked = self.plan.add(batch.files.drain(..));
        match asked.is_empty() {
            true => Ok(()),
            false => {
                self.orders.send(Order::Compare(asked)).map_err(|_closed| self.cancel.reason())
            }
        }
    }

    /// Entries, bytes, files and the root hash of what was sent.
    pub(super) fn result(&self) -> Result<(u64, u64, u64, RootHash)> {
        let catalog = self.catalog();
        let (entries, bytes) = catalog.totals();
        Ok((entries, bytes, catalog.files(), catalog.root_hash(&self.hashes)?))
    }

    /// What was sent, with its hashes.
    pub(super) fn manifest(&self) -> Result<Manifest> {
        self.catalog().manifest(&self.hashes)
    }

    /// What limited the transfer, as far as the donor sees.
    pub(super) fn limited_by(&self) -> Bottleneck {
        self.samples.verdict()
    }

    /// Ends every stage in the order of the data path.
    pub(super) fn end(&mut self, cancel: &Cancel) -> Result<Ended> {
        self.plan.close();
        self.samples.stop();
        let deadline = Instant::now() + LANES_END;
        for thread in self.threads.drain(..) {
            // The joiner has everything; a lane that cannot say good-bye must not hold us up.
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() && thread.join().is_err() {
                tracing::debug!("a thread of the pipeline panicked");
            }
        }
        cancel.check()?;
        let (carrier, reason) =
            self.shared.switch.look(|it| (it.carrier(), it.reason().to_owned()));
        Ok(Ended {
            transport: self.shared.carried.most().unwrap_or(carrier),
            transport_reason: reason,
            lanes_replaced: self.shared.replaced.load(Ordering::Relaxed),
            zero_bytes: self.shared.zero_bytes.load(Ordering::Relaxed),
            chunks: self.compression.histogram.to_map(),
            io: self.io.clone(),
        })
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // Wakes whoever waits for a buffer when the transfer failed.
        for pool in &self.pools {
            pool.close();
        }
        self.plan.close();
        self.samples.stop();
    }
}

/// Entries gathered for one frame, and the files among them.
#[derive(Debug, Default)]
pub(super) struct Batch {
    entries: Vec<Entry>,
    pub(super) files: Vec<Planned>,
}
