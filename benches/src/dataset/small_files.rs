//! Many small files: half of each is text as sysbench makes it, half is of any bytes.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::digits::Numbers;
use super::{DataSet, write};
use crate::cancel::Cancel;

/// Sizes are equally likely from here ...
const SMALLEST: u32 = 4 << 10;

/// ... to here.
const LARGEST: u32 = 128 << 10;

const DIRECTORIES: u32 = 200;

const SEED: u64 = 0x534d_414c_4c00;

/// The data set.
#[derive(Debug)]
pub(crate) struct SmallFiles {
    files: u32,
}

impl SmallFiles {
    /// So many files.
    pub(crate) fn new(files: u32) -> Self {
        Self { files: files.max(1) }
    }
}

impl DataSet for SmallFiles {
    fn name(&self) -> &'static str {
        "small"
    }

    fn version(&self) -> u32 {
        1
    }

    fn mib(&self) -> u32 {
        u32::try_from(self.bytes() >> 20).unwrap_or(u32::MAX)
    }

    fn describe(&self) -> String {
        format!(
            "{} files of {} to {} KiB in {DIRECTORIES} directories, each half digits as in \
             sysbench's rows and half any bytes",
            self.files,
            SMALLEST >> 10,
            LARGEST >> 10,
        )
    }

    fn bytes(&self) -> u64 {
        u64::from(self.files) * u64::from(u32::midpoint(SMALLEST, LARGEST))
    }

    fn generate(&self, into: &Path, _: &Path, cancel: &Cancel) -> Result<()> {
        for directory in 0..DIRECTORIES {
            fs::create_dir(into.join(format!("d{directory:03}")))
                .context("cannot create a directory")?;
        }
        let mut numbers = Numbers::new(SEED);
        let mut content = vec![0; LARGEST as usize];
        for index in 0..self.files {
            cancel.check()?;
            let bytes = SMALLEST + numbers.below(LARGEST - SMALLEST);
            let content = &mut content[..bytes as usize];
            let (text, any) = content.split_at_mut(content.len() / 2);
            numbers.groups(text);
            numbers.fill(any);
            let name = format!("d{:03}/f{index:06}", index % DIRECTORIES);
            write(&into.join(name), |file| Ok(file.write_all(content)?))?;
        }
        Ok(())
    }
}
