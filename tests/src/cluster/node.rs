//! One server of a cluster: its files, its process, its log.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::config::{Method, Options, Ports};
use super::guard::Guard;
use super::machine::{as_root, copy, give, install_datadir, program};
use super::process::{self, ProcessId};
use super::server::Server;
use super::spread;
use super::sql::{self, Rows};
use crate::wait::{ASK, run, until, until_every};

/// A server that was told to stop, with at most some hundred MiB to flush.
const SHUTDOWN: Duration = Duration::from_secs(60);

/// A server that was killed.
const DEATH: Duration = Duration::from_secs(10);

/// Crash recovery of a small datadir.
const RECOVERY: Duration = Duration::from_secs(60);

/// Files of a datadir that an SST needs while it runs, and that must be gone afterwards.
const MARKERS: [&str; 8] = [
    ".fastsst",
    "sst_in_progress",
    "tables_flushed",
    "tables_flushed.tmp",
    "sst_error",
    "wsrep_sst.pid",
    "rsync_sst.pid",
    "rsync_sst_complete",
];

/// One node; all methods that change it take `&self`, so a test can hold several nodes.
#[derive(Debug)]
pub struct Node {
    name: String,
    base: PathBuf,
    directory: PathBuf,
    ports: Ports,
    method: Method,
    server: Server,
    mounts: Vec<(PathBuf, PathBuf)>,
    guard: Arc<Guard>,
    state: Mutex<State>,
}

/// What a cluster decides about a node.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) base: PathBuf,
    pub(super) ports: Ports,
    pub(super) method: Method,
    pub(super) server: Server,
    pub(super) options: Options,
    pub(super) arguments: Vec<String>,
    /// What only this node sees: a directory, and where.
    pub(super) mounts: Vec<(PathBuf, PathBuf)>,
}

/// Puts directories over others for itself alone, then becomes the program behind `--`.
const MOUNT: &str = r#"while [ "$1" != -- ]; do mount --bind "$1" "$2" && shift 2 || exit; done
shift; exec "$@""#;

#[derive(Debug)]
struct State {
    options: Options,
    arguments: Vec<String>,
    server: Option<Started>,
    orphans: Vec<Orphans>,
}

#[derive(Debug)]
struct Started {
    child: Child,
    id: ProcessId,
    started: Instant,
}

/// What a server that ended left in its process group.
#[derive(Debug)]
struct Orphans {
    group: u32,
    members: Vec<ProcessId>,
}

/// A place in the error log: everything before it is older.
#[derive(Debug, Clone, Copy)]
pub struct LogMark(u64);

impl Node {
    pub(super) fn prepare(plan: Plan, guard: Arc<Guard>) -> Self {
        let directory = plan.base.join(&plan.name);
        for path in [directory.clone(), directory.join("data"), directory.join("tmp")] {
            fs::create_dir(path).unwrap();
        }
        File::create(directory.join("error.log")).unwrap();
        give(&directory);
        let (options, arguments) = (plan.options, plan.arguments);
        let state = State { options, arguments, server: None, orphans: Vec::new() };
        Self {
            name: plan.name,
            base: plan.base,
            directory,
            ports: plan.ports,
            method: plan.method,
            mounts: plan.mounts,
            server: plan.server,
            guard,
            state: Mutex::new(state),
        }
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node's data directory.
    #[must_use]
    pub fn datadir(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The socket that clients use.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.join("sock")
    }

    /// The port that the SST script listens on.
    #[must_use]
    pub fn sst_port(&self) -> u16 {
        self.ports.sst
    }

    /// The port of SQL clients.
    #[must_use]
    pub fn client_port(&self) -> u16 {
        self.ports.client
    }

    /// The port of Galera's group communication.
    #[must_use]
    pub fn group_port(&self) -> u16 {
        self.ports.group
    }

    /// Makes the datadir of a node that does not run a copy of this directory.
    pub fn adopt_datadir(&self, from: &Path) {
        self.wipe_datadir();
        copy(&from.join("."), &self.datadir());
        give(&self.datadir());
    }

    /// Makes the datadir what `mariadb-install-db` makes; without this it is empty.
    pub fn install_datadir(&self) {
        install_datadir(self.server, &self.datadir(), (&self.base, &self.directory));
        let state = self.state();
        spread::out(&self.datadir(), |option| {
            let argument = format!("--{option}=");
            let given = state.arguments.iter().find_map(|it| it.strip_prefix(&argument));
            given.or_else(|| state.options.value(option)).map(str::to_owned)
        });
    }

    /// Empties the datadir of a node that does not run.
    pub fn wipe_datadir(&self) {
        assert!(!self.is_running(), "{} runs", self.name);
        fs::remove_dir_all(self.datadir()).unwrap();
        fs::create_dir(self.datadir()).unwrap();
        give(&self.datadir());
    }

    /// Sets an option for the next start; SST scripts read it at once.
    pub fn set_option(&self, group: &str, name: &str, value: &str) {
        self.state().options.set(group, name, value);
        self.write_config();
    }

    /// Takes an option back.
    pub fn remove_option(&self, group: &str, name: &str) {
        self.state().options.remove(group, name);
        self.write_config();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    fn config(&self) -> PathBuf {
        self.directory.join("my.cnf")
    }

    fn write_config(&self) {
        fs::write(self.config(), self.state().options.to_text()).unwrap();
        give(&self.config());
    }
}

/// Starting and stopping.
impl Node {
    /// Starts the server and returns at once; [`Node::wait_synced`] waits for it.
    pub fn start(&self) {
        self.spawn(&[]);
    }

    /// Starts the server as the first member of a new cluster.
    pub fn bootstrap(&self) {
        let grastate = self.datadir().join("grastate.dat");
        if let Ok(text) = fs::read_to_string(&grastate) {
            fs::write(&grastate, text.replace("safe_to_bootstrap: 0", "safe_to_bootstrap: 1"))
                .unwrap();
        }
        self.spawn(&["--wsrep-new-cluster"]);
    }

    fn spawn(&self, arguments: &[&str]) {
        assert!(!self.is_running(), "{} runs already", self.name);
        self.write_config();
        let log = OpenOptions::new().append(true).open(self.log_file()).unwrap();
        let mut child = self
            .server_command()
            .args(arguments)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("mariadbd starts");
        let group = child.id();
        self.guard.watch(group);
        let Some(found) = process::look(group) else {
            let status = child.wait();
            panic!("{}: mariadbd ended at once: {status:?}", self.name);
        };
        let server = Started { child, id: found.id, started: Instant::now() };
        self.state().server = Some(server);
    }

    fn server_command(&self) -> Command {
        let mut command = self.in_mounts(self.server.command("mariadbd", &self.base));
        command.arg(format!("--defaults-file={}", self.config().display()));
        let arguments = self.state().arguments.clone();
        // The server looks for these in front only.
        let (first, rest): (Vec<_>, Vec<_>) =
            arguments.iter().partition(|argument| argument.starts_with("--defaults-"));
        command.args(first);
        if as_root() {
            command.arg("--user=mysql");
        }
        command.args(rest);
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}/bin:{path}:/usr/sbin:/sbin", self.base.display()))
            .current_dir(&self.directory)
            .stdin(Stdio::null());
        command
    }

    /// The same command, for which this node's directories are mounted.
    fn in_mounts(&self, inner: Command) -> Command {
        if self.mounts.is_empty() {
            return inner;
        }
        let mut command = Command::new(program("unshare"));
        command.args(["--mount", "--propagation", "private", "--", "sh", "-c", MOUNT, "sh"]);
        for (place, at) in &self.mounts {
            command.arg(place).arg(at);
        }
        command.arg("--").arg(inner.get_program()).args(inner.get_args());
        command
    }

    /// Whether the server runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.collect().is_none() && self.state().server.is_some()
    }

    /// Takes the exit status of a server that has ended, and notes what it left behind.
    fn collect(&self) -> Option<ExitStatus> {
        let mut state = self.state();
        let server = state.server.as_mut()?;
        if server.id.alive() {
            return None;
        }
        let group = server.id.pid;
        // Not collected yet, so the group's number is still ours.
        let members = process::members(group);
        let status = server.child.wait().unwrap();
        state.server = None;
        if members.is_empty() {
            self.guard.forget(group);
        } else {
            state.orphans.push(Orphans { group, members });
        }
        Some(status)
    }

    /// Waits until the server has ended by itself.
    pub fn wait_exit(&self, limit: Duration) -> ExitStatus {
        assert!(self.state().server.is_some(), "{} has ended before", self.name);
        until(&format!("{} ends", self.name), limit, || self.collect())
    }

    /// Stops the server in order.
    pub fn stop(&self) {
        self.server_id().signal(Signal::TERM);
        let status = self.wait_exit(SHUTDOWN);
        assert!(status.success(), "{}: {status}", self.name);
    }

    /// Kills the server alone with SIGKILL; an SST script of it goes on as an orphan.
    pub fn kill9(&self) {
        self.server_id().kill9();
        self.wait_exit(DEATH);
    }

    /// Stops the server and starts it again.
    pub fn restart(&self) {
        self.stop();
        self.start();
    }

    fn server_id(&self) -> ProcessId {
        self.state().server.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name)).id
    }

    /// Ends everything that this node ever started. For the end of a test: does not panic.
    pub(super) fn sweep(&self) {
        let Ok(mut state) = self.state.lock() else { return };
        if let Some(server) = state.server.take() {
            let orphans = Orphans { group: server.id.pid, members: vec![server.id] };
            kill_group(&orphans);
            let mut child = server.child;
            drop(child.wait());
        }
        for orphans in state.orphans.drain(..) {
            kill_group(&orphans);
        }
    }

    /// What `mariadbd --wsrep_recover`, which units run before every start, says.
    #[must_use]
    pub fn recovered_position(&self) -> String {
        assert!(!self.is_running(), "{} runs", self.name);
        self.write_config();
        let log = self.directory.join("recover.log");
        drop(fs::remove_file(&log));
        let mut command = self.server_command();
        command.arg("--wsrep_recover").arg(format!("--log_error={}", log.display()));
        let finished = run(&mut command, RECOVERY);
        let said = fs::read_to_string(&log).unwrap_or_default();
        let status = finished.status;
        assert!(status.success(), "{}: wsrep_recover: {status}\n{said}", self.name);
        let (_, position) = said
            .rsplit_once("Recovered position: ")
            .unwrap_or_else(|| panic!("{}: wsrep_recover found no position\n{said}", self.name));
        position.lines().next().unwrap_or_default().to_owned()
    }
}

fn kill_group(orphans: &Orphans) {
    let alive = || orphans.members.iter().any(|member| member.alive());
    let patience = Instant::now() + DEATH;
    // While one of its members lives, the number of the group cannot mean anybody else.
    while alive() && Instant::now() < patience {
        let group = i32::try_from(orphans.group).ok().and_then(Pid::from_raw);
        if group.is_none_or(|group| kill_process_group(group, Signal::KILL).is_err()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Looking at it.
impl Node {
    /// Runs statements; an error is the client's own words.
    pub fn try_sql(&self, statements: &str) -> Result<Rows, String> {
        sql::query(&self.socket(), statements)
    }

    /// Runs statements that must succeed.
    pub fn sql(&self, statements: &str) -> Rows {
        self.try_sql(statements)
            .unwrap_or_else(|error| panic!("{}: {error}\n{statements}", self.name))
    }

    /// Runs a query that yields one value.
    pub fn sql_value(&self, query: &str) -> String {
        let rows = self.sql(query);
        rows.first()
            .and_then(|row| row.last())
            .unwrap_or_else(|| panic!("nothing: {query}"))
            .clone()
    }

    /// Waits until the node is a synced member; returns the time since it was started.
    pub fn wait_synced(&self, limit: Duration) -> Duration {
        let question = "SHOW GLOBAL STATUS WHERE variable_name IN
                        ('wsrep_local_state_comment', 'wsrep_ready', 'wsrep_cluster_status')";
        until_every(ASK, &format!("{} is synced", self.name), limit, || {
            if let Some(status) = self.collect() {
                panic!("{} ended instead of joining: {status}", self.name);
            }
            let rows = self.try_sql(question).ok()?;
            let synced = ["Synced", "ON", "Primary"]
                .iter()
                .all(|wanted| rows.iter().any(|row| row.last().is_some_and(|it| it == wanted)));
            synced.then_some(())
        });
        self.state().server.as_ref().map_or(Duration::ZERO, |server| server.started.elapsed())
    }

    /// The SST scripts that work on this node's datadir now, ours or rsync's.
    #[must_use]
    pub fn sst_pids(&self) -> Vec<ProcessId> {
        let script = format!("wsrep_sst_{}", self.method.name());
        let datadir = self.datadir();
        process::all()
            .into_iter()
            .filter(|it| !it.zombie && is_script(&it.arguments, &script, &datadir))
            .map(|it| it.id)
            .collect()
    }

    /// Kills the SST scripts of this node, and the programs they started, with SIGKILL.
    pub fn kill9_sst(&self) {
        let mut doomed = self.sst_pids();
        assert!(!doomed.is_empty(), "{} runs no SST script", self.name);
        let processes = process::all();
        let mut looked_at = 0;
        while let Some(parent) = doomed.get(looked_at).copied() {
            looked_at += 1;
            let children = processes.iter().filter(|it| it.parent == parent.pid);
            doomed.extend(children.map(|child| child.id));
        }
        for process in doomed {
            process.kill9();
        }
    }

    /// Waits until no SST script works on this node's datadir.
    pub fn wait_no_sst_script(&self, limit: Duration) {
        until(&format!("{}'s SST script ends", self.name), limit, || {
            self.sst_pids().is_empty().then_some(())
        });
    }

    /// Disk space of the datadir without Galera's cache, which the server makes before an SST.
    ///
    /// Unit: bytes.
    #[must_use]
    pub fn datadir_bytes(&self) -> u64 {
        fn below(directory: &Path) -> u64 {
            // Files come and go while the server or a script works: what vanishes counts nothing.
            let Ok(entries) = fs::read_dir(directory) else { return 0 };
            let bytes = |entry: fs::DirEntry| match entry.metadata() {
                Ok(meta) if meta.is_dir() => below(&entry.path()),
                Ok(_) if entry.file_name().to_string_lossy().contains("cache") => 0,
                Ok(meta) => meta.blocks() * 512,
                Err(_) => 0,
            };
            entries.flatten().map(bytes).sum()
        }
        below(&self.datadir())
    }

    /// Panics if an SST left one of its files in the datadir. A script that is just ending, after
    /// its server has gone on, is waited for.
    pub fn assert_no_markers(&self) {
        self.wait_no_sst_script(SCRIPT_ENDS);
        let datadir = self.datadir();
        let left: Vec<_> = MARKERS
            .into_iter()
            .filter(|name| datadir.join(name).symlink_metadata().is_ok())
            .collect();
        assert!(left.is_empty(), "{}: left behind: {left:?}", self.name);
    }

    /// The error log's file.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("error.log")
    }

    /// The whole error log.
    #[must_use]
    pub fn error_log(&self) -> String {
        self.log_since(LogMark(0))
    }

    /// The present end of the error log.
    #[must_use]
    pub fn log_mark(&self) -> LogMark {
        LogMark(fs::metadata(self.log_file()).unwrap().len())
    }

    /// What was logged since a mark.
    #[must_use]
    pub fn log_since(&self, mark: LogMark) -> String {
        let mut bytes = Vec::new();
        let mut log = File::open(self.log_file()).unwrap();
        log.seek(SeekFrom::Start(mark.0)).unwrap();
        log.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// How the SST scripts that ended badly since a mark ended, as the server saw it.
    ///
    /// The server logs `Process completed with error: wsrep_sst_... : 32: Broken pipe`.
    #[must_use]
    pub fn failed_scripts_since(&self, mark: LogMark) -> Vec<i32> {
        self.log_since(mark)
            .lines()
            .filter(|line| line.contains("Process completed with error: wsrep_sst_"))
            // "...: 32 (Broken pipe)"
            .filter_map(|line| line.rsplit(": ").next()?.split(' ').next()?.parse().ok())
            .collect()
    }

    /// How many SST scripts this node has started as donor since a mark: full copies, bypasses.
    #[must_use]
    pub fn donations_since(&self, mark: LogMark) -> (usize, usize) {
        let log = self.log_since(mark);
        // 10.11, 11.8
        let starts = ["Running: 'wsrep_sst_", "on DONOR side (wsrep_sst_"];
        let donations = log.lines().filter(|line| {
            starts.iter().any(|it| line.contains(it)) && line.contains("--role 'donor'")
        });
        let (bypasses, copies): (Vec<_>, Vec<_>) =
            donations.partition(|line| line.contains("--bypass"));
        (copies.len(), bypasses.len())
    }
}

/// A script that has said its last word ends.
const SCRIPT_ENDS: Duration = Duration::from_secs(5);

/// `wsrep_sst_x ...` or `bash /usr/bin/wsrep_sst_x ...`, but not `sh -c 'wsrep_sst_x ...'`.
fn is_script(arguments: &[String], script: &str, datadir: &Path) -> bool {
    let is = |argument: &String| Path::new(argument).file_name().is_some_and(|it| it == script);
    let named = arguments.iter().take(2).any(is);
    let ours = |argument: &String| Path::new(argument) == datadir;
    named && arguments.iter().any(ours)
}
