//! Frames on a connection: where a frame ends, and how much of it may be kept in memory.

use std::net::SocketAddr;

use bytes::Bytes;
use fastsst_proto::WireError;
use fastsst_proto::frame::{self, FRAME_HEADER_BYTES, Frame, FrameHeader};

use super::lane::{LaneReader, LaneWriter, ended_early};
use crate::error::{Code, Error, Result};

/// Reads frames; every method but [`Self::read_exact`] may be cancelled and called again.
#[derive(Debug)]
pub struct FrameReader<R> {
    reader: R,
    trust: Trust,
    header: [u8; FRAME_HEADER_BYTES],
    body: Vec<u8>,
    progress: Progress,
    /// Bytes of the frames read by [`Self::read_frame`].
    heard: u64,
}

/// What the peer may make us read.
#[derive(Debug, Clone, Copy)]
enum Trust {
    /// The frames of the handshake, all of them short.
    Unproven,
    /// Everything, within the limits of the protocol.
    Proven,
}

/// How much of a frame has arrived; kept so that a cancelled read goes on where it was.
#[derive(Debug)]
enum Progress {
    Header { filled: usize },
    Body { header: FrameHeader, filled: usize },
}

impl<R: LaneReader> FrameReader<R> {
    /// Starts with a peer that has proven nothing: only the frames of the handshake are read, so
    /// that a stranger cannot make us allocate.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            trust: Trust::Unproven,
            header: [0; FRAME_HEADER_BYTES],
            body: Vec::new(),
            progress: Progress::Header { filled: 0 },
            heard: 0,
        }
    }

    /// The peer knows the token; from now on only the limits of the protocol apply.
    pub fn peer_is_proven(&mut self) {
        self.reader.peer_is_proven();
        self.trust = Trust::Proven;
    }

    /// The address of the peer, for messages.
    pub fn peer(&self) -> SocketAddr {
        self.reader.peer()
    }

    /// How many bytes the messages had that were read so far, skipped ones included.
    pub fn heard_bytes(&self) -> u64 {
        self.heard
    }

    /// The next frame this release knows, or `None` when the peer finished cleanly.
    ///
    /// Errors: `PeerGone`, `PeerStopped`, `NotFastsst`, `Protocol`, `Limit`, `UnsafePath`.
    pub async fn read_frame(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Progress::Header { .. } = self.progress {
                let Some(header) = self.read_header().await? else {
                    return Ok(None);
                };
                if header.is_chunk() {
                    return Err(Error::new(
                        Code::Protocol,
                        format!("{} sent a chunk where only messages belong", self.peer()),
                    ));
                }
                self.expect_body(header);
            }
            if let Some(frame) = self.read_expected_body().await? {
                return Ok(Some(frame));
            }
        }
    }

    /// The header of the next frame, or `None` when the peer finished cleanly.
    ///
    /// The body is next: [`Self::read_body`] for a message, [`Self::read_exact`] for a chunk.
    ///
    /// Errors: as [`Self::read_frame`].
    pub async fn read_header(&mut self) -> Result<Option<FrameHeader>> {
        let mut filled = match self.progress {
            Progress::Header { filled } => filled,
            Progress::Body { .. } => return Err(Error::bug("a frame's body was not read")),
        };
        while let Some(rest) = self.header.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest).await? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(ended_early(self.reader.peer())),
                read => filled += read,
            }
            self.progress = Progress::Header { filled };
        }
        self.progress = Progress::Header { filled: 0 };
        let header = match self.trust {
            Trust::Unproven => frame::decode_handshake_header(&self.header),
            Trust::Proven => frame::decode_header(&self.header),
        };
        header.map(Some).map_err(|error| self.malformed(error))
    }

    /// The body of a message whose header was just read; `None` for a kind this release may skip.
    ///
    /// Errors: as [`Self::read_frame`].
    pub async fn read_body(&mut self, header: FrameHeader) -> Result<Option<Frame>> {
        if let Progress::Header { .. } = self.progress {
            self.expect_body(header);
        }
        self.read_expected_body().await
    }

    /// Fills `buf` with what follows; not to be cancelled.
    ///
    /// Errors: as [`LaneReader::read_exact`].
    pub async fn read_exact(&mut self, buf: &mut [u8]) -> Result<()> {
        self.reader.read_exact(buf).await
    }

    /// Gives up framing.
    pub fn into_inner(self) -> R {
        self.reader
    }

    fn expect_body(&mut self, header: FrameHeader) {
        self.heard += (FRAME_HEADER_BYTES + header.body_len()) as u64;
        self.body.clear();
        self.body.resize(header.body_len(), 0);
        self.progress = Progress::Body { header, filled: 0 };
    }

    async fn read_expected_body(&mut self) -> Result<Option<Frame>> {
        let Progress::Body { header, mut filled } = self.progress else {
            return Err(Error::bug("no frame's body is expected"));
        };
        while let Some(rest) = self.body.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest).await? {
                0 => return Err(ended_early(self.reader.peer())),
                read => filled += read,
            }
            self.progress = Progress::Body { header, filled };
        }
        self.progress = Progress::Header { filled: 0 };
        frame::decode_body(header.ty, &self.body).map_err(|error| self.malformed(error))
    }

    fn malformed(&self, error: WireError) -> Error {
        let peer = self.peer();
        let (code, what) = match error {
            WireError::BadMagic => (Code::NotFastsst, format!("what talks at {peer} is not ours")),
            WireError::TooLong { .. } => (Code::Limit, format!("{peer} sent too much at once")),
            WireError::Path(_) => (Code::UnsafePath, format!("{peer} sent a path it must not")),
            WireError::Truncated
            | WireError::Trailing { .. }
            | WireError::UnknownType { .. }
            | WireError::BadValue { .. } => {
                (Code::Protocol, format!("{peer} sent a malformed message"))
            }
        };
        Error::new(code, what).because(error)
    }
}

/// Writes frames.
#[derive(Debug)]
pub struct FrameWriter<W> {
    writer: W,
    /// What a cancelled [`Self::flush`] has not written yet.
    pending: [Bytes; 1],
    queued: Vec<u8>,
    /// Bytes of the frames given to [`Self::queue`].
    said: u64,
}

impl<W: LaneWriter> FrameWriter<W> {
    /// Nothing is written yet.
    pub fn new(writer: W) -> Self {
        Self { writer, pending: [Bytes::new()], queued: Vec::new(), said: 0 }
    }

    /// The address of the peer, for messages.
    pub fn peer(&self) -> SocketAddr {
        self.writer.peer()
    }

    /// Adds a frame to what [`Self::flush`] writes.
    pub fn queue(&mut self, frame: &Frame) {
        let before = self.queued.len();
        frame::encode(frame, &mut self.queued);
        self.said += (self.queued.len() - before) as u64;
    }

    /// How many bytes the messages have that were queued so far.
    pub fn said_bytes(&self) -> u64 {
        self.said
    }

    /// Writes what was queued; may be cancelled, the rest stays queued.
    ///
    /// Errors: `PeerGone`, `PeerStopped`.
    pub async fn flush(&mut self) -> Result<()> {
        loop {
            self.writer.write_all(&mut self.pending).await?;
            if self.queued.is_empty() {
                return Ok(());
            }
            self.pending = [Bytes::from(std::mem::take(&mut self.queued))];
        }
    }

    /// Queues and flushes.
    ///
    /// Errors: as [`Self::flush`].
    pub async fn write_frame(&mut self, frame: &Frame) -> Result<()> {
        self.queue(frame);
        self.flush().await
    }

    /// Flushes, then hands over `chunks` without copying them.
    ///
    /// Errors: as [`Self::flush`].
    pub async fn write_all(&mut self, chunks: &mut [Bytes]) -> Result<()> {
        self.flush().await?;
        self.writer.write_all(chunks).await
    }

    /// Flushes, ends this direction and waits until the peer's transport has everything.
    ///
    /// Errors: as [`Self::flush`].
    pub async fn finish(&mut self) -> Result<()> {
        self.flush().await?;
        self.writer.finish().await
    }

    /// Gives up framing.
    pub fn into_inner(self) -> W {
        self.writer
    }
}
