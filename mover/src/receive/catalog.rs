//! What the donor has declared, and how much of it the joiner holds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use fastsst_proto::limits::CHUNK_BYTES_U64;
use fastsst_proto::manifest::{Entry, EntryKind};
use fastsst_proto::path::RelPath;
use fastsst_proto::types::chunk_count;
use fastsst_proto::{
    ChunkHash, ChunkIndex, ChunkRef, FileHash, FileId, FileRef, FileTree, Generation, RootHash,
    RootIndex, TreeError,
};
use tokio::sync::watch;

use super::claims::{Claimed, Claims};
use super::lane::Acks;
use super::space::RESERVE;
use super::targets::{Layout, OwnFile};
use crate::error::{Code, Error, Result};
use crate::staging::{StagedFile, Staging};
use crate::summary::mib;
use crate::tree_hash::{TreeLine, root_hash};

/// How long a chunk may arrive before the entry it belongs to.
///
/// Why: entries and chunks take different connections; the donor declares first, so only a lost
/// control connection makes this long, and that has its own timeout.
const DECLARED_WITHIN: Duration = Duration::from_secs(60);

/// Most questions about one declaration of a file. Why: any, twin, pages, and that it is withdrawn.
const QUESTIONS_MAX: u8 = 4;

/// Everything declared so far.
#[derive(Debug)]
pub(super) struct Catalog {
    layout: Layout,
    claims: Claims,
    purpose: Purpose,
    items: RwLock<HashMap<FileId, Arc<Item>>>,
    /// Counts declarations, for lanes that are ahead of them.
    declared: watch::Sender<u64>,
    /// Files that are not completely stored and closed yet.
    open: AtomicU64,
}

/// What entries are declared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be built.
    Build,
    /// To be compared with what is there, of which nothing is changed.
    Look,
}

/// One entry, and for a file its progress.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) entry: Entry,
    /// `None` unless a file.
    pub(super) staged: Option<Arc<StagedFile>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Grows with verified chunks; taken when it is complete.
    tree: Option<FileTree>,
    hash: Option<FileHash>,
    /// Chunks that are not written yet.
    unwritten: u64,
    /// Verified chunks on their way to the disk, and the lanes that brought them once more.
    in_flight: HashMap<ChunkIndex, Vec<Acks>>,
    /// What the donor has asked about it.
    questions: u8,
    /// The file no longer counts as open: it is closed, was declared again, or is gone.
    settled: bool,
}

/// What a verified chunk is to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Novelty {
    /// It must be written.
    New,
    /// It is on its way to the disk already; it is acknowledged when it is there.
    InFlight,
    /// It is written already (its lane died before it could be acknowledged).
    Written,
}

impl Catalog {
    /// Nothing declared.
    pub(super) fn new(layout: Layout, purpose: Purpose) -> Self {
        let (declared, _) = watch::channel(0);
        let (items, claims) = (RwLock::default(), Claims::prefixes(&layout));
        Self { layout, claims, purpose, items, declared, open: AtomicU64::new(0) }
    }

    /// Where everything goes.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes the directories that roots go to below the tops of their places.
    ///
    /// # Errors
    /// E07, E09. E23: one of them is something of this node's that is kept.
    pub(super) fn make_prefixes(&self) -> Result<()> {
        for (_, staging, prefix) in self.layout.prefixes() {
            if let Some(staging) = self.layout.stagings().get(staging) {
                staging.make_directories(prefix)?;
            }
        }
        Ok(())
    }

    /// Creates what the donor declared; returns files that are complete because they are empty.
    ///
    /// # Errors
    /// The target cannot be written, or an entry makes no sense.
    pub(super) fn declare(&self, entries: Vec<Entry>) -> Result<Vec<Arc<Item>>> {
        let mut empty = Vec::new();
        for entry in entries {
            let id = entry.id;
            let item = Arc::new(self.create(entry)?);
            let old = self.write().insert(id, Arc::clone(&item));
            if let Some(old) = old {
                self.closed(&old);
            }
            if item.entry.kind == EntryKind::File {
                self.open.fetch_add(1, Ordering::AcqRel);
                if item.entry.size == 0 {
                    empty.push(item);
                }
            }
        }
        self.declared.send_modify(|count| *count += 1);
        Ok(empty)
    }

    fn create(&self, entry: Entry) -> Result<Item> {
        let (number, there) = self.layout.locate(&entry)?;
        let staging = self.layout.staging(entry.root);
        let staging = staging.ok_or_else(|| Error::bug("a root without a staging"))?;
        let claimed = match self.layout.is_shared(number) {
            true => self.claims.claim(&self.layout, &entry, (number, &there.path))?,
            false => Claimed::Alone,
        };
        let staged = match (self.purpose, claimed, entry.kind) {
            (Purpose::Build, Claimed::Alone, _) => staging.create(&there)?,
            (Purpose::Build, Claimed::TakenOver, _) => {
                staging.take_over_directory(&there);
                None
            }
            (Purpose::Look, _, EntryKind::File) => Some(staging.look(&there)?),
            (Purpose::Build, Claimed::Shared, _)
            | (Purpose::Look, _, EntryKind::Directory | EntryKind::Symlink | EntryKind::HardLink) => {
                None
            }
        };
        drop(there);
        let mut state = State {
            tree: Some(FileTree::new(entry.size)),
            hash: None,
            unwritten: chunk_count(entry.size),
            in_flight: HashMap::new(),
            questions: 0,
            settled: entry.kind != EntryKind::File,
        };
        if entry.size == 0 {
            state.hash = state.tree.take().and_then(FileTree::finish);
        }
        Ok(Item { entry, staged, state: Mutex::new(state) })
    }

    /// Removes entries the donor no longer has, in the donor's order: children first.
    ///
    /// # Errors
    /// The target cannot be written, or the donor takes back what it never declared.
    pub(super) fn gone(&self, files: &[FileId]) -> Result<()> {
        for id in files {
            let item = self.write().remove(id).ok_or_else(|| {
                Error::new(Code::Protocol, format!("entry {} was never declared", id.0))
            })?;
            self.closed(&item);
            let (number, there) = self.layout.locate(&item.entry)?;
            let is_last = self.claims.release(*id, number, &there.path);
            let staging = self.layout.staging(item.entry.root);
            if let Some(staging) = staging.filter(|_| is_last && self.purpose == Purpose::Build) {
                staging.remove(&there)?;
            }
        }
        Ok(())
    }

    /// The file a chunk belongs to; waits until it is declared.
    ///
    /// # Errors
    /// It never is.
    pub(super) async fn file(&self, at: ChunkRef) -> Result<Arc<Item>> {
        let mut declared = self.declared.subscribe();
        let found = async {
            loop {
                declared.mark_unchanged();
                if let Some(item) = self.known(at.file, at.generation) {
                    return Some(item);
                }
                declared.changed().await.ok()?;
            }
        };
        tokio::time::timeout(DECLARED_WITHIN, found).await.ok().flatten().ok_or_else(|| {
            Error::new(Code::Protocol, format!("a chunk of entry {} which is unknown", at.file.0))
        })
    }

    /// This declaration of a file, if it is the latest.
    pub(super) fn exactly(&self, (id, generation): FileRef) -> Option<Arc<Item>> {
        self.known(id, generation).filter(|item| item.entry.generation == generation)
    }

    /// Where a root is built.
    pub(super) fn staging(&self, root: RootIndex) -> Option<&Staging> {
        self.layout.staging(root).map(|staging| &**staging)
    }

    /// What the donor has declared so far, of files: root and path.
    pub(super) fn file_names(&self) -> Vec<(usize, RelPath)> {
        let items = self.items.read().unwrap_or_else(PoisonError::into_inner);
        let is_file = |entry: &Entry| matches!(entry.kind, EntryKind::File | EntryKind::HardLink);
        let files = items.values().map(|item| &item.entry).filter(|entry| is_file(entry));
        files.map(|entry| (usize::from(entry.root.0), entry.path.clone())).collect()
    }

    /// What the donor has declared so far that is no file: root and path.
    pub(super) fn other_names(&self) -> Vec<(usize, RelPath)> {
        let items = self.items.read().unwrap_or_else(PoisonError::into_inner);
        let is_other =
            |entry: &Entry| matches!(entry.kind, EntryKind::Directory | EntryKind::Symlink);
        let others = items.values().map(|item| &item.entry).filter(|entry| is_other(entry));
        others.map(|entry| (usize::from(entry.root.0), entry.path.clone())).collect()
    }

    /// Adds a file of the joiner's own.
    ///
    /// # Errors
    /// E23: the donor has declared it, or it is kept. E07, E09. E24: it is too long.
    pub(super) fn add_own(&self, own: &OwnFile) -> Result<()> {
        let (number, path) = self.layout.locate_own(own)?;
        let staging = self.layout.stagings().get(number);
        let staging = staging.ok_or_else(|| Error::bug("a place without a staging"))?;
        staging.add_own(&path, &own.content)
    }

    /// Removes what is left of the old copies if what is still to come needs the room.
    ///
    /// # Errors
    /// E09.
    pub(super) fn make_room(&self) -> Result<()> {
        let mut needed: HashMap<u64, u64> = HashMap::new();
        let mut devices = Vec::new();
        for staging in self.layout.stagings() {
            devices.push(staging.device()?);
        }
        let items = self.items.read().unwrap_or_else(PoisonError::into_inner);
        for item in items.values() {
            let number = self.layout.number_of(item.entry.root);
            if let Some(device) = number.and_then(|number| devices.get(number)) {
                *needed.entry(*device).or_default() += item.needed_bytes();
            }
        }
        drop(items);
        for (staging, device) in self.layout.stagings().iter().zip(devices) {
            let needed = needed.get(&device).copied().unwrap_or(0);
            if staging.free_bytes()? < needed.saturating_add(RESERVE) {
                let freed = staging.drop_stale()?;
                if freed > 0 {
                    tracing::info!(
                        "what nobody wants of the old copy in {} goes now, its room is needed: \
                         {:.0} MiB",
                        staging.place(),
                        mib(freed)
                    );
                }
            }
        }
        Ok(())
    }

    fn known(&self, id: FileId, generation: Generation) -> Option<Arc<Item>> {
        let items = self.items.read().unwrap_or_else(PoisonError::into_inner);
        items.get(&id).filter(|item| item.entry.generation >= generation).cloned()
    }

    /// A file has been written completely and closed, or does not matter any more; counts once.
    pub(super) fn closed(&self, item: &Item) {
        if !std::mem::replace(&mut item.lock().settled, true) {
            self.open.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Files that are not written completely and closed.
    pub(super) fn open_files(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    /// Regular files.
    pub(super) fn files(&self) -> u64 {
        let items = self.items.read().unwrap_or_else(PoisonError::into_inner);
        items.values().filter(|item| item.entry.kind == EntryKind::File).count() as u64
    }

    /// The hash of the whole tree, from what was verified.
    ///
    /// # Errors
    /// E99: a file is not complete.
    pub(super) fn root_hash(&self) -> Result<RootHash> {
        let items = self.items.read().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::with_capacity(items.len());
        for item in items.values() {
            let entry = &item.entry;
            let file_hash = match entry.kind {
                EntryKind::File => Some(
                    item.hash()
                        .ok_or_else(|| Error::bug(format!("{} is not complete", entry.path)))?,
                ),
                EntryKind::Directory | EntryKind::Symlink | EntryKind::HardLink => None,
            };
            lines.push(TreeLine {
                root: self.layout.name(entry.root),
                path: &entry.path,
                kind: entry.kind,
                mode: entry.mode,
                size: entry.size,
                link_target: entry.link_target.as_deref(),
                file_hash,
            });
        }
        root_hash(lines)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<FileId, Arc<Item>>> {
        self.items.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Item {
    /// Records a chunk whose hash was right.
    ///
    /// # Errors
    /// E16: the file has no such chunk.
    pub(super) fn verified(
        &self,
        chunk: ChunkIndex,
        hash: ChunkHash,
        acks: &Acks,
    ) -> Result<Novelty> {
        let mut state = self.lock();
        if let Some(waiting) = state.in_flight.get_mut(&chunk) {
            waiting.push(acks.clone());
            return Ok(Novelty::InFlight);
        }
        let Some(tree) = &mut state.tree else { return Ok(Novelty::Written) };
        match tree.insert(chunk, hash) {
            Ok(()) => {}
            Err(TreeError::Duplicate) => return Ok(Novelty::Written),
            Err(error @ TreeError::OutOfRange) => {
                let what = format!("chunk {} of {}", chunk.0, self.entry.path);
                return Err(Error::new(Code::Protocol, what).because(error));
            }
        }
        if tree.missing() == 0 {
            state.hash = state.tree.take().and_then(FileTree::finish);
        }
        state.in_flight.insert(chunk, Vec::new());
        Ok(Novelty::New)
    }

    /// A new chunk has been written: whether it was the last one, and who else waits for it.
    pub(super) fn written(&self, chunk: ChunkIndex) -> (bool, Vec<Acks>) {
        let mut state = self.lock();
        state.unwritten = state.unwritten.saturating_sub(1);
        let waiting = state.in_flight.remove(&chunk).unwrap_or_default();
        (state.unwritten == 0, waiting)
    }

    /// A chunk stays as it was in the stale copy; whether the file is complete.
    ///
    /// # Errors
    /// E16: it has been written, or does not exist.
    pub(super) fn kept(&self, chunk: ChunkIndex, hash: ChunkHash) -> Result<bool> {
        let mut state = self.lock();
        let inserted = state.tree.as_mut().map(|tree| (tree.insert(chunk, hash), tree.missing()));
        let Some((Ok(()), missing)) = inserted else {
            let what = format!("chunk {} of {} was decided twice", chunk.0, self.entry.path);
            return Err(Error::new(Code::Protocol, what));
        };
        if missing == 0 {
            state.hash = state.tree.take().and_then(FileTree::finish);
        }
        state.unwritten = state.unwritten.saturating_sub(1);
        Ok(state.unwritten == 0)
    }

    /// All of the file stays as it was in the stale copy.
    ///
    /// # Errors
    /// E16: some of it has been written.
    pub(super) fn kept_whole(&self, hash: FileHash) -> Result<()> {
        let mut state = self.lock();
        if state.unwritten != chunk_count(self.entry.size) || state.tree.take().is_none() {
            let what = format!("{} was sent in part and then said to be the same", self.entry.path);
            return Err(Error::new(Code::Protocol, what));
        }
        (state.hash, state.unwritten) = (Some(hash), 0);
        Ok(())
    }

    /// A chunk has arrived of which nothing is known (any more); what it is, if it came before.
    pub(super) fn seen(&self, chunk: ChunkIndex, acks: &Acks) -> Option<Novelty> {
        let mut state = self.lock();
        if let Some(waiting) = state.in_flight.get_mut(&chunk) {
            waiting.push(acks.clone());
            return Some(Novelty::InFlight);
        }
        match &state.tree {
            Some(tree) if !tree.has(chunk) => None,
            Some(_) | None => Some(Novelty::Written),
        }
    }

    /// Room that the rest of the file may still take, at most. Unit: bytes.
    fn needed_bytes(&self) -> u64 {
        let rest = self.lock().unwritten.saturating_mul(CHUNK_BYTES_U64).min(self.entry.size);
        match self.staged.as_ref().and_then(|staged| staged.basis()) {
            Some(basis) => rest.min(self.entry.size.saturating_sub(basis.size)),
            None => rest,
        }
    }

    /// The donor asks about the file.
    ///
    /// # Errors
    /// E16: it has asked everything there is to ask.
    pub(super) fn asked(&self) -> Result<()> {
        let mut state = self.lock();
        state.questions += 1;
        if state.questions > QUESTIONS_MAX {
            let what = format!("the donor asks again and again about {}", self.entry.path);
            return Err(Error::new(Code::Protocol, what));
        }
        Ok(())
    }

    /// The hash of the file once it is complete.
    pub(super) fn hash(&self) -> Option<FileHash> {
        self.lock().hash
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
