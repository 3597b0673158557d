//! How much of a tree the page cache holds after a run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde::Serialize;

use crate::programs;
use crate::stats::per;
use crate::tree;

/// Paths that one `fincore` looks at: far below the limit of a command line.
const BATCH: usize = 500;

/// Shares of the source's and of the copy's bytes that are in the page cache, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Residency {
    /// Of the source.
    pub(crate) source: f64,
    /// Of the copy.
    pub(crate) target: f64,
}

impl Residency {
    /// Nothing without `fincore`, which asks the kernel by `mincore`.
    pub(crate) fn of(source: &Path, target: &Path) -> Option<Self> {
        let program = programs::find("fincore").ok()?;
        // The copy first: looking at the source must not push it out.
        let target = share(&program, target).ok()?;
        Some(Self { source: share(&program, source).ok()?, target })
    }
}

fn share(program: &Path, root: &Path) -> Result<f64> {
    let (mut resident, mut size) = (0.0, 0.0);
    let files: Vec<PathBuf> = tree::files(root)?;
    for batch in files.chunks(BATCH) {
        let mut command = Command::new(program);
        command.args(["--bytes", "--noheadings", "--raw", "-o", "RES,SIZE"]).args(batch);
        // It fails for files that it cannot map, such as empty ones, and says all others.
        let output = command.output()?;
        let (pages, bytes) = sum(&String::from_utf8_lossy(&output.stdout));
        resident += pages;
        size += bytes;
    }
    // A last page counts whole.
    Ok(per(resident, size).min(1.0))
}

/// Sums of the two columns.
fn sum(text: &str) -> (f64, f64) {
    let rows = text.lines().filter_map(|line| {
        let (pages, bytes) = line.trim().split_once(' ')?;
        Some((pages.parse::<f64>().ok()?, bytes.trim().parse::<f64>().ok()?))
    });
    rows.fold((0.0, 0.0), |(pages, bytes), (more_pages, more_bytes)| {
        (pages + more_pages, bytes + more_bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_summed() {
        assert_eq!(sum("4096 5\n0 10000\nnonsense\n"), (4096.0, 10_005.0));
    }

    #[test]
    fn what_was_just_written_is_resident() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(one.path().join("a"), vec![1; 100_000]).unwrap();
        if let Some(residency) = Residency::of(one.path(), two.path()) {
            assert!(residency.source > 0.9, "{residency:?}");
            assert!(residency.target < 0.1, "{residency:?}");
        }
    }
}
