//! A transfer that broke in the middle: the next attempt sends only what is missing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fastsst_tests::relay::Relay;
use fastsst_tests::transfer::{
    Done, Listing, Receive, Sandbox, Send, TRANSFER, Transfer, Victim, allocated_bytes,
    assert_same_tree, change_pages, fill, interrupt, interrupt_when, noise, wait_written, written,
};

use super::wire_bytes;

/// A source that takes seconds at the rate at which it is cut.
const LARGE_FILES: u64 = 6;
const LARGE_MIB: usize = 8;
const SMALL_FILES: u64 = 100;
const SMALL_BYTES: usize = 20_000;
const SOURCE_BYTES: u64 =
    LARGE_FILES * ((LARGE_MIB as u64) << 20) + SMALL_FILES * SMALL_BYTES as u64;

/// What a lane may have under way. Source: the windows in docs/ARCHITECTURE.md, the data paths.
const LANE_WINDOW_BYTES: u64 = 16 << 20;

/// How fast the source is sent through a network that is about to be cut. Unit: MiB/s.
const SLOW_MIB_PER_SECOND: u32 = 24;

#[test]
fn after_the_receiver_was_killed_in_the_middle_half_is_sent() {
    let (_place, source, target) = source_and_target();
    let cut = interrupt(&source, &target, Victim::Receiver, SOURCE_BYTES / 2);
    assert_completes(&source, &target, cut.written);
}

#[test]
fn after_the_sender_was_killed_in_the_middle_half_is_sent() {
    let (_place, source, target) = source_and_target();
    let cut = interrupt(&source, &target, Victim::Sender, SOURCE_BYTES / 2);
    assert_completes(&source, &target, cut.written);
}

#[test]
fn after_udp_was_cut_in_the_middle_half_is_sent() {
    after_the_link_was_cut("quic", Relay::block_udp);
}

#[test]
fn after_tcp_was_reset_in_the_middle_half_is_sent() {
    after_the_link_was_cut("tcp", |relay| {
        relay.block_tcp();
        (0..relay.connections().len()).for_each(|connection| relay.reset(connection));
    });
}

#[test]
fn after_two_kills_in_a_row_what_both_attempts_wrote_is_kept() {
    let (_place, source, target) = source_and_target();
    let third = SOURCE_BYTES / 3;
    let _first = interrupt(&source, &target, Victim::Receiver, third);
    let second = interrupt(&source, &target, Victim::Sender, 2 * third);
    assert_completes(&source, &target, second.written);
}

#[test]
fn a_durable_file_that_is_read_for_longer_than_the_idle_timeout_is_no_standstill() {
    const MIB: usize = 48;
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    fill(&source.join("first"), 1, MIB);
    // Of unequal size: the larger one is sent, and finished, first.
    fill(&source.join("second"), 2, MIB / 2);
    let second = target.join(".fastsst/new/second");
    let _cut = interrupt_when(&source, &target, Victim::Receiver, || {
        allocated_bytes(&target.join(".fastsst/new")) > 0
            && fs::metadata(&second).is_ok_and(|it| it.blocks() * 512 > 4 << 20)
            && written(&target) > (MIB as u64 + 8) << 20
    });
    // Six seconds of reading, of which nothing is sent.
    let idle = ["--idle-timeout", "3"];
    let receiving = Receive::into(&target).args(["--replace"]).args(idle).start();
    let sending = Send::from(&source, &receiving.ticket).args(idle).slowly(8).start();
    sending.wait(TRANSFER).assert_success();
    receiving.wait(TRANSFER).assert_success();
    Listing::of(&source).assert_eq(&Listing::of(&target), "something else arrived");
}

#[test]
fn a_lane_that_dies_costs_no_more_than_what_was_under_way_on_it() {
    let (place, source, target) = source_and_target();
    let receiving = Receive::into(&target).start();
    let relay = Relay::to(receiving.port());
    let sending = Send::from(&source, &relay.ticket(&receiving.ticket))
        .slowly(SLOW_MIB_PER_SECOND)
        .args(["--transport", "quic", "--lanes", "2"]);
    let sending = sending.start();
    wait_written(&target, SOURCE_BYTES / 2);
    // The control connection is the first flow.
    relay.cut(1);
    sending.wait(TRANSFER).assert_success();
    receiving.wait(TRANSFER).assert_success();
    let sent = fs::read(place.path("source.send.json")).unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&sent).unwrap();
    assert!(sent["lanes_replaced"].as_u64().unwrap() >= 1, "{sent:#}");
    let wire = sent["wire_bytes"].as_u64().unwrap();
    assert!(wire <= SOURCE_BYTES + LANE_WINDOW_BYTES, "{wire} of {SOURCE_BYTES}");
    Listing::of(&source).assert_eq(&Listing::of(&target), "source and target differ");
}

#[test]
fn another_donor_goes_on_where_the_first_one_was_killed() {
    let (place, source, target) = source_and_target();
    let other = place.dir("another-donor");
    plant(&other);
    let cut = interrupt(&source, &target, Victim::Sender, SOURCE_BYTES / 2);
    drop(fs::remove_dir_all(&source));
    assert_completes(&other, &target, cut.written);
}

#[test]
fn what_changed_at_the_donor_since_the_cut_arrives_as_it_is_now() {
    let (_place, source, target) = source_and_target();
    let cut = interrupt(&source, &target, Victim::Receiver, SOURCE_BYTES / 2);
    for number in 0..LARGE_FILES {
        change_pages(&source.join(format!("large-{number}")), 50 + number, 1);
    }
    fs::remove_file(source.join("small/7")).unwrap();
    fs::write(source.join("small/new"), "new").unwrap();
    assert_completes(&source, &target, cut.written);
}

#[test]
fn until_the_next_attempt_an_unfinished_copy_is_not_in_the_target() {
    let (_place, source, target) = source_and_target();
    fill(&target.join("old"), 99, 2);
    let cut = interrupt(&source, &target, Victim::Receiver, 1 << 20);
    assert!(cut.other.stderr.contains("E17"), "{}", cut.other);
    assert!(Listing::of(&target).is_empty(), "neither the old tree nor parts of the new one");
}

fn source_and_target() -> (Sandbox, PathBuf, PathBuf) {
    let place = Sandbox::new();
    let source = place.dir("source");
    plant(&source);
    let target = place.dir("target");
    (place, source, target)
}

fn plant(root: &Path) {
    for number in 0..LARGE_FILES {
        fill(&root.join(format!("large-{number}")), number, LARGE_MIB);
    }
    fs::create_dir(root.join("small")).unwrap();
    for number in 0..SMALL_FILES {
        let content = noise(100 + number, SMALL_BYTES);
        fs::write(root.join("small").join(number.to_string()), content).unwrap();
    }
}

fn after_the_link_was_cut(transport: &str, cut: impl FnOnce(&Relay)) {
    let (_place, source, target) = source_and_target();
    let receiving = Receive::into(&target).start();
    let relay = Relay::to(receiving.port());
    let sending = Send::from(&source, &relay.ticket(&receiving.ticket))
        .slowly(SLOW_MIB_PER_SECOND)
        .args(["--transport", transport])
        .start();
    wait_written(&target, SOURCE_BYTES / 2);
    cut(&relay);
    // Silence, or a lane that is not replaced in time.
    let accepted = [("E17", 32), ("E18", 110), ("E19", 103)];
    receiving.wait(TRANSFER).assert_failed_one_of(&accepted);
    sending.wait(TRANSFER).assert_failed_one_of(&accepted);
    drop(relay);
    assert_completes(&source, &target, written(&target));
}

/// A further attempt, which nobody told that it is one, makes the trees equal, and sends what was
/// not written yet; 2 % of the source for what was under way and for headers.
fn assert_completes(source: &Path, target: &Path, written: u64) {
    assert!(written >= SOURCE_BYTES / 2, "{written} of {SOURCE_BYTES} were written");
    let done: Done = Transfer::new(source, target).send(["--compress", "none"]).run();
    assert_same_tree(source, target, &done);
    assert!(!target.join(".fastsst").exists(), "nothing of ours is left");
    let wire = wire_bytes(&done);
    let most = SOURCE_BYTES.saturating_sub(written) + SOURCE_BYTES / 50;
    assert!(
        wire <= most,
        "{wire} bytes on the wire, but {written} of {SOURCE_BYTES} were there\n{}",
        done.sender
    );
}
