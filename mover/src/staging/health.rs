//! The first failed write ends a staging.

use std::sync::OnceLock;

use crate::error::{Code, Error, Result};

/// Whether writing has failed.
///
/// After a failed write or sync nobody knows what is on disk, and the kernel has forgotten it:
/// a second sync would succeed and prove nothing. So the first failure is the answer for ever.
#[derive(Debug, Default)]
pub(super) struct Health {
    first: OnceLock<(Code, String)>,
}

impl Health {
    /// Runs an operation unless one has failed before, and remembers its failure.
    pub(super) fn run<T>(&self, operation: impl FnOnce() -> Result<T>) -> Result<T> {
        self.check()?;
        operation().map_err(|error| self.remember(error))
    }

    /// Remembers a failure, unless it is the peer's or ours rather than the disk's.
    pub(super) fn remember(&self, error: Error) -> Error {
        if matches!(
            error.code(),
            Code::DiskFull | Code::TargetWrite | Code::SourceRead | Code::Access
        ) {
            self.first.get_or_init(|| (error.code(), error.words()));
        }
        error
    }

    fn check(&self) -> Result<()> {
        match self.first.get() {
            None => Ok(()),
            Some((code, words)) => Err(Error::new(*code, words.clone())),
        }
    }
}
