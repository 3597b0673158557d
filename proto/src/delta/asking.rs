//! What the donor has asked the joiner about, and which of it is answered.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use crate::error::ProtocolError;
use crate::frame::{Asked, FileRef, Have};
use crate::limits::UNDECIDED_MAX;
use crate::types::{FileId, Generation, chunk_count};

/// Files that were asked about and of which more may be heard.
///
/// Every answer is checked here: it comes from a proven joiner, but what it says decides what is
/// not sent.
#[derive(Debug, Default)]
pub struct Asking {
    files: BTreeMap<FileId, Open>,
    /// Chunks and files that were described and not decided.
    undecided: usize,
}

#[derive(Debug)]
struct Open {
    generation: Generation,
    /// Unit: chunks.
    chunks: u64,
    /// Chunks that were described: bit by bit. Empty until the first is.
    described: Vec<u64>,
}

/// Chunks of a file that are to be sent whole, as the joiner knows nothing of them.
pub type Whole = Vec<Range<u64>>;

impl Asking {
    /// Nothing asked.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether everything is answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// A question goes out about a file of `size` bytes.
    pub fn ask(&mut self, asked: &Asked, size: u64) {
        let Asked { file, generation, .. } = *asked;
        let open = Open { generation, chunks: chunk_count(size), described: Vec::new() };
        self.files.insert(file, open);
    }

    /// The file is to be sent whole, or may be elsewhere: the question is answered.
    ///
    /// Errors: nobody asked, or it was described in part.
    pub fn answered(&mut self, file: FileRef) -> Result<(), ProtocolError> {
        let open = self.open(file)?;
        if !open.described.is_empty() {
            let what = "a file that was described in part has no other answer";
            return Err(ProtocolError::Inconsistent { what });
        }
        self.files.remove(&file.0);
        Ok(())
    }

    /// A file is described by its hash: the question is answered, and the file undecided.
    ///
    /// Errors: as [`Asking::answered`]; more is undecided than may be.
    pub fn have_file(&mut self, file: FileRef) -> Result<(), ProtocolError> {
        self.answered(file)?;
        self.add(1)
    }

    /// Chunks are described, and undecided.
    ///
    /// Errors: nobody asked; a chunk beyond the end of the file, or for the second time; more is
    /// undecided than may be.
    pub fn have(&mut self, have: &Have) -> Result<(), ProtocolError> {
        let open = self.open((have.file, have.generation))?;
        let first = u64::from(have.first_chunk.0);
        let end = first + have.chunks.len() as u64;
        if end > open.chunks {
            let what = "a description of a chunk beyond the end of its file";
            return Err(ProtocolError::Inconsistent { what });
        }
        if open.described.is_empty() {
            open.described = vec![0; usize::try_from(open.chunks.div_ceil(64)).unwrap_or(0)];
        }
        for chunk in first..end {
            let (word, bit) = place(chunk);
            match open.described.get_mut(word) {
                Some(word) if *word & bit == 0 => *word |= bit,
                Some(_) | None => {
                    let what = "a chunk was described twice";
                    return Err(ProtocolError::Inconsistent { what });
                }
            }
        }
        self.add(have.chunks.len())
    }

    /// No more is known of a file: the chunks that were not described.
    ///
    /// Errors: nobody asked.
    pub fn end(&mut self, file: FileRef) -> Result<Whole, ProtocolError> {
        let whole = self.open(file)?.undescribed();
        self.files.remove(&file.0);
        Ok(whole)
    }

    /// So many described chunks and files are decided.
    pub fn decided(&mut self, count: usize) {
        self.undecided = self.undecided.saturating_sub(count);
    }

    fn add(&mut self, count: usize) -> Result<(), ProtocolError> {
        self.undecided += count;
        if self.undecided > UNDECIDED_MAX {
            return Err(ProtocolError::Limit {
                what: "chunks described and not decided",
                limit: UNDECIDED_MAX as u64,
                value: self.undecided as u64,
            });
        }
        Ok(())
    }

    fn open(&mut self, (file, generation): FileRef) -> Result<&mut Open, ProtocolError> {
        let open = self.files.get_mut(&file).filter(|open| open.generation == generation);
        let what = "an answer about a file that nobody asked for";
        open.ok_or(ProtocolError::Inconsistent { what })
    }
}

impl Open {
    fn undescribed(&self) -> Whole {
        let mut ranges = Whole::new();
        for chunk in 0..self.chunks {
            let (word, bit) = place(chunk);
            if self.described.get(word).is_some_and(|word| word & bit != 0) {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if last.end == chunk => last.end += 1,
                _ => ranges.push(chunk..chunk + 1),
            }
        }
        ranges
    }
}

/// Where the bit of a chunk is.
fn place(chunk: u64) -> (usize, u64) {
    (usize::try_from(chunk / 64).unwrap_or(usize::MAX), 1 << (chunk % 64))
}
