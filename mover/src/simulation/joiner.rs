//! The joiner: its session, its stale copy, and the engine's rules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fastsst_proto::auth::Exporter;
use fastsst_proto::delta::{Known, Undecided, describe};
use fastsst_proto::lane::{joiner_check_hello, joiner_welcome};
use fastsst_proto::types::chunk_count;
use fastsst_proto::*;

use super::content::{Page, node};
use super::disk::{Dir, Disk, Ino};
use super::journal::{self, Record};
use super::net::{End, Event, Packet, Said, Wire};
use super::truth::{Mistake, SMALL_BYTES, Seen};
use super::{Shared, number_of, root_hash, token};

/// A file of the new tree.
#[derive(Debug)]
struct Building {
    path: u8,
    size: u64,
    generation: Generation,
    ino: Ino,
    tree: FileTree,
    done: BTreeSet<u32>,
    hash: Option<FileHash>,
    is_durable: bool,
    has_basis: bool,
    /// The journal says that its content has this hash.
    vouched: Option<FileHash>,
}

/// An answer that is due.
#[derive(Debug)]
enum Answer {
    File(FileRef),
    Chunks { file: FileRef, next: u32 },
}

#[derive(Debug)]
pub(super) struct Joiner {
    pub(super) session: JoinerSession,
    side: JoinerSide,
    key: PageKey,
    files: BTreeMap<FileId, Building>,
    gone: BTreeSet<FileId>,
    undecided: Undecided,
    /// Most that is described and not decided.
    window: usize,
    answers: VecDeque<Answer>,
    /// Chunks that have overtaken their entries.
    early: Vec<(LaneId, ChunkHeader, Vec<Page>)>,
    vouched: BTreeMap<u8, FileHash>,
    finish: Option<Finish>,
    is_working: bool,
    /// A whole chunk was not what its hash says: this end gives up.
    pub(super) is_spoiled: bool,
}

/// What becomes of a chunk that has arrived.
enum Taken {
    Ack,
    Again,
    Early(Vec<Page>),
}

impl Joiner {
    pub(super) fn new(disk: &Disk, window: usize, shared: &mut Shared) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&shared.chance.next().to_le_bytes());
        let transfer = TransferId(id);
        let has_stale =
            [Dir::Root, Dir::Old, Dir::New].iter().any(|dir| !disk.list(*dir).is_empty());
        let features = if has_stale {
            Features::SUPPORTED
        } else {
            Features::SUPPORTED.without(Features::DELTA)
        };
        let side = JoinerSide { transfer, features, software: "joiner".into() };
        let exporter = Exporter([2; 32]);
        Self {
            session: JoinerSession::new(shared.net.now(), &token(), exporter, side.clone()),
            key: PageKey::new(&transfer),
            side,
            files: BTreeMap::new(),
            gone: BTreeSet::new(),
            undecided: Undecided::new(),
            window,
            answers: VecDeque::new(),
            early: Vec::new(),
            vouched: BTreeMap::new(),
            finish: None,
            is_working: false,
            is_spoiled: false,
        }
    }

    pub(super) fn events(
        &mut self,
        disk: &mut Disk,
        shared: &mut Shared,
    ) -> Result<(), ProtocolError> {
        while let Some(event) = self.session.poll_event().filter(|_| !disk.is_stopped()) {
            match event {
                JoinerEvent::Declared(declaration) => {
                    self.prepare(disk, shared.truth.mistake);
                    self.session.accept(Accept { lanes: declaration.lanes })?;
                }
                JoinerEvent::LaneOffered { lane, .. } => self.session.lane_ready(lane, false)?,
                JoinerEvent::Entries(entries) => {
                    for entry in &entries {
                        self.create(entry, disk, shared);
                    }
                    self.take_early(disk, shared);
                }
                JoinerEvent::Gone(files) => {
                    for id in files {
                        let file = self.files.remove(&id).expect("an entry that was declared");
                        self.undecided.forget(id);
                        self.gone.insert(id);
                        disk.remove((Dir::New, file.path));
                    }
                    self.take_early(disk, shared);
                }
                JoinerEvent::Compare(asked) => {
                    for asked in asked {
                        self.on_compare(asked, disk, shared)?;
                    }
                }
                JoinerEvent::Same(chunks) => {
                    for at in chunks {
                        let known = self.undecided.take(at).expect("Same of what was described");
                        let ino = self.files[&at.file].ino;
                        shared.truth.check_chunk(at, &disk.inode(ino).content);
                        self.chunk_done(at, known.hash, (disk, shared));
                    }
                }
                JoinerEvent::SameFiles(files) => {
                    for file in files {
                        let hash = self.undecided.take_file(file).expect("described by its hash");
                        let building = self.files.get_mut(&file.0).expect("a file");
                        building.hash = Some(hash);
                        let held = &disk.inode(building.ino).content;
                        assert_eq!(held, shared.truth.content(file), "SameFiles");
                        self.complete(file, disk, shared);
                    }
                }
                JoinerEvent::Finish(finish) => self.finish = Some(finish),
                JoinerEvent::Authenticated(_)
                | JoinerEvent::ManifestEnd { .. }
                | JoinerEvent::PeerProgress { .. }
                | JoinerEvent::PeerLimitedBy(_)
                | JoinerEvent::Bye => {}
            }
        }
        self.commit(disk)
    }

    /// Everything that is there becomes the stale copy, what was built last before the rest.
    fn prepare(&mut self, disk: &mut Disk, mistake: Mistake) {
        for record in journal::read(disk.journal()) {
            let Some(ino) = disk.find((Dir::New, record.path)) else { continue };
            let inode = disk.inode(ino);
            let is_same = inode.ctime == record.ctime && inode.content.size() == record.size;
            if ino == record.ino && is_same {
                self.vouched.insert(record.path, record.hash);
            }
        }
        for path in disk.list(Dir::New) {
            disk.shift((Dir::New, path), (Dir::Old, path));
        }
        for path in disk.list(Dir::Root) {
            if disk.find((Dir::Old, path)).is_some() {
                disk.remove((Dir::Root, path));
            } else {
                disk.shift((Dir::Root, path), (Dir::Old, path));
            }
        }
        disk.sync_names();
        if mistake != Mistake::OldJournal || disk.journal().is_empty() {
            disk.begin_journal(&journal::header());
            disk.sync_journal();
        }
    }

    /// A new file, or the stale one of its name.
    fn create(&mut self, entry: &Entry, disk: &mut Disk, shared: &mut Shared) {
        if disk.is_stopped() {
            return;
        }
        let path = number_of(&entry.path);
        self.undecided.forget(entry.id);
        if self.files.contains_key(&entry.id) {
            disk.remove((Dir::New, path));
        }
        let stale = disk
            .find((Dir::Old, path))
            .filter(|ino| entry.generation == Generation(0) && disk.inode(*ino).other_names == 0);
        let vouched = self
            .vouched
            .remove(&path)
            .filter(|_| stale.is_some_and(|ino| disk.inode(ino).content.size() == entry.size));
        let ino = match stale {
            Some(ino) => {
                disk.shift((Dir::Old, path), (Dir::New, path));
                ino
            }
            None => disk.create((Dir::New, path)),
        };
        if disk.is_stopped() {
            return;
        }
        disk.resize(ino, entry.size);
        if let Some(hash) = vouched {
            let held = disk.inode(ino).content.file_hash();
            assert_eq!(held, hash, "the journal vouches for {path}, which is something else");
        }
        let (size, generation) = (entry.size, entry.generation);
        let tree = FileTree::new(size);
        let hash = tree.clone().finish();
        let is_complete = hash.is_some();
        let building = Building {
            path,
            size,
            generation,
            ino,
            tree,
            done: BTreeSet::new(),
            hash,
            is_durable: false,
            has_basis: stale.is_some(),
            vouched,
        };
        self.files.insert(entry.id, building);
        if is_complete {
            self.complete_later((entry.id, generation), ino, shared);
        }
    }

    fn on_compare(
        &mut self,
        asked: Asked,
        disk: &mut Disk,
        shared: &mut Shared,
    ) -> Result<(), ProtocolError> {
        let file = (asked.file, asked.generation);
        // Asked again: that the hash was not the right one is a decision.
        self.undecided.take_file(file);
        let Some(building) =
            self.files.get(&asked.file).filter(|it| it.generation == asked.generation)
        else {
            panic!("asked about {file:?}, which is not declared");
        };
        if shared.chance.one_in(30) {
            shared.truth.excused_files.insert(asked.file);
            return self.session.lacks(&[file]);
        }
        let is_small = building.size <= SMALL_BYTES || building.vouched.is_some();
        let chunks = Answer::Chunks { file, next: 0 };
        match asked.how {
            How::Any if building.has_basis && is_small => {
                self.answers.push_back(Answer::File(file))
            }
            How::Any | How::Pages if building.has_basis => self.answers.push_back(chunks),
            How::Any if self.twins(building.size, disk).next().is_some() => {
                return self.session.seek(&[file]);
            }
            How::Any | How::Pages => return self.session.lacks(&[file]),
            How::Withdrawn => panic!("the model's donor declares a changed file again at once"),
            How::Twin(page) => {
                if self.adopt_twin(file, page, (disk, shared)) {
                    self.answers.push_back(chunks);
                } else {
                    return self.session.lacks(&[file]);
                }
            }
        }
        Ok(())
    }

    /// Stale files of this size that no declared file has claimed.
    fn twins(&self, size: u64, disk: &Disk) -> impl Iterator<Item = (u8, Ino)> {
        let stale = disk.list(Dir::Old).into_iter();
        let found = stale.filter_map(|path| disk.find((Dir::Old, path)).map(|ino| (path, ino)));
        let fits = |(_, ino): &(u8, Ino)| {
            disk.inode(*ino).content.size() == size && disk.inode(*ino).other_names == 0
        };
        found.filter(fits).collect::<Vec<_>>().into_iter()
    }

    fn adopt_twin(
        &mut self,
        file: FileRef,
        page: [u8; 8],
        (disk, shared): (&mut Disk, &mut Shared),
    ) -> bool {
        let (size, path) = (self.files[&file.0].size, self.files[&file.0].path);
        let looks_right = |(_, ino): &(u8, Ino)| {
            self.key.of(&disk.inode(*ino).content.nodes(ChunkIndex(0))[0]) == page
        };
        let Some((twin, ino)) = self.twins(size, disk).find(looks_right) else { return false };
        disk.remove((Dir::New, path));
        disk.shift((Dir::Old, twin), (Dir::New, path));
        shared.truth.saw(Seen::Twin);
        // Whoever is declared with that name later finds nothing.
        shared.truth.before.remove(&twin);
        self.vouched.remove(&twin);
        let building = self.files.get_mut(&file.0).expect("a file");
        (building.ino, building.has_basis) = (ino, true);
        true
    }

    /// Describes a little more, if it may; schedules the next.
    pub(super) fn work(&mut self, disk: &Disk, shared: &mut Shared) -> Result<(), ProtocolError> {
        self.is_working = false;
        match self.answers.pop_front() {
            None => Ok(()),
            Some(Answer::File(file)) => self.describe_file(file, disk, shared),
            Some(Answer::Chunks { file, next }) => self.describe_chunks((file, next), disk, shared),
        }
    }

    pub(super) fn poke(&mut self, shared: &mut Shared) {
        let ignores = shared.truth.mistake == Mistake::IgnoresWindow;
        let has_room = self.undecided.len() < self.window || ignores;
        if !has_room && !self.answers.is_empty() {
            shared.truth.saw(Seen::WindowFull);
        }
        if !self.is_working && has_room && !self.answers.is_empty() {
            self.is_working = true;
            shared.net.after(shared.chance.below(6), Event::Work(End::Joiner));
        }
    }

    fn current(&self, (id, generation): FileRef) -> Option<&Building> {
        self.files.get(&id).filter(|file| file.generation == generation)
    }

    fn describe_file(
        &mut self,
        file: FileRef,
        disk: &Disk,
        shared: &mut Shared,
    ) -> Result<(), ProtocolError> {
        let Some(building) = self.current(file) else { return self.session.lacks(&[file]) };
        if building.vouched.is_some() {
            shared.truth.saw(Seen::FileVouched);
        }
        let read = || disk.inode(building.ino).content.file_hash();
        let hash = building.vouched.unwrap_or_else(read);
        self.undecided.describe_file(file, hash);
        self.session.have_files(&[(file.0, file.1, hash)])
    }

    /// One to three chunks from `next` on, as far as there is room; at times one is left out.
    fn describe_chunks(
        &mut self,
        (file, next): (FileRef, u32),
        disk: &Disk,
        shared: &mut Shared,
    ) -> Result<(), ProtocolError> {
        let Some(building) = self.current(file) else { return self.session.have_end(file) };
        let end = chunk_count(building.size) as u32;
        if next >= end {
            return self.session.have_end(file);
        }
        let content = &disk.inode(building.ino).content;
        let (file_id, generation) = file;
        let at = |chunk| ChunkRef { file: file_id, generation, chunk: ChunkIndex(chunk) };
        if shared.chance.one_in(20) {
            shared.truth.excused.insert(at(next));
            self.answers.push_back(Answer::Chunks { file, next: next + 1 });
            return Ok(());
        }
        let room = self.window.saturating_sub(self.undecided.len()).max(1);
        let count = (1 + shared.chance.below(3)).min(room as u64) as u32;
        let described = next..(next + count).min(end);
        let mut chunks = Vec::new();
        for chunk in described.clone() {
            let (hash, pages) =
                (content.chunk_hash(ChunkIndex(chunk)), content.nodes(ChunkIndex(chunk)));
            chunks.push(describe(hash, &pages, &self.key));
            self.undecided.describe(at(chunk), Known { hash, pages });
        }
        self.answers.push_back(Answer::Chunks { file, next: described.end });
        let first_chunk = ChunkIndex(next);
        self.session.have(Have { file: file_id, generation, first_chunk, chunks })
    }

    /// Something came on a lane.
    pub(super) fn on_lane(
        &mut self,
        lane: LaneId,
        said: Said,
        (disk, shared): (&mut Disk, &mut Shared),
    ) {
        match said {
            Said::Frame(hello) => {
                let exporter = Exporter([2; 32]);
                let transfer = Some(&self.side.transfer);
                let accepted = joiner_check_hello(&hello, &token(), &exporter, transfer)
                    .expect("a lane of this transfer");
                let welcome = joiner_welcome(&token(), &exporter, &accepted.scope, &self.side);
                let packet = Packet::frame(&welcome);
                shared.net.send(End::Donor, Wire::Lane(lane), packet, &mut shared.chance);
            }
            Said::Chunk(header, pages) => {
                self.is_spoiled |= !self.on_chunk(lane, (header, pages), (disk, shared));
            }
        }
    }

    fn take_early(&mut self, disk: &mut Disk, shared: &mut Shared) {
        for (lane, header, pages) in std::mem::take(&mut self.early) {
            self.is_spoiled |= !self.on_chunk(lane, (header, pages), (disk, shared));
        }
    }

    /// False when it is a whole chunk, and not what its hash says.
    fn on_chunk(
        &mut self,
        lane: LaneId,
        (header, pages): (ChunkHeader, Vec<Page>),
        (disk, shared): (&mut Disk, &mut Shared),
    ) -> bool {
        let at = header.at;
        let answer = match self.take(&header, pages, (disk, shared)) {
            None => return false,
            Some(Taken::Early(pages)) => {
                self.early.push((lane, header, pages));
                return true;
            }
            Some(Taken::Ack) => Frame::Ack(vec![at]),
            Some(Taken::Again) => {
                shared.truth.saw(Seen::Again);
                Frame::Again(vec![at])
            }
        };
        let packet = Packet::frame(&answer);
        shared.net.send(End::Donor, Wire::Lane(lane), packet, &mut shared.chance);
        true
    }

    /// `None`: a whole chunk that is not what its hash says.
    fn take(
        &mut self,
        header: &ChunkHeader,
        pages: Vec<Page>,
        (disk, shared): (&mut Disk, &mut Shared),
    ) -> Option<Taken> {
        let at = header.at;
        let Some(file) = self.files.get(&at.file) else {
            let is_gone = self.gone.contains(&at.file);
            return Some(if is_gone { Taken::Ack } else { Taken::Early(pages) });
        };
        if at.generation != file.generation {
            let is_late = at.generation < file.generation;
            return Some(if is_late { Taken::Ack } else { Taken::Early(pages) });
        }
        header.validate_against(file.size).expect("a chunk of its file");
        let (ino, size) = (file.ino, file.size);
        if file.done.contains(&at.chunk.0) {
            // The first hash stays. Of a chunk in part both answers are allowed.
            let is_ack = header.is_complete() || shared.chance.one_in(2);
            return Some(if is_ack { Taken::Ack } else { Taken::Again });
        }
        self.undecided.take_file((at.file, at.generation));
        let known = self.undecided.take(at);
        let sent: Vec<_> = header.sent.pages().zip(pages).collect();
        let hashed = |(number, page)| (number, node(size, at.chunk, (number, page)));
        let nodes: Vec<_> = sent.iter().copied().map(hashed).collect();
        let known = if header.is_complete() {
            let pages = vec![PageHash::default(); header.plain_len.div_ceil(1 << 14) as usize];
            Some(Known { hash: header.hash, pages })
        } else {
            known
        };
        let made = known.and_then(|known| known.patched((size, at), &nodes, header.zero));
        let is_trusted = shared.truth.mistake == Mistake::TrustsPages && made.is_some();
        if made != Some(header.hash) && !is_trusted {
            return if header.is_complete() { None } else { Some(Taken::Again) };
        }
        for (number, page) in sent {
            disk.write(ino, at.chunk.0 as usize * 64 + number as usize, page);
        }
        for number in header.zero.pages() {
            disk.write(ino, at.chunk.0 as usize * 64 + number as usize, Page::ZERO);
        }
        if !disk.is_stopped() {
            shared.truth.check_chunk(at, &disk.inode(ino).content);
        }
        self.chunk_done(at, header.hash, (disk, shared));
        Some(Taken::Ack)
    }

    fn chunk_done(
        &mut self,
        at: ChunkRef,
        hash: ChunkHash,
        (disk, shared): (&mut Disk, &mut Shared),
    ) {
        let file = self.files.get_mut(&at.file).expect("a file");
        assert!(file.done.insert(at.chunk.0), "{at:?} is done twice");
        file.tree.insert(at.chunk, hash).expect("each chunk once");
        file.hash = file.tree.clone().finish();
        if file.hash.is_some() {
            self.complete((at.file, at.generation), disk, shared);
        }
    }

    /// All of a file is there: it is synced, and then recorded, and then the donor is told.
    fn complete(&mut self, file: FileRef, disk: &mut Disk, shared: &mut Shared) {
        let ino = self.files[&file.0].ino;
        if shared.truth.mistake == Mistake::RecordBeforeSync {
            self.record(file, disk);
            disk.sync_journal();
        }
        shared.net.after(1 + shared.chance.below(30), Event::Synced { file, ino });
    }

    fn complete_later(&self, file: FileRef, ino: Ino, shared: &mut Shared) {
        shared.net.after(1, Event::Synced { file, ino });
    }

    fn record(&self, file: FileRef, disk: &mut Disk) {
        let building = &self.files[&file.0];
        let (path, ino, hash) = (building.path, building.ino, building.hash.expect("complete"));
        let inode = disk.inode(ino);
        let record = Record { path, size: building.size, ino, ctime: inode.ctime, hash };
        let bytes = journal::record(disk.journal(), &record);
        disk.append_to_journal(&bytes);
    }

    pub(super) fn synced(
        &mut self,
        (file, ino): (FileRef, Ino),
        disk: &mut Disk,
        shared: &mut Shared,
    ) -> Result<(), ProtocolError> {
        if self.current(file).is_none_or(|building| building.ino != ino) {
            return Ok(());
        }
        disk.sync_file(ino);
        if disk.is_stopped() {
            return Ok(());
        }
        shared.truth.check_durable(file, disk.durable(ino));
        if shared.truth.mistake != Mistake::RecordBeforeSync {
            self.record(file, disk);
        }
        if shared.chance.one_in(4) {
            disk.sync_journal();
        }
        self.files.get_mut(&file.0).expect("a file").is_durable = true;
        self.session.durable(vec![file])?;
        self.commit(disk)
    }

    /// Once everything is durable.
    fn commit(&mut self, disk: &mut Disk) -> Result<(), ProtocolError> {
        let is_complete = self.files.values().all(|file| file.is_durable);
        let Some(finish) = self.finish.take_if(|_| is_complete) else { return Ok(()) };
        assert!(self.undecided.is_empty() && self.answers.is_empty(), "something is left open");
        let files =
            self.files.values().map(|file| (file.path, (file.size, file.hash.expect("complete"))));
        let root_hash = root_hash(files.collect());
        assert_eq!(root_hash, finish.root_hash, "at the joiner");
        disk.sync_names();
        disk.commit();
        if disk.is_stopped() { Ok(()) } else { self.session.committed(root_hash) }
    }
}
