//! A steady stream of small commits on one node, and how long it ever had to wait.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Node;
use super::sql::client;

/// Pause between two inserts.
const PAUSE: Duration = Duration::from_millis(5);

/// The load ends by itself after this. Why: no test runs longer.
const LIFE: Duration = Duration::from_secs(300);

/// What the load has seen.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Inserts that were committed.
    pub commits: u64,
    /// Inserts that the server refused.
    pub refused: u64,
    /// Longest time between two commits that follow each other.
    pub longest_stall: Duration,
}

#[derive(Debug)]
struct State {
    stop: bool,
    seen: Seen,
    last_commit: Instant,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// One client that inserts a row every few milliseconds over one connection.
#[derive(Debug)]
pub struct WriteLoad {
    shared: Arc<Shared>,
    client: Child,
    thread: Option<JoinHandle<()>>,
}

impl WriteLoad {
    /// Starts writing on a node and returns after the first commit.
    #[must_use]
    pub fn on(node: &Node) -> Self {
        node.sql(
            "CREATE DATABASE IF NOT EXISTS written;
             CREATE TABLE IF NOT EXISTS written.t (id BIGINT AUTO_INCREMENT PRIMARY KEY,
             at DATETIME(6) NOT NULL DEFAULT NOW(6), pad CHAR(100) NOT NULL) ENGINE=InnoDB",
        );
        let mut client = client(&node.socket())
            // --force: go on after an error; --unbuffered: answer at once.
            .args(["--force", "--unbuffered", "--skip-reconnect"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the client starts");
        let (input, output) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
        let now = Instant::now();
        let seen = Seen { commits: 0, refused: 0, longest_stall: Duration::ZERO };
        let state = State { stop: false, seen, last_commit: now };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || write(&theirs, input, BufReader::new(output)));
        let load = Self { shared, client, thread: Some(thread) };
        load.wait_commit_after(now, Duration::from_secs(20));
        load
    }

    /// Waits for a commit that is later than `moment`; returns how much later it came.
    pub fn wait_commit_after(&self, moment: Instant, limit: Duration) -> Duration {
        let state = self.shared.lock();
        let (state, late) = self
            .shared
            .changed
            .wait_timeout_while(state, limit, |state| {
                state.seen.commits == 0 || state.last_commit <= moment
            })
            .expect("the writer does not panic");
        let (seen, last_commit) = (state.seen, state.last_commit);
        drop(state);
        assert!(!late.timed_out(), "no write was committed within {limit:?}: {seen:?}");
        last_commit.duration_since(moment)
    }

    /// Waits until no write has been committed for `time`: the node is frozen.
    pub fn wait_stalled(&self, time: Duration, limit: Duration) {
        crate::wait::until("writes stall", limit, || {
            (self.shared.lock().last_commit.elapsed() >= time).then_some(())
        });
    }

    /// What was seen so far, a stall that has not ended included.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let state = self.shared.lock();
        let longest_stall = state.seen.longest_stall.max(state.last_commit.elapsed());
        Seen { longest_stall, ..state.seen }
    }

    /// Stops writing; every write that was answered is committed.
    #[must_use]
    pub fn stop(mut self) -> Seen {
        let seen = self.seen();
        self.end();
        seen
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shared.lock().stop = true;
            self.shared.changed.notify_all();
            let patience = Instant::now() + Duration::from_secs(10);
            while !thread.is_finished() && Instant::now() < patience {
                thread::sleep(Duration::from_millis(5));
            }
            // A client that waits for a server that does not answer; its thread sees EOF now.
            drop(self.client.kill());
            drop(self.client.wait());
            drop(thread.join());
        }
    }
}

impl Drop for WriteLoad {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the writer does not panic")
    }
}

/// The thread: one insert, one answer, a pause; until told to stop, or the client is gone.
fn write(shared: &Shared, mut input: ChildStdin, output: impl BufRead) {
    let born = Instant::now();
    // ROW_COUNT() is 1 after the insert, and -1 after an error.
    let statement = "INSERT INTO written.t (pad) VALUES (UUID()); SELECT ROW_COUNT();\n";
    let mut answers = output.lines();
    while born.elapsed() < LIFE {
        if input.write_all(statement.as_bytes()).is_err() {
            return;
        }
        let Some(Ok(answer)) = answers.next() else { return };
        let mut state = shared.lock();
        if answer == "1" {
            let now = Instant::now();
            let stall = now.duration_since(state.last_commit);
            // The first commit comes after the time the client took to connect: not a stall.
            if state.seen.commits > 0 {
                state.seen.longest_stall = state.seen.longest_stall.max(stall);
            }
            state.seen.commits += 1;
            state.last_commit = now;
            shared.changed.notify_all();
        } else {
            state.seen.refused += 1;
        }
        let (state, _) = shared
            .changed
            .wait_timeout_while(state, PAUSE, |state| !state.stop)
            .expect("the owner does not panic");
        if state.stop {
            return;
        }
    }
}
