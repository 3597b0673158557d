//! The engine where io_uring is not to be had: threads with blocking calls.

use std::thread::JoinHandle;

use crate::disk::Ends;
use crate::disk::job::{Work, run};
use crate::error::{Error, Result};

/// How many threads. Why: eight requests of 1 MiB saturate one NVMe disk.
pub(super) const COUNT: usize = 8;

/// Starts the threads. They end when the queue's sender or the completions' receiver is gone.
pub(super) fn start<T: Send + 'static>(ends: Ends<T>) -> Result<Vec<JoinHandle<()>>> {
    (0..COUNT)
        .map(|number| {
            let ends = ends.clone();
            std::thread::Builder::new()
                .name(format!("disk-{number}"))
                .spawn(move || serve(&ends))
                .map_err(|error| Error::bug("cannot start a disk thread").because(error))
        })
        .collect()
}

fn serve<T>(ends: &Ends<T>) {
    while let Ok(job) = ends.queue.recv() {
        if ends.completions.send(run(Work::new(job))).is_err() {
            return;
        }
    }
}
