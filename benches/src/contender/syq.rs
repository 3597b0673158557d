//! `syq cp` over SSH: a parallel copy program with an encrypted TCP transport of its own.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::exchange::{Durability, Exchange};
use super::sshd::{Ssh, note};
use super::{About, Contender, Job, Measurement};
use crate::network::free_port;
use crate::programs;

/// syq without compression, as its own figures are made.
#[derive(Debug)]
pub(crate) struct Syq {
    /// Where it was installed for the bench; otherwise it is looked for.
    given: Option<PathBuf>,
    program: PathBuf,
    ssh: Ssh,
}

impl Syq {
    /// The given program, or the one in PATH.
    pub(crate) fn new(given: Option<PathBuf>) -> Self {
        Self { given, program: PathBuf::new(), ssh: Ssh::default() }
    }
}

impl Contender for Syq {
    fn name(&self) -> &'static str {
        "syq"
    }

    fn prepare(&mut self) -> Result<About> {
        let given = self.given.clone().filter(|path| path.is_file());
        self.program = given.map_or_else(|| programs::find("syq"), Ok)?;
        // The other side runs it from another directory.
        self.program = self.program.canonicalize().context("syq cannot be run")?;
        self.ssh = Ssh::find()?;
        Ok(About {
            version: format!("{}; {}", programs::version(&self.program)?, self.ssh.version()?),
            durability: Durability::SYNCFS.to_owned(),
            encrypted: true,
        })
    }

    fn run(&self, job: &Job<'_>) -> Result<Measurement> {
        let sshd = self.ssh.configure(job)?;
        let receiver = sshd.serve(job);
        let mut sender = job.sender().command(&self.program);
        // Its settings and caches must not get into anybody's home.
        sender.env("HOME", job.scratch).env("TMPDIR", job.scratch).env("SYQ_NO_UPDATE_CHECK", "1");
        for place in ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"] {
            sender.env_remove(place);
        }
        sender.args(["cp", "--no-compress", "--no-progress", "--rsh", &sshd.shell]);
        sender.arg("--syq-path").arg(&self.program);
        sender.args(["--preserve", "times,permissions,ownership", "--tcp-ports", &ports()?]);
        sender.arg("--srcs-in").arg(job.source);
        sender.args(["--to", &job.receiver().address.to_string(), "--into"]).arg(job.target);

        let measured = Exchange::with_daemon(sshd.port, receiver, sender).run(job)?;
        Ok(Measurement { notes: note(), ..measured })
    }
}

/// A range for its own connections, above the one it takes by default.
fn ports() -> Result<String> {
    const COUNT: u16 = 32;
    let first = free_port()?.min(u16::MAX - COUNT);
    Ok(format!("{first}-{}", first + COUNT))
}
