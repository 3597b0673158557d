//! What a transfer has done so far, sampled by whoever draws it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Where a transfer is. The number travels in heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Waiting for, or reaching, the peer.
    Connect = 0,
    /// Waiting until the server has flushed and locked.
    Freeze = 1,
    /// Chunks flow.
    Copy = 2,
    /// Everything is read; waiting for the joiner to hold it.
    Drain = 3,
    /// The joiner makes its files durable.
    Sync = 4,
    /// The joiner puts the new tree in its place.
    Commit = 5,
    /// Finished.
    Done = 6,
    /// The joiner removes what was there before.
    Prepare = 7,
}

impl Phase {
    /// The word for logs and the summary.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Freeze => "freeze",
            Self::Copy => "copy",
            Self::Drain => "drain",
            Self::Sync => "sync",
            Self::Commit => "commit",
            Self::Done => "done",
            Self::Prepare => "prepare",
        }
    }

    pub(crate) const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Connect,
            1 => Self::Freeze,
            2 => Self::Copy,
            3 => Self::Drain,
            4 => Self::Sync,
            5 => Self::Commit,
            7 => Self::Prepare,
            _ => Self::Done,
        }
    }
}

/// Counters of one transfer, written by its threads. All sizes in bytes.
#[derive(Debug, Default)]
pub struct Progress {
    bytes_total: AtomicU64,
    bytes_done: AtomicU64,
    files_total: AtomicU64,
    files_done: AtomicU64,
    wire_bytes: AtomicU64,
    kept_bytes: AtomicU64,
    control_bytes: AtomicU64,
    phase: AtomicU8,
}

impl Progress {
    /// Plain bytes of all files, as far as they are known.
    #[must_use]
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total.load(Ordering::Relaxed)
    }

    /// Plain bytes given to, or taken from, the lanes, or found to be there; holes included.
    #[must_use]
    pub fn bytes_done(&self) -> u64 {
        self.bytes_done.load(Ordering::Relaxed)
    }

    /// Entries known.
    #[must_use]
    pub fn files_total(&self) -> u64 {
        self.files_total.load(Ordering::Relaxed)
    }

    /// Files that are read or written completely.
    #[must_use]
    pub fn files_done(&self) -> u64 {
        self.files_done.load(Ordering::Relaxed)
    }

    /// Bytes of frames given to, or taken from, the lanes.
    #[must_use]
    pub fn lane_bytes(&self) -> u64 {
        self.wire_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of all frames of the transfer: those of the lanes, and what the ends have said to each
    /// other, in both directions.
    #[must_use]
    pub fn wire_bytes(&self) -> u64 {
        self.lane_bytes().saturating_add(self.control_bytes.load(Ordering::Relaxed))
    }

    /// Bytes the joiner had already, which were not sent.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.kept_bytes.load(Ordering::Relaxed)
    }

    /// The phase the transfer is in.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::from_number(self.phase.load(Ordering::Relaxed))
    }

    pub(crate) fn set_totals(&self, files: u64, bytes: u64) {
        self.files_total.store(files, Ordering::Relaxed);
        self.bytes_total.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was counted is going to be counted once more.
    pub(crate) fn take_back(&self, bytes: u64) {
        self.bytes_done.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_files(&self, files: u64) {
        self.files_done.fetch_add(files, Ordering::Relaxed);
    }

    pub(crate) fn add_wire(&self, bytes: u64) {
        self.wire_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_kept(&self, bytes: u64) {
        self.kept_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What has been said and heard on the control connection so far.
    pub(crate) fn set_control(&self, bytes: u64) {
        self.control_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Everything begins anew.
    pub(crate) fn restart(&self) {
        for counter in [
            &self.bytes_total,
            &self.bytes_done,
            &self.files_total,
            &self.files_done,
            &self.wire_bytes,
            &self.kept_bytes,
            &self.control_bytes,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
        self.enter(Phase::Connect);
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }
}
