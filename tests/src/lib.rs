//! Builders for tests: a real Galera cluster on loopback, transfers without servers, peers and
//! networks that misbehave.
//!
//! Everything here is test equipment: a broken promise ends the test at once, with the reason,
//! and what a builder made (processes, directories) is gone afterwards.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test equipment: a failed step fails the test, at the line where it failed"
)]

pub mod cluster;
pub mod lookalike;
pub mod pki;
pub mod recording_disk;
pub mod relay;
pub mod small_disk;
pub mod standin;
pub mod stranger;
pub mod transfer;
pub mod wait;
