//! What is still to be read, in which order, and what the joiner does not hold yet.
//!
//! Largest files first, so that no long file is left for the end; small ones beside them, in
//! batches, in the order of the walk, which is that of their directories. Files of an ordering
//! class wait until everything before them has been read. Chunks of a lane that died come before
//! all else.

use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastsst_proto::{ChunkRef, FileId};

use super::parcel::{HEAD_BYTES, PARCEL_CHUNKS_MAX};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Read all of this file.
    File(FileId),
    /// Read this chunk once more.
    Chunk(ChunkRef),
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
    last: BTreeMap<u8, VecDeque<FileId>>,
    again: VecDeque<ChunkRef>,
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
    /// A pass begins: more files will come.
    pub(crate) fn begin_pass(&self) {
        let mut state = self.lock();
        (state.walked, state.class) = (false, None);
    }

    /// Adds files with their sizes; empty ones need no reading.
    pub(crate) fn add(&self, files: impl Iterator<Item = (FileId, u64, Class)>) {
        let mut state = self.lock();
        for (file, size, class) in files.filter(|(_, size, _)| *size > 0) {
            match class {
                Class::Last(order) => state.last.entry(order).or_default().push_back(file),
                Class::Send | Class::Volatile if size <= SMALL_BYTES_MAX => {
                    state.small.push_back((size, file));
                }
                Class::Send | Class::Volatile => state.free.push((size, file)),
                Class::Skip => {}
            }
        }
        self.changed.notify_all();
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

    /// The next batch of small files, when there is one; `None` after [`Plan::close`]. Their chunks
    /// are planned, and the batch counts as a read until [`Plan::small_ended`].
    ///
    /// # Errors
    /// The transfer was cancelled.
    pub(crate) fn next_small(&self, cancel: &Cancel) -> Result<Option<Vec<FileId>>> {
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

    /// A lane died with these chunks unacknowledged.
    pub(crate) fn send_again(&self, chunks: Vec<ChunkRef>) {
        self.lock().again.extend(chunks);
        self.changed.notify_all();
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
            return Some(Task::Chunk(chunk));
        }
        if let Some((_, file)) = self.free.pop() {
            return Some(Task::File(file));
        }
        if !self.walked {
            return None;
        }
        let (class, files) = self.last.iter_mut().find(|(_, files)| !files.is_empty())?;
        // The first file of a class is read when everything before it *has been* read, so that
        // the redo log covers every page that was copied (contract, section 7.1).
        let is_first = self.class != Some(*class);
        if is_first && (self.reads > 0 || !self.small.is_empty()) {
            return None;
        }
        self.class = Some(*class);
        files.pop_front().map(Task::File)
    }

    /// Small files whose frames fit one buffer, whatever they compress to.
    fn take_small(&mut self) -> Vec<FileId> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < PARCEL_CHUNKS_MAX
            && let Some((size, file)) = self.small.front()
        {
            bytes += size + HEAD_BYTES as u64;
            if bytes > BUFFER_BYTES as u64 {
                break;
            }
            batch.push(*file);
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
            && self.last.values().all(VecDeque::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_files_come_first_and_ordered_classes_wait_for_reads() {
        let (plan, cancel) = (Plan::default(), Cancel::new());
        plan.begin_pass();
        let files = [
            (FileId(1), 10 << 20, Class::Send),
            (FileId(2), 20 << 20, Class::Send),
            (FileId(3), 99, Class::Last(9)),
            (FileId(4), 0, Class::Send),
        ];
        plan.add(files.into_iter());
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
        let sized = |size| (0..100).map(move |id| (FileId(id), size, Class::Send));
        plan.add(sized(SMALL_BYTES_MAX));
        assert_eq!(plan.next_small(&cancel).unwrap().unwrap(), [0, 1, 2, 3, 4, 5, 6].map(FileId));
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
        let files = [(FileId(1), 1, Class::Send), (FileId(2), 1, Class::Last(1))];
        plan.add(files.into_iter());
        plan.end_walk();
        assert_eq!(plan.lock().take(), None, "a small file is not read yet");
        assert_eq!(plan.next_small(&cancel).unwrap().unwrap(), [FileId(1)]);
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
        assert_eq!(plan.next(&cancel).unwrap(), Some(Task::Chunk(chunk)));
        assert!(!plan.lock().is_read());
        plan.chunks_settled(1).unwrap();
        assert!(plan.chunks_settled(1).is_err());
        plan.close();
        assert_eq!(plan.next(&cancel).unwrap(), None);
        plan.wait_stored(&cancel).unwrap();
    }
}
