//! `rsync -a` to a daemon: what Galera's default method does, and plain rsync at its fastest.

use std::fmt::Write;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::{About, Contender, Job, Measurement, version};
use crate::side::{Side, watch};

const PROGRAM: &str = "rsync";

/// The one user of the daemon; others on this machine must not write through it.
const USER: &str = "bench";

/// One rsync process, unencrypted, unverified.
#[derive(Debug)]
pub(crate) struct Rsync {
    syncs_itself: bool,
}

impl Rsync {
    /// rsync as it is installed.
    pub(crate) fn new() -> Self {
        Self { syncs_itself: false }
    }
}

impl Contender for Rsync {
    fn name(&self) -> &'static str {
        "rsync"
    }

    fn prepare(&mut self) -> Result<About> {
        const OPTION: &str = "--fsync";
        let version = version(Path::new(PROGRAM))?;
        let help = Command::new(PROGRAM).arg("--help").output().context("rsync --help fails")?;
        self.syncs_itself = String::from_utf8_lossy(&help.stdout).contains(OPTION);
        let durability = if self.syncs_itself {
            "--fsync: each file when it is complete"
        } else {
            "syncfs of the target's file system at the end"
        };
        Ok(About { version, durability: durability.to_owned(), encrypted: false })
    }

    fn run(&self, job: &Job<'_>) -> Result<Measurement> {
        let (port, password) = (free_port()?, random_hex()?);
        let mut serve = serve(job, port, &password)?;
        let mut send = Command::new(PROGRAM);
        send.env("RSYNC_PASSWORD", &password).arg("-a");
        if self.syncs_itself {
            send.arg("--fsync");
        }
        send.arg(format!("{}/", job.source.display()))
            .arg(format!("rsync://{USER}@{}:{port}/copy/", Ipv4Addr::LOCALHOST));

        let mut daemon = Side::start("receiver", &mut serve, job.scratch)?;
        watch([&mut daemon], job.cancel, |[daemon]| listens(daemon, port))?;

        let begun = Instant::now();
        let mut sender = Side::start("sender", &mut send, job.scratch)?;
        watch([&mut sender, &mut daemon], job.cancel, |[sender, daemon]| {
            if daemon.ended()? {
                bail!("the daemon ended: {:#}", explain(daemon));
            }
            // Until the daemon has waited for its child, the child's times are not counted.
            Ok(sender.ended()? && (sender.succeeded().is_err() || daemon.children().is_empty()))
        })?;
        let sent = sender.succeeded()?;
        if !self.syncs_itself {
            let target = File::open(job.target).context("cannot open the target")?;
            rustix::fs::syncfs(&target).context("cannot sync the target")?;
        }
        let wall_seconds = begun.elapsed().as_secs_f64();

        Ok(Measurement {
            wall_seconds,
            sender: sent,
            receiver: daemon.stop()?,
            commands: vec![job.tell(&serve), job.tell(&send)],
            details: serde_json::Value::Null,
        })
    }
}

/// The daemon, with a configuration of its own.
fn serve(job: &Job<'_>, port: u16, password: &str) -> Result<Command> {
    let (config, secrets) = (job.scratch.join("rsyncd.conf"), job.scratch.join("rsyncd.secrets"));
    let mut text = format!(
        "use chroot = no\naddress = {}\nport = {port}\nreverse lookup = no\n\
         log file = {}\n[copy]\npath = {}\nread only = no\n\
         auth users = {USER}\nsecrets file = {}\nstrict modes = no\n",
        Ipv4Addr::LOCALHOST,
        job.scratch.join("rsyncd.log").display(),
        job.target.display(),
        secrets.display(),
    );
    if rustix::process::geteuid().is_root() {
        // Otherwise files would belong to nobody.
        writeln!(text, "uid = 0\ngid = 0").context("cannot write the configuration")?;
    }
    fs::write(&config, text).context("cannot write the daemon's configuration")?;
    fs::write(&secrets, format!("{USER}:{password}\n")).context("cannot write the password")?;
    let mut command = Command::new(PROGRAM);
    command.args(["--daemon", "--no-detach"]).arg(format!("--config={}", config.display()));
    Ok(command)
}

/// Whether the daemon takes connections, and has forgotten the one that asked.
fn listens(daemon: &mut Side, port: u16) -> Result<bool> {
    if daemon.ended()? {
        bail!("the daemon did not start: {:#}", explain(daemon));
    }
    Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
}

fn explain(daemon: &Side) -> anyhow::Error {
    daemon.succeeded().err().unwrap_or_else(|| anyhow::anyhow!("without an error"))
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr().context("no port is free")?.port())
}

fn random_hex() -> Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("no random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
