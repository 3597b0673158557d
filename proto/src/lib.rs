//! The fastsst protocol without I/O.
//!
//! Messages and their bytes, limits, hashes, and both ends of the conversation as state machines.
//! Absent on purpose: sockets, files, threads, a clock, randomness. Time is an argument
//! ([`Millis`]), keys and identifiers are given by the owner. That is what makes every sequence
//! of messages reproducible in a test.
//!
//! Machines ([`DonorSession`], [`JoinerSession`], [`DonorLane`]) have four kinds of method:
//! `handle_*` (it happened), `poll_*` (do this now), getters, and commands from the owner.
//! The order after each `handle_*` or command: drain `poll_transmit`, drain `poll_event`, then
//! arm a timer with `poll_timeout`.
//!
//! The wire format is specified in `docs/PROTOCOL.md`; a test keeps it in step with this crate.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bottleneck;
pub mod limits;
pub mod types;

pub mod path;
pub mod secret;
pub mod ticket;

pub mod auth;
pub mod version;

pub mod hash;
pub mod root;

pub mod chunk;
mod codec;
pub mod error;
pub mod frame;
pub mod manifest;

pub mod delta;
pub mod donor;
pub mod joiner;
pub mod lane;
mod liveness;
mod tally;

mod hex;

pub use auth::{EXPORTER_LABEL, Exporter, ProvenPeer, Role, Scope, WrongProof};
pub use bottleneck::Bottleneck;
pub use chunk::{ChunkHeader, Encoding};
pub use donor::{DonorEvent, DonorSession};
pub use error::{ProtocolError, WireError};
pub use frame::{
    Accept, Asked, DeclKind, Declaration, FileRef, Finish, Frame, FrameHeader, Have, HaveChunk,
    HaveFile, Hello, How, Refusal, Welcome,
};
pub use hash::{ChunkHash, FileHash, FileTree, PageHash, PageKey, TreeError};
pub use joiner::{JoinerEvent, JoinerSession};
pub use lane::{DonorLane, JoinerSide};
pub use manifest::{Entry, EntryKind};
pub use path::{PathError, RelPath};
pub use root::{RootError, RootHash, RootHasher, RootLine};
pub use secret::{Secret, SecretError};
pub use ticket::{Ticket, TicketError};
pub use types::{
    ChunkIndex, ChunkRef, FileId, Generation, LaneId, Millis, PageMask, RootIndex, TransferId,
};
pub use version::Features;
