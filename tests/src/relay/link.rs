//! The narrowest place of a network: a token bucket with a queue before it.

use std::time::{Duration, Instant};

use super::faults::Rate;

/// What may pass at once after a pause. Unit: bytes. Why: one piece of TCP, or the largest datagram.
const BURST_BYTES: u64 = 64 << 10;

/// One direction of a link.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// When the last byte that was given to it has passed, or would have without bursts.
    free: Option<Instant>,
}

impl Link {
    /// When the last of these bytes has passed; `None` when the queue has no room for them.
    pub(super) fn pass(&mut self, rate: Rate, bytes: usize, now: Instant) -> Option<Instant> {
        let passed = self.begin(rate, now) + time_of(rate, bytes as u64);
        if passed.saturating_duration_since(now) > time_of(rate, rate.queue_bytes) {
            return None;
        }
        self.free = Some(passed);
        Some(passed.max(now))
    }

    /// As [`Self::pass`], however long the queue is.
    pub(super) fn pass_always(&mut self, rate: Rate, bytes: usize, now: Instant) -> Instant {
        let passed = self.begin(rate, now) + time_of(rate, bytes as u64);
        self.free = Some(passed);
        passed.max(now)
    }

    /// How long a sender that is told has to wait until there is room.
    pub(super) fn wait(&self, rate: Rate, now: Instant) -> Duration {
        let ahead = self.free.map_or(Duration::ZERO, |free| free.saturating_duration_since(now));
        ahead.saturating_sub(time_of(rate, rate.queue_bytes))
    }

    fn begin(&self, rate: Rate, now: Instant) -> Instant {
        let earliest = now.checked_sub(time_of(rate, BURST_BYTES)).unwrap_or(now);
        self.free.map_or(earliest, |free| free.max(earliest))
    }
}

fn time_of(rate: Rate, bytes: u64) -> Duration {
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate.bytes_per_second.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}
