//! The places of a listener for peers that have not proven anything.
//!
//! When all are taken, a newcomer gets the place of whoever has had one for longest: a donor needs
//! a few round trips to prove itself, somebody who only occupies places needs for ever.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

/// A bounded number of places.
#[derive(Debug, Clone)]
pub(super) struct Places {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    most: AtomicUsize,
    /// Whoever has a place, oldest first.
    taken: Mutex<VecDeque<Arc<Notify>>>,
}

/// A place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    evicted: Arc<Notify>,
    shared: Weak<Shared>,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self { shared: Arc::new(Shared { most: AtomicUsize::new(most), taken: Mutex::default() }) }
    }

    /// How many are free.
    pub(super) fn free(&self) -> usize {
        self.shared.most().saturating_sub(self.shared.lock().len())
    }

    /// From now on there are at least so many.
    pub(super) fn grow_to(&self, most: usize) {
        self.shared.most.fetch_max(most, Ordering::Relaxed);
    }

    /// Takes a place, that of the oldest stranger when none is free.
    pub(super) fn take(&self) -> Place {
        let evicted = Arc::new(Notify::new());
        let mut taken = self.shared.lock();
        if taken.len() >= self.shared.most()
            && let Some(oldest) = taken.pop_front()
        {
            // Remembered if nobody waits yet.
            oldest.notify_one();
        }
        taken.push_back(Arc::clone(&evicted));
        Place { evicted, shared: Arc::downgrade(&self.shared) }
    }
}

impl Shared {
    fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Notify>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Completes when somebody else got the place; it lives longer than the place.
    pub(super) fn evicted(&self) -> impl Future<Output = ()> + Send + use<> {
        let evicted = Arc::clone(&self.evicted);
        async move { evicted.notified().await }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.lock().retain(|other| !Arc::ptr_eq(other, &self.evicted));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_stranger_makes_room() {
        let places = Places::new(2);
        let (first, second) = (places.take(), places.take());
        assert_eq!(places.free(), 0);
        let third = places.take();
        first.evicted().await;
        drop(first);
        assert_eq!(places.free(), 0, "the place is the third one's now");
        drop(second);
        assert_eq!(places.free(), 1);
        drop(third);
        assert_eq!(places.free(), 2);
        places.grow_to(5);
        places.grow_to(1);
        assert_eq!(places.free(), 5);
    }
}
