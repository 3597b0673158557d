//! The delta: what of a stale copy can stay, decided chunk by chunk, without I/O.
//!
//! ```text
//!  donor                                             joiner
//!  Asking ──Compare──────────────────────────────▶  reads its stale file
//!    ▲ │                                               │ described → Undecided
//!    │ └─◀── Lacks, HaveFiles, Have, HaveEnd ──────────┘
//!    │ reads the same chunk
//!  compare ── equal ─────── Same, SameFiles ──────▶  Undecided: kept as it is
//!          └─ differs ─── chunk with its pages ───▶  Undecided: patched, full hash checked
//!                                    ◀── Again ───   it does not fit: send all of it
//! ```
//!
//! The truncated hashes of pages only choose what is sent; what is true is decided by the full hash
//! of the chunk, at the joiner.

mod asking;
mod undecided;

pub use asking::{Asking, Whole};
pub use undecided::{Known, Undecided};

use crate::frame::HaveChunk;
use crate::hash::{ChunkHash, PageHash, PageKey};
use crate::limits::PAGES_PER_CHUNK;
use crate::types::PageMask;

/// How a donor's chunk relates to what the joiner described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The same content.
    Same,
    /// These pages differ, as far as their truncated hashes tell.
    Differs(PageMask),
}

/// Compares a chunk of the donor with its description by the joiner.
///
/// When all pages look the same and the chunk is not, all of them count as different: a page's
/// truncated hash has collided, and nobody knows which.
#[must_use]
pub fn compare(
    have: &HaveChunk,
    key: &PageKey,
    (hash, pages): (ChunkHash, &[PageHash]),
) -> Verdict {
    if hash == have.hash {
        return Verdict::Same;
    }
    let mut differs = PageMask::NONE;
    for ((number, page), theirs) in (0..).zip(pages).zip(&have.pages) {
        if key.of(page) != *theirs {
            differs = differs | PageMask::page(number);
        }
    }
    if differs.is_empty() {
        differs = PageMask::first(u32::try_from(pages.len()).unwrap_or(u32::MAX));
    }
    Verdict::Differs(differs)
}

/// Describes a chunk of the joiner's stale copy.
#[must_use]
pub fn describe(hash: ChunkHash, pages: &[PageHash], key: &PageKey) -> HaveChunk {
    let mut truncated = [[0; 8]; PAGES_PER_CHUNK];
    for (slot, page) in truncated.iter_mut().zip(pages) {
        *slot = key.of(page);
    }
    HaveChunk { hash, pages: truncated }
}
