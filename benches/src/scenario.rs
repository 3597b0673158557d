//! What is copied.

pub(crate) mod datadir;
pub(crate) mod digits;

use std::path::Path;

use anyhow::Result;

use crate::cancel::Cancel;

/// A data set that is the same bytes every time, on every machine.
pub(crate) trait Scenario {
    /// Name in the table and in the report.
    fn name(&self) -> &'static str;

    /// What it consists of, so that somebody else can judge and repeat it.
    fn describe(&self) -> String;

    /// Size of all files together, about.
    fn bytes(&self) -> u64;

    /// Writes it into an empty directory.
    ///
    /// # Errors
    /// A file cannot be written, or a signal has come.
    fn generate(&self, into: &Path, cancel: &Cancel) -> Result<()>;
}
