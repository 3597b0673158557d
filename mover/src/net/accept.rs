//! The joiner's side: one UDP port for the listener and all lanes.
//!
//! Anybody can send datagrams to the port. What strangers can cost: [`STRANGERS_MAX`]
//! places of bounded memory and time; under load only senders that can receive at the address
//! they claim get one of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{ConnectionError, Endpoint, ServerConfig, ValidationTokenConfig};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::debug;

use super::quic::{self, Connection, Link, canonical, handshake_error};
use super::route::{self, ETHERNET_DATAGRAM_BYTES};
use super::socket::{self, Bound, BufferSizes, QuicSocket};
use super::{Identity, NetOptions};
use crate::error::{Code, Error, Result};

/// Peers at a time that have not proven that they know the token. Why: a donor needs one place,
/// and one for each lane that is just coming; the rest is for noise.
/// Reached: further ones are turned away, a donor tries again.
const STRANGERS_MAX: usize = 16;

/// With fewer free places than this, a stranger must first prove its address (QUIC Retry).
const FREE_BEFORE_RETRY: usize = STRANGERS_MAX / 2;

/// Bytes kept for one handshake nobody has looked at yet. Why: a few hello datagrams.
const INCOMING_BUFFER_BYTES: u64 = 16 << 10;

/// The joiner's port, bound and not yet served.
#[derive(Debug)]
pub struct Listener {
    bound: Bound,
    identity: Identity,
    options: NetOptions,
}

impl Listener {
    /// Binds `address`, port 0 for a free one; `[::]` serves IPv4 as well.
    ///
    /// Errors: `Address`.
    pub fn bind(address: SocketAddr, identity: &Identity, options: &NetOptions) -> Result<Self> {
        let bound = socket::bind_listener(address, options)?;
        Ok(Self { bound, identity: identity.clone(), options: options.clone() })
    }

    /// The address and port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.bound.local
    }

    /// What the kernel granted.
    #[must_use]
    pub fn buffers(&self) -> BufferSizes {
        self.bound.buffers
    }

    /// Starts to serve the port in the current runtime.
    ///
    /// Errors: `Address`.
    pub fn start(self) -> Result<Acceptor> {
        let Self { bound, identity, options } = self;
        let local = bound.local;
        let socket = QuicSocket::new(bound.socket)?;
        // What a joiner sends here is short, so there is no use in finding large datagrams.
        let server = server_config(&identity, ETHERNET_DATAGRAM_BYTES)?;
        let endpoint = quic::endpoint(&socket, Some(server))?;
        let slots = Arc::new(Semaphore::new(STRANGERS_MAX));
        Ok(Acceptor { endpoint, socket, slots, local, identity, options })
    }
}

/// Accepts connections at the joiner's port.
#[derive(Debug, Clone)]
pub struct Acceptor {
    endpoint: Endpoint,
    socket: Arc<QuicSocket>,
    slots: Arc<Semaphore>,
    local: SocketAddr,
    identity: Identity,
    options: NetOptions,
}

impl Acceptor {
    /// The next stranger who starts a handshake. Cancelling loses nobody.
    ///
    /// Complete each one in its own task: a stranger may take as long as the timeout. Its place is
    /// taken until [`super::LaneReader::peer_is_proven`] or until the connection is dropped.
    ///
    /// Errors: `Address`, when the socket is broken.
    pub async fn accept(&self) -> Result<Incoming> {
        loop {
            let Some(quic) = self.endpoint.accept().await else {
                return Err(Error::new(Code::Address, "the listening UDP socket is broken"));
            };
            let crowded = self.slots.available_permits() < FREE_BEFORE_RETRY;
            if crowded && !quic.remote_address_validated() {
                if let Err(error) = quic.retry() {
                    error.into_incoming().ignore();
                }
                continue;
            }
            let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
                debug!(peer = %quic.remote_address(), "too many strangers");
                quic.refuse();
                continue;
            };
            let (endpoint, socket) = (self.endpoint.clone(), Arc::clone(&self.socket));
            return Ok(Incoming { quic, endpoint, socket, slot });
        }
    }

    /// A socket at the same port, for the thread of the lane that comes from the same donor as
    /// `control` and the port it announced.
    ///
    /// Errors: `Address`.
    pub fn lane_socket(&self, control: &Link, source_port: u16) -> Result<LaneSocket> {
        let mut peer = control.peer();
        peer.set_port(source_port);
        let bound = socket::bind_lane(self.local, (peer, control.local_ip()), &self.options)?;
        let (identity, options) = (self.identity.clone(), self.options.clone());
        Ok(LaneSocket { bound, peer, identity, options })
    }

    /// The address and port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

/// Somebody who started a handshake. Dropping it turns them away.
#[derive(Debug)]
pub struct Incoming {
    quic: quinn::Incoming,
    endpoint: Endpoint,
    socket: Arc<QuicSocket>,
    slot: OwnedSemaphorePermit,
}

impl Incoming {
    /// Where the handshake comes from.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        canonical(self.quic.remote_address())
    }

    /// Finishes the handshake and waits for the first bytes of the peer's stream.
    ///
    /// Errors: `NotFastsst`, `PeerGone`, `Unreachable` (it did not go on in time).
    pub async fn complete(self, patience: Duration) -> Result<Connection> {
        let peer = self.peer();
        let Self { quic, endpoint, socket, slot } = self;
        let established = async {
            let quic = quic.accept()?.await?;
            let streams = quic.accept_bi().await?;
            Ok::<_, ConnectionError>((quic, streams))
        };
        match timeout(patience, established).await {
            Ok(Ok((quic, streams))) => {
                Connection::new(quic, endpoint, socket, streams).map(|made| made.holding(slot))
            }
            Ok(Err(error)) => Err(handshake_error(peer, error)),
            Err(error) => {
                let what = format!("{peer} did not finish its handshake in time");
                Err(Error::new(Code::Unreachable, what).because(error))
            }
        }
    }
}

/// A lane's own socket at the joiner's port, bound and not yet served.
#[derive(Debug)]
pub struct LaneSocket {
    bound: Bound,
    peer: SocketAddr,
    identity: Identity,
    options: NetOptions,
}

impl LaneSocket {
    /// What the kernel granted.
    #[must_use]
    pub fn buffers(&self) -> BufferSizes {
        self.bound.buffers
    }

    /// Waits in the current runtime for the lane, which comes from the announced port or not at
    /// all.
    ///
    /// Errors: `Unreachable`, `Address`.
    pub async fn accept(self, patience: Duration) -> Result<Connection> {
        let Self { bound, peer, identity, options } = self;
        let deadline = Instant::now() + patience;
        let datagram_bytes_max = route::datagram_bytes_max(bound.local.ip(), peer.ip())
            .min(options.datagram_bytes_max)
            .min(socket::BATCH_BYTES_MAX);
        let socket = QuicSocket::new(bound.socket)?;
        let server = server_config(&identity, datagram_bytes_max)?;
        let endpoint = quic::endpoint(&socket, Some(server))?;
        let slots = Arc::new(Semaphore::new(STRANGERS_MAX));
        let local = bound.local;
        let acceptor = Acceptor { endpoint, socket, slots, local, identity, options };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let incoming = match timeout(left, acceptor.accept()).await {
                Ok(incoming) => incoming?,
                Err(error) => {
                    let what = format!("the lane from {peer} did not come");
                    return Err(Error::new(Code::Unreachable, what).because(error));
                }
            };
            let left = deadline.saturating_duration_since(Instant::now());
            match incoming.complete(left).await {
                Err(error) if error.code() != Code::Bug => debug!(%error, "a lane's handshake"),
                other => return other,
            }
        }
    }
}

fn server_config(identity: &Identity, datagram_bytes_max: u16) -> Result<ServerConfig> {
    let crypto = QuicServerConfig::try_from(identity.server_config()?)
        .map_err(|error| Error::bug("TLS settings without AES-128").because(error))?;
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(quic::joiner_transport(datagram_bytes_max)?))
        .validation_token_config(tokens)
        .max_incoming(STRANGERS_MAX)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES * STRANGERS_MAX as u64);
    Ok(config)
}
