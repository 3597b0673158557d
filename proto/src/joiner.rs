//! The joiner's end of the control conversation.
//!
//! ```text
//!  new ──> AwaitHello ──Hello (Welcome)──> AwaitDeclare ──Declare──> Deciding
//!                                                                     │    │
//!                          ┌────────────── accept (full) ─────────────┘    │ accept (bypass)
//!                          v                                               │ (BypassAck)
//!   Entries, Gone,     Receiving                                           │
//!   ManifestEnd,           │ Finish                                        v
//!   LaneOffer              v                                           AwaitBye
//!                      Finishing ──committed──> Committed ──Bye──> Closed <─┘ Bye
//!
//!  An estimate is Receiving without lanes, and ends with Bye instead of Finish.
//!
//!  any state ──Abort, error, silence, refuse, abort──> Failed
//! ```

mod command;
mod step;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use crate::auth::{Exporter, ProvenPeer};
use crate::bottleneck::Bottleneck;
use crate::error::{ProtocolError, WireError};
use crate::frame::{Asked, Declaration, FileRef, Finish, Frame, Refusal};
use crate::lane::JoinerSide;
use crate::liveness::Liveness;
use crate::manifest::Entry;
use crate::root::RootHash;
use crate::secret::Secret;
use crate::tally::Tally;
use crate::types::{ChunkRef, FileId, LaneId, Millis};
use crate::version::Features;

/// What the owner of a [`JoinerSession`] learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinerEvent {
    /// The donor is proven; `Welcome` is queued.
    Authenticated(ProvenPeer),
    /// What the donor wants to send: [`JoinerSession::accept`] or [`JoinerSession::refuse`] is due.
    Declared(Declaration),
    /// A lane will come from this UDP port: [`JoinerSession::lane_ready`] is due.
    LaneOffered {
        /// Which lane.
        lane: LaneId,
        /// The donor's UDP port; 0 when it does not matter.
        source_port: u16,
    },
    /// New entries, or changed ones with a higher generation. Paths may repeat: the owner checks.
    Entries(Vec<Entry>),
    /// Entries that no longer exist.
    Gone(Vec<FileId>),
    /// A walk of the donor is over; its sums are right.
    ManifestEnd {
        /// Entries that are not gone.
        entries: u64,
        /// Sum of their sizes. Unit: bytes.
        bytes: u64,
    },
    /// What limits the transfer, as the donor sees it.
    PeerLimitedBy(Bottleneck),
    /// What is the stale copy of these files good for? [`JoinerSession::lacks`],
    /// [`JoinerSession::have`] and so on are due for each, at any time.
    Compare(Vec<Asked>),
    /// These chunks of stale files are right as they are.
    Same(Vec<ChunkRef>),
    /// These stale files are.
    SameFiles(Vec<FileRef>),
    /// Everything is said: [`JoinerSession::committed`] is due when all of it is in place.
    Finish(Finish),
    /// The donor has ended the conversation well.
    Bye,
    /// How far the donor is.
    PeerProgress {
        /// Bytes done.
        bytes: u64,
        /// Files done.
        files: u64,
        /// Its own numbering of phases.
        phase: u8,
    },
}

/// What the donor wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Transfer,
    Bypass,
    Estimate,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// From: new. To: `AwaitDeclare`, `Failed`.
    AwaitHello,
    /// `Welcome` is queued. From: `AwaitHello`. To: `Deciding`.
    AwaitDeclare,
    /// The owner checks the declaration. From: `AwaitDeclare`. To: `Receiving`, `AwaitBye`,
    /// `Failed` by command.
    Deciding { lanes: u16, wish: Wish, roots: usize },
    /// Without lanes only an estimate is made, and `Bye` ends it. From: `Deciding`. To: `Finishing`,
    /// `Closed`.
    Receiving { lanes: u16 },
    /// Chunks may still arrive. From: `Receiving`. To: `Committed` by command.
    Finishing { lanes: u16, root_hash: RootHash },
    /// Past the point of no return: nothing that happens here undoes the commit.
    /// From: `Finishing`. To: `Closed`.
    Committed,
    /// A bypass is acknowledged. From: `Deciding`. To: `Closed`.
    AwaitBye,
    /// From: `Committed`, `AwaitBye`. Final.
    Closed,
    /// The peer was told if it can be. From: any. Final.
    Failed,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::AwaitHello => "waiting for Hello",
            Self::AwaitDeclare => "waiting for Declare",
            Self::Deciding { .. } => "checking the declaration",
            Self::Receiving { .. } => "receiving",
            Self::Finishing { .. } => "finishing",
            Self::Committed => "committed",
            Self::AwaitBye => "waiting for Bye",
            Self::Closed => "closed",
            Self::Failed => "failed",
        }
    }
}

/// The joiner's end of one transfer. See the module for the states.
#[derive(Debug)]
pub struct JoinerSession {
    state: State,
    /// What the donor's proof is checked with; wiped once it is.
    handshake: Option<(Secret, Exporter)>,
    side: JoinerSide,
    features: Features,
    peer_software: String,
    tally: Tally,
    liveness: Liveness,
    transmit: VecDeque<Frame>,
    events: VecDeque<JoinerEvent>,
}

impl JoinerSession {
    /// Begins: a `Hello` is awaited.
    #[must_use]
    pub fn new(now: Millis, token: &Secret, exporter: Exporter, side: JoinerSide) -> Self {
        Self {
            state: State::AwaitHello,
            handshake: Some((token.clone(), exporter)),
            side,
            features: Features::default(),
            peer_software: String::new(),
            tally: Tally::new(0),
            liveness: Liveness::new(now),
            transmit: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes a frame from the donor. After the end of the session frames are ignored.
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
    /// Errors: [`ProtocolError::Silence`]; the session is over. After `committed` that changes
    /// nothing about the data: the donor may simply have left.
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
    pub fn poll_event(&mut self) -> Option<JoinerEvent> {
        self.events.pop_front()
    }

    /// Whether the session has ended, well or not.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Closed | State::Failed)
    }

    /// Name and version of the donor; empty before `Authenticated`.
    #[must_use]
    pub fn peer_software(&self) -> &str {
        &self.peer_software
    }

    /// What is in force; nothing before `Authenticated`.
    #[must_use]
    pub fn features(&self) -> Features {
        self.features
    }

    /// Ends the session and queues what the peer should know about it.
    fn fail(&mut self, error: ProtocolError) -> ProtocolError {
        let farewell = error.refusal().map(|refusal| self.farewell(refusal));
        self.state = State::Failed;
        self.handshake = None;
        self.transmit.clear();
        self.transmit.extend(farewell);
        error
    }

    /// Before consent the answer is `Refuse`, afterwards `Abort`.
    fn farewell(&self, refusal: Refusal) -> Frame {
        match self.state {
            State::AwaitHello | State::AwaitDeclare | State::Deciding { .. } => {
                Frame::Refuse(refusal)
            }
            State::Receiving { .. }
            | State::Finishing { .. }
            | State::Committed
            | State::AwaitBye
            | State::Closed
            | State::Failed => Frame::Abort(refusal),
        }
    }

    fn misuse(&self, command: &'static str) -> ProtocolError {
        ProtocolError::Misuse { state: self.state.name(), command }
    }
}
