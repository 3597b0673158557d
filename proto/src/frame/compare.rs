//! What the ends say to each other to find out what the joiner's stale copy is still good for.
//! Only when DELTA is in force; see also [`super::Have`].

use alloc::vec::Vec;

use crate::chunk::read_generation;
use crate::codec::{Reader, put_count, put_u16, put_u32};
use crate::error::WireError;
use crate::hash::FileHash;
use crate::limits::FILES_PER_FRAME_MAX;
use crate::types::{FileId, Generation};

const ASKED_BYTES: usize = 4 + 2 + 1 + 8;
const HAVE_FILE_BYTES: usize = 4 + 2 + 32;

/// One declaration of a file.
pub type FileRef = (FileId, Generation);

/// A declaration of a file, and the hash of what the stale copy holds of it.
pub type HaveFile = (FileId, Generation, FileHash);

/// A file the donor wants to know about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The file.
    pub file: FileId,
    /// As declared last.
    pub generation: Generation,
    /// What is wanted.
    pub how: How,
}

/// What a donor wants to know about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Whatever is the quickest: the hash of the file, its chunks, or that there is nothing.
    Any,
    /// Its chunks: the hash of the file was not the right one.
    Pages,
    /// Its chunks, if the stale copy has it by another name: what [`crate::hash::PageKey`] makes of
    /// its first page.
    Twin([u8; 8]),
    /// Nothing any more: the file is not what was declared. What was described of it is decided; if
    /// it was asked about, an answer is due all the same.
    Withdrawn,
}

pub(super) fn put_asked(out: &mut Vec<u8>, asked: &[Asked]) {
    put_count(out, asked.len(), FILES_PER_FRAME_MAX);
    for Asked { file, generation, how } in asked {
        put_u32(out, file.0);
        put_u16(out, generation.0);
        let (number, page) = match how {
            How::Any => (0, [0; 8]),
            How::Pages => (1, [0; 8]),
            How::Twin(page) => (2, *page),
            How::Withdrawn => (3, [0; 8]),
        };
        out.push(number);
        out.extend_from_slice(&page);
    }
}

pub(super) fn read_asked(reader: &mut Reader<'_>) -> Result<Vec<Asked>, WireError> {
    let count = reader.count("files", FILES_PER_FRAME_MAX, ASKED_BYTES)?;
    let mut asked = Vec::with_capacity(count);
    for _ in 0..count {
        let (file, generation) = (FileId(reader.u32()?), read_generation(reader)?);
        let how = match (reader.u8()?, reader.array()?) {
            (0, [0, 0, 0, 0, 0, 0, 0, 0]) => How::Any,
            (1, [0, 0, 0, 0, 0, 0, 0, 0]) => How::Pages,
            (2, page) => How::Twin(page),
            (3, [0, 0, 0, 0, 0, 0, 0, 0]) => How::Withdrawn,
            _ => return Err(WireError::BadValue { what: "question about a file" }),
        };
        asked.push(Asked { file, generation, how });
    }
    Ok(asked)
}

pub(super) fn put_have_files(out: &mut Vec<u8>, files: &[HaveFile]) {
    put_count(out, files.len(), FILES_PER_FRAME_MAX);
    for (file, generation, hash) in files {
        put_u32(out, file.0);
        put_u16(out, generation.0);
        out.extend_from_slice(&hash.0);
    }
}

pub(super) fn read_have_files(reader: &mut Reader<'_>) -> Result<Vec<HaveFile>, WireError> {
    let count = reader.count("files", FILES_PER_FRAME_MAX, HAVE_FILE_BYTES)?;
    let mut files = Vec::with_capacity(count);
    for _ in 0..count {
        let file = (FileId(reader.u32()?), read_generation(reader)?, FileHash(reader.array()?));
        files.push(file);
    }
    Ok(files)
}
