//! The joiner's server: starts the script, takes the request, waits for the position.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use super::kind::Kind;
use super::script::{Ended, Script};
use super::{Request, Server, command};

/// Buffer of `fgets` in every server's joiner (contract 2.1).
const BUFFER: usize = 512;

/// Where the text of the request begins in the first line.
const TEXT: usize = 6;

/// A joiner's server while its script runs.
#[derive(Debug)]
pub struct Joining {
    kind: Kind,
    script: Script,
    progress: usize,
}

/// How the server sees the end of it.
#[derive(Debug)]
pub struct Joined {
    /// The position, if the server takes the transfer for a success.
    pub position: Option<String>,
    /// Lines about progress before it.
    pub progress: usize,
    /// The script's end.
    pub script: Ended,
}

impl Server {
    /// Starts the joiner's script, to be reached at this address.
    #[must_use]
    pub fn join(&self, address: &str) -> Joining {
        let mut command = self.command(&command::joiner(self.known(), address));
        let held = joiner_input(self.kind(), &mut command);
        let script = Script::start(&mut command, BUFFER, held);
        Joining { kind: self.kind(), script, progress: 0 }
    }
}

/// Standard input: Percona's server closes it at once, others leave what they have themselves: a pipe
/// that nobody writes to.
fn joiner_input(kind: Kind, command: &mut Command) -> Option<OwnedFd> {
    if kind.is_pxc() {
        command.stdin(File::open("/dev/null").expect("/dev/null"));
        return None;
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    command.stdin(Stdio::from(reader));
    Some(writer.into())
}

impl Joining {
    /// Reads the first line; panics where the server would not go on.
    pub fn request(&mut self) -> Request {
        let Some(line) = self.script.line() else {
            panic!("failed to read 'ready <addr>': {:#?}", self.script.wait())
        };
        assert!(line.to_ascii_lowercase().starts_with("ready") && line.len() > TEXT, "{line:?}");
        Request::new(self.kind, &line[TEXT..])
    }

    /// Reads on until the script has ended, by the server's rules.
    pub fn finish(mut self) -> Joined {
        let last = self.last_line();
        let script = self.script.wait();
        // Only Percona's server looks at the exit code after the position.
        let heeds_code = self.kind.is_pxc();
        let position = last.filter(|line| {
            assert!(is_position(self.kind, line), "{:?} cannot parse {line:?}", self.kind);
            !heeds_code || script.code == Some(0)
        });
        Joined { position, progress: self.progress, script }
    }

    fn last_line(&mut self) -> Option<String> {
        let mut complete = 0;
        loop {
            let line = self.script.line()?;
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                [word @ ("total" | "complete"), number] => {
                    assert!(self.kind.reads_progress(), "{:?} fails at {line:?}", self.kind);
                    self.progress += 1;
                    let number: u64 = number.parse().expect("a number of bytes");
                    assert!(word == "total" || number > complete, "{line:?} goes backwards");
                    complete = if word == "total" { 0 } else { number };
                }
                _ => return Some(line),
            }
        }
    }

    /// Percona's server cancels the transfer.
    pub fn cancel(mut self) -> Ended {
        self.script.terminate_group();
        let ended = self.script.wait();
        self.script.assert_group_is_gone();
        ended
    }

    /// The server dies: its end of the pipes is closed, and so is its process.
    pub fn die(mut self, server: &mut Server) -> Ended {
        self.script.close();
        server.restart();
        self.script.wait()
    }
}

/// `UUID:seqno`, and behind it what this server understands.
fn is_position(kind: Kind, line: &str) -> bool {
    let mut words = line.split(' ');
    let is_gtid = |word: &str| {
        word.split_once(':').is_some_and(|(uuid, seqno)| {
            uuid.len() == 36 && uuid.split('-').count() == 5 && seqno.parse::<i64>().is_ok()
        })
    };
    let first = words.next().is_some_and(is_gtid);
    let rest: Vec<&str> = words.collect();
    let is_number = |word: &str| word.parse::<u32>().is_ok();
    first
        && match (kind, &rest[..]) {
            (Kind::Pxc80 | Kind::Pxc84, []) => true,
            (Kind::MysqlWsrep80 | Kind::MysqlWsrep80Late, [local, id]) => {
                is_gtid(local) && is_number(id)
            }
            (Kind::MariaDb105 | Kind::MariaDb1011 | Kind::MariaDb118, [domain]) => {
                is_number(domain)
            }
            _ => false,
        }
}
