//! The builder itself: what it starts does not outlive the test.

use std::io::{BufRead, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use fastsst_tests::cluster::Cluster;
use fastsst_tests::wait::until;

/// Set for a copy of this program that starts a cluster and never comes back.
const ABANDON: &str = "FASTSST_TEST_ABANDON";

#[test]
fn a_test_that_panics_leaves_nothing_behind() {
    let directory = Mutex::new(PathBuf::new());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let cluster = Cluster::builder().start(1);
        cluster.directory().clone_into(&mut directory.lock().unwrap());
        assert!(mentioned(cluster.directory()) > 0, "a server runs");
        panic!("expected: this test looks at what a failing test leaves behind");
    }));
    assert!(outcome.is_err());
    let directory = directory.into_inner().unwrap();
    assert!(!directory.exists(), "{}", directory.display());
    assert_eq!(mentioned(&directory), 0, "processes of the cluster");
}

#[test]
fn a_test_process_that_is_killed_leaves_nothing_behind() {
    if std::env::var_os(ABANDON).is_some() {
        abandon();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("cluster::equipment::a_test_process_that_is_killed_leaves_nothing_behind")
        .env(ABANDON, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut found = lines.filter_map(|line| Some(PathBuf::from(line.split_once("made ")?.1)));
    let directory = found.next().expect("the child says what it made");
    assert!(mentioned(&directory) > 0, "a server runs");
    child.kill().unwrap();
    child.wait().unwrap();
    until("everything is gone", Duration::from_secs(20), || {
        (!directory.exists() && mentioned(&directory) == 0).then_some(())
    });
}

#[expect(clippy::print_stdout, reason = "tells the parent, which reads it")]
fn abandon() {
    let cluster = Cluster::builder().start(1);
    println!("made {}", cluster.directory().display());
    // The parent kills this process; if it died itself, reading ends and so does the cluster.
    drop(std::io::stdin().read(&mut [0]));
}

/// How many processes have this path in their command line.
fn mentioned(path: &Path) -> usize {
    let path = path.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(path)).count()
}
