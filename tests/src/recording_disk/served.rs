//! A file of a file system of our own that is the disk: it does what it is told, and writes it down.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyEmpty, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use super::Medium;
use super::history::{Command, History};

/// How long the kernel may rely on the attributes; they never change.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// What the kernel writes to, and what we look at.
#[derive(Debug, Clone)]
pub(super) struct Disk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    now: Medium,
    history: History,
}

impl Disk {
    pub(super) fn new(start: Medium) -> Self {
        let history = History { start: start.clone(), commands: Vec::new() };
        Self(Arc::new(Mutex::new(State { now: start, history })))
    }

    /// How many commands there were.
    pub(super) fn commands(&self) -> usize {
        self.state().history.len()
    }

    /// Takes the history; from now on a new one begins.
    pub(super) fn take_history(&self) -> History {
        let mut state = self.state();
        let next = History { start: state.now.clone(), commands: Vec::new() };
        std::mem::replace(&mut state.history, next)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with it")
    }

    fn attributes(&self) -> FileAttr {
        let bytes = self.state().now.bytes();
        FileAttr {
            ino: INodeNo::ROOT,
            size: bytes,
            blocks: bytes / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::RegularFile,
            perm: 0o600,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

/// One thread serves one command after the other. A write is written down before it is answered, so
/// nobody can rely on one that is not; a flush covers what was answered before it came.
impl Filesystem for Disk {
    fn getattr(&self, _: &Request, _: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOR_EVER, &self.attributes());
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Without it the kernel would keep writes in its page cache, and we would see them late.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let bytes = usize::try_from(size).expect("64 bits");
        reply.data(&self.state().now.read(offset, bytes));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.state();
        if offset + data.len() as u64 > state.now.bytes() {
            return reply.error(Errno::ENOSPC);
        }
        state.now.write(offset, data);
        state.history.commands.push(Command::Write { offset, data: data.to_vec() });
        drop(state);
        reply.written(u32::try_from(data.len()).expect("the kernel said it in 32 bits"));
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.state().history.commands.push(Command::Flush);
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // A descriptor was closed, which means nothing to a disk.
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        // A disk without discard.
        reply.error(Errno::EOPNOTSUPP);
    }
}
