//! The donor's control connection: reach the joiner, and be sure that it is the joiner.
//!
//! With both transports allowed, both are tried at once. TCP carries the conversation when it
//! comes up, so that a path which stops to take datagrams costs lanes only; the QUIC handshake
//! tells whether datagrams get through.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

use super::attempts::Attempts;
use super::connection::{Carrier, Connection};
use super::quic_dial::QuicDialer;
use super::tcp_dial::{self, Purpose};
use super::{NetOptions, Pin, socket};
use crate::error::{Code, Error, Result};
use crate::options::Transport;

/// Time for the QUIC handshake when TCP is up.
///
/// Source: design, section 5. It passes before a donor freezes its server.
const DATAGRAMS_GET_THROUGH: Duration = Duration::from_secs(2);

/// Time for TCP when QUIC is up. Why: its handshake takes one round trip more than QUIC's, and on
/// a path worth using that is far less; a lost SYN alone would cost a second.
const TCP_FOLLOWS: Duration = Duration::from_millis(300);

/// Time for one transport when the other has failed, before both are tried again.
///
/// Why: a joiner that has just begun to listen answers the one that failed.
const ALONE: Duration = Duration::from_secs(2);

/// A control connection, and what was learned on the way to it.
#[derive(Debug)]
pub struct Reached {
    /// The connection.
    pub connection: Connection,
    /// Why the other transport cannot be used; `None` when it can, or was not tried.
    pub other_failed: Option<Error>,
}

/// Connects to a joiner, trying every address of `host` until the connect timeout.
///
/// Cancel: drop the future; nothing stays behind.
///
/// Errors: `Unreachable`, `WrongKey`, `NotFastsst`, `PeerStopped`.
pub async fn connect(host: &str, port: u16, pin: Pin, options: &NetOptions) -> Result<Reached> {
    let way = options.transport.protocols();
    let mut attempts = Attempts::of_host(host, port, way, options.connect_timeout).await?;
    loop {
        let (target, patience) = attempts.next().await?;
        let attempt = match options.transport {
            Transport::Auto => both(target, pin, options, patience).await,
            Transport::Quic => alone(over_quic(target, pin, options, patience).await),
            Transport::Tcp => alone(over_tcp(target, pin, options, patience).await),
        };
        if let Some(reached) = attempts.settle(attempt) {
            return reached;
        }
    }
}

async fn over_quic(
    target: SocketAddr,
    pin: Pin,
    options: &NetOptions,
    patience: Duration,
) -> Result<Connection> {
    let bound = socket::bind_donor(target, options)?;
    QuicDialer::new(bound, target, options)?.dial(pin, patience).await
}

async fn over_tcp(
    target: SocketAddr,
    pin: Pin,
    options: &NetOptions,
    patience: Duration,
) -> Result<Connection> {
    tcp_dial::dial(target, (pin, Purpose::Control), options, patience).await
}

fn alone(connected: Result<Connection>) -> Result<Reached> {
    connected.map(|connection| Reached { connection, other_failed: None })
}

/// Tries both transports at once.
async fn both(
    target: SocketAddr,
    pin: Pin,
    options: &NetOptions,
    patience: Duration,
) -> Result<Reached> {
    let mut quic = pin!(over_quic(target, pin, options, patience));
    let mut tcp = pin!(over_tcp(target, pin, options, patience));
    let started = tokio::time::Instant::now();
    let (quic, tcp) = tokio::select! {
        quic = &mut quic => {
            let left = if quic.is_ok() { TCP_FOLLOWS } else { ALONE };
            (quic, within(left.min(patience), tcp, (Carrier::Tcp, target)).await)
        }
        tcp = &mut tcp => {
            let left = if tcp.is_ok() { DATAGRAMS_GET_THROUGH } else { ALONE.min(patience) };
            let left = left.saturating_sub(started.elapsed());
            (within(left, quic, (Carrier::Quic, target)).await, tcp)
        }
    };
    match (tcp, quic) {
        (Ok(connection), Ok(spare)) => {
            // It has shown that datagrams get through, and carries nothing.
            spare.link.close(0, "spare");
            Ok(Reached { connection, other_failed: None })
        }
        (Ok(connection), Err(error)) | (Err(error), Ok(connection)) => {
            Ok(Reached { connection, other_failed: Some(error) })
        }
        (Err(tcp), Err(quic)) => Err(worse(tcp, quic)),
    }
}

/// What became of a handshake until `patience` is over.
async fn within(
    patience: Duration,
    handshake: impl Future<Output = Result<Connection>>,
    (carrier, target): (Carrier, SocketAddr),
) -> Result<Connection> {
    match timeout(patience, handshake).await {
        Ok(connected) => connected,
        Err(_) => {
            let protocol = carrier.protocol();
            let time = patience.as_secs_f64();
            let what = format!("no answer over {protocol} within {time:.1} s ({target})");
            Err(Error::new(Code::Unreachable, what))
        }
    }
}

/// Of two failures the one that says more: a wrong key or a stranger more than no answer.
fn worse(tcp: Error, quic: Error) -> Error {
    let says_more = [Code::WrongKey, Code::NotFastsst];
    let rank = |error: &Error| {
        let place = says_more.iter().position(|code| *code == error.code());
        // No answer is the least of all.
        place.unwrap_or(says_more.len() + usize::from(error.code() == Code::Unreachable))
    };
    if tcp.code() == Code::Unreachable && quic.code() == Code::Unreachable {
        let what = format!("TCP: {}; UDP: {}", tcp.what(), quic.what());
        return Error::new(Code::Unreachable, what);
    }
    if rank(&tcp) <= rank(&quic) { tcp } else { quic }
}
