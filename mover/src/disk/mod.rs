//! Reading and writing files at the speed of the disk.
//!
//! ```text
//!  submit(IoJob) ─▶ bounded queue ─▶ ring thread, or 8 threads ─▶ completions: IoDone
//! ```
//!
//! The ladder, probed once and reported: io_uring; where the kernel refuses it (containers do),
//! threads with `pread` and `pwrite`. Either way files are opened with `O_DIRECT` where their file
//! system can, because cold buffered reads cost a whole core and evict the server's page cache.

pub mod file;
mod job;
mod threads;
mod uring;

use std::fmt;
use std::io;
use std::thread::JoinHandle;

use crate::error::{Code, Error, Result};
use crate::pool::Pool;

pub use file::{Extents, FileMode, OpenFile};
pub use job::{IoDone, IoJob, read_now, write_now};

/// Which way to read and write files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoPreference {
    /// The fastest that works.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// Threads, past the page cache.
    Direct,
    /// Threads, through the page cache.
    Buffered,
}

impl IoPreference {
    /// Reads `auto`, `uring`, `direct` or `buffered`.
    ///
    /// # Errors
    /// E01 naming the value and what is accepted.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "direct" => Ok(Self::Direct),
            "buffered" => Ok(Self::Buffered),
            _ => Err(Error::new(
                Code::Usage,
                format!("io={text} is unknown; use auto, uring, direct or buffered"),
            )),
        }
    }

    /// How files are to be opened.
    #[must_use]
    pub fn file_mode(self) -> FileMode {
        match self {
            Self::Auto | Self::Uring | Self::Direct => FileMode::Direct,
            Self::Buffered => FileMode::Buffered,
        }
    }
}

/// What an engine came out as, for the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoKind {
    /// One thread with one ring.
    Uring,
    /// The same, and the kernel knows the buffers beforehand.
    UringRegistered,
    /// So many threads, past the page cache.
    Direct(usize),
    /// Threads, through the page cache.
    Buffered,
}

impl IoKind {
    /// How files are to be opened.
    #[must_use]
    pub fn file_mode(self) -> FileMode {
        match self {
            Self::Uring | Self::UringRegistered | Self::Direct(_) => FileMode::Direct,
            Self::Buffered => FileMode::Buffered,
        }
    }
}

impl fmt::Display for IoKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "io_uring+O_DIRECT",
            Self::UringRegistered => "io_uring+O_DIRECT, registered",
            Self::Direct(_) => "O_DIRECT threads",
            Self::Buffered => "buffered",
        })
    }
}

/// Reads and writes in the background.
///
/// Every job that was submitted comes back once through the channel of completions, in any
/// order. Give that channel room for as many completions as the pool has buffers: then the engine
/// never waits for its owner, and one thread may both submit and collect.
///
/// When the receiver of completions is gone the engine finishes what is in flight and refuses
/// more. Dropping the engine waits for everything submitted before.
#[derive(Debug)]
pub struct IoEngine<T> {
    /// Present until the engine is dropped.
    jobs: Option<flume::Sender<IoJob<T>>>,
    workers: Vec<JoinHandle<()>>,
    kind: IoKind,
}

impl<T: Send + 'static> IoEngine<T> {
    /// Starts an engine whose queue holds `depth` jobs (at least 1) that nobody has taken up yet.
    ///
    /// The ring is told of the memory of `pools`, so that the kernel need not look up and pin it
    /// for every request. Where that is refused, for instance because the process may not lock so
    /// much memory, and for buffers of other pools, it works without.
    ///
    /// # Errors
    /// E29 when `preference` is io_uring alone and the kernel refuses it; E99 when no thread can
    /// be started.
    pub fn start(
        preference: IoPreference,
        depth: usize,
        completions: flume::Sender<IoDone<T>>,
        pools: &[Pool],
    ) -> Result<Self> {
        let pools = pools.to_vec();
        Self::start_with(preference, depth, completions, || uring::Ring::new(pools))
    }

    /// [`IoEngine::start`] with the call that sets up the ring, so that a test can refuse it.
    fn start_with(
        preference: IoPreference,
        depth: usize,
        completions: flume::Sender<IoDone<T>>,
        make_ring: impl FnOnce() -> io::Result<uring::Ring<T>> + Send + 'static,
    ) -> Result<Self> {
        let (jobs, queue) = flume::bounded(depth.max(1));
        let ends = Ends { queue, completions };
        let (workers, kind) = match preference {
            IoPreference::Auto | IoPreference::Uring => {
                match uring::start(ends.clone(), make_ring)? {
                    Ok((worker, kind)) => (vec![worker], kind),
                    Err(refused) if preference == IoPreference::Uring => {
                        let what = "the kernel refuses io_uring; use io=auto or io=direct";
                        return Err(Error::new(Code::Unsupported, what).because(refused));
                    }
                    Err(refused) => {
                        tracing::info!("io_uring is not available ({refused}); using threads");
                        (threads::start(ends)?, IoKind::Direct(threads::COUNT))
                    }
                }
            }
            IoPreference::Direct => (threads::start(ends)?, IoKind::Direct(threads::COUNT)),
            IoPreference::Buffered => (threads::start(ends)?, IoKind::Buffered),
        };
        tracing::debug!("disk engine: {kind}");
        Ok(Self { jobs: Some(jobs), workers, kind })
    }

    /// Queues a job; waits while the queue is full.
    ///
    /// # Errors
    /// E28: the engine has stopped, because nobody listens for completions any more.
    pub fn submit(&self, job: IoJob<T>) -> Result<()> {
        match &self.jobs {
            Some(jobs) => jobs.send(job).map_err(|_stopped| stopped()),
            None => Err(stopped()),
        }
    }

    /// [`IoEngine::submit`] for tasks.
    ///
    /// # Errors
    /// As [`IoEngine::submit`].
    pub async fn submit_async(&self, job: IoJob<T>) -> Result<()> {
        match &self.jobs {
            Some(jobs) => jobs.send_async(job).await.map_err(|_stopped| stopped()),
            None => Err(stopped()),
        }
    }

    /// Jobs that nobody has taken up yet: many of them mean that the disk is what others wait for.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.jobs.as_ref().map_or(0, flume::Sender::len)
    }

    /// What the engine came out as.
    #[must_use]
    pub fn kind(&self) -> IoKind {
        self.kind
    }
}

impl<T> Drop for IoEngine<T> {
    fn drop(&mut self) {
        self.jobs.take();
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("a disk thread panicked");
            }
        }
    }
}

/// What a worker takes from and delivers to.
struct Ends<T> {
    queue: flume::Receiver<IoJob<T>>,
    completions: flume::Sender<IoDone<T>>,
}

impl<T> Clone for Ends<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), completions: self.completions.clone() }
    }
}

fn stopped() -> Error {
    Error::new(Code::Cancelled, "the disk engine has stopped")
}

#[cfg(test)]
mod tests;
