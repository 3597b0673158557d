//! Pieces of files, and moving one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::tree::{Listed, Target};

/// One read, one write.
const PIECE_BYTES: usize = 1 << 20;

/// What one thread takes at once of a large file.
const EXTENT_BYTES: u64 = 16 << 20;

/// Direct reads and writes begin and end at multiples of this.
const ALIGNMENT: usize = 4096;

/// A range of a file that one thread copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Index of the file.
    pub(super) file: usize,
    start: u64,
    end: u64,
}

/// The data of all files in pieces for threads, the largest files first. A file without data has
/// one empty piece, so that somebody creates it.
pub(super) fn divide(files: &[Listed]) -> Vec<Extent> {
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by_key(|file| std::cmp::Reverse(files[*file].data_bytes()));
    let mut work = Vec::new();
    for file in order {
        let before = work.len();
        for range in &files[file].data {
            let mut start = range.start;
            while start < range.end {
                let end = (start + EXTENT_BYTES).min(range.end);
                work.push(Extent { file, start, end });
                start = end;
            }
        }
        if work.len() == before {
            work.push(Extent { file, start: 0, end: 0 });
        }
    }
    work
}

/// How many pieces [`divide`] makes of a file.
pub(super) fn count(file: &Listed) -> usize {
    let pieces = file.data.iter().map(|range| (range.end - range.start).div_ceil(EXTENT_BYTES));
    usize::try_from(pieces.sum::<u64>()).unwrap_or(usize::MAX).max(1)
}

impl Extent {
    /// Reads and writes it.
    pub(super) fn copy(self, from: &File, into: &Target, buffer: &mut Buffer) -> io::Result<()> {
        self.pieces(from, buffer, |piece, wanted, at| {
            let written = if into.direct { piece } else { &piece[..wanted] };
            into.file.write_all_at(written, at)
        })
    }

    /// Only reads it; says how many bytes of the file that were.
    pub(super) fn read(self, from: &File, buffer: &mut Buffer) -> io::Result<u64> {
        let mut bytes = 0;
        self.pieces(from, buffer, |_piece, wanted, _at| {
            bytes += wanted as u64;
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Reads it in whole blocks; `done` gets each piece, how much of it belongs to the file, and
    /// where that is.
    fn pieces(
        self,
        from: &File,
        buffer: &mut Buffer,
        mut done: impl FnMut(&[u8], usize, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut at = self.start;
        while at < self.end {
            let wanted =
                usize::try_from(self.end - at).map_or(PIECE_BYTES, |it| it.min(PIECE_BYTES));
            // The last block of a file is read and written whole, and cut off at the end.
            let whole = wanted.next_multiple_of(ALIGNMENT);
            let piece = &mut buffer.aligned()[..whole];
            let read = read_full(from, piece, at)?;
            if read < wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            done(piece, wanted, at)?;
            at += wanted as u64;
        }
        Ok(())
    }
}

/// As much as there is.
fn read_full(from: &File, piece: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < piece.len() {
        let more = from.read_at(&mut piece[read..], at + read as u64)?;
        read += more;
        // A direct read that ends between blocks has met the end of the file.
        if more == 0 || !read.is_multiple_of(ALIGNMENT) {
            break;
        }
    }
    Ok(read)
}

/// For direct reads where the file system has them.
pub(super) fn open_source(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    match options.clone().custom_flags(direct()).open(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => options.open(path),
        result => result,
    }
}

/// `O_DIRECT` as the standard library takes it.
pub(super) fn direct() -> i32 {
    OFlags::DIRECT.bits().cast_signed()
}

/// Memory that begins at a multiple of [`ALIGNMENT`].
#[derive(Debug)]
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    /// Room for one piece.
    pub(super) fn new() -> Self {
        Self(vec![0; PIECE_BYTES + ALIGNMENT])
    }

    fn aligned(&mut self) -> &mut [u8] {
        let skipped = self.0.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        &mut self.0[skipped..skipped + PIECE_BYTES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_first_and_nothing_left_out() {
        let files = [
            Listed::for_test(None),
            Listed::for_test(Some(0..(EXTENT_BYTES + 5))),
            Listed::for_test([0..3, 4096..4099]),
        ];
        let work = divide(&files);
        assert_eq!(work[0], Extent { file: 1, start: 0, end: EXTENT_BYTES });
        assert_eq!(work[1], Extent { file: 1, start: EXTENT_BYTES, end: EXTENT_BYTES + 5 });
        assert_eq!(work.last(), Some(&Extent { file: 0, start: 0, end: 0 }));
        for (index, file) in files.iter().enumerate() {
            assert_eq!(work.iter().filter(|it| it.file == index).count(), count(file));
        }
    }

    #[test]
    fn buffers_are_aligned() {
        assert_eq!(Buffer::new().aligned().as_ptr().align_offset(ALIGNMENT), 0);
    }
}
