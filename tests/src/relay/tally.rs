//! What has happened, so that a test can tell that it tested something.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often each fault has struck, datagrams and pieces of TCP together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Happened {
    /// Vanished by chance; pieces of TCP: came late.
    pub lost: u64,
    /// Came twice.
    pub doubled: u64,
    /// May have been overtaken.
    pub held_back: u64,
    /// Had a bit wrong.
    pub flipped: u64,
    /// Was longer than datagrams may be.
    pub too_long: u64,
    /// Found the queue before the link full.
    pub overflowed: u64,
    /// Came when its flow had ended: datagrams only.
    pub swallowed: u64,
}

/// One counter for each.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) lost: Counter,
    pub(super) doubled: Counter,
    pub(super) held_back: Counter,
    pub(super) flipped: Counter,
    pub(super) too_long: Counter,
    pub(super) overflowed: Counter,
    pub(super) swallowed: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tally {
    pub(super) fn read(&self) -> Happened {
        Happened {
            lost: self.lost.get(),
            doubled: self.doubled.get(),
            held_back: self.held_back.get(),
            flipped: self.flipped.get(),
            too_long: self.too_long.get(),
            overflowed: self.overflowed.get(),
            swallowed: self.swallowed.get(),
        }
    }
}
