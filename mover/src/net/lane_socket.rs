//! A socket of the joiner for one QUIC lane.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tracing::debug;

use super::accept::{QuicDoor, STRANGERS_MAX, quic_server_config};
use super::connection::{Connection, Link};
use super::places::Places;
use super::socket::{self, Bound, BufferSizes, QuicSocket};
use super::{Identity, NetOptions, quic, route};
use crate::error::{Code, Error, Result};

/// A lane's own socket at the joiner's port, bound and not yet served.
#[derive(Debug)]
pub struct LaneSocket {
    bound: Bound,
    peer: SocketAddr,
    identity: Identity,
    options: NetOptions,
}

impl LaneSocket {
    /// Binds one more socket to the port of a listener, for the donor of `control`.
    pub(super) fn bind(
        listener: SocketAddr,
        (control, source_port): (&Link, u16),
        identity: Identity,
        options: NetOptions,
    ) -> Result<Self> {
        let mut peer = control.peer();
        peer.set_port(source_port);
        let bound = socket::bind_lane(listener, (peer, control.local_ip()), &options)?;
        Ok(Self { bound, peer, identity, options })
    }

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
        let server = quic_server_config(&identity, datagram_bytes_max)?;
        let endpoint = quic::endpoint(&socket, Some(server))?;
        let door = QuicDoor { endpoint, socket };
        let places = Places::new(STRANGERS_MAX);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let incoming = match timeout(left, door.accept(&places)).await {
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
