//! `rsync -a` to a daemon: what Galera's default method does, and plain rsync at its fastest.

use std::fs;

use anyhow::{Context, Result};

use super::exchange::{Durability, Exchange};
use super::rsyncd::{Program, Rsyncd};
use super::{About, Contender, Job, Measurement};

/// One rsync process, unencrypted, unverified.
#[derive(Debug)]
pub(crate) struct Rsync {
    name: &'static str,
    /// Last of the options, so it wins.
    compares: Option<&'static str>,
    program: Program,
}

impl Rsync {
    /// Sends files whole.
    pub(crate) fn whole() -> Self {
        Self { name: "rsync", compares: None, program: Program::default() }
    }

    /// Sends what differs from the file that is there.
    pub(crate) fn delta() -> Self {
        let compares = Some("--no-whole-file");
        Self { name: "rsync-delta", compares, program: Program::default() }
    }

    fn exchange(&self, job: &Job<'_>) -> Result<Exchange<'static>> {
        let daemon = Rsyncd::configure(job)?;
        let receiver = daemon.serve(job, &self.program);
        let mut sender = job.sender().command(self.program.path());
        daemon.authorize(&mut sender).args(Program::options(job)).args(self.compares);
        sender.arg("--stats").arg(format!("{}/", job.source.display()));
        sender.arg(daemon.url(job.receiver().address));
        Ok(Exchange::with_daemon(daemon.port, receiver, sender))
    }
}

impl Contender for Rsync {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&mut self) -> Result<About> {
        self.program = Program::find()?;
        Ok(About {
            version: self.program.version()?,
            durability: Durability::SYNCFS.to_owned(),
            encrypted: false,
        })
    }

    fn run(&self, job: &Job<'_>) -> Result<Measurement> {
        let measured = self.exchange(job)?.run(job)?;
        let said = fs::read_to_string(job.log("sender")).context("rsync said nothing")?;
        Ok(Measurement { wire_bytes: wire_bytes(&said), ..measured })
    }

    fn interrupt(&self, job: &Job<'_>, link_bytes: u64) -> Result<u64> {
        self.exchange(job)?.interrupt(job, link_bytes)
    }
}

/// Both directions together, from what `--stats` says; thousands are apart by commas or points.
fn wire_bytes(stats: &str) -> Option<u64> {
    let bytes = |title: &str| -> Option<u64> {
        let text = stats.lines().find_map(|line| line.strip_prefix(title))?;
        text.chars().filter(char::is_ascii_digit).collect::<String>().parse().ok()
    };
    Some(bytes("Total bytes sent:")? + bytes("Total bytes received:")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_count() {
        let stats =
            "Literal data: 7 bytes\nTotal bytes sent: 1,234,567\nTotal bytes received: 33\n";
        assert_eq!(wire_bytes(stats), Some(1_234_600));
        assert_eq!(wire_bytes("Total bytes sent: 5\n"), None);
    }
}
