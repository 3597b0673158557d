//! Large files that are almost nothing but holes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::digits::Numbers;
use super::{DataSet, set_time};
use crate::cancel::Cancel;

const FILES: u32 = 8;

/// Islands of data in each file, one in each stripe of it.
const ISLANDS: u32 = 32;

/// How much larger the files look than their data is.
const STRETCH: u32 = 32;

/// Islands begin and end at file system blocks.
const BLOCK: u64 = 4096;

const SEED: u64 = 0x5350_4152_5345;

/// The data set.
#[derive(Debug)]
pub(crate) struct Sparse {
    mib: u32,
}

impl Sparse {
    /// Files with about `mib` MiB of data altogether.
    pub(crate) fn new(mib: u32) -> Self {
        Self { mib: mib.max(1) }
    }

    fn island_bytes(&self) -> u64 {
        let share = (u64::from(self.mib) << 20) / u64::from(FILES * ISLANDS);
        share.next_multiple_of(BLOCK)
    }

    fn stripe_bytes(&self) -> u64 {
        self.island_bytes() * u64::from(STRETCH)
    }
}

impl DataSet for Sparse {
    fn name(&self) -> &'static str {
        "sparse"
    }

    fn version(&self) -> u32 {
        1
    }

    fn mib(&self) -> u32 {
        self.mib
    }

    fn describe(&self) -> String {
        format!(
            "{FILES} files of {} MiB each, in every one {ISLANDS} islands of {} KiB of any bytes and \
             holes between them",
            (self.stripe_bytes() * u64::from(ISLANDS)) >> 20,
            self.island_bytes() >> 10,
        )
    }

    fn bytes(&self) -> u64 {
        self.stripe_bytes() * u64::from(ISLANDS * FILES)
    }

    fn is_sparse(&self) -> bool {
        true
    }

    fn generate(&self, into: &Path, _: &Path, cancel: &Cancel) -> Result<()> {
        let mut numbers = Numbers::new(SEED);
        let mut island = vec![0; usize::try_from(self.island_bytes())?];
        for index in 0..FILES {
            let path = into.join(format!("sparse{index}"));
            let cannot = || format!("cannot write {}", path.display());
            let file = File::create(&path).with_context(cannot)?;
            for stripe in 0..u64::from(ISLANDS) {
                cancel.check()?;
                numbers.fill(&mut island);
                let places = (self.stripe_bytes() - self.island_bytes()) / BLOCK;
                let place = u64::from(numbers.below(u32::try_from(places)?)) * BLOCK;
                file.write_all_at(&island, stripe * self.stripe_bytes() + place)
                    .with_context(cannot)?;
            }
            file.set_len(self.stripe_bytes() * u64::from(ISLANDS)).with_context(cannot)?;
            set_time(&file).with_context(cannot)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn looks_much_larger_than_it_is() {
        let (dir, data) = (tempfile::tempdir().unwrap(), Sparse::new(2));
        data.generate(dir.path(), dir.path(), &Cancel::default()).unwrap();
        let files = std::fs::read_dir(dir.path()).unwrap();
        let sizes: Vec<_> = files
            .map(|file| file.unwrap().metadata().unwrap())
            .map(|metadata| (metadata.len(), metadata.blocks() * 512))
            .collect();
        let (apparent, real) = sizes.iter().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        assert_eq!(apparent, data.bytes());
        assert!(real < 4 << 20, "{real}");
    }
}
