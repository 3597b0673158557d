//! Where the version of this node's server is found, most reliable first.
//!
//! 1. `--mysqld-version`, which MySQL's servers give.
//! 2. The program of the running server: on a joiner `--parent`, on a donor the process that
//!    started this one.
//! 3. Donor only: the datadir. `*_upgrade_info` and the head of the redo log name the last server
//!    that wrote them; the running one may be newer, never older.
//!
//! Without any of them the versions are not compared, and the log says so: a check that cannot be
//! made must not keep a node out.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::ServerVersion;
use super::binary::version_of_program;
use crate::args::{Args, Role};
use crate::settings::Settings;

/// Programs that are servers; a suffix may follow.
const SERVERS: [&str; 2] = ["mariadbd", "mysqld"];

/// Generations from this process to the server: a shell may stand between them, or a wrapper.
const GENERATIONS: usize = 3;

/// Where the creator's name stands in a redo log, and how long it is. Source: `log0types.h`
/// (`LOG_HEADER_CREATOR`), the same since MySQL 5.7 and MariaDB 10.2.
const CREATOR: std::ops::Range<usize> = 16..48;

/// The version of the server of this node, and where it was found.
pub(crate) fn of_server(
    args: &Args,
    datadir: &Path,
    settings: &Settings<'_>,
) -> Option<ServerVersion> {
    let given = args.mysqld_version.as_deref().and_then(ServerVersion::parse);
    let running = || server_process(args).and_then(of_process);
    let written = || match args.role {
        // The joiner's old files say nothing about its server: it may have been upgraded since.
        Role::Joiner => None,
        Role::Donor => of_files(datadir, settings),
    };
    given.or_else(running).or_else(written)
}

/// The process of the server.
fn server_process(args: &Args) -> Option<i32> {
    if let Some(parent) = args.parent {
        return Some(parent);
    }
    let mut pid = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get())?;
    for _ in 0..GENERATIONS {
        let process = Stat::read(pid)?;
        if is_server(&process.name) {
            return Some(pid);
        }
        pid = process.parent;
    }
    None
}

/// What `/proc/PID/stat` says.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    parent: i32,
    /// Since the machine started. Unit: clock ticks.
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `PID (NAME) STATE PARENT ...`; the name may have spaces and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let parent = fields.nth(1)?.parse().ok().filter(|pid| *pid > 0)?;
        // The 22nd of all, and the 20th behind the name.
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self { name: name.to_owned(), parent, started })
    }
}

fn is_server(name: &str) -> bool {
    SERVERS.iter().any(|server| name.starts_with(server))
}

fn of_process(pid: i32) -> Option<ServerVersion> {
    let program = open_program(pid)?;
    version_of_program(program).ok().flatten()
}

/// The program of a process: the very file it runs, or, where a server that has changed its user
/// hides that, the file of the name it was started with.
fn open_program(pid: i32) -> Option<File> {
    if let Ok(program) = File::open(format!("/proc/{pid}/exe")) {
        return Some(program);
    }
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let word = words.split(|byte| *byte == 0).next()?;
    let path = PathBuf::from(std::str::from_utf8(word).ok()?);
    let is_servers = path.file_name().is_some_and(|name| is_server(&name.to_string_lossy()));
    let program = (path.is_absolute() && is_servers).then(|| File::open(path).ok()).flatten()?;
    // A package that was upgraded meanwhile has put another program there.
    let changed = u64::try_from(program.metadata().ok()?.ctime()).ok()?;
    (changed <= start_time(&Stat::read(pid)?)?).then_some(program)
}

/// When a process was started. Unit: seconds since 1970.
fn start_time(process: &Stat) -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let booted: u64 = text.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    Some(booted + process.started.checked_div(rustix::param::clock_ticks_per_second())?)
}

/// The newest version that the files of a datadir name.
fn of_files(datadir: &Path, settings: &Settings<'_>) -> Option<ServerVersion> {
    let redo = settings.value("innodb-log-group-home-dir").unwrap_or_default();
    let files = [of_upgrade(datadir), creator_of_redo_log(&datadir.join(redo))];
    files.into_iter().flatten().reduce(ServerVersion::later)
}

/// The server that last upgraded the system tables.
fn of_upgrade(datadir: &Path) -> Option<ServerVersion> {
    let names = ["mariadb_upgrade_info", "mysql_upgrade_info"];
    let texts = names.iter().filter_map(|name| fs::read_to_string(datadir.join(name)).ok());
    texts.filter_map(|text| ServerVersion::parse(&text)).reduce(ServerVersion::later)
}

/// The server that made the redo log.
fn creator_of_redo_log(directory: &Path) -> Option<ServerVersion> {
    let mut head = [0; CREATOR.end];
    File::open(directory.join("ib_logfile0")).ok()?.read_exact(&mut head).ok()?;
    let creator = head[CREATOR].split(|byte| *byte == 0).next()?;
    ServerVersion::parse(std::str::from_utf8(creator).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server_args::ServerArgs;
    use crate::settings::tests::settings;

    fn version_of(datadir: &Path, options: &str) -> Option<String> {
        let (files, explicit) = (ServerArgs::parse_lines(options), ServerArgs::default());
        of_files(datadir, &settings(&files, &explicit)).map(|version| version.to_string())
    }

    fn redo_log(creator: &str) -> Vec<u8> {
        let mut head = vec![0; 4096];
        head[..4].copy_from_slice(b"Phys");
        head[CREATOR.start..][..creator.len()].copy_from_slice(creator.as_bytes());
        head
    }

    #[test]
    fn the_newest_version_in_the_files_counts() {
        let directory = tempfile::tempdir().unwrap();
        let datadir = directory.path();
        assert_eq!(version_of(datadir, ""), None);
        fs::write(datadir.join("mysql_upgrade_info"), "10.11.6-MariaDB\0").unwrap();
        assert_eq!(version_of(datadir, "").as_deref(), Some("MariaDB 10.11.6"));
        fs::write(datadir.join("ib_logfile0"), redo_log("MariaDB 10.11.19")).unwrap();
        assert_eq!(version_of(datadir, "").as_deref(), Some("MariaDB 10.11.19"));
        fs::write(datadir.join("mariadb_upgrade_info"), "11.4.2-MariaDB").unwrap();
        assert_eq!(version_of(datadir, "").as_deref(), Some("MariaDB 11.4.2"));
    }

    #[test]
    fn a_redo_log_elsewhere_is_found_and_a_strange_one_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let redo = directory.path().join("redo");
        fs::create_dir(&redo).unwrap();
        fs::write(redo.join("ib_logfile0"), redo_log("MariaDB 10.6.5")).unwrap();
        let option = "--innodb-log-group-home-dir=redo";
        assert_eq!(version_of(directory.path(), option).as_deref(), Some("MariaDB 10.6.5"));
        for strange in [redo_log(""), redo_log("\u{1}\u{2}"), b"Phys".to_vec()] {
            fs::write(redo.join("ib_logfile0"), strange).unwrap();
            assert_eq!(version_of(directory.path(), option), None);
        }
    }

    #[test]
    fn processes_are_told_by_their_names() {
        let zeros = "0 ".repeat(17);
        let stat = Stat::parse(&format!("42 (a) (b c) S 7 {zeros}99 0")).unwrap();
        assert_eq!(stat, Stat { name: "a) (b c".to_owned(), parent: 7, started: 99 });
        assert_eq!(Stat::parse(&format!("1 (init) S 0 {zeros}99 0")), None);
        let ours = Stat::read(std::process::id().cast_signed()).unwrap();
        let age = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let age = age.as_secs().abs_diff(start_time(&ours).unwrap());
        assert!(age < 3600, "started {age} s ago?");
        assert!(is_server("mariadbd") && is_server("mysqld-debug") && !is_server("sh"));
    }
}
