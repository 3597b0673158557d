//! `compress=auto`: how hard to compress, by where the bottleneck is.
//!
//! Compressing trades processor time for bytes on the link. It pays when the lanes are what
//! everybody waits for *and* processors are idle; when they are not, on loopback or beside a busy
//! server, every cycle spent on it is taken from the transfer or from the server. So two things
//! decide: how often the lanes' queue was full, and how much processor time was left over. Each
//! step is a trial: a harder level that does not make the transfer faster, or an easier one that makes
//! it slower, is undone and not tried again for a while.

use std::sync::atomic::{AtomicI32, Ordering};

use crate::bottleneck::CPU_BUSY;
use crate::options::Compress;

/// What the controller chooses from: nothing, or a zstd level.
///
/// Why these: measured on InnoDB pages, one core, -5 does 917 MiB/s (x1.8), 1 388 MiB/s (x3.8),
/// 3 168 MiB/s (x3.4). Literals are entropy coded from 1 on only, so what lies between -5 and 1
/// costs more time and finds nothing new in rows of digits.
const LADDER: [Option<i32>; 4] = [None, Some(-5), Some(1), Some(3)];

/// The step that is tried first: level 1. What lies below it is for when that is too much.
const AMBITIOUS: usize = 2;

/// Share of looks with a full queue from which the lanes are the bottleneck.
const FULL: f64 = 0.6;

/// Share of looks with a full queue up to which the lanes are starved.
const STARVED: f64 = 0.2;

/// Idle share of the processors that leaves room for a harder level.
const ROOM: f64 = 0.25;

/// A step up must gain this share of the rate, or it costs processor time for nothing; a step
/// down must not lose more. Why: rates differ by some percent by themselves.
const MARGIN: f64 = 0.05;

/// Bytes that pass before a level shows: the parcels and reads that wait were made before it.
const SETTLE_BYTES: u64 = 24 << 20;

/// Bytes a rate is measured with. Why: chunks are counted whole; 16 of them tell 5 %.
const MEASURE_BYTES: u64 = 16 << 20;

/// Fewest windows a rate is measured with. Why: the disk of a virtual machine can stand still for
/// one of them.
const MEASURE_WINDOWS: u32 = 2;

/// Longest time to settle or to measure, on links where bytes are slow to come. Unit: windows.
const PATIENCE: u32 = 40;

/// Windows for which a level that was undone is not tried again; doubled every time. Why: a trial
/// costs about half a second of speed, which eight seconds make up for.
const BARRED_FIRST: u32 = 32;

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
    trial: Trial,
    /// Since the present level counts, or the trial began.
    passed: Passed,
    barred: [Bar; LADDER.len()],
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Trial {
    #[default]
    None,
    /// Chunks of the old level are still on their way.
    Settling { from: usize, before: f64 },
    /// What passes now shows what the new level does.
    Judging { from: usize, before: f64 },
}

/// What passed in some windows.
#[derive(Debug, Clone, Copy, Default)]
struct Passed {
    bytes: u64,
    windows: u32,
}

impl Passed {
    fn add(&mut self, bytes: u64) {
        (self.bytes, self.windows) = (self.bytes.saturating_add(bytes), self.windows + 1);
    }

    fn has(&self, bytes: u64, windows: u32) -> bool {
        self.windows >= windows && (self.bytes >= bytes || self.windows >= PATIENCE)
    }

    /// Bytes in a window.
    #[allow(clippy::cast_precision_loss, reason = "a rate; 52 bits are plenty")]
    fn rate(&self) -> f64 {
        self.bytes as f64 / f64::from(self.windows.max(1))
    }
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
        let is_full = window.pressure >= FULL;
        match self.trial {
            // What filled the buffers is no rate.
            Trial::None if is_full != self.was_full => self.passed = Passed::default(),
            Trial::None => {
                self.passed.add(window.bytes);
                self.consider(window);
            }
            Trial::Settling { from, before } => {
                self.passed.add(window.bytes);
                if self.passed.has(SETTLE_BYTES, 1) {
                    self.begin(Trial::Judging { from, before });
                }
            }
            Trial::Judging { from, before } => {
                self.passed.add(window.bytes);
                if self.passed.has(MEASURE_BYTES, MEASURE_WINDOWS) {
                    self.judge(from, before);
                }
            }
        }
        self.was_full = is_full;
        LADDER.get(self.at).copied().flatten()
    }

    /// Takes a step on trial, if there is reason to and the present rate is known.
    fn consider(&mut self, window: &Window) {
        let Some(to) = self.wish(window).filter(|to| self.is_free(*to)) else { return };
        if self.passed.has(MEASURE_BYTES, 1) {
            let (from, before) = (self.at, self.passed.rate());
            self.at = to;
            self.begin(Trial::Settling { from, before });
        }
    }

    fn judge(&mut self, from: usize, before: f64) {
        let least = if self.at > from { 1.0 + MARGIN } else { 1.0 - MARGIN };
        if self.passed.rate() < before * least {
            self.bar(self.at);
            self.at = from;
        } else {
            // What it was better than need not be tried again soon.
            for step in from..self.at {
                self.bar(step);
            }
        }
        self.begin(Trial::None);
    }

    fn begin(&mut self, trial: Trial) {
        (self.trial, self.passed) = (trial, Passed::default());
    }

    fn wish(&self, window: &Window) -> Option<usize> {
        let down = self.at.checked_sub(1);
        if window.pressure >= FULL {
            if window.cpu_idle >= ROOM {
                let first = AMBITIOUS.max(self.at + 1);
                return (first..LADDER.len())
                    .chain(self.at + 1..first)
                    .find(|up| self.is_free(*up));
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
        let mut levels = Vec::new();
        for mib in [60, 30, 40, 70, 70, 70, 70, 80, 80, 80] {
            levels.push(controller.next(&window(1.0, 0.7, mib)));
        }
        // Buffers are filled; 1 is tried, settles, is judged by two windows and was good; so is 3.
        assert_eq!(levels[0], None);
        assert_eq!(levels[1..4], [Some(1); 3]);
        assert_eq!(levels[5..9], [Some(3); 4]);
    }

    #[test]
    fn a_step_up_that_gains_nothing_is_undone_and_barred_for_longer_every_time() {
        let mut controller = Controller { at: AMBITIOUS, was_full: true, ..Controller::default() };
        let mut tried = Vec::new();
        for number in 0..120 {
            if controller.next(&window(1.0, 0.4, 70)) == Some(3) {
                tried.push(number);
            }
        }
        // Three windows each time: one to settle, two that judge.
        assert_eq!(tried, [0, 1, 2, 35, 36, 37, 102, 103, 104]);
    }

    #[test]
    fn one_bad_window_does_not_undo_a_good_level() {
        let mut controller = Controller { was_full: true, ..Controller::default() };
        let mut level = None;
        for mib in [30, 50, 20, 60] {
            level = controller.next(&window(1.0, 0.7, mib));
        }
        assert_eq!(level, Some(1));
    }

    #[test]
    fn on_a_slow_link_a_level_is_judged_by_its_own_chunks() {
        let mut controller = Controller { was_full: true, ..Controller::default() };
        let mut levels = Vec::new();
        // 3 MiB in a window; 16 MiB of raw chunks are known after six of them, and what is on its
        // way, 24 MiB, has passed eight windows later.
        for mib in [3; 14].into_iter().chain([7; 3]) {
            levels.push(controller.next(&window(1.0, 0.9, mib)));
        }
        assert_eq!(levels[4..], [&[None][..], &[Some(1); 12]].concat());
        assert_eq!(controller.trial, Trial::None, "judged by 21 MiB, and kept");
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
        let mut levels = Vec::new();
        for mib in [20, 30, 30, 30, 30] {
            levels.push(controller.next(&window(0.0, 0.1, mib)));
        }
        assert_eq!(levels, [Some(1), Some(1), Some(1), Some(1), Some(-5)]);
    }

    #[test]
    fn a_starved_lane_with_idle_processors_waits_for_the_disk_and_changes_nothing() {
        let mut controller = Controller { at: AMBITIOUS, ..Controller::default() };
        for _ in 0..20 {
            assert_eq!(controller.next(&window(0.0, 0.8, 20)), Some(1));
        }
    }
}
