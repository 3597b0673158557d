//! Lanes: their handshake, and the donor's account of what is under way on one.
//!
//! ```text
//!  donor_hello ──Hello──> joiner_check_hello
//!  donor_check_welcome <──Welcome── joiner_welcome
//!
//!  sent ──> unacknowledged ──handle_ack──> forgotten
//!                │ the lane dies
//!                └──into_unacked──> the owner's queue, for another lane
//! ```

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::auth::{Exporter, ProvenPeer, Role, Scope, proof, verify};
use crate::error::ProtocolError;
use crate::frame::{Frame, Hello, Welcome};
use crate::limits::UNACKED_CHUNKS_PER_LANE_MAX;
use crate::secret::Secret;
use crate::types::{ChunkRef, LaneId, TransferId};
use crate::version::{Features, MAJOR};

/// The donor's first frame on a lane.
#[must_use]
pub fn donor_hello(
    token: &Secret,
    exporter: &Exporter,
    transfer: TransferId,
    lane: LaneId,
    software: &str,
) -> Frame {
    donor_hello_scope(token, exporter, &Scope::Lane { transfer, lane }, software)
}

pub(crate) fn donor_hello_scope(
    token: &Secret,
    exporter: &Exporter,
    scope: &Scope,
    software: &str,
) -> Frame {
    Frame::Hello(Hello {
        major: MAJOR,
        features: Features::SUPPORTED,
        scope: *scope,
        proof: proof(token, exporter, Role::Donor, scope),
        software: String::from(software),
    })
}

/// A `Hello` that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// What the connection is for.
    pub scope: Scope,
    /// The proof.
    pub peer: ProvenPeer,
    /// What the donor offers.
    pub features: Features,
    /// The donor's name and version.
    pub software: String,
}

/// Checks the first frame of a connection at the joiner.
///
/// `transfer` is the one that is running; without it only the control scope passes. A second
/// control connection passes here: whether to refuse it is the owner's decision.
///
/// Errors: not a `Hello`, another major version, a wrong proof, a lane of another transfer. Tell
/// the peer with a `Refuse` made from [`ProtocolError::refusal`].
pub fn joiner_check_hello(
    frame: &Frame,
    token: &Secret,
    exporter: &Exporter,
    transfer: Option<&TransferId>,
) -> Result<Accepted, ProtocolError> {
    let Frame::Hello(hello) = frame else {
        return Err(ProtocolError::Unexpected { state: "waiting for Hello", frame: frame.name() });
    };
    if hello.major != MAJOR {
        return Err(ProtocolError::major(hello.major));
    }
    let peer = verify(token, exporter, Role::Donor, &hello.scope, &hello.proof)?;
    match (&hello.scope, transfer) {
        (Scope::Control, _) => {}
        (Scope::Lane { transfer: theirs, .. }, Some(ours)) if theirs == ours => {}
        (Scope::Lane { .. }, _) => return Err(ProtocolError::WrongTransfer),
    }
    Ok(Accepted {
        scope: hello.scope,
        peer,
        features: hello.features,
        software: hello.software.clone(),
    })
}

/// What a joiner says of itself.
#[derive(Debug, Clone)]
pub struct JoinerSide {
    /// Name of the transfer, random.
    pub transfer: TransferId,
    /// What it offers: what it can do, without what it has no use for.
    pub features: Features,
    /// Its name and version.
    pub software: String,
}

/// The joiner's answer to a `Hello` that passed.
#[must_use]
pub fn joiner_welcome(
    token: &Secret,
    exporter: &Exporter,
    scope: &Scope,
    joiner: &JoinerSide,
) -> Frame {
    Frame::Welcome(Welcome {
        major: MAJOR,
        features: joiner.features,
        proof: proof(token, exporter, Role::Joiner, scope),
        transfer: joiner.transfer,
        software: joiner.software.clone(),
    })
}

/// Checks the joiner's answer at the donor, for the scope its `Hello` named.
///
/// Errors: refused or aborted by the joiner, not a `Welcome`, another major version, a wrong
/// proof, another transfer than the lane's.
pub fn donor_check_welcome(
    frame: &Frame,
    token: &Secret,
    exporter: &Exporter,
    scope: &Scope,
) -> Result<Welcome, ProtocolError> {
    let unexpected =
        ProtocolError::Unexpected { state: "waiting for Welcome", frame: frame.name() };
    let welcome = match frame {
        Frame::Welcome(welcome) => welcome,
        Frame::Refuse(refusal) => return Err(ProtocolError::Refused(refusal.clone())),
        Frame::Abort(refusal) => return Err(ProtocolError::Aborted(refusal.clone())),
        Frame::Hello(_)
        | Frame::Declare(_)
        | Frame::Accept(_)
        | Frame::LaneOffer { .. }
        | Frame::LaneReady { .. }
        | Frame::Entries(_)
        | Frame::Gone(_)
        | Frame::ManifestEnd { .. }
        | Frame::Durable(_)
        | Frame::Finish(_)
        | Frame::Committed { .. }
        | Frame::BypassAck
        | Frame::Bye
        | Frame::Heartbeat { .. }
        | Frame::Ack(_)
        | Frame::Have(_)
        | Frame::HaveEnd { .. }
        | Frame::LimitedBy(_)
        | Frame::Compare(_)
        | Frame::Lacks(_)
        | Frame::HaveFiles(_)
        | Frame::Seek(_)
        | Frame::Same(_)
        | Frame::SameFiles(_)
        | Frame::Again(_) => return Err(unexpected),
    };
    if welcome.major != MAJOR {
        return Err(ProtocolError::major(welcome.major));
    }
    verify(token, exporter, Role::Joiner, scope, &welcome.proof)?;
    match scope {
        Scope::Lane { transfer, .. } if *transfer != welcome.transfer => {
            Err(ProtocolError::WrongTransfer)
        }
        Scope::Control | Scope::Lane { .. } => Ok(welcome.clone()),
    }
}

/// What a donor has sent on one lane and not yet seen acknowledged.
///
/// Only names are kept: the content is read again should the lane die.
#[derive(Debug, Clone, Default)]
pub struct DonorLane {
    /// How often each chunk is under way; a chunk may be sent twice on one lane.
    unacked: BTreeMap<ChunkRef, usize>,
    outstanding: usize,
}

impl DonorLane {
    /// Nothing under way.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The chunk goes out. The owner asked [`DonorLane::is_full`] before.
    pub fn sent(&mut self, chunk: ChunkRef) {
        *self.unacked.entry(chunk).or_default() += 1;
        self.outstanding += 1;
    }

    /// Forgets acknowledged chunks.
    ///
    /// Errors: one was not under way; the lane is then useless.
    pub fn handle_ack(&mut self, chunks: &[ChunkRef]) -> Result<(), ProtocolError> {
        for chunk in chunks {
            let Some(times) = self.unacked.get_mut(chunk) else {
                return Err(ProtocolError::Inconsistent { what: "Ack of a chunk not under way" });
            };
            *times -= 1;
            if *times == 0 {
                self.unacked.remove(chunk);
            }
            self.outstanding -= 1;
        }
        Ok(())
    }

    /// How many chunks are under way.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Whether the lane must wait for acknowledgements before it sends more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.outstanding >= UNACKED_CHUNKS_PER_LANE_MAX
    }

    /// The chunks to send again, each once, ascending.
    #[must_use]
    pub fn into_unacked(self) -> Vec<ChunkRef> {
        self.unacked.into_keys().collect()
    }
}
