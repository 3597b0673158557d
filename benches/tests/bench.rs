//! The bench as it is run, on very little data.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests: a failed step fails the test, at the line where it failed"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Where `make test` has built fastsst; without it the others race alone.
fn fastsst() -> Option<PathBuf> {
    std::env::var_os("FASTSST_BIN_DIR").map(|directory| PathBuf::from(directory).join("fastsst"))
}

fn bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_fastsst-bench"))
}

/// One run each of those that need no more than `make test` installs.
fn race(dir: &Path) -> (Output, Vec<&'static str>) {
    let mut names = vec!["rsync", "rsync-delta", "floor", "floor-read"];
    let mut command = bench();
    command.args(["--scenario", "datadir-synthetic", "--mib", "4", "--runs", "1"]);
    if let Some(program) = fastsst() {
        names.extend(["fastsst", "fastsst-quic"]);
        command.arg("--fastsst").arg(program);
    }
    for name in &names {
        command.args(["--contender", name]);
    }
    command.arg("--dir").arg(dir).arg("--out").arg(dir.join("out"));
    (command.output().unwrap(), names)
}

fn left_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_small_race_gives_tables_figures_and_charts() {
    let dir = tempfile::tempdir().unwrap();
    let (output, names) = race(dir.path());
    let (table, progress) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{progress}\n{table}");

    let read = |name: &str| fs::read_to_string(dir.path().join("out").join(name)).unwrap();
    let report: serde_json::Value = serde_json::from_str(&read("results.json")).unwrap();
    for key in ["date", "command", "machine", "scenarios", "skipped", "targets"] {
        assert!(report.get(key).is_some(), "{key}");
    }
    let entrants = report["scenarios"][0]["entrants"].as_array().unwrap();
    assert_eq!(entrants.len(), names.len());
    let csv = read("results.csv");
    assert_eq!(csv.lines().count(), 1 + names.len(), "{csv}");
    for name in &names {
        let row = table.lines().find(|line| line.split(' ').next() == Some(name));
        let row = row.unwrap_or_else(|| panic!("no row of {name} in {table}"));
        assert!(!row.contains("FAILED") && !row.contains("skipped"), "{row}");
        let entrant = entrants.iter().find(|entrant| entrant["name"] == *name).unwrap();
        let figures = &entrant["figures"];
        assert!(figures["wall_seconds"]["median"].as_f64().unwrap() > 0.0, "{entrant}");
        assert!(figures["cpu_seconds_per_gib"]["max"].as_f64().unwrap() >= 0.0, "{entrant}");
        if name.starts_with("fastsst") {
            let details = &entrant["runs"][0]["details"];
            assert!(details["receive"]["bytes"].is_u64() && details["send"].is_object());
        }
    }
    assert_eq!(table.contains("400 MiB RSS on each side"), fastsst().is_some(), "{table}");

    assert!(read("results.md").starts_with("# Results\n"));
    for name in ["datadir-synthetic.svg", "datadir-synthetic-cpu.svg"] {
        let svg = read(name);
        assert!(svg.starts_with("<svg") && svg.contains("floor"), "{svg}");
    }
    let place = dir.path().to_str().unwrap();
    for name in ["results.json", "results.csv", "results.md", "datadir-synthetic.svg"] {
        assert!(!read(name).contains(place), "{name} says where it was made");
    }
    let mut left = left_in(dir.path());
    left.sort();
    assert_eq!(left, ["fastsst-bench-data", "out"], "and nothing else is left");
}

#[test]
fn interrupted_it_leaves_only_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = bench();
    command.args(["--scenario", "file", "--mib", "8", "--runs", "100", "--contender", "floor"]);
    command.arg("--dir").arg(dir.path()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut progress = BufReader::new(child.stderr.take().unwrap());
    // The second line is that of the first run: it is in the middle of it all.
    for _ in 0..2 {
        progress.read_line(&mut String::new()).unwrap();
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let mut rest = String::new();
    progress.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{rest}");
    assert!(rest.contains("stopped by a signal"), "{rest}");
    assert_eq!(left_in(dir.path()), ["fastsst-bench-data"]);
}

#[test]
fn names_are_listed_and_wrong_ones_refused() {
    let output = bench().arg("--list").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for name in ["datadir-100m", "mariabackup-socat", "rsync-stunnel", "syq", "stale-1", "resume"] {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
    let output = bench().args(["--contender", "tortoise"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("no contender is called \"tortoise\": rsync"), "{text}");
}
