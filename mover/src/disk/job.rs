//! One read or write of up to a chunk, carried on until it is complete.
//!
//! The kernel may do less than it was asked to. What is left to do after each answer is decided
//! here, once for all ways to ask.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use fastsst_proto::PageMask;
use fastsst_proto::limits::PAGE_BYTES;

use crate::disk::file::{OpenFile, whole_blocks};
use crate::pool::{BUFFER_ALIGN, BUFFER_BYTES, PoolBuf};

/// Something to read or write. `tag` comes back with the completion.
#[derive(Debug)]
pub struct IoJob<T> {
    op: Op,
    file: Arc<OpenFile>,
    offset: u64,
    len: usize,
    pages: PageMask,
    buf: PoolBuf,
    tag: T,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Read,
    Write,
}

impl<T> IoJob<T> {
    /// Reads `len` bytes at `offset` into `buf`, fewer only at the end of the file.
    ///
    /// # Panics
    /// `len` does not fit a buffer or `offset` is not a whole number of blocks: a bug of the
    /// caller.
    #[must_use]
    pub fn read(file: Arc<OpenFile>, offset: u64, len: usize, buf: PoolBuf, tag: T) -> Self {
        check(offset, len);
        Self { op: Op::Read, file, offset, len, pages: PageMask(u64::MAX), buf, tag }
    }

    /// Writes the valid bytes of `buf` at `offset`.
    ///
    /// When they are not a whole number of blocks and the file is direct, zeros follow up to the
    /// next block; the owner sets the file's length in the end.
    ///
    /// # Panics
    /// `offset` is not a whole number of blocks: a bug of the caller.
    #[must_use]
    pub fn write(file: Arc<OpenFile>, offset: u64, buf: PoolBuf, tag: T) -> Self {
        let len = buf.len();
        check(offset, len);
        Self { op: Op::Write, file, offset, len, pages: PageMask(u64::MAX), buf, tag }
    }

    /// Restricts a write to these pages of the buffer; what lies between stays as it is in the
    /// file. Pages beyond the valid bytes do not count.
    ///
    /// # Panics
    /// The job is a read: a bug of the caller.
    #[must_use]
    pub fn only(mut self, pages: PageMask) -> Self {
        assert!(self.op == Op::Write, "a read is of all pages");
        self.pages = pages;
        self
    }
}

/// A job that is finished, well or not.
#[derive(Debug)]
pub struct IoDone<T> {
    /// The buffer; after a read its valid bytes are what was read.
    pub buf: PoolBuf,
    /// As submitted.
    pub tag: T,
    /// Bytes read, which are fewer than wanted only at the end of the file; or the valid bytes
    /// of the buffer that was written, pages left out included.
    pub result: io::Result<usize>,
}

/// Reads in the calling thread; otherwise as [`IoJob::read`]. The valid bytes of `buf` are set.
///
/// For small files: one system call and no thread between.
///
/// # Errors
/// What the kernel says.
///
/// # Panics
/// As [`IoJob::read`].
pub fn read_now(
    file: &Arc<OpenFile>,
    offset: u64,
    len: usize,
    buf: PoolBuf,
) -> (PoolBuf, io::Result<usize>) {
    let done = run(Work::new(IoJob::read(Arc::clone(file), offset, len, buf, ())));
    (done.buf, done.result)
}

/// Writes in the calling thread; otherwise as [`IoJob::write`].
///
/// # Errors
/// What the kernel says.
///
/// # Panics
/// As [`IoJob::write`].
pub fn write_now(file: &Arc<OpenFile>, offset: u64, buf: PoolBuf) -> (PoolBuf, io::Result<usize>) {
    let done = run(Work::new(IoJob::write(Arc::clone(file), offset, buf, ())));
    (done.buf, done.result)
}

/// Does a whole job with blocking calls.
pub(super) fn run<T>(mut work: Work<T>) -> IoDone<T> {
    while let Some(step) = work.step() {
        let job = &mut work.job;
        let offset = job.offset + step.at as u64;
        let range = step.at..step.at + step.len;
        let result = match job.op {
            Op::Read => job.file.file().read_at(&mut job.buf.as_mut_slice()[range], offset),
            Op::Write => job.file.file().write_at(&job.buf.as_slice()[range], offset),
        };
        work.answer(result);
    }
    work.finish()
}

/// A job and how far it is.
#[derive(Debug)]
pub(super) struct Work<T> {
    job: IoJob<T>,
    /// Whether requests are made in whole blocks.
    direct: bool,
    /// What is to be asked for next; empty between two runs of pages. In bytes of the buffer.
    rest: std::ops::Range<usize>,
    /// Pages that are not covered by `rest` or done.
    pages: PageMask,
    outcome: Option<io::Result<usize>>,
}

/// One request to the kernel: bytes of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) at: usize,
    pub(super) len: usize,
}

impl<T> Work<T> {
    pub(super) fn new(mut job: IoJob<T>) -> Self {
        let direct = job.file.is_direct();
        let pages = job.pages & PageMask::first(page_count(job.len));
        if job.op == Op::Write && direct {
            let len = job.len;
            job.buf.as_mut_slice()[len..whole_blocks(len)].fill(0);
        }
        let mut work = Self { job, direct, rest: 0..0, pages, outcome: None };
        work.next_run();
        work
    }

    /// The next request; `None` when the job is finished.
    pub(super) fn step(&self) -> Option<Step> {
        self.outcome.is_none().then(|| Step { at: self.rest.start, len: self.rest.len() })
    }

    /// Takes the kernel's answer to the last [`Work::step`].
    pub(super) fn answer(&mut self, result: io::Result<usize>) {
        match result {
            Ok(bytes) => self.advance(bytes),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Well aligned and still invalid: this file system takes O_DIRECT only when opening.
            Err(error) if self.direct && error.kind() == io::ErrorKind::InvalidInput => {
                match self.job.file.make_buffered() {
                    Ok(()) => self.direct = false,
                    Err(refused) => self.outcome = Some(Err(refused)),
                }
            }
            Err(error) => self.outcome = Some(Err(error)),
        }
    }

    /// The completion. To be called once [`Work::step`] is `None`.
    pub(super) fn finish(self) -> IoDone<T> {
        let IoJob { op, file, offset, len, mut buf, tag, .. } = self.job;
        let result = self.outcome.unwrap_or_else(|| Err(io::Error::other("the job was given up")));
        if op == Op::Read {
            buf.set_len(*result.as_ref().unwrap_or(&0));
            file.drop_cache(offset, whole_blocks(len) as u64);
        }
        IoDone { buf, tag, result }
    }

    fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.rest.len(), "the kernel did more than it was asked to");
        let reached = self.rest.start + bytes;
        match self.job.op {
            Op::Read if reached >= self.job.len => self.outcome = Some(Ok(self.job.len)),
            // Less than a block only comes from the end of the file.
            Op::Read if bytes == 0 || (self.direct && !bytes.is_multiple_of(BUFFER_ALIGN)) => {
                self.outcome = Some(Ok(reached));
            }
            Op::Read => self.rest.start = reached,
            Op::Write if reached == self.rest.end => self.next_run(),
            Op::Write => {
                let whole = if self.direct { bytes - bytes % BUFFER_ALIGN } else { bytes };
                if whole == 0 {
                    self.outcome = Some(Err(io::ErrorKind::WriteZero.into()));
                }
                self.rest.start += whole;
            }
        }
    }

    /// Goes on with the next run of pages, or ends the job.
    fn next_run(&mut self) {
        if self.pages.is_empty() {
            self.outcome = Some(Ok(self.job.len));
            return;
        }
        let first = self.pages.0.trailing_zeros();
        let count = (self.pages.0 >> first).trailing_ones();
        self.pages = self.pages & !PageMask::first(first + count);
        let start = first as usize * PAGE_BYTES;
        let end = (start + count as usize * PAGE_BYTES).min(self.job.len);
        self.rest = start..if self.direct { whole_blocks(end) } else { end };
    }
}

/// What only the ring needs to see.
impl<T> Work<T> {
    pub(super) fn file(&self) -> &OpenFile {
        &self.job.file
    }

    pub(super) fn is_read(&self) -> bool {
        self.job.op == Op::Read
    }

    pub(super) fn offset(&self) -> u64 {
        self.job.offset
    }

    pub(super) fn buf(&self) -> &PoolBuf {
        &self.job.buf
    }

    pub(super) fn memory(&mut self) -> &mut [u8] {
        self.job.buf.as_mut_slice()
    }
}

fn check(offset: u64, len: usize) {
    assert!(len <= BUFFER_BYTES, "{len} bytes do not fit a buffer");
    assert!(offset.is_multiple_of(BUFFER_ALIGN as u64), "offset {offset} is not a block's");
}

fn page_count(len: usize) -> u32 {
    u32::try_from(len.div_ceil(PAGE_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use fastsst_proto::path::RelPath;

    use super::*;
    use crate::disk::FileMode;
    use crate::pool::Pool;
    use crate::tree::Dir;

    struct Desk {
        _tree: tempfile::TempDir,
        file: Arc<OpenFile>,
        pool: Pool,
    }

    impl Desk {
        fn new(mode: FileMode) -> Self {
            let tree = tempfile::tempdir().unwrap();
            let dir = Dir::open_target(tree.path()).unwrap();
            let file = dir.create_file(&RelPath::parse(b"f").unwrap(), mode).unwrap();
            Self { _tree: tree, file: Arc::new(file), pool: Pool::new(1) }
        }

        fn read(&self, len: usize) -> Work<()> {
            let buf = self.pool.acquire().unwrap();
            Work::new(IoJob::read(Arc::clone(&self.file), 0, len, buf, ()))
        }

        fn write(&self, len: usize, pages: u64) -> Work<()> {
            let mut buf = self.pool.acquire().unwrap();
            buf.as_mut_slice().fill(b'x');
            buf.set_len(len);
            let job = IoJob::write(Arc::clone(&self.file), 0, buf, ());
            Work::new(job.only(PageMask(pages)))
        }
    }

    fn step(at: usize, len: usize) -> Option<Step> {
        Some(Step { at, len })
    }

    #[test]
    fn a_direct_read_asks_for_whole_blocks_and_ends_with_a_broken_one() {
        let desk = Desk::new(FileMode::Direct);
        if !desk.file.is_direct() {
            return;
        }
        let mut work = desk.read(10_000);
        assert_eq!(work.step(), step(0, 12_288));
        work.answer(Ok(4096));
        assert_eq!(work.step(), step(4096, 8192));
        work.answer(Ok(100));
        assert_eq!(work.step(), None);
        let done = work.finish();
        assert_eq!((done.result.unwrap(), done.buf.len()), (4196, 4196));
        drop(done.buf);

        let mut work = desk.read(10_000);
        work.answer(Ok(12_288));
        assert_eq!(work.finish().result.unwrap(), 10_000, "what the file has grown is cut off");
    }

    #[test]
    fn a_buffered_read_goes_on_until_nothing_comes() {
        let desk = Desk::new(FileMode::Buffered);
        let mut work = desk.read(10_000);
        assert_eq!(work.step(), step(0, 10_000));
        work.answer(Ok(100));
        assert_eq!(work.step(), step(100, 9900));
        work.answer(Err(io::ErrorKind::Interrupted.into()));
        assert_eq!(work.step(), step(100, 9900));
        work.answer(Ok(0));
        assert_eq!(work.finish().result.unwrap(), 100);
    }

    #[test]
    fn a_direct_write_pads_with_zeros_and_repeats_a_broken_block() {
        let desk = Desk::new(FileMode::Direct);
        if !desk.file.is_direct() {
            return;
        }
        let mut work = desk.write(10_000, u64::MAX);
        assert!(work.memory()[10_000..12_288].iter().all(|byte| *byte == 0));
        assert_eq!(work.memory()[12_288], b'x');
        assert_eq!(work.step(), step(0, 12_288));
        work.answer(Ok(5000));
        assert_eq!(work.step(), step(4096, 8192));
        work.answer(Ok(8192));
        assert_eq!(work.finish().result.unwrap(), 10_000);
    }

    #[test]
    fn runs_of_pages_are_written_one_after_the_other() {
        let desk = Desk::new(FileMode::Buffered);
        let mut work = desk.write(5 * PAGE_BYTES + 10, 0b11_0110);
        assert_eq!(work.step(), step(PAGE_BYTES, 2 * PAGE_BYTES));
        work.answer(Ok(2 * PAGE_BYTES));
        assert_eq!(work.step(), step(4 * PAGE_BYTES, PAGE_BYTES + 10));
        work.answer(Ok(PAGE_BYTES + 10));
        assert_eq!(work.finish().result.unwrap(), 5 * PAGE_BYTES + 10);
        assert_eq!(desk.write(PAGE_BYTES, 0b10).step(), None, "no page of this buffer");
    }

    #[test]
    fn a_write_that_makes_no_progress_fails() {
        let desk = Desk::new(FileMode::Buffered);
        let mut work = desk.write(10, u64::MAX);
        work.answer(Ok(0));
        assert_eq!(work.step(), None);
        assert_eq!(work.finish().result.unwrap_err().kind(), io::ErrorKind::WriteZero);
    }

    #[test]
    fn a_file_that_refuses_direct_requests_goes_on_buffered() {
        let desk = Desk::new(FileMode::Direct);
        if !desk.file.is_direct() {
            return;
        }
        let mut work = desk.write(10_000, u64::MAX);
        work.answer(Err(io::ErrorKind::InvalidInput.into()));
        assert!(!desk.file.is_direct());
        assert_eq!(work.step(), step(0, 12_288), "the padding does no harm");
        work.answer(Err(io::ErrorKind::InvalidInput.into()));
        assert!(work.finish().result.is_err(), "once");
    }
}
