//! rsync through stunnel, as Galera's script encrypts it: stunnel starts the daemon on one side,
//! and rsync starts stunnel instead of a remote shell on the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::exchange::{Durability, Exchange};
use super::rsyncd::{Program, Rsyncd};
use super::{About, Contender, Job, Measurement};
use crate::programs;

/// One rsync process, TLS 1.3 with a certificate for one run, unverified.
#[derive(Debug, Default)]
pub(crate) struct RsyncStunnel {
    program: Program,
    stunnel: PathBuf,
    openssl: PathBuf,
}

impl Contender for RsyncStunnel {
    fn name(&self) -> &'static str {
        "rsync-stunnel"
    }

    fn prepare(&mut self) -> Result<About> {
        self.program = Program::find()?;
        self.stunnel = programs::find("stunnel")?;
        self.openssl = programs::find("openssl")?;
        let stunnel = stunnel_version(&self.stunnel)?;
        Ok(About {
            version: format!("{}; {stunnel}", self.program.version()?),
            durability: Durability::SYNCFS.to_owned(),
            encrypted: true,
        })
    }

    fn run(&self, job: &Job<'_>) -> Result<Measurement> {
        let daemon = Rsyncd::configure(job)?;
        let (key, certificate) = self.certificate(job.scratch)?;
        let (server, client) =
            (job.scratch.join("stunnel-server.conf"), job.scratch.join("stunnel-client.conf"));
        let common = "foreground = yes\npid =\ndebug = warning\nsslVersionMin = TLSv1.3\n";
        let rsync = self.program.path().display();
        let address = job.receiver().address;
        let text = format!(
            "{common}[rsync]\naccept = {address}:{}\nkey = {}\ncert = {}\n\
             exec = {rsync}\nexecArgs = rsync --server --daemon --config={} .\n",
            daemon.port,
            key.display(),
            certificate.display(),
            daemon.config.display(),
        );
        fs::write(&server, text).context("cannot write stunnel's configuration")?;
        let text = format!(
            "{common}client = yes\nconnect = {address}:{}\nCAfile = {}\nverifyPeer = yes\n\
             TIMEOUTclose = 0\n",
            daemon.port,
            certificate.display(),
        );
        fs::write(&client, text).context("cannot write stunnel's configuration")?;

        let mut receiver = job.receiver().command(&self.stunnel);
        receiver.arg(&server);
        let mut sender = job.sender().command(self.program.path());
        daemon.authorize(&mut sender).args(Program::options(job));
        sender.arg(format!("--rsh={} {}", self.stunnel.display(), client.display()));
        sender.arg(format!("{}/", job.source.display())).arg(daemon.url(address));

        Exchange::with_daemon(daemon.port, receiver, sender).run(job)
    }
}

impl RsyncStunnel {
    /// A key and a certificate that nobody else has ever trusted, for this run.
    fn certificate(&self, scratch: &Path) -> Result<(PathBuf, PathBuf)> {
        let (key, certificate) = (scratch.join("key.pem"), scratch.join("certificate.pem"));
        let mut command = Command::new(&self.openssl);
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.args(["-nodes", "-days", "2", "-subj", "/CN=fastsst-bench", "-keyout"]);
        command.arg(&key).arg("-out").arg(&certificate);
        programs::done(&mut command).context("cannot make a certificate")?;
        Ok((key, certificate))
    }
}

/// The line with its number; it is not the first one everywhere.
fn stunnel_version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("-version").output().context("stunnel cannot be run")?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let line = text.lines().find(|line| line.contains("stunnel 5") || line.contains("platform"));
    Ok(line.map_or_else(|| "stunnel".to_owned(), |line| line.trim().to_owned()))
}
