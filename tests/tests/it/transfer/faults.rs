//! Networks that lose, delay, reorder, double, damage, choke or swallow what passes: a transfer
//! finishes, or both ends say what happened and the next attempt finishes. What is damaged on the
//! way never reaches the disk.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastsst_mover::staging::Keep;
use fastsst_mover::{
    AnyDonor, Cancel, Code, Options, Owner, Place, Progress, ReceiveConfig, Received, Receiver,
    Result,
};
use fastsst_tests::relay::{Faults, Happened, Relay, Way};
use fastsst_tests::transfer::{
    Done, Ended, Listing, Receive, Receiving, Running, Sandbox, Send, TRANSFER, Transfer,
    assert_same_tree, b3sum, fill, noise,
};
use fastsst_tests::wait::until;
use rustix::process::Signal;

use super::{NOTICE, assert_empty, assert_untouched, used_target};

/// What the tree is made of.
const LARGE_MIB: [usize; 3] = [4, 2, 1];
const SMALL_FILES: usize = 300;
const SMALL_BYTES_MAX: usize = 24_000;

/// Bytes of the tree, about, and certainly more than. Unit: bytes.
const TREE_BYTES: u64 = 9 << 20;

/// How fast the tree is sent when something happens in the middle. Unit: MiB/s.
const RATE: u32 = 4;

/// What has passed then.
const MIDDLE_BYTES: u64 = 3 << 20;

/// What Ethernet lets pass over IPv4. Why: on loopback datagrams are too few for chances.
const ETHERNET_BYTES: usize = 1472;

/// Both ends end. Why: one notices after the protocol's 8 s, and tells the other if it can.
const GONE: [(&str, i32); 2] = [("E17", 32), ("E19", 103)];

const MS: Duration = Duration::from_millis(1);

#[test]
fn lost_datagrams_are_sent_again() {
    let network = Faults::none().lose(20).mtu(ETHERNET_BYTES);
    let (_, happened) = finishes("quic", network);
    assert!(happened.lost > 0, "{happened:?}");
}

#[test]
fn datagrams_may_come_late_twice_and_in_another_order() {
    let network = Faults::none().delay(2 * MS, 3 * MS).reorder(10).double(50);
    let (_, happened) = finishes("quic", network.mtu(ETHERNET_BYTES));
    assert!(happened.held_back > 0 && happened.doubled > 0, "{happened:?}");
}

#[test]
fn damaged_datagrams_are_as_good_as_lost() {
    let network = Faults::none().flip(20).mtu(ETHERNET_BYTES);
    let (_, happened) = finishes("quic", network);
    assert!(happened.flipped > 0, "{happened:?}");
}

#[test]
fn streams_may_come_late_and_in_small_pieces() {
    let network = Faults::none().delay(10 * MS, 10 * MS).lose(10).mtu(1400);
    let (done, happened) = finishes("tcp", network);
    assert!(happened.lost > 0, "{happened:?}");
    assert_eq!(done.sent["lanes_replaced"], 0, "late is not dead: {}", done.sender);
}

#[test]
fn a_slow_link_with_a_short_queue_is_filled_over_quic() {
    let happened = a_slow_link("quic");
    assert!(happened.overflowed > 0, "{happened:?}");
}

#[test]
fn a_slow_link_with_a_short_queue_is_filled_over_tcp() {
    a_slow_link("tcp");
}

#[test]
fn a_network_with_every_fault_at_once_is_got_over() {
    let network = Faults::none()
        .lose(2)
        .double(5)
        .reorder(5)
        .flip(2)
        .delay(2 * MS, 2 * MS)
        .rate(4 << 20, 256 << 10)
        .mtu(1400);
    let (_, happened) = finishes("quic", network);
    let Happened { lost, doubled, held_back, flipped, .. } = happened;
    assert!([lost, doubled, held_back, flipped].iter().all(|it| *it > 0), "{happened:?}");
}

#[test]
fn lanes_whose_flows_die_again_and_again_bring_it_to_an_end_over_quic() {
    let (done, _) = finishes_with("quic", Faults::none().silent_after(5 << 20), &["--lanes", "2"]);
    assert!(replaced(&done) >= 1, "{:#}", done.sent);
}

#[test]
fn lanes_that_are_reset_again_and_again_bring_it_to_an_end_over_tcp() {
    let network = Faults::none().reset_after(3 << 20);
    let (done, _) = finishes_with("tcp", network, &["--lanes", "2"]);
    assert!(replaced(&done) >= 2, "{:#}", done.sent);
}

#[test]
fn a_wrong_bit_on_a_tcp_lane_costs_the_lane_only() {
    let route = Route::through(Faults::none());
    let sending = route.in_the_middle("tcp");
    route.relay.set_connection(1, Faults::none().flip(1000));
    let (done, happened) = route.finish(sending);
    assert!(happened.flipped > 0, "{happened:?}");
    assert!(replaced(&done) >= 1, "{:#}", done.sent);
}

#[test]
fn a_wrong_bit_in_the_conversation_over_tcp_ends_both_and_changes_nothing() {
    let route = Route::through(Faults::none());
    let sending = route.in_the_middle("tcp");
    route.relay.set_connection(0, Faults::none().flip(1000));
    route.fails(sending, &[("E16", 71), ("E17", 32), ("E19", 103)]);
}

#[test]
fn wrong_bits_everywhere_over_tcp_never_reach_the_disk_however_many_attempts_it_takes() {
    const ATTEMPTS: u64 = 20;
    let place = Sandbox::new();
    let (source, target) = (tree(&place), place.dir("target"));
    let network = Faults::none().flip(6).mtu(16 << 10);
    let mut flipped = 0;
    let succeeds = (0..ATTEMPTS).any(|attempt| {
        let receiving = Receive::into(&target).args(["--replace"]).start();
        let relay = Relay::to(receiving.port()).with(network.clone().turn(attempt));
        let sending = Send::from(&source, &relay.ticket(&receiving.ticket));
        let sender = sending.args(["--transport", "tcp", "--lanes", "2"]).run(TRANSFER);
        if !sender.is_success() && !receiving.running.log().contains("has proven itself") {
            // It never came to a conversation, and the receiver would wait for another one.
            receiving.running.signal(Signal::TERM);
        }
        let receiver = receiving.wait(NOTICE);
        flipped += relay.happened().flipped;
        if receiver.is_success() {
            Listing::of(&source).assert_eq(&Listing::of(&target), "source and target differ");
            return flipped > 0;
        }
        receiver.assert_failed_one_of(&[("E17", 32), ("E19", 103), ("E28", 3)]);
        // Words that nothing protects yet may look like a stranger's.
        sender.assert_failed_one_of(&[("E11", 113), ("E14", 71), ("E17", 32), ("E19", 103)]);
        assert_empty(&target);
        false
    });
    assert!(succeeds, "not once in {ATTEMPTS} attempts with {flipped} wrong bits: {network:?}");
}

#[test]
fn when_a_network_swallows_everything_in_the_middle_both_ends_say_so() {
    over(&["quic", "tcp", "auto"], |transport| {
        let route = Route::through(Faults::none());
        let sending = route.in_the_middle(transport);
        route.relay.set(Faults::black_hole());
        route.fails(sending, &[("E17", 32)]);
    });
}

#[test]
fn when_nothing_gets_to_the_joiner_any_more_both_ends_end() {
    half_open(Way::ToJoiner);
}

#[test]
fn when_nothing_gets_to_the_donor_any_more_both_ends_end() {
    half_open(Way::ToDonor);
}

#[test]
fn when_the_conversation_is_reset_both_ends_end_at_once() {
    let route = Route::through(Faults::none());
    let sending = route.in_the_middle("tcp");
    let reset = Instant::now();
    route.relay.reset(0);
    route.fails(sending, &GONE);
    assert!(reset.elapsed() < Duration::from_secs(15), "{:?}", reset.elapsed());
}

#[test]
fn a_joiner_behind_a_network_that_swallows_everything_waits_for_a_better_one() {
    let place = Sandbox::new();
    let (source, (target, before)) = (tree(&place), used_target(&place));
    let receiving = Receive::into(&target).args(["--replace"]).start();
    for transport in ["quic", "tcp", "auto"] {
        let relay = Relay::to(receiving.port()).with(Faults::black_hole());
        let arguments = ["--transport", transport, "--connect-timeout", "1"];
        let sending = Send::from(&source, &relay.ticket(&receiving.ticket)).args(arguments);
        sending.run(NOTICE).assert_failed("E11", 113);
        assert_untouched(&target, &before);
    }
    let (sender, sent) = Send::from(&source, &receiving.ticket).succeed(TRANSFER);
    let (receiver, received) = receiving.succeed(TRANSFER);
    assert_same_tree(&source, &target, &Done { sender, receiver, sent, received });
}

#[test]
fn what_a_node_keeps_is_the_same_after_a_cut_and_after_the_next_attempt() {
    let place = Sandbox::new();
    let (source, (target, _)) = (tree(&place), used_target(&place));
    fs::set_permissions(target.join(KEPT), fs::Permissions::from_mode(0o640)).unwrap();
    fs::remove_dir_all(target.join("database")).unwrap();
    let kept = Listing::of(&target);
    fill(&target.join("replaced"), 98, 1);

    let (relay, ticket, receiving) = keeping_receiver(&target);
    let sending = Send::from(&source, &relay.ticket(&ticket)).slowly(RATE).start();
    wait_for_the_middle(&relay);
    relay.set(Faults::black_hole());
    sending.wait(NOTICE).assert_failed("E17", 32);
    assert_eq!(receiving.join().unwrap().unwrap_err().code(), Code::PeerGone);
    assert_untouched(&target, &kept);

    let (relay, ticket, receiving) = keeping_receiver(&target);
    Send::from(&source, &relay.ticket(&ticket)).run(TRANSFER).assert_success();
    receiving.join().unwrap().unwrap();
    fs::copy(target.join(KEPT), source.join(KEPT)).unwrap();
    let both = [&source, &target].map(|root| b3sums(root));
    assert_eq!(both[0], both[1], "what was sent, and what was kept");
    assert_eq!(fs::read(target.join(KEPT)).unwrap(), b"data");
}

/// A tree with large and small files, through a relay.
struct Route {
    place: Sandbox,
    source: PathBuf,
    target: PathBuf,
    receiving: Receiving,
    relay: Relay,
}

impl Route {
    fn through(network: Faults) -> Self {
        let place = Sandbox::new();
        let (source, target) = (tree(&place), place.dir("target"));
        let receiving = Receive::into(&target).start();
        let relay = Relay::to(receiving.port()).with(network);
        Self { place, source, target, receiving, relay }
    }

    fn send(&self, transport: &str) -> Send {
        let ticket = self.relay.ticket(&self.receiving.ticket);
        Send::from(&self.source, &ticket).args(["--transport", transport])
    }

    /// A sender of which a part has arrived.
    fn in_the_middle(&self, transport: &str) -> Running {
        let sending = self.send(transport).args(["--lanes", "2"]).slowly(RATE).start();
        wait_for_the_middle(&self.relay);
        sending
    }

    /// Waits for the good end of both, and compares the trees.
    fn finish(self, sending: Running) -> (Done, Happened) {
        let sender = sending.wait(TRANSFER);
        if !sender.is_success() {
            let receiver = self.receiving.wait(TRANSFER);
            panic!("the transfer failed\n{sender}\n{receiver}");
        }
        let (receiver, received) = self.receiving.succeed(TRANSFER);
        let sent = fs::read(self.place.path("source.send.json")).unwrap();
        let sent = serde_json::from_slice(&sent).unwrap();
        let done = Done { sender, receiver, sent, received };
        assert_same_tree(&self.source, &self.target, &done);
        (done, self.relay.happened())
    }

    /// Waits for the bad end of both with one of these codes, after which nothing is in place, and
    /// then for the good end of the next attempt.
    fn fails(self, sending: Running, accepted: &[(&str, i32)]) -> [Ended; 2] {
        let Self { source, target, receiving, place: _place, relay: _relay } = self;
        let ended = [sending.wait(NOTICE), receiving.wait(NOTICE)];
        for end in &ended {
            end.assert_failed_one_of(accepted);
        }
        assert_empty(&target);
        let done = Transfer::new(&source, &target).run();
        assert_same_tree(&source, &target, &done);
        assert!(!target.join(".fastsst").exists(), "nothing of ours is left");
        ended
    }
}

fn wait_for_the_middle(relay: &Relay) {
    until("the middle of the transfer", NOTICE, || {
        let passed: u64 = relay.flows().iter().chain(&relay.connections()).sum();
        (passed >= MIDDLE_BYTES).then_some(())
    });
}

/// A transfer through a network that is bad from the beginning.
fn finishes(transport: &str, network: Faults) -> (Done, Happened) {
    finishes_with(transport, network, &[])
}

fn finishes_with(transport: &str, network: Faults, arguments: &[&str]) -> (Done, Happened) {
    let route = Route::through(network);
    let sending = route.send(transport).args(arguments).start();
    route.finish(sending)
}

fn a_slow_link(transport: &str) -> Happened {
    const BYTES_PER_SECOND: u64 = 4 << 20;
    let network = Faults::none().rate(BYTES_PER_SECOND, 128 << 10);
    let (done, happened) = finishes(transport, network.mtu(ETHERNET_BYTES));
    let least = (TREE_BYTES / BYTES_PER_SECOND) as f64;
    let copy = done.sent["seconds"]["copy"].as_f64().unwrap();
    assert!(copy >= least, "{copy} s, and not at least {least} s");
    happened
}

/// At the same time, because most of it is waiting.
fn over(transports: &[&str], run: impl Fn(&str) + Sync) {
    thread::scope(|scope| {
        for transport in transports {
            scope.spawn(|| run(transport));
        }
    });
}

fn half_open(dead: Way) {
    over(&["quic", "tcp"], |transport| {
        let route = Route::through(Faults::none());
        let sending = route.in_the_middle(transport);
        route.relay.set(Faults::half_open(dead));
        let ended = route.fails(sending, &GONE);
        let noticed = ended.iter().filter(|end| end.stderr.contains("ERROR E17")).count();
        assert!(noticed >= 1, "one of them has noticed: {} {}", ended[0], ended[1]);
    });
}

/// A tree of which large files are the smaller part of the work.
fn tree(place: &Sandbox) -> PathBuf {
    let source = place.dir("source");
    for (number, mib) in LARGE_MIB.into_iter().enumerate() {
        fill(&source.join(format!("large-{number}")), number as u64, mib);
    }
    fs::create_dir(source.join("small")).unwrap();
    for number in 0..SMALL_FILES {
        let bytes = number * SMALL_BYTES_MAX / SMALL_FILES;
        let content = noise(1000 + number as u64, bytes);
        fs::write(source.join("small").join(number.to_string()), content).unwrap();
    }
    source
}

fn replaced(done: &Done) -> u64 {
    done.sent["lanes_replaced"].as_u64().unwrap()
}

/// What stays in the target.
const KEPT: &str = "precious";

#[derive(Debug)]
struct KeepOne;

impl Keep for KeepOne {
    fn keep(&self, name: &[u8]) -> bool {
        name == KEPT.as_bytes()
    }
}

/// A receiver in this process, behind a relay, and its ticket.
fn keeping_receiver(target: &Path) -> (Relay, String, JoinHandle<Result<Received>>) {
    let bind = || {
        let (path, keep) = (target.into(), Arc::new(KeepOne));
        Receiver::bind(ReceiveConfig {
            places: vec![Place { name: "data".into(), path, keep }],
            listen: "127.0.0.1:0".parse().unwrap(),
            options: Options::default(),
            owner: Owner::Preserve,
            software: "test".into(),
        })
    };
    // Threads of an earlier receiver of this process may still hold its lock for a moment.
    let receiver = until("the directory is free", NOTICE, || match bind() {
        Err(error) if error.code() == Code::Busy => None,
        receiver => Some(receiver.unwrap()),
    });
    let relay = Relay::to(receiver.port());
    let ticket = receiver.ticket("127.0.0.1").unwrap().to_text().to_string();
    let receiving = thread::spawn(move || {
        receiver.run(
            &mut AnyDonor::for_places(&["data"]),
            &Arc::new(Progress::default()),
            &Cancel::new(),
        )
    });
    (relay, ticket, receiving)
}

/// Content of every file.
fn b3sums(root: &Path) -> BTreeMap<PathBuf, String> {
    let small = fs::read_dir(root.join("small")).unwrap();
    let files = fs::read_dir(root).unwrap().chain(small).map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.is_file());
    files.map(|path| (path.strip_prefix(root).unwrap().to_owned(), b3sum(&path))).collect()
}
