//! Page nodes: what a delta compares.

use alloc::vec::Vec;

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::chunk::page_len;
use crate::hash::ChunkHash;
use crate::limits::{CHUNK_BYTES_U64, PAGE_BYTES};
use crate::types::{ChunkIndex, TransferId, chunk_len};

const PAGE_KEY_CONTEXT: &str = "fastsst 1 stale page";

/// Node of a page in its file's tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PageHash(pub [u8; 32]);

/// The nodes of a chunk's pages, in order. `plain` as for [`crate::hash::chunk_hash`].
#[must_use]
pub fn page_hashes(file_size: u64, chunk: ChunkIndex, plain: &[u8]) -> Vec<PageHash> {
    (0..).zip(plain.chunks(PAGE_BYTES)).map(|page| page_hash(file_size, chunk, page)).collect()
}

/// The chunk's node made from its pages' nodes; equals [`crate::hash::chunk_hash`].
///
/// `None` when there is not one node for each page of the chunk.
#[must_use]
pub fn chunk_from_pages(
    file_size: u64,
    chunk: ChunkIndex,
    pages: &[PageHash],
) -> Option<ChunkHash> {
    let len = usize::try_from(chunk_len(file_size, chunk)).ok()?;
    if pages.is_empty() || pages.len() != len.div_ceil(PAGE_BYTES) {
        return None;
    }
    let mut nodes: Vec<[u8; 32]> = pages.iter().map(|page| page.0).collect();
    // Pairs from the left, an odd one moves up: with full subtrees on the left that is BLAKE3's
    // tree. The last merge is the top of the file's tree when the chunk is the whole file.
    while nodes.len() > 2 {
        let merge = |pair: &[[u8; 32]]| match pair {
            [left, right] => merge_subtrees_non_root(left, right, Mode::Hash),
            [odd, ..] => *odd,
            [] => [0; 32], // chunks() has no empty piece
        };
        nodes = nodes.chunks(2).map(merge).collect();
    }
    match nodes.as_slice() {
        [only] => Some(ChunkHash(*only)),
        [left, right] if file_size <= CHUNK_BYTES_U64 => {
            Some(ChunkHash(*merge_subtrees_root(left, right, Mode::Hash).as_bytes()))
        }
        [left, right] => Some(ChunkHash(merge_subtrees_non_root(left, right, Mode::Hash))),
        _ => None,
    }
}

/// Makes what a `Have` frame says of a page: 8 bytes, keyed by the transfer.
///
/// Why keyed: with 8 bytes of a plain hash, somebody who may write rows could prepare two pages
/// that look equal; without the key he cannot.
#[derive(Clone)]
pub struct PageKey([u8; 32]);

impl core::fmt::Debug for PageKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("PageKey(..)")
    }
}

impl PageKey {
    /// The key of a transfer.
    #[must_use]
    pub fn new(transfer: &TransferId) -> Self {
        Self(blake3::derive_key(PAGE_KEY_CONTEXT, &transfer.0))
    }

    /// What is said of this page.
    #[must_use]
    pub fn of(&self, page: &PageHash) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = *blake3::keyed_hash(&self.0, &page.0).as_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

/// The node of a page of zeros.
#[must_use]
pub fn zero_page_hash(file_size: u64, chunk: ChunkIndex, page: u32) -> PageHash {
    static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
    let len = page_len(chunk_len(file_size, chunk), page);
    let zeros = ZEROS.get(..usize::try_from(len).unwrap_or(0)).unwrap_or_default();
    page_hash(file_size, chunk, (page, zeros))
}

/// The node of one page, of which number and content are given.
#[must_use]
pub fn page_hash(file_size: u64, chunk: ChunkIndex, (page, content): (u32, &[u8])) -> PageHash {
    if file_size <= PAGE_BYTES as u64 || content.is_empty() {
        return PageHash(*blake3::hash(content).as_bytes());
    }
    let offset = chunk.offset() + u64::from(page) * PAGE_BYTES as u64;
    PageHash(Hasher::new().set_input_offset(offset).update(content).finalize_non_root())
}
