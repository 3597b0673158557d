//! How fast a transfer may go, how hard it compresses, and what it says about both.

use std::fs;
use std::thread;
use std::time::Duration;

use fastsst_tests::transfer::{Receive, Sandbox, Send, Transfer, fill, wait_under_way};

use super::SLOW_MIB_PER_SECOND;

const LIMIT: Duration = Duration::from_secs(60);

/// Age from which a sender reads a file at once.
const SETTLED: Duration = Duration::from_millis(1100);

#[test]
fn a_rate_limit_holds_within_five_percent_over_ten_seconds() {
    let place = Sandbox::new();
    let source = place.dir("source");
    fill(&source.join("noise"), 7, 200);
    // A file that has just been written is left to settle for a second, which is no rate.
    thread::sleep(SETTLED);
    let target = place.dir("target");
    let done = Transfer::new(&source, &target).send(["--rlimit", "20m"]).run();
    let rate = 200.0 / done.sent["seconds"]["copy"].as_f64().unwrap();
    assert!((19.0..=21.0).contains(&rate), "{rate} MiB/s: {:#}", done.sent);
    assert_eq!(done.sent["limited_by"], "rlimit");
    assert_eq!(done.received["limited_by"], "rlimit", "the donor tells");
}

#[test]
fn a_polite_sender_has_the_lowest_priority() {
    let place = Sandbox::new();
    let (source, target) = super::slow_source(&place);
    let receiving = Receive::into(&target).start();
    let sending = Send::from(&source, &receiving.ticket)
        .slowly(SLOW_MIB_PER_SECOND)
        .args(["--polite"])
        .start();
    wait_under_way(&target, 1 << 20);
    let mut engine = 0;
    for thread in fs::read_dir(format!("/proc/{}/task", sending.pid())).unwrap() {
        let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
        // Fields after the name in brackets; nice is the 19th of all (proc_pid_stat(5)).
        let (name, rest) = stat.rsplit_once(')').unwrap();
        let nice = rest.split_whitespace().nth(16).unwrap();
        // Threads from before the engine: the caller's own, and the one that waits for signals.
        let is_engine = ["fastsst-control", "fastsst-lane", "fastsst-enc", "disk"]
            .iter()
            .any(|engine| name.contains(engine));
        assert!(!is_engine || nice == "19", "{stat}");
        engine += u32::from(is_engine);
    }
    assert!(engine > 4, "{engine} threads");
    sending.wait(LIMIT).assert_success();
    receiving.succeed(LIMIT).0.assert_success();
}

#[test]
fn the_summary_tells_how_chunks_were_sent() {
    let place = Sandbox::new();
    let source = place.dir("source");
    fs::write(source.join("text"), "0123456789 abcdefghij ".repeat(100_000)).unwrap();
    fill(&source.join("noise"), 3, 2);
    fs::write(source.join("zeros"), vec![0; 1 << 20]).unwrap();
    for (choice, level) in
        [("none", None), ("zstd:-5", Some("zstd:-5")), ("zstd:3", Some("zstd:3"))]
    {
        let target = place.dir(choice);
        let done = Transfer::new(&source, &target).send(["--compress", choice]).run();
        let chunks = done.sent["chunks"].as_object().unwrap();
        assert_eq!(chunks["zero"], 1, "{chunks:?}");
        let raw = if level.is_some() { 2 } else { 5 };
        assert_eq!(chunks["raw"], raw, "{chunks:?}");
        if let Some(level) = level {
            assert_eq!(chunks[level], 3, "{chunks:?}");
            assert!(done.sender.stderr.contains("of 6 chunks zstd 3 at"), "{}", done.sender.stderr);
        }
        for summary in [&done.sent, &done.received] {
            let ratio = summary["ratio"].as_f64().unwrap();
            assert_eq!(ratio > 1.5, level.is_some(), "{summary:#}");
        }
    }
}
