//! One open file: direct if its file system can, with what staging needs to build it.
//!
//! A direct file is read and written in whole blocks of [`BUFFER_ALIGN`] bytes. Reading, the last
//! block comes back short. Writing, the last block is padded with zeros and the file is cut to its
//! true length by [`OpenFile::set_len`] when it is complete.

use std::fs::File;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, FallocateFlags, OFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};

use crate::error::{Error, Result};
use crate::pool::BUFFER_ALIGN;
use crate::tree::{Meta, Stat};

/// Source: `include/uapi/linux/fs.h`, since Linux 6.14.
const RWF_DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// How files are to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileMode {
    /// Past the page cache, where the file system can do that.
    Direct,
    /// Through the page cache, dropping what was read.
    Buffered,
}

/// Zeros written in one go. Unit: bytes.
const ZEROS_BYTES: usize = 16 << 10;

/// What becomes of the room of a range that is cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// It stays reserved.
    Kept,
    /// It is given back: the range becomes a hole.
    Freed,
}

/// An open regular file.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    /// Cleared when the file system turns out to refuse direct I/O after all.
    direct: AtomicBool,
    /// For messages.
    place: String,
}

impl OpenFile {
    /// Takes over a descriptor of a regular file opened with `O_NONBLOCK` or without, and makes
    /// it direct if `mode` asks for it and the file system agrees.
    ///
    /// `O_DIRECT` is set on the open descriptor, because `open` with `O_CREAT | O_DIRECT` leaves a
    /// file behind when it fails with `EINVAL`.
    pub(crate) fn new(fd: OwnedFd, mode: FileMode, place: String) -> io::Result<Self> {
        let direct = match mode {
            FileMode::Direct => make_direct(&fd, &place)?,
            FileMode::Buffered => {
                rustix::fs::fcntl_setfl(&fd, OFlags::empty())?;
                false
            }
        };
        if !direct {
            // Advice only: a file system that does not take it reads all the same.
            let _advised = rustix::fs::fadvise(&fd, 0, None, Advice::Sequential);
        }
        Ok(Self { file: File::from(fd), direct: AtomicBool::new(direct), place })
    }

    /// Whether the file is read and written past the page cache, in whole blocks.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Acquire)
    }

    /// The file's path, for messages.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What the file is now.
    ///
    /// # Errors
    /// E08: the file cannot be examined.
    pub fn stat(&self) -> Result<Stat> {
        Stat::of(&self.file).map_err(|error| Error::read(&self.place, error))
    }

    /// Reserves room for `size` bytes; does nothing where the file system cannot.
    ///
    /// # Errors
    /// E07 when there is no room, E09 otherwise.
    pub fn preallocate(&self, size: u64) -> Result<()> {
        if size == 0 {
            return Ok(());
        }
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, size) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::write(&self.place, error.into())),
            }
        }
    }

    /// Writes all content of a new file in the calling thread: the first `len` bytes of `room`,
    /// which is aligned and has space up to the next whole block. Nothing is written after that.
    ///
    /// What is no whole number of blocks goes, as the only thing, through the page cache, which
    /// is told to forget it: writing a whole block and cutting it makes the kernel read that block
    /// again, and takes half as long again (measured on ext4).
    pub(crate) fn write_whole(&self, room: &mut [u8], len: usize) -> io::Result<()> {
        let whole = whole_blocks(len);
        if !self.is_direct() {
            return self.file.write_all_at(&room[..len], 0);
        }
        if whole != len && self.write_uncached(&room[..len])? {
            return Ok(());
        }
        room[len..whole].fill(0);
        match self.file.write_all_at(&room[..whole], 0) {
            Ok(()) if whole == len => Ok(()),
            Ok(()) => self.file.set_len(len as u64),
            // Well aligned and still invalid: this file system takes O_DIRECT only when opening.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.make_buffered()?;
                self.file.write_all_at(&room[..len], 0)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes past the page cache without the rules of direct I/O; false where the kernel (before
    /// Linux 6.14) or the file system cannot.
    fn write_uncached(&self, content: &[u8]) -> io::Result<bool> {
        static REFUSED: AtomicBool = AtomicBool::new(false);
        if REFUSED.load(Ordering::Relaxed) {
            return Ok(false);
        }
        rustix::fs::fcntl_setfl(&self.file, OFlags::empty())?;
        let piece = [IoSlice::new(content)];
        let write = || rustix::io::pwritev2(&self.file, &piece, 0, RWF_DONTCACHE);
        match rustix::io::retry_on_intr(write) {
            // The rest, if there is any: the kernel may do less than it was asked to.
            Ok(written) => {
                self.file.write_all_at(&content[written..], written as u64)?;
                Ok(true)
            }
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                REFUSED.store(true, Ordering::Relaxed);
                rustix::fs::fcntl_setfl(&self.file, OFlags::DIRECT)?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a range read as zeros, whatever was there.
    pub(crate) fn clear(&self, offset: u64, len: u64, room: Room) -> io::Result<()> {
        let best = match room {
            Room::Kept => FallocateFlags::ZERO_RANGE,
            Room::Freed => FallocateFlags::PUNCH_HOLE,
        };
        for flags in [best, FallocateFlags::PUNCH_HOLE] {
            let clear = || {
                rustix::fs::fallocate(&self.file, flags | FallocateFlags::KEEP_SIZE, offset, len)
            };
            match rustix::io::retry_on_intr(clear) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.write_zeros(offset, len)
    }

    /// For file systems that can do nothing better; ranges are whole blocks but at the end.
    fn write_zeros(&self, offset: u64, len: u64) -> io::Result<()> {
        let zeros = [0; ZEROS_BYTES];
        self.make_buffered()?;
        let mut done = 0;
        while done < len {
            let piece = usize::try_from(len - done).unwrap_or(ZEROS_BYTES).min(ZEROS_BYTES);
            self.file.write_all_at(&zeros[..piece], offset + done)?;
            done += piece as u64;
        }
        Ok(())
    }

    /// Cuts or extends the file to `size` bytes.
    ///
    /// # Errors
    /// E09.
    pub fn set_len(&self, size: u64) -> Result<()> {
        self.file.set_len(size).map_err(|error| Error::write(&self.place, error))
    }

    /// Sets owner, permissions and modification time, in this order: a change of owner clears
    /// the set-user-id bit, and every later write would change the time.
    ///
    /// # Errors
    /// E03 when that is not permitted, E09 otherwise.
    pub fn set_meta(&self, meta: &Meta) -> Result<()> {
        meta.apply(self.file.as_fd()).map_err(|error| Error::write(&self.place, error))
    }

    /// Makes content and metadata durable.
    ///
    /// # Errors
    /// E07 or E09. The file must be given up then: the kernel has dropped what it could not write.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| Error::write(&self.place, error))
    }

    /// Forgets the page cache of a range of a buffered file. Best effort.
    pub fn drop_cache(&self, offset: u64, len: u64) {
        if self.is_direct() {
            return;
        }
        if let Some(len) = NonZeroU64::new(len) {
            let _advised = rustix::fs::fadvise(&self.file, offset, Some(len), Advice::DontNeed);
        }
    }

    /// Which parts of the file are data, for a file that has holes.
    #[must_use]
    pub fn extents(&self) -> Extents<'_> {
        Extents { file: self, hole: 0..0, data: 0..0 }
    }

    /// Gives up direct I/O on this file after the kernel refused a well-aligned request.
    pub(super) fn make_buffered(&self) -> io::Result<()> {
        rustix::fs::fcntl_setfl(&self.file, OFlags::empty())?;
        self.direct.store(false, Ordering::Release);
        report_buffered(&self.place);
        Ok(())
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Tells holes from data with `SEEK_DATA` and `SEEK_HOLE`, one or two calls per extent.
///
/// A file system that does not know its holes reports none, which only costs time.
#[derive(Debug)]
pub struct Extents<'a> {
    file: &'a OpenFile,
    /// Known to be a hole.
    hole: std::ops::Range<u64>,
    /// Known to be data.
    data: std::ops::Range<u64>,
}

impl Extents<'_> {
    /// Whether `len` bytes from `offset` hold nothing but a hole, so that they read as zeros.
    ///
    /// The part of the range beyond the end of the file counts as a hole.
    ///
    /// # Errors
    /// E08.
    pub fn is_hole(&mut self, offset: u64, len: u64) -> Result<bool> {
        if self.data.contains(&offset) {
            return Ok(false);
        }
        if !self.hole.contains(&offset) {
            self.look_at(offset).map_err(|error| Error::read(&self.file.place, error))?;
        }
        Ok(self.hole.contains(&offset) && offset.saturating_add(len) <= self.hole.end)
    }

    fn look_at(&mut self, offset: u64) -> io::Result<()> {
        match rustix::fs::seek(&self.file.file, SeekFrom::Data(offset)) {
            Ok(data) if data > offset => self.hole = offset..data,
            Err(Errno::NXIO) => self.hole = offset..u64::MAX,
            Ok(_) => {
                // Every file has a hole at its end, so this fails only where seeking does not
                // know holes; then the rest is data.
                let end = rustix::fs::seek(&self.file.file, SeekFrom::Hole(offset));
                self.data = offset..end.unwrap_or(u64::MAX);
            }
            Err(Errno::INVAL | Errno::OPNOTSUPP) => self.data = offset..u64::MAX,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// `len` rounded up to whole blocks. Unit: bytes.
pub(super) fn whole_blocks(len: usize) -> usize {
    len.next_multiple_of(BUFFER_ALIGN)
}

fn make_direct(fd: &OwnedFd, place: &str) -> io::Result<bool> {
    match rustix::fs::fcntl_setfl(fd, OFlags::DIRECT) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL) => {
            rustix::fs::fcntl_setfl(fd, OFlags::empty())?;
            report_buffered(place);
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Says once that a file system has no direct I/O; the consequence is speed, not correctness.
fn report_buffered(place: &str) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::info!("{place} is on a file system without direct I/O; using buffered I/O there");
    });
}
