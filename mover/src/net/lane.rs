//! The two directions of a connection, whatever carries them.

use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::error::{Code, Error, Result};

/// Bytes from the peer, in order.
pub trait LaneReader: Send {
    /// The address of the peer, for messages.
    fn peer(&self) -> SocketAddr;

    /// The peer knows the token; from here on it may have more of our memory.
    fn peer_is_proven(&mut self);

    /// Reads what is there, at least one byte; 0 means the peer finished cleanly.
    ///
    /// Cancelling loses nothing.
    ///
    /// Errors: `PeerGone`, `PeerStopped`, `Protocol`.
    fn read(&mut self, buf: &mut [u8]) -> impl Future<Output = Result<usize>> + Send;

    /// Fills `buf`. Cancelling loses what was read.
    ///
    /// Errors: as [`Self::read`]; the end of the stream is `PeerGone`.
    fn read_exact(&mut self, buf: &mut [u8]) -> impl Future<Output = Result<()>> + Send {
        async move {
            let mut filled = 0;
            while filled < buf.len() {
                let Some(rest) = buf.get_mut(filled..) else {
                    return Err(Error::bug("read beyond the buffer"));
                };
                match self.read(rest).await? {
                    0 => return Err(ended_early(self.peer())),
                    read => filled += read,
                }
            }
            Ok(())
        }
    }
}

/// Bytes to the peer, in order.
pub trait LaneWriter: Send {
    /// The address of the peer, for messages.
    fn peer(&self) -> SocketAddr;

    /// Hands over all of `chunks`; no copy is made until the datagram is built.
    ///
    /// When it is cancelled, `chunks` holds exactly what has not been taken; calling it again
    /// with them goes on where it stopped.
    ///
    /// Errors: `PeerGone`, `PeerStopped`.
    fn write_all(&mut self, chunks: &mut [Bytes]) -> impl Future<Output = Result<()>> + Send;

    /// Ends this direction and waits until the peer's transport has everything.
    ///
    /// Errors: as [`Self::write_all`].
    fn finish(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// The peer ended its direction in the middle of something.
pub(super) fn ended_early(peer: SocketAddr) -> Error {
    Error::new(Code::PeerGone, format!("{peer} ended the connection in the middle of a message"))
}
