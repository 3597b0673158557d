//! `rlimit`: a token bucket that bounds how fast the donor reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::error::Result;

/// Time of traffic that may be caught up after a pause. Why: long enough to smooth one slow disk
/// request, short enough that a second's average stays within a few percent of the limit.
const BURST: Duration = Duration::from_millis(50);

/// Waits so that on average no more than `rate` bytes per second pass, whoever asks.
#[derive(Debug)]
pub(crate) struct Throttle {
    rate: Option<f64>,
    /// When everything let through so far has been paid for.
    paid_until: Mutex<Instant>,
    /// How many are waiting.
    waiting: AtomicU64,
    /// How often somebody has had to wait.
    waits: AtomicU64,
}

impl Throttle {
    /// `rate` in bytes per second; `None` or 0: no limit.
    #[allow(clippy::cast_precision_loss, reason = "a rate; 52 bits are plenty")]
    pub(crate) fn new(rate: Option<u64>) -> Self {
        let rate = rate.filter(|rate| *rate > 0).map(|rate| rate as f64);
        Self {
            rate,
            paid_until: Mutex::new(Instant::now()),
            waiting: AtomicU64::new(0),
            waits: AtomicU64::new(0),
        }
    }

    /// Waits until `bytes` more may pass.
    ///
    /// # Errors
    /// The transfer was cancelled.
    pub(crate) fn pass(&self, bytes: u32, cancel: &Cancel) -> Result<()> {
        let Some(rate) = self.rate else { return Ok(()) };
        let now = Instant::now();
        let wait = {
            let mut paid = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
            *paid = (*paid).max(now.checked_sub(BURST).unwrap_or(now));
            *paid += Duration::from_secs_f64(f64::from(bytes) / rate);
            paid.saturating_duration_since(now)
        };
        if wait.is_zero() {
            return Ok(());
        }
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waited = cancel.sleep(wait);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        waited
    }

    /// Whether somebody is waiting now, or has had to since this was asked the last time.
    pub(crate) fn was_felt(&self) -> bool {
        self.waits.swap(0, Ordering::Relaxed) > 0 || self.waiting.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_keeps_to_the_limit_whoever_asks() {
        let (start, cancel) = (Instant::now(), Cancel::new());
        let throttle = Throttle::new(Some(10 << 20));
        std::thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| throttle.pass(1 << 20, &cancel).unwrap());
            }
        });
        // 5 MiB at 10 MiB/s take 0.5 s, less the burst.
        assert!(start.elapsed() >= Duration::from_millis(440), "{:?}", start.elapsed());
        assert!(throttle.was_felt());
        assert!(!throttle.was_felt(), "nobody waits any more");
    }

    #[test]
    fn no_limit_does_not_wait() {
        let start = Instant::now();
        Throttle::new(None).pass(u32::MAX, &Cancel::new()).unwrap();
        assert!(start.elapsed() < Duration::from_millis(100));
    }
}
