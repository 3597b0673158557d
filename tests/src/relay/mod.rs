//! A network between donor and joiner: rewrites source ports as address translation does, and
//! fails in every way a test asks for.
//!
//! ```text
//! let relay = Relay::to(receiving.port()).with(Faults::none().lose(20).mtu(1472));
//! Send::from(&source, &relay.ticket(&receiving.ticket)) …
//! relay.set(Faults::black_hole());
//! assert!(relay.happened().lost > 0);
//! ```
//!
//! UDP and TCP have the same port number, as at a joiner. Each sender's address is one flow. A
//! test that fails says which faults there were, and how to have the same chances again.

mod dice;
mod faults;
mod flow;
mod link;
mod network;
mod schedule;
mod tally;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use faults::Faults;
pub use tally::Happened;

use network::Network;

/// How often a thread looks whether it shall end.
const LOOK: Duration = Duration::from_millis(50);

/// Port numbers tried until one is free for both.
const FREE_PORT_TRIES: usize = 16;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// What the donor sends.
    ToJoiner,
    /// What the joiner sends.
    ToDonor,
}

/// Passes on what the faults let through, until it is dropped.
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
    network: Network,
    udp_is_blocked: AtomicBool,
    tcp_is_blocked: AtomicBool,
    stop: AtomicBool,
}

impl Relay {
    /// To a port of this machine, without faults.
    #[must_use]
    pub fn to(port: u16) -> Self {
        let (udp, tcp) = bind();
        let port_here = udp.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            udp: udp::Side::new(udp),
            tcp: tcp::Side::default(),
            target: (Ipv4Addr::LOCALHOST, port).into(),
            network: Network::new(),
            udp_is_blocked: AtomicBool::new(false),
            tcp_is_blocked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let [datagrams, late, connections] = [(); 3].map(|()| Arc::clone(&shared));
        let threads = vec![
            thread::spawn(move || udp::forward(&datagrams)),
            thread::spawn(move || udp::deliver(&late)),
            thread::spawn(move || tcp::forward(&connections, &tcp)),
        ];
        Self { port: port_here, shared, threads }
    }

    /// With faults from the beginning.
    #[must_use]
    pub fn with(self, faults: Faults) -> Self {
        self.set(faults);
        self
    }

    /// From now on everybody has these faults, but flows that have their own.
    pub fn set(&self, faults: Faults) {
        self.shared.network.set(faults);
    }

    /// From now on this flow of datagrams has faults of its own.
    pub fn set_flow(&self, flow: usize, faults: Faults) {
        self.shared.udp.set(flow, faults);
    }

    /// From now on this TCP connection has faults of its own.
    pub fn set_connection(&self, connection: usize, faults: Faults) {
        self.shared.tcp.set(connection, faults);
    }

    /// How often which fault has struck.
    #[must_use]
    pub fn happened(&self) -> Happened {
        self.shared.network.tally.read()
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
        self.set_flow(flow, Faults::black_hole());
    }

    /// From now on nothing of this TCP connection passes; both ends believe that it lives.
    pub fn stall(&self, connection: usize) {
        self.set_connection(connection, Faults::black_hole());
    }

    /// Resets this TCP connection at both ends.
    pub fn reset(&self, connection: usize) {
        self.set_connection(connection, Faults::none().reset_after(0));
    }

    /// From now on all datagrams vanish.
    pub fn block_udp(&self) {
        self.shared.udp_is_blocked.store(true, Ordering::Relaxed);
    }

    /// From now on nothing of new TCP connections passes, and nobody is told.
    pub fn block_tcp(&self) {
        self.shared.tcp_is_blocked.store(true, Ordering::Relaxed);
    }

    /// From now on connections over TCP are taken again; what came meanwhile stays in the dark.
    pub fn unblock_tcp(&self) {
        self.shared.tcp_is_blocked.store(false, Ordering::Relaxed);
    }

    /// From now on datagrams of more than so many bytes vanish; nothing else does.
    pub fn limit_datagrams(&self, bytes: usize) {
        self.set(Faults::none().datagrams_up_to(bytes));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if thread::panicking() {
            self.tell();
        }
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

impl Relay {
    #[expect(clippy::print_stderr, reason = "a failing test speaks to whoever runs it")]
    fn tell(&self) {
        let everybody = self.shared.network.everybody();
        eprintln!("---- relay: {}", everybody.faults.again());
        eprintln!("---- relay: {:?}", self.happened());
        let (flows, connections) = (self.flows(), self.connections());
        eprintln!("---- relay: bytes by flow {flows:?}, by TCP connection {connections:?}");
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
