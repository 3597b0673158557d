//! The donor's side: reach the joiner, and be sure that it is the joiner.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, Endpoint};
use tokio::time::{sleep, timeout};

use super::quic::{self, Connection, handshake_error};
use super::route;
use super::socket::{self, Bound, BufferSizes, QuicSocket};
use super::tls::{PinnedClient, SERVER_NAME};
use super::{NetOptions, Pin};
use crate::error::{Code, Error, Result};

/// Time for one address before the next one is tried, when there are several.
///
/// Why: a few lost datagrams, doubled each time from 30 ms; an address that is black-holed must
/// not use up the whole connect timeout.
const ADDRESS_TURN: Duration = Duration::from_secs(2);

/// Refusals for this long end an attempt.
///
/// Why: a joiner that is just about to listen is found by the next attempt, sooner than by the
/// growing pauses of QUIC's own repetitions.
const REFUSED_ATTEMPT: Duration = Duration::from_millis(50);

/// First pause between two attempts; each is twice as long as the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(50);

/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Connects to a joiner, trying every address of `host` until the connect timeout.
///
/// Cancel: drop the future; nothing stays behind.
///
/// Errors: `Unreachable`, `WrongKey`, `NotFastsst`, `PeerStopped`.
pub async fn connect(host: &str, port: u16, pin: Pin, options: &NetOptions) -> Result<Connection> {
    let mut attempts = Attempts::start(options.connect_timeout);
    let targets = resolve(host, port, options.connect_timeout).await?;
    let turn = if targets.len() > 1 { ADDRESS_TURN } else { options.connect_timeout };
    loop {
        for target in &targets {
            let Some(left) = attempts.left() else {
                return Err(attempts.give_up(&format!("{host} ({target})")));
            };
            let dialer = socket::bind_donor(*target, options)
                .and_then(|bound| Dialer::new(bound, *target, options));
            let attempt = match dialer {
                Ok(dialer) => dialer.dial(pin, left.min(turn)).await,
                Err(error) => Err(error),
            };
            match attempt {
                Err(error) if error.code() == Code::Unreachable => attempts.failed(error),
                other => return other,
            }
        }
        attempts.pause().await;
    }
}

/// A donor's socket for one lane, bound before the lane exists so that its port can be announced.
#[derive(Debug)]
pub struct LanePort {
    bound: Bound,
    target: SocketAddr,
    options: NetOptions,
}

impl LanePort {
    /// Binds a free port towards `target`, the joiner's address of the control connection.
    ///
    /// Errors: `Unreachable`.
    pub fn bind(target: SocketAddr, options: &NetOptions) -> Result<Self> {
        let bound = socket::bind_donor(target, options)?;
        Ok(Self { bound, target, options: options.clone() })
    }

    /// The port to announce.
    #[must_use]
    pub fn source_port(&self) -> u16 {
        self.bound.local.port()
    }

    /// What the kernel granted.
    #[must_use]
    pub fn buffers(&self) -> BufferSizes {
        self.bound.buffers
    }

    /// Connects in the current runtime, trying until the connect timeout.
    ///
    /// Errors: as [`connect`].
    pub async fn connect(self, pin: Pin) -> Result<Connection> {
        let Self { bound, target, options } = self;
        let mut attempts = Attempts::start(options.connect_timeout);
        let dialer = Dialer::new(bound, target, &options)?;
        loop {
            let Some(left) = attempts.left() else {
                return Err(attempts.give_up(&target.to_string()));
            };
            match dialer.dial(pin, left).await {
                Err(error) if error.code() == Code::Unreachable => attempts.failed(error),
                other => return other,
            }
            attempts.pause().await;
        }
    }
}

/// When to try again, and when to stop.
struct Attempts {
    started: Instant,
    patience: Duration,
    pause: Duration,
    last: Option<Error>,
}

impl Attempts {
    fn start(patience: Duration) -> Self {
        Self { started: Instant::now(), patience, pause: PAUSE_FIRST, last: None }
    }

    /// Time for the next attempt; too little to learn anything new is none.
    fn left(&self) -> Option<Duration> {
        let left = self.patience.saturating_sub(self.started.elapsed());
        (self.last.is_none() || left > REFUSED_ATTEMPT).then_some(left)
    }

    fn failed(&mut self, error: Error) {
        self.last = Some(error);
    }

    async fn pause(&mut self) {
        let left = self.patience.saturating_sub(self.started.elapsed());
        sleep(self.pause.min(left)).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    fn give_up(self, target: &str) -> Error {
        let what = format!(
            "cannot reach the joiner {target}, tried for {:.1} s; is it waiting, and does every \
             firewall between let this UDP port pass?",
            self.started.elapsed().as_secs_f64()
        );
        let error = Error::new(Code::Unreachable, what);
        match self.last {
            Some(last) => error.because(last.what().to_owned()),
            None => error,
        }
    }
}

/// One socket and what is needed to try it again.
struct Dialer {
    endpoint: Endpoint,
    socket: Arc<QuicSocket>,
    target: SocketAddr,
    datagram_bytes_max: u16,
}

impl Dialer {
    fn new(bound: Bound, target: SocketAddr, options: &NetOptions) -> Result<Self> {
        let datagram_bytes_max = route::datagram_bytes_max(bound.local.ip(), target.ip())
            .min(options.datagram_bytes_max)
            .min(socket::BATCH_BYTES_MAX);
        let socket = QuicSocket::new(bound.socket)?;
        let endpoint = quic::endpoint(&socket, None)?;
        Ok(Self { endpoint, socket, target, datagram_bytes_max })
    }

    /// One attempt. `Unreachable` may be tried again, nothing else may.
    async fn dial(&self, pin: Pin, patience: Duration) -> Result<Connection> {
        let PinnedClient { config, wrong_key } = PinnedClient::new(pin)?;
        let crypto = QuicClientConfig::try_from(config)
            .map_err(|error| Error::bug("TLS settings without AES-128").because(error))?;
        let transport = quic::donor_transport(self.datagram_bytes_max)?;
        let mut client = ClientConfig::new(Arc::new(crypto));
        client.transport_config(Arc::new(transport));
        let reachability = self.socket.reachability();
        reachability.forget();
        let connecting = self
            .endpoint
            .connect_with(client, self.target, SERVER_NAME)
            .map_err(|error| no_answer(self.target, "cannot start a connection").because(error))?;
        let established = async {
            let quic = connecting.await?;
            let streams = quic.open_bi().await?;
            Ok::<_, ConnectionError>((quic, streams))
        };
        let outcome = tokio::select! {
            outcome = timeout(patience, established) => outcome,
            () = reachability.refused_throughout(REFUSED_ATTEMPT) => {
                return Err(no_answer(self.target, "nothing listens there"));
            }
        };
        match outcome {
            Ok(Ok((quic, streams))) => {
                let socket = Arc::clone(&self.socket);
                Connection::new(quic, self.endpoint.clone(), socket, streams)
            }
            Ok(Err(error)) if wrong_key.load(Ordering::Relaxed) => Err(Error::new(
                Code::WrongKey,
                format!(
                    "the key of {} is not the one in the ticket; the ticket belongs to another \
                     run, or something in between answers in the joiner's place",
                    self.target
                ),
            )
            .because(error)),
            Ok(Err(error)) => Err(handshake_error(self.target, error)),
            Err(_) if reachability.refused_for().is_some() => {
                Err(no_answer(self.target, "nothing listens there"))
            }
            Err(_) => Err(no_answer(self.target, "no answer")),
        }
    }
}

async fn resolve(host: &str, port: u16, patience: Duration) -> Result<Vec<SocketAddr>> {
    let failed = |why: String| Error::new(Code::Unreachable, why);
    let looked_up = timeout(patience, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|error| failed(format!("no address for {host} in time")).because(error))?
        .map_err(|error| failed(format!("no address for {host}")).because(error))?;
    let mut targets = Vec::new();
    for target in looked_up {
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    if targets.is_empty() {
        return Err(failed(format!("no address for {host}")));
    }
    Ok(targets)
}

fn no_answer(target: SocketAddr, what: &str) -> Error {
    Error::new(Code::Unreachable, format!("{what} ({target})"))
}
