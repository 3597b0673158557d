//! The bounded set of buffers that every byte on its way from disk to network, or back, lives in.
//!
//! The pool is the memory bound and the back pressure of a transfer: whoever reads acquires a
//! buffer first, and waits when all of them are on their way. A buffer returns by being dropped,
//! wherever that happens, also inside a `bytes::Bytes` made by `Bytes::from_owner`.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fastsst_proto::limits::CHUNK_BYTES;

/// Size of every buffer: one chunk. Unit: bytes.
pub const BUFFER_BYTES: usize = CHUNK_BYTES;

/// Alignment of every buffer, as direct I/O wants it. Unit: bytes.
///
/// Why: covers disks with 512-byte and with 4096-byte sectors.
pub const BUFFER_ALIGN: usize = 4096;

const _: () = assert!(BUFFER_BYTES.is_multiple_of(BUFFER_ALIGN));

/// A fixed number of buffers, shared by its clones.
#[derive(Clone)]
pub struct Pool {
    home: Arc<Home>,
}

impl Pool {
    /// A pool of `count` buffers of [`BUFFER_BYTES`].
    ///
    /// The memory is taken when a buffer is first written to, or when the kernel is told of it. A
    /// count of 0 is taken as 1, as nothing could ever move otherwise.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let count = count.max(1);
        let (give_back, free) = flume::bounded(count);
        let mut starts = Vec::with_capacity(count);
        for index in 0..count {
            let memory = Memory { bytes: vec![0; BUFFER_BYTES + BUFFER_ALIGN], index };
            starts.push(memory.bytes.as_ptr().wrapping_add(memory.start()).expose_provenance());
            // Sending cannot fail, as the channel is as large as the pool and we hold its end.
            let _sent = give_back.send(memory);
        }
        let home = Home {
            free,
            give_back: Mutex::new(Some(give_back)),
            closed: AtomicBool::new(false),
            kept: Mutex::default(),
            starts,
        };
        Self { home: Arc::new(home) }
    }

    /// The next free buffer, empty; waits for one. `None` once the pool is closed.
    #[must_use]
    pub fn acquire(&self) -> Option<PoolBuf> {
        self.home.free.recv().ok().and_then(|memory| self.wrap(memory))
    }

    /// [`Pool::acquire`] for tasks.
    pub async fn acquire_async(&self) -> Option<PoolBuf> {
        self.home.free.recv_async().await.ok().and_then(|memory| self.wrap(memory))
    }

    /// A free buffer if there is one now; `None` otherwise, and once the pool is closed.
    #[must_use]
    pub fn try_acquire(&self) -> Option<PoolBuf> {
        self.home.free.try_recv().ok().and_then(|memory| self.wrap(memory))
    }

    /// How many buffers are free. Out of date as soon as it is known.
    #[must_use]
    pub fn available(&self) -> usize {
        self.home.free.len()
    }

    /// How many buffers there are.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.home.starts.len()
    }

    /// Ends all waiting: every `acquire`, waiting or to come, returns `None`.
    ///
    /// Buffers that are out stay valid.
    pub fn close(&self) {
        self.home.closed.store(true, Ordering::Release);
        // Without a sender the channel is disconnected, which wakes everybody who waits.
        self.home.give_back.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether the pool is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.home.closed.load(Ordering::Acquire)
    }

    /// Addresses of all buffers, by their [`PoolBuf::index_in`]. They stay what they are, and the
    /// memory is there, as long as the pool or a buffer of it is.
    pub(crate) fn starts(&self) -> &[usize] {
        &self.home.starts
    }

    fn wrap(&self, memory: Memory) -> Option<PoolBuf> {
        // A disconnected channel still hands out what is in it.
        if self.is_closed() {
            return None;
        }
        let start = memory.start();
        assert!(start + BUFFER_BYTES <= memory.bytes.len(), "a buffer is shorter than it was made");
        Some(PoolBuf { memory, start, len: 0, home: Arc::clone(&self.home) })
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("available", &self.available())
            .field("capacity", &self.capacity())
            .field("closed", &self.is_closed())
            .finish()
    }
}

struct Home {
    free: flume::Receiver<Memory>,
    /// The way home; absent once the pool is closed.
    give_back: Mutex<Option<flume::Sender<Memory>>>,
    closed: AtomicBool,
    /// What came back after that. Not freed before the pool is: the kernel may know it.
    kept: Mutex<Vec<Memory>>,
    /// Address of each buffer's first aligned byte.
    starts: Vec<usize>,
}

/// The memory of one buffer.
#[derive(Default)]
struct Memory {
    /// Invariant: never grows, so that it stays where the disk reads and writes it.
    bytes: Vec<u8>,
    /// Which one of its pool it is.
    index: usize,
}

impl Memory {
    /// Place of the first aligned byte.
    fn start(&self) -> usize {
        self.bytes.as_ptr().addr().wrapping_neg() % BUFFER_ALIGN
    }
}

/// One buffer of a [`Pool`]: [`BUFFER_BYTES`] of aligned memory, the first `len` of them valid.
///
/// Fresh buffers hold whatever was in them before.
pub struct PoolBuf {
    memory: Memory,
    /// First aligned byte.
    start: usize,
    /// Invariant: at most [`BUFFER_BYTES`].
    len: usize,
    home: Arc<Home>,
}

impl PoolBuf {
    /// The whole buffer, valid or not.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.memory.bytes[self.start..self.start + BUFFER_BYTES]
    }

    /// The whole buffer, to be filled.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory.bytes[self.start..self.start + BUFFER_BYTES]
    }

    /// Which buffer of `pool` it is; `None` when it is of another pool.
    pub(crate) fn index_in(&self, pool: &Pool) -> Option<usize> {
        Arc::ptr_eq(&self.home, &pool.home).then_some(self.memory.index)
    }

    /// The valid bytes.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.as_slice()[..self.len]
    }

    /// How many bytes are valid.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte is valid.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Declares the first `len` bytes valid.
    ///
    /// # Panics
    /// `len` is above [`BUFFER_BYTES`]: a bug of the caller.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= BUFFER_BYTES, "{len} bytes do not fit a buffer");
        self.len = len;
    }
}

impl AsRef<[u8]> for PoolBuf {
    fn as_ref(&self) -> &[u8] {
        self.filled()
    }
}

impl fmt::Debug for PoolBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuf").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Drop for PoolBuf {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let give_back = self.home.give_back.lock().unwrap_or_else(PoisonError::into_inner);
        match give_back.as_ref() {
            // Never full: there are no more buffers than places.
            Some(give_back) => drop(give_back.try_send(memory)),
            None => self.home.kept.lock().unwrap_or_else(PoisonError::into_inner).push(memory),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn buffers_are_aligned_and_come_back() {
        let pool = Pool::new(2);
        let mut first = pool.acquire().unwrap();
        let second = pool.acquire().unwrap();
        assert!(pool.try_acquire().is_none());
        assert!(first.as_slice().as_ptr().addr().is_multiple_of(BUFFER_ALIGN));
        assert_eq!(first.as_slice().len(), BUFFER_BYTES);
        assert!(first.filled().is_empty());
        first.as_mut_slice()[..3].copy_from_slice(b"abc");
        first.set_len(3);
        let bytes = bytes::Bytes::from_owner(first);
        assert_eq!(&bytes[..], b"abc");
        let part = bytes.slice(1..);
        drop(bytes);
        assert_eq!(pool.available(), 0);
        drop(part);
        drop(second);
        assert_eq!(pool.available(), 2);
        assert_eq!(pool.acquire().unwrap().len(), 0);
    }

    #[test]
    fn a_buffer_is_where_its_pool_says_also_after_the_end() {
        let (pool, other) = (Pool::new(2), Pool::new(2));
        let bufs = [pool.acquire().unwrap(), pool.acquire().unwrap()];
        for buf in &bufs {
            let index = buf.index_in(&pool).unwrap();
            assert_eq!(pool.starts()[index], buf.as_slice().as_ptr().addr());
            assert_eq!(buf.index_in(&other), None);
        }
        pool.close();
        drop(bufs);
        assert_eq!(pool.home.kept.lock().unwrap().len(), 2, "freed with the pool, not before");
    }

    #[test]
    fn a_returned_buffer_wakes_who_waits() {
        let pool = Pool::new(1);
        let held = pool.acquire().unwrap();
        let waiter = std::thread::spawn({
            let pool = pool.clone();
            move || pool.acquire().is_some()
        });
        std::thread::sleep(Duration::from_millis(20));
        drop(held);
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn close_wakes_who_waits_and_ends_the_pool() {
        let pool = Pool::new(2);
        let held = (pool.acquire().unwrap(), pool.acquire().unwrap());
        let waiter = std::thread::spawn({
            let pool = pool.clone();
            move || pool.acquire().is_none()
        });
        std::thread::sleep(Duration::from_millis(20));
        pool.close();
        assert!(waiter.join().unwrap());
        drop(held);
        assert!(pool.acquire().is_none());
        assert!(pool.try_acquire().is_none());
    }

    #[test]
    fn a_closed_pool_hands_out_nothing_even_if_buffers_are_free() {
        let pool = Pool::new(2);
        pool.close();
        assert!(pool.acquire().is_none());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(runtime.block_on(pool.acquire_async()).is_none());
    }
}
