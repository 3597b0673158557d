//! TCP sockets: how they are bound and what the kernel is asked for.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use fastsst_proto::limits::PEER_SILENCE_MS;
use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::connection::Carrier;
use super::socket::bind_error;
use crate::error::Result;

/// Connections the kernel holds until they are accepted.
///
/// Why: accepting takes microseconds; a burst of strangers must not keep a donor's SYN out.
const BACKLOG: i32 = 128;

/// Idle time after which the kernel asks whether the peer is still there, and between two questions.
///
/// Why: with the unanswered questions of [`PEER_SILENCE_MS`] a vanished peer is noticed as soon as
/// over QUIC.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// How long what was sent may stay unacknowledged, or the receiver without room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// As long as a peer may be silent. For what the peer reads at once whatever its disk does.
    Silence,
    /// As long as the kernel likes. For a donor's lane: a joiner with a slow disk has no room for
    /// a long time, which the kernel cannot tell from a dead one; its heartbeats can.
    Kernel,
}

/// Binds and listens at the port of a joiner, alone.
///
/// Errors: `Address`.
pub(super) fn bind_listener(address: SocketAddr) -> Result<TcpListener> {
    let bind = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // Connections of an earlier transfer that are being forgotten must not keep the port taken.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bind().map_err(|error| bind_error(Carrier::Tcp, address, error))
}

/// Sets what every connection needs: no waiting for more to send, and a peer that vanished is
/// noticed. Buffers are left to the kernel, which makes them fit the path.
pub(super) fn prepare(socket: &tokio::net::TcpStream, patience: Patience) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let silence = Duration::from_millis(PEER_SILENCE_MS);
    let questions = u32::try_from(silence.as_secs() / KEEP_ALIVE.as_secs()).unwrap_or(1);
    let keep_alive = TcpKeepalive::new()
        .with_time(KEEP_ALIVE)
        .with_interval(KEEP_ALIVE)
        .with_retries(questions.saturating_sub(1));
    SockRef::from(socket).set_tcp_keepalive(&keep_alive)?;
    if patience == Patience::Silence {
        let ms = u32::try_from(PEER_SILENCE_MS).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(socket, ms)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::error::Code;

    #[test]
    fn a_port_in_use_is_an_address_error_that_names_tcp() {
        let first = bind_listener((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let error = bind_listener(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.code(), Code::Address);
        assert!(error.to_string().contains("TCP port"), "{error}");
    }
}
