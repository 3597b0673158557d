//! SIGINT, SIGTERM and SIGHUP end the transfer instead of the process, so that the peer is told.

use fastsst_mover::{Cancel, Code, Error, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Cancels the transfer at the first signal; a second one ends the process at once.
pub(crate) fn watch(cancel: &Cancel) -> Result<()> {
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]);
    let mut signals =
        signals.map_err(|error| Error::new(Code::Bug, "cannot watch signals").because(error))?;
    let cancel = cancel.clone();
    std::thread::Builder::new()
        .name("fastsst-signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                if cancel.is_cancelled() {
                    // The default action: there is no patience left to wait for.
                    if signal_hook::low_level::emulate_default_handler(signal).is_err() {
                        return;
                    }
                }
                let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
                cancel.cancel(Error::new(Code::Cancelled, format!("stopped by {name}")));
            }
        })
        .map_err(|error| Error::new(Code::Bug, "cannot start a thread").because(error))?;
    Ok(())
}
