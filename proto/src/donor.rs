//! The donor's end of the control conversation.
//!
//! ```text
//!  new (Hello) ──> AwaitWelcome ──Welcome──> Welcomed ──declare──> AwaitAccept
//!                                                                    │     │
//!                          ┌──────────────── Accept (full) ──────────┘     │ Accept (bypass)
//!                          v                                               v
//!   entries, gone,     Streaming                                    AwaitBypassAck
//!   manifest_end,          │ finish                                        │ BypassAck
//!   offer_lane             v                                               │ (Bye)
//!                    AwaitCommitted ──Committed──> Committed ──bye──> Closed
//!
//!  An estimate is Streaming without lanes, and ends with bye instead of finish.
//!
//!  any state ──Refuse, Abort, error, silence, abort──> Failed
//! ```

mod command;
mod step;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use crate::auth::{Exporter, Scope};
use crate::bottleneck::Bottleneck;
use crate::error::{ProtocolError, WireError};
use crate::frame::{FileRef, Frame, Have, HaveFile};
use crate::lane::donor_hello_scope;
use crate::liveness::Liveness;
use crate::root::RootHash;
use crate::secret::Secret;
use crate::types::{FileId, Generation, LaneId, Millis, TransferId};
use crate::version::Features;

/// What the owner of a [`DonorSession`] learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DonorEvent {
    /// The joiner is proven; [`DonorSession::declare`] is due.
    Welcomed {
        /// Name of the transfer, for the lanes.
        transfer: TransferId,
        /// What is in force.
        features: Features,
    },
    /// The joiner agrees; lanes and entries are due (nothing is, for a bypass).
    Accepted {
        /// How many lanes to open.
        lanes: u16,
    },
    /// The joiner waits for this lane.
    LaneReady {
        /// Which lane.
        lane: LaneId,
        /// Whether a socket of its own waits for it.
        own_socket: bool,
    },
    /// These files survive power loss at the joiner.
    Durable(Vec<(FileId, Generation)>),
    /// The new data directory is in its place; its hash equals ours. [`DonorSession::bye`] is due.
    Committed {
        /// The hash.
        root_hash: RootHash,
    },
    /// Nothing is known of these files.
    Lacks(Vec<FileRef>),
    /// Stale files have these hashes.
    HaveFiles(Vec<HaveFile>),
    /// These files may be there by another name.
    Seek(Vec<FileRef>),
    /// What chunks of a stale file hold.
    Have(Have),
    /// No more is known of a stale file.
    HaveEnd(FileRef),
    /// What limits the transfer, as the joiner sees it.
    PeerLimitedBy(Bottleneck),
    /// The joiner has the position; the session has said `Bye`.
    BypassDone,
    /// How far the joiner is.
    PeerProgress {
        /// Bytes done.
        bytes: u64,
        /// Files done.
        files: u64,
        /// Its own numbering of phases.
        phase: u8,
    },
}

/// Lanes that were agreed on, and which of them were offered at least once.
#[derive(Debug, Clone, Copy)]
struct Lanes {
    accepted: u16,
    offered: u64,
}

/// What was declared, as far as the answer depends on it.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    /// A full transfer over up to this many lanes.
    Lanes(u16),
    /// A bypass.
    Position,
    /// Only a comparison.
    Estimate,
}

/// Sums of the last `ManifestEnd`.
type Sums = (u64, u64);

#[derive(Debug, Clone, Copy)]
enum State {
    /// `Hello` is queued. From: new. To: `Welcomed`, `Failed`.
    AwaitWelcome,
    /// From: `AwaitWelcome`. To: `AwaitAccept` by command.
    Welcomed,
    /// From: `Welcomed`. To: `Streaming`, `AwaitBypassAck`, `Failed`.
    AwaitAccept { wanted: Wanted },
    /// `ended` holds the sums while the manifest is complete. From: `AwaitAccept`.
    /// To: `AwaitCommitted` by command.
    Streaming { lanes: Lanes, ended: Option<Sums> },
    /// From: `Streaming`. To: `Committed`, `Failed`.
    AwaitCommitted { lanes: Lanes, root_hash: RootHash },
    /// From: `AwaitCommitted`. To: `Closed` by command.
    Committed,
    /// From: `AwaitAccept`. To: `Closed`.
    AwaitBypassAck,
    /// `Bye` is queued. From: `Committed`, `AwaitBypassAck`. Final.
    Closed,
    /// The peer was told if it can be. From: any. Final.
    Failed,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::AwaitWelcome => "waiting for Welcome",
            Self::Welcomed => "preparing the declaration",
            Self::AwaitAccept { .. } => "waiting for Accept",
            Self::Streaming { .. } => "sending",
            Self::AwaitCommitted { .. } => "waiting for Committed",
            Self::Committed => "committed",
            Self::AwaitBypassAck => "waiting for BypassAck",
            Self::Closed => "closed",
            Self::Failed => "failed",
        }
    }
}

/// The donor's end of one transfer. See the module for the states.
#[derive(Debug)]
pub struct DonorSession {
    state: State,
    /// What the joiner's proof is checked with; wiped once it is.
    handshake: Option<(Secret, Exporter)>,
    liveness: Liveness,
    transmit: VecDeque<Frame>,
    events: VecDeque<DonorEvent>,
    /// What is in force; nothing before `Welcomed`.
    features: Features,
    peer_software: String,
}

impl DonorSession {
    /// Begins: `Hello` is queued.
    #[must_use]
    pub fn new(now: Millis, token: &Secret, exporter: Exporter, software: String) -> Self {
        let hello = donor_hello_scope(token, &exporter, &Scope::Control, &software);
        Self {
            state: State::AwaitWelcome,
            handshake: Some((token.clone(), exporter)),
            liveness: Liveness::new(now),
            transmit: VecDeque::from([hello]),
            events: VecDeque::new(),
            features: Features::default(),
            peer_software: String::new(),
        }
    }

    /// Takes a frame from the joiner. After the end of the session frames are ignored.
    ///
    /// Errors: the session is over; `poll_transmit` may still hold what to tell the peer.
    pub fn handle_frame(&mut self, now: Millis, frame: Frame) -> Result<(), ProtocolError> {
        if self.is_over() {
            return Ok(());
        }
        self.liveness.heard(now);
        self.step(now, frame).map_err(|error| self.fail(error))
    }

    /// An optional frame of an unknown type was skipped: it still shows that the peer is alive.
    pub fn handle_skipped(&mut self, now: Millis) {
        self.liveness.heard(now);
    }

    /// Bytes came that are no frame. The session is over; returns why.
    pub fn handle_wire_error(&mut self, error: WireError) -> ProtocolError {
        self.fail(error.into())
    }

    /// The time of `poll_timeout` has come (early and late calls do no harm).
    ///
    /// Errors: [`ProtocolError::Silence`]; the session is over.
    pub fn handle_timeout(&mut self, now: Millis) -> Result<(), ProtocolError> {
        if self.is_over() {
            return Ok(());
        }
        let result = self.liveness.handle_timeout(now, &mut self.transmit);
        result.map_err(|error| self.fail(error))
    }

    /// When to call `handle_timeout`; `None` once the session is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Millis> {
        (!self.is_over()).then(|| self.liveness.poll_timeout())
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self) -> Option<Frame> {
        self.transmit.pop_front()
    }

    /// The next thing the owner should know.
    pub fn poll_event(&mut self) -> Option<DonorEvent> {
        self.events.pop_front()
    }

    /// Whether the session has ended, well or not.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Closed | State::Failed)
    }

    /// Name and version of the joiner; empty before `Welcomed`.
    #[must_use]
    pub fn peer_software(&self) -> &str {
        &self.peer_software
    }

    /// Ends the session and queues what the peer should know about it.
    fn fail(&mut self, error: ProtocolError) -> ProtocolError {
        self.state = State::Failed;
        self.handshake = None;
        self.transmit.clear();
        self.transmit.extend(error.refusal().map(Frame::Abort));
        error
    }

    fn misuse(&self, command: &'static str) -> ProtocolError {
        ProtocolError::Misuse { state: self.state.name(), command }
    }
}

fn lane_bit(lane: LaneId) -> u64 {
    1u64.checked_shl(u32::from(lane.0)).unwrap_or(0)
}
