//! Ends a transfer in which nothing moves although both ends are alive.

use std::time::{Duration, Instant};

use crate::error::{Code, Error, Result};
use crate::progress::{Phase, Progress};

/// Remembers when something moved last.
#[derive(Debug)]
pub(crate) struct Watchdog {
    limit: Option<Duration>,
    last: (u64, u64, u64, u64),
    moved: Instant,
    peer: (u64, u64, Phase),
}

impl Watchdog {
    /// `limit`: longest standstill; `None`: for ever.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        let peer = (0, 0, Phase::Connect);
        Self { limit, last: (0, 0, 0, 0), moved: Instant::now(), peer }
    }

    /// What the peer's heartbeat said.
    pub(crate) fn peer(&mut self, bytes: u64, files: u64, phase: Phase) {
        if self.peer != (bytes, files, phase) {
            self.moved = Instant::now();
        }
        self.peer = (bytes, files, phase);
    }

    /// Looks whether something moved.
    ///
    /// # Errors
    /// E18 after too long a standstill.
    pub(crate) fn look(&mut self, own: &Progress) -> Result<()> {
        let now = (own.bytes_done(), own.files_done(), own.lane_bytes(), own.phase() as u64);
        // Waiting for a server's lock has its own deadline; a disk that syncs or removes files gives
        // no signs.
        let patient =
            |phase| matches!(phase, Phase::Freeze | Phase::Prepare | Phase::Sync | Phase::Commit);
        if now != self.last || patient(own.phase()) || patient(self.peer.2) {
            self.last = now;
            self.moved = Instant::now();
        }
        match self.limit {
            Some(limit) if self.moved.elapsed() >= limit => Err(Error::new(
                Code::Idle,
                format!(
                    "nothing moved for {} s (we: {}, {} bytes; peer: {}, {} bytes); look at disk and \
                     network of both ends, or raise the idle timeout",
                    limit.as_secs(),
                    own.phase().name(),
                    own.bytes_done(),
                    self.peer.2.name(),
                    self.peer.0,
                ),
            )),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standstill_ends_but_a_syncing_disk_does_not() {
        let (own, limit) = (Progress::default(), Duration::from_millis(30));
        let mut watchdog = Watchdog::new(Some(limit));
        own.enter(Phase::Copy);
        watchdog.look(&own).unwrap();
        std::thread::sleep(limit);
        assert_eq!(watchdog.look(&own).unwrap_err().code(), Code::Idle);
        watchdog.peer(0, 0, Phase::Sync);
        watchdog.look(&own).unwrap();
        std::thread::sleep(limit);
        watchdog.look(&own).unwrap();
    }
}
