//! `rlimit`: a token bucket that bounds how fast the donor reads.

use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::error::Result;

/// Time of traffic that may be caught up after a pause. Why: long enough to smooth one slow disk
/// request, short enough that a second's average stays within a few percent of the limit.
const BURST: Duration = Duration::from_millis(50);

/// Waits so that on average no more than `rate` bytes per second pass.
#[derive(Debug)]
pub(crate) struct Throttle {
    rate: Option<f64>,
    /// When everything let through so far has been paid for.
    paid_until: Instant,
}

impl Throttle {
    /// `rate` in bytes per second; `None` or 0: no limit.
    #[allow(clippy::cast_precision_loss, reason = "a rate; 52 bits are plenty")]
    pub(crate) fn new(rate: Option<u64>) -> Self {
        let rate = rate.filter(|rate| *rate > 0).map(|rate| rate as f64);
        Self { rate, paid_until: Instant::now() }
    }

    /// Waits until `bytes` more may pass.
    ///
    /// # Errors
    /// The transfer was cancelled.
    pub(crate) fn pass(&mut self, bytes: u32, cancel: &Cancel) -> Result<()> {
        let Some(rate) = self.rate else { return Ok(()) };
        let now = Instant::now();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        self.paid_until = self.paid_until.max(earliest);
        self.paid_until += Duration::from_secs_f64(f64::from(bytes) / rate);
        cancel.sleep(self.paid_until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_keeps_to_the_limit() {
        let (start, cancel) = (Instant::now(), Cancel::new());
        let mut throttle = Throttle::new(Some(10 << 20));
        for _ in 0..5 {
            throttle.pass(1 << 20, &cancel).unwrap();
        }
        // 5 MiB at 10 MiB/s take 0.5 s, less the burst.
        assert!(start.elapsed() >= Duration::from_millis(440), "{:?}", start.elapsed());
    }

    #[test]
    fn no_limit_does_not_wait() {
        let start = Instant::now();
        Throttle::new(None).pass(u32::MAX, &Cancel::new()).unwrap();
        assert!(start.elapsed() < Duration::from_millis(100));
    }
}
