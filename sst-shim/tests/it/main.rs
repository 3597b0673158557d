//! The program as a server starts it: a pipe for standard output, files as answers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]
#![forbid(unsafe_code)]

mod program;

mod arguments;
mod ending;
mod option_files;
mod refusals;
mod transfer;
mod versions;
