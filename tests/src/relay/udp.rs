//! Datagrams.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::net::sockopt::set_socket_recv_buffer_size;

use super::{LOOK, Shared, count};

/// Socket buffer to ask for. Why: senders on loopback send in bursts of a MiB.
const BUFFER_BYTES: usize = 4 << 20;

/// Largest datagram there is.
const DATAGRAM_BYTES: usize = 65_536;

/// The socket towards donors, and who came.
#[derive(Debug)]
pub(super) struct Side {
    socket: UdpSocket,
    flows: Mutex<Vec<Arc<Flow>>>,
}

#[derive(Debug)]
struct Flow {
    from: SocketAddr,
    upstream: UdpSocket,
    is_cut: AtomicBool,
    bytes: AtomicU64,
}

impl Side {
    pub(super) fn new(socket: UdpSocket) -> Self {
        Self { socket, flows: Mutex::default() }
    }

    pub(super) fn bytes(&self) -> Vec<u64> {
        let flows = self.flows.lock().expect("no holder panics");
        flows.iter().map(|flow| flow.bytes.load(Ordering::Relaxed)).collect()
    }

    pub(super) fn cut(&self, flow: usize) {
        let flows = self.flows.lock().expect("no holder panics");
        flows.get(flow).expect("a flow").is_cut.store(true, Ordering::Relaxed);
    }
}

/// Donor to joiner, all flows.
pub(super) fn forward(shared: &Arc<Shared>) {
    let mut datagram = vec![0; DATAGRAM_BYTES];
    let mut threads = Vec::new();
    while let Some(received) = receive(shared, &shared.udp.socket, &mut datagram) {
        let Some((length, from)) = received else { continue };
        if !shared.rules.pass_datagram(length) {
            continue;
        }
        let flow = {
            let mut flows = shared.udp.flows.lock().expect("no holder panics");
            let known = flows.iter().find(|flow| flow.from == from).cloned();
            known.unwrap_or_else(|| {
                let upstream = socket();
                upstream.connect(shared.target).unwrap();
                let (is_cut, bytes) = (AtomicBool::new(false), AtomicU64::new(0));
                let flow = Arc::new(Flow { from, upstream, is_cut, bytes });
                flows.push(Arc::clone(&flow));
                let (shared, back) = (Arc::clone(shared), Arc::clone(&flow));
                threads.push(thread::spawn(move || answer(&shared, &back)));
                flow
            })
        };
        if !flow.is_cut.load(Ordering::Relaxed) {
            count(&flow.bytes, length);
            // What the joiner refuses or has no room for is lost, as in any network.
            drop(flow.upstream.send(&datagram[..length]));
        }
    }
    for thread in threads {
        drop(thread.join());
    }
}

/// Joiner to donor, one flow.
fn answer(shared: &Arc<Shared>, flow: &Flow) {
    let mut datagram = vec![0; DATAGRAM_BYTES];
    while let Some(received) = receive(shared, &flow.upstream, &mut datagram) {
        let Some((length, _)) = received else { continue };
        if shared.rules.pass_datagram(length) && !flow.is_cut.load(Ordering::Relaxed) {
            drop(shared.udp.socket.send_to(&datagram[..length], flow.from));
        }
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
