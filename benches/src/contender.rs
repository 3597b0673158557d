//! Who copies.

pub(crate) mod fastsst;
pub(crate) mod floor;
pub(crate) mod floor_read;
pub(crate) mod mariabackup;
pub(crate) mod rsync;
pub(crate) mod rsync_parallel;
pub(crate) mod rsync_ssh;
pub(crate) mod rsync_stunnel;
pub(crate) mod syq;
pub(crate) mod tar;

mod exchange;
mod rsyncd;
mod sshd;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::cancel::Cancel;
use crate::network::{Network, Place};
use crate::programs;
use crate::side::{Cost, log_of};
use crate::start::Start;

/// A way to copy a directory from one process to another over the network.
///
/// Adding one: a module below this one, and a line in
/// [`contenders`](crate::catalogue::contenders).
pub(crate) trait Contender {
    /// Name in the table, in the report and for `--contender`.
    fn name(&self) -> &'static str;

    /// Looks for the programs, once, before any run.
    ///
    /// # Errors
    /// Why it cannot take part; the table says so, and the others go on.
    fn prepare(&mut self) -> Result<About>;

    /// Copies once. Returns when the copy is durable and all processes are gone.
    ///
    /// # Errors
    /// The copy failed, or a signal has come.
    fn run(&self, job: &Job<'_>) -> Result<Measurement>;

    /// Begins a copy and kills the receiver with SIGKILL as soon as `link_bytes` have gone over the
    /// cable. Says how many it were in the end.
    ///
    /// # Errors
    /// There is no cable, the copy was finished before, or this contender is not asked to do it.
    fn interrupt(&self, _job: &Job<'_>, _link_bytes: u64) -> Result<u64> {
        bail!("{} is not interrupted", self.name())
    }

    /// How a copy is proven.
    fn proof(&self) -> Proof {
        Proof::Equal
    }
}

/// What must be true of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It is the source, in everything that a [`Tree`](crate::tree::Tree) holds.
    Equal,
    /// It has all the tables: what a backup of a running server can be asked for.
    Tables,
    /// Nothing: there is none.
    Nothing,
}

/// What is measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct About {
    /// Version of the program.
    pub(crate) version: String,
    /// How the copy is made durable inside the measured time.
    pub(crate) durability: String,
    /// Whether what is on the wire is encrypted.
    pub(crate) encrypted: bool,
}

/// One copy to make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    /// The directory to copy.
    pub(crate) source: &'a Path,
    /// The directory to copy into.
    pub(crate) target: &'a Path,
    /// What is in it.
    pub(crate) start: Start,
    /// An empty directory for everything else, readable by its owner only.
    pub(crate) scratch: &'a Path,
    /// Whether files have holes worth keeping, which some programs must be told.
    pub(crate) sparse: bool,
    /// Where the sides run.
    pub(crate) network: &'a Network,
    /// Whether to stop.
    pub(crate) cancel: &'a Cancel,
}

impl Job<'_> {
    /// Where the sender runs.
    fn sender(&self) -> &Place {
        &self.network.sender
    }

    /// Where the receiver runs.
    fn receiver(&self) -> &Place {
        &self.network.receiver
    }

    /// Where a side has written what it says.
    fn log(&self, side: &str) -> PathBuf {
        log_of(side, self.scratch)
    }

    /// Makes the copy of a program durable that does not do it itself.
    fn sync_target(&self) -> Result<()> {
        let target = File::open(self.target).context("cannot open the target")?;
        rustix::fs::syncfs(&target).context("cannot sync the target")
    }

    /// A command line as it can be told: places by role, secrets are not in it.
    fn tell(&self, command: &Command) -> String {
        let whole: Vec<_> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_string_lossy())
            .collect();
        let own = match whole.as_slice() {
            // Where it runs is in the head of the table.
            [ip, netns, exec, _, own @ ..] if ip.ends_with("ip") && netns == "netns" => {
                debug_assert!(exec == "exec");
                own
            }
            own => own,
        };
        let words: Vec<_> = own.iter().map(|word| quoted(&self.by_role(word))).collect();
        words.join(" ")
    }

    /// Places by role, and of all other paths the last part.
    fn by_role(&self, word: &str) -> String {
        let mut word = word.to_owned();
        for (path, role) in
            [(self.source, "SOURCE"), (self.target, "TARGET"), (self.scratch, "SCRATCH")]
        {
            word = word.replace(&*path.to_string_lossy(), role);
        }
        programs::without_directories(&word)
    }
}

/// A word of a command line, in quotes when a shell would take it apart.
fn quoted(word: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !"\"'\\;|&<>()$`*".contains(c);
    if word.chars().all(plain) && !word.is_empty() {
        return word.to_owned();
    }
    format!("'{word}'")
}

/// One copy that was made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measurement {
    /// From the start of the sender until both sides were done and the copy durable.
    pub(crate) wall_seconds: f64,
    /// Processor time of the whole machine meanwhile, write-back and other programs included.
    pub(crate) machine_cpu_seconds: Option<f64>,
    /// The sender's cost.
    pub(crate) sender: Cost,
    /// The receiver's cost.
    pub(crate) receiver: Cost,
    /// What was sent and received, as the program counts it; nothing when it does not.
    pub(crate) wire_bytes: Option<u64>,
    /// The same as the cable counts it, headers included; nothing without a cable.
    pub(crate) link_bytes: Option<u64>,
    /// The command lines, the receiver's first.
    pub(crate) commands: Vec<String>,
    /// What the program says about itself in a few words.
    pub(crate) notes: String,
    /// What the program says about itself.
    pub(crate) details: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Link;

    #[test]
    fn commands_are_told_by_role() {
        let network = Network::over(Link::Loopback).unwrap();
        let cancel = Cancel::default();
        let job = Job {
            source: Path::new("/x/source"),
            target: Path::new("/x/1/copy"),
            start: Start::Empty,
            scratch: Path::new("/x/1/scratch"),
            sparse: false,
            network: &network,
            cancel: &cancel,
        };
        let mut command = Command::new("/usr/bin/ip");
        command.args(["netns", "exec", "fsb1a", "/usr/bin/bash", "-c", "a  |\n b", "/x/source/"]);
        assert_eq!(job.tell(&command), "bash -c 'a | b' SOURCE/");
        let mut command = Command::new("rsync");
        command.args(["-e", "/usr/bin/ssh -F /x/1/scratch/config", "--inplace", "/opt/y/rsync"]);
        assert_eq!(job.tell(&command), "rsync -e 'ssh -F SCRATCH/config' --inplace rsync");
    }
}
