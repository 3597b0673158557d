//! One end, or one lane, dies in the middle.

use std::fs;
use std::time::{Duration, Instant};

use fastsst_tests::relay::Relay;
use fastsst_tests::stranger::as_donor;
use fastsst_tests::transfer::{
    Listing, Receive, Receiving, Running, Sandbox, Send, TRANSFER, assert_same_tree, fill, noise,
    wait_under_way,
};
use fastsst_tests::wait::until;
use rustix::process::Signal;

use super::{
    NOTICE, SLOW_MIB_PER_SECOND, assert_empty, assert_untouched, slow_source, small_source,
    used_target,
};

/// A killed process refuses datagrams, so that its peer knows at once.
const AT_ONCE: Duration = Duration::from_secs(5);

#[test]
fn when_the_sender_is_killed_the_receiver_ends_and_the_next_attempt_succeeds() {
    let place = Sandbox::new();
    let (source, target) = slow_source(&place);
    let (receiving, mut sending) = under_way(&source, &target);
    sending.kill9();
    receiving.wait(NOTICE).assert_failed("E17", 32);
    assert_empty(&target);
    assert_next_succeeds(&source, &target);
}

#[test]
fn when_the_receiver_is_killed_the_sender_ends_and_the_next_attempt_succeeds() {
    let place = Sandbox::new();
    let (source, target) = slow_source(&place);
    let (mut receiving, sending) = under_way(&source, &target);
    receiving.running.kill9();
    let killed = Instant::now();
    sending.wait(NOTICE).assert_failed("E17", 32);
    assert!(killed.elapsed() < AT_ONCE, "{:?}", killed.elapsed());
    assert_empty(&target);
    assert_next_succeeds(&source, &target);
}

#[test]
fn when_the_sender_hangs_the_receiver_gives_it_up() {
    let place = Sandbox::new();
    let (source, target) = slow_source(&place);
    let (receiving, sending) = under_way(&source, &target);
    sending.signal(Signal::STOP);
    receiving.wait(NOTICE).assert_failed("E17", 32);
    sending.signal(Signal::CONT);
    sending.wait(NOTICE).assert_failed_one_of(&[("E17", 32), ("E19", 103)]);
    assert_empty(&target);
}

#[test]
fn a_sender_that_is_asked_to_stop_says_so_to_the_receiver() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Sandbox::new();
        let (source, target) = slow_source(&place);
        let (receiving, sending) = under_way(&source, &target);
        sending.signal(signal);
        sending.wait(AT_ONCE).assert_failed("E28", 3);
        let receiver = receiving.wait(AT_ONCE);
        receiver.assert_failed("E19", 103);
        assert!(receiver.stderr.contains("E28 stopped by SIG"), "says why: {receiver}");
        assert_empty(&target);
    }
}

#[test]
fn a_receiver_that_is_asked_to_stop_says_so_to_the_sender() {
    let place = Sandbox::new();
    let (source, target) = slow_source(&place);
    let (receiving, sending) = under_way(&source, &target);
    receiving.running.signal(Signal::TERM);
    receiving.wait(AT_ONCE).assert_failed("E28", 3);
    let sender = sending.wait(AT_ONCE);
    sender.assert_failed("E19", 103);
    assert!(sender.stderr.contains("E28 stopped by SIGTERM"), "says why: {sender}");
    assert_empty(&target);
    assert_next_succeeds(&source, &target);
}

#[test]
fn a_receiver_that_is_asked_to_stop_while_it_waits_leaves_everything_as_it_was() {
    let place = Sandbox::new();
    let (target, before) = used_target(&place);
    let receiving = Receive::into(&target).args(["--replace"]).start();
    receiving.running.signal(Signal::TERM);
    receiving.wait(AT_ONCE).assert_failed("E28", 3);
    assert_untouched(&target, &before);
}

#[test]
fn a_sender_that_is_asked_to_stop_while_it_tries_to_connect_ends_at_once() {
    let place = Sandbox::new();
    let (source, target) = small_source(&place);
    let receiving = Receive::into(&target).start();
    receiving.running.signal(Signal::STOP);
    let sending = Send::from(&source, &receiving.ticket).args(["-v"]).start();
    // It has begun when it can be asked: before that the signal simply kills it.
    until("the sender watches for signals", NOTICE, || {
        let caught = fs::read_to_string(format!("/proc/{}/status", sending.pid())).ok()?;
        let caught = caught.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim();
        let caught = u64::from_str_radix(caught, 16).ok()?;
        (caught & (1 << 14) != 0).then_some(())
    });
    sending.signal(Signal::TERM);
    sending.wait(AT_ONCE).assert_failed("E28", 3);
    receiving.running.signal(Signal::CONT);
}

#[test]
fn a_sender_that_stops_answering_before_it_declares_anything_touches_nothing() {
    let place = Sandbox::new();
    let (target, before) = used_target(&place);
    let receiving = Receive::into(&target).args(["--replace"]).start();
    as_donor(&receiving.ticket, async |mut donor| {
        donor.hello().await;
        // Alive for QUIC, which answers by itself, but without a heartbeat.
        donor.talk.hear_end().await
    });
    receiving.wait(NOTICE).assert_failed("E17", 32);
    assert_untouched(&target, &before);
}

#[test]
fn a_lane_that_dies_is_replaced_and_every_byte_arrives() {
    a_lane_dies(|source| {
        for number in 0..4 {
            fill(&source.join(format!("noise-{number}")), number, LANE_DIES_MIB / 4);
        }
    });
}

#[test]
fn a_lane_that_dies_among_small_files_is_replaced_and_every_file_arrives() {
    const FILES_PER_MIB: usize = 25;
    a_lane_dies(|source| {
        for number in 0..LANE_DIES_MIB * FILES_PER_MIB {
            let content = noise(number as u64, (1 << 20) / FILES_PER_MIB);
            fs::write(source.join(format!("small-{number}")), content).unwrap();
        }
    });
}

/// What is sent while a lane dies: four seconds of it.
const LANE_DIES_MIB: usize = 64;

fn a_lane_dies(make: impl FnOnce(&std::path::Path)) {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    make(&source);
    let receiving = Receive::into(&target).start();
    let relay = Relay::to(receiving.port());
    let sending = Send::from(&source, &relay.ticket(&receiving.ticket)).slowly(16);
    let sending = sending.args(["--lanes", "2", "--transport", "quic"]).start();
    // The control connection is the first flow, then come the two lanes.
    let lane = until("both lanes carry data", NOTICE, || {
        let flows = relay.flows();
        let lanes = flows.get(1..3)?;
        lanes.iter().all(|bytes| *bytes > 2 << 20).then_some(1)
    });
    relay.cut(lane);
    let sender = sending.wait(TRANSFER);
    sender.assert_success();
    assert!(sender.stderr.contains("died"), "says so: {sender}");
    let (receiver, received) = receiving.succeed(TRANSFER);
    let sent: serde_json::Value =
        serde_json::from_slice(&fs::read(place.path("source.send.json")).unwrap()).unwrap();
    assert!(sent["lanes_replaced"].as_u64().unwrap() >= 1, "{sent:#}");
    assert!(relay.flows().len() >= 4, "the lane came again: {:?}", relay.flows());
    let done = fastsst_tests::transfer::Done { sender, receiver, sent, received };
    assert_same_tree(&source, &target, &done);
}

#[test]
fn ports_may_be_rewritten_on_the_way() {
    let place = Sandbox::new();
    let (source, target) = small_source(&place);
    let receiving = Receive::into(&target).start();
    let relay = Relay::to(receiving.port());
    let ticket = relay.ticket(&receiving.ticket);
    let sending = Send::from(&source, &ticket).args(["--lanes", "4", "--transport", "quic"]);
    let (sender, sent) = sending.succeed(NOTICE);
    let (receiver, received) = receiving.succeed(NOTICE);
    assert_eq!(relay.flows().len(), 5, "control and four lanes");
    let done = fastsst_tests::transfer::Done { sender, receiver, sent, received };
    assert_same_tree(&source, &target, &done);
}

/// A transfer of which a few MiB have arrived.
fn under_way(source: &std::path::Path, target: &std::path::Path) -> (Receiving, Running) {
    let receiving = Receive::into(target).start();
    let sending = Send::from(source, &receiving.ticket).slowly(SLOW_MIB_PER_SECOND).start();
    wait_under_way(target, 2 << 20);
    (receiving, sending)
}

/// Without any cleaning, and without being told to replace anything.
fn assert_next_succeeds(source: &std::path::Path, target: &std::path::Path) {
    let receiving = Receive::into(target).start();
    Send::from(source, &receiving.ticket).run(TRANSFER).assert_success();
    receiving.wait(TRANSFER).assert_success();
    Listing::of(source).assert_eq(&Listing::of(target), "source and target differ");
    assert!(!target.join(".fastsst").exists(), "nothing of ours is left");
}
