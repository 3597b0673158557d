//! Whether reading the stale copy is worth it.
//!
//! What is compared need not be sent, but it has to be read. Where reading takes longer than being
//! sent everything and storing it (a slow disk behind a fast link), files are not compared any more.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::compare::THREADS;
use crate::summary::mib;

/// Least that must have been read, and stored, before the rates mean anything. Unit: bytes.
///
/// Why: a quarter of a second of a fast disk; less than that is mostly beginnings.
const MEASURED_MIN: u64 = 256 << 20;

/// Largest weight of the past. Unit: bytes. Why: a rate that has changed shows after two GiB.
const REMEMBERED: u64 = 2 << 30;

/// How much faster receiving must be. Why: the two are measured while they disturb each other, and
/// what is compared spares the network as well.
const MARGIN: f64 = 1.5;

/// The two rates.
#[derive(Debug, Default)]
pub(super) struct Worth {
    rates: Mutex<Rates>,
    has_said_so: AtomicBool,
}

/// Bytes and the time they took.
#[derive(Debug, Default, Clone, Copy)]
struct Rate {
    bytes: u64,
    time: Duration,
}

#[derive(Debug, Default)]
struct Rates {
    /// Reading the stale copy, all threads together.
    reading: Rate,
    /// Receiving and storing what is sent.
    storing: Rate,
}

impl Rate {
    fn add(&mut self, bytes: u64, time: Duration) {
        self.bytes += bytes;
        self.time += time;
        if self.bytes > REMEMBERED {
            (self.bytes, self.time) = (self.bytes / 2, self.time / 2);
        }
    }

    /// Unit: bytes per second; `None` while too little is known.
    fn per_second(&self) -> Option<f64> {
        let seconds = self.time.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "rates need no more digits")]
        let bytes = self.bytes as f64;
        (self.bytes >= MEASURED_MIN && seconds > 0.0).then(|| bytes / seconds)
    }
}

impl Worth {
    /// One of the threads has read so much in this time.
    pub(super) fn read(&self, bytes: u64, time: Duration) {
        let share = u32::try_from(THREADS).unwrap_or(1);
        self.lock().reading.add(bytes, time / share);
    }

    /// So much was received and stored in this time, in which something was.
    pub(super) fn stored(&self, bytes: u64, time: Duration) {
        self.lock().storing.add(bytes, time);
    }

    /// Whether a file of this size is to be compared.
    pub(super) fn is_worth_it(&self) -> bool {
        let rates = self.lock();
        let (Some(reading), Some(storing)) =
            (rates.reading.per_second(), rates.storing.per_second())
        else {
            return true;
        };
        let worth_it = reading * MARGIN >= storing;
        if !worth_it && !self.has_said_so.swap(true, Ordering::Relaxed) {
            let unit = mib(1);
            tracing::info!(
                "reading the old copy ({:.0} MiB/s) takes longer than receiving everything \
                 ({:.0} MiB/s): files are not compared while that is so",
                reading * unit,
                storing * unit
            );
        }
        worth_it
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn comparing_stops_where_reading_is_slower_than_receiving_and_goes_on_when_it_is_not() {
        let worth = Worth::default();
        assert!(worth.is_worth_it(), "nothing is known yet");
        let threads = u32::try_from(THREADS).unwrap();
        worth.read(300 << 20, SECOND * threads);
        assert!(worth.is_worth_it(), "one rate alone says nothing");
        worth.stored(600 << 20, SECOND);
        assert!(!worth.is_worth_it());
        worth.read(4000 << 20, SECOND * threads);
        assert!(worth.is_worth_it());
    }

    #[test]
    fn a_little_says_nothing_about_a_rate() {
        let worth = Worth::default();
        worth.read(1 << 20, SECOND * 100);
        worth.stored(1 << 30, SECOND);
        assert!(worth.is_worth_it());
    }
}
