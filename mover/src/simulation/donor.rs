//! The donor: its session, its account of questions and lanes, and the engine's rules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fastsst_proto::auth::Exporter;
use fastsst_proto::delta::{Asking, Verdict, compare};
use fastsst_proto::lane::{donor_check_welcome, donor_hello};
use fastsst_proto::*;

use super::content::Content;
use super::net::{End, Event, Packet, Said, Wire};
use super::truth::{Mistake, Seen, chunk_of};
use super::{Shared, entry, root_hash, token};

/// What is to be done about one file or chunk.
#[derive(Debug)]
enum Job {
    /// Read a chunk and compare it with what the joiner described.
    Compare(ChunkRef, Box<HaveChunk>),
    /// Read a file and compare its hash.
    Hash(FileRef, FileHash),
    /// Read a chunk and send these pages.
    Send(ChunkRef, PageMask),
}

impl Job {
    fn file(&self) -> FileId {
        match self {
            Self::Compare(at, _) | Self::Send(at, _) => at.file,
            Self::Hash((file, _), _) => *file,
        }
    }

    fn is_undecided(&self) -> bool {
        matches!(self, Self::Compare(..) | Self::Hash(..))
    }
}

#[derive(Debug)]
struct Sending {
    path: u8,
    generation: Generation,
    content: Content,
    tree: FileTree,
    read: BTreeSet<u32>,
    hash: Option<FileHash>,
    is_durable: bool,
}

impl Sending {
    fn new(path: u8, generation: Generation, content: Content) -> Self {
        let tree = FileTree::new(content.size());
        let hash = tree.clone().finish();
        Self { path, generation, content, tree, read: BTreeSet::new(), hash, is_durable: false }
    }

    /// A chunk was read; its first hash stays.
    fn hashed(&mut self, chunk: ChunkIndex) {
        if self.read.insert(chunk.0) {
            self.tree.insert(chunk, self.content.chunk_hash(chunk)).expect("each chunk once");
            self.hash = self.tree.clone().finish();
        }
    }
}

#[derive(Debug, Default)]
struct Lane {
    is_up: bool,
    account: DonorLane,
    /// Which pages were sent of what is under way.
    pages: BTreeMap<ChunkRef, PageMask>,
}

#[derive(Debug)]
pub(super) struct Donor {
    pub(super) session: DonorSession,
    features: Features,
    transfer: TransferId,
    key: PageKey,
    files: BTreeMap<FileId, Sending>,
    /// Files the walk has not come to yet.
    undeclared: VecDeque<FileId>,
    /// Files that are asked about or sent last, in this order.
    later: VecDeque<FileId>,
    asking: Asking,
    jobs: VecDeque<Job>,
    lanes: BTreeMap<LaneId, Lane>,
    /// Chunks under way on one lane.
    lane_max: usize,
    /// Most the joiner describes, to see that it keeps to it.
    window: usize,
    changes_left: u64,
    is_started: bool,
    has_finished: bool,
    is_working: bool,
}

impl Donor {
    pub(super) fn new(tree: &BTreeMap<u8, Content>, window: usize, shared: &mut Shared) -> Self {
        let now = shared.net.now();
        let exporter = Exporter([2; 32]);
        let mut files = BTreeMap::new();
        let mut order: Vec<_> = tree.iter().collect();
        shared.chance.shuffle(&mut order);
        for (id, (path, content)) in (0..).map(FileId).zip(order) {
            files.insert(id, Sending::new(*path, Generation(0), content.clone()));
        }
        Self {
            session: DonorSession::new(now, &token(), exporter, "donor".into()),
            features: Features::default(),
            transfer: TransferId::default(),
            key: PageKey::new(&TransferId::default()),
            undeclared: files.keys().copied().collect(),
            files,
            later: VecDeque::new(),
            asking: Asking::new(),
            jobs: VecDeque::new(),
            lanes: BTreeMap::new(),
            lane_max: 1 + shared.chance.index(6),
            window,
            changes_left: if shared.chance.one_in(4) { shared.chance.below(3) } else { 0 },
            is_started: false,
            has_finished: false,
            is_working: false,
        }
    }

    /// What the donor has now; files that changed under way included.
    pub(super) fn tree(&self) -> BTreeMap<u8, Content> {
        self.files.values().map(|file| (file.path, file.content.clone())).collect()
    }

    pub(super) fn events(&mut self, shared: &mut Shared) -> Result<(), ProtocolError> {
        while let Some(event) = self.session.poll_event() {
            match event {
                DonorEvent::Welcomed { transfer, features } => {
                    (self.transfer, self.features) = (transfer, features);
                    self.key = PageKey::new(&transfer);
                    self.session.declare(super::declaration())?;
                }
                DonorEvent::Accepted { lanes } => self.start(lanes)?,
                DonorEvent::LaneReady { lane, .. } => self.greet(lane, shared),
                DonorEvent::Durable(files) => self.durable(&files),
                DonorEvent::Committed { root_hash } => {
                    assert_eq!(root_hash, self.root_hash(), "at the donor");
                    self.session.bye()?;
                }
                DonorEvent::Lacks(files) => {
                    for file in files {
                        self.asking.answered(file)?;
                        self.send_whole(file);
                    }
                }
                DonorEvent::HaveFiles(files) => self.on_have_files(&files)?,
                DonorEvent::Seek(files) => self.on_seek(&files)?,
                DonorEvent::Have(have) => self.on_have(have, shared)?,
                DonorEvent::HaveEnd(file) => {
                    for range in self.asking.end(file)? {
                        self.send_range(file, range);
                    }
                }
                DonorEvent::PeerProgress { .. } | DonorEvent::PeerLimitedBy(_) => {}
                DonorEvent::BypassDone => panic!("no bypass"),
            }
        }
        Ok(())
    }

    fn start(&mut self, lanes: u16) -> Result<(), ProtocolError> {
        for lane in (0..lanes).map(LaneId) {
            self.lanes.insert(lane, Lane::default());
            self.session.offer_lane(lane, 0)?;
        }
        self.is_started = true;
        Ok(())
    }

    /// The walk comes to a file.
    fn declare(&mut self, id: FileId, shared: &mut Shared) -> Result<(), ProtocolError> {
        let file = &self.files[&id];
        shared.truth.declare((id, Generation(0)), file.path, &file.content);
        self.session.entries(vec![entry(id, Generation(0), (file.path, &file.content))])?;
        if shared.chance.one_in(5) {
            self.later.push_back(id);
            return Ok(());
        }
        self.begin(id, shared)
    }

    /// Asks about a file, or sends it.
    fn begin(&mut self, id: FileId, shared: &mut Shared) -> Result<(), ProtocolError> {
        let file = &self.files[&id];
        let (generation, size) = (file.generation, file.content.size());
        let has_delta = self.features.contains(Features::DELTA);
        let is_asked = generation == Generation(0) && has_delta && size > 0;
        if !is_asked || shared.chance.one_in(20) {
            shared.truth.excused_files.insert(id);
            self.send_whole((id, generation));
            return Ok(());
        }
        self.ask((id, generation), How::Any)
    }

    fn ask(&mut self, (file, generation): FileRef, how: How) -> Result<(), ProtocolError> {
        let asked = Asked { file, generation, how };
        self.asking.ask(&asked, self.files[&file].content.size());
        self.session.compare(&[asked])
    }

    /// The file, unless it is gone or was declared again.
    fn current(&self, (id, generation): FileRef) -> Option<&Sending> {
        self.files.get(&id).filter(|file| file.generation == generation)
    }

    fn send_whole(&mut self, file: FileRef) {
        let chunks = self.current(file).map_or(0, |sending| sending.content.chunks());
        self.send_range(file, 0..u64::from(chunks));
    }

    fn send_range(&mut self, file: FileRef, range: std::ops::Range<u64>) {
        if self.current(file).is_some() {
            let (file, generation) = file;
            let chunk = |number| ChunkRef { file, generation, chunk: ChunkIndex(number as u32) };
            self.jobs.extend(range.map(|number| Job::Send(chunk(number), PageMask::first(64))));
        }
    }

    fn on_have_files(&mut self, files: &[HaveFile]) -> Result<(), ProtocolError> {
        for (id, generation, hash) in files {
            let file = (*id, *generation);
            self.asking.have_file(file)?;
            if self.current(file).is_some() {
                self.jobs.push_back(Job::Hash(file, *hash));
            } else {
                self.asking.decided(1);
            }
        }
        self.check_window();
        Ok(())
    }

    fn on_seek(&mut self, files: &[FileRef]) -> Result<(), ProtocolError> {
        for file in files {
            self.asking.answered(*file)?;
            if let Some(sending) = self.current(*file) {
                let first = sending.content.nodes(ChunkIndex(0))[0];
                let page = self.key.of(&first);
                self.ask(*file, How::Twin(page))?;
            }
        }
        Ok(())
    }

    fn on_have(&mut self, mut have: Have, shared: &mut Shared) -> Result<(), ProtocolError> {
        self.asking.have(&have)?;
        let file = (have.file, have.generation);
        let Some(sending) = self.current(file) else {
            self.asking.decided(have.chunks.len());
            return Ok(());
        };
        let mut jobs = Vec::new();
        for (number, mut chunk) in (have.first_chunk.0..).zip(have.chunks.drain(..)) {
            let chunk_ref = ChunkRef {
                file: have.file,
                generation: have.generation,
                chunk: ChunkIndex(number),
            };
            if shared.chance.one_in(40) {
                let nodes = sending.content.nodes(ChunkIndex(number));
                if collide(&mut chunk, &nodes, (&self.key, &mut shared.chance)) {
                    shared.truth.saw(Seen::Collision);
                    shared.truth.excused.insert(chunk_ref);
                }
            }
            jobs.push(Job::Compare(chunk_ref, Box::new(chunk)));
        }
        self.jobs.extend(jobs);
        self.check_window();
        Ok(())
    }

    /// What the donor keeps of what the joiner described is bounded, because that is.
    fn check_window(&self) {
        let undecided = self.jobs.iter().filter(|job| job.is_undecided()).count();
        assert!(undecided <= self.window, "{undecided} described, {} at most", self.window);
    }

    fn durable(&mut self, files: &[FileRef]) {
        for (id, generation) in files {
            if let Some(file) = self.files.get_mut(id).filter(|it| it.generation == *generation) {
                file.is_durable = true;
            }
        }
        let is_durable = |id: FileId| self.files.get(&id).is_some_and(|file| file.is_durable);
        self.jobs.retain(|job| !is_durable(job.file()));
    }

    fn greet(&mut self, lane: LaneId, shared: &mut Shared) {
        let wire = Wire::Lane(lane);
        shared.net.connect(wire);
        let hello = donor_hello(&token(), &Exporter([2; 32]), self.transfer, lane, "donor");
        shared.net.send(End::Joiner, wire, Packet::frame(&hello), &mut shared.chance);
    }

    /// Something came on a lane.
    pub(super) fn on_lane(
        &mut self,
        id: LaneId,
        said: Said,
        shared: &mut Shared,
    ) -> Result<(), ProtocolError> {
        let Said::Frame(frame) = said else { panic!("a chunk for the donor") };
        let lane = self.lanes.get_mut(&id).expect("a lane that was offered");
        let (Frame::Ack(chunks) | Frame::Again(chunks)) = &frame else {
            let scope = Scope::Lane { transfer: self.transfer, lane: id };
            donor_check_welcome(&frame, &token(), &Exporter([2; 32]), &scope)?;
            lane.is_up = true;
            return Ok(());
        };
        lane.account.handle_ack(chunks)?;
        for at in chunks {
            lane.pages.remove(at);
            let file = self.files.get(&at.file).filter(|file| file.generation == at.generation);
            if matches!(frame, Frame::Again(_)) {
                shared.truth.asked_for_all(*at);
                if file.is_some_and(|file| !file.is_durable) {
                    self.jobs.push_back(Job::Send(*at, PageMask::first(64)));
                }
            }
        }
        Ok(())
    }

    /// A lane is gone: what was under way is to be sent again, in the same way.
    pub(super) fn on_lane_lost(&mut self, id: LaneId, shared: &mut Shared) {
        let lane = self.lanes.insert(id, Lane::default()).expect("a lane that was offered");
        shared.truth.saw(Seen::LaneLost);
        shared.net.after(100, Event::Reconnect(id));
        if shared.truth.mistake == Mistake::ForgetsUnacked {
            return;
        }
        for at in lane.account.into_unacked() {
            let file = self.current((at.file, at.generation));
            if file.is_some_and(|file| !file.is_durable) {
                self.jobs.push_front(Job::Send(at, lane.pages[&at]));
            }
        }
    }

    pub(super) fn reconnect(&mut self, lane: LaneId) {
        // A misuse once everything is over.
        drop(self.session.offer_lane(lane, 0));
    }

    /// Does one thing that is due; schedules the next.
    pub(super) fn work(&mut self, shared: &mut Shared) -> Result<(), ProtocolError> {
        self.is_working = false;
        if shared.chance.one_in(20) && self.changes_left > 0 && !self.has_finished {
            self.changes_left -= 1;
            return self.change(shared);
        }
        if (self.jobs.is_empty() || shared.chance.one_in(3))
            && let Some(id) = self.undeclared.pop_front()
        {
            return self.declare(id, shared);
        }
        if !self.jobs.is_empty() {
            let at = if shared.chance.one_in(3) { shared.chance.index(self.jobs.len()) } else { 0 };
            let job = self.jobs.remove(at).expect("a job");
            return self.run(job, shared);
        }
        if !self.asking.is_empty() {
            return Ok(());
        }
        if let Some(id) = self.later.pop_front() {
            return self.begin(id, shared);
        }
        self.finish()
    }

    pub(super) fn poke(&mut self, shared: &mut Shared) {
        let needs_lane = |job: &Job| matches!(job, Job::Send(..));
        let has_lane = self.free_lane().is_some();
        let has_job =
            self.jobs.iter().any(|job| has_lane || !needs_lane(job)) || !self.undeclared.is_empty();
        let is_idle = self.jobs.is_empty() && self.asking.is_empty() && !self.has_finished;
        if self.is_started && !self.is_working && (has_job || is_idle) {
            self.is_working = true;
            shared.net.after(shared.chance.below(4), Event::Work(End::Donor));
        }
    }

    fn free_lane(&self) -> Option<LaneId> {
        let has_room = |lane: &Lane| {
            lane.is_up && !lane.account.is_full() && lane.account.outstanding() < self.lane_max
        };
        // The one with the least under way.
        let free = self.lanes.iter().filter(|(_, lane)| has_room(lane));
        free.min_by_key(|(_, lane)| lane.account.outstanding()).map(|(id, _)| *id)
    }

    fn run(&mut self, job: Job, shared: &mut Shared) -> Result<(), ProtocolError> {
        match job {
            Job::Hash(file, hash) => self.compare_file(file, hash, shared),
            Job::Compare(at, have) => {
                let file = self.files.get_mut(&at.file).expect("a file of a job");
                file.hashed(at.chunk);
                let hash = file.content.chunk_hash(at.chunk);
                let nodes = file.content.nodes(at.chunk);
                self.asking.decided(1);
                match compare(&have, &self.key, (hash, &nodes)) {
                    Verdict::Same => {
                        shared.truth.saw(Seen::ChunkSame);
                        self.session.same(&[at])
                    }
                    Verdict::Differs(_) if shared.truth.mistake == Mistake::SendsEqualPages => {
                        self.jobs.push_front(Job::Send(at, PageMask::first(64)));
                        Ok(())
                    }
                    Verdict::Differs(pages) => {
                        self.jobs.push_front(Job::Send(at, pages));
                        Ok(())
                    }
                }
            }
            Job::Send(at, pages) => {
                let Some(lane) = self.free_lane() else {
                    self.jobs.push_front(Job::Send(at, pages));
                    return Ok(());
                };
                self.send(lane, (at, pages), shared);
                Ok(())
            }
        }
    }

    fn compare_file(
        &mut self,
        file: FileRef,
        hash: FileHash,
        shared: &mut Shared,
    ) -> Result<(), ProtocolError> {
        let sending = self.files.get_mut(&file.0).expect("a file of a job");
        let chunks = sending.content.chunks();
        self.asking.decided(1);
        if sending.content.file_hash() == hash {
            (0..chunks).for_each(|chunk| sending.hashed(ChunkIndex(chunk)));
            shared.truth.saw(Seen::FileSame);
            return self.session.same_files(&[file]);
        }
        if chunks <= 1 {
            self.send_whole(file);
            shared.truth.excused_files.insert(file.0);
            return Ok(());
        }
        shared.truth.saw(Seen::PagesAfterFile);
        self.ask(file, How::Pages)
    }

    fn send(&mut self, id: LaneId, (at, pages): (ChunkRef, PageMask), shared: &mut Shared) {
        let file = self.files.get_mut(&at.file).expect("a file of a job");
        assert!(!file.is_durable, "{at:?} is durable and sent again");
        file.hashed(at.chunk);
        let (header, payload) = chunk_of(&file.content, at, pages);
        shared.truth.check_sent(&header);
        let lane = self.lanes.get_mut(&id).expect("a free lane");
        lane.account.sent(at);
        lane.pages.insert(at, pages);
        let mut packet = Packet::chunk(&header, payload);
        if shared.spoils > 0 && shared.chance.one_in(10) && packet.spoil(&mut shared.chance) {
            shared.spoils -= 1;
            shared.truth.saw(Seen::Corruption);
        }
        shared.net.send(End::Joiner, Wire::Lane(id), packet, &mut shared.chance);
    }

    /// A file has changed, or vanished, while it was sent.
    fn change(&mut self, shared: &mut Shared) -> Result<(), ProtocolError> {
        let declared = self.files.keys().filter(|id| !self.undeclared.contains(id));
        let ids: Vec<FileId> = declared.copied().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let id = shared.chance.pick(&ids);
        let undecided = self.jobs.iter().filter(|job| job.file() == id && job.is_undecided());
        self.asking.decided(undecided.count());
        self.jobs.retain(|job| job.file() != id);
        self.later.retain(|later| *later != id);
        let old = self.files.remove(&id).expect("one of them");
        if shared.chance.one_in(3) {
            shared.truth.saw(Seen::Gone);
            return self.session.gone(vec![id]);
        }
        shared.truth.saw(Seen::DeclaredAgain);
        let generation = Generation(old.generation.0 + 1);
        let mut content = old.content;
        super::damage(&mut content, &mut shared.chance);
        shared.truth.declare((id, generation), old.path, &content);
        self.session.entries(vec![entry(id, generation, (old.path, &content))])?;
        self.files.insert(id, Sending::new(old.path, generation, content));
        self.send_whole((id, generation));
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ProtocolError> {
        if self.has_finished || self.files.values().any(|file| file.hash.is_none()) {
            return Ok(());
        }
        self.has_finished = true;
        let entries = self.files.len() as u64;
        let bytes = self.files.values().map(|file| file.content.size()).sum();
        self.session.manifest_end(entries, bytes)?;
        let root_hash = self.root_hash();
        self.session.finish(Finish { root_hash, position: Vec::new(), entries, bytes })
    }

    fn root_hash(&self) -> RootHash {
        let files = self.files.values().map(|file| {
            (file.path, (file.content.size(), file.hash.expect("everything was read")))
        });
        root_hash(files.collect())
    }
}

/// Makes one page look like the donor's; false when it is.
fn collide(
    have: &mut HaveChunk,
    nodes: &[PageHash],
    (key, chance): (&PageKey, &mut super::chance::Chance),
) -> bool {
    let differing: Vec<usize> =
        (0..nodes.len()).filter(|at| have.pages[*at] != key.of(&nodes[*at])).collect();
    if differing.is_empty() {
        return false;
    }
    let at = chance.pick(&differing);
    have.pages[at] = key.of(&nodes[at]);
    true
}
