//! The hash of a file from its chunks' nodes, in whatever order they arrive.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use blake3::hazmat::{Mode, merge_subtrees_non_root, merge_subtrees_root};
use thiserror::Error;

use crate::hash::{ChunkHash, FileHash};
use crate::types::{ChunkIndex, chunk_count};

/// The tree of one file while its chunks arrive.
///
/// Memory: the chunks from the first to the first missing one are merged into at most 25 nodes;
/// chunks beyond a missing one are kept singly, so the owner bounds how far they run ahead.
///
/// Merging is lazy: with `n` merged chunks the stack has one node per set bit of `n`, but two
/// nodes of equal size are merged only when the next chunk is known to exist. So the last merge
/// is left to [`FileTree::finish`], which computes it as the top of the tree.
#[derive(Debug, Clone)]
pub struct FileTree {
    chunks: u64,
    merged: u64,
    stack: Vec<[u8; 32]>,
    ahead: BTreeMap<u32, [u8; 32]>,
}

/// Why a chunk has no place in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TreeError {
    /// The file has no such chunk.
    #[error("the file has no such chunk")]
    OutOfRange,
    /// The chunk's node is merged already.
    #[error("the chunk was hashed before")]
    Duplicate,
}

impl FileTree {
    /// The tree of a file of `size` bytes, no chunk known.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self { chunks: chunk_count(size), merged: 0, stack: Vec::new(), ahead: BTreeMap::new() }
    }

    /// Adds the node of a chunk, once.
    ///
    /// Errors: the file has no such chunk, or its node is known already (the first one stays).
    pub fn insert(&mut self, chunk: ChunkIndex, hash: ChunkHash) -> Result<(), TreeError> {
        let index = u64::from(chunk.0);
        if index >= self.chunks {
            return Err(TreeError::OutOfRange);
        }
        if index < self.merged || self.ahead.contains_key(&chunk.0) {
            return Err(TreeError::Duplicate);
        }
        if index > self.merged {
            self.ahead.insert(chunk.0, hash.0);
            return Ok(());
        }
        self.push(hash.0);
        while let Some(node) = self.next_ahead() {
            self.push(node);
        }
        Ok(())
    }

    /// Whether the node of a chunk is known.
    #[must_use]
    pub fn has(&self, chunk: ChunkIndex) -> bool {
        u64::from(chunk.0) < self.merged || self.ahead.contains_key(&chunk.0)
    }

    /// How many chunks are still missing.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.chunks - self.merged - self.ahead.len() as u64
    }

    /// The file's hash; `None` while chunks are missing.
    #[must_use]
    pub fn finish(mut self) -> Option<FileHash> {
        if self.merged < self.chunks {
            return None;
        }
        let Some(mut right) = self.stack.pop() else {
            return Some(FileHash(*blake3::hash(&[]).as_bytes()));
        };
        while let Some(left) = self.stack.pop() {
            right = if self.stack.is_empty() {
                *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()
            } else {
                merge_subtrees_non_root(&left, &right, Mode::Hash)
            };
        }
        Some(FileHash(right))
    }

    fn next_ahead(&mut self) -> Option<[u8; 32]> {
        let entry = self.ahead.first_entry()?;
        (u64::from(*entry.key()) == self.merged).then(|| entry.remove())
    }

    fn push(&mut self, node: [u8; 32]) {
        // A chunk follows the merged ones, so whatever was left unmerged is not the top.
        while self.stack.len() > popcount(self.merged) {
            let (Some(right), Some(left)) = (self.stack.pop(), self.stack.pop()) else { break };
            self.stack.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
        self.stack.push(node);
        self.merged += 1;
        debug_assert!(self.stack.len() > popcount(self.merged - 1));
    }
}

fn popcount(value: u64) -> usize {
    usize::try_from(value.count_ones()).unwrap_or(usize::MAX)
}
