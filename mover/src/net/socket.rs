//! UDP sockets: how they are bound, and the layer between them and quinn.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tracing::{debug, warn};

use super::NetOptions;
use super::connection::Carrier;
use crate::error::{Code, Error, Result};

/// Most bytes handed to the kernel in one send.
///
/// Unit: bytes of UDP payload. Why: a segmented send must fit one IP packet before the kernel
/// cuts it, 65535 bytes with its headers; a larger one fails with `EMSGSIZE`. It is also the
/// largest single datagram for the same reason.
pub(super) const BATCH_BYTES_MAX: u16 = 65_000;

/// Receive errors in a row after which a socket is taken to be broken.
///
/// Why: each error reported by the network clears itself when it is read, so a run this long is
/// not the network.
const RECEIVE_ERRORS_MAX: u32 = 64;

/// How the kernel answered the wish for socket buffers. Unit: bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferSizes {
    /// What was asked for.
    pub wanted: usize,
    /// Room for datagrams that arrived and were not read yet.
    pub receive: usize,
    /// Room for datagrams the network card has not taken yet.
    pub send: usize,
}

impl BufferSizes {
    /// What an administrator can do about buffers that are too small, if they are.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        let raise = |name, got| {
            (got < self.wanted)
                .then(|| format!("sysctl -w net.core.{name}={} (now {got} bytes)", self.wanted))
        };
        match (raise("rmem_max", self.receive), raise("wmem_max", self.send)) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => Some(one),
            (Some(receive), Some(send)) => Some(format!("{receive} and {send}")),
        }
    }
}

/// A socket that is bound and not yet part of any runtime.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) socket: UdpSocket,
    pub(super) local: SocketAddr,
    pub(super) buffers: BufferSizes,
}

/// Binds the port of a joiner, alone, and only then lets lanes share it.
///
/// `SO_REUSEPORT` is set after the port is ours: two listeners that both set it first would share
/// a port silently, and each would get half of the other's donors.
///
/// Errors: `Address`.
pub(super) fn bind_listener(address: SocketAddr, options: &NetOptions) -> Result<Bound> {
    let socket = open(address)
        .and_then(|socket| {
            socket.bind(&address.into())?;
            socket.set_reuse_port(true)?;
            Ok(socket)
        })
        .map_err(|error| bind_error(Carrier::Quic, address, error))?;
    finish(socket, options).map_err(|error| bind_error(Carrier::Quic, address, error))
}

/// Binds one more socket to the port of a listener and connects it to `peer`.
///
/// Between `bind` and `connect`, some microseconds, the kernel may give this socket datagrams that
/// were meant for the listener; QUIC sends them again.
///
/// Errors: `Address`.
pub(super) fn bind_lane(
    listener: SocketAddr,
    (peer, arrived_at): (SocketAddr, Option<IpAddr>),
    options: &NetOptions,
) -> Result<Bound> {
    let bind = |address: SocketAddr| -> io::Result<Bound> {
        let socket = open(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.connect(&in_family_of(listener, peer).into())?;
        finish(socket, options)
    };
    let bound = bind(listener).map_err(|error| bind_error(Carrier::Quic, listener, error))?;
    // The donor uses the address it was told. When the route back would leave from another one,
    // only a socket on the very address the donor uses matches its datagrams.
    match arrived_at {
        Some(used) if used.to_canonical() != bound.local.ip().to_canonical() => {
            let exact = in_family_of(listener, SocketAddr::new(used, listener.port()));
            bind(exact).map_err(|error| bind_error(Carrier::Quic, exact, error))
        }
        Some(_) | None => Ok(bound),
    }
}

/// Binds a donor's socket to a free port and connects it to `target`.
///
/// Errors: `Unreachable`, when there is no route.
pub(super) fn bind_donor(target: SocketAddr, options: &NetOptions) -> Result<Bound> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => ([0; 4], 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    open(target)
        .and_then(|socket| {
            socket.bind(&any.into())?;
            socket.connect(&target.into())?;
            finish(socket, options)
        })
        .map_err(|error| {
            Error::new(Code::Unreachable, format!("no way to {target}")).because(error)
        })
}

fn open(like: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(like), Type::DGRAM, Some(Protocol::UDP))?;
    if like.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

fn finish(socket: Socket, options: &NetOptions) -> io::Result<Bound> {
    let buffers = enlarge(&socket, options.socket_buffer_bytes);
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from(socket);
    let local = socket.local_addr()?;
    Ok(Bound { socket, local, buffers })
}

/// Asks for `wanted` bytes each way: past the system's limit when we may, else up to it.
fn enlarge(socket: &Socket, wanted: usize) -> BufferSizes {
    let receive = sockopt::set_socket_recv_buffer_size_force(socket, wanted)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(socket, wanted))
        .and_then(|()| sockopt::socket_recv_buffer_size(socket));
    let send = sockopt::set_socket_send_buffer_size_force(socket, wanted)
        .or_else(|_| sockopt::set_socket_send_buffer_size(socket, wanted))
        .and_then(|()| sockopt::socket_send_buffer_size(socket));
    // Linux reports twice what it granted, half of it being its own bookkeeping (socket(7)).
    BufferSizes { wanted, receive: receive.unwrap_or(0) / 2, send: send.unwrap_or(0) / 2 }
}

/// `peer` as a socket of the family of `local` names it.
fn in_family_of(local: SocketAddr, peer: SocketAddr) -> SocketAddr {
    match (local, peer) {
        (SocketAddr::V6(_), SocketAddr::V4(v4)) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        (SocketAddr::V4(_), SocketAddr::V6(v6)) => (v6.ip().to_canonical(), v6.port()).into(),
        (SocketAddr::V4(_), SocketAddr::V4(_)) | (SocketAddr::V6(_), SocketAddr::V6(_)) => peer,
    }
}

/// The error of a port that cannot be had.
pub(super) fn bind_error(carrier: Carrier, address: SocketAddr, error: io::Error) -> Error {
    let protocol = carrier.protocol();
    let (ip, port, kind) = (address.ip(), address.port(), error.kind());
    let what = if kind == io::ErrorKind::AddrInUse {
        format!("{protocol} port {port} is in use at {ip}")
    } else if kind == io::ErrorKind::AddrNotAvailable {
        format!("{ip} is not an address of this machine")
    } else if kind == io::ErrorKind::PermissionDenied {
        format!("not allowed to use {protocol} port {port}; take one above 1023")
    } else {
        format!("cannot listen at {protocol} {address}")
    };
    Error::new(Code::Address, what).because(error)
}

/// What a connected socket learned about the other end besides datagrams.
#[derive(Debug)]
pub(super) struct Reachability {
    since: Instant,
    /// Milliseconds after `since` of the first refusal nothing has followed; 0 is none.
    refused_ms: AtomicU64,
    refusal: tokio::sync::Notify,
}

impl Reachability {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            refused_ms: AtomicU64::new(0),
            refusal: tokio::sync::Notify::new(),
        }
    }

    /// How long the other end's port has been refusing datagrams without sending any.
    pub(super) fn refused_for(&self) -> Option<Duration> {
        match self.refused_ms.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(self.since.elapsed().saturating_sub(Duration::from_millis(ms))),
        }
    }

    /// Completes once the port has been refusing for `time`, with nothing from it in between.
    ///
    /// One refusal proves little: it can be forged, or come from a restarting firewall.
    pub(super) async fn refused_throughout(&self, time: Duration) {
        loop {
            let refusal = self.refusal.notified();
            match self.refused_for() {
                None => refusal.await,
                Some(so_far) if so_far >= time => return,
                Some(so_far) => tokio::time::sleep(time.saturating_sub(so_far)).await,
            }
        }
    }

    fn note_refused(&self) {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let first = self.refused_ms.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() {
            self.refusal.notify_waiters();
        }
    }

    /// Starts over, for another attempt at the same port.
    pub(super) fn forget(&self) {
        self.refused_ms.store(0, Ordering::Relaxed);
    }
}

/// The socket quinn sees.
///
/// It keeps segmented sends within one IP packet, and turns the refusals a connected socket
/// reports into [`Reachability`] instead of log lines.
pub(super) struct QuicSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    reachability: Arc<Reachability>,
    /// Size of the last full datagram, which is what the next ones will have.
    segment_bytes: AtomicUsize,
    send_error_seen: AtomicBool,
}

impl QuicSocket {
    /// Takes the socket into the current runtime.
    ///
    /// Errors: `Address`, when the kernel refuses an option that is needed.
    pub(super) fn new(bound: UdpSocket) -> Result<Arc<Self>> {
        let failed = |error: io::Error| {
            Error::new(Code::Address, "cannot prepare the UDP socket").because(error)
        };
        let state = UdpSocketState::new((&bound).into()).map_err(failed)?;
        let io = tokio::net::UdpSocket::from_std(bound).map_err(failed)?;
        Ok(Arc::new(Self {
            io,
            state,
            reachability: Arc::new(Reachability::new()),
            segment_bytes: AtomicUsize::new(usize::from(super::route::QUIC_DATAGRAM_BYTES_MIN)),
            send_error_seen: AtomicBool::new(false),
        }))
    }

    pub(super) fn reachability(&self) -> Arc<Reachability> {
        Arc::clone(&self.reachability)
    }

    /// Whether the kernel cuts large sends into datagrams (GSO), the difference between 1.5 and
    /// 5 Gbit/s of one core at Ethernet size.
    pub(super) fn segments_in_kernel(&self) -> bool {
        self.state.max_gso_segments() > 1
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        // A refusal that was pending is reported instead of sending; the second try sends.
        for _ in 0..2 {
            let sent = self
                .io
                .try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), transmit));
            match sent {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.reachability.note_refused();
                }
                Err(error) => {
                    self.note_send_error(&error, transmit);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A failed send is a lost datagram to QUIC. An MTU probe that is too large is expected.
    fn note_send_error(&self, error: &io::Error, transmit: &Transmit<'_>) {
        let too_large = error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error());
        let bytes = transmit.contents.len();
        if too_large || self.send_error_seen.swap(true, Ordering::Relaxed) {
            debug!(%error, bytes, "datagram not sent");
        } else {
            warn!(%error, bytes, to = %transmit.destination, "datagram not sent");
        }
    }
}

impl fmt::Debug for QuicSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicSocket").field("io", &self.io).finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for QuicSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(WritablePoller { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let bytes = transmit.contents.len();
        let segment = transmit.segment_size.unwrap_or(bytes).max(1);
        if transmit.segment_size.is_some()
            || bytes >= usize::from(super::route::QUIC_DATAGRAM_BYTES_MIN)
        {
            self.segment_bytes.store(segment, Ordering::Relaxed);
        }
        if bytes <= usize::from(BATCH_BYTES_MAX) {
            return self.send(transmit);
        }
        // The datagram size grew after quinn asked how many fit. When the socket fills up in
        // between, quinn repeats the whole batch and the peer drops the duplicates.
        let fitting = (usize::from(BATCH_BYTES_MAX) / segment).max(1) * segment;
        for contents in transmit.contents.chunks(fitting) {
            let segment_size = (contents.len() > segment).then_some(segment);
            self.send(&Transmit { contents, segment_size, ..transmit.clone() })?;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut errors = 0;
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let received = self
                .io
                .try_io(Interest::READABLE, || self.state.recv((&self.io).into(), bufs, meta));
            match received {
                Ok(count) => {
                    self.reachability.forget();
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if errors == RECEIVE_ERRORS_MAX => return Poll::Ready(Err(error)),
                Err(error) => {
                    errors += 1;
                    if error.kind() == io::ErrorKind::ConnectionRefused {
                        self.reachability.note_refused();
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        let segment = self.segment_bytes.load(Ordering::Relaxed).max(1);
        (usize::from(BATCH_BYTES_MAX) / segment).clamp(1, self.state.max_gso_segments().max(1))
    }

    /// One, although the kernel may join 64 datagrams: joined they still fit one IP packet, and a
    /// receive buffer holds the largest one. More would make quinn allocate 128 MiB per socket.
    fn max_receive_segments(&self) -> usize {
        1
    }
}

type Writable = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits until the socket takes datagrams again; any number of them may wait at once.
struct WritablePoller {
    socket: Arc<QuicSocket>,
    waiting: Option<Writable>,
}

impl fmt::Debug for WritablePoller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WritablePoller").finish_non_exhaustive()
    }
}

impl UdpPoller for WritablePoller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.is_none() {
            // No system call: tokio knows whether the last send filled the socket.
            if self.socket.io.try_io(Interest::WRITABLE, || Ok(())).is_ok() {
                return Poll::Ready(Ok(()));
            }
            let socket = Arc::clone(&self.socket);
            self.waiting = Some(Box::pin(async move { socket.io.writable().await }));
        }
        let Some(waiting) = self.waiting.as_mut() else {
            return Poll::Ready(Ok(()));
        };
        let result = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn local(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    #[test]
    fn a_port_in_use_is_an_address_error_whoever_uses_it() {
        let options = NetOptions::default();
        let first = bind_listener(local(0), &options).unwrap();
        let second = bind_listener(first.local, &options).unwrap_err();
        assert_eq!(second.code(), Code::Address);
        assert!(second.to_string().contains("is in use"), "{second}");

        let plain = UdpSocket::bind(local(0)).unwrap();
        let third = bind_listener(plain.local_addr().unwrap(), &options).unwrap_err();
        assert_eq!(third.code(), Code::Address);
        assert!(UdpSocket::bind(first.local).is_err());
    }

    #[test]
    fn an_address_of_another_machine_is_an_address_error() {
        let error =
            bind_listener("192.0.2.1:0".parse().unwrap(), &NetOptions::default()).unwrap_err();
        assert_eq!(error.code(), Code::Address);
        assert!(error.to_string().contains("not an address of this machine"), "{error}");
    }

    #[test]
    fn a_lane_takes_its_peer_and_the_listener_keeps_the_rest() {
        let options = NetOptions::default();
        for host in ["0.0.0.0", "127.0.0.1", "[::]"] {
            let listener = bind_listener(format!("{host}:0").parse().unwrap(), &options).unwrap();
            let port = listener.local.port();
            let donor = UdpSocket::bind(local(0)).unwrap();
            let other = UdpSocket::bind(local(0)).unwrap();
            let used = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let lane =
                bind_lane(listener.local, (donor.local_addr().unwrap(), used), &options).unwrap();
            for round in 0..50_u8 {
                donor.send_to(&[1, round], local(port)).unwrap();
                other.send_to(&[2, round], local(port)).unwrap();
            }
            for (socket, mark) in [(&lane.socket, 1), (&listener.socket, 2)] {
                for round in 0..50_u8 {
                    let mut datagram = [0; 2];
                    socket.recv(&mut datagram).unwrap();
                    assert_eq!(datagram, [mark, round], "{host}");
                }
                assert!(socket.recv(&mut [0]).is_err(), "{host}: more than was meant for it");
            }
        }
    }

    #[test]
    fn a_lane_listens_at_the_address_the_donor_uses() {
        let options = NetOptions::default();
        let listener = bind_listener("0.0.0.0:0".parse().unwrap(), &options).unwrap();
        let donor = UdpSocket::bind(local(0)).unwrap();
        let used: IpAddr = "127.0.0.2".parse().unwrap();
        let lane =
            bind_lane(listener.local, (donor.local_addr().unwrap(), Some(used)), &options).unwrap();
        assert_eq!(lane.local.ip(), used);
        donor.send_to(b"hi", (used, listener.local.port())).unwrap();
        assert_eq!(lane.socket.recv(&mut [0; 2]).unwrap(), 2);
    }

    #[test]
    fn small_buffers_come_with_advice() {
        let sizes = BufferSizes { wanted: 8 << 20, receive: 212_992, send: 8 << 20 };
        let advice = sizes.advice().unwrap();
        assert!(advice.contains("net.core.rmem_max=8388608"), "{advice}");
        assert!(!advice.contains("wmem_max"), "{advice}");
        let enough = BufferSizes { receive: 8 << 20, ..sizes };
        assert_eq!(enough.advice(), None);
    }

    #[tokio::test]
    async fn a_batch_never_exceeds_one_ip_packet() {
        let bound = bind_donor(local(9), &NetOptions::default()).unwrap();
        let socket = QuicSocket::new(bound.socket).unwrap();
        for (segment, segments) in [(1200, 54), (1452, 44), (8952, 7), (33_000, 1), (65_000, 1)] {
            socket.segment_bytes.store(segment, Ordering::Relaxed);
            assert_eq!(socket.max_transmit_segments(), segments);
        }
    }

    #[tokio::test]
    async fn a_batch_that_is_too_large_is_sent_in_parts() {
        let receiver = UdpSocket::bind(local(0)).unwrap();
        let target = receiver.local_addr().unwrap();
        let bound = bind_donor(target, &NetOptions::default()).unwrap();
        let socket = QuicSocket::new(bound.socket).unwrap();
        let contents = vec![7; 4 * 30_000 + 100];
        let transmit = Transmit {
            destination: target,
            ecn: None,
            contents: &contents,
            segment_size: Some(30_000),
            src_ip: None,
        };
        socket.io.writable().await.unwrap();
        socket.try_send(&transmit).unwrap();
        for expected in [30_000, 30_000, 30_000, 30_000, 100] {
            assert_eq!(receiver.recv(&mut [0; 65_536]).unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_noticed_and_a_datagram_clears_it() {
        let receiver = UdpSocket::bind(local(0)).unwrap();
        let target = receiver.local_addr().unwrap();
        drop(receiver);
        let bound = bind_donor(target, &NetOptions::default()).unwrap();
        let source = bound.local;
        let socket = QuicSocket::new(bound.socket).unwrap();
        let reachability = socket.reachability();
        assert_eq!(reachability.refused_for(), None);
        let transmit = Transmit {
            destination: target,
            ecn: None,
            contents: b"hello",
            segment_size: None,
            src_ip: None,
        };
        socket.io.writable().await.unwrap();
        socket.try_send(&transmit).unwrap();
        socket.try_send(&transmit).unwrap();
        let refused = reachability.refused_throughout(Duration::from_millis(20));
        tokio::time::timeout(Duration::from_secs(5), refused).await.unwrap();

        let back = UdpSocket::bind(target).unwrap();
        back.send_to(b"back", (Ipv4Addr::LOCALHOST, source.port())).unwrap();
        let mut buffer = [0; 2048];
        std::future::poll_fn(|cx| {
            socket.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut [RecvMeta::default()])
        })
        .await
        .unwrap();
        assert_eq!(reachability.refused_for(), None);
    }
}
