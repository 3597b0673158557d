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
use rustls::AlertDescription;
use tokio::task::AbortHandle;

use super::connection::{
    AnyLink, AnyReader, AnyWriter, Connection, DatagramStats, Link, LinkStats, Reader, Writer,
    canonical,
};
use super::lane::{LaneReader, LaneWriter};
use super::route::QUIC_DATAGRAM_BYTES_MIN;
use super::socket::{QuicSocket, Reachability};
use super::tls::{about_certificates, not_accepted, refused_by};
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
pub(super) const CLOSE_WAIT: Duration = Duration::from_millis(500);

/// Time for the last datagram to leave. Lost, it costs the peer nothing but its own timeout.
const LEAVING: Duration = Duration::from_millis(10);

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
///
/// The shorter silence of the two ends counts (RFC 9000, section 10.1).
pub(super) fn donor_transport(
    datagram_bytes_max: u16,
    silence: Duration,
) -> Result<TransportConfig> {
    let mut config = transport(datagram_bytes_max, silence)?;
    config
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(0));
    Ok(config)
}

/// Settings of a joiner's connection: anybody may be there, and opens the only stream.
pub(super) fn joiner_transport(datagram_bytes_max: u16) -> Result<TransportConfig> {
    let mut config = transport(datagram_bytes_max, Duration::from_millis(PEER_SILENCE_MS))?;
    config
        .receive_window(VarInt::from_u32(UNPROVEN_WINDOW_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(1));
    Ok(config)
}

/// Settings of one connection whose datagrams may grow up to `datagram_bytes_max`.
fn transport(datagram_bytes_max: u16, silence: Duration) -> Result<TransportConfig> {
    let silence = IdleTimeout::try_from(silence)
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

/// Joins the parts of an established connection.
pub(super) fn connection(
    quic: quinn::Connection,
    (endpoint, socket): (Endpoint, Arc<QuicSocket>),
    silence: Duration,
    (send, receive): (quinn::SendStream, quinn::RecvStream),
) -> Result<Connection> {
    let mut exporter = Exporter([0; 32]);
    quic.export_keying_material(&mut exporter.0, EXPORTER_LABEL, b"")
        .map_err(|error| Error::bug(format!("the TLS exporter failed ({error:?})")))?;
    let peer = canonical(quic.remote_address());
    let gone = Arc::new(AtomicBool::new(false));
    let watch = watch(quic.clone(), socket.reachability(), Arc::clone(&gone));
    let shared = Shared { quic, endpoint, socket, peer, silence, gone, watch };
    let link = QuicLink(Arc::new(shared));
    Ok(Connection {
        peer,
        exporter,
        reader: Reader::new(AnyReader::Quic(QuicReader { stream: receive, link: link.clone() })),
        writer: Writer(AnyWriter::Quic(QuicWriter { stream: send, link: link.clone() })),
        link: Link(AnyLink::Quic(link)),
    })
}

/// The connection, shared by its parts.
#[derive(Debug, Clone)]
pub(super) struct QuicLink(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    quic: quinn::Connection,
    endpoint: Endpoint,
    socket: Arc<QuicSocket>,
    peer: SocketAddr,
    /// The limit of silence, as far as this end knows it; for messages.
    silence: Duration,
    /// The peer's port refused datagrams for so long that we closed the connection.
    gone: Arc<AtomicBool>,
    watch: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl QuicLink {
    pub(super) fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    pub(super) fn local_ip(&self) -> Option<IpAddr> {
        self.0.quic.local_ip().map(|ip| ip.to_canonical())
    }

    pub(super) fn stats(&self) -> LinkStats {
        let stats = self.0.quic.stats();
        let datagrams = DatagramStats {
            round_trip: stats.path.rtt,
            bytes_max: stats.path.current_mtu,
            congestion_window_bytes: stats.path.cwnd,
            sent: stats.path.sent_packets,
            lost: stats.path.lost_packets,
            black_holes: stats.path.black_holes_detected,
            segments_in_kernel: self.0.socket.segments_in_kernel(),
        };
        LinkStats {
            bytes_sent: stats.udp_tx.bytes,
            bytes_received: stats.udp_rx.bytes,
            datagrams: Some(datagrams),
        }
    }

    pub(super) fn close(&self, code: u16, reason: &str) {
        self.0.quic.close(VarInt::from(u32::from(code)), reason.as_bytes());
    }

    pub(super) async fn shutdown(&self, code: u16, reason: &str) {
        self.close(code, reason);
        // A peer that does not confirm in time finds out by itself.
        tokio::time::timeout(CLOSE_WAIT, self.0.endpoint.wait_idle()).await.unwrap_or(());
    }

    pub(super) async fn leave(&self) {
        self.close(0, "done");
        // One turn of the event loop sends the closing datagram; nobody waits for an answer.
        tokio::time::sleep(LEAVING).await;
    }

    pub(super) async fn closed(&self) -> Error {
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
        lost(self.0.peer, self.0.silence, error)
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
pub(super) struct QuicReader {
    stream: quinn::RecvStream,
    link: QuicLink,
}

impl LaneReader for QuicReader {
    fn peer(&self) -> SocketAddr {
        self.link.peer()
    }

    fn peer_is_proven(&mut self) {
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
pub(super) struct QuicWriter {
    stream: quinn::SendStream,
    link: QuicLink,
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
    if let Some(about) = about_certificate(peer, &error) {
        return about;
    }
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
        | ConnectionError::CidsExhausted => lost(peer, Duration::ZERO, error),
    }
}

/// The error of a connection that ended because of a certificate: the peer's, when this end found
/// fault with it, or ours.
fn about_certificate(peer: SocketAddr, error: &ConnectionError) -> Option<Error> {
    let alert = |code: u64| {
        let alert = TLS_ALERT_CODES.contains(&code).then(|| code - TLS_ALERT_CODES.start);
        alert.and_then(|alert| u8::try_from(alert).ok()).map(AlertDescription::from)
    };
    if let ConnectionError::TransportError(fault) = error {
        let about = alert(u64::from(fault.code)).and_then(about_certificates);
        return about.map(|_| not_accepted(peer, &fault.reason));
    }
    if let ConnectionError::ConnectionClosed(close) = error {
        return refused_by(peer, alert(u64::from(close.error_code))?);
    }
    None
}

/// The error of an established connection that ended.
fn lost(peer: SocketAddr, silence: Duration, error: ConnectionError) -> Error {
    // A donor's handshake is over before the joiner has looked at its certificate.
    if let Some(about) = about_certificate(peer, &error) {
        return about;
    }
    match error {
        ConnectionError::TimedOut => silent(peer, silence),
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

/// The error of a peer that has not been heard for so long.
pub(super) fn silent(peer: SocketAddr, silence: Duration) -> Error {
    let what = format!("nothing heard from {peer} for {:.0} s", silence.as_secs_f64());
    Error::new(Code::PeerGone, what)
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
