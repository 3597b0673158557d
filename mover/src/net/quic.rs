//! QUIC connections: their settings, their two directions, and what their end means.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fastsst_proto::limits::{PEER_SILENCE_MS, REFUSAL_TEXT_BYTES_MAX};
use fastsst_proto::{EXPORTER_LABEL, Exporter};
use quinn::congestion::CubicConfig;
use quinn::{
    ConnectionError, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ReadError,
    TokioRuntime, TransportConfig, VarInt, WriteError,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;

use super::lane::{LaneReader, LaneWriter};
use super::route::QUIC_DATAGRAM_BYTES_MIN;
use super::socket::{QuicSocket, Reachability};
use crate::error::{Code, Error, Result};

/// Bytes of the stream a peer may send before it hears from the reader.
///
/// Why: 10 Gbit/s at a round trip of 13 ms; sixteen chunks.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;

/// Bytes a peer may send before it has proven that it knows the token.
///
/// Why: a hello is below 1 KiB, and strangers must not fill our memory.
const UNPROVEN_WINDOW_BYTES: u32 = 64 << 10;

/// Bytes of all streams together. Why: twice the only stream, so that it is never the limit.
const CONNECTION_WINDOW_BYTES: u32 = 2 * STREAM_WINDOW_BYTES;

/// Bytes a writer may hand over before the peer has acknowledged them; each pins its buffer.
const SEND_WINDOW_BYTES: u64 = STREAM_WINDOW_BYTES as u64;

/// What Cubic sends before it knows anything about the path.
///
/// Unit: bytes. Why: the route of a state transfer is a data-centre network; a transfer between
/// continents loses one round trip to the first loss.
const INITIAL_CONGESTION_WINDOW_BYTES: u64 = 1 << 20;

/// Round trip assumed before the first one is measured.
///
/// Why: quinn's 333 ms (RFC 9002) would make a lost first datagram cost a second.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(10);

/// Silence after which a datagram asks for an answer.
///
/// Why: a killed peer's port refuses it, so that its end is known within a second even when
/// nothing else is being sent. One datagram each way costs nothing.
const KEEP_ALIVE: Duration = Duration::from_millis(500);

/// Largest UDP payload accepted. Source: the largest RFC 9000 allows (section 18.2).
const DATAGRAM_BYTES_ACCEPTED_MAX: u16 = 65_527;

/// How long a datagram size stays small after the path seemed to swallow larger ones.
///
/// Why: bursts of loss look the same; quinn's 60 s would be most of a transfer.
const BLACK_HOLE_COOLDOWN: Duration = Duration::from_secs(5);

/// How long an established peer's port must refuse before the peer is taken to be gone.
///
/// Why: several datagrams and acknowledgements pass in this time on any path.
const GONE_AFTER_REFUSING: Duration = Duration::from_millis(300);

/// How long a close is given to reach the peer.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

/// QUIC error codes that carry a TLS alert. Source: RFC 9001, section 4.8.
const TLS_ALERT_CODES: Range<u64> = 0x0100..0x0200;

/// Makes the endpoint of one socket, in the current runtime.
///
/// Errors: `Address`, `Bug`.
pub(super) fn endpoint(
    socket: &Arc<QuicSocket>,
    server: Option<quinn::ServerConfig>,
) -> Result<Endpoint> {
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(DATAGRAM_BYTES_ACCEPTED_MAX)
        .map_err(|error| Error::bug("datagram size out of range").because(error))?;
    Endpoint::new_with_abstract_socket(
        config,
        server,
        Arc::<QuicSocket>::clone(socket),
        Arc::new(TokioRuntime),
    )
    .map_err(|error| Error::new(Code::Address, "cannot use the UDP socket").because(error))
}

/// Settings of a donor's connection: the joiner is known by its key, and opens no streams.
pub(super) fn donor_transport(datagram_bytes_max: u16) -> Result<TransportConfig> {
    let mut config = transport(datagram_bytes_max)?;
    config
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(0));
    Ok(config)
}

/// Settings of a joiner's connection: anybody may be there, and opens the only stream.
pub(super) fn joiner_transport(datagram_bytes_max: u16) -> Result<TransportConfig> {
    let mut config = transport(datagram_bytes_max)?;
    config
        .receive_window(VarInt::from_u32(UNPROVEN_WINDOW_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(1));
    Ok(config)
}

/// Settings of one connection whose datagrams may grow up to `datagram_bytes_max`.
fn transport(datagram_bytes_max: u16) -> Result<TransportConfig> {
    let silence = IdleTimeout::try_from(Duration::from_millis(PEER_SILENCE_MS))
        .map_err(|error| Error::bug("idle timeout out of range").because(error))?;
    let mut discovery = MtuDiscoveryConfig::default();
    discovery
        .upper_bound(datagram_bytes_max.max(QUIC_DATAGRAM_BYTES_MIN))
        .black_hole_cooldown(BLACK_HOLE_COOLDOWN);
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_CONGESTION_WINDOW_BYTES);
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_idle_timeout(Some(silence))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(INITIAL_ROUND_TRIP)
        .initial_mtu(QUIC_DATAGRAM_BYTES_MIN)
        .mtu_discovery_config(Some(discovery))
        .congestion_controller_factory(Arc::new(congestion))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    Ok(config)
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
    pub reader: QuicReader,
    /// To the peer.
    pub writer: QuicWriter,
    /// The connection itself.
    pub link: Link,
}

impl Connection {
    /// Joins the parts of an established connection.
    pub(super) fn new(
        quic: quinn::Connection,
        endpoint: Endpoint,
        socket: Arc<QuicSocket>,
        (send, receive): (quinn::SendStream, quinn::RecvStream),
    ) -> Result<Self> {
        let mut exporter = Exporter([0; 32]);
        quic.export_keying_material(&mut exporter.0, EXPORTER_LABEL, b"")
            .map_err(|error| Error::bug(format!("the TLS exporter failed ({error:?})")))?;
        let peer = canonical(quic.remote_address());
        let gone = Arc::new(AtomicBool::new(false));
        let watch = watch(quic.clone(), socket.reachability(), Arc::clone(&gone));
        let link = Link(Arc::new(Shared { quic, endpoint, socket, peer, gone, watch }));
        Ok(Self {
            peer,
            exporter,
            reader: QuicReader { stream: receive, link: link.clone(), slot: None },
            writer: QuicWriter { stream: send, link: link.clone() },
            link,
        })
    }

    /// Keeps the listener's place taken until the peer is proven.
    pub(super) fn holding(mut self, slot: OwnedSemaphorePermit) -> Self {
        self.reader.slot = Some(slot);
        self
    }
}

/// A handle to a connection: how it is doing, and its end.
#[derive(Debug, Clone)]
pub struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    quic: quinn::Connection,
    endpoint: Endpoint,
    socket: Arc<QuicSocket>,
    peer: SocketAddr,
    /// The peer's port refused datagrams for so long that we closed the connection.
    gone: Arc<AtomicBool>,
    watch: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// How a connection is doing.
#[derive(Debug, Clone, Copy)]
pub struct LinkStats {
    /// Smoothed round trip.
    pub round_trip: Duration,
    /// Size of a full datagram now. Unit: bytes of UDP payload.
    pub datagram_bytes: u16,
    /// Bytes Cubic allows in flight.
    pub congestion_window_bytes: u64,
    /// Packets sent, and how many of them were lost.
    pub packets_sent: u64,
    /// Packets that had to be sent again.
    pub packets_lost: u64,
    /// Times the path seemed to swallow large datagrams.
    pub black_holes: u64,
    /// UDP payload sent. Unit: bytes.
    pub bytes_sent: u64,
    /// UDP payload received. Unit: bytes.
    pub bytes_received: u64,
    /// Whether the kernel cuts large sends into datagrams; without it a core sends a third.
    pub segments_in_kernel: bool,
}

impl Link {
    /// The address of the peer.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// The address of this machine that the peer uses, if the kernel said.
    #[must_use]
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.0.quic.local_ip().map(|ip| ip.to_canonical())
    }

    /// How the connection is doing.
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        let stats = self.0.quic.stats();
        LinkStats {
            round_trip: stats.path.rtt,
            datagram_bytes: stats.path.current_mtu,
            congestion_window_bytes: stats.path.cwnd,
            packets_sent: stats.path.sent_packets,
            packets_lost: stats.path.lost_packets,
            black_holes: stats.path.black_holes_detected,
            bytes_sent: stats.udp_tx.bytes,
            bytes_received: stats.udp_rx.bytes,
            segments_in_kernel: self.0.socket.segments_in_kernel(),
        }
    }

    /// Closes at once; what is in flight is lost.
    ///
    /// `code` is [`Code::number`], or 0 for "all is well". The peer sees code and reason.
    pub fn close(&self, code: u16, reason: &str) {
        self.0.quic.close(VarInt::from(u32::from(code)), reason.as_bytes());
    }

    /// Closes, and waits up to half a second so that the peer can hear of it.
    ///
    /// A runtime that ends right after [`Self::close`] would leave the peer to its timeout.
    pub async fn shutdown(&self, code: u16, reason: &str) {
        self.close(code, reason);
        // A peer that does not confirm in time finds out by itself.
        tokio::time::timeout(CLOSE_WAIT, self.0.endpoint.wait_idle()).await.unwrap_or(());
    }

    /// Completes when the connection is over, and says why.
    pub async fn closed(&self) -> Error {
        let why = self.0.quic.closed().await;
        self.lost(why)
    }

    fn lost(&self, error: ConnectionError) -> Error {
        if self.0.gone.load(Ordering::Relaxed) {
            return Error::new(
                Code::PeerGone,
                format!("the process at {} is gone, its UDP port refuses datagrams", self.0.peer),
            );
        }
        lost(self.0.peer, error)
    }

    fn finished_or_lost(&self) -> Error {
        match self.0.quic.close_reason() {
            Some(error) => self.lost(error),
            None => {
                let what = format!("{} stopped reading or writing", self.0.peer);
                Error::new(Code::PeerGone, what)
            }
        }
    }
}

/// From the peer.
#[derive(Debug)]
pub struct QuicReader {
    stream: quinn::RecvStream,
    link: Link,
    /// The place among the unproven peers of a listener.
    slot: Option<OwnedSemaphorePermit>,
}

impl LaneReader for QuicReader {
    fn peer(&self) -> SocketAddr {
        self.link.peer()
    }

    fn peer_is_proven(&mut self) {
        self.slot = None;
        self.link.0.quic.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
    }

    async fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        match self.stream.read(buf).await {
            Ok(read) => Ok(read.unwrap_or(0)),
            Err(ReadError::ConnectionLost(error)) => Err(self.link.lost(error)),
            Err(ReadError::Reset(_) | ReadError::ClosedStream) => Err(self.link.finished_or_lost()),
            Err(error @ (ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected)) => {
                Err(Error::bug("a QUIC stream was misused").because(error))
            }
        }
    }
}

/// To the peer.
#[derive(Debug)]
pub struct QuicWriter {
    stream: quinn::SendStream,
    link: Link,
}

impl QuicWriter {
    fn failed(&self, error: WriteError) -> Error {
        match error {
            WriteError::ConnectionLost(error) => self.link.lost(error),
            WriteError::Stopped(_) | WriteError::ClosedStream => self.link.finished_or_lost(),
            WriteError::ZeroRttRejected => Error::bug("a QUIC stream was misused").because(error),
        }
    }
}

impl LaneWriter for QuicWriter {
    fn peer(&self) -> SocketAddr {
        self.link.peer()
    }

    async fn write_all(&mut self, chunks: &mut [Bytes]) -> Result<()> {
        while let Some(first) = chunks.iter().position(|chunk| !chunk.is_empty()) {
            let Some(rest) = chunks.get_mut(first..) else {
                return Ok(());
            };
            let written = self.stream.write_chunks(rest).await;
            written.map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        let finished = self.stream.finish();
        finished.map_err(|error| self.link.finished_or_lost().because(error))?;
        match self.stream.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(self.link.finished_or_lost()),
            Err(quinn::StoppedError::ConnectionLost(error)) => Err(self.link.lost(error)),
            Err(error @ quinn::StoppedError::ZeroRttRejected) => {
                Err(Error::bug("a QUIC stream was misused").because(error))
            }
        }
    }
}

/// Closes the connection once the peer's port has been refusing for long enough.
///
/// On a socket that is not connected, such as the listener's, nothing is ever refused.
fn watch(
    quic: quinn::Connection,
    reachability: Arc<Reachability>,
    gone: Arc<AtomicBool>,
) -> AbortHandle {
    let task = tokio::spawn(async move {
        tokio::select! {
            _ = quic.closed() => {}
            () = reachability.refused_throughout(GONE_AFTER_REFUSING) => {
                gone.store(true, Ordering::Relaxed);
                quic.close(VarInt::from_u32(0), b"");
            }
        }
    });
    task.abort_handle()
}

/// The error of a handshake that failed for another reason than the key.
///
/// `Unreachable` is worth another attempt.
pub(super) fn handshake_error(peer: SocketAddr, error: ConnectionError) -> Error {
    let not_fastsst =
        || Error::new(Code::NotFastsst, format!("what answers at {peer} is not fastsst"));
    match error {
        ConnectionError::VersionMismatch | ConnectionError::TransportError(_) => {
            not_fastsst().because(error)
        }
        ConnectionError::ConnectionClosed(ref close)
            if TLS_ALERT_CODES.contains(&u64::from(close.error_code)) =>
        {
            not_fastsst().because(error)
        }
        ConnectionError::ConnectionClosed(_) => {
            Error::new(Code::Unreachable, format!("{peer} turned us away")).because(error)
        }
        ConnectionError::TimedOut | ConnectionError::Reset => {
            Error::new(Code::Unreachable, format!("{peer} does not answer")).because(error)
        }
        ConnectionError::ApplicationClosed(_)
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => lost(peer, error),
    }
}

/// The error of an established connection that ended.
fn lost(peer: SocketAddr, error: ConnectionError) -> Error {
    match error {
        ConnectionError::TimedOut => Error::new(
            Code::PeerGone,
            format!("nothing heard from {peer} for {} s", PEER_SILENCE_MS / 1000),
        ),
        ConnectionError::Reset => {
            Error::new(Code::PeerGone, format!("{peer} was restarted or lost its state"))
        }
        ConnectionError::ApplicationClosed(close) => {
            let number = u16::try_from(close.error_code.into_inner()).unwrap_or(u16::MAX);
            stopped(peer, number, &close.reason)
        }
        ConnectionError::LocallyClosed => {
            Error::new(Code::Cancelled, format!("the connection to {peer} was closed here"))
        }
        ConnectionError::ConnectionClosed(_) => {
            Error::new(Code::PeerGone, format!("{peer} gave up the connection")).because(error)
        }
        ConnectionError::TransportError(_) | ConnectionError::VersionMismatch => {
            Error::new(Code::Protocol, format!("{peer} broke the QUIC protocol")).because(error)
        }
        ConnectionError::CidsExhausted => Error::bug("no connection identifiers left"),
    }
}

fn stopped(peer: SocketAddr, number: u16, reason: &[u8]) -> Error {
    let text: String = String::from_utf8_lossy(reason)
        .chars()
        .filter(|c| !c.is_control())
        .take(REFUSAL_TEXT_BYTES_MAX)
        .collect();
    match Code::from_number(number) {
        None if text.is_empty() => {
            Error::new(Code::PeerGone, format!("{peer} closed the connection"))
        }
        None => Error::new(Code::PeerGone, format!("{peer} closed the connection: {text}")),
        Some(code) => Error::new(Code::PeerStopped, format!("{peer} stopped: {code} {text}")),
    }
}

/// An IPv4 peer of a socket for both families as the IPv4 address it is.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address, // with its scope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_cannot_put_control_characters_into_our_log() {
        let peer = "192.0.2.1:4444".parse().unwrap();
        let error = stopped(peer, Code::DiskFull.number(), b"disk\nfull\x1b[31m");
        assert_eq!(error.code(), Code::PeerStopped);
        assert_eq!(error.what(), "192.0.2.1:4444 stopped: E07 diskfull[31m");
        assert_eq!(stopped(peer, 0, b"").code(), Code::PeerGone);
        assert_eq!(stopped(peer, 60_000, b"?").code(), Code::PeerGone);
    }
}
