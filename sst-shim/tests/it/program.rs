//! A stand-in for a server: its directories, and the program it starts.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longest wait for anything that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_wsrep_sst_fastsst");

/// The datadir and option file of a node.
pub(crate) struct Node {
    directory: TempDir,
}

impl Node {
    /// An empty datadir and an option file with this text.
    pub(crate) fn new(config: &str) -> Self {
        let node = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(node.datadir()).unwrap();
        fs::write(node.config(), config).unwrap();
        node
    }

    pub(crate) fn datadir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("my.cnf")
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file below the datadir.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.datadir().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Every file below the datadir with its content; directories end in a slash. What the engine
    /// keeps for itself is left out.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.datadir(), "", &mut files);
        files.retain(|path, _| !path.starts_with(".fastsst"));
        files
    }

    /// The server's answer to `flush tables`.
    pub(crate) fn answer(&self, position: &str) {
        let temporary = self.datadir().join("tables_flushed.tmp");
        fs::write(&temporary, format!("{position}\n\n")).unwrap();
        fs::rename(temporary, self.datadir().join("tables_flushed")).unwrap();
    }

    pub(crate) fn assert_no_markers(&self) {
        for name in ["sst_in_progress", "wsrep_sst.pid", "tables_flushed", "sst_error"] {
            assert!(!self.datadir().join(name).exists(), "{name} is left");
        }
    }

    /// The joiner's command, on a port of its own.
    pub(crate) fn joiner(&self, port: u16) -> Command {
        let mut command = self.command("joiner", &format!("127.0.0.1:{port}"));
        command.args(["--parent", &std::process::id().to_string(), "--progress", "0"]);
        command
    }

    /// The donor's command.
    pub(crate) fn donor(&self, address: &str) -> Command {
        let mut command = self.command("donor", address);
        command.args(["--local-port", "3306", "--socket", "/nonexistent", "--progress", "0"]);
        command.args(["--gtid", POSITION_OF_JOINER, "--gtid-domain-id", "7"]);
        command
    }

    fn command(&self, role: &str, address: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["--role", role, "--address", address, "--datadir"]);
        command.arg(format!("{}/", self.datadir().display()));
        command.arg("--defaults-file").arg(self.config());
        command.env_remove("WSREP_SST_OPT_REMOTE_AUTH").current_dir(self.datadir());
        command
    }
}

/// What a donor's server passes for a bypass.
pub(crate) const POSITION_OF_JOINER: &str = "61e1e4b5-9b5c-11ef-8a1c-0242ac110002:12";

/// A port nobody has, neither for UDP nor for TCP.
pub(crate) fn free_port() -> u16 {
    for _ in 0..100 {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

fn collect(directory: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files.insert(format!("{name}/"), Vec::new());
            collect(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

/// The program while it runs; killed when dropped.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    log: Option<JoinHandle<String>>,
}

/// The program after it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// Lines on standard output that nobody has read.
    pub(crate) lines: Vec<String>,
    pub(crate) log: String,
    /// How long it took from the call that waited.
    pub(crate) took: Duration,
}

impl Program {
    /// Starts it with nothing on standard input.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_with(command.stdin(Stdio::null()))
    }

    /// Starts it with standard input as the command has it.
    pub(crate) fn start_with(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines() {
                if sender.send(line.unwrap()).is_err() {
                    break; // nobody reads any more: the pipe closes
                }
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        Self { child, lines, log: Some(log) }
    }

    /// The next line on standard output.
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => panic!("no line: {:#?}", self.wait()),
            Err(RecvTimeoutError::Timeout) => {
                self.signal(Signal::KILL);
                panic!("no line for {PATIENCE:?}: {:#?}", self.wait())
            }
        }
    }

    pub(crate) fn expect(&mut self, line: &str) {
        assert_eq!(self.line(), line);
    }

    /// The address in the joiner's `ready` line, as the server cuts it: credentials, place.
    pub(crate) fn ready(&mut self) -> (String, String) {
        let line = self.line();
        let request = line.strip_prefix("ready ").unwrap();
        let (credentials, place) = request.rsplit_once('@').unwrap();
        (credentials.to_owned(), place.to_owned())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Closes the reading end of standard output, as a server that ends does.
    pub(crate) fn close_stdout(command: &mut Command) -> (Child, String) {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        drop(stdout);
        (child, line)
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Ended {
        let started = Instant::now();
        let status = wait_child(&mut self.child);
        let log = self.log.take().unwrap().join().unwrap();
        Ended {
            code: status.code(),
            signal: status.signal(),
            lines: self.lines.iter().collect(),
            log,
            took: started.elapsed(),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Waits for a child, but not for ever.
pub(crate) fn wait_child(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() >= deadline {
            child.kill().unwrap();
            panic!("the program did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Ended {
    /// Checks the code of the process and of the last log line, and that the server got no line
    /// that it could take for success.
    pub(crate) fn assert_failed(&self, exit_code: i32, error: &str) {
        assert_eq!(self.code, Some(exit_code), "{self:#?}");
        let last = self.log.lines().last().unwrap();
        assert!(last.starts_with(&format!("WSREP_SST: [ERROR] {error} ")), "{self:#?}");
        let is_final = |line: &String| line.starts_with("done") || line.starts_with("61e1e4b5");
        assert!(!self.lines.iter().any(is_final), "{self:#?}");
    }

    pub(crate) fn assert_says(&self, text: &str) {
        assert!(self.log.contains(text), "{text}: {self:#?}");
    }
}
