//! `tar | socat`, with and without a compressor between.

use std::process::Command;

use anyhow::Result;

use super::exchange::{Durability, Ending, Exchange, Ready};
use super::{About, Contender, Job, Measurement};
use crate::network::{Place, free_port};
use crate::programs;

/// A stream of files, unencrypted, unverified.
#[derive(Debug)]
pub(crate) struct Tar {
    name: &'static str,
    /// Filters on the way out and in.
    filters: Option<[&'static str; 2]>,
}

impl Tar {
    /// As it is.
    pub(crate) fn plain() -> Self {
        Self { name: "tar-socat", filters: None }
    }

    /// Compressed by as many threads as there are cores.
    pub(crate) fn zstd() -> Self {
        Self { name: "tar-zstd-socat", filters: Some(["zstd -1 -T0 -c", "zstd -d -c"]) }
    }
}

impl Contender for Tar {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&mut self) -> Result<About> {
        programs::find("bash")?;
        let mut versions = vec![programs::version(&programs::find("tar")?)?];
        if self.filters.is_some() {
            versions.push(programs::version(&programs::find("zstd")?)?);
        }
        let socat = Command::new(programs::find("socat")?).arg("-V").output()?;
        let socat = String::from_utf8_lossy(&socat.stdout).into_owned();
        let line = socat.lines().find(|line| line.contains("version")).unwrap_or("socat");
        versions.push(line.split(" on ").next().unwrap_or(line).to_owned());
        Ok(About {
            version: versions.join("; "),
            durability: Durability::SYNCFS.to_owned(),
            encrypted: false,
        })
    }

    fn run(&self, job: &Job<'_>) -> Result<Measurement> {
        let port = free_port()?;
        let [pack, unpack] = self.filters.unwrap_or_default();
        let pack = if pack.is_empty() { String::new() } else { format!(" | {pack}") };
        let unpack = if unpack.is_empty() { String::new() } else { format!(" | {unpack}") };
        let sparse = if job.sparse { " --sparse" } else { "" };
        let address = job.receiver().address;
        let mut receiver = pipeline(
            job.receiver(),
            &format!(
                "socat -u -b {BUFFER} TCP-LISTEN:{port},bind={address},reuseaddr STDOUT{unpack} | \
                 tar -x -p --numeric-owner -C \"$1\""
            ),
        );
        receiver.arg(job.target);
        // The older formats cut times to seconds.
        let mut sender = pipeline(
            job.sender(),
            &format!(
                "tar -c --format=posix --numeric-owner{sparse} -C \"$1\" .{pack} | \
                 socat -u -b {BUFFER} STDIN TCP:{address}:{port}"
            ),
        );
        sender.arg(job.source);

        let ready = Ready::Port(port);
        let (ending, durability) = (Ending::ByItself, Durability::SyncFs);
        Exchange { receiver, sender, ready, ending, durability }.run(job)
    }
}

/// What a pipe holds: socat's own default is an eighth of it.
pub(super) const BUFFER: u32 = 64 << 10;

/// A pipeline that fails when any of it does. Its first argument comes after it.
pub(super) fn pipeline(place: &Place, script: &str) -> Command {
    let mut command = place.command("bash");
    command.args(["-c", &format!("set -e -o pipefail; {script}"), "bash"]);
    command
}
