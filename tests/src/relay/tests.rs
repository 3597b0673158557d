//! The faults strike as often, and when, they should: by themselves, and through sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::faults::Rate;
use super::flow::{Fate, Flow};
use super::link::Link;
use super::network::Network;
use super::schedule::Schedule;
use super::{Faults, Happened, Relay, Way};
use crate::wait::until;

/// A busy machine may take this long to wake a thread.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longer than anything takes that is not delayed, shorter than what is meant to be.
const SILENCE: Duration = Duration::from_millis(200);

const DATAGRAM: [u8; 100] = [7; 100];

/// Which of so many datagrams arrive, unharmed or not, and how often.
fn fates(faults: Faults, datagrams: usize) -> (Vec<(usize, [u8; 100])>, Happened) {
    let network = Network::new();
    network.set(faults);
    let flow = Flow::new(&network, 3);
    let mut fates = Vec::new();
    for _ in 0..datagrams {
        let mut datagram = DATAGRAM;
        let passage = flow.datagram(&network, Way::ToJoiner, &mut datagram);
        let copies = passage.map_or(0, |passage| 1 + usize::from(passage.again.is_some()));
        fates.push((copies, datagram));
    }
    (fates, network.tally.read())
}

#[test]
fn without_faults_everything_passes_once_at_once_and_unharmed() {
    let (fates, happened) = fates(Faults::seeded(1), 1000);
    assert!(fates.iter().all(|fate| *fate == (1, DATAGRAM)));
    assert_eq!(happened, Happened::default());
}

#[test]
fn the_same_seed_has_the_same_chances_and_another_one_has_others() {
    let faults = |seed| Faults::seeded(seed).lose(100).double(100).flip(100).reorder(100);
    assert_eq!(fates(faults(5), 1000), fates(faults(5), 1000));
    assert_ne!(fates(faults(5), 1000), fates(faults(6), 1000));
    assert_ne!(fates(faults(5), 1000), fates(faults(5).turn(1), 1000));
}

#[test]
fn each_fault_strikes_as_often_as_it_should() {
    let faults = Faults::seeded(7).lose(100).double(100).flip(100).reorder(100);
    let (fates, happened) = fates(faults, 10_000);
    let Happened { lost, doubled, held_back, flipped, .. } = happened;
    for struck in [lost, doubled, held_back, flipped] {
        assert!((800..1200).contains(&struck), "{happened:?}");
    }
    let count = |copies| fates.iter().filter(|fate| fate.0 == copies).count() as u64;
    assert_eq!((count(0), count(2)), (lost, doubled));
    let wrong = fates.iter().map(|fate| {
        let bits = fate.1.iter().zip(DATAGRAM).map(|(here, there)| (here ^ there).count_ones());
        bits.sum::<u32>()
    });
    let (wrong, most) = wrong.fold((0, 0), |(sum, most), bits| (sum + bits, most.max(bits)));
    assert_eq!((u64::from(wrong), most), (flipped, 1), "one bit of each");
}

#[test]
fn datagrams_keep_their_order_but_those_that_are_held_back() {
    for (per_mille, is_ordered) in [(0, true), (100, false)] {
        let network = Network::new();
        let jitter = Duration::from_millis(5);
        network.set(Faults::seeded(2).delay(jitter, jitter).reorder(per_mille));
        let flow = Flow::new(&network, 0);
        let dues: Vec<Instant> = (0..1000)
            .map(|_| flow.datagram(&network, Way::ToDonor, &mut [0]).unwrap().due)
            .collect();
        assert_eq!(dues.is_sorted(), is_ordered);
    }
}

#[test]
fn pieces_of_a_stream_keep_their_order_whatever_changes() {
    let network = Network::new();
    let flow = Flow::new(&network, 0);
    let delay = Duration::from_millis(50);
    let mut last = Instant::now();
    for (number, faults) in [
        Faults::seeded(1).delay(delay, delay).lose(300).rate(1 << 20, 1 << 20),
        Faults::seeded(1),
        Faults::seeded(1).reorder(500).double(500),
    ]
    .into_iter()
    .enumerate()
    {
        network.set(faults);
        for _ in 0..100 {
            let due = flow.piece(&network, Way::ToJoiner, &mut [0; 100]);
            assert!(due >= last, "in round {number}");
            last = due;
        }
    }
    assert!(network.tally.read().lost > 10);
    assert!(flow.end(&network, Way::ToJoiner) >= last, "and its end is the end");
}

#[test]
fn a_link_lets_a_burst_pass_then_its_rate_and_drops_what_is_too_much() {
    let rate = Rate { bytes_per_second: 1 << 20, queue_bytes: 512 << 10 };
    let (mut link, now) = (Link::default(), Instant::now());
    let mut passed = Vec::new();
    while let Some(when) = link.pass(rate, 64 << 10, now) {
        passed.push(when.duration_since(now));
    }
    assert_eq!(passed.len(), 9, "a burst, and a queue of eight: {passed:?}");
    assert!(passed[0].is_zero());
    assert_eq!(passed[8].as_millis(), 500);
    assert!(link.wait(rate, now).is_zero(), "that much may wait");
    assert!(link.pass(rate, 64 << 10, now + Duration::from_millis(70)).is_some(), "room again");
    link.pass_always(rate, 512 << 10, now);
    assert!(link.wait(rate, now) > Duration::from_millis(400), "that much may not");
}

#[test]
fn a_flow_ends_after_its_bytes_in_one_way_or_both() {
    let ended = |faults| {
        let network = Network::new();
        network.set(faults);
        let flow = Flow::new(&network, 0);
        flow.passed(&network, Way::ToDonor, 60);
        assert_eq!(flow.fate(&network, Way::ToJoiner), Fate::Open(40));
        flow.passed(&network, Way::ToJoiner, 40);
        [Way::ToJoiner, Way::ToDonor].map(|way| flow.fate(&network, way))
    };
    let open = Fate::Open(u64::MAX);
    let none = Faults::none;
    assert_eq!(ended(none().silent_after(100)), [Fate::Silent; 2]);
    assert_eq!(ended(none().silent_one_way_after(100, Way::ToDonor)), [open, Fate::Silent]);
    assert_eq!(ended(none().silent_one_way_after(100, Way::ToJoiner)), [Fate::Silent, open]);
    assert_eq!(ended(none().reset_after(100)), [Fate::Reset; 2]);
}

#[test]
fn what_is_scheduled_leaves_when_it_is_due_and_in_order() {
    let schedule = Schedule::new(3);
    let now = Instant::now();
    let later = now + Duration::from_millis(100);
    assert!(schedule.put(later, 1, "second"));
    assert!(schedule.put(now, 1, "first"));
    assert!(schedule.put(later, 2, "third"));
    assert!(!schedule.put(now, 1, "too much") && !schedule.has_room(Duration::ZERO));
    assert_eq!(schedule.take(Duration::ZERO), Some("first"));
    assert_eq!(schedule.take(Duration::ZERO), None, "not yet");
    assert_eq!(schedule.take(PATIENCE), Some("second"));
    assert!(now.elapsed() >= Duration::from_millis(100));
    assert_eq!(schedule.take(PATIENCE), Some("third"), "in the order of coming");
    assert!(schedule.has_room(Duration::ZERO));
}

#[test]
fn datagrams_pass_in_both_directions_late_and_no_longer_than_allowed() {
    let (target, relay) = udp_behind_a_relay();
    let delay = Duration::from_millis(60);
    relay.set(Faults::none().delay(delay, Duration::ZERO).mtu(1000));
    let donor = udp_to(relay.port);
    let started = Instant::now();
    donor.send(&[1; 1001]).unwrap();
    donor.send(&[2; 1000]).unwrap();
    let mut buffer = [0; 2000];
    let (length, from) = target.recv_from(&mut buffer).unwrap();
    assert_eq!((length, buffer[0]), (1000, 2), "the longer one has vanished");
    target.send_to(b"answer", from).unwrap();
    assert_eq!(donor.recv(&mut buffer).unwrap(), 6);
    assert!(started.elapsed() >= 2 * delay);
    assert_eq!(relay.happened().too_long, 1);
    assert_eq!(relay.flows(), [1000]);
}

#[test]
fn a_half_open_flow_of_datagrams_lives_in_the_other_direction() {
    let (target, relay) = udp_behind_a_relay();
    let donor = udp_to(relay.port);
    let mut buffer = [0; 10];
    donor.send(b"a").unwrap();
    let (_, from) = target.recv_from(&mut buffer).unwrap();
    relay.set_flow(0, Faults::half_open(Way::ToDonor));
    target.send_to(b"lost", from).unwrap();
    donor.send(b"b").unwrap();
    assert_eq!(target.recv(&mut buffer).unwrap(), 1);
    donor.set_read_timeout(Some(SILENCE)).unwrap();
    donor.recv(&mut buffer).unwrap_err();
    until("the answer is swallowed", PATIENCE, || (relay.happened().swallowed == 1).then_some(()));
    relay.set_flow(0, Faults::none());
    target.send_to(b"passes again", from).unwrap();
    assert_eq!(donor.recv(&mut buffer).unwrap(), 10);
}

#[test]
fn a_stream_arrives_whole_in_small_late_pieces() {
    let (mut donor, mut joiner, relay) = tcp_behind_a_relay(|| {
        let delay = Duration::from_millis(40);
        Faults::none().delay(delay, delay).mtu(100).lose(50)
    });
    let sent: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let started = Instant::now();
    donor.write_all(&sent).unwrap();
    donor.shutdown(std::net::Shutdown::Write).unwrap();
    let mut received = Vec::new();
    joiner.read_to_end(&mut received).unwrap();
    assert!(sent == received, "{} bytes", received.len());
    assert!(relay.happened().lost > 0);
    // Each lost piece holds everything back; the last one may be this early only after them.
    assert!(started.elapsed() >= Duration::from_millis(40 + 200));
}

#[test]
fn a_slow_stream_loses_nothing_and_takes_its_time() {
    let (mut donor, mut joiner, relay) =
        tcp_behind_a_relay(|| Faults::none().rate(1 << 20, 64 << 10));
    let started = Instant::now();
    let sending = std::thread::spawn(move || {
        donor.write_all(&[3; 576 << 10]).unwrap();
        donor
    });
    let mut received = vec![0; 576 << 10];
    joiner.read_exact(&mut received).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());
    assert!(received.iter().all(|byte| *byte == 3));
    assert_eq!(relay.happened().overflowed, 0);
    drop(sending.join().unwrap());
}

#[test]
fn a_stream_that_is_cut_passes_exactly_its_bytes_and_then_nothing_or_a_reset() {
    for (faults, is_reset) in
        [(Faults::none().reset_after(100_000), true), (Faults::none().silent_after(100_000), false)]
    {
        let (mut donor, mut joiner, _relay) = tcp_behind_a_relay(move || faults.clone());
        // Whether it can be sent at all depends on when the reset comes.
        drop(donor.write_all(&[5; 300_000]));
        let (mut received, mut piece) = (0, vec![0; 64 << 10]);
        let error = loop {
            if received == 100_000 && !is_reset {
                joiner.set_read_timeout(Some(SILENCE)).unwrap();
            }
            match joiner.read(&mut piece) {
                Ok(0) => panic!("a stream that was cut has no end"),
                Ok(read) => received += read,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind() == ErrorKind::ConnectionReset, is_reset, "{error}");
        // A reset may overtake what the kernel still holds.
        assert!(received <= 100_000 && (is_reset || received == 100_000), "{received}");
    }
}

#[test]
fn a_connection_that_is_reset_while_nothing_passes_is_reset_at_both_ends() {
    let (mut donor, mut joiner, relay) = tcp_behind_a_relay(Faults::none);
    relay.reset(0);
    for end in [&mut donor, &mut joiner] {
        let error = end.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
}

#[test]
fn a_flipped_bit_in_a_stream_is_one_bit() {
    let (mut donor, mut joiner, relay) = tcp_behind_a_relay(|| Faults::none().flip(1000));
    donor.write_all(&[0; 1000]).unwrap();
    let mut received = [0; 1000];
    joiner.read_exact(&mut received).unwrap();
    let wrong: u32 = received.iter().map(|byte| byte.count_ones()).sum();
    assert_eq!(u64::from(wrong), relay.happened().flipped, "one in each piece");
    assert!(wrong > 0);
}

fn udp_behind_a_relay() -> (UdpSocket, Relay) {
    let target = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    target.set_read_timeout(Some(PATIENCE)).unwrap();
    let relay = Relay::to(target.local_addr().unwrap().port());
    (target, relay)
}

fn udp_to(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn tcp_behind_a_relay(faults: impl Fn() -> Faults) -> (TcpStream, TcpStream, Relay) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let relay = Relay::to(listener.local_addr().unwrap().port()).with(faults());
    let donor = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port)).unwrap();
    let (joiner, _) = listener.accept().unwrap();
    for end in [&donor, &joiner] {
        end.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    (donor, joiner, relay)
}
