//! What the joiner has described and the donor has not decided about.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::frame::FileRef;
use crate::hash::{ChunkHash, FileHash, PageHash, chunk_from_pages, zero_page_hash};
use crate::limits::UNDECIDED_MAX;
use crate::types::{ChunkRef, FileId, PageMask};

/// A chunk of a stale file, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its hash, as if the file had the declared size.
    pub hash: ChunkHash,
    /// The nodes of its pages.
    pub pages: Vec<PageHash>,
}

impl Known {
    /// The hash of the chunk once some of its pages are replaced: `sent` by others, `zero` by zeros.
    ///
    /// So a patched chunk is verified without reading again what stays. `None`: a page the chunk
    /// does not have.
    #[must_use]
    pub fn patched(
        mut self,
        (file_size, at): (u64, ChunkRef),
        sent: &[(u32, PageHash)],
        zero: PageMask,
    ) -> Option<ChunkHash> {
        for (number, page) in sent {
            *self.pages.get_mut(usize::try_from(*number).ok()?)? = *page;
        }
        for number in zero.pages() {
            let page = zero_page_hash(file_size, at.chunk, number);
            *self.pages.get_mut(usize::try_from(number).ok()?)? = page;
        }
        chunk_from_pages(file_size, at.chunk, &self.pages)
    }
}

/// Everything described and not decided. Bounded by [`UNDECIDED_MAX`].
#[derive(Debug, Default)]
pub struct Undecided {
    chunks: BTreeMap<ChunkRef, Known>,
    files: BTreeMap<FileRef, FileHash>,
}

impl Undecided {
    /// Nothing described.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether something more may be described; otherwise decisions must come first.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.len() < UNDECIDED_MAX
    }

    /// Chunks and files.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.len() + self.files.len()
    }

    /// Whether everything is decided.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.files.is_empty()
    }

    /// A chunk is about to be described.
    pub fn describe(&mut self, at: ChunkRef, known: Known) {
        self.chunks.insert(at, known);
    }

    /// A file is about to be described by its hash.
    pub fn describe_file(&mut self, file: FileRef, hash: FileHash) {
        self.files.insert(file, hash);
    }

    /// The donor has decided about a chunk; `None` when it was not described, or decided before.
    pub fn take(&mut self, at: ChunkRef) -> Option<Known> {
        self.chunks.remove(&at)
    }

    /// The donor has decided about a file.
    pub fn take_file(&mut self, file: FileRef) -> Option<FileHash> {
        self.files.remove(&file)
    }

    /// The file was declared again, or is gone: nothing about it will be decided any more.
    pub fn forget(&mut self, file: FileId) {
        self.chunks.retain(|at, _| at.file != file);
        self.files.retain(|(known, _), _| *known != file);
    }
}
