//! Noticing that this process is not wanted any more.
//!
//! The server has no way to cancel a script; it dies or closes its end of the pipe. So: standard
//! output is polled for a closed reader, the joiner's server for its death, signals are taken,
//! and the donor's locked phase is held to its deadline.

use std::io;
use std::os::fd::OwnedFd;

use fastsst_mover::{Code, Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::{Ending, signal_reason};
use crate::freeze::LockClock;

/// How often what cannot be polled is looked at. Why: a fraction of the second in which this
/// process promises to end.
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The server's process, if it told us.
#[derive(Debug)]
enum Parent {
    /// Donors are not told, and the pipe says enough.
    Unknown,
    /// Its end can be polled, and its number cannot be used again for another process.
    Handle(OwnedFd),
    /// Old kernels, and process 1 of some containers.
    Number(Pid),
}

impl Parent {
    fn find(pid: Option<i32>) -> Result<Self> {
        let Some(pid) = pid.and_then(Pid::from_raw) else { return Ok(Self::Unknown) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Ok(Self::Handle(handle)),
            Err(rustix::io::Errno::SRCH) => Err(parent_gone()),
            Err(_) => Ok(Self::Number(pid)),
        }
    }

    fn is_gone(&self) -> bool {
        match self {
            Self::Unknown | Self::Handle(_) => false,
            Self::Number(pid) => test_kill_process(*pid) == Err(rustix::io::Errno::SRCH),
        }
    }
}

/// Starts watching; whatever happens is given to `ending`.
///
/// # Errors
/// E27 when the server is gone already.
pub(crate) fn watch(ending: &Ending, parent: Option<i32>, clock: LockClock) -> Result<()> {
    let parent = Parent::find(parent)?;
    let ending = ending.clone();
    std::thread::Builder::new()
        .name("liveness".to_owned())
        .spawn(move || {
            let reason = wait_for_the_end(&parent, &clock);
            ending.stop(reason);
        })
        .map(drop)
        .map_err(no_thread)
}

/// Takes TERM, INT, QUIT and HUP. SIGPIPE stays ignored: a closed pipe is an error of a write.
///
/// # Errors
/// E99 when the handlers cannot be installed.
pub(crate) fn take_signals(ending: &Ending) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP])
        .map_err(|error| Error::bug("signal handlers").because(error))?;
    let ending = ending.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                ending.stop(signal_reason(signal));
            }
        })
        .map(drop)
        .map_err(no_thread)
}

fn wait_for_the_end(parent: &Parent, clock: &LockClock) -> Error {
    let stdout = io::stdout();
    loop {
        // Errors and hang-ups are reported without being asked for.
        let mut watched = vec![PollFd::new(&stdout, PollFlags::empty())];
        if let Parent::Handle(handle) = parent {
            watched.push(PollFd::new(handle, PollFlags::IN));
        }
        if poll(&mut watched, Some(&INTERVAL)).is_ok_and(|ready| ready > 0) {
            if watched.first().is_some_and(|stdout| !stdout.revents().is_empty()) {
                return Error::new(
                    Code::ServerGone,
                    "the server closed its end of the pipe; see its own log for why it stopped",
                );
            }
            return parent_gone();
        }
        if parent.is_gone() {
            return parent_gone();
        }
        if let Err(error) = clock.check() {
            return error;
        }
    }
}

fn parent_gone() -> Error {
    Error::new(Code::ServerGone, "the server's process is gone; see its own log for the reason")
}

fn no_thread(error: io::Error) -> Error {
    Error::new(Code::Limit, "cannot start a thread; raise the limit of processes of the server")
        .because(error)
}
