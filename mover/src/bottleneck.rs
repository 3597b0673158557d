//! What limited a transfer: the stage the others waited for most often.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::error::Result;

/// How often the queues are looked at.
const SAMPLE: Duration = Duration::from_millis(50);

/// Counts, now and then, which stage has work waiting before it.
#[derive(Debug)]
pub(crate) struct Bottleneck {
    /// Names of the three stages, first to last.
    stages: [&'static str; 3],
    seen: [AtomicU64; 3],
    stop: AtomicBool,
}

/// How full the queues between the three stages are; true: half full or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queues {
    /// Before the second stage.
    pub(crate) second: bool,
    /// Before the third stage.
    pub(crate) third: bool,
}

impl Bottleneck {
    /// Nothing seen yet.
    pub(crate) fn new(stages: [&'static str; 3]) -> Self {
        Self { stages, seen: Default::default(), stop: AtomicBool::new(false) }
    }

    /// Looks until it is stopped; for a thread of its own.
    pub(crate) fn watch(&self, queues: impl Fn() -> Queues) -> Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(SAMPLE);
            self.count(queues());
        }
        Ok(())
    }

    /// Ends [`Bottleneck::watch`].
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The name of the stage that limited most.
    pub(crate) fn verdict(&self) -> String {
        let seen = self.stages.iter().zip(&self.seen);
        let most = seen.max_by_key(|(_, seen)| seen.load(Ordering::Relaxed));
        most.map_or("", |(stage, _)| stage).to_string()
    }

    /// The last stage with work waiting is the slowest; without any, the first one is.
    fn count(&self, queues: Queues) {
        let [first, second, third] = &self.seen;
        let slowest = match (queues.second, queues.third) {
            (_, true) => third,
            (true, false) => second,
            (false, false) => first,
        };
        slowest.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_with_work_waiting_before_it_limits() {
        let bottleneck = Bottleneck::new(["disk-read", "cpu", "network"]);
        bottleneck.count(Queues { second: true, third: false });
        assert_eq!(bottleneck.verdict(), "cpu");
        for _ in 0..2 {
            bottleneck.count(Queues { second: true, third: true });
        }
        assert_eq!(bottleneck.verdict(), "network");
        for _ in 0..3 {
            bottleneck.count(Queues { second: false, third: false });
        }
        assert_eq!(bottleneck.verdict(), "disk-read");
    }
}
