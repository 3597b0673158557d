//! What limited a transfer: the stage the others waited for most often.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastsst_proto::Bottleneck;

use crate::cpu::CpuIdle;
use crate::error::Result;

/// How often the queues are looked at.
const TICK: Duration = Duration::from_millis(50);

/// Looks that make a window. Why: 250 ms are 25 of the kernel's clock ticks on each core, enough
/// to tell a busy machine from an idle one.
pub(crate) const TICKS_PER_WINDOW: u32 = 5;

/// Below this idle share the processors are what everybody waits for, whatever the queues say.
///
/// Why: on a machine without idle time queues are full or empty by the scheduler's mood.
pub(crate) const CPU_BUSY: f64 = 0.08;

/// One look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tick {
    /// Idle share of the processors in the last window that is over, from 0 to 1.
    pub(crate) cpu_idle: f64,
    /// Whether a window ends with this tick.
    pub(crate) ends_window: bool,
}

/// Counts, now and then, which stage has work waiting before it.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    seen: [AtomicU64; Bottleneck::ALL.len()],
    stop: AtomicBool,
}

impl Samples {
    /// Looks until it is stopped; for a thread of its own.
    ///
    /// # Errors
    /// None.
    pub(crate) fn watch(&self, mut look: impl FnMut(Tick) -> Bottleneck) -> Result<()> {
        let (mut cpu, mut cpu_idle, mut ticks) = (CpuIdle::default(), 1.0, 0);
        // What was before the first window does not count.
        cpu.share();
        while !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(TICK);
            ticks += 1;
            let ends_window = ticks == TICKS_PER_WINDOW;
            if ends_window {
                cpu_idle = cpu.share().unwrap_or(1.0);
                ticks = 0;
            }
            let seen = look(Tick { cpu_idle, ends_window });
            self.count(seen, cpu_idle);
        }
        Ok(())
    }

    /// Ends [`Samples::watch`].
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What limited most of the time.
    pub(crate) fn verdict(&self) -> Bottleneck {
        let seen = Bottleneck::ALL.into_iter().zip(&self.seen);
        let seen = seen.map(|(bottleneck, seen)| (bottleneck, seen.load(Ordering::Relaxed)));
        let most = seen.filter(|(_, count)| *count > 0).max_by_key(|(_, count)| *count);
        most.map_or(Bottleneck::Unknown, |(bottleneck, _)| bottleneck)
    }

    fn count(&self, seen: Bottleneck, cpu_idle: f64) {
        let is_ours = seen != Bottleneck::Rlimit && seen != Bottleneck::Unknown;
        let seen = if is_ours && cpu_idle < CPU_BUSY { Bottleneck::Cpu } else { seen };
        if let Some(count) = self.seen.get(usize::from(seen.number())) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_that_was_seen_most_limits() {
        let samples = Samples::default();
        assert_eq!(samples.verdict(), Bottleneck::Unknown);
        samples.count(Bottleneck::DiskRead, 0.5);
        assert_eq!(samples.verdict(), Bottleneck::DiskRead);
        for _ in 0..2 {
            samples.count(Bottleneck::Network, 0.5);
        }
        assert_eq!(samples.verdict(), Bottleneck::Network);
    }

    #[test]
    fn without_idle_processors_they_are_the_limit_but_a_chosen_limit_stays_one() {
        let samples = Samples::default();
        samples.count(Bottleneck::Network, 0.01);
        assert_eq!(samples.verdict(), Bottleneck::Cpu);
        for _ in 0..2 {
            samples.count(Bottleneck::Rlimit, 0.01);
        }
        assert_eq!(samples.verdict(), Bottleneck::Rlimit);
    }

    #[test]
    fn windows_end_at_every_fifth_look() {
        let (samples, mut ticks, mut windows) = (Samples::default(), 0, 0);
        samples
            .watch(|tick| {
                ticks += 1;
                windows += u32::from(tick.ends_window);
                if ticks == 2 * TICKS_PER_WINDOW {
                    samples.stop();
                }
                Bottleneck::Unknown
            })
            .unwrap();
        assert_eq!(windows, 2);
    }
}
