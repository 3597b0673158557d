//! Tests of the protocol from outside: bytes, hashes, conversations, and the specification.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests; the lint's exception covers only the test functions themselves"
)]
#![allow(clippy::cast_possible_truncation, reason = "small numbers that the tests make themselves")]

mod arbitrary;
mod delta;
mod document;
mod golden;
mod hashes;
mod lanes;
mod pair;
mod refusals;
mod roots;
mod simulation;
mod tally;
mod wire;

/// Marks a call that is made only to see that it does not panic.
pub(crate) fn survives<T>(_result: T) {}
