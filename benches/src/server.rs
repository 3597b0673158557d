//! A MariaDB server of our own: a private socket, no network, no configuration of the machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cancel::Cancel;
use crate::programs;
use crate::side::{Side, watch};

/// Name of the socket in its directory. A path to it must have less than 108 bytes.
const SOCKET: &str = "mariadb.sock";

/// What the server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tuning {
    /// Taking in as many rows as fast as possible; nothing is lost if it fails, it starts over.
    Loading {
        /// Size of the redo log, in MiB.
        log_mib: u32,
    },
    /// Being there.
    Idle,
}

/// A running server, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    side: Side,
    /// A directory with a short path, for the socket.
    place: tempfile::TempDir,
    admin: PathBuf,
}

impl Server {
    /// What the installed server is.
    ///
    /// # Errors
    /// It is not installed.
    pub(crate) fn version() -> Result<String> {
        programs::find("mariadb-admin")?;
        programs::version(&programs::find("mariadbd")?)
    }

    /// Makes an empty data directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn install(data: &Path) -> Result<()> {
        let mut command = Command::new(programs::find("mariadb-install-db")?);
        command.args(["--no-defaults", "--skip-test-db", "--skip-name-resolve"]);
        command.arg("--auth-root-authentication-method=normal").args(user());
        command.arg(format!("--datadir={}", data.display()));
        programs::done(&mut command)
    }

    /// Starts a server on `data`; returns when it answers. Its log is in `scratch`.
    ///
    /// # Errors
    /// It does not start, or a signal has come.
    pub(crate) fn start(
        data: &Path,
        scratch: &Path,
        tuning: Tuning,
        cancel: &Cancel,
    ) -> Result<Self> {
        let place = tempfile::tempdir().context("no place for a socket")?;
        let mut command = Command::new(programs::find("mariadbd")?);
        command.args(["--no-defaults", "--skip-networking", "--skip-log-bin"]).args(user());
        command.arg(format!("--datadir={}", data.display()));
        command.arg(format!("--socket={}", place.path().join(SOCKET).display()));
        command.arg(format!("--pid-file={}", place.path().join("pid").display()));
        command.arg("--innodb-fast-shutdown=1");
        match tuning {
            Tuning::Loading { log_mib } => {
                command.arg(format!("--innodb-log-file-size={log_mib}M"));
                command.args(["--innodb-buffer-pool-size=1G", "--innodb-doublewrite=0"]);
                command.arg("--innodb-flush-log-at-trx-commit=0");
            }
            Tuning::Idle => {
                // The log as it is: the server would make a new one of another size.
                let log = data.join("ib_logfile0").metadata().context("no server's directory")?;
                command.arg(format!("--innodb-log-file-size={}", log.len()));
                command.arg("--innodb-buffer-pool-size=64M");
            }
        }
        let side = Side::start("server", &mut command, scratch)?;
        let mut this = Self { side, place, admin: programs::find("mariadb-admin")? };
        let (socket, admin) = (this.socket(), this.admin.clone());
        watch([&mut this.side], cancel, |[side]| {
            if side.ended()? {
                side.succeeded()?;
            }
            let answers = || Self::ask(&admin, &socket, "ping").is_ok();
            Ok(socket.exists() && answers())
        })?;
        Ok(this)
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.place.path().join(SOCKET)
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// The server refuses it.
    pub(crate) fn run(&self, statement: &str) -> Result<()> {
        let mut command = Command::new(programs::find("mariadb")?);
        command.args(["--no-defaults", "--user=root", "--batch", "-e", statement]);
        command.arg(format!("--socket={}", self.socket().display()));
        programs::done(&mut command)
    }

    /// Shuts it down cleanly.
    ///
    /// # Errors
    /// It does not end, or ends badly.
    pub(crate) fn stop(mut self, cancel: &Cancel) -> Result<()> {
        Self::ask(&self.admin, &self.socket(), "shutdown")?;
        watch([&mut self.side], cancel, |[side]| side.ended())?;
        self.side.succeeded().context("the server did not shut down")?;
        ensure!(!self.socket().exists(), "the server left its socket");
        Ok(())
    }

    fn ask(admin: &Path, socket: &Path, what: &str) -> Result<()> {
        let mut command = Command::new(admin);
        command.args(["--no-defaults", "--user=root"]);
        command.arg(format!("--socket={}", socket.display())).arg(what);
        programs::done(&mut command)
    }
}

/// A server of root must be told that this is meant.
fn user() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}
