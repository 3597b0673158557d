//! The fastsst engine: files, disks, networks, threads.
//!
//! [`send()`] is the donor's data path, [`Receiver`] the joiner's. Both are blocking calls that use
//! threads of their own; a caller needs no event loop. The engine knows nothing of Galera: what is
//! sent, how a server is frozen and which donor is wanted are traits of the caller's
//! ([`walk::Filter`], [`Freeze`], [`JoinerPolicy`], [`staging::Keep`]).

pub mod cancel;
pub mod error;
pub mod freeze;
pub mod manifest;
pub mod options;
pub mod progress;
pub mod summary;

pub mod receive;
pub mod send;
pub mod verify;

pub mod tree;
pub mod walk;

pub mod commit;
pub mod staging;

pub mod disk;
pub mod in_use;
pub mod net;
pub mod pool;
pub mod tls;

mod bottleneck;
mod carried;
mod compress;
mod cpu;
mod level;
mod memory;
mod polite;
mod random;
mod runtime;
#[cfg(test)]
mod simulation;
mod talk;
mod throttle;
mod tree_hash;
mod watchdog;

pub use cancel::Cancel;
pub use error::{Code, Error, Result};
pub use freeze::{Freeze, Frozen, NoFreeze};
pub use manifest::Manifest;
pub use memory::keep_freed_memory;
pub use options::{Compress, Options, Transport};
pub use progress::{Phase, Progress};
pub use receive::{AnyDonor, JoinerPolicy, ReceiveConfig, Received, Receiver, Target, TargetPlace};
pub use send::{BypassConfig, Estimate, SendConfig, Sent, estimate, send, send_bypass};
pub use staging::{Owner, Place};
pub use summary::Summary;
pub use tls::Tls;
