//! Transfers that end in the middle.

use std::path::Path;
use std::time::Duration;

use super::{Ended, Receive, Running, START, Send, written_bytes};
use crate::wait::until;

/// The other end notices: the protocol's silence limit is 8 s.
const NOTICE: Duration = Duration::from_secs(20);

/// How fast a source is sent that is cut in the middle, so that the middle can be met. Unit: MiB/s.
const SLOW_MIB_PER_SECOND: u32 = 24;

/// The end that is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The one that writes.
    Receiver,
    /// The one that reads.
    Sender,
}

/// What is left of a transfer that was cut.
#[derive(Debug)]
pub struct Interrupted {
    /// Bytes of data in the new tree. Why it counts: none of them needs to be sent again.
    pub written: u64,
    /// How the end ended that was not killed.
    pub other: Ended,
}

/// Sends a directory into another one, whatever that holds, and kills one end with SIGKILL as soon
/// as so many bytes of the new tree are on disk.
#[must_use]
pub fn interrupt(source: &Path, target: &Path, victim: Victim, bytes: u64) -> Interrupted {
    interrupt_when(source, target, victim, || written(target) >= bytes)
}

/// As [`interrupt`], as soon as something is true, which must be so before the transfer ends.
#[must_use]
pub fn interrupt_when(
    source: &Path,
    target: &Path,
    victim: Victim,
    is_time: impl Fn() -> bool,
) -> Interrupted {
    let mut receiving = Receive::into(target).args(["--replace"]).start();
    let mut sending = Send::from(source, &receiving.ticket).slowly(SLOW_MIB_PER_SECOND).start();
    until("the moment of the cut", START, || is_time().then_some(()));
    match victim {
        Victim::Receiver => {
            receiving.running.kill9();
            Interrupted { written: written(target), other: peer_gone(sending) }
        }
        Victim::Sender => {
            sending.kill9();
            let other = peer_gone(receiving.running);
            Interrupted { written: written(target), other }
        }
    }
}

/// Waits until so many bytes of the new tree are on disk.
pub fn wait_written(target: &Path, bytes: u64) {
    until("a part of the new tree is written", START, || (written(target) >= bytes).then_some(()));
}

/// Bytes of data in the new tree of a transfer that is not finished.
#[must_use]
pub fn written(target: &Path) -> u64 {
    written_bytes(&target.join(".fastsst/new"))
}

fn peer_gone(running: Running) -> Ended {
    let ended = running.wait(NOTICE);
    ended.assert_failed("E17", 32);
    ended
}
