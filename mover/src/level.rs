//! `compress=auto`: how hard to compress, by where the bottleneck is.
//!
//! Compressing trades processor time for bytes on the link. It pays when the lanes are what
//! everybody waits for *and* processors are idle; when they are not, on loopback or beside a busy
//! server, every cycle spent on it is taken from the transfer or from the server. So two things
//! decide: how often the lanes' queue was full, and how much processor time was left over. Each
//! step is a trial: one that makes the transfer slower is undone and not tried again for a while.

use std::sync::atomic::{AtomicI32, Ordering};

use crate::bottleneck::CPU_BUSY;
use crate::options::Compress;

/// What the controller chooses from: nothing, or a zstd level.
///
/// Why these: measured on InnoDB pages, one core, -5 does 917 MiB/s (x1.8), 1 388 MiB/s (x3.8),
/// 3 168 MiB/s (x3.4). Literals are entropy coded from 1 on only, so what lies between -5 and 1
/// costs more time and finds nothing new in rows of digits.
const LADDER: [Option<i32>; 4] = [None, Some(-5), Some(1), Some(3)];

/// The step that is taken at once when most of the machine is idle: level 1.
const AMBITIOUS: usize = 2;

/// Share of looks with a full queue from which the lanes are the bottleneck.
const FULL: f64 = 0.6;

/// Share of looks with a full queue up to which the lanes are starved.
const STARVED: f64 = 0.2;

/// Idle share of the processors that leaves room for a harder level.
const ROOM: f64 = 0.25;

/// Idle share at which steps are skipped.
const PLENTY: f64 = 0.5;

/// A trial must not cost more than this share of the rate. Why: rates differ by some percent by
/// themselves.
const TOLERANCE: f64 = 0.05;

/// Windows that judge a trial, and that it is compared with. Why: half a second; the disk of a
/// virtual machine can stand still for one window.
const JUDGES: u8 = 2;

/// Windows for which a level that made things worse is not tried again; doubled every time.
const BARRED_FIRST: u32 = 8;

/// Longest time a level is barred. Unit: windows.
const BARRED_MAX: u32 = 256;

/// Stands for "do not compress" in [`Level`]; no level of zstd.
const RAW: i32 = i32::MIN;

/// The level of the moment, for every thread that compresses.
#[derive(Debug)]
pub(crate) struct Level(AtomicI32);

impl Level {
    /// What is used until somebody decides otherwise.
    pub(crate) fn new(compress: Compress) -> Self {
        Self(AtomicI32::new(match compress {
            Compress::Auto | Compress::None => RAW,
            Compress::Zstd(level) => level,
        }))
    }

    /// The level to compress the next chunk at, if it is to be compressed.
    pub(crate) fn now(&self) -> Option<i32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|level| *level != RAW)
    }

    /// From now on; true when it was another one before.
    pub(crate) fn set(&self, level: Option<i32>) -> bool {
        let level = level.unwrap_or(RAW);
        self.0.swap(level, Ordering::Relaxed) != level
    }
}

/// What happened in a window of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Share of looks at which chunks waited for the lanes, from 0 to 1.
    pub(crate) pressure: f64,
    /// Idle share of the processors, from 0 to 1.
    pub(crate) cpu_idle: f64,
    /// Plain bytes that the lanes took.
    pub(crate) bytes: u64,
}

/// Follows the bottleneck, one window at a time.
#[derive(Debug, Default)]
pub(crate) struct Controller {
    at: usize,
    /// Whether the lanes were full in the window before: the first full one filled the buffers
    /// behind them, and its rate is not that of the link.
    was_full: bool,
    /// Bytes of the last window.
    last: u64,
    trial: Trial,
    barred: [Bar; LADDER.len()],
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Trial {
    #[default]
    None,
    /// Chunks of the old level are still on their way. `before`: bytes of [`JUDGES`] windows.
    Settling { from: usize, before: u64 },
    /// The next windows show what the new level does.
    Judging { from: usize, before: u64, since: u64, left: u8 },
}

#[derive(Debug, Clone, Copy, Default)]
struct Bar {
    left: u32,
    last: u32,
}

impl Controller {
    /// The level for the next window.
    pub(crate) fn next(&mut self, window: &Window) -> Option<i32> {
        for bar in &mut self.barred {
            bar.left = bar.left.saturating_sub(1);
        }
        match self.trial {
            Trial::Settling { from, before } => {
                self.trial = Trial::Judging { from, before, since: 0, left: JUDGES };
            }
            Trial::Judging { from, before, since, left } => {
                let (since, left) = (since + window.bytes, left - 1);
                self.trial = Trial::Judging { from, before, since, left };
                if left == 0 {
                    self.judge(from, before, since);
                }
            }
            Trial::None if window.pressure >= FULL && !self.was_full => {}
            Trial::None => {
                if let Some(to) = self.wish(window).filter(|to| self.is_free(*to)) {
                    // The window before may have filled buffers.
                    let before = window.bytes + window.bytes.min(self.last);
                    self.trial = Trial::Settling { from: self.at, before };
                    self.at = to;
                }
            }
        }
        self.last = window.bytes;
        self.was_full = window.pressure >= FULL;
        LADDER.get(self.at).copied().flatten()
    }

    fn judge(&mut self, from: usize, before: u64, since: u64) {
        self.trial = Trial::None;
        if is_worse(since, before) {
            self.bar(self.at);
            self.at = from;
        }
    }

    fn wish(&self, window: &Window) -> Option<usize> {
        let down = self.at.checked_sub(1);
        if window.pressure >= FULL {
            if window.cpu_idle >= PLENTY && self.at < AMBITIOUS && self.is_free(AMBITIOUS) {
                return Some(AMBITIOUS);
            }
            if window.cpu_idle >= ROOM {
                return Some(self.at + 1).filter(|up| *up < LADDER.len());
            }
            return down.filter(|_| window.cpu_idle < CPU_BUSY);
        }
        down.filter(|_| window.pressure <= STARVED && window.cpu_idle < ROOM)
    }

    fn is_free(&self, step: usize) -> bool {
        self.barred.get(step).is_some_and(|bar| bar.left == 0)
    }

    fn bar(&mut self, step: usize) {
        if let Some(bar) = self.barred.get_mut(step) {
            bar.last = (bar.last * 2).clamp(BARRED_FIRST, BARRED_MAX);
            bar.left = bar.last;
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a share; 52 bits are plenty")]
fn is_worse(now: u64, before: u64) -> bool {
    (now as f64) < before as f64 * (1.0 - TOLERANCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn window(pressure: f64, cpu_idle: f64, mib: u64) -> Window {
        Window { pressure, cpu_idle, bytes: mib * MIB }
    }

    #[test]
    fn a_slow_link_with_idle_processors_is_compressed_at_once() {
        let mut controller = Controller::default();
        assert_eq!(controller.next(&window(1.0, 0.7, 60)), None, "buffers were filled");
        assert_eq!(controller.next(&window(1.0, 0.7, 30)), Some(1));
        assert_eq!(controller.next(&window(1.0, 0.4, 50)), Some(1), "settling");
        for _ in 0..JUDGES {
            assert_eq!(controller.next(&window(1.0, 0.4, 70)), Some(1), "it was good");
        }
        assert_eq!(controller.next(&window(1.0, 0.4, 70)), Some(3), "there is still room");
    }

    #[test]
    fn a_level_that_slows_down_is_undone_and_barred_for_longer_every_time() {
        let mut controller =
            Controller { at: AMBITIOUS, was_full: true, last: 70 * MIB, ..Controller::default() };
        let mut tried = Vec::new();
        for number in 0..70 {
            let rate = if controller.at == AMBITIOUS { 70 } else { 40 };
            if controller.next(&window(1.0, 0.4, rate)) == Some(3) {
                tried.push(number);
            }
        }
        // Three windows each time: one to settle, two that judge.
        assert_eq!(tried, [0, 1, 2, 11, 12, 13, 30, 31, 32, 65, 66, 67]);
    }

    #[test]
    fn one_bad_window_does_not_undo_a_good_level() {
        let mut controller = Controller { was_full: true, last: 30 * MIB, ..Controller::default() };
        let mut level = None;
        for mib in [30, 50, 20, 60] {
            level = controller.next(&window(1.0, 0.7, mib));
        }
        assert_eq!(level, Some(1));
    }

    #[test]
    fn without_idle_processors_nothing_is_compressed() {
        let mut controller = Controller::default();
        for _ in 0..20 {
            assert_eq!(controller.next(&window(1.0, 0.02, 200)), None);
            assert_eq!(controller.next(&window(1.0, 0.14, 200)), None, "a full queue alone");
        }
    }

    #[test]
    fn starved_lanes_beside_busy_processors_are_compressed_less() {
        let mut controller = Controller { at: 3, ..Controller::default() };
        assert_eq!(controller.next(&window(0.0, 0.1, 10)), Some(1));
        for _ in 0..=JUDGES {
            controller.next(&window(0.0, 0.1, 20));
        }
        assert_eq!(controller.next(&window(0.0, 0.1, 20)), Some(-5));
    }

    #[test]
    fn a_starved_lane_with_idle_processors_waits_for_the_disk_and_changes_nothing() {
        let mut controller = Controller { at: AMBITIOUS, ..Controller::default() };
        for _ in 0..20 {
            assert_eq!(controller.next(&window(0.0, 0.8, 20)), Some(1));
        }
    }
}
