//! All tests across crates but those of `tests/systems`: each module is a subject, each test's name
//! is a claim.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests: a failed step fails the test, at the line where it failed"
)]

mod cluster;
mod crash_images;
mod mtr;
mod standin;
mod tidy;
mod transfer;
