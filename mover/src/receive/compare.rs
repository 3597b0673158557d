//! Stage *compare* of the joiner: reads the stale copy and tells the donor what is in it.
//!
//! ```text
//!  Compare ─▶ answer now: Lacks, Seek ──────────────────────────▶ orders
//!          └▶ jobs ─▶ read (O_DIRECT) ─▶ hash ─▶ Undecided ─▶ Have, HaveFiles, HaveEnd
//!                                                   ▲
//!  Same, SameFiles, chunks: the donor's decisions ──┘
//! ```
//!
//! Several threads each read, hash and describe a piece at a time; together they keep a disk busy.
//! They read ahead of the donor's decisions only so far ([`UNDECIDED_MAX`]), which bounds memory at
//! both ends.
//!
//! [`UNDECIDED_MAX`]: fastsst_proto::limits::UNDECIDED_MAX

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use fastsst_proto::delta::{Known, Undecided, describe};
use fastsst_proto::hash::{chunk_from_pages, page_hash, page_hashes};
use fastsst_proto::types::{chunk_count, chunk_len};
use fastsst_proto::{
    Asked, ChunkIndex, ChunkRef, FileHash, FileId, FileRef, Generation, Have, HaveChunk, HaveFile,
    How, PageKey,
};
use flume::Sender;

use super::LOOK;
use super::catalog::{Catalog, Item};
use super::control::{Answer, Order};
use super::worth::Worth;
use crate::cancel::Cancel;
use crate::disk::{OpenFile, read_now};
use crate::error::{Code, Error, Result};
use crate::pool::PoolBuf;
use crate::progress::Progress;
use crate::send::SMALL_BYTES_MAX;
use crate::staging::StagedFile;

/// How many threads. Why: eight reads of 1 MiB under way keep a fast disk busy.
pub(super) const THREADS: usize = 8;

/// Chunks that a thread describes in one go. Why: a frame of 9 KiB; and a large file is shared by
/// all threads.
const SEGMENT_CHUNKS: u64 = 16;

/// Small files that a thread describes in one go. Why: one frame for all of them.
const SMALL_FILES: usize = 64;

/// What all that compare share.
#[derive(Debug)]
pub(super) struct Comparison {
    catalog: Arc<Catalog>,
    orders: Sender<Order>,
    key: PageKey,
    progress: Arc<Progress>,
    pub(super) worth: Arc<Worth>,
    undecided: Mutex<Undecided>,
    /// Files the donor will not decide about, up to this generation; locked before `undecided`.
    withdrawn: Mutex<HashMap<FileId, Generation>>,
    /// Something was decided.
    room: Condvar,
    jobs: Mutex<Jobs>,
    /// There is a job, or none will come.
    work: Condvar,
    cancel: Cancel,
}

#[derive(Debug, Default)]
struct Jobs {
    /// No bound of its own: what the donor may ask about is bounded by the protocol.
    queue: VecDeque<Job>,
    /// Files that may be here by another name, until all of the donor's names are known.
    sought: Vec<FileRef>,
    /// Files sought by content of which the donor has not told the first page.
    seeking: HashSet<FileId>,
    is_manifest_complete: bool,
    closed: bool,
}

#[derive(Debug)]
enum Job {
    /// Small files: read, and named by their hashes.
    Small(Vec<Arc<Item>>),
    /// A file that the journal vouches for.
    Vouched(Arc<Item>, FileHash),
    /// Chunks of a larger file, which stays in the queue until it is its last ones' turn.
    Segment(Arc<Large>, Range<u64>),
}

/// A file that several threads read.
#[derive(Debug)]
struct Large {
    item: Arc<Item>,
    staged: Arc<StagedFile>,
    /// Unit: chunks.
    chunks: u64,
    /// Segments that are not described.
    left: AtomicU64,
}

impl Jobs {
    /// The next job; of a large file the next segment.
    fn take(&mut self) -> Option<Job> {
        let Some(Job::Segment(large, rest)) = self.queue.front_mut() else {
            return self.queue.pop_front();
        };
        let end = large.chunks.min(rest.start + SEGMENT_CHUNKS);
        let segment = Job::Segment(Arc::clone(large), rest.start..end);
        rest.start = end;
        if rest.is_empty() {
            self.queue.pop_front();
        }
        Some(segment)
    }
}

impl Comparison {
    pub(super) fn new(
        catalog: &Arc<Catalog>,
        orders: &Sender<Order>,
        key: PageKey,
        (progress, cancel): (&Arc<Progress>, &Cancel),
    ) -> Self {
        Self {
            catalog: Arc::clone(catalog),
            orders: orders.clone(),
            key,
            progress: Arc::clone(progress),
            worth: Arc::default(),
            undecided: Mutex::default(),
            withdrawn: Mutex::default(),
            room: Condvar::new(),
            jobs: Mutex::default(),
            work: Condvar::new(),
            cancel: cancel.clone(),
        }
    }

    /// The donor asks about files; those that need reading become jobs.
    ///
    /// # Errors
    /// It asks about what it has not declared; the conversation is over.
    pub(super) fn ask(&self, asked: &[Asked]) -> Result<()> {
        let (mut lacks, mut small) = (Vec::new(), Vec::new());
        let mut jobs = VecDeque::new();
        for Asked { file, generation, how } in asked {
            let reference = (*file, *generation);
            let item = self.catalog.exactly(reference).ok_or_else(|| {
                let what =
                    format!("the donor asks about entry {}, which it never declared", file.0);
                Error::new(Code::Protocol, what)
            })?;
            item.asked()?;
            let Some(staged) = item.staged.clone() else {
                let what = format!("the donor asks about {}, which is no file", item.entry.path);
                return Err(Error::new(Code::Protocol, what));
            };
            let basis = match how {
                How::Any => staged.basis().map(|basis| basis.vouched),
                How::Pages => {
                    self.decided_file(reference);
                    staged.basis().map(|_| None)
                }
                How::Twin(page) => {
                    self.found_page(*file)?;
                    self.adopt_twin(&staged, *page)?.then_some(None)
                }
                How::Withdrawn => {
                    self.withdraw(reference);
                    continue;
                }
            };
            let is_small = item.entry.size <= SMALL_BYTES_MAX;
            match basis {
                None if *how == How::Any && !is_small && self.has_twin(&item) => {
                    self.lock_jobs().sought.push(reference);
                }
                None => lacks.push(reference),
                Some(Some(hash)) => jobs.push_back(Job::Vouched(item, hash)),
                Some(None) if !is_small && !self.worth.is_worth_it() => lacks.push(reference),
                Some(None) if is_small && *how == How::Any => small.push(item),
                Some(None) => jobs.push_back(segments(item, staged)),
            }
        }
        jobs.extend(small.chunks(SMALL_FILES).map(|items| Job::Small(items.to_vec())));
        self.add(jobs);
        self.answer_unless_empty(lacks, Answer::Lacks)?;
        self.seek()
    }

    /// All names the donor has are known: what is sought may be searched for by content.
    ///
    /// # Errors
    /// The conversation is over.
    pub(super) fn manifest_is_complete(&self) -> Result<()> {
        self.lock_jobs().is_manifest_complete = true;
        self.seek()
    }

    /// Whether everything the donor has is known, and nothing is sought by content any more.
    pub(super) fn knows_all_names(&self) -> bool {
        let jobs = self.lock_jobs();
        jobs.is_manifest_complete && jobs.seeking.is_empty()
    }

    /// So much of a file stays as it is. Unit: bytes.
    pub(super) fn kept(&self, bytes: u64) {
        self.progress.add_kept(bytes);
    }

    /// The donor has decided about a chunk; what was known of it.
    pub(super) fn decided(&self, at: ChunkRef) -> Option<Known> {
        self.decide(|undecided| undecided.take(at))
    }

    /// The donor has decided about a file that was described by its hash.
    pub(super) fn decided_file(&self, file: FileRef) -> Option<FileHash> {
        self.decide(|undecided| undecided.take_file(file))
    }

    /// The donor will not decide about this file, in this and earlier generations: it has changed,
    /// was declared again, or is gone.
    pub(super) fn withdraw(&self, (file, generation): FileRef) {
        self.lock_jobs().seeking.remove(&file);
        let mut withdrawn = lock(&self.withdrawn);
        withdrawn.insert(file, generation);
        self.decide(|undecided| {
            undecided.forget(file);
            Some(())
        });
    }

    /// The donor has answered what was sought.
    fn found_page(&self, file: FileId) -> Result<()> {
        match self.lock_jobs().seeking.remove(&file) {
            true => Ok(()),
            false => {
                let what = "the donor names a first page that nobody sought";
                Err(Error::new(Code::Protocol, what))
            }
        }
    }

    /// No more jobs: the threads end, and leave undone what nobody waits for any more.
    pub(super) fn close(&self) {
        let mut jobs = self.lock_jobs();
        jobs.queue.clear();
        jobs.closed = true;
        drop(jobs);
        self.work.notify_all();
    }

    /// One of the threads; works until [`Comparison::close`]. `buf` is where it reads to.
    ///
    /// # Errors
    /// The stale copy cannot be read, or the transfer was cancelled.
    pub(super) fn work(&self, mut buf: PoolBuf) -> Result<()> {
        while let Some(job) = self.next()? {
            buf = match job {
                Job::Small(items) => self.describe_small(&items, buf)?,
                Job::Vouched(item, hash) => {
                    match self.describe_file(&item, hash)? {
                        true => self.answer(Answer::HaveFiles(vec![named(&item, hash)]))?,
                        false => self.answer(Answer::Lacks(vec![reference(&item)]))?,
                    }
                    buf
                }
                Job::Segment(large, range) => self.describe_segment(&large, range, buf)?,
            };
        }
        Ok(())
    }

    /// Small files are described by what they hash to.
    fn describe_small(&self, items: &[Arc<Item>], mut buf: PoolBuf) -> Result<PoolBuf> {
        let (mut named_files, mut lacks) = (Vec::new(), Vec::new());
        for item in items {
            let reference = reference(item);
            let len = usize::try_from(item.entry.size).unwrap_or(usize::MAX);
            let peeked = item.staged.as_ref().map(|staged| staged.peek()).transpose();
            let Ok(Some(Some(file))) = peeked else {
                lacks.push(reference);
                continue;
            };
            let (file, began) = (Arc::new(file), Instant::now());
            let (read, got) = read_now(&file, 0, len, buf);
            buf = read;
            self.worth.read(item.entry.size, began.elapsed());
            let is_whole = readable(&file, got) == Some(len);
            let hash = FileHash(*blake3::hash(buf.filled()).as_bytes());
            if is_whole && self.describe_file(item, hash)? {
                named_files.push(named(item, hash));
            } else {
                lacks.push(reference);
            }
        }
        self.answer_unless_empty(named_files, Answer::HaveFiles)?;
        self.answer_unless_empty(lacks, Answer::Lacks)?;
        Ok(buf)
    }

    fn describe_segment(
        &self,
        large: &Large,
        range: Range<u64>,
        mut buf: PoolBuf,
    ) -> Result<PoolBuf> {
        let entry = &large.item.entry;
        let file = match large.staged.open() {
            // Declared again meanwhile: the question is answered all the same.
            Err(error) if error.code() == Code::SourceChanged => {
                self.described(large)?;
                return Ok(buf);
            }
            file => file?,
        };
        let mut extents = file.stat()?.is_sparse().then(|| file.extents());
        let mut run: Option<Have> = None;
        for number in range {
            let chunk = ChunkIndex(u32::try_from(number).unwrap_or(u32::MAX));
            let at = ChunkRef { file: entry.id, generation: entry.generation, chunk };
            let len = chunk_len(entry.size, chunk);
            // What cannot be told is read.
            let is_hole = match &mut extents {
                Some(extents) => extents.is_hole(chunk.offset(), len.into()).unwrap_or(false),
                None => false,
            };
            // To say that a chunk is a hole costs more than to be told so again.
            if is_hole || !self.worth.is_worth_it() {
                self.flush(&mut run)?;
                continue;
            }
            let (read, known) = self.read_chunk((&file, at), (entry.size, len), buf)?;
            buf = read;
            let Some((known, have)) = known else {
                self.flush(&mut run)?;
                continue;
            };
            if !self
                .describe((at.file, at.generation), |undecided| undecided.describe(at, known))?
            {
                self.flush(&mut run)?;
                continue;
            }
            let Have { chunks, .. } = run.get_or_insert_with(|| Have {
                file: at.file,
                generation: at.generation,
                first_chunk: chunk,
                chunks: Vec::new(),
            });
            chunks.push(have);
        }
        self.flush(&mut run)?;
        self.described(large)?;
        Ok(buf)
    }

    /// One more segment of a file has been described.
    fn described(&self, large: &Large) -> Result<()> {
        match large.left.fetch_sub(1, Ordering::AcqRel) {
            1 => self.answer(Answer::HaveEnd(reference(&large.item))),
            _ => Ok(()),
        }
    }

    /// Reads and hashes a chunk; nothing is known of one that is not all there.
    fn read_chunk(
        &self,
        (file, at): (&Arc<OpenFile>, ChunkRef),
        (size, len): (u64, u32),
        buf: PoolBuf,
    ) -> Result<(PoolBuf, Option<(Known, HaveChunk)>)> {
        let (wanted, began) = (usize::try_from(len).unwrap_or(usize::MAX), Instant::now());
        let (buf, got) = read_now(file, at.chunk.offset(), wanted, buf);
        self.worth.read(len.into(), began.elapsed());
        if readable(file, got) != Some(wanted) {
            return Ok((buf, None));
        }
        let pages = page_hashes(size, at.chunk, buf.filled());
        let hash = chunk_from_pages(size, at.chunk, &pages);
        let known = hash.map(|hash| {
            let have = describe(hash, &pages, &self.key);
            (Known { hash, pages }, have)
        });
        Ok((buf, known))
    }

    fn flush(&self, run: &mut Option<Have>) -> Result<()> {
        run.take().map_or(Ok(()), |have| self.answer(Answer::Have(have)))
    }

    /// Notes that a file is described; false when nobody wants to know any more.
    fn describe_file(&self, item: &Item, hash: FileHash) -> Result<bool> {
        let file = reference(item);
        self.describe(file, |undecided| undecided.describe_file(file, hash))
    }

    /// Whether an unclaimed stale file has the size of this one.
    fn has_twin(&self, item: &Item) -> bool {
        let staging = self.catalog.staging(item.entry.root);
        staging.is_some_and(|staging| !staging.twins(item.entry.size).is_empty())
    }

    /// Makes the stale file whose first page this is the content of `staged`; whether there is one.
    fn adopt_twin(&self, staged: &Arc<StagedFile>, page: [u8; 8]) -> Result<bool> {
        let entry = staged.entry();
        let Some(staging) = self.catalog.staging(entry.root) else { return Ok(false) };
        for twin in staging.twins(entry.size) {
            // One that cannot be read is none.
            let Ok(Some(first)) = staging.first_page(&twin) else { continue };
            let node = page_hash(entry.size, ChunkIndex(0), (0, &first));
            if self.key.of(&node) == page && staging.adopt(staged, &twin)? {
                tracing::info!("{} was {twin} here: it is not sent again", entry.path);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn seek(&self) -> Result<()> {
        let mut jobs = self.lock_jobs();
        if !jobs.is_manifest_complete {
            return Ok(());
        }
        let sought = std::mem::take(&mut jobs.sought);
        jobs.seeking.extend(sought.iter().map(|(file, _)| *file));
        drop(jobs);
        self.answer_unless_empty(sought, Answer::Seek)
    }

    fn add(&self, jobs: VecDeque<Job>) {
        self.lock_jobs().queue.extend(jobs);
        self.work.notify_all();
    }

    fn next(&self) -> Result<Option<Job>> {
        let mut jobs = self.lock_jobs();
        loop {
            self.cancel.check()?;
            if let Some(job) = jobs.take() {
                return Ok(Some(job));
            }
            if jobs.closed {
                return Ok(None);
            }
            jobs = self.work.wait_timeout(jobs, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Notes a description as soon as there is room for it; false when nobody wants to know any more.
    fn describe(
        &self,
        (file, generation): FileRef,
        note: impl FnOnce(&mut Undecided),
    ) -> Result<bool> {
        loop {
            let withdrawn = lock(&self.withdrawn);
            if withdrawn.get(&file).is_some_and(|last| *last >= generation) {
                return Ok(false);
            }
            let mut undecided = lock(&self.undecided);
            if undecided.has_room() {
                note(&mut undecided);
                return Ok(true);
            }
            drop((withdrawn, undecided));
            if !self.wait_for_room()? {
                return Ok(false);
            }
        }
    }

    /// False: there will be none.
    fn wait_for_room(&self) -> Result<bool> {
        let mut undecided = lock(&self.undecided);
        while !undecided.has_room() {
            self.cancel.check()?;
            if self.lock_jobs().closed {
                return Ok(false);
            }
            let waited = self.room.wait_timeout(undecided, LOOK);
            undecided = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(true)
    }

    fn decide<T>(&self, take: impl FnOnce(&mut Undecided) -> Option<T>) -> Option<T> {
        let taken = take(&mut lock(&self.undecided));
        if taken.is_some() {
            self.room.notify_one();
        }
        taken
    }

    fn answer_unless_empty<T>(
        &self,
        list: Vec<T>,
        answer: impl FnOnce(Vec<T>) -> Answer,
    ) -> Result<()> {
        if list.is_empty() { Ok(()) } else { self.answer(answer(list)) }
    }

    fn answer(&self, answer: Answer) -> Result<()> {
        self.orders.send(Order::Answer(answer)).map_err(|_closed| self.cancel.reason())
    }

    fn lock_jobs(&self) -> MutexGuard<'_, Jobs> {
        lock(&self.jobs)
    }
}

/// All chunks of a file.
fn segments(item: Arc<Item>, staged: Arc<StagedFile>) -> Job {
    let chunks = chunk_count(item.entry.size);
    let left = AtomicU64::new(chunks.div_ceil(SEGMENT_CHUNKS));
    Job::Segment(Arc::new(Large { item, staged, chunks, left }), 0..chunks)
}

/// How much was read. Old content that cannot be read, as on a failing disk, is sent anew: that may
/// be what the transfer is for.
fn readable(file: &OpenFile, got: std::io::Result<usize>) -> Option<usize> {
    got.inspect_err(|error| {
        tracing::warn!("{} cannot be compared and is sent: {error}", file.place());
    })
    .ok()
}

fn reference(item: &Item) -> FileRef {
    (item.entry.id, item.entry.generation)
}

fn named(item: &Item, hash: FileHash) -> HaveFile {
    (item.entry.id, item.entry.generation, hash)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
