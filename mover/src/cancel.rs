//! One switch that ends a transfer: a signal, a dead server, a broken peer.
//!
//! The first reason wins and is what `send` and `receive` return. Threads look at the switch
//! between two pieces of work; the control loop awaits it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::error::{Code, Error, Result};

/// Shared by everything that works on one transfer.
#[derive(Debug, Clone)]
pub struct Cancel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The first reason: its code and words, causes included.
    reason: Mutex<Option<(Code, String)>>,
    /// The reason is there.
    known: Condvar,
    raised: watch::Sender<bool>,
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancel {
    /// A switch that is off.
    #[must_use]
    pub fn new() -> Self {
        let (raised, _) = watch::channel(false);
        Self {
            shared: Arc::new(Shared { reason: Mutex::new(None), known: Condvar::new(), raised }),
        }
    }

    /// Ends the transfer with `reason`, unless it has been ended before.
    pub fn cancel(&self, reason: Error) {
        self.cancel_with(&reason);
    }

    /// [`Cancel::cancel`] for a caller that returns the error as well.
    pub(crate) fn cancel_with(&self, reason: &Error) {
        let mut slot = self.lock();
        if self.is_cancelled() {
            tracing::debug!("also: {reason}");
            return;
        }
        *slot = Some((reason.code(), reason.words()));
        self.shared.known.notify_all();
        self.shared.raised.send_replace(true);
    }

    /// Whether somebody has ended the transfer.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.shared.raised.borrow()
    }

    /// Resolves when somebody ends the transfer.
    pub async fn cancelled(&self) {
        let mut raised = self.shared.raised.subscribe();
        // The sender lives in `self`, so waiting can only end by the switch.
        while !*raised.borrow_and_update() {
            if raised.changed().await.is_err() {
                return;
            }
        }
    }

    /// Fails with the reason when the transfer has been ended.
    ///
    /// # Errors
    /// The reason given to [`Cancel::cancel`].
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(self.reason()) } else { Ok(()) }
    }

    /// Why the transfer was ended.
    ///
    /// Whoever finds a channel closed asks this, perhaps before the thread at its other end, which
    /// is just failing, has said why: so it is waited for, for a moment.
    #[must_use]
    pub fn reason(&self) -> Error {
        /// A thread that fails needs microseconds from closing its channels to saying why.
        const MOMENT: Duration = Duration::from_secs(1);
        let waited = self.shared.known.wait_timeout_while(self.lock(), MOMENT, |it| it.is_none());
        let (reason, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match &*reason {
            Some((code, words)) => Error::new(*code, words.clone()),
            None => Error::new(Code::Cancelled, "the transfer was stopped"),
        }
    }

    /// Sleeps for `time` or until the transfer is ended, whichever comes first.
    ///
    /// # Errors
    /// The reason given to [`Cancel::cancel`].
    pub fn sleep(&self, time: Duration) -> Result<()> {
        const STEP: Duration = Duration::from_millis(20);
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(STEP));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Code, String)>> {
        self.shared.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_wins() {
        let cancel = Cancel::new();
        assert!(cancel.check().is_ok());
        cancel.cancel(Error::new(Code::DiskFull, "first"));
        cancel.clone().cancel(Error::new(Code::Idle, "second"));
        assert_eq!(cancel.reason().code(), Code::DiskFull);
        assert_eq!(cancel.reason().what(), "first");
        assert!(cancel.sleep(Duration::from_secs(60)).is_err());
    }

    #[test]
    fn a_reason_that_is_just_coming_is_waited_for() {
        let cancel = Cancel::new();
        let failing = cancel.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            failing.cancel(Error::new(Code::DiskFull, "late"));
        });
        assert_eq!(cancel.reason().code(), Code::DiskFull);
        thread.join().unwrap();
    }
}
