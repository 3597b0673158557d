//! A network between donor and joiner: rewrites source ports as address translation does, and can
//! lose one flow of datagrams.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;

/// How often a thread looks whether it shall end.
const LOOK: Duration = Duration::from_millis(50);

/// Socket buffer to ask for. Why: senders on loopback send in bursts of a MiB.
const BUFFER_BYTES: usize = 4 << 20;

/// Largest datagram there is.
const DATAGRAM_BYTES: usize = 65_536;

/// Passes datagrams on until it is dropped. Each sender's address is one flow.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    socket: UdpSocket,
    target: SocketAddr,
    flows: Mutex<Vec<Arc<Flow>>>,
    stop: AtomicBool,
}

#[derive(Debug)]
struct Flow {
    from: SocketAddr,
    upstream: UdpSocket,
    is_cut: AtomicBool,
    bytes: AtomicU64,
}

impl Relay {
    /// To a port of this machine.
    #[must_use]
    pub fn to(port: u16) -> Self {
        let socket = socket();
        let port_here = socket.local_addr().unwrap().port();
        let target = (Ipv4Addr::LOCALHOST, port).into();
        let stop = AtomicBool::new(false);
        let shared = Arc::new(Shared { socket, target, flows: Mutex::default(), stop });
        let working = Arc::clone(&shared);
        let thread = Some(thread::spawn(move || forward(&working)));
        Self { port: port_here, shared, thread }
    }

    /// The ticket of the joiner, for a donor on this side of the relay.
    #[must_use]
    pub fn ticket(&self, ticket: &str) -> String {
        let joiner = format!(":{}/", self.shared.target.port());
        let rewritten = ticket.replacen(&joiner, &format!(":{}/", self.port), 1);
        assert_ne!(rewritten, ticket, "the ticket names the joiner's port");
        rewritten
    }

    /// Bytes towards the joiner, by flow, in the order in which the flows began.
    #[must_use]
    pub fn flows(&self) -> Vec<u64> {
        let flows = self.shared.flows.lock().expect("no holder panics");
        flows.iter().map(|flow| flow.bytes.load(Ordering::Relaxed)).collect()
    }

    /// From now on nothing of this flow passes, in either direction.
    pub fn cut(&self, flow: usize) {
        let flows = self.shared.flows.lock().expect("no holder panics");
        flows.get(flow).expect("a flow").is_cut.store(true, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Donor to joiner, all flows.
fn forward(shared: &Arc<Shared>) {
    let mut datagram = vec![0; DATAGRAM_BYTES];
    let mut threads = Vec::new();
    while let Some(received) = receive(shared, &shared.socket, &mut datagram) {
        let Some((length, from)) = received else { continue };
        let flow = {
            let mut flows = shared.flows.lock().expect("no holder panics");
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
            flow.bytes.fetch_add(length as u64, Ordering::Relaxed);
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
        if !flow.is_cut.load(Ordering::Relaxed) {
            drop(shared.socket.send_to(&datagram[..length], flow.from));
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

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(LOOK)).unwrap();
    set_socket_recv_buffer_size(&socket, BUFFER_BYTES).unwrap();
    socket
}
