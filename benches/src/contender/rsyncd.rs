//! An rsync daemon of our own.

use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Job;
use crate::network::{free_port, random_hex};
use crate::programs;
use crate::start::Start;

/// The one user of the daemon; others on this machine must not write through it.
const USER: &str = "bench";

/// The one directory that it serves.
const MODULE: &str = "copy";

/// Options of every rsync here: everything that a copy of a data directory needs, whole files,
/// and into their places, as Galera's script does it.
pub(super) const OPTIONS: [&str; 3] = ["-a", "--whole-file", "--inplace"];

/// The installed rsync.
#[derive(Debug, Clone, Default)]
pub(super) struct Program {
    path: PathBuf,
}

impl Program {
    /// Looks for it.
    ///
    /// # Errors
    /// It is not installed.
    pub(super) fn find() -> Result<Self> {
        Ok(Self { path: programs::find("rsync")? })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// First line of its version.
    ///
    /// # Errors
    /// It does not say.
    pub(super) fn version(&self) -> Result<String> {
        programs::version(&self.path)
    }

    /// [`OPTIONS`], and what depends on the data.
    pub(super) fn options(job: &Job<'_>) -> Vec<&'static str> {
        let mut options = OPTIONS.to_vec();
        if job.sparse {
            options.push("--sparse");
        }
        if job.start != Start::Empty {
            // As Galera's script does: size and time of a page file say nothing about its pages.
            options.push("--ignore-times");
        }
        options
    }
}

/// The configuration of one run.
#[derive(Debug)]
pub(super) struct Rsyncd {
    /// Where it listens.
    pub(super) port: u16,
    /// The file.
    pub(super) config: PathBuf,
    password: String,
}

impl Rsyncd {
    /// Writes it.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn configure(job: &Job<'_>) -> Result<Self> {
        let (port, password) = (free_port()?, random_hex()?);
        let (config, secrets) =
            (job.scratch.join("rsyncd.conf"), job.scratch.join("rsyncd.secrets"));
        let mut text = format!(
            "use chroot = no\naddress = {}\nport = {port}\nreverse lookup = no\n\
             log file = {}\n[{MODULE}]\npath = {}\nread only = no\n\
             auth users = {USER}\nsecrets file = {}\nstrict modes = no\n",
            job.receiver().address,
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
        Ok(Self { port, config, password })
    }

    /// The daemon.
    pub(super) fn serve(&self, job: &Job<'_>, program: &Program) -> Command {
        let mut command = job.receiver().command(program.path());
        command.args(["--daemon", "--no-detach"]);
        command.arg(format!("--config={}", self.config.display()));
        command
    }

    /// Lets `sender` in; its command line does not show how.
    pub(super) fn authorize<'a>(&self, sender: &'a mut Command) -> &'a mut Command {
        sender.env("RSYNC_PASSWORD", &self.password)
    }

    /// Where it is reached, with a slash at the end.
    pub(super) fn url(&self, address: Ipv4Addr) -> String {
        format!("rsync://{USER}@{address}:{}/{MODULE}/", self.port)
    }
}
