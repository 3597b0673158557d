//! The donor's side of a QUIC handshake.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, Endpoint};
use tokio::time::timeout;

use super::attempts::{REFUSED_ATTEMPT, no_answer};
use super::connection::Connection;
use super::quic::{self, handshake_error};
use super::socket::{self, Bound, QuicSocket};
use super::tls::{PinnedClient, SERVER_NAME};
use super::{NetOptions, Pin, route};
use crate::error::{Error, Result};
use crate::tls::Tls;

/// One socket and what is needed to try it again.
#[derive(Debug)]
pub(super) struct QuicDialer {
    endpoint: Endpoint,
    socket: Arc<QuicSocket>,
    target: SocketAddr,
    datagram_bytes_max: u16,
    silence: Duration,
    tls: Tls,
}

impl QuicDialer {
    /// Takes the socket into the current runtime.
    ///
    /// Errors: `Address`, `Bug`.
    pub(super) fn new(bound: Bound, target: SocketAddr, options: &NetOptions) -> Result<Self> {
        let datagram_bytes_max = route::datagram_bytes_max(bound.local.ip(), target.ip())
            .min(options.datagram_bytes_max)
            .min(socket::BATCH_BYTES_MAX);
        let socket = QuicSocket::new(bound.socket)?;
        let endpoint = quic::endpoint(&socket, None)?;
        let (silence, tls) = (options.silence, options.tls.clone());
        Ok(Self { endpoint, socket, target, datagram_bytes_max, silence, tls })
    }

    /// One attempt. `Unreachable` may be tried again, nothing else may.
    ///
    /// Errors: as [`super::connect()`].
    pub(super) async fn dial(&self, pin: Pin, patience: Duration) -> Result<Connection> {
        let PinnedClient { config, findings } = PinnedClient::new(pin, &self.tls)?;
        let crypto = QuicClientConfig::try_from(config)
            .map_err(|error| Error::bug("TLS settings without AES-128").because(error))?;
        let transport = quic::donor_transport(self.datagram_bytes_max, self.silence)?;
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
                if let Some(error) = findings.empty_handed(self.target) {
                    // The joiner hears of it by our last handshake message, if that gets out.
                    if let Err(silent) = timeout(quic::CLOSE_WAIT, quic.closed()).await {
                        tracing::debug!(%silent, "the joiner did not refuse in time");
                    }
                    return Err(error);
                }
                let of = (self.endpoint.clone(), Arc::clone(&self.socket));
                quic::connection(quic, of, self.silence, streams)
            }
            Ok(Err(error)) => Err(match findings.refusal(self.target) {
                Some(refusal) => refusal,
                None => handshake_error(self.target, error),
            }),
            Err(_) if reachability.refused_for().is_some() => {
                Err(no_answer(self.target, "nothing listens there"))
            }
            Err(_) => Err(no_answer(self.target, "no answer")),
        }
    }
}
