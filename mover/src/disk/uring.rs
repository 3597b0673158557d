//! The engine on io_uring: one thread, one ring, up to [`DEPTH`] requests in flight.
//!
//! All `unsafe` code of this crate is here: handing the kernel an address it will read or write
//! later cannot be expressed in safe Rust. What makes it sound is ownership: the ring owns the
//! buffer and the open file of every request from before it is pushed until its completion has
//! been taken, and waits for all of them before it lets go.

#![allow(unsafe_code, reason = "pushing a request hands the kernel a raw address")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::thread::JoinHandle;
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};

use crate::disk::job::{IoDone, Work};
use crate::disk::{Ends, IoKind};
use crate::error::{Error, Result};
use crate::pool::{BUFFER_BYTES, Pool, PoolBuf};

/// Requests in flight. Why: 32 MiB under way hide the latency of a network disk.
const DEPTH: u32 = 32;

/// How often a dying ring is asked again for what it still owes. Why: ten seconds in all.
const DROP_ATTEMPTS_MAX: u32 = 1000;

/// Pause between two of these attempts.
const DROP_PAUSE: Duration = Duration::from_millis(10);

/// A ring and the jobs that are in it.
pub(super) struct Ring<T> {
    ring: IoUring,
    /// Jobs in flight, by the number their requests carry.
    slots: Vec<Option<Work<T>>>,
    /// Numbers that are not in use.
    free: Vec<usize>,
    /// Whose memory the kernel knows, in the order in which it was told. Dropped after `ring`.
    known: Vec<Pool>,
}

/// Starts the ring's thread; the inner error says why the kernel refuses a ring.
pub(super) fn start<T: Send + 'static>(
    ends: Ends<T>,
    make_ring: impl FnOnce() -> io::Result<Ring<T>> + Send + 'static,
) -> Result<io::Result<(JoinHandle<()>, IoKind)>> {
    let (report, probed) = flume::bounded(1);
    let worker = std::thread::Builder::new()
        .name("disk-ring".into())
        // The ring is made in its thread: SINGLE_ISSUER binds it to the thread that made it.
        .spawn(move || match make_ring() {
            Ok(ring) => {
                let _heard = report.send(Ok(ring.kind()));
                serve(ring, &ends);
            }
            Err(refused) => {
                let _heard = report.send(Err(refused));
            }
        })
        .map_err(|error| Error::bug("cannot start the disk thread").because(error))?;
    match probed.recv() {
        Ok(Ok(kind)) => Ok(Ok((worker, kind))),
        Ok(Err(refused)) => Ok(Err(refused)),
        Err(gone) => Err(Error::bug("the disk thread ended at once").because(gone)),
    }
}

/// Takes jobs until their sender or the receiver of completions is gone.
fn serve<T>(mut ring: Ring<T>, ends: &Ends<T>) {
    let mut finished = Vec::new();
    loop {
        while !ring.is_full() {
            let job =
                if ring.is_idle() { ends.queue.recv().ok() } else { ends.queue.try_recv().ok() };
            match job {
                Some(job) => finished.extend(ring.begin(Work::new(job))),
                None if ring.is_idle() => return,
                None => break,
            }
            if !finished.is_empty() {
                break;
            }
        }
        if finished.is_empty()
            && let Err(error) = ring.wait(&mut finished)
        {
            tracing::error!("io_uring fails: {error}");
            return;
        }
        for done in finished.drain(..) {
            if ends.completions.send(done).is_err() {
                // Nobody listens: what is in flight is finished by dropping the ring.
                return;
            }
        }
    }
}

impl<T> Ring<T> {
    /// Sets up a ring, sees whether the kernel really serves it, and tells it of these pools.
    pub(super) fn new(pools: Vec<Pool>) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(DEPTH)
            // Linux before 6.1 does not know these flags.
            .or_else(|_unknown| IoUring::new(DEPTH))?;
        let slots = DEPTH as usize;
        let (slots, free) = ((0..slots).map(|_| None).collect(), (0..slots).collect());
        let mut ring = Self { ring, slots, free, known: Vec::new() };
        ring.probe()?;
        if let Err(refused) = ring.register(pools) {
            tracing::debug!("the kernel takes buffers one by one: {refused}");
        }
        Ok(ring)
    }

    fn kind(&self) -> IoKind {
        if self.known.is_empty() { IoKind::Uring } else { IoKind::UringRegistered }
    }

    /// Tells the kernel of all buffers of these pools.
    fn register(&mut self, pools: Vec<Pool>) -> io::Result<()> {
        let memory = |start: &usize| libc::iovec {
            iov_base: std::ptr::with_exposed_provenance_mut(*start),
            iov_len: BUFFER_BYTES,
        };
        let memory: Vec<_> = pools.iter().flat_map(|pool| pool.starts()).map(memory).collect();
        if memory.is_empty() {
            return Ok(());
        }
        // SAFETY: the memory of a pool is allocated, and stays where it is, as long as there is a
        // clone of the pool. `self.known` holds one of each until after `self.ring` is closed:
        // its fields are dropped in their order.
        unsafe { self.ring.submitter().register_buffers(&memory) }?;
        self.known = pools;
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Queues the job's next request; a job without one comes back finished.
    ///
    /// The caller has seen that the ring is not full.
    fn begin(&mut self, work: Work<T>) -> Option<IoDone<T>> {
        if work.step().is_none() {
            return Some(work.finish());
        }
        let Some(slot) = self.free.pop() else {
            return Some(give_up(work, io::ErrorKind::ResourceBusy.into()));
        };
        self.slots[slot] = Some(work);
        self.request(slot)
    }

    /// Tells the kernel what is queued, waits for at least one completion, and takes them all.
    fn wait(&mut self, finished: &mut Vec<IoDone<T>>) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Err(error) if !is_transient(&error) => return Err(error),
            Ok(_) | Err(_) => {}
        }
        loop {
            let answer = self.ring.completion().next();
            let Some(answer) = answer else { return Ok(()) };
            let Ok(slot) = usize::try_from(answer.user_data()) else { continue };
            let Some(work) = self.slots.get_mut(slot).and_then(Option::as_mut) else { continue };
            work.answer(bytes_or_error(answer.result()));
            finished.extend(self.request(slot));
        }
    }

    /// Queues the next request of the job in `slot`, or takes the job out if it is finished.
    fn request(&mut self, slot: usize) -> Option<IoDone<T>> {
        let work = self.slots[slot].as_mut()?;
        let Some(entry) = entry_of(work, known_index(&self.known, work.buf())) else {
            self.free.push(slot);
            return self.slots[slot].take().map(Work::finish);
        };
        let entry = entry.user_data(slot as u64);
        // SAFETY: the entry's address lies in the buffer, and its descriptor is that of the file,
        // that `self.slots[slot]` owns. The slot is emptied only here and in `drop`, when the
        // kernel has answered this request and no other of the slot is under way. Until then
        // nothing else touches the buffer's memory, which never moves (`PoolBuf`), and `Ring`
        // leaks the slot rather than free it if the answer cannot be had.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_ok() {
            return None;
        }
        // Cannot be: there are as many places as slots, and a slot has one request at a time.
        self.free.push(slot);
        self.slots[slot].take().map(|work| give_up(work, io::ErrorKind::ResourceBusy.into()))
    }

    /// Has the kernel do nothing, successfully: seccomp filters may allow the setup alone.
    fn probe(&mut self) -> io::Result<()> {
        let nop = opcode::Nop::new().build().user_data(u64::MAX);
        // SAFETY: this request has neither an address nor a descriptor.
        let pushed = unsafe { self.ring.submission().push(&nop) };
        pushed.map_err(io::Error::other)?;
        self.ring.submit_and_wait(1)?;
        match self.ring.completion().next() {
            Some(answer) => bytes_or_error(answer.result()).map(|_| ()),
            None => Err(io::Error::other("the ring does not answer")),
        }
    }
}

impl<T> Drop for Ring<T> {
    /// Finishes everything in flight: the kernel must not write to memory that is in other hands.
    fn drop(&mut self) {
        let mut finished = Vec::new();
        let mut attempts_left = DROP_ATTEMPTS_MAX;
        while !self.is_idle() && attempts_left > 0 {
            if self.wait(&mut finished).is_err() {
                attempts_left -= 1;
                std::thread::sleep(DROP_PAUSE);
            }
            finished.clear();
        }
        if !self.is_idle() {
            tracing::error!("io_uring does not answer; its buffers are abandoned");
            std::mem::forget(std::mem::take(&mut self.slots));
        }
    }
}

/// The number under which the kernel knows a buffer.
fn known_index(known: &[Pool], buf: &PoolBuf) -> Option<u16> {
    let mut before = 0;
    for pool in known {
        if let Some(index) = buf.index_in(pool) {
            return u16::try_from(before + index).ok();
        }
        before += pool.capacity();
    }
    None
}

/// The job's next request, with the number under which the kernel knows its buffer, if it does;
/// `None` when the job is finished.
fn entry_of<T>(work: &mut Work<T>, known: Option<u16>) -> Option<squeue::Entry> {
    let step = work.step()?;
    let fd = types::Fd(work.file().as_fd().as_raw_fd());
    let offset = work.offset() + step.at as u64;
    let is_read = work.is_read();
    let memory = &mut work.memory()[step.at..step.at + step.len];
    let len = u32::try_from(memory.len()).unwrap_or(u32::MAX);
    Some(match (is_read, known) {
        (true, Some(known)) => {
            opcode::ReadFixed::new(fd, memory.as_mut_ptr(), len, known).offset(offset).build()
        }
        (true, None) => opcode::Read::new(fd, memory.as_mut_ptr(), len).offset(offset).build(),
        (false, Some(known)) => {
            opcode::WriteFixed::new(fd, memory.as_ptr(), len, known).offset(offset).build()
        }
        (false, None) => opcode::Write::new(fd, memory.as_ptr(), len).offset(offset).build(),
    })
}

fn give_up<T>(mut work: Work<T>, error: io::Error) -> IoDone<T> {
    work.answer(Err(error));
    work.finish()
}

fn bytes_or_error(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_negative| io::Error::from_raw_os_error(-result))
}

/// Failures after which the same call may succeed: a signal, and a full completion queue.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, ResourceBusy, WouldBlock};
    matches!(error.kind(), Interrupted | ResourceBusy | WouldBlock)
}
