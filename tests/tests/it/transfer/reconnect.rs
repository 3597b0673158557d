//! How long a transfer does without its lanes.

use std::time::{Duration, Instant};

use fastsst_tests::relay::Relay;
use fastsst_tests::transfer::{
    Listing, Receive, Receiving, Running, Sandbox, Send, TRANSFER, fill,
};
use fastsst_tests::wait::until;

use super::NOTICE;

/// Of the source. Unit: MiB.
const SOURCE_MIB: usize = 48;

/// How fast it is sent, so that something can happen in the middle. Unit: MiB/s.
const RATE: u32 = 12;

/// An attempt that got into the dark is over soon after there is light.
const ATTEMPT: [&str; 2] = ["--connect-timeout", "1"];

#[test]
fn lanes_that_are_missing_for_too_long_end_the_transfer_and_the_option_is_named() {
    let (place, receiving, relay) = behind_a_relay();
    let sending = send(&place, &relay, &receiving, ["--reconnect-timeout", "3"]);
    let broken = Instant::now();
    relay.block_tcp();
    relay.reset(1);
    relay.reset(2);
    let sender = sending.wait(NOTICE);
    let missing = broken.elapsed();
    sender.assert_failed("E17", 32);
    for words in ["missing for 3 s", "sst-reconnect-timeout", "--reconnect-timeout"] {
        assert!(sender.stderr.contains(words), "no {words:?}: {sender}");
    }
    let about = Duration::from_secs(3)..Duration::from_secs(5);
    assert!(about.contains(&missing), "ended after {missing:?}: {sender}");
    receiving.wait(NOTICE).assert_failed("E19", 103);
}

#[test]
fn lanes_that_come_back_in_time_go_on_and_send_nothing_that_was_acknowledged() {
    let (place, receiving, relay) = behind_a_relay();
    let sending = send(&place, &relay, &receiving, ["--reconnect-timeout", "20"]);
    relay.block_tcp();
    relay.reset(1);
    relay.reset(2);
    // Both have failed to come back at least once.
    until("the lanes try to come back", NOTICE, || {
        (sending.log().matches("died").count() >= 4).then_some(())
    });
    relay.unblock_tcp();
    let sender = sending.wait(TRANSFER);
    sender.assert_success();
    let (_, received) = receiving.succeed(TRANSFER);
    let [source, target] = ["source", "target"].map(|name| Listing::of(&place.path(name)));
    source.assert_eq(&target, "another tree arrived");

    let again: u64 = unacknowledged(&sender.stderr).iter().sum();
    let (size, wire) = ((SOURCE_MIB as u64) << 20, relay.connections().iter().sum::<u64>());
    assert!(again < SOURCE_MIB as u64 / 2, "most was acknowledged: {sender}");
    // Frames, TLS records, handshakes and the conversation.
    let most = size + (again << 20) + (1 << 20);
    assert!(
        (size..most).contains(&wire),
        "{wire} bytes for {size}, {again} chunks again: {sender}"
    );
    assert!(received["wire_bytes"].as_u64().unwrap() < most, "{received:#}");
}

#[test]
fn one_lane_may_stay_away_for_ever() {
    let (place, receiving, relay) = behind_a_relay();
    let sending = send(&place, &relay, &receiving, ["--reconnect-timeout", "1"]);
    relay.block_tcp();
    relay.reset(1);
    let broken = Instant::now();
    let sender = sending.wait(TRANSFER);
    sender.assert_success();
    assert!(broken.elapsed() > Duration::from_secs(1), "longer than the time-out: {sender}");
    let (_, received) = receiving.succeed(TRANSFER);
    let copied = received["seconds"]["commit"].as_f64().unwrap();
    assert!(copied < 3.0, "nobody waits for it at the end: {received:#}");
    let [source, target] = ["source", "target"].map(|name| Listing::of(&place.path(name)));
    source.assert_eq(&target, "another tree arrived");
    // The conversation, two lanes, and nothing that came again.
    assert_eq!(relay.connections().len(), 3);
}

fn behind_a_relay() -> (Sandbox, Receiving, Relay) {
    let place = Sandbox::new();
    let source = place.dir("source");
    for number in 0..4 {
        fill(&source.join(format!("noise-{number}")), number, SOURCE_MIB / 4);
    }
    let receiving = Receive::into(&place.dir("target")).start();
    let relay = Relay::to(receiving.port());
    (place, receiving, relay)
}

/// Starts a sender with two lanes over TCP and waits until both carry data.
fn send(place: &Sandbox, relay: &Relay, receiving: &Receiving, arguments: [&str; 2]) -> Running {
    let lanes = ["--lanes", "2", "--transport", "tcp"];
    let sending = Send::from(&place.path("source"), &relay.ticket(&receiving.ticket));
    let sending = sending.args(lanes).args(ATTEMPT).args(arguments).slowly(RATE).start();
    // The conversation is the first connection.
    until("both lanes carry data", NOTICE, || {
        let connections = relay.connections();
        connections.get(1..3)?.iter().all(|bytes| *bytes > 4 << 20).then_some(())
    });
    sending
}

/// How many chunks each lane that died had to give back, as the log says.
fn unacknowledged(log: &str) -> Vec<u64> {
    let told = log.lines().filter_map(|line| line.split_once("died, its ")?.1.split_once(' '));
    told.map(|(number, _)| number.parse().expect("a number")).collect()
}
