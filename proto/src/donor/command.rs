//! What the owner of a donor's session may ask for.

use alloc::vec::Vec;

use super::{DonorSession, Lanes, State, Wanted, lane_bit};
use crate::bottleneck::Bottleneck;
use crate::error::ProtocolError;
use crate::frame::{Asked, DeclKind, Declaration, FileRef, Finish, Frame, Refusal};
use crate::limits::{
    ENTRIES_PER_FRAME_MAX, FILES_PER_FRAME_MAX, FRAME_BODY_BYTES_MAX, POSITION_BYTES_MAX,
    SAME_CHUNKS_PER_FRAME_MAX,
};
use crate::liveness::Progress;
use crate::manifest::Entry;
use crate::types::{ChunkRef, FileId, LaneId};

impl DonorSession {
    /// Says what will be sent. Legal once `Welcomed`.
    ///
    /// Errors: too early or again; a declaration the wire cannot carry.
    pub fn declare(&mut self, declaration: Declaration) -> Result<(), ProtocolError> {
        let State::Welcomed = self.state else { return Err(self.misuse("declare")) };
        declaration.validate().map_err(ProtocolError::Unsendable)?;
        let wanted = match declaration.kind {
            DeclKind::Full => Wanted::Lanes(declaration.lanes),
            DeclKind::Bypass { .. } => Wanted::Position,
            DeclKind::Estimate => Wanted::Estimate,
        };
        self.state = State::AwaitAccept { wanted };
        self.transmit.push_back(Frame::Declare(declaration));
        Ok(())
    }

    /// Announces the source port of a lane about to connect; again when it reconnects.
    ///
    /// Errors: not sending, or no such lane.
    pub fn offer_lane(&mut self, lane: LaneId, source_port: u16) -> Result<(), ProtocolError> {
        let misuse = self.misuse("offer_lane");
        let (State::Streaming { lanes, .. } | State::AwaitCommitted { lanes, .. }) =
            &mut self.state
        else {
            return Err(misuse);
        };
        if lane.0 >= lanes.accepted {
            return Err(misuse);
        }
        lanes.offered |= lane_bit(lane);
        self.transmit.push_back(Frame::LaneOffer { lane, source_port });
        Ok(())
    }

    /// Sends entries, split over as many frames as they need.
    ///
    /// Errors: not sending, or an entry the wire cannot carry (nothing is sent then).
    pub fn entries(&mut self, entries: Vec<Entry>) -> Result<(), ProtocolError> {
        let State::Streaming { lanes, .. } = self.state else {
            return Err(self.misuse("entries"));
        };
        for entry in &entries {
            entry.validate().map_err(ProtocolError::Unsendable)?;
        }
        let mut batch = Vec::new();
        let mut batch_bytes = 4;
        for entry in entries {
            let entry_bytes = entry.encoded_len();
            if batch.len() == ENTRIES_PER_FRAME_MAX
                || batch_bytes + entry_bytes > FRAME_BODY_BYTES_MAX
            {
                self.transmit.push_back(Frame::Entries(core::mem::take(&mut batch)));
                batch_bytes = 4;
            }
            batch_bytes += entry_bytes;
            batch.push(entry);
        }
        if !batch.is_empty() {
            self.transmit.push_back(Frame::Entries(batch));
        }
        self.state = State::Streaming { lanes, ended: None };
        Ok(())
    }

    /// Takes entries back for good.
    ///
    /// Errors: not sending.
    pub fn gone(&mut self, files: Vec<FileId>) -> Result<(), ProtocolError> {
        let State::Streaming { lanes, .. } = self.state else { return Err(self.misuse("gone")) };
        for files in files.chunks(FILES_PER_FRAME_MAX) {
            self.transmit.push_back(Frame::Gone(files.to_vec()));
        }
        self.state = State::Streaming { lanes, ended: None };
        Ok(())
    }

    /// Ends a walk: how many entries there are now, and the sum of their sizes in bytes.
    ///
    /// Errors: not sending.
    pub fn manifest_end(&mut self, entries: u64, bytes: u64) -> Result<(), ProtocolError> {
        let State::Streaming { lanes, .. } = self.state else {
            return Err(self.misuse("manifest_end"));
        };
        self.transmit.push_back(Frame::ManifestEnd { entries, bytes });
        self.state = State::Streaming { lanes, ended: Some((entries, bytes)) };
        Ok(())
    }

    /// Asks what the stale copy of declared files is good for.
    ///
    /// Errors: not sending, or DELTA is not in force.
    pub fn compare(&mut self, asked: &[Asked]) -> Result<(), ProtocolError> {
        self.delta("compare")?;
        let frames = asked.chunks(FILES_PER_FRAME_MAX).map(|asked| Frame::Compare(asked.to_vec()));
        self.transmit.extend(frames);
        Ok(())
    }

    /// Says that chunks have the hashes the joiner named; they are not sent.
    ///
    /// Errors: as [`DonorSession::compare`].
    pub fn same(&mut self, chunks: &[ChunkRef]) -> Result<(), ProtocolError> {
        self.delta("same")?;
        let frames = chunks.chunks(SAME_CHUNKS_PER_FRAME_MAX);
        self.transmit.extend(frames.map(|chunks| Frame::Same(chunks.to_vec())));
        Ok(())
    }

    /// Says that files have the hashes the joiner named; they are not sent.
    ///
    /// Errors: as [`DonorSession::compare`].
    pub fn same_files(&mut self, files: &[FileRef]) -> Result<(), ProtocolError> {
        self.delta("same_files")?;
        let frames = files.chunks(FILES_PER_FRAME_MAX);
        self.transmit.extend(frames.map(|files| Frame::SameFiles(files.to_vec())));
        Ok(())
    }

    fn delta(&self, command: &'static str) -> Result<(), ProtocolError> {
        match self.state {
            State::Streaming { .. } if self.has_delta() => Ok(()),
            State::AwaitWelcome
            | State::Welcomed
            | State::AwaitAccept { .. }
            | State::Streaming { .. }
            | State::AwaitCommitted { .. }
            | State::Committed
            | State::AwaitBypassAck
            | State::Closed
            | State::Failed => Err(self.misuse(command)),
        }
    }

    /// Tells what limits the transfer, as far as the donor can see; the last word counts.
    ///
    /// Errors: outside the transfer.
    pub fn limited_by(&mut self, bottleneck: Bottleneck) -> Result<(), ProtocolError> {
        let State::Streaming { .. } = self.state else {
            return Err(self.misuse("limited_by"));
        };
        self.transmit.push_back(Frame::LimitedBy(bottleneck));
        Ok(())
    }

    /// Says that everything is said. Chunks may still be on their way.
    ///
    /// Errors: the manifest has not ended since the last entry, or its sums are others.
    pub fn finish(&mut self, finish: Finish) -> Result<(), ProtocolError> {
        let State::Streaming { lanes, ended: Some(sums) } = self.state else {
            return Err(self.misuse("finish"));
        };
        if lanes.accepted == 0 {
            return Err(self.misuse("finish an estimate"));
        }
        if sums != (finish.entries, finish.bytes) {
            return Err(self.misuse("finish with other sums"));
        }
        crate::codec::check_len("position", finish.position.len(), POSITION_BYTES_MAX)
            .map_err(ProtocolError::Unsendable)?;
        self.state = State::AwaitCommitted { lanes, root_hash: finish.root_hash };
        self.transmit.push_back(Frame::Finish(finish));
        Ok(())
    }

    /// Ends the conversation. Legal once `Committed`, and at any time in an estimate; no effect when
    /// it has ended well.
    ///
    /// Errors: too early.
    pub fn bye(&mut self) -> Result<(), ProtocolError> {
        match self.state {
            State::Committed | State::Streaming { lanes: Lanes { accepted: 0, .. }, .. } => {
                self.transmit.push_back(Frame::Bye);
                self.state = State::Closed;
                Ok(())
            }
            State::Closed => Ok(()),
            State::AwaitWelcome
            | State::Welcomed
            | State::AwaitAccept { .. }
            | State::Streaming { .. }
            | State::AwaitCommitted { .. }
            | State::AwaitBypassAck
            | State::Failed => Err(self.misuse("bye")),
        }
    }

    /// Gives up and tells the joiner why; no effect when the session is over.
    pub fn abort(&mut self, refusal: Refusal) {
        if !self.is_over() {
            self.state = State::Failed;
            self.transmit.clear();
            self.transmit.push_back(Frame::Abort(refusal));
        }
    }

    /// What the next heartbeats say: bytes and files done, and the phase.
    pub fn progress(&mut self, bytes: u64, files: u64, phase: u8) {
        self.liveness.report(Progress { bytes, files, phase });
    }
}
