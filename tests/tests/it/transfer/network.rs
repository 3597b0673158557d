//! What carries the data, and what happens when the network takes it away.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastsst_mover::Transport;
use fastsst_proto::Frame;
use fastsst_proto::frame::Accept;
use fastsst_tests::relay::Relay;
use fastsst_tests::stranger::{Guest, Joiner, as_donor};
use fastsst_tests::transfer::{
    Done, Receive, Receiving, Running, Sandbox, Send, TRANSFER, Transfer, assert_same_tree, fill,
};
use fastsst_tests::wait::until;
use serde_json::Value;

use super::{NOTICE, small_source};

/// What the design promises for a network without UDP.
const TAKES_OVER: Duration = Duration::from_secs(3);

/// How fast sources are sent in which something happens in the middle. Unit: MiB/s.
const RATE: u32 = 16;

#[test]
fn both_ends_may_choose_tcp() {
    let place = Sandbox::new();
    let (source, target) = small_source(&place);
    let done = Transfer::new(&source, &target)
        .receive(["--transport", "tcp"])
        .send(["--transport", "tcp", "--lanes", "3"])
        .run();
    assert_carried(&done, "tcp", "as chosen");
    assert_same_tree(&source, &target, &done);
    assert!(!done.receiver.stderr.contains("WARN"), "{}", done.receiver);
}

#[test]
fn as_many_lanes_as_there_may_be_come_at_once() {
    let place = Sandbox::new();
    let (source, target) = small_source(&place);
    let done = Transfer::new(&source, &target).send(["--transport", "tcp", "--lanes", "64"]).run();
    assert_eq!(done.sent["lanes"], 64, "{:#}", done.sent);
    assert_eq!(done.sent["lanes_replaced"], 0, "{}", done.sender);
    assert_same_tree(&source, &target, &done);
}

#[test]
fn a_transfer_without_any_choice_uses_quic_and_says_why() {
    let place = Sandbox::new();
    let (source, target) = small_source(&place);
    let done = Transfer::new(&source, &target).run();
    assert_carried(&done, "quic", "datagrams get through");
    assert!(done.sender.stderr.contains("lanes over quic: datagrams"), "{}", done.sender);
    // The connection that has shown it was given up in good order.
    assert!(!done.receiver.stderr.contains("WARN"), "{}", done.receiver);
    assert_same_tree(&source, &target, &done);
}

#[test]
fn where_udp_is_blocked_tcp_takes_over() {
    let (place, receiving, relay) = behind_a_relay(8);
    relay.block_udp();
    let started = Instant::now();
    let sending = send(&place, &relay, &receiving, &[]).start();
    sending.wait_logged("lanes over tcp", NOTICE);
    assert!(started.elapsed() < TAKES_OVER, "{:?}", started.elapsed());
    let done = finish(&place, receiving, sending);
    assert_carried(&done, "tcp", "UDP does not get through");
}

#[test]
fn where_udp_is_refused_tcp_takes_over_at_once() {
    let place = Sandbox::new();
    let (source, target) = small_source(&place);
    let started = Instant::now();
    let done = Transfer::new(&source, &target).receive(["--transport", "tcp"]).run();
    assert_carried(&done, "tcp", "nothing listens there");
    let connect = done.sent["seconds"]["connect"].as_f64().unwrap();
    assert!(connect < 1.5, "{connect} of {:?}", started.elapsed());
}

#[test]
fn when_udp_dies_in_the_middle_tcp_goes_on() {
    let (place, receiving, relay) = behind_a_relay(192);
    let sending = send(&place, &relay, &receiving, &["--lanes", "2"]).slowly(RATE).start();
    // The first flow shows that datagrams get through, then come the two lanes.
    until("both lanes carry data", NOTICE, || {
        let flows = relay.flows();
        flows.get(1..3)?.iter().all(|bytes| *bytes > 4 << 20).then_some(())
    });
    relay.block_udp();
    let died = Instant::now();
    sending.wait_logged("lanes go over to tcp", NOTICE);
    assert!(died.elapsed() < Duration::from_secs(9), "{:?}", died.elapsed());
    let done = finish(&place, receiving, sending);
    let times = done.sender.stderr.matches("lanes go over").count();
    assert_eq!(times, 1, "says it once: {}", done.sender);
    let reason = done.sent["transport_reason"].as_str().unwrap();
    assert!(reason.contains("UDP died after"), "{reason}");
    assert!(done.sent["lanes_replaced"].as_u64().unwrap() >= 2, "{:#}", done.sent);
    let received = done.received["transport_reason"].as_str().unwrap();
    assert!(received.contains("over quic") && received.contains("over tcp"), "{received}");
}

#[test]
fn where_tcp_is_blocked_quic_carries_everything() {
    let (place, receiving, relay) = behind_a_relay(8);
    relay.block_tcp();
    let sending = send(&place, &relay, &receiving, &[]).start();
    let done = finish(&place, receiving, sending);
    assert_carried(&done, "quic", "TCP does not get through");
    assert!(done.sent["seconds"]["connect"].as_f64().unwrap() < 2.0, "{:#}", done.sent);
    assert!(relay.connections().is_empty());
}

#[test]
fn tcp_is_measured_where_it_can_win_and_no_chunk_is_lost_or_sent_twice() {
    // Enough for QUIC's warm-up and measurement, and for TCP's, on a fast machine, too.
    let (place, receiving, relay) = behind_a_relay(1024);
    // Loopback takes datagrams so large that QUIC costs no more than TCP.
    relay.limit_datagrams(1300);
    let arguments = ["--lanes", "2", "--compress", "none"];
    let sending = send(&place, &relay, &receiving, &arguments).start();
    let done = finish(&place, receiving, sending);
    let log = &done.sender.stderr;
    assert!(log.contains("on trial, QUIC carried"), "{log}");
    let reason = done.sent["transport_reason"].as_str().unwrap();
    assert!(reason.contains("times as fast"), "{reason}");
    assert!(!log.contains("died"), "{log}");
    assert_eq!(done.sent["lanes_replaced"], 0, "{:#}", done.sent);
    let [bytes, wire] = ["bytes", "wire_bytes"].map(|key| done.sent[key].as_u64().unwrap());
    assert!((bytes..bytes + (1 << 20)).contains(&wire), "{:#}", done.sent);
    // The conversation counts, too, and the joiner's figures are made before its end.
    let received = done.received["wire_bytes"].as_u64().unwrap();
    assert!(received.abs_diff(wire) < 4096, "{:#}", done.received);
}

#[test]
fn a_path_that_begins_to_swallow_large_datagrams_is_got_over() {
    let (place, receiving, relay) = behind_a_relay(96);
    let arguments = ["--lanes", "2", "--transport", "quic"];
    let sending = send(&place, &relay, &receiving, &arguments).slowly(RATE).start();
    until("both lanes carry data", NOTICE, || {
        let flows = relay.flows();
        flows.get(1..3)?.iter().all(|bytes| *bytes > 4 << 20).then_some(())
    });
    relay.limit_datagrams(1300);
    let done = finish(&place, receiving, sending);
    let said = done.sender.stderr.matches("swallows large datagrams").count();
    assert_eq!(said, 1, "says it once: {}", done.sender);
}

#[test]
fn a_path_for_small_datagrams_only_is_found_out() {
    let (place, receiving, relay) = behind_a_relay(32);
    relay.limit_datagrams(1300);
    let sending = send(&place, &relay, &receiving, &["--transport", "quic"]).start();
    let done = finish(&place, receiving, sending);
    assert_carried(&done, "quic", "as chosen");
}

#[test]
fn a_tcp_lane_that_is_reset_is_replaced() {
    let done = with_a_broken_tcp_lane(48, Relay::reset);
    assert!(done.sender.stderr.contains("reset"), "says why: {}", done.sender);
}

#[test]
fn a_tcp_lane_that_is_half_open_is_noticed_and_replaced() {
    // Longer than the silence after which it is given up.
    let done = with_a_broken_tcp_lane(192, Relay::stall);
    assert!(done.sender.stderr.contains("nothing heard"), "says why: {}", done.sender);
}

#[test]
fn a_receiver_with_a_slow_disk_is_waited_for() {
    for transport in [Transport::Quic, Transport::Tcp] {
        let place = Sandbox::new();
        let source = place.dir("source");
        // More than every buffer on the way holds.
        const CHUNKS: usize = 96;
        fill(&source.join("noise"), 1, CHUNKS);
        let joiner = Joiner::over(transport, async move |guest| {
            be_slow(guest, CHUNKS, transport).await;
        });
        let sender = Send::from(&source, &joiner.ticket).args(["--lanes", "1"]).run(TRANSFER);
        sender.assert_success();
        assert!(!sender.stderr.contains("died"), "{sender}");
        joiner.join();
    }
}

#[test]
fn a_receiver_says_on_a_tcp_lane_that_it_is_there() {
    let place = Sandbox::new();
    let receiving = Receive::into(&place.dir("target")).args(["--transport", "tcp"]).start();
    as_donor(&receiving.ticket, async |mut donor| {
        donor.begin().await;
        let mut lane = donor.lane().await;
        lane.hear_heartbeat().await;
        lane.hear_heartbeat().await;
    });
    receiving.wait(NOTICE).assert_failed("E17", 32);
}

#[test]
fn a_sender_and_a_receiver_that_chose_differently_say_what_to_do() {
    for (receives, sends, protocol) in [("tcp", "quic", "UDP"), ("quic", "tcp", "TCP")] {
        let place = Sandbox::new();
        let (source, target) = small_source(&place);
        let receiving = Receive::into(&target).args(["--transport", receives]).start();
        let started = Instant::now();
        let sending = Send::from(&source, &receiving.ticket);
        let arguments = ["--transport", sends, "--connect-timeout", "2"];
        let sender = sending.args(arguments).run(NOTICE);
        sender.assert_failed("E11", 113);
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        let words = [&format!("{protocol} port {}", receiving.port()), "transport option"];
        for words in words {
            assert!(sender.stderr.contains(words), "no {words:?}: {sender}");
        }
    }
}

/// A joiner that takes chunks only after longer than any silence that is allowed.
async fn be_slow(mut guest: Guest, chunks: usize, transport: Transport) {
    let heartbeat = Frame::Heartbeat { bytes: 0, files: 0, phase: 2 };
    guest.greet().await;
    guest.hear_until(|frame| matches!(frame, Frame::Declare(_))).await;
    guest.talk.say(&Frame::Accept(Accept { lanes: 1 })).await;
    let offer = guest.hear_until(|frame| matches!(frame, Frame::LaneOffer { .. })).await;
    let Frame::LaneOffer { lane, .. } = offer else { panic!("{offer:?}") };
    guest.talk.say(&Frame::LaneReady { lane, own_socket: false }).await;
    let mut lane = guest.lane().await;
    for _second in 0..11 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        guest.talk.say(&heartbeat).await;
        // QUIC keeps its connections alive by itself.
        if transport == Transport::Tcp {
            lane.say(&heartbeat).await;
        }
    }
    for _chunk in 0..chunks {
        let chunk = lane.hear_chunk().await;
        lane.say(&Frame::Ack(vec![chunk])).await;
    }
    let finish = guest.hear_until(|frame| matches!(frame, Frame::Finish(_))).await;
    let Frame::Finish(finish) = finish else { panic!("{finish:?}") };
    guest.talk.say(&Frame::Committed { root_hash: finish.root_hash }).await;
    guest.talk.hear_end().await;
}

/// A source of so many MiB and a receiver behind a relay.
fn behind_a_relay(mib: usize) -> (Sandbox, Receiving, Relay) {
    let place = Sandbox::new();
    let source = place.dir("source");
    for number in 0..4 {
        fill(&source.join(format!("noise-{number}")), number, mib / 4);
    }
    let receiving = Receive::into(&place.dir("target")).start();
    let relay = Relay::to(receiving.port());
    (place, receiving, relay)
}

fn send(place: &Sandbox, relay: &Relay, receiving: &Receiving, arguments: &[&str]) -> Send {
    Send::from(&place.path("source"), &relay.ticket(&receiving.ticket)).args(arguments)
}

/// Waits for the good end of both, and compares the trees.
fn finish(place: &Sandbox, receiving: Receiving, sending: Running) -> Done {
    let sender = sending.wait(TRANSFER);
    if !sender.is_success() {
        let receiver = receiving.wait(TRANSFER);
        panic!("the transfer failed\n{sender}\n{receiver}");
    }
    sender.assert_success();
    let (receiver, received) = receiving.succeed(TRANSFER);
    let sent = summary(&place.path("source.send.json"));
    let done = Done { sender, receiver, sent, received };
    let paths: [PathBuf; 2] = ["source", "target"].map(|name| place.path(name));
    assert_same_tree(&paths[0], &paths[1], &done);
    done
}

fn with_a_broken_tcp_lane(mib: usize, break_it: fn(&Relay, usize)) -> Done {
    let (place, receiving, relay) = behind_a_relay(mib);
    let arguments = ["--lanes", "2", "--transport", "tcp"];
    let sending = send(&place, &relay, &receiving, &arguments).slowly(RATE).start();
    // The control connection is the first one, then come the two lanes.
    until("both lanes carry data", NOTICE, || {
        let connections = relay.connections();
        connections.get(1..3)?.iter().all(|bytes| *bytes > 4 << 20).then_some(())
    });
    break_it(&relay, 1);
    let done = finish(&place, receiving, sending);
    assert!(done.sender.stderr.contains("died"), "says so: {}", done.sender);
    assert!(done.sent["lanes_replaced"].as_u64().unwrap() >= 1, "{:#}", done.sent);
    assert!(relay.connections().len() >= 4, "the lane came again: {:?}", relay.connections());
    done
}

fn assert_carried(done: &Done, transport: &str, reason: &str) {
    for summary in [&done.sent, &done.received] {
        assert_eq!(summary["transport"], transport, "{summary:#}");
    }
    let why = done.sent["transport_reason"].as_str().unwrap();
    assert!(why.contains(reason), "no {reason:?}: {why}");
    assert_eq!(done.received["transport_reason"], format!("every lane over {transport}"));
    assert!(done.sender.stderr.contains(&format!("lanes over {transport}")), "{}", done.sender);
}

fn summary(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
