//! Tests that need more than this machine's packages: another release of Debian, or our own package
//! installed. They run by `make test-11.8` and `make test-deb`.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests: a failed step fails the test, at the line where it failed"
)]

mod mariadb_11_8;
mod package;
