//! `rsync -a -e ssh`, to a server for SSH of our own.

use anyhow::Result;

use super::exchange::{Durability, Exchange};
use super::rsyncd::Program;
use super::sshd::{Ssh, note};
use super::{About, Contender, Job, Measurement};

/// One rsync process, encrypted by SSH, unverified.
#[derive(Debug, Default)]
pub(crate) struct RsyncSsh {
    program: Program,
    ssh: Ssh,
}

impl Contender for RsyncSsh {
    fn name(&self) -> &'static str {
        "rsync-ssh"
    }

    fn prepare(&mut self) -> Result<About> {
        self.program = Program::find()?;
        self.ssh = Ssh::find()?;
        Ok(About {
            version: format!("{}; {}", self.program.version()?, self.ssh.version()?),
            durability: Durability::SYNCFS.to_owned(),
            encrypted: true,
        })
    }

    fn run(&self, job: &Job<'_>) -> Result<Measurement> {
        let sshd = self.ssh.configure(job)?;
        let receiver = sshd.serve(job);
        let mut sender = job.sender().command(self.program.path());
        sender.args(Program::options(job)).args(["-e", &sshd.shell]);
        sender.arg(format!("{}/", job.source.display()));
        sender.arg(format!("{}:{}/", job.receiver().address, job.target.display()));

        let measured = Exchange::with_daemon(sshd.port, receiver, sender).run(job)?;
        Ok(Measurement { notes: note(), ..measured })
    }
}
