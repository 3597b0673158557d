//! What files hold: pages that are named, and made into bytes only to be hashed.

use std::cell::RefCell;
use std::collections::HashMap;

use fastsst_proto::chunk::page_len;
use fastsst_proto::hash::{chunk_from_pages, page_hash};
use fastsst_proto::limits::{PAGE_BYTES, PAGES_PER_CHUNK};
use fastsst_proto::types::{chunk_count, chunk_len};
use fastsst_proto::{ChunkHash, ChunkIndex, FileHash, FileTree, PageHash};

use super::chance::Chance;

const PAGE: u16 = 1 << 14;
const _: () = assert!(PAGE as usize == PAGE_BYTES);

/// One page: so many bytes of a pattern without zeros, then zeros. Two are equal if their bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Page {
    pattern: u16,
    filled: u16,
}

impl Page {
    pub(super) const ZERO: Self = Self { pattern: 0, filled: 0 };

    /// Few patterns, so that pages are often equal, and their hashes are known.
    pub(super) fn random(chance: &mut Chance) -> Self {
        let pattern = if chance.one_in(3) { 0 } else { 1 + chance.below(6) as u16 };
        Self { pattern, filled: PAGE }.cut(PAGE)
    }

    /// What a write that was not finished leaves.
    pub(super) fn torn(chance: &mut Chance) -> Self {
        Self { pattern: 100 + chance.below(4) as u16, filled: PAGE }
    }

    fn cut(self, len: u16) -> Self {
        let filled = self.filled.min(len);
        if self.pattern == 0 || filled == 0 { Self::ZERO } else { Self { filled, ..self } }
    }

    fn bytes(self, len: usize) -> Vec<u8> {
        let mut chance = Chance::new(u64::from(self.pattern));
        let filled = usize::from(self.filled).min(len);
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < filled {
            bytes.extend((chance.next() | 0x0101_0101_0101_0101).to_le_bytes());
        }
        bytes.truncate(filled);
        bytes.resize(len, 0);
        bytes
    }
}

/// The content of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Content {
    size: u64,
    pages: Vec<Page>,
}

impl Content {
    pub(super) fn zeros(size: u64) -> Self {
        let mut content = Self::default();
        content.resize(size);
        content
    }

    pub(super) fn random(size: u64, chance: &mut Chance) -> Self {
        let mut content = Self::zeros(size);
        for page in 0..content.pages.len() {
            content.put(page, Page::random(chance));
        }
        content
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn pages(&self) -> &[Page] {
        &self.pages
    }

    pub(super) fn chunks(&self) -> u32 {
        chunk_count(self.size) as u32
    }

    /// Cuts, or extends by zeros.
    pub(super) fn resize(&mut self, size: u64) {
        self.size = size;
        self.pages.resize(size.div_ceil(u64::from(PAGE)) as usize, Page::ZERO);
        if let Some(last) = self.pages.last().copied() {
            let at = self.pages.len() - 1;
            self.put(at, last);
        }
    }

    /// Writes one page; what lies beyond the end of the file is cut off.
    pub(super) fn put(&mut self, at: usize, page: Page) {
        let from = at as u64 * u64::from(PAGE);
        let len = self.size.saturating_sub(from).min(u64::from(PAGE)) as u16;
        if let Some(slot) = self.pages.get_mut(at) {
            *slot = page.cut(len);
        }
    }

    pub(super) fn chunk(&self, chunk: ChunkIndex) -> &[Page] {
        let from = chunk.0 as usize * PAGES_PER_CHUNK;
        &self.pages[from..(from + PAGES_PER_CHUNK).min(self.pages.len())]
    }

    /// The nodes of a chunk's pages.
    pub(super) fn nodes(&self, chunk: ChunkIndex) -> Vec<PageHash> {
        let pages = (0..).zip(self.chunk(chunk));
        pages.map(|(number, page)| node(self.size, chunk, (number, *page))).collect()
    }

    pub(super) fn chunk_hash(&self, chunk: ChunkIndex) -> ChunkHash {
        chunk_from_pages(self.size, chunk, &self.nodes(chunk)).expect("all pages are there")
    }

    pub(super) fn file_hash(&self) -> FileHash {
        let mut tree = FileTree::new(self.size);
        for chunk in (0..self.chunks()).map(ChunkIndex) {
            tree.insert(chunk, self.chunk_hash(chunk)).expect("each chunk once");
        }
        tree.finish().expect("all chunks are there")
    }
}

/// The node of a page; remembered, since hashing is nearly all the time of a run.
pub(super) fn node(file_size: u64, chunk: ChunkIndex, (number, page): (u32, Page)) -> PageHash {
    type Key = (Page, u32, u64, u64);
    thread_local! {
        static NODES: RefCell<HashMap<Key, PageHash>> = RefCell::new(HashMap::new());
    }
    let len = page_len(chunk_len(file_size, chunk), number);
    let place = chunk.offset() + u64::from(number) * u64::from(PAGE);
    let key = (page, len, place, file_size.min(u64::from(PAGE) + 1));
    let compute = || page_hash(file_size, chunk, (number, &page.bytes(len as usize)));
    NODES.with_borrow_mut(|nodes| *nodes.entry(key).or_insert_with(compute))
}
