//! The control conversation on a connection: bytes in, events out, heartbeats in between.
//!
//! The conversation itself is [`fastsst_proto`]'s; this drives it. Both ends use the same driver.

use std::time::{Duration, Instant};

use fastsst_proto::donor::{DonorEvent, DonorSession};
use fastsst_proto::frame::{Frame, Refusal};
use fastsst_proto::joiner::{JoinerEvent, JoinerSession};
use fastsst_proto::{Millis, ProtocolError};
use tokio::time::sleep_until;

use crate::error::{Code, Error, Result};
use crate::net::{Connection, FrameReader, FrameWriter, Link, Reader, Writer};
use crate::progress::Progress;

/// How long a dying end tries to tell its peer why.
const FAREWELL: Duration = Duration::from_millis(500);

/// What both conversations have in common.
pub(crate) trait Conversation {
    /// What the owner learns.
    type Event;
    fn handle_frame(&mut self, now: Millis, frame: Frame) -> Result<(), ProtocolError>;
    fn handle_timeout(&mut self, now: Millis) -> Result<(), ProtocolError>;
    fn poll_timeout(&self) -> Option<Millis>;
    fn poll_transmit(&mut self) -> Option<Frame>;
    fn poll_event(&mut self) -> Option<Self::Event>;
    fn abort(&mut self, refusal: Refusal);
    fn progress(&mut self, bytes: u64, files: u64, phase: u8);
}

macro_rules! conversation {
    ($session:ty, $event:ty) => {
        impl Conversation for $session {
            type Event = $event;
            fn handle_frame(&mut self, now: Millis, frame: Frame) -> Result<(), ProtocolError> {
                self.handle_frame(now, frame)
            }
            fn handle_timeout(&mut self, now: Millis) -> Result<(), ProtocolError> {
                self.handle_timeout(now)
            }
            fn poll_timeout(&self) -> Option<Millis> {
                self.poll_timeout()
            }
            fn poll_transmit(&mut self) -> Option<Frame> {
                self.poll_transmit()
            }
            fn poll_event(&mut self) -> Option<Self::Event> {
                self.poll_event()
            }
            fn abort(&mut self, refusal: Refusal) {
                self.abort(refusal);
            }
            fn progress(&mut self, bytes: u64, files: u64, phase: u8) {
                self.progress(bytes, files, phase);
            }
        }
    };
}

conversation!(DonorSession, DonorEvent);
conversation!(JoinerSession, JoinerEvent);

/// A conversation and the connection that carries it.
#[derive(Debug)]
pub(crate) struct Talk<S> {
    /// The state machine; its commands are given directly, then [`Talk::event`] sends.
    pub(crate) session: S,
    reader: FrameReader<Reader>,
    writer: FrameWriter<Writer>,
    link: Link,
    clock: Clock,
    /// Whether the writer may still hold something.
    unsent: bool,
}

/// The time a session understands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the start.
    pub(crate) fn now(self) -> Millis {
        Millis(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn at(self, time: Millis) -> Instant {
        self.0 + Duration::from_millis(time.0)
    }
}

impl<S: Conversation> Talk<S> {
    /// Joins a session and a fresh connection.
    pub(crate) fn new(session: S, connection: Connection, clock: Clock) -> Self {
        let Connection { reader, writer, link, .. } = connection;
        let (reader, writer) = (FrameReader::new(reader), FrameWriter::new(writer));
        Self { session, reader, writer, link, clock, unsent: false }
    }

    /// As [`Talk::new`], when the first frame of the peer has already been read and checked.
    pub(crate) fn with_reader(
        session: S,
        (reader, writer, link): (FrameReader<Reader>, FrameWriter<Writer>, Link),
        clock: Clock,
    ) -> Self {
        Self { session, reader, writer, link, clock, unsent: false }
    }

    /// The peer has proven itself: frames of any size within the limits are read from now on.
    pub(crate) fn peer_is_proven(&mut self) {
        self.reader.peer_is_proven();
    }

    /// The connection.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Whether the peer is slow to take what was said; new work should wait.
    pub(crate) fn is_congested(&self) -> bool {
        self.unsent
    }

    /// Sends what is due and reads what comes until something happens that the owner must know.
    ///
    /// Cancelling loses nothing.
    ///
    /// # Errors
    /// The peer is gone, silent, broke the protocol or stopped; it has been told where that helps.
    pub(crate) async fn event(&mut self, progress: &Progress) -> Result<S::Event> {
        loop {
            self.session.progress(
                progress.bytes_done(),
                progress.files_done(),
                progress.phase() as u8,
            );
            self.queue();
            progress.set_control(self.reader.heard_bytes() + self.writer.said_bytes());
            if let Some(event) = self.session.poll_event() {
                return Ok(event);
            }
            let wake = self.session.poll_timeout().map(|time| self.clock.at(time));
            let step = tokio::select! {
                biased;
                frame = self.reader.read_frame() => Step::Read(frame?),
                sent = self.writer.flush(), if self.unsent => Step::Sent(sent?),
                () = sleep_or_never(wake) => Step::Timeout,
            };
            self.take(step)?;
        }
    }

    /// Writes everything that was said.
    ///
    /// # Errors
    /// The peer is gone.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        self.queue();
        self.writer.flush().await?;
        self.unsent = false;
        Ok(())
    }

    /// Tells the peer why this end stops, as far as it listens, and closes.
    pub(crate) async fn farewell(&mut self, why: &Error) {
        // The peer's own last word needs no echo.
        if why.code() != Code::PeerStopped {
            self.session.abort(Refusal { code: why.code().number(), text: why.words() });
        }
        let told = tokio::time::timeout(FAREWELL, async {
            self.flush().await?;
            self.writer.finish().await
        });
        if !matches!(told.await, Ok(Ok(()))) {
            tracing::debug!("the peer did not hear why this end stops");
        }
        self.link.shutdown(why.code().number(), "stopped").await;
    }

    /// Closes after a good end, when the peer's transport has everything that was said.
    pub(crate) async fn close(&mut self) {
        let told = tokio::time::timeout(FAREWELL, async {
            self.flush().await?;
            self.writer.finish().await
        });
        if !matches!(told.await, Ok(Ok(()))) {
            tracing::debug!("the peer did not wait for the end");
        }
        self.link.leave().await;
    }

    fn queue(&mut self) {
        while let Some(frame) = self.session.poll_transmit() {
            self.writer.queue(&frame);
            self.unsent = true;
        }
    }

    fn take(&mut self, step: Step) -> Result<()> {
        let now = self.clock.now();
        let handled = match step {
            Step::Read(Some(frame)) => self.session.handle_frame(now, frame),
            Step::Read(None) => {
                let what = format!("{} ended the conversation", self.link.peer());
                return Err(Error::new(Code::PeerGone, what));
            }
            Step::Sent(()) => {
                self.unsent = false;
                Ok(())
            }
            Step::Timeout => self.session.handle_timeout(now),
        };
        handled.map_err(|error| protocol_error(self.link.peer(), error))
    }
}

enum Step {
    Read(Option<Frame>),
    Sent(()),
    Timeout,
}

async fn sleep_or_never(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}

/// What a broken conversation means to the operator.
pub(crate) fn protocol_error(peer: impl std::fmt::Display, error: ProtocolError) -> Error {
    let code = match &error {
        ProtocolError::Wire(_)
        | ProtocolError::Unexpected { .. }
        | ProtocolError::Inconsistent { .. } => Code::Protocol,
        ProtocolError::Limit { .. } => Code::Limit,
        ProtocolError::WrongProof => Code::WrongToken,
        ProtocolError::WrongTransfer => Code::Busy,
        ProtocolError::NotFastsst => Code::NotFastsst,
        ProtocolError::Major { .. } => Code::Incompatible,
        ProtocolError::Refused(refusal) | ProtocolError::Aborted(refusal) => {
            let what = format!("the peer {peer} stopped the transfer: {refusal}");
            return Error::new(refused_code(refusal), what);
        }
        ProtocolError::Silence { ms } => {
            let what = format!(
                "nothing heard from {peer} for {ms} ms; did its process or its network die?"
            );
            return Error::new(Code::PeerGone, what);
        }
        ProtocolError::RootHashDiffers { .. } => Code::RootHashDiffers,
        ProtocolError::Misuse { .. } | ProtocolError::Unsendable(_) => Code::Bug,
    };
    Error::new(code, format!("conversation with {peer} failed")).because(error)
}

/// A refusal that is about this end's own credentials or version keeps its code; anything else
/// is the peer's trouble.
fn refused_code(refusal: &Refusal) -> Code {
    match Code::from_number(refusal.code) {
        Some(code @ (Code::WrongToken | Code::Incompatible | Code::NotFastsst | Code::Busy)) => {
            code
        }
        Some(_) | None => Code::PeerStopped,
    }
}
