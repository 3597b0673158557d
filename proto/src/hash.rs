//! Hashes of pages, chunks and files: nodes of one ordinary BLAKE3 tree.
//!
//! A 16 KiB page and a 1 MiB chunk are whole subtrees of BLAKE3's tree over the file, so their
//! chaining values merge, in any order of arrival, into the hash that `b3sum` prints for the file.
//! The top node of a tree is computed with another flag than inner nodes. Hence the one special
//! case everywhere below: when the file is a single chunk, the chunk's node *is* the top.

mod page;
mod tree;

use core::fmt;

use blake3::Hasher;
use blake3::hazmat::HasherExt;

use crate::hex;
use crate::limits::{CHUNK_BYTES, CHUNK_BYTES_U64, PAGE_BYTES};
use crate::types::{ChunkIndex, chunk_len};

pub use page::{PageHash, PageKey, chunk_from_pages, page_hash, page_hashes, zero_page_hash};
pub use tree::{FileTree, TreeError};

/// Node of a chunk in its file's tree. Depends on where the chunk lies, and on whether it is the
/// only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ChunkHash(pub [u8; 32]);

/// BLAKE3 of a whole file, as `b3sum` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileHash(pub [u8; 32]);

impl fmt::Display for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::fmt(&self.0, f)
    }
}

impl fmt::Display for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::fmt(&self.0, f)
    }
}

/// Hash of the plain bytes of one chunk of a file of `file_size` bytes.
///
/// `plain` has the length [`chunk_len`] says. Bytes of any other length have a hash as well (no
/// panic: the length may come from a peer), only not one that fits a tree.
#[must_use]
pub fn chunk_hash(file_size: u64, chunk: ChunkIndex, plain: &[u8]) -> ChunkHash {
    if file_size <= CHUNK_BYTES_U64 || plain.is_empty() || plain.len() > CHUNK_BYTES {
        return ChunkHash(*blake3::hash(plain).as_bytes());
    }
    ChunkHash(Hasher::new().set_input_offset(chunk.offset()).update(plain).finalize_non_root())
}

/// [`chunk_hash`] of a chunk of zeros of the right length.
#[must_use]
pub fn zero_chunk_hash(file_size: u64, chunk: ChunkIndex) -> ChunkHash {
    static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
    let is_top = file_size <= CHUNK_BYTES_U64;
    let mut hasher = Hasher::new();
    if !is_top {
        hasher.set_input_offset(chunk.offset());
    }
    let mut left = usize::try_from(chunk_len(file_size, chunk)).unwrap_or(CHUNK_BYTES);
    if left == 0 {
        return ChunkHash(*blake3::hash(&[]).as_bytes());
    }
    while left > 0 {
        let zeros = &ZEROS[..left.min(PAGE_BYTES)];
        hasher.update(zeros);
        left -= zeros.len();
    }
    ChunkHash(if is_top { *hasher.finalize().as_bytes() } else { hasher.finalize_non_root() })
}
