//! `rsync -a` to a daemon: what Galera's default method does, and plain rsync at its fastest.

use anyhow::Result;

use super::exchange::{Durability, Exchange};
use super::rsyncd::{Program, Rsyncd};
use super::{About, Contender, Job, Measurement};

/// One rsync process, unencrypted, unverified.
#[derive(Debug, Default)]
pub(crate) struct Rsync {
    program: Program,
}

impl Contender for Rsync {
    fn name(&self) -> &'static str {
        "rsync"
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
        let daemon = Rsyncd::configure(job)?;
        let receiver = daemon.serve(job, &self.program);
        let mut sender = job.sender().command(self.program.path());
        daemon.authorize(&mut sender).args(Program::options(job));
        sender.arg(format!("{}/", job.source.display()));
        sender.arg(daemon.url(job.receiver().address));

        Exchange::with_daemon(daemon.port, receiver, sender).run(job)
    }
}
