//! Watches the donor's queues: what limits the transfer, and how hard to compress.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fastsst_proto::Bottleneck;
use flume::Receiver;

use super::lane::Shared;
use super::parcel::Parcel;
use super::pipeline::BETWEEN_STAGES;
use super::read::ReadTag;
use super::transport::Decision;
use crate::bottleneck::{PeerView, TICKS_PER_WINDOW, Tick, is_half_full};
use crate::compress::Compression;
use crate::disk::IoDone;
use crate::level::{Controller, Window};
use crate::pool::Pool;
use crate::throttle::Throttle;

/// What is watched.
#[derive(Debug)]
pub(super) struct Queues {
    /// Before the stage *hash and compress*.
    pub(super) reads: Receiver<IoDone<ReadTag>>,
    /// Before the lanes.
    pub(super) parcels: Receiver<Parcel>,
    /// Buffers for compressed chunks: when all are out, the lanes hold them.
    pub(super) wire: Pool,
    pub(super) throttle: Arc<Throttle>,
    /// What the joiner waits for.
    pub(super) joiner: Arc<PeerView>,
}

impl Queues {
    /// Whether chunks wait for the lanes.
    fn lanes_are_full(&self) -> bool {
        is_half_full(&self.parcels) || self.wire.available() == 0
    }

    /// Whether chunks wait for the network: fewer bytes would help, unless it is the joiner that
    /// holds them up.
    fn network_is_full(&self) -> bool {
        let joiner = self.joiner.get();
        self.lanes_are_full() && joiner != Bottleneck::DiskWrite && joiner != Bottleneck::Cpu
    }

    /// The last stage with work waiting before it is the slowest; without any, the first one is.
    fn slowest(&self) -> Bottleneck {
        if self.throttle.was_felt() {
            Bottleneck::Rlimit
        } else if self.lanes_are_full() {
            Bottleneck::Network
        } else if self.reads.len() * 2 >= BETWEEN_STAGES {
            Bottleneck::Cpu
        } else {
            Bottleneck::DiskRead
        }
    }
}

/// Follows the queues, one look at a time.
#[derive(Debug)]
pub(super) struct Pace {
    queues: Queues,
    lanes: Arc<Shared>,
    compression: Arc<Compression>,
    /// Absent unless the level follows the bottleneck.
    controller: Option<Controller>,
    /// Looks with a full network in the window that is not over.
    full: u32,
    /// Plain bytes sent until the last window ended, and until the last look.
    bytes: [u64; 2],
}

impl Pace {
    /// With a controller the level follows the bottleneck, else it stays as it is.
    pub(super) fn new(
        queues: Queues,
        lanes: Arc<Shared>,
        compression: Arc<Compression>,
        controller: Option<Controller>,
    ) -> Self {
        Self { queues, lanes, compression, controller, full: 0, bytes: [0; 2] }
    }

    /// One look: what everybody waits for now.
    pub(super) fn look(&mut self, tick: Tick) -> Bottleneck {
        let bytes = self.sent();
        self.full += u32::from(self.queues.network_is_full());
        if tick.ends_window {
            self.end_window(tick.cpu_idle, bytes);
        }
        let moved = std::mem::replace(&mut self.bytes[1], bytes) != bytes;
        let slowest = self.queues.slowest();
        // Between two passes, or while the joiner finishes, nobody reads.
        let nobody_reads = slowest == Bottleneck::DiskRead && !moved;
        if nobody_reads { Bottleneck::Unknown } else { slowest }
    }

    /// Plain bytes that lanes took; zeros cost nothing and do not count.
    fn sent(&self) -> u64 {
        let zeros = self.lanes.zero_bytes.load(Ordering::Relaxed);
        self.lanes.progress.bytes_done().saturating_sub(zeros)
    }

    fn end_window(&mut self, cpu_idle: f64, bytes: u64) {
        let pressure = f64::from(self.full) / f64::from(TICKS_PER_WINDOW);
        let window = Window { pressure, cpu_idle, bytes: bytes.saturating_sub(self.bytes[0]) };
        (self.full, self.bytes[0]) = (0, bytes);
        let Some(controller) = &mut self.controller else { return };
        if self.lanes.switch.look(Decision::is_on_trial) {
            return;
        }
        let level = controller.next(&window);
        if self.compression.level.set(level) {
            tracing::debug!("compression level {level:?} from now on: {window:?}");
        }
    }
}
