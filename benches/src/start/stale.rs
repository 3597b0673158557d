//! Pages that differ, as those of a node that was away for a while.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::dataset::digits::Numbers;
use crate::tree;

/// InnoDB's default.
pub(super) const PAGE_BYTES: usize = 16 << 10;

/// Smaller files stay as they are: they are no tables.
const FILE_BYTES_MIN: u64 = 128 << 10;

/// Which pages, and what is in them.
const SEED: u64 = 4;

/// Overwrites one of `one_of` pages of all files below `root` with any bytes, in place; the same
/// pages every time. Says how many bytes that was.
///
/// # Errors
/// A file cannot be written.
pub(super) fn change_pages(root: &Path, one_of: usize) -> Result<u64> {
    let mut files = tree::files(root)?;
    // The order of a directory's entries differs from copy to copy.
    files.sort();
    let mut pages = pages(&files)?;
    let (mut numbers, mut page) = (Numbers::new(SEED), vec![0; PAGE_BYTES]);
    let chosen = pages.len() / one_of;
    for done in 0..chosen {
        // One of those that were not chosen yet.
        let left = u32::try_from(pages.len() - done).context("too many pages")?;
        pages.swap(done, done + numbers.below(left) as usize);
    }
    pages.truncate(chosen);
    pages.sort_unstable();
    for one_file in pages.chunk_by(|one, next| one.0 == next.0) {
        let Some(path) = one_file.first().and_then(|(file, _)| files.get(*file)) else { continue };
        let cannot = || format!("cannot write {}", path.display());
        let file = File::options().write(true).open(path).with_context(cannot)?;
        for (_, at) in one_file {
            numbers.fill(&mut page);
            file.write_all_at(&page, *at).with_context(cannot)?;
        }
    }
    Ok((chosen * PAGE_BYTES) as u64)
}

/// Every page of every file that is large enough: the file's number, and where the page begins.
fn pages(files: &[PathBuf]) -> Result<Vec<(usize, u64)>> {
    let mut pages = Vec::new();
    for (number, path) in files.iter().enumerate() {
        let metadata = fs::metadata(path);
        let bytes = metadata.with_context(|| format!("cannot look at {}", path.display()))?.len();
        if bytes >= FILE_BYTES_MIN {
            let page_bytes = PAGE_BYTES as u64;
            pages.extend((0..bytes / page_bytes).map(|page| (number, page * page_bytes)));
        }
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_pages_differ_and_always_the_same() {
        let made = || {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("table"), vec![0; 250 << 14]).unwrap();
            fs::write(dir.path().join("other"), vec![0; (150 << 14) + 5]).unwrap();
            fs::write(dir.path().join("small"), vec![0; (128 << 10) - 1]).unwrap();
            assert_eq!(change_pages(dir.path(), 100).unwrap(), 4 * PAGE_BYTES as u64);
            ["table", "other", "small"].map(|name| fs::read(dir.path().join(name)).unwrap())
        };
        let [table, other, small] = made();
        let differs = |page: &&[u8]| page.iter().any(|byte| *byte != 0);
        let count = |file: &[u8]| file.chunks(PAGE_BYTES).filter(differs).count();
        assert_eq!((count(&table) + count(&other), count(&small)), (4, 0));
        assert_eq!((table.len(), other.len()), (250 << 14, (150 << 14) + 5));
        assert!(made() == [table, other, small]);
    }
}
