//! TLS connections over TCP: their two directions, and what their end means.
//!
//! A clean end is TLS's `close_notify`; the end of TCP alone is a cut, as by a killed process.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use fastsst_proto::Exporter;
use fastsst_proto::limits::PEER_SILENCE_MS;
use rustls::AlertDescription;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use super::connection::{
    AnyLink, AnyReader, AnyWriter, Connection, Link, LinkStats, Reader, Writer,
};
use super::lane::{LaneReader, LaneWriter};
use super::quic::{CLOSE_WAIT, silent};
use super::tls::refused_by;
use crate::error::{Code, Error, Result};

/// Pieces handed to TLS at a time. Why: a chunk's header and its payload.
const PIECES: usize = 4;

/// Joins the parts of an established connection.
pub(super) fn connection(
    stream: TlsStream<Io>,
    peer: SocketAddr,
    exporter: Exporter,
    silence: Option<Duration>,
) -> Connection {
    let (io, _) = stream.get_ref();
    let local_ip = io.local_ip();
    let traffic = Arc::clone(&io.traffic);
    let (over, _) = watch::channel(false);
    let closed = AtomicBool::new(false);
    let stream = Mutex::new(stream);
    let link = TcpLink(Arc::new(Shared { stream, peer, local_ip, traffic, closed, over }));
    Connection {
        peer,
        exporter,
        reader: Reader::new(AnyReader::Tcp(TcpReader { link: link.clone(), silence })),
        writer: Writer(AnyWriter::Tcp(TcpWriter { link: link.clone() })),
        link: Link(AnyLink::Tcp(link)),
    }
}

/// The connection, shared by its parts.
#[derive(Debug, Clone)]
pub(super) struct TcpLink(Arc<Shared>);

struct Shared {
    /// Both directions are tasks of one thread: nobody ever waits here.
    stream: Mutex<TlsStream<Io>>,
    peer: SocketAddr,
    local_ip: Option<IpAddr>,
    traffic: Arc<Traffic>,
    /// Closed by this end.
    closed: AtomicBool,
    /// Whether a reader or writer has seen the end.
    over: watch::Sender<bool>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl TcpLink {
    pub(super) fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    pub(super) fn local_ip(&self) -> Option<IpAddr> {
        self.0.local_ip
    }

    pub(super) fn stats(&self) -> LinkStats {
        LinkStats {
            bytes_sent: self.0.traffic.sent.load(Ordering::Relaxed),
            bytes_received: self.0.traffic.received.load(Ordering::Relaxed),
            datagrams: None,
        }
    }

    pub(super) fn move_here(&self) -> Result<()> {
        let mut stream = self.stream();
        stream.get_mut().0.move_here().map_err(|error| lost(self.0.peer, error))
    }

    pub(super) fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
        self.0.over.send_replace(true);
        self.end(std::net::Shutdown::Both);
    }

    /// Ends our direction and waits until the peer has ended its own: a socket that is closed with
    /// something unread in it makes the kernel take back what the peer has not got yet.
    pub(super) async fn shutdown(&self) {
        self.end(std::net::Shutdown::Write);
        let heard_out = std::future::poll_fn(|cx| self.stream().get_mut().0.poll_drain(cx));
        // A peer that does not end in time finds out by itself.
        timeout(CLOSE_WAIT, heard_out).await.unwrap_or(());
        self.close();
    }

    pub(super) async fn closed(&self) -> Error {
        let mut over = self.0.over.subscribe();
        // The sender lives in `self`, so waiting can only end by the end.
        while !*over.borrow_and_update() {
            if over.changed().await.is_err() {
                break;
            }
        }
        self.ended()
    }

    fn stream(&self) -> MutexGuard<'_, TlsStream<Io>> {
        self.0.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, direction: std::net::Shutdown) {
        let stream = self.stream();
        if let Err(error) = SockRef::from(&stream.get_ref().0.socket).shutdown(direction) {
            // The usual one: the peer has reset the connection.
            tracing::trace!(peer = %self.0.peer, %error, "nothing to close");
        }
    }

    fn ended(&self) -> Error {
        let peer = self.0.peer;
        if self.0.closed.load(Ordering::Relaxed) {
            let what = format!("the connection to {peer} was closed here");
            return Error::new(Code::Cancelled, what);
        }
        Error::new(Code::PeerGone, format!("{peer} closed the connection"))
    }

    fn failed(&self, error: io::Error) -> Error {
        self.0.over.send_replace(true);
        if self.0.closed.load(Ordering::Relaxed) { self.ended() } else { lost(self.0.peer, error) }
    }
}

/// From the peer.
#[derive(Debug)]
pub(super) struct TcpReader {
    link: TcpLink,
    /// Longest time without a byte; `None` where somebody else looks after that.
    silence: Option<Duration>,
}

impl LaneReader for TcpReader {
    fn peer(&self) -> SocketAddr {
        self.link.peer()
    }

    fn peer_is_proven(&mut self) {
        // rustls keeps one record, whoever the peer is; the kernel's buffers grow as they are read.
    }

    async fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let link = &self.link;
        let reading = std::future::poll_fn(|cx| {
            let mut filled = ReadBuf::new(buf);
            ready!(Pin::new(&mut *link.stream()).poll_read(cx, &mut filled))?;
            Poll::Ready(Ok::<_, io::Error>(filled.filled().len()))
        });
        let read = match self.silence {
            None => reading.await,
            Some(limit) => match timeout(limit, reading).await {
                Ok(read) => read,
                Err(_) => return Err(silent(link.peer(), limit)),
            },
        };
        match read {
            Ok(0) => {
                link.0.over.send_replace(true);
                Ok(0)
            }
            Ok(read) => Ok(read),
            Err(error) => Err(link.failed(error)),
        }
    }
}

/// To the peer.
#[derive(Debug)]
pub(super) struct TcpWriter {
    link: TcpLink,
}

impl LaneWriter for TcpWriter {
    fn peer(&self) -> SocketAddr {
        self.link.peer()
    }

    async fn write_all(&mut self, chunks: &mut [Bytes]) -> Result<()> {
        let written = std::future::poll_fn(|cx| {
            let mut stream = self.link.stream();
            while chunks.iter().any(|chunk| !chunk.is_empty()) {
                let pieces = pieces(chunks);
                let taken = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &pieces))?;
                if taken == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                advance(chunks, taken);
            }
            // Nothing drives the connection in the background, so that what TLS holds must leave.
            Pin::new(&mut *stream).poll_flush(cx)
        });
        written.await.map_err(|error| self.link.failed(error))
    }

    async fn finish(&mut self) -> Result<()> {
        let closing =
            std::future::poll_fn(|cx| Pin::new(&mut *self.link.stream()).poll_shutdown(cx));
        // From here on the kernel delivers, also after this process has ended.
        closing.await.map_err(|error| self.link.failed(error))
    }
}

fn pieces(chunks: &[Bytes]) -> [IoSlice<'_>; PIECES] {
    let mut pieces = [IoSlice::new(&[]); PIECES];
    let waiting = chunks.iter().filter(|chunk| !chunk.is_empty());
    for (piece, chunk) in pieces.iter_mut().zip(waiting) {
        *piece = IoSlice::new(chunk);
    }
    pieces
}

fn advance(chunks: &mut [Bytes], mut taken: usize) {
    for chunk in chunks {
        let of_this = taken.min(chunk.len());
        chunk.advance(of_this);
        taken -= of_this;
    }
}

/// What TLS has to say of a failed read, write or handshake.
pub(super) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// The alert by which the peer ended the connection.
pub(super) fn alert_of(error: &rustls::Error) -> Option<AlertDescription> {
    if let rustls::Error::AlertReceived(alert) = error { Some(*alert) } else { None }
}

/// The error of an established connection that ended.
pub(super) fn lost(peer: SocketAddr, error: io::Error) -> Error {
    // A donor's handshake is over before the joiner has looked at its certificate.
    let alert = tls_error(&error).and_then(alert_of);
    if let Some(refused) = alert.and_then(|alert| refused_by(peer, alert)) {
        return refused;
    }
    let kind = error.kind();
    let what = if kind == io::ErrorKind::UnexpectedEof {
        format!("{peer} was cut off, or its process is gone")
    } else if kind == io::ErrorKind::ConnectionReset || kind == io::ErrorKind::BrokenPipe {
        format!("the TCP connection to {peer} was reset, or its process is gone")
    } else if kind == io::ErrorKind::TimedOut {
        return silent(peer, Duration::from_millis(PEER_SILENCE_MS));
    } else if kind == io::ErrorKind::InvalidData {
        // A record that was changed on the way. The connection cannot go on, another one can.
        format!("the TLS connection to {peer} was damaged")
    } else {
        format!("the TCP connection to {peer} broke")
    };
    Error::new(Code::PeerGone, what).because(error)
}

#[derive(Debug, Default)]
struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
}

/// The socket below TLS: counts, and can go to another runtime.
#[derive(Debug)]
pub(super) struct Io {
    socket: TcpStream,
    traffic: Arc<Traffic>,
}

impl Io {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, traffic: Arc::default() }
    }

    fn local_ip(&self) -> Option<IpAddr> {
        self.socket.local_addr().ok().map(|address| address.ip().to_canonical())
    }

    /// Registers the socket with the current runtime instead of the one it came from.
    fn move_here(&mut self) -> io::Result<()> {
        let twin = std::net::TcpStream::from(SockRef::from(&self.socket).try_clone()?);
        self.socket = TcpStream::from_std(twin)?;
        Ok(())
    }

    /// Ends our direction and waits, not long, for the peer to end its own: a socket that is
    /// closed with something unread in it makes the kernel take back what the peer has not got.
    pub(super) async fn hear_out(&mut self) {
        if let Err(error) = SockRef::from(&self.socket).shutdown(std::net::Shutdown::Write) {
            tracing::trace!(%error, "nothing to end");
        }
        let heard_out = std::future::poll_fn(|cx| self.poll_drain(cx));
        timeout(CLOSE_WAIT, heard_out).await.unwrap_or(());
    }

    /// Reads and drops until the peer has ended its direction.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scrap = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut scrap);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        self.traffic.received.fetch_add(read as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, bufs))?;
        self.traffic.sent.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
