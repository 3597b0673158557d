//! What the joiner's stale copy holds, chunk by chunk. Only when DELTA is in force; see also
//! [`super::compare`].

use alloc::vec::Vec;

use crate::chunk::read_generation;
use crate::codec::{Reader, put_count, put_u16, put_u32};
use crate::error::WireError;
use crate::hash::ChunkHash;
use crate::limits::{FILE_BYTES_MAX, HAVE_CHUNKS_PER_FRAME_MAX, PAGES_PER_CHUNK};
use crate::types::{ChunkIndex, FileId, Generation};

const HAVE_CHUNK_BYTES: usize = 32 + 8 * PAGES_PER_CHUNK;

/// Consecutive chunks of one stale file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Have {
    /// The file as declared by the donor.
    pub file: FileId,
    /// The generation the joiner compared with.
    pub generation: Generation,
    /// Number of the first chunk described.
    pub first_chunk: ChunkIndex,
    /// The chunks.
    pub chunks: Vec<HaveChunk>,
}

/// One chunk of a stale file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaveChunk {
    /// Its hash, as if the file had the declared size.
    pub hash: ChunkHash,
    /// What [`crate::hash::PageKey`] makes of each page; zeros beyond the end of the file.
    pub pages: [[u8; 8]; PAGES_PER_CHUNK],
}

impl Have {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_u32(out, self.file.0);
        put_u16(out, self.generation.0);
        put_u32(out, self.first_chunk.0);
        put_count(out, self.chunks.len(), HAVE_CHUNKS_PER_FRAME_MAX);
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.hash.0);
            out.extend_from_slice(chunk.pages.as_flattened());
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let file = FileId(reader.u32()?);
        let generation = read_generation(reader)?;
        let first_chunk = ChunkIndex(reader.u32()?);
        let count = reader.count("chunks", HAVE_CHUNKS_PER_FRAME_MAX, HAVE_CHUNK_BYTES)?;
        let end = u64::from(first_chunk.0).saturating_add(count as u64);
        if end > crate::types::chunk_count(FILE_BYTES_MAX) {
            return Err(WireError::BadValue { what: "chunk number" });
        }
        let mut chunks = Vec::with_capacity(count);
        for _ in 0..count {
            let hash = ChunkHash(reader.array()?);
            let mut pages = [[0; 8]; PAGES_PER_CHUNK];
            for page in &mut pages {
                *page = reader.array()?;
            }
            chunks.push(HaveChunk { hash, pages });
        }
        Ok(Self { file, generation, first_chunk, chunks })
    }
}
