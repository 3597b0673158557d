//! Both ends through whole transfers under random schedules.

use std::collections::BTreeMap;

use fastsst_proto::limits::{ENTRIES_PER_FRAME_MAX, FILES_PER_FRAME_MAX};
use fastsst_proto::*;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::pair::{Pair, TRANSFER, declaration, entry, plain};
use crate::{arbitrary, survives};

/// What the donor's owner does in one pass.
#[derive(Debug, Clone)]
struct Pass {
    new: Vec<u64>,
    again: Vec<prop::sample::Index>,
    gone: Vec<prop::sample::Index>,
}

fn pass() -> impl Strategy<Value = Pass> {
    (
        vec(0..5_000_000u64, 0..30),
        vec(any::<prop::sample::Index>(), 0..10),
        vec(any::<prop::sample::Index>(), 0..3),
    )
        .prop_map(|(new, again, gone)| Pass { new, again, gone })
}

type Files = BTreeMap<FileId, Entry>;

fn root_of(files: &Files) -> RootHash {
    let mut lines: Vec<_> = files.values().collect();
    lines.sort_by(|a, b| a.path.cmp(&b.path));
    let mut hasher = RootHasher::new();
    for entry in lines {
        hasher
            .add(&RootLine {
                root: b"datadir",
                path: &entry.path,
                kind: entry.kind,
                mode: entry.mode,
                size: entry.size,
                link_target: None,
                hard_link_of: None,
                file_hash: Some(FileHash([entry.generation.0 as u8; 32])),
            })
            .unwrap();
    }
    hasher.finish()
}

/// The owner of the donor's session.
struct Donor {
    passes: Vec<Pass>,
    files: Files,
    next_id: u32,
    durable: BTreeMap<FileId, Generation>,
    lanes_ready: usize,
    is_started: bool,
    joiner_limited_by: Bottleneck,
    is_committed: bool,
}

impl Donor {
    fn new(mut passes: Vec<Pass>) -> Self {
        passes.reverse();
        Self {
            passes,
            files: Files::new(),
            next_id: 0,
            durable: BTreeMap::new(),
            lanes_ready: 0,
            is_started: false,
            joiner_limited_by: Bottleneck::default(),
            is_committed: false,
        }
    }

    fn sums(&self) -> (u64, u64) {
        (self.files.len() as u64, self.files.values().map(|entry| entry.size).sum())
    }

    /// Takes events; then does one thing that is due.
    fn act(&mut self, session: &mut DonorSession) {
        while let Some(event) = session.poll_event() {
            match event {
                DonorEvent::Welcomed { transfer, .. } => {
                    assert_eq!(transfer, TRANSFER);
                    session.declare(declaration(3)).unwrap();
                }
                DonorEvent::Accepted { lanes } => {
                    self.is_started = true;
                    for lane in 0..lanes {
                        session.offer_lane(LaneId(lane), 1000 + lane).unwrap();
                    }
                }
                DonorEvent::LaneReady { .. } => self.lanes_ready += 1,
                DonorEvent::Durable(files) => self.durable.extend(files),
                DonorEvent::Committed { root_hash } => {
                    assert_eq!(root_hash, root_of(&self.files));
                    assert_eq!(self.joiner_limited_by, Bottleneck::DiskWrite, "it came before");
                    self.is_committed = true;
                    session.bye().unwrap();
                }
                DonorEvent::PeerProgress { .. } => {}
                DonorEvent::PeerLimitedBy(seen) => self.joiner_limited_by = seen,
                DonorEvent::BypassDone => panic!("no bypass"),
                DonorEvent::Lacks(_)
                | DonorEvent::HaveFiles(_)
                | DonorEvent::Seek(_)
                | DonorEvent::Have(_)
                | DonorEvent::HaveEnd(_) => panic!("there is no stale copy"),
            }
        }
        if !self.is_started {
            return;
        }
        match self.passes.pop() {
            Some(pass) => self.walk(session, &pass),
            None => self.finish(session),
        }
    }

    fn walk(&mut self, session: &mut DonorSession, pass: &Pass) {
        let mut entries = Vec::new();
        for size in &pass.new {
            entries.push(entry(self.next_id, 0, *size));
            self.next_id += 1 + (*size % 3) as u32;
        }
        let ids: Vec<FileId> = self.files.keys().copied().collect();
        if !ids.is_empty() {
            for index in &pass.again {
                let old = &self.files[index.get(&ids)];
                // The same file may be drawn twice in one pass.
                let generation = entries
                    .iter()
                    .filter(|entry| entry.id == old.id)
                    .map(|entry| entry.generation.0)
                    .max()
                    .unwrap_or(old.generation.0);
                entries.push(entry(old.id.0, generation + 1, old.size / 2 + 3));
            }
        }
        self.files.extend(entries.iter().map(|entry| (entry.id, entry.clone())));
        session.entries(entries).unwrap();
        for index in &pass.gone {
            let ids: Vec<FileId> = self.files.keys().copied().collect();
            if !ids.is_empty() {
                let id = *index.get(&ids);
                self.files.remove(&id);
                session.gone(vec![id]).unwrap();
            }
        }
        let (entries, bytes) = self.sums();
        session.manifest_end(entries, bytes).unwrap();
    }

    fn finish(&mut self, session: &mut DonorSession) {
        let (entries, bytes) = self.sums();
        let finish = Finish {
            root_hash: root_of(&self.files),
            position: b"uuid:7".to_vec(),
            entries,
            bytes,
        };
        // Legal once; afterwards a misuse that changes nothing.
        survives(session.limited_by(Bottleneck::DiskRead));
        survives(session.finish(finish));
    }
}

/// The owner of the joiner's session.
#[derive(Default)]
struct Joiner {
    files: Files,
    unreported: Vec<(FileId, Generation)>,
    finish: Option<Finish>,
    donor_limited_by: Bottleneck,
    is_closed: bool,
}

impl Joiner {
    fn act(&mut self, session: &mut JoinerSession) {
        while let Some(event) = session.poll_event() {
            match event {
                JoinerEvent::Authenticated(peer) => assert_eq!(peer.role(), Role::Donor),
                JoinerEvent::Declared(_) => session.accept(Accept { lanes: 2 }).unwrap(),
                JoinerEvent::LaneOffered { lane, source_port } => {
                    assert_eq!(source_port, 1000 + lane.0);
                    session.lane_ready(lane, true).unwrap();
                }
                JoinerEvent::Entries(entries) => {
                    for entry in entries {
                        self.unreported.push((entry.id, entry.generation));
                        self.files.insert(entry.id, entry);
                    }
                }
                JoinerEvent::Gone(ids) => self.files.retain(|id, _| !ids.contains(id)),
                JoinerEvent::ManifestEnd { entries, .. } => {
                    assert_eq!(entries, self.files.len() as u64);
                }
                JoinerEvent::Finish(finish) => self.finish = Some(finish),
                JoinerEvent::Bye => self.is_closed = true,
                JoinerEvent::PeerProgress { .. } => {}
                JoinerEvent::PeerLimitedBy(seen) => self.donor_limited_by = seen,
                JoinerEvent::Compare(_) | JoinerEvent::Same(_) | JoinerEvent::SameFiles(_) => {
                    panic!("there is no stale copy")
                }
            }
        }
        if !self.unreported.is_empty() {
            let half = self.unreported.len().div_ceil(2);
            session.durable(self.unreported.drain(..half).collect()).unwrap();
        } else if let Some(finish) = self.finish.take() {
            assert_eq!(finish.root_hash, root_of(&self.files), "compared before the commit");
            assert_eq!(self.donor_limited_by, Bottleneck::DiskRead, "it came before");
            session.limited_by(Bottleneck::DiskWrite).unwrap();
            session.committed(root_of(&self.files)).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_schedule_ends_with_equal_trees(
        passes in vec(pass(), 1..5),
        schedule in vec(0..6u8, 0..400),
    ) {
        let mut pair = Pair::new();
        let mut donor = Donor::new(passes);
        let mut joiner = Joiner::default();
        // The random part, then a fair one, which must come to an end.
        for step in schedule.into_iter().chain((0..6).cycle().take(3000)) {
            match step {
                0 => donor.act(&mut pair.donor),
                1 => joiner.act(&mut pair.joiner),
                2 => pair.transmit(),
                3 => pair.deliver_to_joiner().unwrap(),
                4 => pair.deliver_to_donor().unwrap(),
                _ => {
                    // Time passes only when nothing is under way, so no schedule starves an end.
                    pair.exchange().unwrap();
                    pair.pass_time().unwrap();
                }
            }
            if joiner.is_closed {
                break;
            }
        }
        prop_assert!(joiner.is_closed && donor.is_committed, "deadlock");
        prop_assert!(pair.donor.is_over() && pair.joiner.is_over());
        prop_assert_eq!(&joiner.files, &donor.files);
        prop_assert_eq!(donor.lanes_ready, 2);
        for (id, entry) in &donor.files {
            prop_assert!(donor.durable.get(id) >= Some(&entry.generation));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_frame_in_any_state_is_taken_or_refused(
        progress in 0..4u8,
        with_delta in any::<bool>(),
        frames in vec(arbitrary::frame(), 1..6),
    ) {
        let mut pair = match (progress < 2, with_delta) {
            (true, _) => Pair::new(),
            (false, true) => Pair::comparing(),
            (false, false) => Pair::streaming(),
        };
        if progress == 1 {
            pair.exchange().unwrap();
        }
        if progress == 3 {
            pair.donor.manifest_end(0, 0).unwrap();
            let hash = RootHash([1; 32]);
            let end = Finish { root_hash: hash, position: vec![], entries: 0, bytes: 0 };
            pair.donor.finish(end).unwrap();
            pair.exchange().unwrap();
        }
        for frame in frames {
            let at_donor = pair.donor.handle_frame(pair.now, frame.clone());
            let at_joiner = pair.joiner.handle_frame(pair.now, frame);
            prop_assert!(at_donor.is_ok() || pair.donor.is_over());
            prop_assert!(at_joiner.is_ok() || pair.joiner.is_over());
            // Whatever is said about it can be written.
            pair.transmit();
        }
    }
}

#[test]
fn a_bypass_hands_over_the_position_and_nothing_else() {
    let mut pair = Pair::new();
    pair.exchange().unwrap();
    let position = b"6f2d:42".to_vec();
    let kind = DeclKind::Bypass { position };
    let bypass = Declaration { kind, roots: vec![], lanes: 0, ..declaration(1) };
    pair.donor.declare(bypass.clone()).unwrap();
    pair.exchange().unwrap();
    assert_eq!(pair.joiner_events().last(), Some(&JoinerEvent::Declared(bypass)));
    pair.joiner.accept(Accept { lanes: 4 }).unwrap();
    pair.exchange().unwrap();
    let events = pair.donor_events();
    assert_eq!(events[1..], [DonorEvent::Accepted { lanes: 0 }, DonorEvent::BypassDone]);
    assert_eq!(pair.joiner_events(), [JoinerEvent::Bye]);
    assert!(pair.donor.is_over() && pair.joiner.is_over());
    pair.donor.bye().unwrap();
}

#[test]
fn an_estimate_compares_sends_nothing_and_ends_with_bye() {
    let mut pair = Pair::offering(Features::SUPPORTED);
    pair.exchange().unwrap();
    let estimate = Declaration { kind: DeclKind::Estimate, ..declaration(4) };
    pair.donor.declare(estimate.clone()).unwrap();
    pair.exchange().unwrap();
    assert_eq!(pair.joiner_events().last(), Some(&JoinerEvent::Declared(estimate)));
    pair.joiner.accept(Accept { lanes: 4 }).unwrap();
    pair.exchange().unwrap();
    assert_eq!(pair.donor_events().last(), Some(&DonorEvent::Accepted { lanes: 0 }));
    assert!(pair.donor.offer_lane(LaneId(0), 1).is_err(), "nothing is sent");
    let file = (FileId(0), Generation(0));
    let asked = Asked { file: file.0, generation: file.1, how: How::Any };
    pair.donor.entries(vec![entry(0, 0, 7)]).unwrap();
    pair.donor.manifest_end(1, 7).unwrap();
    pair.donor.compare(&[asked]).unwrap();
    pair.exchange().unwrap();
    pair.joiner.have_files(&[(file.0, file.1, FileHash([1; 32]))]).unwrap();
    pair.exchange().unwrap();
    pair.donor.same_files(&[file]).unwrap();
    let finish =
        Finish { root_hash: RootHash([0; 32]), position: Vec::new(), entries: 1, bytes: 7 };
    assert!(pair.donor.finish(finish).is_err(), "there is nothing to finish");
    pair.donor.bye().unwrap();
    pair.exchange().unwrap();
    assert_eq!(pair.joiner_events().last(), Some(&JoinerEvent::Bye));
    assert!(pair.donor.is_over() && pair.joiner.is_over());
}

#[test]
fn both_ends_learn_who_the_other_is_and_what_is_in_force() {
    let mut pair = Pair::offering(Features::SUPPORTED);
    pair.exchange().unwrap();
    assert_eq!((pair.donor.peer_software(), pair.joiner.peer_software()), ("joiner 1", "donor 1"));
    assert_eq!(pair.joiner.features(), Features::SUPPORTED);
    let welcomed = |features| [DonorEvent::Welcomed { transfer: TRANSFER, features }];
    assert_eq!(pair.donor_events(), welcomed(Features::SUPPORTED));
    let mut pair = Pair::new();
    pair.exchange().unwrap();
    assert_eq!(pair.joiner.features(), plain(), "the donor could, the joiner has no use for it");
    assert_eq!(pair.donor_events(), welcomed(plain()));
}

#[test]
fn long_lists_are_split_over_frames() {
    let mut pair = Pair::streaming();
    let many = ENTRIES_PER_FRAME_MAX * 2 + 1;
    let long = RelPath::parse(&[&[b'd'; 250][..]; 16].join(&b'/')).unwrap();
    let entries: Vec<_> = (0..many as u32)
        .map(|id| Entry {
            path: if id % 2 == 0 { long.clone() } else { entry(id, 0, 1).path },
            ..entry(id, 0, 1)
        })
        .collect();
    pair.donor.entries(entries.clone()).unwrap();
    pair.donor.manifest_end(many as u64, many as u64).unwrap();
    pair.exchange().unwrap();
    let mut received = Vec::new();
    for event in pair.joiner_events() {
        if let JoinerEvent::Entries(batch) = event {
            received.extend(batch);
        }
    }
    assert_eq!(received, entries);
    let durable: Vec<_> =
        (0..FILES_PER_FRAME_MAX as u32 + 1).map(|id| (FileId(id), Generation(0))).collect();
    pair.joiner.durable(durable.clone()).unwrap();
    pair.donor.gone(durable.iter().map(|(id, _)| *id).collect()).unwrap();
    pair.exchange().unwrap();
    let lens: Vec<_> = pair
        .donor_events()
        .into_iter()
        .map(|event| if let DonorEvent::Durable(files) = event { files.len() } else { 0 })
        .collect();
    assert_eq!(lens, [FILES_PER_FRAME_MAX, 1]);
    assert_eq!(pair.joiner_events().len(), 2);
}

#[test]
fn a_lane_is_offered_again_while_the_end_is_near() {
    let mut pair = Pair::streaming();
    pair.donor.manifest_end(0, 0).unwrap();
    let finish = Finish { root_hash: RootHash([1; 32]), position: vec![], entries: 0, bytes: 0 };
    pair.donor.finish(finish).unwrap();
    pair.donor.offer_lane(LaneId(1), 5).unwrap();
    pair.donor.offer_lane(LaneId(1), 6).unwrap();
    pair.exchange().unwrap();
    pair.joiner.lane_ready(LaneId(1), false).unwrap();
    pair.exchange().unwrap();
    assert_eq!(pair.donor_events(), [DonorEvent::LaneReady { lane: LaneId(1), own_socket: false }]);
}

#[test]
fn a_lane_that_is_offered_while_the_joiner_commits_disturbs_nobody() {
    let mut pair = Pair::streaming();
    let root_hash = RootHash([1; 32]);
    pair.donor.manifest_end(0, 0).unwrap();
    pair.donor.finish(Finish { root_hash, position: vec![], entries: 0, bytes: 0 }).unwrap();
    pair.exchange().unwrap();
    pair.joiner.committed(root_hash).unwrap();
    pair.donor.offer_lane(LaneId(1), 5).unwrap();
    pair.exchange().unwrap();
    assert_eq!(pair.donor_events(), [DonorEvent::Committed { root_hash }]);
    pair.donor.bye().unwrap();
    pair.exchange().unwrap();
    assert!(pair.donor.is_over() && pair.joiner.is_over());
    assert_eq!(pair.joiner_events().last(), Some(&JoinerEvent::Bye));
}
