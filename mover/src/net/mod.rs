//! Connections between donor and joiner: encrypted, pinned, one socket and one thread each.
//!
//! ```text
//!  donor                                           joiner
//!  connect() ──────── control ───────────────────▶ Listener::bind, start, accept, complete
//!  LanePort::bind     (LaneOffer: source port) ──▶ Acceptor::lane_socket
//!  LanePort::connect ─ QUIC lane, own socket ────▶ LaneSocket::accept
//!          ├────────── QUIC lane, port rewritten ▶ Acceptor::accept (the listener)
//!          └────────── TCP lane ─────────────────▶ Acceptor::accept, then Link::move_here
//! ```
//!
//! The joiner has one port number, for UDP and for TCP. What is said over QUIC and over TLS on TCP
//! is the same; [`Connection`] hides which one it is.
//!
//! All UDP sockets of the joiner share the port. A QUIC lane's socket is connected to the address
//! the donor announced, so that the kernel hands that lane's datagrams to the lane's own thread.
//! When something on the way rewrites the source port, nothing matches the connected socket and
//! the datagrams reach the listener, which accepts the lane just as well. A TCP lane is accepted by
//! the listener, and moves to its own thread when it has proven itself.
//!
//! Everything asynchronous here wants a tokio runtime with I/O and time; one current-thread
//! runtime per lane is what it is made for. Sockets are bound without any runtime, so that a port
//! that is in use is known before anything starts.

mod accept;
mod attempts;
mod connect;
mod connection;
mod findings;
mod framing;
mod lane;
mod lane_port;
mod lane_socket;
mod places;
mod quic;
mod quic_dial;
mod route;
mod socket;
mod tcp;
mod tcp_dial;
mod tcp_socket;
mod tls;
mod verifier;

use std::time::Duration;

use fastsst_proto::limits::PEER_SILENCE_MS;

pub use accept::{Acceptor, Incoming, Listener};
pub use connect::{Reached, connect};
pub use connection::{Carrier, Connection, DatagramStats, Link, LinkStats, Reader, Writer};
pub use framing::{FrameReader, FrameWriter};
pub use lane::{LaneReader, LaneWriter};
pub use lane_port::LanePort;
pub use lane_socket::LaneSocket;
pub use socket::BufferSizes;
pub use tls::{Identity, Pin};

use crate::options::{Options, Transport};
use crate::tls::Tls;

/// What the owner may choose about connections.
#[derive(Debug, Clone)]
pub struct NetOptions {
    /// What may carry a connection: where a joiner listens, what a donor tries.
    pub transport: Transport,
    /// How long a donor tries to reach the joiner.
    pub connect_timeout: Duration,
    /// How long a peer may be silent before its connection is given up.
    pub silence: Duration,
    /// UDP socket buffer to ask for, each way. Unit: bytes.
    pub socket_buffer_bytes: usize,
    /// Largest UDP payload to try, whatever the route allows. Unit: bytes.
    pub datagram_bytes_max: u16,
    /// What a donor shows and demands; a joiner's is in its [`Identity`].
    pub tls: Tls,
}

impl NetOptions {
    /// What of a transfer's options concerns connections.
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            transport: options.transport,
            connect_timeout: options.connect_timeout,
            tls: options.tls.clone(),
            ..Self::default()
        }
    }
}

impl Default for NetOptions {
    /// Both transports; 10 s; the silence of the protocol; 8 MiB, which holds 6 ms of a 10 Gbit/s link while the thread is busy elsewhere; and
    /// as large a datagram as the route takes.
    fn default() -> Self {
        Self {
            transport: Transport::Auto,
            connect_timeout: Duration::from_secs(10),
            silence: Duration::from_millis(PEER_SILENCE_MS),
            socket_buffer_bytes: 8 << 20,
            datagram_bytes_max: socket::BATCH_BYTES_MAX,
            tls: Tls::default(),
        }
    }
}

#[cfg(test)]
mod tests;
