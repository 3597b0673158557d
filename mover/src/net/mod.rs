//! Connections between donor and joiner: encrypted, pinned, one socket and one thread each.
//!
//! ```text
//!  donor                                           joiner
//!  connect() ──────── control ───────────────────▶ Listener::bind, start, accept, complete
//!  LanePort::bind     (LaneOffer: source port) ──▶ Acceptor::lane_socket
//!  LanePort::connect ─ lane, own socket ─────────▶ LaneSocket::accept
//!          └────────── lane, port rewritten ─────▶ Acceptor::accept (the listener)
//! ```
//!
//! All sockets of the joiner share one UDP port. A lane's socket is connected to the address the
//! donor announced, so that the kernel hands that lane's datagrams to the lane's own thread. When
//! something on the way rewrites the source port, nothing matches the connected socket and the
//! datagrams reach the listener, which accepts the lane just as well.
//!
//! Everything asynchronous here wants a tokio runtime with I/O and time; one current-thread
//! runtime per lane is what it is made for. Sockets are bound without any runtime, so that a port
//! that is in use is known before anything starts.

mod accept;
mod connect;
mod framing;
mod lane;
mod quic;
mod route;
mod socket;
mod tls;

use std::time::Duration;

pub use accept::{Acceptor, Incoming, LaneSocket, Listener};
pub use connect::{LanePort, connect};
pub use framing::{FrameReader, FrameWriter};
pub use lane::{LaneReader, LaneWriter};
pub use quic::{Connection, Link, LinkStats, QuicReader, QuicWriter};
pub use socket::BufferSizes;
pub use tls::{Identity, Pin};

/// What the owner may choose about connections.
#[derive(Debug, Clone)]
pub struct NetOptions {
    /// How long a donor tries to reach the joiner.
    pub connect_timeout: Duration,
    /// Socket buffer to ask for, each way. Unit: bytes.
    pub socket_buffer_bytes: usize,
    /// Largest UDP payload to try, whatever the route allows. Unit: bytes.
    pub datagram_bytes_max: u16,
}

impl Default for NetOptions {
    /// 10 s; 8 MiB, which holds 6 ms of a 10 Gbit/s link while the thread is busy elsewhere; and
    /// as large a datagram as the route takes.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            socket_buffer_bytes: 8 << 20,
            datagram_bytes_max: socket::BATCH_BYTES_MAX,
        }
    }
}

#[cfg(test)]
mod tests;
