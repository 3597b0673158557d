//! A line every ten seconds that says how far the transfer is.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastsst_mover::progress::Phase;
use fastsst_mover::summary::mib;
use fastsst_mover::{Error, Progress, Result};

use crate::args::Role;
use crate::exit::Ending;
use crate::freeze::LockClock;
use crate::options::ProgressTo;
use crate::wsrep::Wsrep;

const INTERVAL: Duration = Duration::from_secs(10);

/// What the lines are about.
#[derive(Debug)]
pub(crate) struct ProgressLog {
    pub(crate) role: Role,
    pub(crate) to: ProgressTo,
    pub(crate) progress: Arc<Progress>,
    pub(crate) wsrep: Arc<Wsrep>,
    pub(crate) clock: LockClock,
}

/// One look at the counters.
#[derive(Debug, Clone, Copy)]
struct Sample {
    phase: Phase,
    done: u64,
    total: u64,
    /// Bytes since the last sample, per second.
    rate: u64,
    locked: Option<Duration>,
}

impl ProgressLog {
    /// Starts the lines; they end with the process.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn start(self, ending: &Ending) -> Result<()> {
        let ending = ending.clone();
        std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || {
                if let Err(error) = self.report(&ending) {
                    ending.stop(error);
                }
            })
            .map(drop)
            .map_err(|error| Error::bug("no thread for progress").because(error))
    }

    fn report(&self, ending: &Ending) -> Result<()> {
        let mut last = (Instant::now(), 0);
        while !ending.cancel().is_cancelled() {
            std::thread::sleep(INTERVAL);
            let now = Instant::now();
            let done = self.progress.bytes_done();
            let sample = Sample {
                phase: self.progress.phase(),
                done,
                total: self.progress.bytes_total(),
                rate: per_second(done.saturating_sub(last.1), now - last.0),
                locked: self.clock.elapsed(),
            };
            last = (now, done);
            if sample.phase == Phase::Done {
                return Ok(());
            }
            self.say(&sample.line());
            self.wsrep.progress(sample.done, sample.total)?;
        }
        Ok(())
    }
}

impl ProgressLog {
    /// Writes a line where `[sst] progress` wants it; a file that cannot be written is no reason to
    /// stop a transfer.
    fn say(&self, line: &str) {
        let role = self.role.name();
        let path = match &self.to {
            ProgressTo::Log => return tracing::info!("{role} {line}"),
            ProgressTo::Nowhere => return,
            ProgressTo::File(path) => path,
        };
        let now = jiff::Zoned::now().strftime("%Y%m%d %H:%M:%S");
        let file = OpenOptions::new().append(true).create(true).open(path);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{now} {role} {line}")) {
            tracing::warn!("my.cnf [sst] progress={}: {error}", path.display());
        }
    }
}

impl Sample {
    fn line(&self) -> String {
        let Self { phase, done, total, rate, locked } = self;
        let mut line = phase.name().to_owned();
        if let Some(percent) = done.saturating_mul(1000).checked_div(*total) {
            let percent = percent.min(1000);
            line.push_str(&format!(
                ": {}.{}%, {:.0} of {:.0} MiB, {:.0} MiB/s",
                percent / 10,
                percent % 10,
                mib(*done),
                mib(*total),
                mib(*rate),
            ));
            if let Some(seconds) = total.saturating_sub(*done).checked_div(*rate) {
                line.push_str(&format!(", ETA {}", clock_time(seconds)));
            }
        }
        if let Some(locked) = locked {
            let is_waiting = *phase == Phase::Freeze;
            let what = if is_waiting { "waiting for the server's lock" } else { "writes stopped" };
            line.push_str(&format!(", {what} for {} s", locked.as_secs()));
        }
        line
    }
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1000) / milliseconds
}

/// `HH:MM:SS`.
fn clock_time(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sample {
        Sample { phase: Phase::Copy, done: 0, total: 0, rate: 0, locked: None }
    }

    #[test]
    fn a_line_says_only_what_is_known() {
        assert_eq!(sample().line(), "copy");
        let line = Sample { total: 100 << 20, ..sample() }.line();
        assert_eq!(line, "copy: 0.0%, 0 of 100 MiB, 0 MiB/s");
        let line = Sample {
            done: 25 << 20,
            total: 100 << 20,
            rate: 1 << 20,
            locked: Some(Duration::from_millis(3500)),
            ..sample()
        }
        .line();
        let expected = "copy: 25.0%, 25 of 100 MiB, 1 MiB/s, ETA 00:01:15, writes stopped for 3 s";
        assert_eq!(line, expected);
    }

    #[test]
    fn rates_survive_odd_times() {
        assert_eq!(per_second(10 << 20, Duration::from_secs(10)), 1 << 20);
        assert_eq!(per_second(1, Duration::ZERO), 1000);
    }
}
