//! Cold caches: every run reads from the disk what it sends.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{Advice, fadvise};
use serde::Serialize;

use crate::tree;

/// How the page cache was emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Cold {
    /// `sync`, then all clean pages, entries and inodes of the machine.
    Dropped,
    /// `sync`, then the pages of source and target only, because dropping all of them needs root.
    SourceOnly,
}

/// Writes back and forgets.
///
/// # Errors
/// A file cannot be opened.
pub(crate) fn chill(trees: &[&Path]) -> Result<Cold> {
    const EVERYTHING: &str = "3\n";
    rustix::fs::sync();
    if fs::write("/proc/sys/vm/drop_caches", EVERYTHING).is_ok() {
        return Ok(Cold::Dropped);
    }
    for tree in trees {
        for path in tree::files(tree)? {
            let file = File::open(&path);
            let file = file.with_context(|| format!("cannot open {}", path.display()))?;
            fadvise(&file, 0, None, Advice::DontNeed).context("cannot drop cached pages")?;
        }
    }
    Ok(Cold::SourceOnly)
}
