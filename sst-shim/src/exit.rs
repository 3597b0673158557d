//! How this process ends: one error as the last line, no markers left, an errno as status.
//!
//! Whoever finds a reason to stop calls [`Ending::stop`]. The engine then has a moment to tell
//! its peer and to return; if it does not, the process ends without it. A server that is being
//! stopped waits for this process, so the moment is short.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastsst_mover::{Cancel, Code, Error, Result};

use crate::markers::Markers;

/// What the engine gets to end by itself. Why: the promise is to be gone within a second.
const GRACE: Duration = Duration::from_millis(800);

/// Shared by everything that can end the process.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    cancel: Cancel,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    markers: Option<Arc<Markers>>,
    /// The work is done and about to be reported: reasons to stop come too late.
    too_late: bool,
}

impl Ending {
    pub(crate) fn new(cancel: Cancel) -> Self {
        Self { cancel, shared: Arc::default() }
    }

    /// The switch the engine looks at.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Hands over markers that must not survive this process.
    pub(crate) fn own(&self, markers: Markers) -> Arc<Markers> {
        let markers = Arc::new(markers);
        self.lock().markers = Some(Arc::clone(&markers));
        markers
    }

    /// From here on the transfer has succeeded; returns an error if somebody was faster.
    ///
    /// # Errors
    /// The reason to stop.
    pub(crate) fn succeed(&self) -> Result<()> {
        let mut shared = self.lock();
        self.cancel.check()?;
        shared.too_late = true;
        Ok(())
    }

    /// Ends the transfer, and the process soon after.
    pub(crate) fn stop(&self, reason: Error) {
        {
            let shared = self.lock();
            if shared.too_late {
                tracing::debug!("too late: {reason}");
                return;
            }
            self.cancel.cancel(reason);
        }
        let ending = self.clone();
        std::thread::spawn(move || {
            std::thread::sleep(GRACE);
            let reason = ending.cancel.reason();
            ending.leave(Err(reason));
        });
    }

    /// Reports the outcome, removes the markers, ends the process. Only the first caller does.
    pub(crate) fn leave(&self, outcome: Result<()>) -> ! {
        // Never unlocked: whoever comes second waits here until the process is gone.
        let shared = self.lock();
        if let Some(markers) = &shared.markers {
            markers.unlink();
        }
        let status = status(&outcome);
        if let Err(error) = outcome {
            tracing::error!("{error} (exit code {status}, see OPERATIONS.md)");
        }
        exit(status)
    }

    /// A bug is reported without the values that may be in its message, and ends the process.
    pub(crate) fn leave_on_panic(&self) {
        let ending = self.clone();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map_or("?".to_owned(), ToString::to_string);
            // A thread that panics while it holds the lock must not wait for itself.
            if let Ok(shared) = ending.shared.try_lock()
                && let Some(markers) = &shared.markers
            {
                markers.remove();
            }
            let error = Error::bug(format!("panic at {place}"));
            tracing::error!("{error}");
            exit(error.code().exit_code());
        }));
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The errno the server prints. Never 255.
fn status(outcome: &Result<()>) -> u8 {
    outcome.as_ref().err().map_or(0, |error| error.code().exit_code())
}

/// Why a signal ended the transfer; the stock scripts tell two kinds apart by their status.
pub(crate) fn signal_reason(signal: i32) -> Error {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    let (code, name) = match signal {
        SIGHUP => (Code::ServerGone, "SIGHUP"),
        SIGINT => (Code::Cancelled, "SIGINT"),
        SIGQUIT => (Code::Cancelled, "SIGQUIT"),
        SIGTERM => (Code::Cancelled, "SIGTERM"),
        _ => (Code::Cancelled, "a signal"),
    };
    Error::new(code, format!("stopped by {name}; the next start of the node begins again"))
}

#[allow(clippy::exit, reason = "the one place that ends the process, after everything is undone")]
fn exit(status: u8) -> ! {
    std::process::exit(status.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_maps_to_an_errno() {
        assert_eq!(status(&Ok(())), 0);
        for code in Code::ALL {
            let status = status(&Err(Error::new(code, "x")));
            assert!((1..=133).contains(&status), "{code}");
        }
    }

    #[test]
    fn every_code_has_a_paragraph_for_operators() {
        let text = include_str!("../../docs/OPERATIONS.md");
        for code in Code::ALL {
            let mut headings = text.lines().filter(|l| l.starts_with(&format!("### {code} ")));
            let heading = headings.next().unwrap_or_else(|| panic!("no paragraph for {code}"));
            assert!(heading.ends_with(&format!("(exit code {})", code.exit_code())), "{heading}");
        }
    }

    #[test]
    fn signals_have_the_status_of_the_stock_scripts() {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
        for (signal, expected) in [(SIGTERM, 3), (SIGINT, 3), (SIGQUIT, 3), (SIGHUP, 32)] {
            assert_eq!(signal_reason(signal).code().exit_code(), expected);
        }
    }

    #[test]
    fn success_and_a_reason_to_stop_exclude_each_other() {
        let ending = Ending::new(Cancel::new());
        assert!(ending.succeed().is_ok());
        ending.stop(Error::new(Code::ServerGone, "late"));
        assert!(!ending.cancel().is_cancelled());

        let cancel = Cancel::new();
        cancel.cancel(Error::new(Code::ServerGone, "early"));
        assert_eq!(Ending::new(cancel).succeed().unwrap_err().code(), Code::ServerGone);
    }
}
