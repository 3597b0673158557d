//! How much of this machine's processor time nobody uses.

use std::fs;

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
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        let share = loop {
            // Until the kernel has counted a tick.
            if let Some(share) = cpu.share() {
                break share;
            }
            assert!(std::time::Instant::now() < deadline);
        };
        assert!((0.0..=1.0).contains(&share), "{share}");
    }
}
