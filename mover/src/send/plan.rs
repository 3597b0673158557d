//! What is still to be read, in which order, and what the joiner does not hold yet.
//!
//! Largest files first, so that no long file is left for the end; files of an ordering class wait
//! until everything before them has been read. Chunks of a lane that died come before all else.

use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastsst_proto::{ChunkRef, FileId};

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::walk::Class;

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
    /// Files that wait for everything before them, by class.
    last: BTreeMap<u8, VecDeque<FileId>>,
    again: VecDeque<ChunkRef>,
    /// Whether the walk of the current pass is over.
    walked: bool,
    /// No more passes.
    closed: bool,
    /// The reader is inside a file.
    reading: bool,
    /// Reads submitted and not completed.
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

    /// Adds a file; empty ones need no reading.
    pub(crate) fn add(&self, file: FileId, size: u64, class: Class) {
        if size == 0 {
            return;
        }
        let mut state = self.lock();
        match class {
            Class::Last(order) => state.last.entry(order).or_default().push_back(file),
            Class::Send | Class::Volatile => state.free.push((size, file)),
            Class::Skip => {}
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
        if self.class != Some(*class) && self.reads > 0 {
            return None;
        }
        self.class = Some(*class);
        files.pop_front().map(Task::File)
    }

    fn is_read(&self) -> bool {
        self.walked
            && !self.reading
            && self.reads == 0
            && self.free.is_empty()
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
        plan.add(FileId(1), 10, Class::Send);
        plan.add(FileId(2), 20, Class::Send);
        plan.add(FileId(3), 99, Class::Last(9));
        plan.add(FileId(4), 0, Class::Send);
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
