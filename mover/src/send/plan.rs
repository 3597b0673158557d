//! What is still to be read, in which order, and what the joiner does not hold yet.
//!
//! Largest files first, so that no long file is left for the end; small ones beside them, in
//! batches, in the order of the walk, which is that of their directories. Files of an ordering
//! class wait until everything before them has been read. Chunks of a lane that died come before
//! all else.
//!
//! Where the joiner has a stale copy it is asked about each file first, and its answers are the
//! work: see [`super::questions`]. What it has described is compared before anything is sent whole,
//! since it reads ahead only so far.

use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastsst_proto::{
    Asked, ChunkRef, FileHash, FileId, FileRef, Generation, Have, HaveChunk, HaveFile, How,
    ProtocolError,
};

use super::parcel::{HEAD_BYTES, PARCEL_CHUNKS_MAX};
use super::questions::{Questions, SizedFile};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::pool::BUFFER_BYTES;
use crate::walk::Class;

/// Largest file that is read in a batch. Unit: bytes.
///
/// Why: above this the transport costs more than handing a chunk from thread to thread, and the
/// disk is faster with several requests under way.
pub(crate) const SMALL_BYTES_MAX: u64 = 128 << 10;

/// How often a waiting thread looks at the cancel switch.
const LOOK: Duration = Duration::from_millis(50);

/// One piece of work for the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Task {
    /// Read all of this file and send it.
    File(FileId),
    /// Read all of this file; it is sent only if its hash is another.
    Hash(FileId, FileHash),
    /// Read these chunks and send them.
    Range(FileRef, std::ops::Range<u64>),
    /// Read these chunks and send what differs.
    Compare(Have),
    /// Read this chunk once more, and send what differs from what the joiner has, if it has.
    Chunk(ChunkRef, Option<Box<HaveChunk>>),
    /// Ask about this file, whose turn has come.
    Ask(Asked),
    /// Read the first page of this file and ask with it.
    Seek(FileRef),
}

/// A small file to read, and the hash the joiner expects it to have.
pub(crate) type SmallTask = (FileId, Option<FileHash>);

/// A file that a pass has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) file: FileId,
    pub(crate) generation: Generation,
    /// Unit: bytes.
    pub(crate) size: u64,
    pub(crate) class: Class,
}

impl Planned {
    /// Whether the joiner is to be asked what it has of it. A file that is declared again has
    /// changed while it was sent, and one that may change while it is read cannot be compared.
    fn is_comparable(&self) -> bool {
        self.generation == Generation(0) && self.class != Class::Volatile
    }
}

/// The shared list of work.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Files of the current pass without an ordering class, by size.
    free: BinaryHeap<(u64, FileId)>,
    /// The small ones among them, with their sizes, in the order of the walk.
    small: VecDeque<(u64, FileId)>,
    /// Files that wait for everything before them, by class.
    last: BTreeMap<u8, VecDeque<Planned>>,
    again: VecDeque<ChunkRef>,
    /// Present when the joiner has a stale copy.
    questions: Option<Questions>,
    /// Whether the walk of the current pass is over.
    walked: bool,
    /// No more passes.
    closed: bool,
    /// The reader is inside a file.
    reading: bool,
    /// Reads submitted and not completed, and batches that are being read.
    reads: u64,
    /// Chunks that were planned and that the joiner does not hold.
    unstored: u64,
    /// The class of the file that was handed out last.
    class: Option<u8>,
}

impl Plan {
    /// The joiner has a stale copy: it is asked about every file.
    pub(crate) fn compare(&self) {
        self.lock().questions = Some(Questions::default());
    }

    /// A pass begins: more files will come.
    pub(crate) fn begin_pass(&self) {
        let mut state = self.lock();
        (state.walked, state.class) = (false, None);
    }

    /// Adds declared files; empty ones need no reading. Returns what is to be asked of the joiner.
    pub(crate) fn add(&self, files: impl Iterator<Item = Planned>) -> Vec<Asked> {
        let mut state = self.lock();
        let mut asked = Vec::new();
        for found in files.filter(|found| found.size > 0) {
            let Planned { file, generation, size, class } = found;
            match class {
                Class::Last(order) => state.last.entry(order).or_default().push_back(found),
                Class::Send | Class::Volatile => match &mut state.questions {
                    Some(questions) if found.is_comparable() => {
                        let question = Asked { file, generation, how: How::Any };
                        questions.ask(&question, size);
                        asked.push(question);
                    }
                    Some(_) | None => state.read((file, size)),
                },
                Class::Skip => {}
            }
        }
        self.changed.notify_all();
        asked
    }

    /// The joiner lacks these files.
    ///
    /// # Errors
    /// Nobody asked about one of them.
    pub(crate) fn lacks(&self, files: &[FileRef]) -> Result<(), ProtocolError> {
        self.answer(|questions| questions.lacks(files))
    }

    /// The joiner has files with these hashes.
    ///
    /// # Errors
    /// As [`Plan::lacks`]; more is described than may be.
    pub(crate) fn have_files(&self, files: &[HaveFile]) -> Result<(), ProtocolError> {
        self.answer(|questions| questions.have_files(files))
    }

    /// The joiner describes chunks.
    ///
    /// # Errors
    /// As [`Plan::have_files`].
    pub(crate) fn have(&self, have: Have) -> Result<(), ProtocolError> {
        self.answer(|questions| questions.have(have).map(|()| Vec::new()))
    }

    /// The joiner knows no more of a file.
    ///
    /// # Errors
    /// As [`Plan::lacks`].
    pub(crate) fn have_end(&self, file: FileRef) -> Result<(), ProtocolError> {
        self.answer(|questions| questions.have_end(file).map(|()| Vec::new()))
    }

    /// The joiner may have these files by other names.
    ///
    /// # Errors
    /// As [`Plan::lacks`].
    pub(crate) fn seek(&self, files: &[FileRef]) -> Result<(), ProtocolError> {
        self.answer(|questions| questions.seek(files).map(|()| Vec::new()))
    }

    /// Asks once more about a file, differently; the question is to be sent.
    pub(crate) fn ask_again(&self, file: FileRef, how: How) -> Option<Asked> {
        self.lock().questions.as_mut().map(|questions| questions.ask_again(file, how))
    }

    /// A file is no longer what was declared: what the joiner is to be told, the first time.
    pub(crate) fn withdraw(&self, file: FileRef) -> Option<Asked> {
        self.lock().questions.as_mut()?.withdraw(file)
    }

    /// So many chunks and files that the joiner has described are decided.
    pub(crate) fn decided(&self, count: usize) {
        if let Some(questions) = &mut self.lock().questions {
            questions.decided(count);
        }
    }

    /// Only some pages of this chunk are going to be sent.
    pub(crate) fn sent_in_part(&self, at: ChunkRef, have: HaveChunk) {
        if let Some(questions) = &mut self.lock().questions {
            questions.sent_in_part(at, have);
        }
    }

    fn answer(
        &self,
        take: impl FnOnce(&mut Questions) -> Result<Vec<SizedFile>, ProtocolError>,
    ) -> Result<(), ProtocolError> {
        let mut state = self.lock();
        let what = "an answer that nobody asked for";
        let questions = state.questions.as_mut().ok_or(ProtocolError::Inconsistent { what })?;
        for file in take(questions)? {
            state.read(file);
        }
        self.changed.notify_all();
        Ok(())
    }

    /// The walk of this pass is over.
    pub(crate) fn end_walk(&self) {
        self.lock().walked = true;
        self.changed.notify_all();
    }

    /// No more passes: the reader may end.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The next task, when there is one; `None` after [`Plan::close`].
    ///
    /// # Errors
    /// The transfer was cancelled.
    pub(crate) fn next(&self, cancel: &Cancel) -> Result<Option<Task>> {
        let mut state = self.lock();
        state.reading = false;
        self.changed.notify_all();
        loop {
            cancel.check()?;
            if let Some(task) = state.take() {
                state.reading = true;
                return Ok(Some(task));
            }
            if state.closed {
                return Ok(None);
            }
            state = self.wait(state);
        }
    }

    /// Described chunks that wait to be compared, for a reader that is busy with something long.
    pub(crate) fn next_described(&self) -> Option<Have> {
        self.lock().questions.as_mut()?.next_described()
    }

    /// The next batch of small files, with the hashes the joiner expects, when there is one; `None`
    /// after [`Plan::close`]. Their chunks are planned, and the batch counts as a read until
    /// [`Plan::small_ended`].
    ///
    /// # Errors
    /// The transfer was cancelled.
    pub(crate) fn next_small(&self, cancel: &Cancel) -> Result<Option<Vec<SmallTask>>> {
        let mut state = self.lock();
        loop {
            cancel.check()?;
            let batch = state.take_small();
            if !batch.is_empty() {
                state.reads += 1;
                state.unstored += batch.len() as u64;
                return Ok(Some(batch));
            }
            if state.closed {
                return Ok(None);
            }
            state = self.wait(state);
        }
    }

    /// A batch has been read; `unsent` of its files will not be sent.
    ///
    /// # Errors
    /// As [`Plan::chunks_settled`].
    pub(crate) fn small_ended(&self, unsent: u64) -> Result<()> {
        self.chunks_settled(unsent)?;
        self.read_ended();
        Ok(())
    }

    /// A read was submitted for a chunk.
    pub(crate) fn read_started(&self) {
        self.lock().reads += 1;
    }

    /// A read came back.
    pub(crate) fn read_ended(&self) {
        let mut state = self.lock();
        state.reads = state.reads.saturating_sub(1);
        if state.reads == 0 {
            self.changed.notify_all();
        }
    }

    /// A chunk is on its way to the joiner.
    pub(crate) fn chunk_planned(&self) {
        self.lock().unstored += 1;
    }

    /// `chunks` chunks are stored by the joiner, or will not be sent.
    ///
    /// # Errors
    /// More than were planned: a bug, as the lane checks acknowledgements.
    pub(crate) fn chunks_settled(&self, chunks: u64) -> Result<()> {
        let mut state = self.lock();
        state.unstored = state
            .unstored
            .checked_sub(chunks)
            .ok_or_else(|| Error::bug("more chunks stored than planned"))?;
        if state.unstored == 0 {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// The joiner has stored these chunks.
    ///
    /// # Errors
    /// As [`Plan::chunks_settled`].
    pub(crate) fn acknowledged(&self, chunks: &[ChunkRef]) -> Result<()> {
        if let Some(questions) = &mut self.lock().questions {
            questions.forget(chunks);
        }
        self.chunks_settled(chunks.len() as u64)
    }

    /// A lane died with these chunks unacknowledged.
    pub(crate) fn send_again(&self, chunks: Vec<ChunkRef>) {
        self.lock().again.extend(chunks);
        self.changed.notify_all();
    }

    /// The joiner cannot make these chunks from the pages it got.
    pub(crate) fn send_whole(&self, chunks: Vec<ChunkRef>) {
        if let Some(questions) = &mut self.lock().questions {
            questions.forget(&chunks);
        }
        self.send_again(chunks);
    }

    /// Waits until everything of this pass has been read.
    ///
    /// # Errors
    /// The transfer was cancelled.
    pub(crate) fn wait_read(&self, cancel: &Cancel) -> Result<()> {
        self.wait_for(cancel, |state| state.is_read())
    }

    /// Waits until the joiner holds everything of this pass.
    ///
    /// # Errors
    /// The transfer was cancelled.
    pub(crate) fn wait_stored(&self, cancel: &Cancel) -> Result<()> {
        self.wait_for(cancel, |state| state.is_read() && state.unstored == 0)
    }

    fn wait_for(&self, cancel: &Cancel, done: impl Fn(&State) -> bool) -> Result<()> {
        let mut state = self.lock();
        while !done(&state) {
            cancel.check()?;
            state = self.wait(state);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl State {
    fn take(&mut self) -> Option<Task> {
        if let Some(chunk) = self.again.pop_front() {
            let known = self.questions.as_ref().and_then(|questions| questions.known_of(chunk));
            return Some(Task::Chunk(chunk, known.map(Box::new)));
        }
        if let Some(task) = self.questions.as_mut().and_then(next_answer) {
            return Some(task);
        }
        if let Some((_, file)) = self.free.pop() {
            let expected = self.questions.as_mut().and_then(|questions| questions.expected(file));
            return Some(expected.map_or(Task::File(file), |hash| Task::Hash(file, hash)));
        }
        if !self.walked {
            return None;
        }
        let (class, files) = self.last.iter_mut().find(|(_, files)| !files.is_empty())?;
        // The first file of a class is read when everything before it *has been* read, so that
        // the redo log covers every page that was copied (contract, section 7.1).
        let is_first = self.class != Some(*class);
        let is_asking = self.questions.as_ref().is_some_and(|questions| !questions.is_settled());
        if is_first && (self.reads > 0 || !self.small.is_empty() || is_asking) {
            return None;
        }
        self.class = Some(*class);
        let next = files.pop_front()?;
        match &mut self.questions {
            Some(questions) if next.is_comparable() => {
                let Planned { file, generation, size, .. } = next;
                let asked = Asked { file, generation, how: How::Any };
                questions.ask(&asked, size);
                Some(Task::Ask(asked))
            }
            Some(_) | None => Some(Task::File(next.file)),
        }
    }

    /// The file is to be read now.
    fn read(&mut self, (file, size): SizedFile) {
        match size <= SMALL_BYTES_MAX {
            true => self.small.push_back((size, file)),
            false => self.free.push((size, file)),
        }
    }

    /// Small files whose frames fit one buffer, whatever they compress to.
    fn take_small(&mut self) -> Vec<SmallTask> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < PARCEL_CHUNKS_MAX
            && let Some((size, file)) = self.small.front().copied()
        {
            bytes += size + HEAD_BYTES as u64;
            if bytes > BUFFER_BYTES as u64 {
                break;
            }
            let expected = self.questions.as_mut().and_then(|questions| questions.expected(file));
            batch.push((file, expected));
            self.small.pop_front();
        }
        batch
    }

    fn is_read(&self) -> bool {
        self.walked
            && !self.reading
            && self.reads == 0
            && self.free.is_empty()
            && self.small.is_empty()
            && self.again.is_empty()
            && self.questions.as_ref().is_none_or(Questions::is_settled)
            && self.last.values().all(VecDeque::is_empty)
    }
}

/// What the joiner's answers ask for next.
fn next_answer(questions: &mut Questions) -> Option<Task> {
    if let Some(have) = questions.next_described() {
        return Some(Task::Compare(have));
    }
    if let Some(file) = questions.next_sought() {
        return Some(Task::Seek(file));
    }
    questions.next_range().map(|(file, range)| Task::Range(file, range))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(id: u32, size: u64, class: Class) -> Planned {
        Planned { file: FileId(id), generation: Generation(0), size, class }
    }

    #[test]
    fn large_files_come_first_and_ordered_classes_wait_for_reads() {
        let (plan, cancel) = (Plan::default(), Cancel::new());
        plan.begin_pass();
        let files = [
            planned(1, 10 << 20, Class::Send),
            planned(2, 20 << 20, Class::Send),
            planned(3, 99, Class::Last(9)),
            planned(4, 0, Class::Send),
        ];
        assert!(plan.add(files.into_iter()).is_empty(), "nothing is asked without a stale copy");
        plan.end_walk();
        assert_eq!(plan.next(&cancel).unwrap(), Some(Task::File(FileId(2))));
        plan.read_started();
        assert_eq!(plan.next(&cancel).unwrap(), Some(Task::File(FileId(1))));
        assert_eq!(plan.lock().take(), None, "the redo log waits for the read in flight");
        plan.read_ended();
        assert_eq!(plan.next(&cancel).unwrap(), Some(Task::File(FileId(3))));
        plan.close();
        assert_eq!(plan.next(&cancel).unwrap(), None);
    }

    #[test]
    fn small_files_come_in_batches_that_fit_a_buffer() {
        let (plan, cancel) = (Plan::default(), Cancel::new());
        plan.begin_pass();
        let sized = |size| (0..100).map(move |id| planned(id, size, Class::Send));
        plan.add(sized(SMALL_BYTES_MAX));
        let first = [0, 1, 2, 3, 4, 5, 6].map(|id| (FileId(id), None));
        assert_eq!(plan.next_small(&cancel).unwrap().unwrap(), first);
        plan.lock().small.clear();
        plan.add(sized(1));
        assert_eq!(plan.next_small(&cancel).unwrap().unwrap().len(), PARCEL_CHUNKS_MAX);
        plan.close();
        assert_eq!(plan.next_small(&cancel).unwrap().unwrap().len(), 100 - PARCEL_CHUNKS_MAX);
        assert_eq!(plan.next_small(&cancel).unwrap(), None);
    }

    #[test]
    fn ordered_classes_wait_for_batches_of_small_files() {
        let (plan, cancel) = (Plan::default(), Cancel::new());
        plan.begin_pass();
        let files = [planned(1, 1, Class::Send), planned(2, 1, Class::Last(1))];
        plan.add(files.into_iter());
        plan.end_walk();
        assert_eq!(plan.lock().take(), None, "a small file is not read yet");
        assert_eq!(plan.next_small(&cancel).unwrap().unwrap(), [(FileId(1), None)]);
        assert_eq!(plan.lock().take(), None, "it is being read");
        assert!(!plan.lock().is_read());
        plan.small_ended(1).unwrap();
        assert_eq!(plan.lock().take(), Some(Task::File(FileId(2))));
        assert!(plan.small_ended(1).is_err(), "more than were planned");
        plan.wait_stored(&cancel).unwrap();
    }

    #[test]
    fn a_lost_chunk_is_read_again_before_the_pass_counts_as_stored() {
        let (plan, cancel) = (Plan::default(), Cancel::new());
        let chunk = ChunkRef::default();
        plan.begin_pass();
        plan.end_walk();
        plan.chunk_planned();
        plan.send_again(vec![chunk]);
        assert_eq!(plan.next(&cancel).unwrap(), Some(Task::Chunk(chunk, None)));
        assert!(!plan.lock().is_read());
        plan.chunks_settled(1).unwrap();
        assert!(plan.chunks_settled(1).is_err());
        plan.close();
        assert_eq!(plan.next(&cancel).unwrap(), None);
        plan.wait_stored(&cancel).unwrap();
    }

    fn reference(id: u32) -> FileRef {
        (FileId(id), Generation(0))
    }

    fn have(id: u32, first_chunk: u32, chunks: usize) -> Have {
        let chunk = HaveChunk { hash: fastsst_proto::ChunkHash([7; 32]), pages: [[0; 8]; 64] };
        Have {
            file: FileId(id),
            generation: Generation(0),
            first_chunk: fastsst_proto::ChunkIndex(first_chunk),
            chunks: vec![chunk; chunks],
        }
    }

    fn comparing() -> Plan {
        let plan = Plan::default();
        plan.compare();
        plan.begin_pass();
        plan
    }

    #[test]
    fn a_file_is_read_when_the_joiner_has_answered_and_as_it_answered() {
        let plan = comparing();
        let files = (1..=4).map(|id| planned(id, 3 << 20, Class::Send));
        let asked = plan.add(files);
        assert_eq!(asked.iter().map(|asked| asked.file.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
        plan.end_walk();
        assert_eq!(plan.lock().take(), None, "nothing is known");
        plan.lacks(&[reference(1)]).unwrap();
        plan.have_files(&[(FileId(2), Generation(0), FileHash([1; 32]))]).unwrap();
        plan.have(have(3, 1, 1)).unwrap();
        plan.have_end(reference(3)).unwrap();
        plan.seek(&[reference(4)]).unwrap();
        assert_eq!(plan.lock().take(), Some(Task::Compare(have(3, 1, 1))), "the joiner waits");
        assert_eq!(plan.lock().take(), Some(Task::Seek(reference(4))));
        assert_eq!(plan.lock().take(), Some(Task::Range(reference(3), 0..1)));
        assert_eq!(plan.lock().take(), Some(Task::Range(reference(3), 2..3)));
        assert_eq!(plan.lock().take(), Some(Task::Hash(FileId(2), FileHash([1; 32]))));
        assert_eq!(plan.lock().take(), Some(Task::File(FileId(1))));
        assert!(plan.lock().is_read());
        let asked = plan.ask_again(reference(4), How::Twin([5; 8])).unwrap();
        assert_eq!((asked.file, asked.how), (FileId(4), How::Twin([5; 8])));
        assert!(!plan.lock().is_read(), "the pass waits for the answer");
        plan.lacks(&[reference(4)]).unwrap();
        assert_eq!(plan.lock().take(), Some(Task::File(FileId(4))));
        assert!(plan.lacks(&[reference(4)]).is_err(), "answered before");
    }

    #[test]
    fn ordered_classes_are_asked_about_when_everything_before_has_been_read() {
        let plan = comparing();
        let log = planned(2, 1 << 20, Class::Last(1));
        let asked = plan.add([planned(1, 1 << 20, Class::Send), log].into_iter());
        assert_eq!(asked.len(), 1);
        plan.end_walk();
        assert_eq!(plan.lock().take(), None, "an answer is due");
        plan.have(have(1, 0, 1)).unwrap();
        assert!(matches!(plan.lock().take(), Some(Task::Compare(_))));
        plan.have_end(reference(1)).unwrap();
        plan.read_started();
        assert_eq!(plan.lock().take(), None, "a read is under way");
        plan.read_ended();
        assert!(matches!(plan.lock().take(), Some(Task::Ask(Asked { file: FileId(2), .. }))));
        assert!(!plan.lock().is_read());
        plan.lacks(&[reference(2)]).unwrap();
        assert_eq!(plan.lock().take(), Some(Task::File(FileId(2))));
    }

    #[test]
    fn what_is_declared_again_or_may_change_is_not_compared() {
        let plan = comparing();
        let again = Planned { generation: Generation(1), ..planned(1, 9 << 20, Class::Send) };
        let asked = plan.add([again, planned(2, 8 << 20, Class::Volatile)].into_iter());
        assert!(asked.is_empty());
        assert_eq!(plan.lock().take(), Some(Task::File(FileId(1))));
        assert_eq!(plan.lock().take(), Some(Task::File(FileId(2))));
    }

    #[test]
    fn a_lost_chunk_is_sent_again_in_part_unless_it_did_not_fit() {
        let plan = comparing();
        let (at, known) = (ChunkRef::default(), have(0, 0, 1).chunks.remove(0));
        for _ in 0..2 {
            plan.sent_in_part(at, known.clone());
            plan.send_again(vec![at]);
            assert_eq!(plan.lock().take(), Some(Task::Chunk(at, Some(Box::new(known.clone())))));
        }
        plan.send_whole(vec![at]);
        assert_eq!(plan.lock().take(), Some(Task::Chunk(at, None)));
        plan.sent_in_part(at, known);
        plan.chunk_planned();
        plan.acknowledged(&[at]).unwrap();
        plan.send_again(vec![at]);
        assert_eq!(plan.lock().take(), Some(Task::Chunk(at, None)), "nothing is remembered");
    }
}
