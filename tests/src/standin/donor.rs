//! The donor's server: starts the script and does what its lines ask for.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::files::{Stop, Writer};
use super::kind::{Credentials, Kind};
use super::script::{Ended, Script};
use super::{LOCAL_GTID, POSITION, Request, Server, Transfer, command};

/// How long a server takes to make an account before it writes to standard input.
const ACCOUNT: Duration = Duration::from_millis(300);

/// Between the two times MariaDB writes its answer.
const ANSWERS: Duration = Duration::from_millis(60);

/// How long Percona's InnoDB still writes after the answer (contract 3.4).
const LATE_WRITES: Duration = Duration::from_millis(400);

/// A line that the server acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `flush tables`.
    Flush,
    /// `continue`.
    Continue,
    /// `done` with this position.
    Done(String),
}

/// A donor's server while its script runs.
#[derive(Debug)]
pub struct Donating<'a> {
    server: &'a Server,
    script: Script,
    writer: Writer,
    is_locked: bool,
    progress: usize,
    /// The files while everything stood still.
    files: BTreeMap<String, Vec<u8>>,
}

/// How the server sees the end of it.
#[derive(Debug)]
pub struct Sent {
    /// The position in `done`, if the server got it.
    pub position: Option<String>,
    /// Lines about progress before it.
    pub progress: usize,
    /// The script's end.
    pub script: Ended,
    /// The files while everything stood still.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Server {
    /// Starts the donor's script for a joiner's request.
    #[must_use]
    pub fn donate(&self, request: &Request, transfer: Transfer<'_>) -> Donating<'_> {
        let mut command = self.command(&command::donor(self.known(), request, transfer));
        let held = self.donor_input(request, &mut command);
        let script = Script::start(&mut command, self.kind().donor_buffer(), held);
        let writer = Writer::start(self.kind(), self.datadir());
        Donating {
            server: self,
            script,
            writer,
            is_locked: false,
            progress: 0,
            files: BTreeMap::new(),
        }
    }

    /// Environment and standard input, by which credentials reach the script (contract 1.5 to 1.8).
    fn donor_input(&self, request: &Request, command: &mut Command) -> Option<OwnedFd> {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        command.stdin(Stdio::from(reader));
        let own = |user: &str| format!("sst_user={user}\nsst_password=yx9!A-{}\n", "q".repeat(26));
        match self.kind().credentials() {
            Credentials::Environment => {
                command.env("WSREP_SST_OPT_AUTH", "");
                command.env("WSREP_SST_OPT_REMOTE_AUTH", request.auth().unwrap_or_default());
                return Some(writer.into());
            }
            Credentials::Input => {
                let (user, token) = request.auth().and_then(|a| a.split_once(':')).expect("auth");
                let remote = format!("sst_remote_user={user}\nsst_remote_password={token}\n");
                write_late(writer.into(), own(&self.account) + &remote, ACCOUNT);
            }
            Credentials::Nowhere => {
                write_late(writer.into(), own("mysql.pxc.sst.user"), Duration::ZERO);
            }
        }
        None
    }
}

/// Writes to the script's standard input and closes it.
fn write_late(input: OwnedFd, text: String, late: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(late);
        // The script may have ended, or may not care.
        let _unread = File::from(input).write_all(text.as_bytes());
    });
}

impl Donating<'_> {
    /// Reads the next line that the server acts on; panics at one that it would not know.
    pub fn next_step(&mut self) -> Option<Step> {
        loop {
            let line = self.script.line()?;
            match line.to_ascii_lowercase().as_str() {
                "flush tables" => return Some(Step::Flush),
                "continue" => return Some(Step::Continue),
                progress if progress.starts_with("total ") || progress.starts_with("complete ") => {
                    let kind = self.server.kind();
                    assert!(kind.reads_progress(), "{kind:?} fails at {line:?}");
                    self.progress += 1;
                    let number = progress.split(' ').nth(1).map(str::parse::<u64>);
                    assert!(matches!(number, Some(Ok(_))), "{line:?}");
                }
                _ => {
                    let position = line.strip_prefix("done ");
                    let position = position.unwrap_or_else(|| panic!("unknown signal {line:?}"));
                    return Some(Step::Done(position.to_owned()));
                }
            }
        }
    }

    /// Expects this line and nothing else.
    pub fn expect(&mut self, step: &Step) {
        match self.next_step() {
            Some(found) => assert_eq!(found, *step),
            None => panic!("the script ended instead of {step:?}: {:#?}", self.script.wait()),
        }
    }

    /// `flush tables`: locks, stops writing and says so, in the order of this server.
    pub fn lock(&mut self) {
        assert!(!self.is_locked, "locked twice");
        self.is_locked = true;
        let writes_on = match self.server.kind() {
            Kind::MariaDb105 | Kind::MariaDb1011 | Kind::MariaDb118 => {
                self.writer.stop(Stop::Now);
                self.files = self.server.files();
                self.answer(&format!("{POSITION} 7\n\n"));
                std::thread::sleep(ANSWERS);
                self.answer(&format!("{POSITION} 7\n"));
                return;
            }
            Kind::MysqlWsrep80 | Kind::MysqlWsrep80Late => {
                self.writer.stop(Stop::Now);
                self.answer(&format!("{POSITION} {LOCAL_GTID} 9\n"));
                Duration::ZERO
            }
            Kind::Pxc80 | Kind::Pxc84 => {
                self.answer(&format!("{POSITION}\n"));
                LATE_WRITES
            }
        };
        std::thread::sleep(writes_on);
        self.writer.stop(Stop::Now);
        self.files = self.server.files();
    }

    fn answer(&self, text: &str) {
        let path = |name: &str| -> PathBuf { self.server.datadir().join(name) };
        fs::write(path("tables_flushed.tmp"), text).expect("an answer");
        fs::rename(path("tables_flushed.tmp"), path("tables_flushed")).expect("an answer");
    }

    /// `flush tables`, which fails: MariaDB says so by a file.
    pub fn fail_to_lock(&self) {
        fs::write(self.server.datadir().join("sst_error"), "").expect("an answer");
    }

    /// `continue`: writes go on.
    pub fn unlock(&mut self) {
        assert!(self.is_locked, "continue without a lock");
        self.is_locked = false;
        self.writer.stop(Stop::NoMore);
    }

    /// Plays the whole dialogue.
    pub fn serve(mut self) -> Sent {
        let mut position = None;
        while let Some(step) = self.next_step() {
            match step {
                Step::Flush => self.lock(),
                Step::Continue => self.unlock(),
                Step::Done(done) => {
                    position = Some(done);
                    break;
                }
            }
        }
        let script = self.script.wait();
        let mut files = std::mem::take(&mut self.files);
        files.retain(|name, _| !name.starts_with("tables_flushed") && name != "wsrep_sst.pid");
        Sent { position, progress: self.progress, script, files }
    }

    /// Percona's server cancels the transfer.
    pub fn cancel(mut self) -> Ended {
        self.script.terminate_group();
        let ended = self.script.wait();
        self.script.assert_group_is_gone();
        ended
    }

    /// Waits for the script, which shall end by itself.
    pub fn wait(&mut self) -> Ended {
        self.script.wait()
    }

    /// The server dies.
    pub fn die(mut self) -> Ended {
        self.script.close();
        self.script.wait()
    }
}
