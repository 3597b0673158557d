//! Datagrams.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

use rustix::net::sockopt::set_socket_recv_buffer_size;

use super::faults::Faults;
use super::flow::{Flow, Passage};
use super::schedule::Schedule;
use super::{LOOK, Shared, Way};

/// Socket buffer to ask for. Why: senders on loopback send in bursts of a MiB.
const BUFFER_BYTES: usize = 4 << 20;

/// Largest datagram there is.
const DATAGRAM_BYTES: usize = 65_536;

/// Datagrams that are on their way; more are lost. Unit: bytes. Why: 50 ms at 10 Gbit/s.
const UNDER_WAY_BYTES: usize = 64 << 20;

/// The socket towards donors, who came, and what arrives later.
#[derive(Debug)]
pub(super) struct Side {
    socket: UdpSocket,
    senders: Mutex<Vec<Arc<Sender>>>,
    late: Schedule<Late>,
}

/// A donor's socket, and ours towards the joiner that stands for it.
#[derive(Debug)]
struct Sender {
    from: SocketAddr,
    upstream: UdpSocket,
    flow: Flow,
}

#[derive(Debug)]
struct Late {
    sender: Arc<Sender>,
    way: Way,
    datagram: Vec<u8>,
}

impl Side {
    pub(super) fn new(socket: UdpSocket) -> Self {
        Self { socket, senders: Mutex::default(), late: Schedule::new(UNDER_WAY_BYTES) }
    }

    pub(super) fn bytes(&self) -> Vec<u64> {
        self.senders().iter().map(|sender| sender.flow.bytes.get()).collect()
    }

    pub(super) fn set(&self, flow: usize, faults: Faults) {
        self.senders().get(flow).expect("a flow").flow.set(faults);
    }

    fn senders(&self) -> MutexGuard<'_, Vec<Arc<Sender>>> {
        self.senders.lock().expect("no holder panics")
    }

    /// What the addressee refuses or has no room for is lost, as in any network.
    fn send(&self, sender: &Sender, way: Way, datagram: &[u8]) {
        drop(match way {
            Way::ToJoiner => sender.upstream.send(datagram),
            Way::ToDonor => self.socket.send_to(datagram, sender.from),
        });
    }
}

/// Donor to joiner, all flows.
pub(super) fn forward(shared: &Arc<Shared>) {
    let mut datagram = vec![0; DATAGRAM_BYTES];
    let mut threads = Vec::new();
    while let Some(received) = receive(shared, &shared.udp.socket, &mut datagram) {
        let Some((length, from)) = received else { continue };
        if shared.udp_is_blocked.load(Ordering::Relaxed) {
            continue;
        }
        let known = shared.udp.senders().iter().find(|sender| sender.from == from).cloned();
        let sender = known.unwrap_or_else(|| {
            let sender = welcome(shared, from);
            let (shared, back) = (Arc::clone(shared), Arc::clone(&sender));
            threads.push(thread::spawn(move || answer(&shared, &back)));
            sender
        });
        pass(shared, &sender, Way::ToJoiner, &mut datagram[..length]);
    }
    for thread in threads {
        drop(thread.join());
    }
}

/// Sends what is late once it is due.
pub(super) fn deliver(shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        if let Some(Late { sender, way, datagram }) = shared.udp.late.take(LOOK) {
            shared.udp.send(&sender, way, &datagram);
        }
    }
}

fn welcome(shared: &Shared, from: SocketAddr) -> Arc<Sender> {
    let upstream = socket();
    upstream.connect(shared.target).unwrap();
    let mut senders = shared.udp.senders();
    let flow = Flow::new(&shared.network, senders.len());
    let sender = Arc::new(Sender { from, upstream, flow });
    senders.push(Arc::clone(&sender));
    sender
}

/// Joiner to donor, one flow.
fn answer(shared: &Shared, sender: &Arc<Sender>) {
    let mut datagram = vec![0; DATAGRAM_BYTES];
    while let Some(received) = receive(shared, &sender.upstream, &mut datagram) {
        let Some((length, _)) = received else { continue };
        if !shared.udp_is_blocked.load(Ordering::Relaxed) {
            pass(shared, sender, Way::ToDonor, &mut datagram[..length]);
        }
    }
}

fn pass(shared: &Shared, sender: &Arc<Sender>, way: Way, datagram: &mut [u8]) {
    let Some(passage) = sender.flow.datagram(&shared.network, way, datagram) else { return };
    let Passage { due, again } = passage;
    if due <= Instant::now() {
        shared.udp.send(sender, way, datagram);
    } else {
        send_at(shared, due, sender, (way, datagram));
    }
    if let Some(again) = again {
        send_at(shared, again, sender, (way, datagram));
    }
}

fn send_at(shared: &Shared, due: Instant, sender: &Arc<Sender>, (way, datagram): (Way, &[u8])) {
    let late = Late { sender: Arc::clone(sender), way, datagram: datagram.to_vec() };
    if !shared.udp.late.put(due, datagram.len(), late) {
        shared.network.tally.overflowed.add(1);
    }
}

/// The next datagram; an inner `None` when there was none, the outer one at the end.
#[expect(clippy::option_option, reason = "nothing yet, or nothing any more")]
fn receive(
    shared: &Shared,
    socket: &UdpSocket,
    datagram: &mut [u8],
) -> Option<Option<(usize, SocketAddr)>> {
    if shared.stop.load(Ordering::Relaxed) {
        return None;
    }
    match socket.recv_from(datagram) {
        Ok(received) => Some(Some(received)),
        // A refused datagram is reported by the next call; networks do not report at all.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Some(None),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Some(None)
        }
        Err(error) => panic!("relay: {error}"),
    }
}

pub(super) fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(LOOK)).unwrap();
    set_socket_recv_buffer_size(&socket, BUFFER_BYTES).unwrap();
    socket
}
