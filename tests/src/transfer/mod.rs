//! `fastsst receive`, `send` and `verify` as processes on loopback, and what they leave on disk.
//!
//! ```text
//! let place = Sandbox::new();
//! Transfer::new(&source, &target).run()        both ends, to the end, well
//! let receiving = Receive::into(&target).start()
//! let sending = Send::from(&source, &receiving.ticket).start()
//! sending.wait(LIMIT).assert_failed("E19", 103)
//! ```
//!
//! What a test started is killed when it is dropped, and its directory is removed; when the test
//! process itself dies, a guard process removes the directory, and the tools end because their
//! peer is gone.

mod files;
mod interrupt;
mod listing;
mod running;
mod sandbox;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::small_disk::Namespace;
use crate::wait::{run, until};

pub use files::{
    PAGE, allocated_bytes, b3sum, change_pages, fill, nobody, noise, sparse_noise, versions_in,
    write_version, written_bytes,
};
pub use interrupt::{Interrupted, Victim, interrupt, interrupt_when, wait_written, written};
pub use listing::{Listing, assert_same_tree};
pub use running::{Ended, Running};
pub use sandbox::Sandbox;

use crate::cluster::machine::own_binaries;

/// A ticket is printed: making a key and binding a port takes milliseconds, starting is slow only
/// on a machine that compiles beside it.
const START: Duration = Duration::from_secs(20);

/// Whole transfers, on a machine with two busy cores.
pub const TRANSFER: Duration = Duration::from_secs(180);

/// The command line tool.
#[must_use]
pub fn tool() -> PathBuf {
    own_binaries().join(crate::cluster::TOOL)
}

/// A receiver that is about to be started.
#[derive(Debug)]
pub struct Receive {
    into: PathBuf,
    arguments: Vec<OsString>,
    nobody: Option<PathBuf>,
    namespace: Option<Namespace>,
}

/// A receiver that has printed its ticket.
#[derive(Debug)]
pub struct Receiving {
    /// The process.
    pub running: Running,
    /// What it printed.
    pub ticket: String,
    summary: PathBuf,
}

impl Receive {
    /// Into this directory, on a free port of 127.0.0.1.
    #[must_use]
    pub fn into(directory: &Path) -> Self {
        let into = directory.to_owned();
        Self { into, arguments: Vec::new(), nobody: None, namespace: None }
    }

    /// Further arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|it| it.as_ref().to_owned()));
        self
    }

    /// As an ordinary user: the tests' own one, or `nobody` when that is root.
    #[must_use]
    pub fn as_nobody(mut self, place: &Sandbox) -> Self {
        self.nobody = Some(place.tool_for_everybody());
        self
    }

    /// In the namespaces of a disk.
    #[must_use]
    pub fn on(mut self, disk: impl Into<Namespace>) -> Self {
        self.namespace = Some(disk.into());
        self
    }

    /// Starts it and waits for the ticket.
    #[must_use]
    pub fn start(self) -> Receiving {
        let summary = summary_path(&self.into, "receive");
        let mut running = Running::start("the receiver", &mut self.command(&summary), "");
        let ticket = running.first_line(START);
        Receiving { running, ticket, summary }
    }

    /// Runs it to its end: for receivers that shall refuse to start.
    #[must_use]
    pub fn fail(self) -> Ended {
        let summary = summary_path(&self.into, "receive");
        Running::start("the receiver", &mut self.command(&summary), "").wait(START)
    }

    fn command(&self, summary: &Path) -> Command {
        let mut command = program(self.nobody.as_deref(), self.namespace);
        command.arg("receive").arg("--into").arg(&self.into);
        // A test that dies leaves a receiver nobody will ever come to; it ends by itself.
        for (option, value) in [("--listen", "127.0.0.1:0"), ("--initial-timeout", "120")] {
            if !self.arguments.iter().any(|it| it == option) {
                command.args([option, value]);
            }
        }
        if self.nobody.is_none() && self.namespace.is_none() {
            command.arg("--summary-json").arg(summary);
        }
        command.args(&self.arguments);
        command
    }
}

impl Receiving {
    /// Waits for its end.
    #[must_use]
    pub fn wait(self, limit: Duration) -> Ended {
        self.running.wait(limit)
    }

    /// Waits for its good end and returns its summary.
    #[must_use]
    pub fn succeed(self, limit: Duration) -> (Ended, Value) {
        let ended = self.running.wait(limit);
        ended.assert_success();
        (ended, read_summary(&self.summary))
    }

    /// The token, which is a secret.
    #[must_use]
    pub fn token(&self) -> String {
        self.ticket.rsplit('/').next().expect("fastsst://host:port/1/pin/token").to_owned()
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        let address = self.ticket.trim_start_matches("fastsst://").split('/').next();
        let port = address.and_then(|it| it.rsplit(':').next());
        port.expect("host:port").parse().expect("a port")
    }
}

/// A sender that is about to be started.
#[derive(Debug)]
pub struct Send {
    directory: PathBuf,
    ticket: String,
    arguments: Vec<OsString>,
    nobody: Option<PathBuf>,
    namespace: Option<Namespace>,
}

impl Send {
    /// This directory, to the receiver that made the ticket (which goes through standard input).
    #[must_use]
    pub fn from(directory: &Path, ticket: &str) -> Self {
        let (directory, ticket) = (directory.to_owned(), ticket.to_owned());
        Self { directory, ticket, arguments: Vec::new(), nobody: None, namespace: None }
    }

    /// Further arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|it| it.as_ref().to_owned()));
        self
    }

    /// At most this many MiB per second, uncompressed, so that something can happen meanwhile.
    #[must_use]
    pub fn slowly(self, mib_per_second: u32) -> Self {
        self.args(["--compress", "none", "--rlimit", &format!("{mib_per_second}m")])
    }

    /// As an ordinary user: the tests' own one, or `nobody` when that is root.
    #[must_use]
    pub fn as_nobody(mut self, place: &Sandbox) -> Self {
        self.nobody = Some(place.tool_for_everybody());
        self
    }

    /// In the namespaces of a disk, where accounts may have other numbers than outside.
    #[must_use]
    pub fn on(mut self, disk: impl Into<Namespace>) -> Self {
        self.namespace = Some(disk.into());
        self
    }

    /// Starts it.
    #[must_use]
    pub fn start(self) -> Running {
        let mut command = program(self.nobody.as_deref(), self.namespace);
        command.arg("send").arg(&self.directory);
        if !self.arguments.iter().any(|it| it.as_encoded_bytes().starts_with(b"--to")) {
            command.args(["--to", "-"]);
        }
        if self.nobody.is_none() {
            command.arg("--summary-json").arg(summary_path(&self.directory, "send"));
        }
        command.args(&self.arguments);
        Running::start("the sender", &mut command, &self.ticket)
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(self, limit: Duration) -> Ended {
        self.start().wait(limit)
    }

    /// Runs it to its good end and returns its summary.
    #[must_use]
    pub fn succeed(self, limit: Duration) -> (Ended, Value) {
        let summary = summary_path(&self.directory, "send");
        let ended = self.run(limit);
        ended.assert_success();
        (ended, read_summary(&summary))
    }
}

/// A whole transfer.
#[derive(Debug)]
pub struct Transfer {
    source: PathBuf,
    receive: Receive,
    send: Vec<OsString>,
}

/// A transfer that went well: how both processes ended, and their summaries.
#[derive(Debug)]
pub struct Done {
    /// The sender.
    pub sender: Ended,
    /// The receiver.
    pub receiver: Ended,
    /// The sender's summary.
    pub sent: Value,
    /// The receiver's summary.
    pub received: Value,
}

impl Transfer {
    /// From one directory into another, which exists.
    #[must_use]
    pub fn new(source: &Path, target: &Path) -> Self {
        Self { source: source.to_owned(), receive: Receive::into(target), send: Vec::new() }
    }

    /// Arguments for the receiver.
    #[must_use]
    pub fn receive<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.receive = self.receive.args(arguments);
        self
    }

    /// Arguments for the sender.
    #[must_use]
    pub fn send<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.send.extend(arguments.map(OsString::from));
        self
    }

    /// Runs both ends, which must succeed.
    #[must_use]
    pub fn run(self) -> Done {
        let receiving = self.receive.start();
        let sending = Send::from(&self.source, &receiving.ticket).args(&self.send);
        let sender = sending.run(TRANSFER);
        if !sender.is_success() {
            let receiver = receiving.wait(TRANSFER);
            panic!("the transfer failed\n{sender}\n{receiver}");
        }
        let (receiver, received) = receiving.succeed(TRANSFER);
        let sent = read_summary(&summary_path(&self.source, "send"));
        Done { sender, receiver, sent, received }
    }
}

/// What `fastsst verify` prints.
#[must_use]
pub fn root_hash(directory: &Path) -> String {
    let finished = run(Command::new(tool()).arg("verify").arg(directory), TRANSFER);
    assert!(finished.status.success(), "{}", finished.stderr);
    let hash = finished.stdout.trim_end().to_owned();
    let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hash, "64 digits on one line and nothing else: {:?}", finished.stdout);
    hash
}

/// Waits until at least so many bytes are allocated below a receiver's directory.
pub fn wait_under_way(target: &Path, bytes: u64) {
    until("the transfer is under way", START, || (allocated_bytes(target) >= bytes).then_some(()));
}

/// The tool: as an ordinary user, in a namespace, or as it is.
fn program(for_nobody: Option<&Path>, namespace: Option<Namespace>) -> Command {
    match (for_nobody, namespace) {
        (Some(tool), _) => nobody(tool),
        (None, Some(namespace)) => namespace.command(&tool()),
        (None, None) => Command::new(tool()),
    }
}

fn summary_path(directory: &Path, role: &str) -> PathBuf {
    let mut name = directory.file_name().expect("a directory with a name").to_owned();
    name.push(format!(".{role}.json"));
    directory.with_file_name(name)
}

fn read_summary(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).expect("a summary is JSON")
}
