//! Frames: everything the two ends say to each other, and its bytes.
//!
//! `u32 length of what follows | u8 type | body`. A type with bit 0x80 set is optional: an end
//! that does not know it skips the frame. Any other unknown type is an error. Integers are
//! little-endian and of fixed width; there is no padding and nothing may follow the last field.
//!
//! A chunk is a frame on the wire ([`ty::CHUNK`]) but not a [`Frame`]: its payload goes straight
//! from the network to a buffer, see [`crate::chunk`].

mod body;
mod compare;
mod declaration;
mod handshake;
mod have;
mod lists;
pub mod ty;

use alloc::vec::Vec;

use crate::bottleneck::Bottleneck;
use crate::chunk::HEADER_BYTES;
use crate::codec::{Reader, check_len, put_u32};
use crate::error::WireError;
use crate::limits::{
    CHUNK_PAYLOAD_BYTES_MAX, FRAME_BODY_BYTES_MAX, HELLO_BODY_BYTES_MAX, REFUSAL_TEXT_BYTES_MAX,
};
use crate::manifest::Entry;
use crate::root::RootHash;
use crate::types::{ChunkRef, FileId, Generation, LaneId};

pub use compare::{Asked, FileRef, HaveFile, How};
pub use declaration::{Accept, DeclKind, Declaration, Finish};
pub use handshake::{Hello, Refusal, Welcome};
pub use have::{Have, HaveChunk};

/// Length of a frame header: the length field and the type. Unit: bytes.
pub const FRAME_HEADER_BYTES: usize = 5;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Donor, first frame of every connection: who I am, what this connection is for.
    Hello(Hello),
    /// Joiner's answer to a `Hello` whose proof is right.
    Welcome(Welcome),
    /// Joiner: no; and the connection closes.
    Refuse(Refusal),
    /// Either end gives up; and the connection closes.
    Abort(Refusal),
    /// Donor: what I am about to send.
    Declare(Declaration),
    /// Joiner: go on.
    Accept(Accept),
    /// Donor: a lane will come from this UDP port.
    LaneOffer {
        /// Which lane.
        lane: LaneId,
        /// The donor's UDP port; 0 when it does not matter.
        source_port: u16,
    },
    /// Joiner: connect the lane now.
    LaneReady {
        /// Which lane.
        lane: LaneId,
        /// Whether a socket of its own waits for it.
        own_socket: bool,
    },
    /// Donor: new entries, or changed ones with a higher generation.
    Entries(Vec<Entry>),
    /// Donor: entries that no longer exist.
    Gone(Vec<FileId>),
    /// Donor: a walk is over, and this is what there is now.
    ManifestEnd {
        /// Entries that are not gone.
        entries: u64,
        /// Sum of their sizes. Unit: bytes.
        bytes: u64,
    },
    /// Joiner: files that are complete, verified, and survive power loss.
    Durable(Vec<(FileId, Generation)>),
    /// Donor: everything is said; this must be the result.
    Finish(Finish),
    /// Joiner: the new data directory is in its place, and this is its hash.
    Committed {
        /// Hash of what the joiner wrote.
        root_hash: RootHash,
    },
    /// Joiner: the position of a bypass has arrived.
    BypassAck,
    /// Donor: the end.
    Bye,
    /// Either end is alive and this far.
    Heartbeat {
        /// Bytes done.
        bytes: u64,
        /// Files done.
        files: u64,
        /// What the end is doing; its own numbering, for display.
        phase: u8,
    },
    /// Joiner, on a lane: verified and written to the target file (not yet durable).
    Ack(Vec<ChunkRef>),
    /// Joiner: what a stale file holds.
    Have(Have),
    /// Joiner: no more is known of a stale file; what was not described is to be sent whole.
    HaveEnd {
        /// The file.
        file: FileId,
        /// Its generation.
        generation: Generation,
    },
    /// Either end: what limited the transfer as far as it can see.
    LimitedBy(Bottleneck),
    /// Donor: what is the stale copy of these files good for?
    Compare(Vec<Asked>),
    /// Joiner: nothing; these files are to be sent whole.
    Lacks(Vec<FileRef>),
    /// Joiner: what stale files hold, by the hash of the whole.
    HaveFiles(Vec<HaveFile>),
    /// Joiner: these files may be here by another name; ask again with their first page.
    Seek(Vec<FileRef>),
    /// Donor: these chunks have the hashes the joiner named.
    Same(Vec<ChunkRef>),
    /// Donor: these files have the hashes the joiner named.
    SameFiles(Vec<FileRef>),
    /// Joiner, on a lane: these chunks cannot be made from their pages; send them whole.
    Again(Vec<ChunkRef>),
}

impl Frame {
    /// The type byte.
    #[must_use]
    pub fn ty(&self) -> u8 {
        match self {
            Self::Hello(_) => ty::HELLO,
            Self::Welcome(_) => ty::WELCOME,
            Self::Refuse(_) => ty::REFUSE,
            Self::Abort(_) => ty::ABORT,
            Self::Declare(_) => ty::DECLARE,
            Self::Accept(_) => ty::ACCEPT,
            Self::LaneOffer { .. } => ty::LANE_OFFER,
            Self::LaneReady { .. } => ty::LANE_READY,
            Self::Entries(_) => ty::ENTRIES,
            Self::Gone(_) => ty::GONE,
            Self::ManifestEnd { .. } => ty::MANIFEST_END,
            Self::Durable(_) => ty::DURABLE,
            Self::Finish(_) => ty::FINISH,
            Self::Committed { .. } => ty::COMMITTED,
            Self::BypassAck => ty::BYPASS_ACK,
            Self::Bye => ty::BYE,
            Self::Heartbeat { .. } => ty::HEARTBEAT,
            Self::Ack(_) => ty::ACK,
            Self::Have(_) => ty::HAVE,
            Self::HaveEnd { .. } => ty::HAVE_END,
            Self::LimitedBy(_) => ty::LIMITED_BY,
            Self::Compare(_) => ty::COMPARE,
            Self::Lacks(_) => ty::LACKS,
            Self::HaveFiles(_) => ty::HAVE_FILES,
            Self::Seek(_) => ty::SEEK,
            Self::Same(_) => ty::SAME,
            Self::SameFiles(_) => ty::SAME_FILES,
            Self::Again(_) => ty::AGAIN,
        }
    }

    /// The name in the specification, for messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        ty::ALL.iter().find(|(ty, _)| *ty == self.ty()).map_or("?", |(_, name)| name)
    }
}

/// A frame header that passed the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// The type byte.
    pub ty: u8,
    /// Length of the body that follows, the type not included. Unit: bytes.
    pub len: u32,
}

impl FrameHeader {
    /// Whether a chunk follows.
    #[must_use]
    pub fn is_chunk(self) -> bool {
        self.ty == ty::CHUNK
    }

    /// [`FrameHeader::len`] as a buffer length.
    #[must_use]
    pub fn body_len(self) -> usize {
        usize::try_from(self.len).unwrap_or(usize::MAX)
    }
}

/// Appends a frame, its header included.
///
/// Panics: a list or field above its limit. The sessions split and check what goes through them;
/// an `Ack` made by hand holds at most `ACKS_PER_FRAME_MAX` chunks. Texts for people are cut.
pub fn encode(frame: &Frame, out: &mut Vec<u8>) {
    let start = out.len();
    put_u32(out, 0);
    out.push(frame.ty());
    body::encode(frame, out);
    let body_len = out.len() - start - FRAME_HEADER_BYTES;
    assert!(body_len <= body_max(frame.ty()), "{} of {body_len} bytes", frame.name());
    let len = u32::try_from(body_len + 1).unwrap_or(0);
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&len.to_le_bytes());
    }
}

/// Reads a frame header and checks the length against the limit of its type.
///
/// Errors: too long, too short, or an unknown type that may not be skipped.
pub fn decode_header(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<FrameHeader, WireError> {
    let [a, b, c, d, ty] = *bytes;
    if ty & ty::OPTIONAL == 0 && !ty::ALL.iter().any(|(known, _)| *known == ty) {
        return Err(WireError::UnknownType { ty });
    }
    let len = u32::from_le_bytes([a, b, c, d]).checked_sub(1).ok_or(WireError::Truncated)?;
    let header = FrameHeader { ty, len };
    check_len("frame length", header.body_len(), body_max(ty))?;
    if header.is_chunk() && header.body_len() < HEADER_BYTES {
        return Err(WireError::Truncated);
    }
    Ok(header)
}

/// [`decode_header`] for a peer that has proven nothing yet: only the frames of the handshake,
/// all of them short, so that a stranger cannot make this end allocate.
///
/// Errors: as there; any other type is [`WireError::BadMagic`].
pub fn decode_handshake_header(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<FrameHeader, WireError> {
    match bytes[4] {
        ty::HELLO | ty::WELCOME | ty::REFUSE => decode_header(bytes),
        _ => Err(WireError::BadMagic),
    }
}

/// Reads the body of a frame; `None` when the type is unknown and optional.
///
/// Errors: anything that is not exactly one body of that type. A chunk is one: its header is read
/// with [`crate::chunk::ChunkHeader::decode`].
pub fn decode_body(ty: u8, body: &[u8]) -> Result<Option<Frame>, WireError> {
    check_len("frame length", body.len(), body_max(ty))?;
    if ty::ALL.iter().all(|(known, _)| *known != ty) && ty & ty::OPTIONAL != 0 {
        return Ok(None);
    }
    let mut reader = Reader::new(body);
    let frame = match ty {
        // A peer of another major version is recognised by its first bytes alone.
        ty::HELLO => return Hello::decode(body).map(|hello| Some(Frame::Hello(hello))),
        ty::WELCOME => return Welcome::decode(body).map(|welcome| Some(Frame::Welcome(welcome))),
        ty::BYPASS_ACK => Frame::BypassAck,
        ty::BYE => Frame::Bye,
        _ => body::decode(ty, &mut reader)?,
    };
    reader.finish()?;
    Ok(Some(frame))
}

/// Largest body of a type. Unit: bytes.
fn body_max(ty: u8) -> usize {
    const REFUSAL: usize = 4 + REFUSAL_TEXT_BYTES_MAX;
    match ty {
        ty::HELLO | ty::WELCOME => HELLO_BODY_BYTES_MAX,
        ty::REFUSE | ty::ABORT => REFUSAL,
        ty::CHUNK => HEADER_BYTES + CHUNK_PAYLOAD_BYTES_MAX,
        _ => FRAME_BODY_BYTES_MAX,
    }
}
