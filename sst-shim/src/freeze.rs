//! Stopping and resuming the donor's server, by two lines on standard output and two files.
//!
//! ```text
//! flush tables ──> (server flushes and locks) ──> tables_flushed appears: frozen ──> continue
//!                                            └──> sst_error appears: it could not
//! ```
//!
//! The server offers no other signal than the files, so they are polled. It writes
//! `tables_flushed` twice, perhaps after we took the first, so the file is removed before and
//! after.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fastsst_mover::{Cancel, Code, Error, Freeze, Frozen, Result};

use crate::args::Server;
use crate::position::Position;
use crate::quiet::wait_until_quiet;
use crate::wsrep::Wsrep;

/// How often the files are looked for. Why: writes are stopped meanwhile; a stat costs nothing.
const POLL: Duration = Duration::from_millis(20);

/// Largest `tables_flushed` that is read. Why: the server writes less than 200 bytes.
const ANSWER_BYTES_MAX: u64 = 4096;

/// When the server was asked to stop, for the deadline and the progress lines.
#[derive(Debug, Clone)]
pub(crate) struct LockClock {
    since: Arc<Mutex<Option<Instant>>>,
    limit: Duration,
}

impl LockClock {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { since: Arc::default(), limit }
    }

    /// How long the server has been asked to stop or has stood still; `None` when it runs.
    pub(crate) fn elapsed(&self) -> Option<Duration> {
        self.with(|since| since.map(|since| since.elapsed()))
    }

    /// Fails once waiting and standing still together exceed the limit.
    ///
    /// # Errors
    /// E26.
    pub(crate) fn check(&self) -> Result<()> {
        match self.elapsed() {
            Some(elapsed) if elapsed >= self.limit => Err(Error::new(
                Code::FreezeTimeout,
                format!(
                    "the server has been waiting for its lock or locked for {} s, the limit \
                     ([sst] sst-lock-timeout); end long queries on the donor or raise the limit",
                    self.limit.as_secs()
                ),
            )),
            _ => Ok(()),
        }
    }

    fn start(&self) {
        self.with(|since| *since = Some(Instant::now()));
    }

    /// Ends the measurement and returns it.
    fn stop(&self) -> Duration {
        self.with(|since| since.take().map_or(Duration::ZERO, |since| since.elapsed()))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Option<Instant>) -> T) -> T {
        work(&mut self.since.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The files by which the server answers, in the data directory.
#[derive(Debug, Clone)]
struct Answer {
    flushed: PathBuf,
    failed: PathBuf,
}

/// The donor's server.
#[derive(Debug)]
pub(crate) struct ServerFreeze {
    wsrep: Arc<Wsrep>,
    answer: Answer,
    clock: LockClock,
    server: Server,
    datadir: PathBuf,
}

impl ServerFreeze {
    pub(crate) fn new(datadir: &Path, wsrep: Arc<Wsrep>, clock: LockClock, server: Server) -> Self {
        let answer =
            Answer { flushed: datadir.join("tables_flushed"), failed: datadir.join("sst_error") };
        Self { wsrep, answer, clock, server, datadir: datadir.to_owned() }
    }

    /// Waits for writes that go on after the answer.
    fn settle(&self, cancel: &Cancel) -> Result<()> {
        match self.server {
            Server::MariaDb => Ok(()),
            Server::MysqlWsrep | Server::Pxc => {
                wait_until_quiet(&self.datadir, cancel, || self.clock.check())
            }
        }
    }

    fn wait(&self, cancel: &Cancel) -> Result<Position> {
        loop {
            cancel.check()?;
            if let Some(position) = self.answer.read()? {
                return Ok(position);
            }
            self.clock.check()?;
            cancel.sleep(POLL)?;
        }
    }
}

impl Freeze for ServerFreeze {
    fn freeze(&mut self, cancel: &Cancel) -> Result<Frozen> {
        self.answer.remove()?;
        tracing::info!("asking the server to flush and lock its tables");
        self.clock.start();
        let frozen = self.wsrep.flush_tables().and_then(|()| {
            let position = self.wait(cancel)?;
            self.settle(cancel)?;
            Ok(position)
        });
        // On an error the clock runs on: the server may still come to hold its lock, and unlocks
        // only when this process ends.
        let position = frozen?;
        let waited = self.clock.elapsed().unwrap_or_default();
        tracing::info!("writes are stopped at {position} after {:.2} s", waited.as_secs_f64());
        Ok(Frozen { position: position.as_str().as_bytes().to_vec() })
    }

    fn thaw(&mut self) -> Result<()> {
        self.wsrep.resume()?;
        let locked = self.clock.stop();
        tracing::info!("writes may go on; they were stopped for {:.2} s", locked.as_secs_f64());
        Ok(())
    }
}

impl Drop for ServerFreeze {
    fn drop(&mut self) {
        // The server's second file; what cannot be removed now is removed before the next flush.
        if let Err(error) = self.answer.remove() {
            tracing::warn!("{error}");
        }
    }
}

impl Answer {
    fn remove(&self) -> Result<()> {
        for path in [&self.flushed, &self.failed] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::new(
                        Code::FreezeFailed,
                        format!(
                            "cannot remove {}; an old answer of the server could be taken for a \
                             new one, remove the file",
                            path.display()
                        ),
                    )
                    .because(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The position once the server stands still; `None` until then.
    fn read(&self) -> Result<Option<Position>> {
        if self.failed.symlink_metadata().is_ok() {
            return Err(Error::new(
                Code::FreezeFailed,
                "the server could not flush and lock its tables (it made the file sst_error); see \
                 its log for the reason",
            ));
        }
        let text = match read_small(&self.flushed) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::read(self.flushed.display(), error)),
        };
        // Until both are there the file is not complete.
        if !text.contains(&b':') || !text.ends_with(b"\n") {
            return Ok(None);
        }
        Position::parse(&text).map(Some).map_err(|why| {
            Error::new(Code::FreezeFailed, format!("the server's tables_flushed is wrong: {why}"))
        })
    }
}

fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut text = Vec::new();
    fs::File::open(path)?.take(ANSWER_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSITION: &str = "61e1e4b5-9b5c-11ef-8a1c-0242ac110002:17 3";

    fn answer() -> (tempfile::TempDir, Answer) {
        let directory = tempfile::tempdir().unwrap();
        let answer = Answer {
            flushed: directory.path().join("tables_flushed"),
            failed: directory.path().join("sst_error"),
        };
        (directory, answer)
    }

    #[test]
    fn only_a_complete_answer_counts() {
        let (_directory, answer) = answer();
        assert_eq!(answer.read().unwrap(), None);
        for partial in ["", "61e1e4b5", "no colon\n", POSITION] {
            fs::write(&answer.flushed, partial).unwrap();
            assert_eq!(answer.read().unwrap(), None, "{partial:?}");
        }
        fs::write(&answer.flushed, format!("{POSITION}\n\n")).unwrap();
        assert_eq!(answer.read().unwrap().unwrap().as_str(), POSITION);
    }

    #[test]
    fn an_error_of_the_server_is_ours() {
        let (_directory, answer) = answer();
        fs::write(&answer.flushed, "what:ever\n").unwrap();
        assert_eq!(answer.read().unwrap_err().code(), Code::FreezeFailed);
        fs::write(&answer.failed, "").unwrap();
        assert_eq!(answer.read().unwrap_err().code(), Code::FreezeFailed);
        answer.remove().unwrap();
        answer.remove().unwrap();
        assert_eq!(answer.read().unwrap(), None);
    }

    #[test]
    fn the_deadline_covers_waiting_and_standing_still() {
        let clock = LockClock::new(Duration::ZERO);
        assert!(clock.check().is_ok() && clock.elapsed().is_none());
        clock.start();
        assert_eq!(clock.check().unwrap_err().code(), Code::FreezeTimeout);
        clock.stop();
        assert!(clock.check().is_ok());
    }
}
