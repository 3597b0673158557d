//! The root hash of trees on this machine, computed from nothing but what is on disk.
//!
//! Equal hashes before and after a transfer, or at two nodes that stand still, mean equal trees:
//! every name, kind, permission, size, link and byte.
//!
//! ```text
//!  walk ─▶ open, submit chunks ─▶ engine ─▶ completions ─▶ hashing threads ─▶ root hash
//! ```

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastsst_proto::hash::{chunk_hash, zero_chunk_hash};
use fastsst_proto::manifest::EntryKind;
use fastsst_proto::types::{chunk_count, chunk_len};
use fastsst_proto::{ChunkHash, ChunkIndex, FileHash, FileTree, RelPath, RootHash};

use crate::disk::{IoDone, IoEngine, IoJob, IoKind, IoPreference, OpenFile};
use crate::error::{Code, Error, Result};
use crate::manifest::Manifest;
use crate::pool::Pool;
use crate::tree::{Dir, FileKind};
use crate::tree_hash::{TreeLine, root_hash};
use crate::walk::{Found, SourceRoot, walk};

/// How to verify.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions {
    /// Which way to read.
    pub io: IoPreference,
    /// Threads that hash.
    pub threads: usize,
    /// Memory for data in flight. Unit: buffers of 1 MiB.
    pub buffers: usize,
}

impl Default for VerifyOptions {
    /// All cores, and enough in flight for a deep disk queue and a busy core each.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { io: IoPreference::Auto, threads, buffers: 64 + 2 * threads }
    }
}

/// What trees turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The hash a transfer of these roots would report.
    pub root_hash: RootHash,
    /// Files, a hard-linked one counted once.
    pub files: u64,
    /// Files, directories, symbolic links and further names of files.
    pub entries: u64,
    /// Content of all files. Unit: bytes.
    pub bytes: u64,
    /// How it was read.
    pub io: IoKind,
}

/// Reads everything below the roots that their filters want, and hashes it.
///
/// # Errors
/// E08 when something cannot be read, E21 when a file changed its size meanwhile, and those of
/// [`walk`].
pub fn verify(roots: &[SourceRoot], options: VerifyOptions) -> Result<Verified> {
    let (root_hash, figures) = examine(roots, options, root_hash)?;
    Ok(figures.with(root_hash))
}

/// As [`verify`], and returns everything that was found.
///
/// # Errors
/// As [`verify`].
pub fn take_inventory(
    roots: &[SourceRoot],
    options: VerifyOptions,
) -> Result<(Verified, Manifest)> {
    let names = roots.iter().map(|root| root.name.clone()).collect();
    let (manifest, figures) = examine(roots, options, |lines| Manifest::of(names, lines))?;
    Ok((figures.with(manifest.root_hash()), manifest))
}

/// What [`Verified`] says besides the root hash.
struct Figures {
    files: u64,
    entries: u64,
    bytes: u64,
    io: IoKind,
}

impl Figures {
    fn with(self, root_hash: RootHash) -> Verified {
        let Self { files, entries, bytes, io } = self;
        Verified { root_hash, files, entries, bytes, io }
    }
}

/// Reads everything and gives it to `conclude`.
fn examine<T>(
    roots: &[SourceRoot],
    options: VerifyOptions,
    conclude: impl FnOnce(Vec<TreeLine<'_>>) -> Result<T>,
) -> Result<(T, Figures)> {
    let dirs = roots.iter().map(SourceRoot::open).collect::<Result<Vec<Dir>>>()?;
    let mut items = Vec::new();
    for (root, dir) in dirs.iter().enumerate() {
        find(root, dir, &roots[root], &mut items)?;
    }
    let hashing = Arc::new(Hashing::new(items.len(), options.buffers));
    let io = hash_files(&dirs, &items, &hashing, options)?;
    let hashes = std::mem::take(&mut *lock(&hashing.hashes));
    let lines = items.iter().zip(&hashes).map(|(item, hash)| item.line(roots, *hash)).collect();
    let files = items.iter().filter(|item| item.kind == EntryKind::File);
    let figures = Figures {
        files: files.clone().count() as u64,
        entries: items.len() as u64,
        bytes: files.map(|item| item.size).sum(),
        io,
    };
    Ok((conclude(lines)?, figures))
}

/// One entry, as the root hash sees it.
struct Item {
    root: usize,
    path: RelPath,
    kind: EntryKind,
    mode: u16,
    /// 0 unless a file.
    size: u64,
    is_sparse: bool,
    link_target: Option<Vec<u8>>,
}

impl Item {
    fn line<'a>(&'a self, roots: &'a [SourceRoot], hash: Option<FileHash>) -> TreeLine<'a> {
        TreeLine {
            root: &roots[self.root].name,
            path: &self.path,
            kind: self.kind,
            mode: self.mode,
            size: self.size,
            link_target: self.link_target.as_deref(),
            file_hash: hash,
        }
    }
}

/// Collects the entries of one root. Of the names of one file, the first found is the file.
fn find(root: usize, dir: &Dir, source: &SourceRoot, items: &mut Vec<Item>) -> Result<()> {
    let mut linked: HashMap<(u64, u64), RelPath> = HashMap::new();
    walk(dir, source.filter.as_ref(), &mut |found| {
        let Found { path, stat, link_target, .. } = found;
        let (kind, link_target) = match stat.kind {
            FileKind::Directory => (EntryKind::Directory, None),
            FileKind::Symlink => (EntryKind::Symlink, link_target),
            FileKind::File if stat.nlink > 1 => match linked.entry((stat.dev, stat.ino)) {
                Entry::Occupied(first) => {
                    (EntryKind::HardLink, Some(first.get().as_bytes().to_vec()))
                }
                Entry::Vacant(place) => {
                    place.insert(path.clone());
                    (EntryKind::File, None)
                }
            },
            FileKind::File => (EntryKind::File, None),
            FileKind::Fifo | FileKind::Socket | FileKind::Device => return Ok(()),
        };
        let size = if kind == EntryKind::File { stat.size } else { 0 };
        let is_sparse = stat.is_sparse();
        items.push(Item { root, path, kind, mode: stat.mode, size, is_sparse, link_target });
        Ok(())
    })?;
    Ok(())
}

/// Reads and hashes all files; their hashes are in `hashing` afterwards.
fn hash_files(
    dirs: &[Dir],
    items: &[Item],
    hashing: &Arc<Hashing>,
    options: VerifyOptions,
) -> Result<IoKind> {
    let (done, completions) = flume::bounded(hashing.pool.capacity());
    let pools = std::slice::from_ref(&hashing.pool);
    let engine = IoEngine::start(options.io, hashing.pool.capacity(), done, pools)?;
    let kind = engine.kind();
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            let completions = completions.clone();
            scope.spawn(move || {
                while let Ok(done) = completions.recv() {
                    hashing.take(done);
                }
            });
        }
        drop(completions);
        for (index, item) in items.iter().enumerate() {
            if item.kind == EntryKind::File
                && let Err(error) = read_file(&dirs[item.root], index, item, (hashing, &engine))
            {
                hashing.fail(error);
                break;
            }
        }
        // Finishes what is under way and disconnects the completions, which ends the threads.
        drop(engine);
    });
    match lock(&hashing.error).take() {
        Some(error) => Err(error),
        None => Ok(kind),
    }
}

/// Opens a file and submits its chunks; holes are hashed without being read.
fn read_file(
    dir: &Dir,
    index: usize,
    item: &Item,
    (hashing, engine): (&Arc<Hashing>, &IoEngine<Tag>),
) -> Result<()> {
    let (file, stat) = dir
        .open_file_read(&item.path, engine.kind().file_mode())?
        .filter(|(_, stat)| stat.size == item.size)
        .ok_or_else(|| changed(&dir.place_of(&item.path)))?;
    let file = Arc::new(FileInFlight {
        file: Arc::new(file),
        index,
        size: stat.size,
        tree: Mutex::new(Some(FileTree::new(stat.size))),
    });
    if stat.size == 0 {
        return hashing.finish_if_complete(&file);
    }
    let mut extents = item.is_sparse.then(|| file.file.extents());
    // The walk has seen that the size is within the protocol's limit.
    let chunks = u32::try_from(chunk_count(stat.size)).unwrap_or(u32::MAX);
    for chunk in (0..chunks).map(ChunkIndex) {
        let len = chunk_len(stat.size, chunk);
        if let Some(extents) = &mut extents
            && extents.is_hole(chunk.offset(), len.into())?
        {
            hashing.insert(&file, chunk, zero_chunk_hash(stat.size, chunk))?;
            continue;
        }
        let Some(buf) = hashing.pool.acquire() else { return Ok(()) };
        let tag = (Arc::clone(&file), chunk);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        engine.submit(IoJob::read(Arc::clone(&file.file), chunk.offset(), len, buf, tag))?;
    }
    Ok(())
}

type Tag = (Arc<FileInFlight>, ChunkIndex);

/// A file some of whose chunks are being read.
struct FileInFlight {
    file: Arc<OpenFile>,
    /// Position of its item.
    index: usize,
    /// What it had when it was opened. Unit: bytes.
    size: u64,
    /// Absent once it is complete.
    tree: Mutex<Option<FileTree>>,
}

/// What the threads share.
struct Hashing {
    pool: Pool,
    /// By position of the item; absent unless a file that is complete.
    hashes: Mutex<Vec<Option<FileHash>>>,
    /// The first failure.
    error: Mutex<Option<Error>>,
}

impl Hashing {
    fn new(items: usize, buffers: usize) -> Self {
        Self {
            pool: Pool::new(buffers),
            hashes: Mutex::new(vec![None; items]),
            error: Mutex::new(None),
        }
    }

    /// Keeps the first failure and stops the reading.
    fn fail(&self, error: Error) {
        lock(&self.error).get_or_insert(error);
        self.pool.close();
    }

    /// Hashes a chunk that was read.
    fn take(&self, done: IoDone<Tag>) {
        let (file, chunk) = done.tag;
        let expected = u64::from(chunk_len(file.size, chunk));
        let inserted = match done.result {
            Ok(bytes) if bytes as u64 == expected => {
                self.insert(&file, chunk, chunk_hash(file.size, chunk, done.buf.filled()))
            }
            Ok(_) => Err(changed(file.file.place())),
            Err(error) => Err(Error::read(file.file.place(), error)),
        };
        if let Err(error) = inserted {
            self.fail(error);
        }
    }

    fn insert(&self, file: &FileInFlight, chunk: ChunkIndex, hash: ChunkHash) -> Result<()> {
        if let Some(tree) = lock(&file.tree).as_mut() {
            tree.insert(chunk, hash)
                .map_err(|error| Error::bug("a chunk was read twice").because(error))?;
        }
        self.finish_if_complete(file)
    }

    fn finish_if_complete(&self, file: &FileInFlight) -> Result<()> {
        let complete = lock(&file.tree).take_if(|tree| tree.missing() == 0);
        if let Some(tree) = complete {
            let hash = tree.finish().ok_or_else(|| Error::bug("a complete file has no hash"))?;
            lock(&self.hashes)[file.index] = Some(hash);
        }
        Ok(())
    }
}

fn changed(place: &str) -> Error {
    Error::new(Code::SourceChanged, format!("{place} changed while it was read; stop its writer"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
