//! One large file that does not compress.

use std::path::Path;

use anyhow::Result;

use super::{DataSet, any_bytes, write};
use crate::cancel::Cancel;

const SEED: u64 = 0x4f4e_4500;

/// The data set.
#[derive(Debug)]
pub(crate) struct OneFile {
    mib: u32,
}

impl OneFile {
    /// A file of `mib` MiB.
    pub(crate) fn new(mib: u32) -> Self {
        Self { mib: mib.max(1) }
    }
}

impl DataSet for OneFile {
    fn name(&self) -> &'static str {
        "file"
    }

    fn version(&self) -> u32 {
        1
    }

    fn mib(&self) -> u32 {
        self.mib
    }

    fn describe(&self) -> String {
        format!("one file of {} MiB of any bytes, which do not compress", self.mib)
    }

    fn bytes(&self) -> u64 {
        u64::from(self.mib) << 20
    }

    fn generate(&self, into: &Path, _: &Path, cancel: &Cancel) -> Result<()> {
        write(&into.join("file"), |file| any_bytes(file, SEED, self.bytes(), cancel))
    }
}
