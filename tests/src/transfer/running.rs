//! A process whose output and memory are watched.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{LOOK, until};

/// What a process has said so far.
type Said = Arc<Mutex<Vec<u8>>>;

/// A running process; killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    name: &'static str,
    child: Child,
    stdout: Said,
    stderr: Said,
    peak_kib: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// Which one it was.
    pub name: &'static str,
    /// How.
    pub status: ExitStatus,
    /// What it printed; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// What it logged.
    pub stderr: String,
    /// Largest resident memory. Unit: KiB.
    pub peak_kib: u64,
}

impl Running {
    /// Starts a program; `input` is what it can read from standard input.
    pub(super) fn start(name: &'static str, command: &mut Command, input: &str) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        // Short enough for a pipe; a program that does not read it may be gone already.
        drop(child.stdin.take().expect("piped").write_all(input.as_bytes()));
        let (stdout, stderr, peak_kib) = (Said::default(), Said::default(), Arc::default());
        let threads = vec![
            listen(child.stdout.take().expect("piped"), &stdout),
            listen(child.stderr.take().expect("piped"), &stderr),
            watch_memory(child.id(), &peak_kib),
        ];
        Self { name, child, stdout, stderr, peak_kib, threads }
    }

    /// The first line it prints.
    pub fn first_line(&mut self, limit: Duration) -> String {
        until(&format!("{} prints a line", self.name), limit, || {
            let said = text(&self.stdout);
            let line = said.split_once('\n').map(|(line, _)| line.to_owned());
            if line.is_none() && self.has_ended() {
                panic!("{} ended:\n{}", self.name, text(&self.stderr));
            }
            line
        })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        text(&self.stderr)
    }

    /// Waits until it has logged something.
    pub fn wait_logged(&self, words: &str, limit: Duration) {
        let start = Instant::now();
        while !self.log().contains(words) {
            assert!(start.elapsed() < limit, "{}: no {words:?} in\n{}", self.name, self.log());
            thread::sleep(LOOK);
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // A child that is not waited for keeps its number.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill9(&mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }

    /// Waits for its end; kills it and panics after `limit`.
    #[must_use]
    pub fn wait(mut self, limit: Duration) -> Ended {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                break status;
            }
            if start.elapsed() > limit {
                self.kill9();
                panic!("{}: not ended within {limit:?}\n{}", self.name, self.log());
            }
            thread::sleep(Duration::from_millis(2));
        };
        for thread in self.threads.drain(..) {
            thread.join().expect("a watching thread");
        }
        Ended {
            name: self.name,
            status,
            stdout: text(&self.stdout),
            stderr: text(&self.stderr),
            peak_kib: self.peak_kib.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already, or it has to go: either is fine.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Ended {
    /// Whether it ended with 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status.success()
    }

    /// It ended with 0 and logged no error.
    pub fn assert_success(&self) {
        assert!(self.is_success(), "{self}");
        assert_eq!(self.errors().len(), 0, "{self}");
    }

    /// It ended with this exit code after exactly one error, the last line, which begins with this
    /// code and has some words.
    pub fn assert_failed(&self, code: &str, exit: i32) {
        self.assert_failed_one_of(&[(code, exit)]);
    }

    /// As [`Self::assert_failed`], with one of several codes and their exit codes.
    pub fn assert_failed_one_of(&self, accepted: &[(&str, i32)]) {
        let errors = self.errors();
        assert_eq!(errors.len(), 1, "one error: {self}");
        let fits = |(code, exit): &(&str, i32)| {
            // With `-v` the line also names the module.
            let line = errors[0].trim_start_matches("ERROR ").trim_start_matches("fastsst: ");
            self.status.code() == Some(*exit) && line.starts_with(&format!("{code} "))
        };
        assert!(accepted.iter().any(fits), "not one of {accepted:?}: {self}");
        assert_eq!(self.stderr.lines().next_back(), Some(errors[0]), "the last line: {self}");
        assert!(errors[0].len() > 20, "says what failed: {self}");
        assert!(!self.stderr.contains("panicked"), "{self}");
    }

    /// Its resident memory stayed below the promised limit.
    pub fn assert_small(&self) {
        const LIMIT_KIB: u64 = 400 << 10;
        assert!(self.peak_kib > 0, "{}: its memory was never seen", self.name);
        assert!(self.peak_kib < LIMIT_KIB, "{}: {} KiB", self.name, self.peak_kib);
    }

    fn errors(&self) -> Vec<&str> {
        self.stderr.lines().filter(|line| line.starts_with("ERROR ")).collect()
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, status, stdout, stderr, .. } = self;
        match status.signal() {
            Some(signal) => write!(f, "{name} was killed by signal {signal}"),
            None => write!(f, "{name} ended with {:?}", status.code()),
        }?;
        write!(f, "\n{stdout}{stderr}")
    }
}

fn listen(mut from: impl Read + Send + 'static, said: &Said) -> JoinHandle<()> {
    let said = Arc::clone(said);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            said.lock().expect("no holder panics").extend_from_slice(&buffer[..read]);
        }
    })
}

/// Follows the kernel's high-water mark until the process has given its memory back.
fn watch_memory(pid: u32, peak_kib: &Arc<AtomicU64>) -> JoinHandle<()> {
    let peak_kib = Arc::clone(peak_kib);
    thread::spawn(move || {
        loop {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let mark = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let Some(mark) = mark.and_then(|mark| mark.split_whitespace().next()) else { return };
            peak_kib.fetch_max(mark.parse().expect("a number"), Ordering::Relaxed);
            thread::sleep(LOOK);
        }
    })
}

fn text(said: &Said) -> String {
    String::from_utf8_lossy(&said.lock().expect("no holder panics")).into_owned()
}
