//! A network between donor and joiner: rewrites source ports as address translation does, and
//! fails in every way a test asks for.
//!
//! UDP and TCP have the same port number, as at a joiner. Each sender's address is one flow.

mod tcp;
mod udp;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often a thread looks whether it shall end.
const LOOK: Duration = Duration::from_millis(50);

/// Port numbers tried until one is free for both.
const FREE_PORT_TRIES: usize = 16;

/// Passes everything on until it is dropped.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    udp: udp::Side,
    tcp: tcp::Side,
    target: SocketAddr,
    rules: Rules,
    stop: AtomicBool,
}

/// What the network does to everybody.
#[derive(Debug, Default)]
struct Rules {
    udp_is_blocked: AtomicBool,
    tcp_is_blocked: AtomicBool,
    /// Longer datagrams vanish; 0: none does. Unit: bytes of UDP payload.
    datagram_bytes_max: AtomicUsize,
}

impl Rules {
    fn pass_datagram(&self, length: usize) -> bool {
        let most = self.datagram_bytes_max.load(Ordering::Relaxed);
        !self.udp_is_blocked.load(Ordering::Relaxed) && (most == 0 || length <= most)
    }
}

impl Relay {
    /// To a port of this machine.
    #[must_use]
    pub fn to(port: u16) -> Self {
        let (udp, tcp) = bind();
        let port_here = udp.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            udp: udp::Side::new(udp),
            tcp: tcp::Side::default(),
            target: (Ipv4Addr::LOCALHOST, port).into(),
            rules: Rules::default(),
            stop: AtomicBool::new(false),
        });
        let (datagrams, connections) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::spawn(move || udp::forward(&datagrams)),
            thread::spawn(move || tcp::forward(&connections, &tcp)),
        ];
        Self { port: port_here, shared, threads }
    }

    /// The ticket of the joiner, for a donor on this side of the relay.
    #[must_use]
    pub fn ticket(&self, ticket: &str) -> String {
        let joiner = format!(":{}/", self.shared.target.port());
        let rewritten = ticket.replacen(&joiner, &format!(":{}/", self.port), 1);
        assert_ne!(rewritten, ticket, "the ticket names the joiner's port");
        rewritten
    }

    /// Bytes of datagrams towards the joiner, by flow, in the order in which the flows began.
    #[must_use]
    pub fn flows(&self) -> Vec<u64> {
        self.shared.udp.bytes()
    }

    /// Bytes of TCP towards the joiner, by connection, in the order in which they began.
    #[must_use]
    pub fn connections(&self) -> Vec<u64> {
        self.shared.tcp.bytes()
    }

    /// From now on nothing of this flow of datagrams passes, in either direction.
    pub fn cut(&self, flow: usize) {
        self.shared.udp.cut(flow);
    }

    /// From now on nothing of this TCP connection passes; both ends believe that it lives.
    pub fn stall(&self, connection: usize) {
        self.shared.tcp.set(connection, tcp::State::Stalled);
    }

    /// Resets this TCP connection at both ends.
    pub fn reset(&self, connection: usize) {
        self.shared.tcp.set(connection, tcp::State::Reset);
    }

    /// From now on all datagrams vanish.
    pub fn block_udp(&self) {
        self.shared.rules.udp_is_blocked.store(true, Ordering::Relaxed);
    }

    /// From now on nothing passes that comes over TCP, and nobody is told.
    pub fn block_tcp(&self) {
        self.shared.rules.tcp_is_blocked.store(true, Ordering::Relaxed);
    }

    /// From now on datagrams of more than so many bytes vanish.
    pub fn limit_datagrams(&self, bytes: usize) {
        self.shared.rules.datagram_bytes_max.store(bytes, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// A port number that is free for both.
fn bind() -> (UdpSocket, TcpListener) {
    for _ in 0..FREE_PORT_TRIES {
        let udp = udp::socket();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
    panic!("no port is free for UDP and TCP");
}

/// Counts what passed.
fn count(bytes: &AtomicU64, length: usize) {
    bytes.fetch_add(length as u64, Ordering::Relaxed);
}
