//! The donor's end of a lane before it is connected.

use std::net::SocketAddr;

use super::attempts::Attempts;
use super::connection::{Carrier, Connection};
use super::quic_dial::QuicDialer;
use super::socket::{self, Bound};
use super::tcp_dial::{self, Purpose};
use super::{NetOptions, Pin};
use crate::error::Result;

/// A donor's end of one lane, bound before the lane exists so that its port can be announced.
#[derive(Debug)]
pub struct LanePort {
    /// The socket of a QUIC lane; one over TCP needs no port of its own to be told apart.
    bound: Option<Bound>,
    target: SocketAddr,
    options: NetOptions,
}

impl LanePort {
    /// Prepares a lane to `target`, the joiner's address of the control connection.
    ///
    /// Errors: `Unreachable`.
    pub fn bind(target: SocketAddr, carrier: Carrier, options: &NetOptions) -> Result<Self> {
        let bound = match carrier {
            Carrier::Quic => Some(socket::bind_donor(target, options)?),
            Carrier::Tcp => None,
        };
        Ok(Self { bound, target, options: options.clone() })
    }

    /// The port to announce; 0 when it does not matter.
    #[must_use]
    pub fn source_port(&self) -> u16 {
        self.bound.as_ref().map_or(0, |bound| bound.local.port())
    }

    /// Connects in the current runtime, trying until the connect timeout.
    ///
    /// Errors: as [`super::connect()`].
    pub async fn connect(self, pin: Pin) -> Result<Connection> {
        let Self { bound, target, options } = self;
        let carrier = if bound.is_some() { Carrier::Quic } else { Carrier::Tcp };
        let mut attempts = Attempts::at(target, carrier.protocol(), options.connect_timeout);
        let dialer = bound.map(|bound| QuicDialer::new(bound, target, &options)).transpose()?;
        loop {
            let (target, patience) = attempts.next().await?;
            let attempt = match &dialer {
                Some(dialer) => dialer.dial(pin, patience).await,
                None => tcp_dial::dial(target, (pin, Purpose::Lane), &options, patience).await,
            };
            if let Some(connected) = attempts.settle(attempt) {
                return connected;
            }
        }
    }
}
