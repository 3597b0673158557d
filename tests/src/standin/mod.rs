//! A stand-in for the servers that are not here: MariaDB 10.5, 10.11 and 11.8, Codership's MySQL and
//! Percona's clusters. It plays the server's side of an SST to the real `wsrep_sst_fastsst`, with
//! real directories, and is stricter than any of them: what one of them would choke on, or take for
//! something else, fails the test.

mod command;
mod donor;
mod files;
mod joiner;
mod kind;
mod script;

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

pub use self::donor::{Donating, Sent, Step};
pub use self::joiner::{Joined, Joining};
pub use self::kind::Kind;
pub use self::script::{Ended, Script};
use crate::cluster::machine::own_binaries;
use crate::wait::until;

/// The cluster's position while a donor is locked.
pub const POSITION: &str = "61e1e4b5-9b5c-11ef-8a1c-0242ac110002:17";

/// The position of a joiner that gets the rest by IST.
pub const OLD_POSITION: &str = "61e1e4b5-9b5c-11ef-8a1c-0242ac110002:12";

/// The account that MariaDB 11.6 and newer make for one SST (contract 1.6).
const TEMPORARY_ACCOUNT: &str = "wsrep.sst.261125_101112_node1";

/// Codership's local position.
const LOCAL_GTID: &str = "91e1e4b5-9b5c-11ef-8a1c-0242ac110002:3";

/// Starting a program.
const STARTS: Duration = Duration::from_secs(10);

/// How a server starts a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// By a shell, as servers do.
    Shell,
    /// Directly, for names that break a server's own quoting.
    Direct,
}

/// What a donor's server asks of its script.
#[derive(Debug, Clone, Copy)]
pub enum Transfer<'a> {
    /// Everything.
    Snapshot,
    /// Only this position.
    Bypass(&'a str),
}

impl Transfer<'_> {
    /// What `--gtid` says.
    fn gtid(&self) -> &str {
        match self {
            Self::Snapshot => OLD_POSITION,
            Self::Bypass(position) => position,
        }
    }
}

/// What a joiner's server sends through the group: a method, and the text that its script gave.
#[derive(Debug, Clone)]
pub struct Request {
    text: String,
    splits: bool,
}

impl Request {
    /// As the servers of this kind let it through; panics where one would refuse it.
    fn new(kind: Kind, text: &str) -> Self {
        let splits = !kind.is_pxc();
        let place = text.rsplit_once('@').filter(|_| splits).map_or(text, |(_, place)| place);
        if let Some(letter) = place.chars().find(|letter| !kind.carries(*letter)) {
            panic!("{kind:?} refuses {letter:?} in a request: {text}");
        }
        Self { text: text.to_owned(), splits }
    }

    /// What becomes `--address` of the donor's script.
    fn place(&self) -> &str {
        let split = self.text.rsplit_once('@').filter(|_| self.splits);
        split.map_or(self.text.as_str(), |(_, place)| place)
    }

    /// What stood before the last `@`.
    fn auth(&self) -> Option<&str> {
        self.text.rsplit_once('@').filter(|_| self.splits).map(|(auth, _)| auth)
    }

    /// The one-time token, wherever it stands.
    #[must_use]
    pub fn token(&self) -> &str {
        let in_front = self.auth().and_then(|auth| auth.split_once(':')).map(|(_, token)| token);
        in_front.or_else(|| self.text.rsplit('/').next()).expect("a token")
    }

    /// Another joiner's: one that nobody listens to.
    #[must_use]
    pub fn to_nobody(kind: Kind) -> Self {
        let (pin, token) = ("5a".repeat(32), "c3".repeat(16));
        let place = format!("127.0.0.1:1/fastsst/1/{pin}");
        match kind.is_pxc() {
            true => Self::new(kind, &format!("{place}/{token}")),
            false => Self::new(kind, &format!("fastsst:{token}@{place}")),
        }
    }
}

/// A node: its files, and a process that stands for its server.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    directory: TempDir,
    datadir: PathBuf,
    config: PathBuf,
    process: Child,
    start: Start,
    account: String,
}

impl Server {
    /// A node with an empty datadir and this in its option file.
    #[must_use]
    pub fn new(kind: Kind, config: &str) -> Self {
        Self::with_datadir(kind, config, "data")
    }

    /// The same, with a datadir of this name, which a shell would not survive.
    #[must_use]
    pub fn with_datadir(kind: Kind, config: &str, name: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("fastsst-").tempdir().expect("a directory");
        let datadir = directory.path().join(name);
        fs::create_dir(&datadir).expect("a datadir");
        let options = directory.path().join("my.cnf");
        fs::write(&options, config).expect("an option file");
        let process = server_process(kind, directory.path());
        let start = if name == "data" { Start::Shell } else { Start::Direct };
        Self {
            kind,
            directory,
            datadir,
            config: options,
            process,
            start,
            account: TEMPORARY_ACCOUNT.to_owned(),
        }
    }

    /// Which server it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its data directory.
    #[must_use]
    pub fn datadir(&self) -> &Path {
        &self.datadir
    }

    /// What the operator has set as `wsrep_sst_auth`; without it, MariaDB 11.6 makes an account.
    pub fn set_account(&mut self, name: &str) {
        name.clone_into(&mut self.account);
    }

    /// Another option file.
    pub fn configure(&self, config: &str) {
        fs::write(&self.config, config).expect("an option file");
    }

    fn known(&self) -> command::Known<'_> {
        let Self { kind, datadir, config, process, .. } = self;
        command::Known { kind: *kind, datadir, config, pid: process.id() }
    }

    /// The server's process ends, and a new one is there for the next start.
    pub fn restart(&mut self) {
        end(&mut self.process);
        self.process = server_process(self.kind, self.directory.path());
    }

    /// Fails if a script has left anything of its own in the datadir.
    pub fn assert_no_markers(&self) {
        for name in ["sst_in_progress", "wsrep_sst.pid", "tables_flushed", "sst_error"] {
            assert!(!self.datadir.join(name).exists(), "{:?}: {name} is left", self.kind);
        }
    }

    /// The program with what every script gets: the server's directory, environment and group.
    fn command(&self, line: &command::CommandLine) -> Command {
        let binaries = own_binaries();
        let mut command = match self.start {
            Start::Shell => {
                let mut shell = Command::new("/bin/sh");
                shell.arg("-c").arg(line.for_shell());
                shell
            }
            Start::Direct => {
                let mut program = Command::new(binaries.join("wsrep_sst_fastsst"));
                program.args(line.words());
                program
            }
        };
        let mut path = OsString::from(binaries);
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command
            .env("PATH", path)
            .env_remove("WSREP_SST_OPT_REMOTE_AUTH")
            .current_dir(&self.datadir);
        if self.kind.is_pxc() {
            command.process_group(0);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// Something that lives as long as a server would, and whose program says which version it is.
fn server_process(kind: Kind, directory: &Path) -> Child {
    let program = directory.join(if kind.is_mariadb() { "mariadbd" } else { "mysqld" });
    if !program.exists() {
        fs::copy("/bin/sleep", &program).expect("/bin/sleep");
        let mut file = fs::OpenOptions::new().append(true).open(&program).expect("our copy");
        write!(file, "\0{}\0", kind.version()).expect("our copy");
    }
    let mut command = Command::new(program);
    command.arg("1000").stdin(Stdio::null()).stdout(Stdio::null());
    // Another test that starts a program at this moment has our copy open for writing, until it runs.
    until("our copy of sleep starts", STARTS, || match command.spawn() {
        Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => None,
        started => Some(started.expect("a program")),
    })
}

fn end(process: &mut Child) {
    // It may be dead already, as some tests have it.
    let _ended = process.kill();
    let _reaped = process.wait();
}
