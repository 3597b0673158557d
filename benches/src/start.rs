//! What a joiner holds before the measured copy begins.

mod stale;

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::contender::{Contender, Job};
use crate::floor;

/// Share of the pages that differ in a stale copy. Unit: one of so many. Why: a node that was a
/// member yesterday.
const STALE_ONE_OF: usize = 100;

/// Where a transfer is cut. Unit: percent of what a whole one puts on the link.
const CUT_PERCENT: u64 = 50;

/// What is in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Start {
    /// Nothing.
    Empty,
    /// The source, as it is.
    Identical,
    /// The source, with other bytes in some of its pages.
    Stale,
    /// What a transfer has left whose receiver was killed in the middle.
    Cut,
}

/// What was done before the measured copy, in figures that its targets refer to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Before {
    /// Size of the pages that differ.
    pub(crate) changed_bytes: Option<u64>,
    /// What the same contender sends into an empty directory, as it counts itself.
    pub(crate) whole_wire_bytes: Option<u64>,
    /// What that is on the link, both directions and headers included.
    pub(crate) whole_link_bytes: Option<u64>,
    /// The same when the receiver was killed.
    pub(crate) cut_link_bytes: Option<u64>,
}

impl Start {
    /// In a word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Identical => "identical",
            Self::Stale => "stale",
            Self::Cut => "cut",
        }
    }

    /// For the head of a table; nothing for an empty directory.
    pub(crate) fn describe(self) -> Option<String> {
        match self {
            Self::Empty => None,
            Self::Identical => Some("into an identical copy".to_owned()),
            Self::Stale => Some(format!(
                "into a copy in which one of {STALE_ONE_OF} pages of {} KiB differs",
                stale::PAGE_BYTES >> 10
            )),
            Self::Cut => Some(format!(
                "second attempt after one whose receiver was killed at {CUT_PERCENT} % of the bytes"
            )),
        }
    }

    /// Fills the empty target of `job`.
    ///
    /// # Errors
    /// It cannot be filled, or `contender` cannot do what was to be interrupted.
    pub(crate) fn prepare(self, contender: &dyn Contender, job: &Job<'_>) -> Result<Before> {
        match self {
            Self::Empty => Ok(Before::default()),
            Self::Identical => {
                floor::copy(job.source, job.target)?;
                Ok(Before { changed_bytes: Some(0), ..Before::default() })
            }
            Self::Stale => {
                floor::copy(job.source, job.target)?;
                let changed_bytes = stale::change_pages(job.target, STALE_ONE_OF)?;
                Ok(Before { changed_bytes: Some(changed_bytes), ..Before::default() })
            }
            Self::Cut => cut(contender, job),
        }
    }
}

/// A whole transfer elsewhere, to know how much that is, and then one that is cut.
fn cut(contender: &dyn Contender, job: &Job<'_>) -> Result<Before> {
    let own = tempfile::tempdir_in(job.scratch).context("cannot create a directory")?;
    let [target, whole_scratch, cut_scratch] =
        ["copy", "whole", "cut"].map(|name| own.path().join(name));
    for directory in [&target, &whole_scratch, &cut_scratch] {
        fs::create_dir(directory).context("cannot create a directory")?;
    }
    let whole = contender
        .run(&Job { target: &target, scratch: &whole_scratch, ..*job })
        .context("the whole transfer before the one that is cut")?;
    fs::remove_dir_all(&target).context("cannot remove a copy")?;
    let link_bytes = whole.link_bytes.context("only a cable counts bytes")?;

    let cut_at = link_bytes * CUT_PERCENT / 100;
    let cut_link_bytes =
        contender.interrupt(&Job { scratch: &cut_scratch, ..*job }, cut_at).context("the cut")?;
    own.close().context("cannot remove logs")?;
    Ok(Before {
        changed_bytes: None,
        whole_wire_bytes: whole.wire_bytes,
        whole_link_bytes: Some(link_bytes),
        cut_link_bytes: Some(cut_link_bytes),
    })
}
