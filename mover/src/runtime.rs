//! Threads and event loops that cannot fail in silence.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};

/// Starts a named thread; its error, or its panic, ends the transfer.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn spawn(
    name: &str,
    cancel: &Cancel,
    work: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<JoinHandle<()>> {
    let (cancel, thread) = (cancel.clone(), name.to_owned());
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => cancel.cancel(error),
            Err(_) => cancel.cancel(Error::bug(format!("thread {thread} panicked"))),
        })
        .map_err(|error| {
            Error::new(Code::Access, format!("cannot start thread {name}")).because(error)
        })
}

/// Runs a future on an event loop of the current thread alone.
///
/// # Errors
/// The future's, or that there can be no event loop.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| Error::new(Code::Access, "cannot start an event loop").because(error))?
        .block_on(work)
}
