//! What the owner of a joiner's session may ask for.

use alloc::vec::Vec;

use super::{JoinerSession, State, Wish};
use crate::bottleneck::Bottleneck;
use crate::error::ProtocolError;
use crate::frame::{Accept, FileRef, Frame, Have, HaveFile, Refusal};
use crate::limits::{FILES_PER_FRAME_MAX, HAVE_CHUNKS_PER_FRAME_MAX};
use crate::liveness::Progress;
use crate::root::RootHash;
use crate::tally::Tally;
use crate::types::{FileId, Generation, LaneId};

impl JoinerSession {
    /// Agrees to the declaration. A bypass needs no lanes (the number is ignored) and is
    /// acknowledged at once: only `Bye` follows. An estimate needs none either.
    ///
    /// Errors: nothing to agree to; no lane, or more than the donor wants.
    pub fn accept(&mut self, accept: Accept) -> Result<(), ProtocolError> {
        let State::Deciding { lanes, wish, roots } = self.state else {
            return Err(self.misuse("accept"));
        };
        if wish == Wish::Estimate {
            self.transmit.push_back(Frame::Accept(Accept { lanes: 0 }));
            self.tally = Tally::new(roots);
            self.state = State::Receiving { lanes: 0 };
            return Ok(());
        }
        if wish == Wish::Bypass {
            self.transmit.push_back(Frame::Accept(Accept { lanes: 0 }));
            self.transmit.push_back(Frame::BypassAck);
            self.state = State::AwaitBye;
            return Ok(());
        }
        if !(1..=lanes).contains(&accept.lanes) {
            return Err(self.misuse("accept with another number of lanes"));
        }
        self.transmit.push_back(Frame::Accept(accept));
        self.tally = Tally::new(roots);
        self.state = State::Receiving { lanes: accept.lanes };
        Ok(())
    }

    /// Refuses the donor or its declaration and says why; no effect when the session is over.
    /// Once accepted it is an [`JoinerSession::abort`].
    pub fn refuse(&mut self, refusal: Refusal) {
        if !self.is_over() {
            let frame = self.farewell(refusal);
            self.state = State::Failed;
            self.transmit.clear();
            self.transmit.push_back(frame);
        }
    }

    /// Tells the donor that a lane may connect.
    ///
    /// Errors: not receiving, or no such lane.
    #[allow(
        clippy::fn_params_excessive_bools,
        reason = "the frame's own field, named at both ends"
    )]
    pub fn lane_ready(&mut self, lane: LaneId, own_socket: bool) -> Result<(), ProtocolError> {
        match self.state {
            State::Receiving { lanes } | State::Finishing { lanes, .. } if lane.0 < lanes => {
                self.transmit.push_back(Frame::LaneReady { lane, own_socket });
                Ok(())
            }
            State::AwaitHello
            | State::AwaitDeclare
            | State::Deciding { .. }
            | State::Receiving { .. }
            | State::Finishing { .. }
            | State::Committed
            | State::AwaitBye
            | State::Closed
            | State::Failed => Err(self.misuse("lane_ready")),
        }
    }

    /// Reports files that are complete, verified, and survive power loss.
    ///
    /// Errors: not receiving.
    pub fn durable(&mut self, files: Vec<(FileId, Generation)>) -> Result<(), ProtocolError> {
        let (State::Receiving { .. } | State::Finishing { .. }) = self.state else {
            return Err(self.misuse("durable"));
        };
        for files in files.chunks(FILES_PER_FRAME_MAX) {
            self.transmit.push_back(Frame::Durable(files.to_vec()));
        }
        Ok(())
    }

    /// Says that nothing is known of these files.
    ///
    /// Errors: not receiving, or DELTA is not in force.
    pub fn lacks(&mut self, files: &[FileRef]) -> Result<(), ProtocolError> {
        self.answer("lacks")?;
        let frames = files.chunks(FILES_PER_FRAME_MAX).map(|files| Frame::Lacks(files.to_vec()));
        self.transmit.extend(frames);
        Ok(())
    }

    /// Says that these files may be in the stale copy by another name.
    ///
    /// Errors: as [`JoinerSession::lacks`].
    pub fn seek(&mut self, files: &[FileRef]) -> Result<(), ProtocolError> {
        self.answer("seek")?;
        let frames = files.chunks(FILES_PER_FRAME_MAX).map(|files| Frame::Seek(files.to_vec()));
        self.transmit.extend(frames);
        Ok(())
    }

    /// Says which hashes stale files have.
    ///
    /// Errors: as [`JoinerSession::lacks`].
    pub fn have_files(&mut self, files: &[HaveFile]) -> Result<(), ProtocolError> {
        self.answer("have_files")?;
        let frames = files.chunks(FILES_PER_FRAME_MAX);
        self.transmit.extend(frames.map(|files| Frame::HaveFiles(files.to_vec())));
        Ok(())
    }

    /// Describes chunks of a stale file, at most [`HAVE_CHUNKS_PER_FRAME_MAX`].
    ///
    /// Errors: as [`JoinerSession::lacks`]; too many chunks.
    pub fn have(&mut self, have: Have) -> Result<(), ProtocolError> {
        self.answer("have")?;
        crate::codec::check_len("chunks", have.chunks.len(), HAVE_CHUNKS_PER_FRAME_MAX)
            .map_err(ProtocolError::Unsendable)?;
        self.transmit.push_back(Frame::Have(have));
        Ok(())
    }

    /// Says that no more is known of a stale file.
    ///
    /// Errors: as [`JoinerSession::lacks`].
    pub fn have_end(&mut self, (file, generation): FileRef) -> Result<(), ProtocolError> {
        self.answer("have_end")?;
        self.transmit.push_back(Frame::HaveEnd { file, generation });
        Ok(())
    }

    fn answer(&self, command: &'static str) -> Result<(), ProtocolError> {
        match self.state {
            State::Receiving { .. } if self.has_delta() => Ok(()),
            State::AwaitHello
            | State::AwaitDeclare
            | State::Deciding { .. }
            | State::Receiving { .. }
            | State::Finishing { .. }
            | State::Committed
            | State::AwaitBye
            | State::Closed
            | State::Failed => Err(self.misuse(command)),
        }
    }

    /// Tells what limits the transfer, as far as the joiner can see; the last word counts.
    ///
    /// Errors: outside the transfer.
    pub fn limited_by(&mut self, bottleneck: Bottleneck) -> Result<(), ProtocolError> {
        let (State::Receiving { .. } | State::Finishing { .. }) = self.state else {
            return Err(self.misuse("limited_by"));
        };
        self.transmit.push_back(Frame::LimitedBy(bottleneck));
        Ok(())
    }

    /// Reports that the new data directory is in its place, with the hash of what was written.
    /// The owner compares that hash with the one of [`super::JoinerEvent::Finish`] *before* it commits.
    ///
    /// Errors: nothing to commit yet; [`ProtocolError::RootHashDiffers`] (the session is over).
    pub fn committed(&mut self, root_hash: RootHash) -> Result<(), ProtocolError> {
        let State::Finishing { root_hash: theirs, .. } = self.state else {
            return Err(self.misuse("committed"));
        };
        if root_hash != theirs {
            return Err(self.fail(ProtocolError::RootHashDiffers { ours: root_hash, theirs }));
        }
        self.transmit.push_back(Frame::Committed { root_hash });
        self.state = State::Committed;
        Ok(())
    }

    /// Gives up and tells the donor why; no effect when the session is over.
    pub fn abort(&mut self, refusal: Refusal) {
        self.refuse(refusal);
    }

    /// What the next heartbeats say: bytes and files done, and the phase.
    pub fn progress(&mut self, bytes: u64, files: u64, phase: u8) {
        self.liveness.report(Progress { bytes, files, phase });
    }
}
