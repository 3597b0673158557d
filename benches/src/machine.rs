//! Where the figures come from.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// What a reader needs to judge the figures; no name and no address.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// Model of the processor.
    pub(crate) cpu: String,
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// Memory.
    pub(crate) memory_bytes: u64,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// Distribution.
    pub(crate) system: String,
    /// File system that source and copies are on.
    pub(crate) file_system: String,
    /// Commit of the sources around, with a plus when they were changed; empty elsewhere.
    pub(crate) commit: String,
    /// This program's version.
    pub(crate) bench_version: &'static str,
}

impl Machine {
    /// This machine; `dir` is where the copies are made. What cannot be found out is empty.
    pub(crate) fn of(dir: &Path) -> Self {
        let info = rustix::system::sysinfo();
        Self {
            cpu: field("/proc/cpuinfo", "model name", ':'),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: info.totalram * u64::from(info.mem_unit),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            system: field("/etc/os-release", "PRETTY_NAME", '='),
            file_system: file_system(dir).unwrap_or_default(),
            commit: commit(),
            bench_version: env!("CARGO_PKG_VERSION"),
        }
    }
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return String::new() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    let mark = if changed.is_some_and(|changed| !changed.is_empty()) { "+" } else { "" };
    commit + mark
}

fn field(file: &str, name: &str, separator: char) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(separator));
    let value = pairs.filter(|(key, _)| key.trim() == name).map(|(_, value)| value).next();
    value.unwrap_or_default().trim().trim_matches('"').to_owned()
}

/// Type of the mount with the longest path above `dir`.
fn file_system(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((Path::new(words.next()?), words.next()?))
    });
    let above = mounts.filter(|(path, _)| dir.starts_with(path));
    above.max_by_key(|(path, _)| path.components().count()).map(|(_, kind)| kind.to_owned())
}

/// Processor time of the whole machine since it started, idle time left out, in clock ticks:
/// includes what the kernel does on nobody's account, such as writing back dirty pages.
pub(crate) fn busy_ticks() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> = text
        .lines()
        .next()?
        .split_ascii_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    // user nice system [idle iowait] irq softirq steal; guests are in user already.
    Some([0, 1, 2, 5, 6].into_iter().filter_map(|at| ticks.get(at)).sum())
}
