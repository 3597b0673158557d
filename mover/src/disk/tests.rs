use std::os::unix::fs::FileExt;
use std::path::Path;
use std::slice::from_ref;
use std::sync::Arc;

use fastsst_proto::PageMask;
use fastsst_proto::path::RelPath;

use super::*;
use crate::pool::{BUFFER_BYTES, Pool};
use crate::tree::{Dir, FileTime, Meta};

const ALL: [IoPreference; 4] =
    [IoPreference::Auto, IoPreference::Uring, IoPreference::Direct, IoPreference::Buffered];

/// The ways that work here: containers often refuse io_uring.
fn ways() -> impl Iterator<Item = IoPreference> {
    ALL.into_iter().filter(|preference| {
        let (sender, _done) = flume::bounded(1);
        IoEngine::<u64>::start(*preference, 1, sender, &[]).is_ok()
    })
}

const SIZES: [usize; 9] =
    [0, 1, 511, 4095, 4096, 4097, BUFFER_BYTES - 1, BUFFER_BYTES, 3 * BUFFER_BYTES + 4999];

struct Desk {
    engine: IoEngine<u64>,
    done: flume::Receiver<IoDone<u64>>,
    pool: Pool,
    tree: tempfile::TempDir,
    dir: Dir,
}

impl Desk {
    fn new(preference: IoPreference) -> Self {
        Self::below(&std::env::temp_dir(), preference)
    }

    fn below(place: &Path, preference: IoPreference) -> Self {
        let pool = Pool::new(6);
        let (sender, done) = flume::bounded(pool.capacity());
        let engine = IoEngine::start(preference, 4, sender, from_ref(&pool)).unwrap();
        let tree = tempfile::tempdir_in(place).unwrap();
        let dir = Dir::open_target(tree.path()).unwrap();
        Self { engine, done, pool, tree, dir }
    }

    fn mode(&self) -> FileMode {
        self.engine.kind().file_mode()
    }

    fn write_file(&self, name: &str, content: &[u8]) {
        let file = Arc::new(self.dir.create_file(&rel(name), self.mode()).unwrap());
        file.preallocate(content.len() as u64).unwrap();
        for (chunk, bytes) in content.chunks(BUFFER_BYTES).enumerate() {
            let mut buf = self.pool.acquire().unwrap();
            // What was in the buffer must not reach the disk.
            buf.as_mut_slice().fill(0xee);
            buf.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
            buf.set_len(bytes.len());
            let offset = (chunk * BUFFER_BYTES) as u64;
            self.engine.submit(IoJob::write(Arc::clone(&file), offset, buf, offset)).unwrap();
            while let Ok(done) = self.done.try_recv() {
                assert_eq!(done.result.unwrap(), done.buf.len());
            }
        }
        while self.pool.available() < self.pool.capacity() {
            let done = self.done.recv().unwrap();
            assert_eq!(done.result.unwrap(), done.buf.len());
        }
        file.set_len(content.len() as u64).unwrap();
        file.sync().unwrap();
    }

    fn read_file(&self, name: &str, beyond: usize) -> Vec<u8> {
        let (file, stat) = self.dir.open_file_read(&rel(name), self.mode()).unwrap().unwrap();
        let file = Arc::new(file);
        let size = usize::try_from(stat.size).unwrap();
        let mut content = vec![0; size];
        for offset in (0..size + beyond).step_by(BUFFER_BYTES) {
            let buf = self.pool.acquire().unwrap();
            let len = BUFFER_BYTES.min(size + beyond - offset);
            let offset = offset as u64;
            self.engine.submit(IoJob::read(Arc::clone(&file), offset, len, buf, offset)).unwrap();
            let done = self.done.recv().unwrap();
            let bytes = done.result.unwrap();
            assert_eq!(done.buf.len(), bytes);
            let at = usize::try_from(done.tag).unwrap();
            assert_eq!(bytes, len.min(size.saturating_sub(at)), "short only at the end");
            if bytes > 0 {
                content[at..at + bytes].copy_from_slice(done.buf.filled());
            }
        }
        content
    }
}

fn rel(name: &str) -> RelPath {
    RelPath::parse(name.as_bytes()).unwrap()
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn every_kind_writes_and_reads_every_size() {
    for preference in ways() {
        let desk = Desk::new(preference);
        for size in SIZES {
            let name = format!("f{size}");
            let content = noise(size);
            desk.write_file(&name, &content);
            let seen = std::fs::read(desk.tree.path().join(&name)).unwrap();
            assert!(seen == content, "{preference:?} wrote {size} bytes wrongly");
            for beyond in [0, 1, 4096, BUFFER_BYTES] {
                assert!(desk.read_file(&name, beyond) == content, "{preference:?} {size}");
            }
        }
    }
}

#[test]
fn tmpfs_works_whether_or_not_it_has_direct_io() {
    let memory = Path::new("/dev/shm");
    if !memory.is_dir() {
        return;
    }
    for preference in ways() {
        let desk = Desk::below(memory, preference);
        let content = noise(BUFFER_BYTES + 4097);
        desk.write_file("f", &content);
        assert!(desk.read_file("f", 0) == content, "{preference:?}");
    }
}

#[test]
fn a_write_leaves_out_pages_that_are_not_in_its_mask() {
    const PAGE: usize = 16 * 1024;
    for preference in ways() {
        let desk = Desk::new(preference);
        let size = 5 * PAGE + 100;
        desk.write_file("f", &vec![b'.'; size]);
        let (file, _) = desk.dir.open_file_write(&rel("f"), desk.mode()).unwrap().unwrap();
        let file = Arc::new(file);
        let mut buf = desk.pool.acquire().unwrap();
        buf.as_mut_slice()[..size].fill(b'x');
        buf.set_len(size);
        let pages = PageMask(0b10_0110 | 1 << 63);
        desk.engine.submit(IoJob::write(Arc::clone(&file), 0, buf, 0).only(pages)).unwrap();
        assert_eq!(desk.done.recv().unwrap().result.unwrap(), size);
        let buf = desk.pool.acquire().unwrap();
        desk.engine.submit(IoJob::write(Arc::clone(&file), 0, buf, 0)).unwrap();
        assert_eq!(desk.done.recv().unwrap().result.unwrap(), 0);
        file.set_len(size as u64).unwrap();
        let seen = std::fs::read(desk.tree.path().join("f")).unwrap();
        let expected: Vec<u8> = (0..size)
            .map(|at| if 0b10_0110 >> (at / PAGE) & 1 == 1 { b'x' } else { b'.' })
            .collect();
        assert!(seen == expected, "{preference:?}");
    }
}

#[test]
fn a_kernel_that_refuses_io_uring_gets_threads() {
    fn refused() -> io::Result<uring::Ring<u64>> {
        Err(io::Error::from_raw_os_error(1))
    }
    let (sender, done) = flume::bounded(1);
    let engine = IoEngine::start_with(IoPreference::Auto, 1, sender, refused).unwrap();
    assert_eq!(engine.kind(), IoKind::Direct(threads::COUNT));
    assert_eq!(engine.kind().to_string(), "O_DIRECT threads");
    drop(engine);
    assert!(done.recv().is_err());

    let (sender, _done) = flume::bounded(1);
    let error = IoEngine::start_with(IoPreference::Uring, 1, sender, refused).unwrap_err();
    assert_eq!(error.code(), Code::Unsupported);
}

#[test]
fn buffers_the_kernel_knows_and_others_serve_alike() {
    for preference in ways() {
        let desk = Desk::new(preference);
        let other = Pool::new(1);
        let content = noise(BUFFER_BYTES + 4999);
        desk.write_file("f", &content);
        let (file, _) = desk.dir.open_file_read(&rel("f"), desk.mode()).unwrap().unwrap();
        let file = Arc::new(file);
        for pool in [&desk.pool, &other, &desk.pool] {
            for (tag, bytes) in (0..).zip(content.chunks(BUFFER_BYTES)) {
                let buf = pool.acquire().unwrap();
                let offset = tag * BUFFER_BYTES as u64;
                desk.engine
                    .submit(IoJob::read(Arc::clone(&file), offset, BUFFER_BYTES, buf, tag))
                    .unwrap();
                let done = desk.done.recv().unwrap();
                assert_eq!(done.result.unwrap(), bytes.len(), "{preference:?}");
                assert!(done.buf.filled() == bytes, "{preference:?}");
            }
        }
    }
}

#[test]
fn a_ring_that_cannot_know_its_buffers_works_without() {
    // More than the kernel takes: 16384 buffers, see `IORING_MAX_REG_BUFFERS`.
    let pools = vec![Pool::new(1); 16_385];
    let (sender, done) = flume::bounded(1);
    let Ok(engine) = IoEngine::start(IoPreference::Uring, 1, sender, &pools) else { return };
    assert_eq!(engine.kind(), IoKind::Uring);
    assert_eq!(engine.kind().to_string(), "io_uring+O_DIRECT");
    let tree = tempfile::tempdir().unwrap();
    let dir = Dir::open_target(tree.path()).unwrap();
    let file = Arc::new(dir.create_file(&rel("f"), FileMode::Direct).unwrap());
    let mut buf = pools[0].acquire().unwrap();
    buf.set_len(4096);
    engine.submit(IoJob::write(file, 0, buf, 0)).unwrap();
    assert_eq!(done.recv().unwrap().result.unwrap(), 4096);
}

#[test]
fn a_failed_read_comes_back_with_its_buffer() {
    for preference in ways() {
        let desk = Desk::new(preference);
        std::fs::write(desk.tree.path().join("f"), b"x").unwrap();
        let fd = std::fs::OpenOptions::new()
            .write(true)
            .open(desk.tree.path().join("f"))
            .unwrap()
            .into();
        let file = Arc::new(OpenFile::new(fd, desk.mode(), "f".into()).unwrap());
        let buf = desk.pool.acquire().unwrap();
        desk.engine.submit(IoJob::read(file, 0, 1, buf, 9)).unwrap();
        let done = desk.done.recv().unwrap();
        assert_eq!((done.tag, done.buf.len()), (9, 0));
        assert_eq!(done.result.unwrap_err().raw_os_error(), Some(9), "EBADF");
    }
}

#[test]
fn dropping_the_engine_finishes_what_was_submitted() {
    for preference in ways() {
        let Desk { engine, done, pool, tree, dir } = Desk::new(preference);
        let file = Arc::new(dir.create_file(&rel("f"), engine.kind().file_mode()).unwrap());
        for chunk in 0..pool.capacity() as u64 {
            let mut buf = pool.acquire().unwrap();
            buf.as_mut_slice().fill(b'x');
            buf.set_len(BUFFER_BYTES);
            let offset = chunk * BUFFER_BYTES as u64;
            engine.submit(IoJob::write(Arc::clone(&file), offset, buf, chunk)).unwrap();
        }
        drop(engine);
        assert_eq!(done.iter().filter(|done| done.result.is_ok()).count(), pool.capacity());
        let seen = std::fs::read(tree.path().join("f")).unwrap();
        assert_eq!(seen.len(), pool.capacity() * BUFFER_BYTES);
        assert!(seen.iter().all(|byte| *byte == b'x'));
    }
}

#[test]
fn an_engine_nobody_listens_to_stops() {
    for preference in ways() {
        let Desk { engine, done, pool, tree: _tree, dir } = Desk::new(preference);
        drop(done);
        let file = Arc::new(dir.create_file(&rel("f"), engine.kind().file_mode()).unwrap());
        let mut result = Ok(());
        // Up to eight threads and the queue take one job each before the end shows.
        for _ in 0..1000 {
            let Some(mut buf) = pool.acquire() else { break };
            buf.set_len(4096);
            result = engine.submit(IoJob::write(Arc::clone(&file), 0, buf, 0));
            if result.is_err() {
                break;
            }
        }
        assert_eq!(result.unwrap_err().code(), Code::Cancelled, "{preference:?}");
        drop(engine);
        assert_eq!(pool.available(), pool.capacity(), "no buffer is lost");
    }
}

#[test]
fn the_calling_thread_can_read_and_write_itself() {
    let desk = Desk::new(IoPreference::Direct);
    let content = noise(70_001);
    let file = Arc::new(desk.dir.create_file(&rel("f"), desk.mode()).unwrap());
    let mut buf = desk.pool.acquire().unwrap();
    buf.as_mut_slice()[..content.len()].copy_from_slice(&content);
    buf.set_len(content.len());
    let (buf, written) = write_now(&file, 0, buf);
    assert_eq!(written.unwrap(), content.len());
    file.set_len(content.len() as u64).unwrap();
    let (buf, read) = read_now(&file, 0, BUFFER_BYTES, buf);
    assert_eq!(read.unwrap(), content.len());
    assert!(buf.filled() == content);
}

#[test]
fn holes_are_told_from_data() {
    const MIB: u64 = 1 << 20;
    let desk = Desk::new(IoPreference::Direct);
    let plain = std::fs::File::create(desk.tree.path().join("f")).unwrap();
    plain.set_len(6 * MIB).unwrap();
    plain.write_at(b"x", 2 * MIB + 70_000).unwrap();
    plain.write_at(b"x", 4 * MIB).unwrap();
    plain.sync_all().unwrap();
    let (file, stat) = desk.dir.open_file_read(&rel("f"), desk.mode()).unwrap().unwrap();
    if !stat.is_sparse() {
        return; // a file system that keeps no holes
    }
    let mut extents = file.extents();
    let holes: Vec<bool> = (0..6).map(|c| extents.is_hole(c * MIB, MIB).unwrap()).collect();
    assert_eq!(holes, [true, true, false, true, false, true]);
    assert!(extents.is_hole(5 * MIB, 100 * MIB).unwrap());
    assert!(!extents.is_hole(2 * MIB, MIB).unwrap(), "any order");
    desk.write_file("dense", &noise(100));
    let (file, stat) = desk.dir.open_file_read(&rel("dense"), desk.mode()).unwrap().unwrap();
    assert!(!stat.is_sparse());
    assert!(!file.extents().is_hole(0, 100).unwrap());
}

#[test]
fn metadata_are_set_on_an_open_file() {
    let desk = Desk::new(IoPreference::Direct);
    let file = desk.dir.create_file(&rel("f"), desk.mode()).unwrap();
    assert_eq!(file.stat().unwrap().mode, 0o600);
    let meta = Meta { mode: 0o4751, owner: None, mtime: FileTime { s: -5, ns: 7 } };
    file.set_meta(&meta).unwrap();
    let stat = file.stat().unwrap();
    assert_eq!((stat.mode, stat.mtime), (0o4751, meta.mtime));
}

#[test]
fn preferences_are_read_by_name() {
    for (text, preference) in ["auto", "uring", "direct", "buffered"].into_iter().zip(ALL) {
        assert_eq!(IoPreference::parse(text).unwrap(), preference);
    }
    assert_eq!(IoPreference::parse("mmap").unwrap_err().code(), Code::Usage);
}
