//! How much would be sent, asked before anything is.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fastsst_tests::transfer::{
    Listing, Receive, Receiving, Sandbox, Send, TRANSFER, change_pages, fill, noise, tool,
};
use fastsst_tests::wait::{Finished, run};
use serde_json::Value;

use super::NOTICE;

const LIMIT: Duration = Duration::from_secs(60);

/// Pages of 16 KiB that differ.
const CHANGED: u64 = 64;

/// A source, and a target with an older copy of it.
fn stale(place: &Sandbox) {
    let (source, target) = (place.dir("source"), place.dir("target"));
    for number in 0..4 {
        for tree in [&source, &target] {
            fill(&tree.join(number.to_string()), number, 8);
        }
    }
    for number in 0..200 {
        let content = noise(number, 3000);
        fs::write(target.join(format!("small-{number}")), &content).unwrap();
        fs::write(source.join(format!("small-{number}")), &content).unwrap();
    }
    fs::write(source.join("small-0"), noise(999, 3000)).unwrap();
    fill(&source.join("new"), 77, 2);
    fs::write(target.join("vanished"), "old").unwrap();
    change_pages(&target.join("1"), 5, CHANGED);
}

fn estimate(place: &Sandbox, receiving: &Receiving) -> (Finished, Value) {
    let json = place.path("estimate.json");
    let mut command = Command::new(tool());
    command.arg("estimate").arg(place.path("source")).args(["--to", &receiving.ticket]);
    let finished = run(command.arg("--summary-json").arg(&json), LIMIT);
    let text = fs::read(&json).unwrap_or_default();
    (finished, serde_json::from_slice(&text).unwrap_or_default())
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value:#}"))
}

#[test]
fn an_estimate_says_what_the_transfer_then_does_and_touches_nothing() {
    let place = Sandbox::new();
    stale(&place);
    let (source, target) = (place.path("source"), place.path("target"));
    let before = Listing::of(&target);
    let receiving = Receive::into(&target).args(["--replace"]).start();
    let (first, figures) = estimate(&place, &receiving);
    assert!(first.status.success(), "{first:?}");
    assert!(first.stdout.contains("would be sent"), "{first:?}");
    before.assert_eq(&Listing::of(&target), "an estimate changes nothing");
    let (again, same) = estimate(&place, &receiving);
    assert!(again.status.success(), "{again:?}");
    assert_eq!(number(&same, "kept_bytes"), number(&figures, "kept_bytes"), "as often as you like");

    let sending = Send::from(&source, &receiving.ticket).args(["--compress", "none"]);
    let (_, sent) = sending.succeed(TRANSFER);
    let (_, received) = receiving.succeed(TRANSFER);
    Listing::of(&source).assert_eq(&Listing::of(&target), "the ticket was still good");
    let (estimated, wire) = (number(&figures, "wire_bytes"), number(&sent, "wire_bytes"));
    assert!(estimated.abs_diff(wire) < wire / 50, "{estimated} estimated, {wire} sent");
    assert_eq!(number(&figures, "kept_bytes"), number(&sent, "kept_bytes"));
    assert_eq!(
        number(&received, "kept_bytes"),
        number(&sent, "kept_bytes"),
        "and not counted twice"
    );
    assert!(estimated >= (CHANGED << 14) + (2 << 20), "{figures:#}");
}

#[test]
fn an_estimate_for_an_empty_target_is_everything() {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    fill(&source.join("noise"), 1, 5);
    let receiving = Receive::into(&target).start();
    let (finished, figures) = estimate(&place, &receiving);
    assert!(finished.status.success(), "{finished:?}");
    assert_eq!(number(&figures, "kept_bytes"), 0);
    assert!((5 << 20..6 << 20).contains(&number(&figures, "wire_bytes")), "{figures:#}");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1, "the lock and nothing else");
    assert_lock_only(&target.join(".fastsst"));
    Send::from(&source, &receiving.ticket).run(TRANSFER).assert_success();
    receiving.wait(TRANSFER).assert_success();
}

#[test]
fn whoever_estimates_and_is_killed_does_not_end_the_receiver() {
    let place = Sandbox::new();
    stale(&place);
    let receiving = Receive::into(&place.path("target")).args(["--replace"]).start();
    let mut slow = Command::new(tool());
    slow.arg("estimate").arg(place.path("source")).args(["--to", &receiving.ticket]);
    slow.args(["--buffer", "16m", "--transport", "tcp"]);
    slow.stderr(Stdio::null());
    for delay in [0, 10, 20, 40, 80] {
        let mut child = slow.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (finished, _) = estimate(&place, &receiving);
    assert!(finished.status.success(), "{finished:?}");
    let sending = Send::from(&place.path("source"), &receiving.ticket);
    sending.run(TRANSFER).assert_success();
    receiving.wait(TRANSFER).assert_success();
}

#[test]
fn an_estimate_with_a_used_ticket_fails() {
    let place = Sandbox::new();
    stale(&place);
    let mut receiving = Receive::into(&place.path("target")).args(["--replace"]).start();
    receiving.running.kill9();
    let mut command = Command::new(tool());
    command.arg("estimate").arg(place.path("source")).args(["--to", &receiving.ticket]);
    let refused = run(&mut command, NOTICE);
    assert_eq!(refused.status.code(), Some(113), "{refused:?}");
}

fn assert_lock_only(staging: &Path) {
    let names: Vec<_> =
        fs::read_dir(staging).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["lock"]);
}
