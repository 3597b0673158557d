//! The frames that are lists: a 32-bit count and the items.

use alloc::vec::Vec;

use crate::chunk::{CHUNK_REF_BYTES, put_chunk_ref, read_chunk_ref, read_generation};
use crate::codec::{Reader, put_count, put_u16, put_u32};
use crate::error::WireError;
use crate::limits::{
    ACKS_PER_FRAME_MAX, ENTRIES_PER_FRAME_MAX, FILES_PER_FRAME_MAX, SAME_CHUNKS_PER_FRAME_MAX,
};
use crate::manifest::{ENTRY_FIXED_BYTES, Entry};
use crate::types::{ChunkRef, FileId, Generation};

pub(super) fn put_entries(out: &mut Vec<u8>, entries: &[Entry]) {
    put_count(out, entries.len(), ENTRIES_PER_FRAME_MAX);
    for entry in entries {
        entry.encode(out);
    }
}

pub(super) fn read_entries(reader: &mut Reader<'_>) -> Result<Vec<Entry>, WireError> {
    let count = reader.count("entries", ENTRIES_PER_FRAME_MAX, ENTRY_FIXED_BYTES)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(Entry::decode(reader)?);
    }
    Ok(entries)
}

pub(super) fn put_gone(out: &mut Vec<u8>, files: &[FileId]) {
    put_count(out, files.len(), FILES_PER_FRAME_MAX);
    for file in files {
        put_u32(out, file.0);
    }
}

pub(super) fn read_gone(reader: &mut Reader<'_>) -> Result<Vec<FileId>, WireError> {
    let count = reader.count("files", FILES_PER_FRAME_MAX, 4)?;
    let mut files = Vec::with_capacity(count);
    for _ in 0..count {
        files.push(FileId(reader.u32()?));
    }
    Ok(files)
}

pub(super) fn put_files(out: &mut Vec<u8>, files: &[(FileId, Generation)]) {
    put_count(out, files.len(), FILES_PER_FRAME_MAX);
    for (file, generation) in files {
        put_u32(out, file.0);
        put_u16(out, generation.0);
    }
}

pub(super) fn read_files(reader: &mut Reader<'_>) -> Result<Vec<(FileId, Generation)>, WireError> {
    let count = reader.count("files", FILES_PER_FRAME_MAX, 6)?;
    let mut files = Vec::with_capacity(count);
    for _ in 0..count {
        files.push((FileId(reader.u32()?), read_generation(reader)?));
    }
    Ok(files)
}

pub(super) fn put_acks(out: &mut Vec<u8>, chunks: &[ChunkRef]) {
    put_chunks(out, chunks, ACKS_PER_FRAME_MAX);
}

pub(super) fn read_acks(reader: &mut Reader<'_>) -> Result<Vec<ChunkRef>, WireError> {
    read_chunks(reader, ACKS_PER_FRAME_MAX)
}

pub(super) fn put_same(out: &mut Vec<u8>, chunks: &[ChunkRef]) {
    put_chunks(out, chunks, SAME_CHUNKS_PER_FRAME_MAX);
}

pub(super) fn read_same(reader: &mut Reader<'_>) -> Result<Vec<ChunkRef>, WireError> {
    read_chunks(reader, SAME_CHUNKS_PER_FRAME_MAX)
}

fn put_chunks(out: &mut Vec<u8>, chunks: &[ChunkRef], max: usize) {
    put_count(out, chunks.len(), max);
    for chunk in chunks {
        put_chunk_ref(out, chunk);
    }
}

fn read_chunks(reader: &mut Reader<'_>, max: usize) -> Result<Vec<ChunkRef>, WireError> {
    let count = reader.count("chunks", max, CHUNK_REF_BYTES)?;
    let mut chunks = Vec::with_capacity(count);
    for _ in 0..count {
        chunks.push(read_chunk_ref(reader)?);
    }
    Ok(chunks)
}
