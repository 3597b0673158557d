//! What each frame does to a joiner's session.

use alloc::vec::Vec;

use super::{JoinerEvent, JoinerSession, State, Wish};
use crate::auth::Scope;
use crate::error::ProtocolError;
use crate::frame::{DeclKind, Frame};
use crate::lane::{joiner_check_hello, joiner_welcome};
use crate::manifest::Entry;
use crate::types::{FileId, LaneId, Millis};
use crate::version::Features;

impl JoinerSession {
    pub(super) fn step(&mut self, now: Millis, frame: Frame) -> Result<(), ProtocolError> {
        let state = self.state;
        match (state, frame) {
            (State::AwaitHello, frame) => self.on_hello(now, &frame),
            (_, Frame::Abort(refusal)) => Err(ProtocolError::Aborted(refusal)),
            (_, Frame::Heartbeat { bytes, files, phase }) => {
                self.events.push_back(JoinerEvent::PeerProgress { bytes, files, phase });
                Ok(())
            }
            (State::AwaitDeclare, Frame::Declare(declaration)) => {
                self.state = State::Deciding {
                    lanes: declaration.lanes,
                    wish: match declaration.kind {
                        DeclKind::Full => Wish::Transfer,
                        DeclKind::Bypass { .. } => Wish::Bypass,
                        DeclKind::Estimate => Wish::Estimate,
                    },
                    roots: declaration.roots.len(),
                };
                self.events.push_back(JoinerEvent::Declared(declaration));
                Ok(())
            }
            (
                State::Receiving { lanes } | State::Finishing { lanes, .. },
                Frame::LaneOffer { lane, source_port },
            ) => self.on_lane_offer(lanes, lane, source_port),
            (State::Receiving { .. }, Frame::Entries(entries)) => self.on_entries(entries),
            (State::Receiving { .. }, Frame::Gone(files)) => self.on_gone(files),
            (State::Receiving { .. }, Frame::ManifestEnd { entries, bytes }) => {
                self.tally.end(entries, bytes)?;
                self.events.push_back(JoinerEvent::ManifestEnd { entries, bytes });
                Ok(())
            }
            (State::Receiving { .. } | State::Finishing { .. }, Frame::LimitedBy(bottleneck)) => {
                self.events.push_back(JoinerEvent::PeerLimitedBy(bottleneck));
                Ok(())
            }
            (State::Receiving { .. }, Frame::Compare(asked)) if self.has_delta() => {
                self.events.push_back(JoinerEvent::Compare(asked));
                Ok(())
            }
            (State::Receiving { .. }, Frame::Same(chunks)) if self.has_delta() => {
                self.events.push_back(JoinerEvent::Same(chunks));
                Ok(())
            }
            (State::Receiving { .. }, Frame::SameFiles(files)) if self.has_delta() => {
                self.events.push_back(JoinerEvent::SameFiles(files));
                Ok(())
            }
            (State::Receiving { lanes }, Frame::Finish(finish)) if lanes > 0 => {
                self.tally.finish(finish.entries, finish.bytes)?;
                self.state = State::Finishing { lanes, root_hash: finish.root_hash };
                self.events.push_back(JoinerEvent::Finish(finish));
                Ok(())
            }
            // It has crossed `Committed`; nobody needs the lane any more.
            (State::Committed, Frame::LaneOffer { .. }) => Ok(()),
            (State::Committed | State::AwaitBye | State::Receiving { lanes: 0 }, Frame::Bye) => {
                self.state = State::Closed;
                self.events.push_back(JoinerEvent::Bye);
                Ok(())
            }
            (_, frame) => {
                Err(ProtocolError::Unexpected { state: state.name(), frame: frame.name() })
            }
        }
    }

    fn on_hello(&mut self, now: Millis, frame: &Frame) -> Result<(), ProtocolError> {
        let Some((token, exporter)) = self.handshake.take() else {
            return Err(self.misuse("Hello without a handshake"));
        };
        let accepted = joiner_check_hello(frame, &token, &exporter, None)?;
        self.features = Features::negotiate(self.side.features, accepted.features);
        self.peer_software = accepted.software;
        let welcome = joiner_welcome(&token, &exporter, &Scope::Control, &self.side);
        self.transmit.push_back(welcome);
        self.liveness.proven(now);
        self.events.push_back(JoinerEvent::Authenticated(accepted.peer));
        self.state = State::AwaitDeclare;
        Ok(())
    }

    pub(super) fn has_delta(&self) -> bool {
        self.features.contains(Features::DELTA)
    }

    fn on_lane_offer(
        &mut self,
        lanes: u16,
        lane: LaneId,
        source_port: u16,
    ) -> Result<(), ProtocolError> {
        if lane.0 >= lanes {
            return Err(ProtocolError::Inconsistent { what: "a lane beyond those accepted" });
        }
        self.events.push_back(JoinerEvent::LaneOffered { lane, source_port });
        Ok(())
    }

    fn on_entries(&mut self, entries: Vec<Entry>) -> Result<(), ProtocolError> {
        entries.iter().try_for_each(|entry| self.tally.add(entry))?;
        self.events.push_back(JoinerEvent::Entries(entries));
        Ok(())
    }

    fn on_gone(&mut self, files: Vec<FileId>) -> Result<(), ProtocolError> {
        files.iter().try_for_each(|file| self.tally.remove(*file))?;
        self.events.push_back(JoinerEvent::Gone(files));
        Ok(())
    }
}
