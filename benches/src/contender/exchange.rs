//! What almost every run does: a receiver gets ready, the clock starts with the sender, and stops
//! when both are done and the copy is durable.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{Job, Measurement};
use crate::clock::Clock;
use crate::network::counter::Counter;
use crate::network::listens;
use crate::side::{Side, watch};

/// The two commands of one run, and how they end.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    /// Started first.
    pub(super) receiver: Command,
    /// Started when the receiver is ready.
    pub(super) sender: Command,
    /// When it is.
    pub(super) ready: Ready<'a>,
    /// When it is done.
    pub(super) ending: Ending,
    /// How the copy gets durable.
    pub(super) durability: Durability,
}

/// How a receiver shows that it is ready.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ready<'a> {
    /// It, or a child, listens on this port.
    Port(u16),
    /// It has made this file.
    File(&'a Path),
}

/// How a receiver ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// By itself, and well.
    ByItself,
    /// A daemon: it is done when its children are, and is stopped.
    Stopped,
}

/// How a copy survives a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// The programs see to it.
    Own,
    /// `syncfs` of the target's file system, inside the measured time.
    SyncFs,
}

impl Durability {
    /// In words, for those who cannot do it themselves, or only file by file.
    pub(super) const SYNCFS: &str = "syncfs of the target's file system at the end";
}

impl Exchange<'_> {
    /// One with a daemon at `port` that is stopped in the end, and that syncs nothing itself.
    pub(super) fn with_daemon(port: u16, receiver: Command, sender: Command) -> Self {
        let (ready, ending) = (Ready::Port(port), Ending::Stopped);
        Self { receiver, sender, ready, ending, durability: Durability::SyncFs }
    }

    /// Copies once.
    ///
    /// # Errors
    /// A side failed, or a signal has come.
    pub(super) fn run(mut self, job: &Job<'_>) -> Result<Measurement> {
        let mut receiver = self.receiver(job)?;
        let counter = job.receiver().counter(receiver.id())?;
        let before = counted(counter.as_ref())?;

        let clock = Clock::start();
        let mut sender = Side::start("sender", &mut self.sender, job.scratch)?;
        watch([&mut sender, &mut receiver], job.cancel, |[sender, receiver]| {
            self.is_over(sender, receiver)
        })?;
        if self.durability == Durability::SyncFs {
            job.sync_target()?;
        }
        let lap = clock.stop();
        let link_bytes = before.zip(counted(counter.as_ref())?).map(|(before, now)| now - before);

        let sent = sender.succeeded()?;
        let received = match self.ending {
            Ending::ByItself => receiver.succeeded()?,
            Ending::Stopped => receiver.stop()?,
        };
        Ok(Measurement {
            wall_seconds: lap.wall_seconds,
            machine_cpu_seconds: lap.machine_cpu_seconds,
            sender: sent,
            receiver: received,
            wire_bytes: None,
            link_bytes,
            commands: vec![job.tell(&self.receiver), job.tell(&self.sender)],
            notes: String::new(),
            details: serde_json::Value::Null,
        })
    }

    /// Begins to copy and kills the receiver, with all its children, when so many bytes have gone
    /// over the cable. Says how many it were.
    ///
    /// # Errors
    /// There is no cable, a side failed or was done before, or a signal has come.
    pub(super) fn interrupt(mut self, job: &Job<'_>, link_bytes: u64) -> Result<u64> {
        let mut receiver = self.receiver(job)?;
        let counter = job.receiver().counter(receiver.id())?;
        let counter = counter.context("only a cable counts bytes")?;
        let (before, mut gone) = (counter.bytes()?, 0);

        let mut sender = Side::start("sender", &mut self.sender, job.scratch)?;
        watch([&mut sender, &mut receiver], job.cancel, |[sender, receiver]| {
            gone = counter.bytes()? - before;
            ensure!(
                gone >= link_bytes || !self.is_over(sender, receiver)?,
                "it was done after {gone} bytes, before it could be cut after {link_bytes}"
            );
            Ok(gone >= link_bytes)
        })?;
        // The receiver first: this is what the sender sees of it.
        drop(receiver);
        drop(sender);
        Ok(gone)
    }

    /// Starts it and waits until it is ready.
    fn receiver(&mut self, job: &Job<'_>) -> Result<Side> {
        let mut receiver = Side::start("receiver", &mut self.receiver, job.scratch)?;
        watch([&mut receiver], job.cancel, |[receiver]| {
            must_run(receiver)?;
            Ok(match self.ready {
                Ready::Port(port) => listens(receiver.id(), port),
                Ready::File(file) => file.exists(),
            })
        })?;
        Ok(receiver)
    }

    /// One side that fails ends the run; why is in its own words.
    fn is_over(&self, sender: &mut Side, receiver: &mut Side) -> Result<bool> {
        let sent = sender.ended()?;
        if sent {
            sender.succeeded()?;
        }
        match self.ending {
            Ending::ByItself => {
                let received = receiver.ended()?;
                if received {
                    receiver.succeeded()?;
                }
                Ok(sent && received)
            }
            Ending::Stopped => {
                must_run(receiver)?;
                // Until a daemon has waited for its children, their times are not counted.
                Ok(sent && receiver.children().is_empty())
            }
        }
    }
}

fn counted(counter: Option<&Counter>) -> Result<Option<u64>> {
    counter.map(Counter::bytes).transpose()
}

/// A receiver that ends before there is a sender, or a daemon that ends at all, has failed.
fn must_run(receiver: &mut Side) -> Result<()> {
    if receiver.ended()? {
        receiver.succeeded()?;
        bail!("the receiver ended too early");
    }
    Ok(())
}
