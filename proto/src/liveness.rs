//! Deadlines both sessions share: the handshake, the peer's silence, our own heartbeat.

use alloc::collections::VecDeque;

use crate::error::ProtocolError;
use crate::frame::Frame;
use crate::limits::{HANDSHAKE_MS, HEARTBEAT_INTERVAL_MS, PEER_SILENCE_MS};
use crate::types::Millis;

/// How far this end is, as its heartbeats say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    pub(crate) phase: u8,
}

/// The clocks of one session.
#[derive(Debug)]
pub(crate) struct Liveness {
    begun: Millis,
    heard: Millis,
    /// Absent until the peer is proven: before that only the handshake deadline counts, so that a
    /// stranger cannot keep the connection by talking.
    beat_at: Option<Millis>,
    progress: Progress,
}

impl Liveness {
    pub(crate) fn new(now: Millis) -> Self {
        Self { begun: now, heard: now, beat_at: None, progress: Progress::default() }
    }

    /// The peer said something.
    pub(crate) fn heard(&mut self, now: Millis) {
        self.heard = self.heard.max(now);
    }

    /// The peer is proven: heartbeats begin.
    pub(crate) fn proven(&mut self, now: Millis) {
        self.beat_at = Some(now.plus(HEARTBEAT_INTERVAL_MS));
    }

    pub(crate) fn report(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// The next moment at which [`Liveness::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Millis {
        let deadline = self.deadline();
        self.beat_at.map_or(deadline, |beat_at| beat_at.min(deadline))
    }

    /// Queues a heartbeat when it is due.
    ///
    /// Errors: the peer has been silent too long.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Millis,
        transmit: &mut VecDeque<Frame>,
    ) -> Result<(), ProtocolError> {
        if now >= self.deadline() {
            let since = if self.beat_at.is_some() { self.heard } else { self.begun };
            return Err(ProtocolError::Silence { ms: now.since(since) });
        }
        if self.beat_at.is_some_and(|beat_at| now >= beat_at) {
            self.beat_at = Some(now.plus(HEARTBEAT_INTERVAL_MS));
            let Progress { bytes, files, phase } = self.progress;
            // While the connection is blocked only the newest heartbeat waits.
            if matches!(transmit.back(), Some(Frame::Heartbeat { .. })) {
                transmit.pop_back();
            }
            transmit.push_back(Frame::Heartbeat { bytes, files, phase });
        }
        Ok(())
    }

    fn deadline(&self) -> Millis {
        if self.beat_at.is_some() {
            self.heard.plus(PEER_SILENCE_MS)
        } else {
            self.begun.plus(HANDSHAKE_MS)
        }
    }
}
