//! The TLS handshake over TCP, at either end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fastsst_proto::{EXPORTER_LABEL, Exporter};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::accept::left_early;
use super::attempts::no_answer;
use super::connection::{Connection, canonical};
use super::tcp::{self, Io, alert_of, tls_error};
use super::tcp_socket::{Patience, prepare};
use super::tls::{ALPN, PinnedClient, SERVER_NAME, not_accepted, refused_by};
use super::{NetOptions, Pin};
use crate::error::{Code, Error, Result};
use crate::tls::words;

/// Bytes of TLS records kept for one write to the kernel.
///
/// Why: sixteen records leave with one system call. Measured at MTU 1500: 64 KiB, which rustls
/// would take, cost a tenth more of the sender's processor time; 1 MiB cost a quarter more, because
/// the allocator then gives the memory back to the kernel after every chunk.
const RECORDS_BYTES_MAX: usize = 256 << 10;

/// Who a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Heartbeats of the conversation notice a silent peer.
    Control,
    /// Heartbeats of the lane do: silence of `NetOptions::silence` ends it.
    Lane,
}

/// One attempt of a donor. `Unreachable` may be tried again, nothing else may.
///
/// Errors: as [`super::connect()`].
pub(super) async fn dial(
    target: SocketAddr,
    (pin, purpose): (Pin, Purpose),
    options: &NetOptions,
    patience: Duration,
) -> Result<Connection> {
    let PinnedClient { config, findings } = PinnedClient::new(pin, &options.tls)?;
    let name = ServerName::try_from(SERVER_NAME)
        .map_err(|error| Error::bug("the server's name is none").because(error))?;
    let (kernel, silence) = match purpose {
        Purpose::Control => (Patience::Silence, None),
        Purpose::Lane => (Patience::Kernel, Some(options.silence)),
    };
    let connecting = async {
        let socket = TcpStream::connect(target).await.map_err(|error| refused(target, error))?;
        prepare(&socket, kernel).map_err(|error| refused(target, error))?;
        let connector = TlsConnector::from(Arc::new(config));
        let shaking = connector.connect_with(name, Io::new(socket), |session| {
            session.set_buffer_limit(Some(RECORDS_BYTES_MAX));
        });
        match shaking.await {
            Ok(stream) => findings.empty_handed(target).map_or(Ok(TlsStream::from(stream)), Err),
            Err(error) => match findings.refusal(target) {
                Some(refusal) => Err(refusal.because(error)),
                None => Err(unshaken(target, purpose, error)),
            },
        }
    };
    match timeout(patience, connecting).await {
        Ok(stream) => join(stream?, target, silence),
        Err(_) => Err(no_answer(target, "no answer")),
    }
}

/// The joiner's side of a handshake.
///
/// Errors: `NotFastsst`, `PeerGone`.
pub(super) async fn accept(
    (socket, peer): (TcpStream, SocketAddr),
    config: Arc<ServerConfig>,
) -> Result<Connection> {
    prepare(&socket, Patience::Silence).map_err(|error| tcp::lost(peer, error))?;
    let shaking = TlsAcceptor::from(config).accept_with(Io::new(socket), |session| {
        session.set_buffer_limit(Some(RECORDS_BYTES_MAX));
    });
    match shaking.into_fallible().await {
        Ok(stream) => join(TlsStream::from(stream), peer, None),
        Err((error, mut socket)) => {
            let error = handshake_error(peer, error);
            if error.code() == Code::WrongKey {
                // Its own handshake is over and it talks already.
                socket.hear_out().await;
            }
            Err(left_early(peer, error))
        }
    }
}

fn join(stream: TlsStream<Io>, peer: SocketAddr, silence: Option<Duration>) -> Result<Connection> {
    let (_, session) = stream.get_ref();
    // Unlike QUIC, TLS itself lets a peer pass that names no application at all.
    if session.alpn_protocol() != Some(ALPN) {
        return Err(not_fastsst(peer));
    }
    let (secret, label) = ([0; 32], EXPORTER_LABEL);
    let secret = match &stream {
        TlsStream::Client(it) => it.get_ref().1.export_keying_material(secret, label, Some(b"")),
        TlsStream::Server(it) => it.get_ref().1.export_keying_material(secret, label, Some(b"")),
    };
    let secret = secret.map_err(|error| Error::bug("the TLS exporter failed").because(error))?;
    Ok(tcp::connection(stream, canonical(peer), Exporter(secret), silence))
}

/// The error of a TCP connection that could not be made.
fn refused(target: SocketAddr, error: io::Error) -> Error {
    let what = if error.kind() == io::ErrorKind::ConnectionRefused {
        "nothing listens there"
    } else {
        "no connection"
    };
    no_answer(target, what).because(error)
}

/// The error of a handshake that the joiner ended.
fn unshaken(target: SocketAddr, purpose: Purpose, error: io::Error) -> Error {
    match (handshake_error(target, error), purpose) {
        // The conversation has proven who is there: a stranger is damage.
        (error, Purpose::Lane) if error.code() == Code::NotFastsst => {
            damaged(target).because(error)
        }
        (error, _) => error,
    }
}

/// The error of a handshake that failed for another reason than the key.
///
/// `Unreachable` is worth another attempt.
fn handshake_error(peer: SocketAddr, error: io::Error) -> Error {
    let tls = tls_error(&error);
    if let Some(refused) = tls.and_then(alert_of).and_then(|alert| refused_by(peer, alert)) {
        return refused;
    }
    match tls {
        // The other end is of our kind and has had enough, as one that has no place left.
        Some(rustls::Error::AlertReceived(
            AlertDescription::CloseNotify | AlertDescription::UserCanceled,
        ))
        | None => {
            let what = format!("{peer} closed the connection in the handshake");
            Error::new(Code::Unreachable, what).because(error)
        }
        Some(rustls::Error::InvalidCertificate(why)) => not_accepted(peer, words(why)),
        Some(rustls::Error::NoCertificatesPresented) => not_accepted(peer, "it shows none"),
        // It has our keys and not our bytes: they were changed on the way.
        Some(
            rustls::Error::DecryptError
            | rustls::Error::AlertReceived(
                AlertDescription::BadRecordMac | AlertDescription::DecryptError,
            ),
        ) => damaged(peer).because(error),
        Some(_) => not_fastsst(peer).because(error),
    }
}

/// The error of a handshake with bytes that were changed on the way.
fn damaged(peer: SocketAddr) -> Error {
    Error::new(Code::Unreachable, format!("the handshake with {peer} was damaged on the way"))
}

fn not_fastsst(peer: SocketAddr) -> Error {
    Error::new(Code::NotFastsst, format!("what answers at {peer} is not fastsst"))
}
