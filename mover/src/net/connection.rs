//! A connection, whichever transport carries it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use fastsst_proto::Exporter;

use super::lane::{LaneReader, LaneWriter};
use super::places::Place;
use super::quic::{QuicLink, QuicReader, QuicWriter};
use super::tcp::{TcpLink, TcpReader, TcpWriter};
use crate::error::{Error, Result};

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// QUIC over UDP.
    Quic,
    /// TLS 1.3 over TCP.
    Tcp,
}

impl Carrier {
    /// The word for logs, options and the summary.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }

    /// What a firewall calls it.
    #[must_use]
    pub const fn protocol(self) -> &'static str {
        match self {
            Self::Quic => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An encrypted connection with one stream in each direction.
///
/// The parts may go to different tasks. When all of them are dropped the connection closes.
#[derive(Debug)]
pub struct Connection {
    /// The address of the peer.
    pub peer: SocketAddr,
    /// What the token proofs of this connection are bound to.
    pub exporter: Exporter,
    /// From the peer.
    pub reader: Reader,
    /// To the peer.
    pub writer: Writer,
    /// The connection itself.
    pub link: Link,
}

impl Connection {
    /// Keeps the listener's place taken until the peer is proven.
    pub(super) fn holding(mut self, place: Place) -> Self {
        self.reader.place = Some(place);
        self
    }

    /// What carries it.
    #[must_use]
    pub fn carrier(&self) -> Carrier {
        self.link.carrier()
    }
}

/// A handle to a connection: how it is doing, and its end.
#[derive(Debug, Clone)]
pub struct Link(pub(super) AnyLink);

#[derive(Debug, Clone)]
pub(super) enum AnyLink {
    Quic(QuicLink),
    Tcp(TcpLink),
}

/// How a connection is doing.
#[derive(Debug, Clone, Copy)]
pub struct LinkStats {
    /// Sent by the transport: UDP payload, or TLS records on TCP. Unit: bytes.
    pub bytes_sent: u64,
    /// Received by the transport, likewise. Unit: bytes.
    pub bytes_received: u64,
    /// What only QUIC knows; the kernel keeps what it knows of TCP.
    pub datagrams: Option<DatagramStats>,
}

/// How a connection that is made of datagrams is doing.
#[derive(Debug, Clone, Copy)]
pub struct DatagramStats {
    /// Smoothed round trip.
    pub round_trip: Duration,
    /// Size of a full datagram now. Unit: bytes of UDP payload.
    pub bytes_max: u16,
    /// Bytes Cubic allows in flight.
    pub congestion_window_bytes: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that had to be sent again.
    pub lost: u64,
    /// Times the path seemed to swallow large datagrams.
    pub black_holes: u64,
    /// Whether the kernel cuts large sends into datagrams; without it a core sends a third.
    pub segments_in_kernel: bool,
}

impl Link {
    /// What carries the connection.
    #[must_use]
    pub fn carrier(&self) -> Carrier {
        match &self.0 {
            AnyLink::Quic(_) => Carrier::Quic,
            AnyLink::Tcp(_) => Carrier::Tcp,
        }
    }

    /// The address of the peer.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        match &self.0 {
            AnyLink::Quic(link) => link.peer(),
            AnyLink::Tcp(link) => link.peer(),
        }
    }

    /// The address of this machine that the peer uses, if the kernel said.
    #[must_use]
    pub fn local_ip(&self) -> Option<IpAddr> {
        match &self.0 {
            AnyLink::Quic(link) => link.local_ip(),
            AnyLink::Tcp(link) => link.local_ip(),
        }
    }

    /// How the connection is doing.
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        match &self.0 {
            AnyLink::Quic(link) => link.stats(),
            AnyLink::Tcp(link) => link.stats(),
        }
    }

    /// Whether the connection can go to another thread, by [`Link::move_here`].
    ///
    /// A QUIC connection cannot: the socket it uses belongs to the listener.
    #[must_use]
    pub fn can_move(&self) -> bool {
        self.carrier() == Carrier::Tcp
    }

    /// Takes the connection into the current runtime; nothing may be waiting for it in another.
    ///
    /// Errors: `PeerGone`, when the kernel refuses; `Bug`, for a connection that cannot move.
    pub fn move_here(&self) -> Result<()> {
        match &self.0 {
            AnyLink::Quic(_) => Err(Error::bug("a QUIC connection stays where its socket is")),
            AnyLink::Tcp(link) => link.move_here(),
        }
    }

    /// Closes at once; what is in flight is lost.
    ///
    /// `code` is [`crate::Code::number`], or 0 for "all is well". Over QUIC the peer sees code and
    /// reason, over TCP only that it is over.
    pub fn close(&self, code: u16, reason: &str) {
        match &self.0 {
            AnyLink::Quic(link) => link.close(code, reason),
            AnyLink::Tcp(link) => link.close(),
        }
    }

    /// Closes, and waits up to half a second so that the peer can hear of it.
    ///
    /// A runtime that ends right after [`Self::close`] would leave the peer to its timeout.
    pub async fn shutdown(&self, code: u16, reason: &str) {
        match &self.0 {
            AnyLink::Quic(link) => link.shutdown(code, reason).await,
            AnyLink::Tcp(link) => link.shutdown().await,
        }
    }

    /// Closes after a good end, when the writer has finished and the peer has been heard out.
    pub async fn leave(&self) {
        match &self.0 {
            AnyLink::Quic(link) => link.leave().await,
            // The peer closes as well; until then its last words must not meet a closed socket.
            AnyLink::Tcp(link) => link.shutdown().await,
        }
    }

    /// Completes when the connection is over, and says why.
    ///
    /// Over TCP that is known only to whoever reads or writes.
    pub async fn closed(&self) -> Error {
        match &self.0 {
            AnyLink::Quic(link) => link.closed().await,
            AnyLink::Tcp(link) => link.closed().await,
        }
    }
}

/// From the peer.
#[derive(Debug)]
pub struct Reader {
    from: AnyReader,
    /// The place among the unproven peers of a listener.
    place: Option<Place>,
}

#[derive(Debug)]
pub(super) enum AnyReader {
    Quic(QuicReader),
    Tcp(TcpReader),
}

impl Reader {
    pub(super) fn new(from: AnyReader) -> Self {
        Self { from, place: None }
    }
}

impl LaneReader for Reader {
    fn peer(&self) -> SocketAddr {
        match &self.from {
            AnyReader::Quic(reader) => reader.peer(),
            AnyReader::Tcp(reader) => reader.peer(),
        }
    }

    fn peer_is_proven(&mut self) {
        self.place = None;
        match &mut self.from {
            AnyReader::Quic(reader) => reader.peer_is_proven(),
            AnyReader::Tcp(reader) => reader.peer_is_proven(),
        }
    }

    async fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        match &mut self.from {
            AnyReader::Quic(reader) => reader.read(buf).await,
            AnyReader::Tcp(reader) => reader.read(buf).await,
        }
    }
}

/// To the peer.
#[derive(Debug)]
pub struct Writer(pub(super) AnyWriter);

#[derive(Debug)]
pub(super) enum AnyWriter {
    Quic(QuicWriter),
    Tcp(TcpWriter),
}

impl LaneWriter for Writer {
    fn peer(&self) -> SocketAddr {
        match &self.0 {
            AnyWriter::Quic(writer) => writer.peer(),
            AnyWriter::Tcp(writer) => writer.peer(),
        }
    }

    async fn write_all(&mut self, chunks: &mut [Bytes]) -> Result<()> {
        match &mut self.0 {
            AnyWriter::Quic(writer) => writer.write_all(chunks).await,
            AnyWriter::Tcp(writer) => writer.write_all(chunks).await,
        }
    }

    async fn finish(&mut self) -> Result<()> {
        match &mut self.0 {
            AnyWriter::Quic(writer) => writer.finish().await,
            AnyWriter::Tcp(writer) => writer.finish().await,
        }
    }
}

/// An IPv4 peer of a socket for both families as the IPv4 address it is.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address, // with its scope
    }
}
