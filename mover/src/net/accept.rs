//! The joiner's side: one port number for the listeners and all lanes.
//!
//! Anybody can send to the port. What strangers can cost: [`STRANGERS_MAX`] places of bounded
//! memory and time, for both transports together; under load only senders that can receive at the
//! address they claim get one of them.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use fastsst_proto::LaneId;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{ConnectionError, Endpoint, ServerConfig, ValidationTokenConfig};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::connection::{Carrier, Connection, Link, canonical};
use super::lane_socket::LaneSocket;
use super::places::{Place, Places};
use super::quic::{self, handshake_error};
use super::route::ETHERNET_DATAGRAM_BYTES;
use super::socket::{self, Bound, BufferSizes, QuicSocket};
use super::{Identity, NetOptions, tcp_dial, tcp_socket};
use crate::error::{Code, Error, Result};

/// Peers at a time that have not proven that they know the token, lanes not counted. Why: a donor
/// needs one place, the rest is for noise.
/// Reached: the oldest of them is turned away; a donor tries again.
pub(super) const STRANGERS_MAX: usize = 16;

/// With fewer free places than this, a stranger must first prove its address (QUIC Retry; TCP
/// proves it anyway).
const FREE_BEFORE_RETRY: usize = STRANGERS_MAX / 2;

/// Bytes kept for one handshake nobody has looked at yet. Why: a few hello datagrams.
const INCOMING_BUFFER_BYTES: u64 = 16 << 10;

/// Port numbers tried until one is free for UDP and TCP. Why: each is free with high probability.
const FREE_PORT_TRIES: usize = 16;

/// Pause after the kernel could not give us a connection, as without a free descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The joiner's port, bound and not yet served.
#[derive(Debug)]
pub struct Listener {
    udp: Option<Bound>,
    tcp: Option<TcpListener>,
    local: SocketAddr,
    identity: Identity,
    options: NetOptions,
}

impl Listener {
    /// Binds `address` for every transport the options allow, port 0 for a number that is free for
    /// all of them; `[::]` serves IPv4 as well.
    ///
    /// Errors: `Address`.
    pub fn bind(address: SocketAddr, identity: &Identity, options: &NetOptions) -> Result<Self> {
        let mut tries = 1;
        loop {
            match Self::bind_once(address, identity, options) {
                Err(error) if address.port() == 0 && tries < FREE_PORT_TRIES => {
                    debug!(%error, "another port");
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    fn bind_once(address: SocketAddr, identity: &Identity, options: &NetOptions) -> Result<Self> {
        let mut local = address;
        let udp = if options.transport.has_quic() {
            let bound = socket::bind_listener(address, options)?;
            local = bound.local;
            Some(bound)
        } else {
            None
        };
        let tcp = if options.transport.has_tcp() {
            let listener = tcp_socket::bind_listener(local)?;
            local = listener
                .local_addr()
                .map_err(|error| socket::bind_error(Carrier::Tcp, address, error))?;
            Some(listener)
        } else {
            None
        };
        Ok(Self { udp, tcp, local, identity: identity.clone(), options: options.clone() })
    }

    /// The address and port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What the kernel granted for UDP.
    #[must_use]
    pub fn buffers(&self) -> Option<BufferSizes> {
        self.udp.as_ref().map(|bound| bound.buffers)
    }

    /// Starts to serve the port in the current runtime.
    ///
    /// Errors: `Address`.
    pub fn start(self) -> Result<Acceptor> {
        let Self { udp, tcp, local, identity, options } = self;
        // What a joiner sends here is short, so there is no use in finding large datagrams.
        let quic = udp.map(|bound| QuicDoor::open(bound, &identity)).transpose()?;
        let tcp = tcp.map(|listener| TcpDoor::open(listener, &identity)).transpose()?;
        let places = Places::new(STRANGERS_MAX);
        Ok(Acceptor { quic, tcp: tcp.map(Arc::new), places, local, identity, options })
    }
}

/// Accepts connections at the joiner's port.
#[derive(Debug, Clone)]
pub struct Acceptor {
    quic: Option<QuicDoor>,
    tcp: Option<Arc<TcpDoor>>,
    places: Places,
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
    /// Errors: `Address`, when a socket is broken.
    pub async fn accept(&self) -> Result<Incoming> {
        let quic = async {
            match &self.quic {
                Some(door) => door.accept(&self.places).await,
                None => std::future::pending().await,
            }
        };
        let tcp = async {
            match &self.tcp {
                Some(door) => door.accept(&self.places).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            incoming = quic => incoming,
            incoming = tcp => Ok(incoming),
        }
    }

    /// A socket at the same port, for the thread of the QUIC lane that comes from the same donor as
    /// `control` and the port it announced.
    ///
    /// Errors: `Address`; `Unsupported`, when this end does not listen on UDP.
    pub fn lane_socket(&self, control: &Link, source_port: u16) -> Result<LaneSocket> {
        if self.quic.is_none() {
            return Err(Error::new(Code::Unsupported, "this end does not listen on UDP"));
        }
        let (identity, options) = (self.identity.clone(), self.options.clone());
        LaneSocket::bind(self.local, (control, source_port), identity, options)
    }

    /// A donor that has proven itself announces this lane: until it has done so, too, it takes a
    /// place among the strangers, and all lanes come at once.
    pub fn expect_lane(&self, lane: LaneId) {
        self.places.grow_to(STRANGERS_MAX + usize::from(lane.0) + 1);
    }

    /// The address and port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

/// A UDP socket that accepts QUIC connections.
#[derive(Debug, Clone)]
pub(super) struct QuicDoor {
    pub(super) endpoint: Endpoint,
    pub(super) socket: Arc<QuicSocket>,
}

impl QuicDoor {
    fn open(bound: Bound, identity: &Identity) -> Result<Self> {
        let socket = QuicSocket::new(bound.socket)?;
        let server = quic_server_config(identity, ETHERNET_DATAGRAM_BYTES)?;
        let endpoint = quic::endpoint(&socket, Some(server))?;
        Ok(Self { endpoint, socket })
    }

    /// The next stranger. Errors: `Address`, when the socket is broken.
    pub(super) async fn accept(&self, places: &Places) -> Result<Incoming> {
        loop {
            let Some(quic) = self.endpoint.accept().await else {
                return Err(Error::new(Code::Address, "the listening UDP socket is broken"));
            };
            let crowded = places.free() < FREE_BEFORE_RETRY;
            if crowded && !quic.remote_address_validated() {
                if let Err(error) = quic.retry() {
                    error.into_incoming().ignore();
                }
                continue;
            }
            let peer = canonical(quic.remote_address());
            let from = Stranger::Quic { quic: Box::new(quic), door: self.clone() };
            return Ok(Incoming { peer, place: places.take(), from });
        }
    }
}

/// A TCP socket that accepts TLS connections.
#[derive(Debug)]
struct TcpDoor {
    listener: tokio::net::TcpListener,
    tls: Arc<rustls::ServerConfig>,
}

impl TcpDoor {
    fn open(listener: TcpListener, identity: &Identity) -> Result<Self> {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(|error| {
            Error::new(Code::Address, "cannot use the TCP socket").because(error)
        })?;
        Ok(Self { listener, tls: Arc::new(identity.server_config()?) })
    }

    async fn accept(&self, places: &Places) -> Incoming {
        loop {
            match self.listener.accept().await {
                Ok((socket, peer)) => {
                    let peer = canonical(peer);
                    let from = Stranger::Tcp { socket, tls: Arc::clone(&self.tls) };
                    return Incoming { peer, place: places.take(), from };
                }
                // One that left already, or no descriptor for it: the next one may be better.
                Err(error) => {
                    debug!(%error, "no connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Somebody who started a handshake. Dropping it turns them away.
#[derive(Debug)]
pub struct Incoming {
    peer: SocketAddr,
    place: Place,
    from: Stranger,
}

#[derive(Debug)]
enum Stranger {
    Quic { quic: Box<quinn::Incoming>, door: QuicDoor },
    Tcp { socket: tokio::net::TcpStream, tls: Arc<rustls::ServerConfig> },
}

impl Incoming {
    /// Where the handshake comes from.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Completes when somebody else needs the place; give up then, unless the peer is proven.
    pub fn evicted(&self) -> impl Future<Output = ()> + Send + use<> {
        self.place.evicted()
    }

    /// Finishes the handshake; over QUIC also waits for the first bytes of the peer's stream.
    ///
    /// Errors: `NotFastsst`, `PeerGone` (it left), `Unreachable` (it did not go on in time).
    pub async fn complete(self, patience: Duration) -> Result<Connection> {
        let Self { peer, place, from } = self;
        let established = async {
            match from {
                Stranger::Quic { quic, door } => accept_quic(*quic, door, peer).await,
                Stranger::Tcp { socket, tls } => tcp_dial::accept((socket, peer), tls).await,
            }
        };
        match timeout(patience, established).await {
            Ok(connected) => connected.map(|connection| connection.holding(place)),
            Err(error) => {
                let what = format!("{peer} did not finish its handshake in time");
                Err(Error::new(Code::Unreachable, what).because(error))
            }
        }
    }
}

/// What a donor would try again is, here, a peer that is gone.
pub(super) fn left_early(peer: SocketAddr, error: Error) -> Error {
    if error.code() == Code::Unreachable {
        return Error::new(Code::PeerGone, format!("{peer} left in its handshake")).because(error);
    }
    error
}

async fn accept_quic(
    quic: quinn::Incoming,
    door: QuicDoor,
    peer: SocketAddr,
) -> Result<Connection> {
    let established = async {
        let quic = quic.accept()?.await?;
        let streams = quic.accept_bi().await?;
        Ok::<_, ConnectionError>((quic, streams))
    };
    let (quic, streams) =
        established.await.map_err(|error| left_early(peer, handshake_error(peer, error)))?;
    let silence = Duration::from_millis(fastsst_proto::limits::PEER_SILENCE_MS);
    quic::connection(quic, (door.endpoint, door.socket), silence, streams)
}

/// Settings of a UDP socket that accepts.
pub(super) fn quic_server_config(
    identity: &Identity,
    datagram_bytes_max: u16,
) -> Result<ServerConfig> {
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
