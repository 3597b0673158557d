//! `fastsst send` to `fastsst receive`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::exchange::{Durability, Ending, Exchange, Ready};
use super::{About, Contender, Job, Measurement};
use crate::programs::version;
use crate::start::Start;

/// fastsst over one kind of lane, everything else as it is by default.
#[derive(Debug)]
pub(crate) struct Fastsst {
    name: &'static str,
    transport: &'static str,
    program: PathBuf,
}

impl Fastsst {
    /// As it comes.
    pub(crate) fn auto(program: PathBuf) -> Self {
        Self { name: "fastsst", transport: "auto", program }
    }

    /// Over QUIC lanes.
    pub(crate) fn quic(program: PathBuf) -> Self {
        Self { name: "fastsst-quic", transport: "quic", program }
    }

    /// Over TCP lanes.
    pub(crate) fn tcp(program: PathBuf) -> Self {
        Self { name: "fastsst-tcp", transport: "tcp", program }
    }
}

impl Contender for Fastsst {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&mut self) -> Result<About> {
        Ok(About {
            version: version(&self.program)?,
            durability: "its own: files, directories and commit record are synced".to_owned(),
            encrypted: true,
        })
    }

    fn run(&self, job: &Job<'_>) -> Result<Measurement> {
        let ticket = ticket(job);
        let mut measured = self.exchange(job, &ticket).run(job)?;
        let [receive, send] = summaries(job);
        let [receive, send] = [summary(&receive)?, summary(&send)?];
        measured.notes = notes(&receive);
        measured.wire_bytes = receive.get("wire_bytes").and_then(Value::as_u64);
        measured.details = serde_json::json!({ "receive": receive, "send": send });
        Ok(measured)
    }

    fn interrupt(&self, job: &Job<'_>, link_bytes: u64) -> Result<u64> {
        let ticket = ticket(job);
        self.exchange(job, &ticket).interrupt(job, link_bytes)
    }
}

impl Fastsst {
    fn exchange<'a>(&self, job: &Job<'_>, ticket: &'a Path) -> Exchange<'a> {
        let summaries = summaries(job);
        let mut receiver = job.receiver().command(&self.program);
        receiver.args(["receive", "--transport", self.transport, "--listen"]);
        receiver.arg(format!("{}:0", job.receiver().address));
        receiver.arg("--into").arg(job.target).arg("--ticket-file").arg(ticket);
        if job.start != Start::Empty {
            receiver.arg("--replace");
        }
        receiver.arg("--summary-json").arg(&summaries[0]);
        let mut sender = job.sender().command(&self.program);
        sender.args(["send", "--transport", self.transport]).arg(job.source);
        sender.arg("--to").arg(format!("@{}", ticket.display()));
        if job.start == Start::Cut {
            // Otherwise the level of the moment would decide how much a part of the whole is.
            sender.args(["--compress", "none"]);
        }
        sender.arg("--summary-json").arg(&summaries[1]);

        let ready = Ready::File(ticket);
        let (ending, durability) = (Ending::ByItself, Durability::Own);
        Exchange { receiver, sender, ready, ending, durability }
    }
}

fn ticket(job: &Job<'_>) -> PathBuf {
    job.scratch.join("ticket")
}

/// The receiver's, and the sender's.
fn summaries(job: &Job<'_>) -> [PathBuf; 2] {
    ["receive", "send"].map(|role| job.scratch.join(format!("{role}.json")))
}

fn summary(path: &Path) -> Result<Value> {
    let text = fs::read(path).context("fastsst wrote no summary")?;
    serde_json::from_slice(&text).context("the summary is not JSON")
}

/// What bounds it, over which transport, and how much smaller the wire is than the data. The
/// summary belongs to another version as well as to this one: what it does not have is left out.
fn notes(summary: &Value) -> String {
    let text = |key: &str| summary.get(key).and_then(Value::as_str).filter(|it| !it.is_empty());
    let number = |key: &str| summary.get(key).and_then(Value::as_f64);
    let mut notes = Vec::new();
    notes.extend(text("transport").map(str::to_owned));
    if let Some((wire, bytes)) = number("wire_bytes").zip(number("bytes").filter(|it| *it > 0.0)) {
        notes.push(format!("wire/bytes {:.2}", wire / bytes));
    }
    notes.extend(text("limited_by").map(|what| format!("limited by {what}")));
    notes.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_what_a_summary_has() {
        let summary = serde_json::json!({
            "transport": "tcp", "wire_bytes": 50, "bytes": 100, "limited_by": "disk-write"
        });
        assert_eq!(notes(&summary), "tcp, wire/bytes 0.50, limited by disk-write");
        assert_eq!(notes(&serde_json::json!({ "bytes": 0, "wire_bytes": 0 })), "");
    }
}
