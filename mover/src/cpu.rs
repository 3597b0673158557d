//! How much of this machine's processor time nobody uses, and how much a thread does.

use std::fs;
use std::time::{Duration, Instant};

/// Where the kernel counts processor time.
const STAT: &str = "/proc/stat";

/// Compares the kernel's counters with those of the last look.
#[derive(Debug, Default)]
pub(crate) struct CpuIdle {
    last: Option<Times>,
}

/// Processor time of all cores since the machine started. Unit: clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    idle: u64,
    all: u64,
}

impl CpuIdle {
    /// The idle part of the time since the last call, from 0 to 1; `None` the first time, and
    /// where the kernel does not tell.
    #[allow(clippy::cast_precision_loss, reason = "a share; 52 bits are plenty")]
    pub(crate) fn share(&mut self) -> Option<f64> {
        let now = fs::read_to_string(STAT).ok().and_then(|text| Times::parse(&text))?;
        let before = self.last.replace(now)?;
        let all = now.all.checked_sub(before.all).filter(|all| *all > 0)?;
        Some(now.idle.saturating_sub(before.idle) as f64 / all as f64)
    }
}

/// How much of a core the calling thread uses.
#[derive(Debug)]
pub(crate) struct ThreadLoad {
    since: Instant,
    used: Duration,
}

impl ThreadLoad {
    /// From now on.
    pub(crate) fn start() -> Self {
        Self { since: Instant::now(), used: thread_time() }
    }

    /// Its share of one core since the start, from 0 to 1; for the same thread.
    pub(crate) fn share(&self) -> f64 {
        let all = self.since.elapsed().as_secs_f64();
        if all > 0.0 { thread_time().saturating_sub(self.used).as_secs_f64() / all } else { 0.0 }
    }
}

/// Processor time of the calling thread.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Times {
    /// The first line: user, nice, system, idle, iowait, irq, softirq, steal; what guests used is
    /// part of user (proc_stat(5)). A core that waits for a disk is free for others.
    fn parse(stat: &str) -> Option<Self> {
        let mut fields = stat.lines().next()?.split_whitespace();
        if fields.next()? != "cpu" {
            return None;
        }
        let times: Vec<u64> = fields.take(8).map_while(|field| field.parse().ok()).collect();
        let idle = times.get(3)?.checked_add(*times.get(4)?)?;
        Some(Self { idle, all: times.iter().sum() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_disk_is_idle_and_guests_are_not_counted_twice() {
        let times = Times::parse("cpu  10 1 20 50 7 2 3 4 6 1\ncpu0 1 2 3\n").unwrap();
        assert_eq!(times, Times { idle: 57, all: 97 });
        assert_eq!(Times::parse("intr 1 2 3 4 5"), None);
        assert_eq!(Times::parse(""), None);
    }

    #[test]
    fn the_share_is_that_of_the_time_since_the_last_look() {
        let mut cpu = CpuIdle::default();
        assert_eq!(cpu.share(), None);
        let deadline = Instant::now() + Duration::from_secs(5);
        let share = loop {
            // Until the kernel has counted a tick.
            if let Some(share) = cpu.share() {
                break share;
            }
            assert!(Instant::now() < deadline);
        };
        assert!((0.0..=1.0).contains(&share), "{share}");
    }

    #[test]
    fn a_thread_that_sleeps_uses_nothing_and_one_that_works_does() {
        let load = ThreadLoad::start();
        std::thread::sleep(Duration::from_millis(50));
        let asleep = load.share();
        assert!(asleep < 0.5, "{asleep}");
        let load = ThreadLoad::start();
        while load.since.elapsed() < Duration::from_millis(20) {}
        assert!(load.share() > 0.0);
    }
}
