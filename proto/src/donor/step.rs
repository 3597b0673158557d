//! What each frame does to a donor's session.

use super::{DonorEvent, DonorSession, Lanes, State, Wanted, lane_bit};
use crate::auth::Scope;
use crate::error::ProtocolError;
use crate::frame::Frame;
use crate::lane::donor_check_welcome;
use crate::root::RootHash;
use crate::types::Millis;
use crate::version::Features;

impl DonorSession {
    pub(super) fn step(&mut self, now: Millis, frame: Frame) -> Result<(), ProtocolError> {
        let state = self.state;
        match (state, frame) {
            (_, Frame::Abort(refusal)) => Err(ProtocolError::Aborted(refusal)),
            (
                State::AwaitWelcome | State::AwaitAccept { .. } | State::Welcomed,
                Frame::Refuse(r),
            ) => Err(ProtocolError::Refused(r)),
            (State::AwaitWelcome, frame) => self.on_welcome(now, &frame),
            (_, Frame::Heartbeat { bytes, files, phase }) => {
                self.events.push_back(DonorEvent::PeerProgress { bytes, files, phase });
                Ok(())
            }
            (State::AwaitAccept { wanted }, Frame::Accept(accept)) => {
                self.on_accept(wanted, accept.lanes)
            }
            (
                State::Streaming { lanes, .. } | State::AwaitCommitted { lanes, .. },
                Frame::LaneReady { lane, own_socket },
            ) if lanes.offered & lane_bit(lane) != 0 => {
                self.events.push_back(DonorEvent::LaneReady { lane, own_socket });
                Ok(())
            }
            (State::Streaming { .. } | State::AwaitCommitted { .. }, Frame::LaneReady { .. }) => {
                let what = "a lane is ready that was not offered";
                Err(ProtocolError::Inconsistent { what })
            }
            (State::Streaming { .. } | State::AwaitCommitted { .. }, Frame::Durable(files)) => {
                self.events.push_back(DonorEvent::Durable(files));
                Ok(())
            }
            (State::Streaming { .. }, Frame::Lacks(files)) if self.has_delta() => {
                self.answered(DonorEvent::Lacks(files))
            }
            (State::Streaming { .. }, Frame::HaveFiles(files)) if self.has_delta() => {
                self.answered(DonorEvent::HaveFiles(files))
            }
            (State::Streaming { .. }, Frame::Seek(files)) if self.has_delta() => {
                self.answered(DonorEvent::Seek(files))
            }
            (State::Streaming { .. }, Frame::Have(have)) if self.has_delta() => {
                self.answered(DonorEvent::Have(have))
            }
            (State::Streaming { .. }, Frame::HaveEnd { file, generation }) if self.has_delta() => {
                self.answered(DonorEvent::HaveEnd((file, generation)))
            }
            (
                State::Streaming { .. } | State::AwaitCommitted { .. },
                Frame::LimitedBy(bottleneck),
            ) => {
                self.events.push_back(DonorEvent::PeerLimitedBy(bottleneck));
                Ok(())
            }
            (State::AwaitCommitted { root_hash, .. }, Frame::Committed { root_hash: theirs }) => {
                self.on_committed(root_hash, theirs)
            }
            (State::AwaitBypassAck, Frame::BypassAck) => {
                self.transmit.push_back(Frame::Bye);
                self.events.push_back(DonorEvent::BypassDone);
                self.state = State::Closed;
                Ok(())
            }
            (_, frame) => {
                Err(ProtocolError::Unexpected { state: state.name(), frame: frame.name() })
            }
        }
    }

    /// The joiner said something of its stale copy.
    fn answered(&mut self, event: DonorEvent) -> Result<(), ProtocolError> {
        self.events.push_back(event);
        Ok(())
    }

    pub(super) fn has_delta(&self) -> bool {
        self.features.contains(Features::DELTA)
    }

    fn on_welcome(&mut self, now: Millis, frame: &Frame) -> Result<(), ProtocolError> {
        let Some((token, exporter)) = self.handshake.take() else {
            return Err(self.misuse("Welcome without a handshake"));
        };
        let welcome = donor_check_welcome(frame, &token, &exporter, &Scope::Control)?;
        self.peer_software.clone_from(&welcome.software);
        self.liveness.proven(now);
        self.features = Features::negotiate(Features::SUPPORTED, welcome.features);
        let (transfer, features) = (welcome.transfer, self.features);
        self.events.push_back(DonorEvent::Welcomed { transfer, features });
        self.state = State::Welcomed;
        Ok(())
    }

    fn on_accept(&mut self, wanted: Wanted, accepted: u16) -> Result<(), ProtocolError> {
        let in_range = match wanted {
            Wanted::Position | Wanted::Estimate => accepted == 0,
            Wanted::Lanes(wanted) => (1..=wanted).contains(&accepted),
        };
        if !in_range {
            return Err(ProtocolError::Inconsistent {
                what: "lanes accepted against lanes wanted",
            });
        }
        self.events.push_back(DonorEvent::Accepted { lanes: accepted });
        self.state = match wanted {
            Wanted::Position => State::AwaitBypassAck,
            Wanted::Lanes(_) | Wanted::Estimate => {
                State::Streaming { lanes: Lanes { accepted, offered: 0 }, ended: None }
            }
        };
        Ok(())
    }

    fn on_committed(&mut self, ours: RootHash, theirs: RootHash) -> Result<(), ProtocolError> {
        if ours != theirs {
            return Err(ProtocolError::RootHashDiffers { ours, theirs });
        }
        self.events.push_back(DonorEvent::Committed { root_hash: theirs });
        self.state = State::Committed;
        Ok(())
    }
}
