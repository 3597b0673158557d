//! The small values of the protocol, each its own type so that they cannot be mixed up.

use core::fmt;
use core::ops::{BitAnd, BitOr, Not};

use crate::hex;
use crate::limits::{CHUNK_BYTES, CHUNK_BYTES_U64};

/// Number of an entry, given by the donor, ascending in the order of declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileId(pub u32);

/// Number of a chunk in its file, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ChunkIndex(pub u32);

impl ChunkIndex {
    /// Where the chunk begins in its file. Unit: bytes.
    #[must_use]
    pub fn offset(self) -> u64 {
        u64::from(self.0) * CHUNK_BYTES_U64
    }
}

/// How often a file was declared: 0 the first time, higher whenever it is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u16);

/// Position of a root in the declaration's list of roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RootIndex(pub u8);

/// Number of a lane, from 0, below the number of lanes accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LaneId(pub u16);

/// Name of one transfer, random, chosen by the joiner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TransferId(pub [u8; 16]);

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::fmt(&self.0, f)
    }
}

/// A set of pages of one chunk; bit 0 is the first page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PageMask(pub u64);

impl PageMask {
    /// No page.
    pub const NONE: Self = Self(0);

    /// The first `pages` pages; all 64 when `pages` is 64 or more.
    #[must_use]
    pub fn first(pages: u32) -> Self {
        Self(1u64.checked_shl(pages).map_or(u64::MAX, |bit| bit - 1))
    }

    /// The set of one page; empty when `page` is 64 or more.
    #[must_use]
    pub fn page(page: u32) -> Self {
        Self(1u64.checked_shl(page).unwrap_or(0))
    }

    /// Whether the page is in the set.
    #[must_use]
    pub fn contains(self, page: u32) -> bool {
        self & Self::page(page) != Self::NONE
    }

    /// Whether the set has no page.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// How many pages are in the set.
    #[must_use]
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// The pages of the set, ascending.
    pub fn pages(self) -> impl Iterator<Item = u32> {
        (0..u64::BITS).filter(move |page| self.contains(*page))
    }
}

impl BitAnd for PageMask {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for PageMask {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Not for PageMask {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

/// A point in time on the owner's monotonic clock. Unit: milliseconds, any origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// The time `ms` milliseconds later; saturates.
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`; 0 when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One chunk of one generation of one file: what is sent, acknowledged and queued again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ChunkRef {
    /// The file.
    pub file: FileId,
    /// Which declaration of the file the chunk belongs to.
    pub generation: Generation,
    /// The chunk in the file.
    pub chunk: ChunkIndex,
}

/// How many chunks a file of `size` bytes has; 0 when it is empty.
#[must_use]
pub fn chunk_count(size: u64) -> u64 {
    size.div_ceil(CHUNK_BYTES_U64)
}

/// Length of a chunk in a file of `size` bytes. Unit: bytes; 0 beyond the end.
#[must_use]
pub fn chunk_len(size: u64, chunk: ChunkIndex) -> u32 {
    const FULL: u32 = 1 << 20;
    const _: () = assert!(FULL as usize == CHUNK_BYTES);
    let rest = size.saturating_sub(chunk.offset());
    u32::try_from(rest).map_or(FULL, |rest| rest.min(FULL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_len_at_the_boundaries() {
        const MIB: u64 = 1 << 20;
        assert_eq!(chunk_count(0), 0);
        assert_eq!(chunk_count(1), 1);
        assert_eq!(chunk_count(MIB), 1);
        assert_eq!(chunk_count(MIB + 1), 2);
        assert_eq!(chunk_len(0, ChunkIndex(0)), 0);
        assert_eq!(chunk_len(MIB, ChunkIndex(0)), 1 << 20);
        assert_eq!(chunk_len(MIB + 1, ChunkIndex(1)), 1);
        assert_eq!(chunk_len(MIB + 1, ChunkIndex(2)), 0);
        assert_eq!(chunk_len(u64::MAX, ChunkIndex(u32::MAX)), 1 << 20);
    }

    #[test]
    fn mask_first_and_pages() {
        assert_eq!(PageMask::first(0), PageMask::NONE);
        assert_eq!(PageMask::first(3), PageMask(7));
        assert_eq!(PageMask::first(64), PageMask(u64::MAX));
        assert_eq!(PageMask::page(64), PageMask::NONE);
        assert!(PageMask(5).pages().eq([0, 2]));
    }
}
