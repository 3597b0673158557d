//! A script while it runs: the pipes that a server has to it.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::cluster::process::members;
use crate::wait::{LOOK, until};

/// Longest wait for a line or an end that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a script that nobody needs any more may take to notice that.
const LEFT_ALONE: Duration = Duration::from_secs(5);

/// The program, and what stands between it and the server.
#[derive(Debug)]
pub struct Script {
    child: Child,
    /// `None` once the server has closed its end.
    stdout: Option<ChildStdout>,
    /// What is read and not yet taken.
    ahead: Vec<u8>,
    /// Size of the server's buffer for a line.
    buffer: usize,
    log: Option<JoinHandle<String>>,
    /// Standard input that nobody writes to and nobody closes.
    _stdin: Option<OwnedFd>,
}

/// How a script ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// The signal.
    pub signal: Option<i32>,
    /// Everything on standard error.
    pub log: String,
    /// From the call that waited.
    pub took: Duration,
}

impl Script {
    /// Starts it; the input is what the server holds of its standard input, if anything.
    pub(super) fn start(command: &mut Command, buffer: usize, stdin: Option<OwnedFd>) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut stderr = child.stderr.take().expect("piped");
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).expect("the log is UTF-8");
            text
        });
        let stdout = child.stdout.take();
        Self { child, stdout, ahead: Vec::new(), buffer, log: Some(log), _stdin: stdin }
    }

    /// What `fgets` gives the server: the next line, or `None` at the end. A line that does not fit
    /// would be taken for two, and half a line for a whole one.
    pub(super) fn line(&mut self) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.ahead.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.ahead.drain(..=end).collect();
                assert!(line.len() < self.buffer, "{} bytes do not fit the buffer", line.len());
                let text = String::from_utf8(line).expect("lines are plain text");
                return Some(text.trim_end_matches('\n').to_owned());
            }
            let stdout = self.stdout.as_mut().expect("the server reads");
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(stdout, PollFlags::IN)], Some(&left));
            if ready == Ok(0) {
                let ended = self.kill();
                panic!("no line for {PATIENCE:?}: {ended:#?}");
            }
            let mut part = [0; 512];
            let got = stdout.read(&mut part).expect("a pipe can be read");
            if got == 0 {
                assert!(self.ahead.is_empty(), "half a line: {:?}", self.ahead);
                return None;
            }
            self.ahead.extend_from_slice(&part[..got]);
        }
    }

    /// The server is gone: it does not read any more.
    pub(super) fn close(&mut self) {
        self.stdout = None;
        self._stdin = None;
    }

    /// What Percona's server does to stop a script.
    pub(super) fn terminate_group(&self) {
        let group = Pid::from_raw(self.child.id().cast_signed()).expect("a process");
        kill_process_group(group, Signal::TERM).expect("the group is there");
    }

    /// Fails if a process of the group is left after a moment.
    pub(super) fn assert_group_is_gone(&self) {
        let group = self.child.id();
        until("the whole group ends", LEFT_ALONE, || members(group).is_empty().then_some(()));
    }

    /// Waits for its end; whatever it still prints is an error.
    pub(super) fn wait(&mut self) -> Ended {
        let started = Instant::now();
        if self.stdout.is_some() {
            let more = self.line();
            assert_eq!(more, None, "more lines than the server expects");
        }
        let status =
            until("the script ends", PATIENCE, || self.child.try_wait().expect("it is ours"));
        let took = started.elapsed();
        let log = self.log.take().map(|log| log.join().expect("it reads")).unwrap_or_default();
        Ended { code: status.code(), signal: status.signal(), log, took }
    }

    fn kill(&mut self) -> Ended {
        self.child.kill().expect("it is ours");
        self.close();
        std::thread::sleep(LOOK);
        self.wait()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // A script notices that nobody reads, and ends by itself; what is left of a failed test must
        // not outlive it by much.
        self.close();
        let deadline = Instant::now() + LEFT_ALONE;
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if Instant::now() > deadline {
                // It may end at this very moment.
                let _ended = self.child.kill();
                let _reaped = self.child.wait();
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Ended {
    /// Fails unless it ended with this exit code and this error as its last line.
    pub fn assert_failed(&self, exit_code: i32, error: &str) {
        assert_eq!(self.code, Some(exit_code), "{self:#?}");
        let last = self.log.lines().last().unwrap_or_default();
        let is_error = last.contains("[ERROR] ") || last.starts_with("ERR:");
        assert!(is_error && last.contains(error), "{error}: {self:#?}");
    }

    /// Fails unless the log has this text.
    pub fn assert_says(&self, text: &str) {
        assert!(self.log.contains(text), "{text}: {self:#?}");
    }
}
