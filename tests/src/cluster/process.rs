//! Processes, identified so that a reused number is never taken for the old process.

use std::fs;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::wait::until;

/// A process: its number and when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessId {
    /// Process number.
    pub pid: u32,
    /// Start time. Unit: clock ticks since boot.
    start: u64,
}

/// A process as `/proc` shows it.
#[derive(Debug, Clone)]
pub(super) struct Process {
    /// Who it is.
    pub(super) id: ProcessId,
    /// Its process group.
    pub(super) group: u32,
    /// The number of its parent.
    pub(super) parent: u32,
    /// Ended, but not yet collected by its parent.
    pub(super) zombie: bool,
    /// Its command line.
    pub(super) arguments: Vec<String>,
}

/// Every process that can be seen now.
#[must_use]
pub(super) fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(look)
        .collect()
}

/// The process with this number, if there is one now.
#[must_use]
pub(super) fn look(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain spaces and parentheses; the fields start after the last one.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments = command_line
        .split(|byte| *byte == 0)
        .filter(|argument| !argument.is_empty())
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect();
    Some(Process {
        id: ProcessId { pid, start: fields.get(19)?.parse().ok()? },
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        zombie: *fields.first()? == "Z",
        arguments,
    })
}

/// The living members of a process group.
#[must_use]
pub(crate) fn members(group: u32) -> Vec<ProcessId> {
    all().into_iter().filter(|it| it.group == group && !it.zombie).map(|it| it.id).collect()
}

impl ProcessId {
    /// Whether this very process still runs.
    #[must_use]
    pub fn alive(self) -> bool {
        look(self.pid).is_some_and(|found| found.id == self && !found.zombie)
    }

    /// Sends a signal to this very process; one that is gone is fine.
    pub fn signal(self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid).expect("a pid")).expect("not zero");
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(Errno::SRCH) => return,
            Err(error) => panic!("pidfd_open({}): {error}", self.pid),
        };
        // The handle keeps the process from being replaced between this look and the signal.
        if !self.alive() {
            return;
        }
        match pidfd_send_signal(&handle, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => panic!("signal to {}: {error}", self.pid),
        }
    }

    /// Kills this very process with SIGKILL.
    pub fn kill9(self) {
        self.signal(Signal::KILL);
    }

    /// Waits until the process has ended.
    pub fn wait_gone(self, what: &str, limit: Duration) {
        until(&format!("{what} (pid {}) ends", self.pid), limit, || (!self.alive()).then_some(()));
    }
}
