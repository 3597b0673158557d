//! What limited a transfer: the stage the others waited for most often.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
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

/// Looks that make up [`Samples::recent`]. Why: half a second follows a change quickly, and does
/// not follow every hiccup of a disk.
const RECENT: usize = 10;

/// How often each was seen, by its number.
type Seen = [u64; Bottleneck::ALL.len()];

/// Counts, now and then, which stage has work waiting before it.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    seen: Mutex<(Seen, VecDeque<Bottleneck>)>,
    /// Used processor time in the last window. Unit: thousandths.
    busy: AtomicU32,
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
                self.busy.store(thousandths(1.0 - cpu_idle), Ordering::Relaxed);
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

    /// Idle share of the processors in the last window, from 0 to 1; 1 before the first one.
    pub(crate) fn cpu_idle(&self) -> f64 {
        1.0 - f64::from(self.busy.load(Ordering::Relaxed)) / 1000.0
    }

    /// What limited most of the time.
    pub(crate) fn verdict(&self) -> Bottleneck {
        most(&self.lock().0)
    }

    /// What limited most of the last half second.
    pub(crate) fn recent(&self) -> Bottleneck {
        let mut seen = Seen::default();
        for bottleneck in &self.lock().1 {
            add(&mut seen, *bottleneck);
        }
        most(&seen)
    }

    fn count(&self, seen: Bottleneck, cpu_idle: f64) {
        let is_ours = seen != Bottleneck::Rlimit && seen != Bottleneck::Unknown;
        let seen = if is_ours && cpu_idle < CPU_BUSY { Bottleneck::Cpu } else { seen };
        let mut state = self.lock();
        let (all, recent) = &mut *state;
        add(all, seen);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(seen);
    }

    fn lock(&self) -> MutexGuard<'_, (Seen, VecDeque<Bottleneck>)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether work waits before a stage: its queue is half full or more.
pub(crate) fn is_half_full<T>(queue: &flume::Receiver<T>) -> bool {
    queue.capacity().is_some_and(|room| queue.len() * 2 >= room)
}

/// What the peer said last about its own side.
#[derive(Debug, Default)]
pub(crate) struct PeerView(AtomicU8);

impl PeerView {
    pub(crate) fn set(&self, bottleneck: Bottleneck) {
        self.0.store(bottleneck.number(), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Bottleneck {
        Bottleneck::from_number(self.0.load(Ordering::Relaxed))
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
fn thousandths(share: f64) -> u32 {
    (share.clamp(0.0, 1.0) * 1000.0) as u32
}

fn add(seen: &mut Seen, bottleneck: Bottleneck) {
    if let Some(count) = seen.get_mut(usize::from(bottleneck.number())) {
        *count += 1;
    }
}

fn most(seen: &Seen) -> Bottleneck {
    let seen = Bottleneck::ALL.into_iter().zip(seen).filter(|(_, count)| **count > 0);
    // What could not be told says nothing beside what could.
    let seen = seen.filter(|(bottleneck, _)| *bottleneck != Bottleneck::Unknown);
    seen.max_by_key(|(_, count)| **count).map_or(Bottleneck::Unknown, |(most, _)| most)
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
    fn what_is_recent_is_forgotten_again() {
        let samples = Samples::default();
        assert_eq!(samples.recent(), Bottleneck::Unknown);
        for _ in 0..3 * RECENT {
            samples.count(Bottleneck::DiskWrite, 0.5);
        }
        for _ in 0..RECENT {
            samples.count(Bottleneck::Network, 0.5);
        }
        assert_eq!(samples.recent(), Bottleneck::Network);
        assert_eq!(samples.verdict(), Bottleneck::DiskWrite);
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
