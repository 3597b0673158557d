//! What the joiner was asked about, and the work that its answers are.
//!
//! ```text
//!  ask ─▶ asking ─ Lacks ──────▶ the file is read and sent whole
//!                ├ HaveFiles ──▶ the file is read; its hash decides: same, whole, or ask for pages
//!                ├ Have ───────▶ described chunks are read and compared
//!                ├ HaveEnd ────▶ chunks that were not described are read and sent whole
//!                └ Seek ───────▶ its first page is read, and asked with
//! ```

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;

use fastsst_proto::delta::Asking;
use fastsst_proto::{
    Asked, ChunkRef, FileHash, FileId, FileRef, Have, HaveChunk, HaveFile, How, ProtocolError,
};

/// A file that was asked about, with its size.
pub(super) type SizedFile = (FileId, u64);

/// Everything that follows from questions. Part of the plan's state.
#[derive(Debug, Default)]
pub(super) struct Questions {
    asking: Asking,
    /// Sizes of the files that are asked about. Unit: bytes.
    sizes: HashMap<FileId, u64>,
    /// Chunks to compare.
    described: VecDeque<Have>,
    /// Chunks the joiner knows nothing about.
    ranges: VecDeque<(FileRef, Range<u64>)>,
    /// Files whose first page is wanted.
    sought: VecDeque<FileRef>,
    /// What the joiner says of files that are to be read and not sent as long as that is true.
    expected: HashMap<FileId, FileHash>,
    /// Files that turned out to be something else than was declared.
    withdrawn: HashSet<FileId>,
    /// Chunks on their way of which only some pages are sent, with what that relies on.
    partial: HashMap<ChunkRef, HaveChunk>,
}

impl Questions {
    /// A question about a file of `size` bytes goes out; its answer may come from now on.
    pub(super) fn ask(&mut self, asked: &Asked, size: u64) {
        self.asking.ask(asked, size);
        self.sizes.insert(asked.file, size);
    }

    /// As [`Questions::ask`], about a file that was asked about before.
    pub(super) fn ask_again(&mut self, (file, generation): FileRef, how: How) -> Asked {
        let asked = Asked { file, generation, how };
        let size = self.sizes.get(&file).copied().unwrap_or(0);
        self.ask(&asked, size);
        asked
    }

    /// Files the joiner lacks, with their sizes.
    pub(super) fn lacks(&mut self, files: &[FileRef]) -> Result<Vec<SizedFile>, ProtocolError> {
        let mut whole = Vec::with_capacity(files.len());
        for file in files {
            self.asking.answered(*file)?;
            whole.push((file.0, self.size_of(file.0)));
        }
        Ok(whole)
    }

    /// Files whose hashes the joiner has named, with their sizes: they are read.
    pub(super) fn have_files(
        &mut self,
        files: &[HaveFile],
    ) -> Result<Vec<SizedFile>, ProtocolError> {
        let mut read = Vec::with_capacity(files.len());
        for (file, generation, hash) in files {
            self.asking.have_file((*file, *generation))?;
            self.expected.insert(*file, *hash);
            read.push((*file, self.size_of(*file)));
        }
        Ok(read)
    }

    pub(super) fn have(&mut self, have: Have) -> Result<(), ProtocolError> {
        self.asking.have(&have)?;
        self.described.push_back(have);
        Ok(())
    }

    pub(super) fn have_end(&mut self, file: FileRef) -> Result<(), ProtocolError> {
        let whole = self.asking.end(file)?;
        self.ranges.extend(whole.into_iter().map(|range| (file, range)));
        Ok(())
    }

    pub(super) fn seek(&mut self, files: &[FileRef]) -> Result<(), ProtocolError> {
        for file in files {
            self.asking.answered(*file)?;
        }
        self.sought.extend(files);
        Ok(())
    }

    /// Described chunks that are to be compared next.
    pub(super) fn next_described(&mut self) -> Option<Have> {
        self.described.pop_front()
    }

    /// Chunks that are to be sent whole next.
    pub(super) fn next_range(&mut self) -> Option<(FileRef, Range<u64>)> {
        self.ranges.pop_front()
    }

    /// A file whose first page is wanted.
    pub(super) fn next_sought(&mut self) -> Option<FileRef> {
        self.sought.pop_front()
    }

    /// What the joiner says the hash of a file is; said once.
    pub(super) fn expected(&mut self, file: FileId) -> Option<FileHash> {
        self.expected.remove(&file)
    }

    /// A file is no longer what was declared, and nothing will be decided about it: what to tell the
    /// joiner, once.
    pub(super) fn withdraw(&mut self, (file, generation): FileRef) -> Option<Asked> {
        let how = How::Withdrawn;
        self.withdrawn.insert(file).then_some(Asked { file, generation, how })
    }

    /// So many described chunks and files have been decided.
    pub(super) fn decided(&mut self, count: usize) {
        self.asking.decided(count);
    }

    /// Whether nothing is asked, and no answer waits to be acted on.
    pub(super) fn is_settled(&self) -> bool {
        self.asking.is_empty()
            && self.described.is_empty()
            && self.ranges.is_empty()
            && self.sought.is_empty()
    }

    /// Only some pages of a chunk are sent.
    pub(super) fn sent_in_part(&mut self, at: ChunkRef, have: HaveChunk) {
        self.partial.insert(at, have);
    }

    /// What the joiner has of a chunk that is to be sent again.
    pub(super) fn known_of(&self, at: ChunkRef) -> Option<HaveChunk> {
        self.partial.get(&at).cloned()
    }

    /// The joiner holds these chunks, or has to get them whole.
    pub(super) fn forget(&mut self, chunks: &[ChunkRef]) {
        if !self.partial.is_empty() {
            for at in chunks {
                self.partial.remove(at);
            }
        }
    }

    fn size_of(&self, file: FileId) -> u64 {
        self.sizes.get(&file).copied().unwrap_or(0)
    }
}
