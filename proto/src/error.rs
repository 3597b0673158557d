//! What can go wrong between the two ends.

use thiserror::Error;

use crate::auth::WrongProof;
use crate::frame::Refusal;
use crate::path::PathError;
use crate::root::RootHash;
use crate::version::MAJOR;

/// Bytes that are not what the protocol says; always the peer's fault (or another program's).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// The first bytes are not fastsst's.
    #[error("not the fastsst protocol")]
    BadMagic,
    /// A field reaches beyond the end of its body.
    #[error("frame ends too early")]
    Truncated,
    /// Something follows the last field.
    #[error("frame has {bytes} bytes too many")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A frame type this build does not know and may not skip.
    #[error("unknown frame type {ty:#04x}")]
    UnknownType {
        /// The type byte.
        ty: u8,
    },
    /// A length or count above its limit; nothing was allocated for it.
    #[error("{what}: {value} is above the limit of {limit}")]
    TooLong {
        /// The field.
        what: &'static str,
        /// Its limit.
        limit: usize,
        /// What the peer sent.
        value: usize,
    },
    /// A value outside its range.
    #[error("invalid {what}")]
    BadValue {
        /// The field.
        what: &'static str,
    },
    /// A path that could leave its root.
    #[error("unsafe path from the peer: {0}")]
    Path(PathError),
}

/// Why a conversation ended; sorted by whose fault it is. The messages are complete: a cause is part
/// of the text, not a `source`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// Peer misbehaved: undecodable bytes.
    #[error("protocol violated by the peer: {0}")]
    Wire(WireError),
    /// Peer misbehaved: a frame that has no place in this state.
    #[error("protocol violated by the peer: {frame} while {state}")]
    Unexpected {
        /// What this end was doing.
        state: &'static str,
        /// What came.
        frame: &'static str,
    },
    /// Peer misbehaved: a frame contradicts an earlier one.
    #[error("protocol violated by the peer: {what}")]
    Inconsistent {
        /// What does not fit.
        what: &'static str,
    },
    /// Peer misbehaved, or the data is larger than any transfer may be.
    #[error("{what}: {value} is above the limit of {limit}")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// The value that passed it.
        value: u64,
    },
    /// Somebody without the token, or in the middle.
    #[error("the peer does not know the token of this transfer")]
    WrongProof,
    /// A donor of another transfer.
    #[error("the peer belongs to another transfer")]
    WrongTransfer,
    /// Another program.
    #[error("the peer does not speak the fastsst protocol")]
    NotFastsst,
    /// Peer incompatible.
    #[error(
        "the peer speaks protocol {theirs}, this end {ours}; use the same release at both ends"
    )]
    Major {
        /// Our major version.
        ours: u16,
        /// The peer's.
        theirs: u16,
    },
    /// The joiner refused the donor or its declaration.
    #[error("refused by the peer: {0}")]
    Refused(Refusal),
    /// The peer gave up and said why.
    #[error("stopped by the peer: {0}")]
    Aborted(Refusal),
    /// The peer is gone or too slow to answer.
    #[error("nothing heard from the peer for {ms} ms")]
    Silence {
        /// How long.
        ms: u64,
    },
    /// The data at both ends is not the same.
    #[error("root hashes differ: ours {ours}, theirs {theirs}")]
    RootHashDiffers {
        /// What this end computed.
        ours: RootHash,
        /// What the peer computed.
        theirs: RootHash,
    },
    /// A bug at this end: a command that has no place in this state.
    #[error("bug: command {command} while {state}")]
    Misuse {
        /// What this end was doing.
        state: &'static str,
        /// What its owner asked for.
        command: &'static str,
    },
    /// A bug at this end: a command with a value that the wire cannot carry.
    #[error("cannot be sent: {0}")]
    Unsendable(WireError),
}

impl ProtocolError {
    /// Our own version against another one.
    pub(crate) fn major(theirs: u16) -> Self {
        Self::Major { ours: MAJOR, theirs }
    }

    /// What to tell the peer; `None` when it is gone, or said it first.
    ///
    /// The codes are those of the operations manual. The text gives nothing away that the peer
    /// does not know: it is sent to peers that have proven nothing, too.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        let code = match self {
            Self::Refused(_) | Self::Aborted(_) | Self::Silence { .. } => return None,
            Self::Wire(WireError::BadMagic) | Self::NotFastsst => codes::NOT_FASTSST,
            Self::Wire(WireError::Path(_)) => codes::UNSAFE_PATH,
            Self::Wire(
                WireError::Truncated
                | WireError::Trailing { .. }
                | WireError::UnknownType { .. }
                | WireError::TooLong { .. }
                | WireError::BadValue { .. },
            )
            | Self::Unexpected { .. }
            | Self::Inconsistent { .. } => codes::PROTOCOL,
            Self::Limit { .. } => codes::LIMIT,
            Self::WrongProof => codes::WRONG_TOKEN,
            Self::WrongTransfer => codes::BUSY,
            Self::Major { .. } => codes::INCOMPATIBLE,
            Self::RootHashDiffers { .. } => codes::ROOT_HASH_DIFFERS,
            Self::Misuse { .. } | Self::Unsendable(_) => codes::BUG,
        };
        Some(Refusal { code, text: alloc::format!("{self}") })
    }
}

impl From<WireError> for ProtocolError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::BadMagic => Self::NotFastsst,
            WireError::Truncated
            | WireError::Trailing { .. }
            | WireError::UnknownType { .. }
            | WireError::TooLong { .. }
            | WireError::BadValue { .. }
            | WireError::Path(_) => Self::Wire(error),
        }
    }
}

impl From<PathError> for WireError {
    fn from(error: PathError) -> Self {
        Self::Path(error)
    }
}

impl From<WrongProof> for ProtocolError {
    fn from(_: WrongProof) -> Self {
        Self::WrongProof
    }
}

/// The error codes the protocol itself uses in a [`Refusal`]; their owner is the mover's list.
pub mod codes {
    /// A transfer is running already.
    pub const BUSY: u16 = 5;
    /// The token proof is wrong.
    pub const WRONG_TOKEN: u16 = 13;
    /// The peer is another program.
    pub const NOT_FASTSST: u16 = 14;
    /// The versions do not go together.
    pub const INCOMPATIBLE: u16 = 15;
    /// The peer broke the protocol.
    pub const PROTOCOL: u16 = 16;
    /// The data at both ends differs.
    pub const ROOT_HASH_DIFFERS: u16 = 22;
    /// A path that could leave its root.
    pub const UNSAFE_PATH: u16 = 23;
    /// A limit of the protocol.
    pub const LIMIT: u16 = 24;
    /// A bug.
    pub const BUG: u16 = 99;
}
