//! One side of a transfer: a program with its children, what it costs, and how it ends.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::param::clock_ticks_per_second;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use serde::Serialize;

use crate::cancel::Cancel;

/// How often the sides are looked at; also the error of the measured time.
const POLL: Duration = Duration::from_millis(5);

/// Looks between two samples of memory: the kernel keeps the peak of each process, so only
/// processes that come and go in between are missed.
const POLLS_PER_SAMPLE: u32 = 10;

/// A run that takes longer hangs.
const RUN_LIMIT: Duration = Duration::from_secs(1800);

/// Time a program has to end after it was asked to.
const END_LIMIT: Duration = Duration::from_secs(10);

/// What one side used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Cost {
    /// Processor time in user mode, children included.
    pub(crate) user_seconds: f64,
    /// Processor time in the kernel on this side's account, children included.
    pub(crate) system_seconds: f64,
    /// Largest sum of the peaks of the processes that ran at the same time.
    pub(crate) peak_rss_bytes: u64,
}

impl Cost {
    /// Processor time altogether.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

/// A running program; killed with all its children when it is dropped.
#[derive(Debug)]
pub(crate) struct Side {
    name: &'static str,
    child: Child,
    log: PathBuf,
    peak_rss_bytes: u64,
    end: Option<(ExitStatus, Cost)>,
}

impl Side {
    /// Starts `command` in a process group of its own, its output in a file in `scratch`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(crate) fn start(name: &'static str, command: &mut Command, scratch: &Path) -> Result<Self> {
        let log = log_of(name, scratch);
        let output = File::create(&log).context("cannot create a log")?;
        let errors = output.try_clone().context("cannot create a log")?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { name, child, log, peak_rss_bytes: 0, end: None })
    }

    /// Whether it has ended; its cost is counted then.
    ///
    /// # Errors
    /// The kernel does not know the child.
    pub(crate) fn ended(&mut self) -> Result<bool> {
        if self.end.is_some() {
            return Ok(true);
        }
        // Left as a zombie at first: its times are readable, and its group's number is still ours.
        let pid = self.pid()?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if waitid(WaitId::Pid(pid), options).context("cannot wait for a child")?.is_none() {
            return Ok(false);
        }
        let cost = self.cost()?;
        self.kill_group();
        let status = self.child.wait().context("cannot wait for a child")?;
        self.end = Some((status, cost));
        Ok(true)
    }

    /// What it has cost, once it has ended well.
    ///
    /// # Errors
    /// It is still running, or it failed; the message ends with its last words.
    pub(crate) fn succeeded(&self) -> Result<Cost> {
        match self.end {
            Some((status, cost)) if status.success() => Ok(cost),
            Some((status, _)) => Err(self.failure(status)),
            None => bail!("the {} is still running", self.name),
        }
    }

    /// Asks it to end and says what it has cost; its children have ended before.
    ///
    /// # Errors
    /// It does not end.
    pub(crate) fn stop(mut self) -> Result<Cost> {
        let asked = Instant::now();
        if !self.ended()? {
            kill_process(self.pid()?, Signal::TERM).context("cannot stop a child")?;
        }
        while !self.ended()? {
            ensure!(asked.elapsed() < END_LIMIT, "the {} does not stop", self.name);
            sleep(POLL);
        }
        self.end.map(|(_, cost)| cost).context("an ended child has no cost")
    }

    /// Number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The processes it has started and that still run.
    pub(crate) fn children(&self) -> Vec<u32> {
        children(self.child.id())
    }

    fn failure(&self, status: ExitStatus) -> anyhow::Error {
        const LINES: usize = 5;
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no exit status".to_owned(),
        };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LINES)..].join(" | ");
        anyhow!("the {} ended with {how}: {last}", self.name)
    }

    fn sample(&mut self) {
        let all = std::iter::once(self.child.id()).chain(descendants(self.child.id()));
        let sum = all.filter_map(peak_rss).sum();
        self.peak_rss_bytes = self.peak_rss_bytes.max(sum);
    }

    fn cost(&self) -> Result<Cost> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let ticks = stat.ok().as_deref().and_then(times).context("cannot read a child's times")?;
        let seconds = |at: usize| ticks[at] as f64 / clock_ticks_per_second() as f64;
        Ok(Cost {
            user_seconds: seconds(0) + seconds(2),
            system_seconds: seconds(1) + seconds(3),
            peak_rss_bytes: self.peak_rss_bytes,
        })
    }

    fn pid(&self) -> Result<Pid> {
        let pid = i32::try_from(self.child.id()).context("a process number above 31 bits")?;
        Pid::from_raw(pid).context("process number 0")
    }

    /// Only while the leader is not waited for: until then nobody else can have its number.
    fn kill_group(&self) {
        // Those that have left the group, as servers for SSH do with every connection. Found
        // while their parents live, so that the numbers are theirs.
        let strays = descendants(self.child.id());
        if let Ok(pid) = self.pid() {
            // Fails when nothing is left in it, which is what is wanted.
            kill_process_group(pid, Signal::KILL).unwrap_or(());
        }
        for stray in strays {
            if let Some(pid) = i32::try_from(stray).ok().and_then(Pid::from_raw) {
                kill_process(pid, Signal::KILL).unwrap_or(());
            }
        }
    }
}

/// Where a side writes what it says.
pub(crate) fn log_of(name: &str, scratch: &Path) -> PathBuf {
    scratch.join(format!("{name}.log"))
}

impl Drop for Side {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.kill_group();
            // Nothing to tell: the child is gone either way.
            drop(self.child.wait());
        }
    }
}

/// Looks at `sides` until `done` says so.
///
/// # Errors
/// What `done` finds, a signal, or a run that takes too long.
pub(crate) fn watch<const N: usize>(
    mut sides: [&mut Side; N],
    cancel: &Cancel,
    mut done: impl FnMut(&mut [&mut Side; N]) -> Result<bool>,
) -> Result<()> {
    let begun = Instant::now();
    for poll in 0_u32.. {
        if poll % POLLS_PER_SAMPLE == 0 {
            sides.iter_mut().for_each(|side| side.sample());
        }
        if done(&mut sides)? {
            return Ok(());
        }
        cancel.check()?;
        ensure!(begun.elapsed() < RUN_LIMIT, "not finished after {} s", RUN_LIMIT.as_secs());
        sleep(POLL);
    }
    Ok(())
}

/// Children, their children, and so on.
fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        found.extend(children(*pid));
        at += 1;
    }
    found
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .collect::<String>();
    lists.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// The most memory a process has had, in bytes.
fn peak_rss(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// `utime stime cutime cstime` of `/proc/PID/stat`, in clock ticks. The name of the program
/// before them may contain anything, also parentheses.
fn times(stat: &str) -> Option<[u64; 4]> {
    const SKIPPED: usize = 11;
    let words = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(SKIPPED);
    let ticks: Vec<u64> = words.take(4).map_while(|word| word.parse().ok()).collect();
    ticks.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, scratch: &Path) -> Side {
        Side::start("shell", Command::new("sh").args(["-c", script]), scratch).unwrap()
    }

    #[test]
    fn times_behind_an_ugly_name() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 22 33 44 20 0";
        assert_eq!(times(stat), Some([11, 22, 33, 44]));
    }

    #[test]
    fn cost_includes_children() {
        let dir = tempfile::tempdir().unwrap();
        let burn = "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; true";
        let mut side = shell(burn, dir.path());
        watch([&mut side], &Cancel::default(), |[side]| side.ended()).unwrap();
        let cost = side.succeeded().unwrap();
        assert!(cost.cpu_seconds() > 0.02, "{cost:?}");
        assert!(cost.peak_rss_bytes > 100 << 10, "{cost:?}");
    }

    #[test]
    fn failure_has_the_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut side = shell("echo no such luck >&2; exit 7", dir.path());
        watch([&mut side], &Cancel::default(), |[side]| side.ended()).unwrap();
        let error = side.succeeded().unwrap_err().to_string();
        assert_eq!(error, "the shell ended with exit status 7: no such luck");
    }

    #[test]
    fn dropped_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let side = shell("sleep 1000 & sleep 1000", dir.path());
        while side.children().len() < 2 {
            sleep(POLL);
        }
        let children = side.children();
        drop(side);
        let alive = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| stat.contains("(sleep)") && !stat.contains(") Z"))
        };
        let asked = Instant::now();
        while children.iter().any(alive) {
            assert!(asked.elapsed() < END_LIMIT);
            sleep(POLL);
        }
    }
}
