//! `fastsst-bench floor SOURCE TARGET`: copies a tree as fast as the disk lets a program that has
//! nothing else to do. No network, no hashes; direct reads into aligned buffers, direct writes
//! into reserved space, many at once, the largest files first, and one `syncfs` at the end.

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

/// Copies everything below `source` into the empty directory `target`.
///
/// # Errors
/// Something cannot be read or written.
pub(crate) fn copy(source: &Path, target: &Path) -> Result<()> {
    let listing = Listing::read(source)?;
    listing.make_directories(target)?;

    let threads = if listing.average_bytes() < SMALL_BYTES { THREADS_SMALL } else { THREADS };
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
