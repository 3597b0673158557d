//! `fastsst-bench floor SOURCE TARGET`: copies a tree as fast as the disk lets a program that has
//! nothing else to do. No network, no hashes; direct reads into aligned buffers, direct writes
//! into reserved space, many at once, the largest files first, and one `syncfs` at the end.
//!
//! `fastsst-bench floor-read ONE OTHER`: reads two trees at once in the same way, and that is all.

mod extent;
mod tree;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

use self::extent::{Buffer, Extent};
use self::tree::{Copied, Listing};

/// Reads or writes that are under way at once in large files: enough for any disk of one machine.
const THREADS: usize = 16;

/// The same for trees of small files, where most of the time is creating and closing.
const THREADS_SMALL: usize = 48;

/// A tree whose files are smaller than this on average is one of small files.
const SMALL_BYTES: u64 = 1 << 20;

impl Listing {
    fn threads(&self) -> usize {
        if self.average_bytes() < SMALL_BYTES { THREADS_SMALL } else { THREADS }
    }
}

/// Copies everything below `source` into the empty directory `target`.
///
/// # Errors
/// Something cannot be read or written.
pub(crate) fn copy(source: &Path, target: &Path) -> Result<()> {
    let listing = Listing::read(source)?;
    listing.make_directories(target)?;

    let threads = listing.threads();
    let work = extent::divide(&listing.files);
    let files: Vec<Copied<'_>> = listing.files.iter().map(Copied::new).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..threads.min(work.len()))
            .map(|_| scope.spawn(|| copy_extents(&work, &next, &files, (source, target))))
            .collect();
        for worker in workers {
            worker.join().map_err(|_panic| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(())
    })?;

    listing.finish_directories(target)?;
    let target = File::open(target).context("cannot open the target")?;
    rustix::fs::syncfs(&target).context("cannot sync the target")
}

/// Reads everything below both of `roots`, with the threads that [`copy`] would have for each. Says
/// how many bytes that were.
///
/// # Errors
/// Something cannot be read.
pub(crate) fn read(roots: [&Path; 2]) -> Result<u64> {
    let listings = [Listing::read(roots[0])?, Listing::read(roots[1])?];
    let next = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let work = [extent::divide(&listings[0].files), extent::divide(&listings[1].files)];
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for (((root, listing), work), next) in roots.iter().zip(&listings).zip(&work).zip(&next) {
            for _ in 0..listing.threads().min(work.len()) {
                workers.push(scope.spawn(|| read_extents(work, next, (root, listing))));
            }
        }
        let mut bytes = 0;
        for worker in workers {
            bytes += worker.join().map_err(|_panic| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(bytes)
    })
}

/// One thread: takes the next extent until there is none, and says how many bytes it has read.
fn read_extents(
    work: &[Extent],
    next: &AtomicUsize,
    (root, listing): (&Path, &Listing),
) -> Result<u64> {
    let (mut buffer, mut bytes) = (Buffer::new(), 0);
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let Some(extent) = work.get(at) else { return Ok(bytes) };
        let path = &listing.files[extent.file].path;
        let named = || format!("cannot read {}", path.display());
        let from = extent::open_source(&root.join(path)).with_context(named)?;
        bytes += extent.read(&from, &mut buffer).with_context(named)?;
    }
}

/// One thread: takes the next extent until there is none.
fn copy_extents(
    work: &[Extent],
    next: &AtomicUsize,
    files: &[Copied<'_>],
    (source, target): (&Path, &Path),
) -> Result<()> {
    let mut buffer = Buffer::new();
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let Some(extent) = work.get(at) else { return Ok(()) };
        let file = &files[extent.file];
        let path: &PathBuf = &file.listed.path;
        let named = || format!("cannot copy {}", path.display());
        let from = extent::open_source(&source.join(path)).with_context(named)?;
        let into = file.create(&target.join(path)).with_context(named)?;
        extent.copy(&from, &into, &mut buffer).with_context(named)?;
        file.extent_is_done(&into.file).with_context(named)?;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn both_trees_are_read_to_their_ends() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(one.path().join("large"), vec![1; (17 << 20) + 3]).unwrap();
        fs::create_dir(other.path().join("d")).unwrap();
        fs::write(other.path().join("d/small"), "12345").unwrap();
        assert_eq!(read([one.path(), other.path()]).unwrap(), (17 << 20) + 8);
        assert_eq!(read([other.path(), other.path()]).unwrap(), 10);
        read([one.path(), &other.path().join("missing")]).unwrap_err();
    }
}
