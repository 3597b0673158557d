//! `fastsst send` to `fastsst receive`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use super::{About, Contender, Job, Measurement, version};
use crate::side::{Side, watch};

/// fastsst over one kind of lane, everything else as it is by default.
#[derive(Debug)]
pub(crate) struct Fastsst {
    name: &'static str,
    transport: &'static str,
    program: PathBuf,
}

impl Fastsst {
    /// Over QUIC lanes.
    pub(crate) fn quic(program: PathBuf) -> Self {
        Self { name: "fastsst-quic", transport: "quic", program }
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
        let mut receive = Command::new(&self.program);
        receive.args(["receive", "--listen", "127.0.0.1:0", "--transport", self.transport]);
        receive.arg("--into").arg(job.target).arg("--ticket-file").arg(&ticket);
        receive.arg("--summary-json").arg(&summaries[0]);
        let mut send = Command::new(&self.program);
        send.args(["send", "--transport", self.transport]).arg(job.source);
        send.arg("--to").arg(format!("@{}", ticket.display()));
        send.arg("--summary-json").arg(&summaries[1]);

        let mut receiver = Side::start("receiver", &mut receive, job.scratch)?;
        watch([&mut receiver], job.cancel, |[receiver]| {
            failed(receiver)?;
            Ok(ticket.exists())
        })?;

        let begun = Instant::now();
        let mut sender = Side::start("sender", &mut send, job.scratch)?;
        watch([&mut sender, &mut receiver], job.cancel, |[sender, receiver]| {
            let ended = [sender.ended()?, receiver.ended()?];
            failed(sender)?;
            failed(receiver)?;
            Ok(ended == [true, true])
        })?;
        let wall_seconds = begun.elapsed().as_secs_f64();

        Ok(Measurement {
            wall_seconds,
            sender: sender.succeeded()?,
            receiver: receiver.succeeded()?,
            commands: vec![job.tell(&receive), job.tell(&send)],
            details: serde_json::json!({
                "receive": summary(&summaries[0])?,
                "send": summary(&summaries[1])?,
            }),
        })
    }
}

/// One side that fails ends the run; why is in its own words.
fn failed(side: &mut Side) -> Result<()> {
    if side.ended()? { side.succeeded().map(|_| ()) } else { Ok(()) }
}

fn summary(path: &Path) -> Result<serde_json::Value> {
    let text = fs::read(path).context("fastsst wrote no summary")?;
    serde_json::from_slice(&text).context("the summary is not JSON")
}
