//! What shall happen later, in the order of its time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A queue by due time with a bound; what is due at the same time leaves in the order of coming.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    waiting: Mutex<Waiting<T>>,
    changed: Condvar,
    bytes_max: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    entries: BinaryHeap<Reverse<Entry<T>>>,
    bytes: usize,
    /// Entries so far.
    came: u64,
}

#[derive(Debug)]
struct Entry<T> {
    due: Instant,
    number: u64,
    bytes: usize,
    item: T,
}

impl<T> Schedule<T> {
    /// Holds so many bytes, and one entry more.
    pub(super) fn new(bytes_max: usize) -> Self {
        let waiting = Waiting { entries: BinaryHeap::new(), bytes: 0, came: 0 };
        Self { waiting: Mutex::new(waiting), changed: Condvar::new(), bytes_max }
    }

    /// Adds something of so many bytes; false when there is no room for it.
    pub(super) fn put(&self, due: Instant, bytes: usize, item: T) -> bool {
        let mut waiting = self.lock();
        if waiting.bytes > self.bytes_max {
            return false;
        }
        waiting.came += 1;
        waiting.bytes += bytes;
        let number = waiting.came;
        waiting.entries.push(Reverse(Entry { due, number, bytes, item }));
        self.changed.notify_all();
        true
    }

    /// Whether there is room for something, now or before `patience` is over.
    pub(super) fn has_room(&self, patience: Duration) -> bool {
        let waiting = self.lock();
        let is_full = |waiting: &mut Waiting<T>| waiting.bytes > self.bytes_max;
        let waited = self.changed.wait_timeout_while(waiting, patience, is_full);
        !waited.expect("no holder panics").1.timed_out()
    }

    /// The earliest entry, once it is due; `None` when none is before `patience` is over.
    pub(super) fn take(&self, patience: Duration) -> Option<T> {
        let until = Instant::now() + patience;
        let mut waiting = self.lock();
        loop {
            let now = Instant::now();
            let due = waiting.entries.peek().map(|Reverse(first)| first.due);
            if due.is_some_and(|due| due <= now) {
                let Reverse(first) = waiting.entries.pop()?;
                waiting.bytes -= first.bytes;
                self.changed.notify_all();
                return Some(first.item);
            }
            if until <= now {
                return None;
            }
            let pause = due.map_or(until, |due| due.min(until)) - now;
            waiting = self.changed.wait_timeout(waiting, pause).expect("no holder panics").0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().expect("no holder panics")
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Entry<T> {}
