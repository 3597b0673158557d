//! `fastsst send` to `fastsst receive`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::exchange::{Durability, Ending, Exchange, Ready};
use super::{About, Contender, Job, Measurement};
use crate::programs::version;

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
        let ticket = job.scratch.join("ticket");
        let summaries = ["receive", "send"].map(|role| job.scratch.join(format!("{role}.json")));

        let mut receiver = job.receiver().command(&self.program);
        receiver.args(["receive", "--transport", self.transport, "--listen"]);
        receiver.arg(format!("{}:0", job.receiver().address));
        receiver.arg("--into").arg(job.target).arg("--ticket-file").arg(&ticket);
        receiver.arg("--summary-json").arg(&summaries[0]);
        let mut sender = job.sender().command(&self.program);
        sender.args(["send", "--transport", self.transport]).arg(job.source);
        sender.arg("--to").arg(format!("@{}", ticket.display()));
        sender.arg("--summary-json").arg(&summaries[1]);

        let ready = Ready::File(&ticket);
        let (ending, durability) = (Ending::ByItself, Durability::Own);
        let mut measured = Exchange { receiver, sender, ready, ending, durability }.run(job)?;
        let [receive, send] = [summary(&summaries[0])?, summary(&summaries[1])?];
        measured.notes = notes(&receive);
        measured.details = serde_json::json!({ "receive": receive, "send": send });
        Ok(measured)
    }
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
