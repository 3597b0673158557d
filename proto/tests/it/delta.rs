//! What of a stale copy can stay: questions, answers, decisions, and the hashes that decide.

use fastsst_proto::chunk::{all_pages, page_len};
use fastsst_proto::delta::{Asking, Known, Undecided, Verdict, compare, describe};
use fastsst_proto::error::codes;
use fastsst_proto::hash::{chunk_from_pages, chunk_hash, page_hash, page_hashes};
use fastsst_proto::limits::*;
use fastsst_proto::types::chunk_len;
use fastsst_proto::*;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::pair::{Pair, TRANSFER};

const PAGE: usize = PAGE_BYTES;
const MIB: u64 = CHUNK_BYTES_U64;
const FILE: FileRef = (FileId(7), Generation(0));

fn asked(how: How) -> Asked {
    Asked { file: FILE.0, generation: FILE.1, how }
}

/// Files of so many chunks, asked about; the last one is not full.
fn asking(chunks: u64) -> Asking {
    let mut asking = Asking::new();
    asking.ask(&asked(How::Any), chunks * MIB - 1);
    asking
}

fn have(first: u32, count: usize) -> Have {
    let chunk = HaveChunk { hash: ChunkHash([1; 32]), pages: [[2; 8]; PAGES_PER_CHUNK] };
    Have {
        file: FILE.0,
        generation: FILE.1,
        first_chunk: ChunkIndex(first),
        chunks: vec![chunk; count],
    }
}

fn inconsistent<T: std::fmt::Debug>(result: Result<T, ProtocolError>) {
    assert!(matches!(result, Err(ProtocolError::Inconsistent { .. })), "{result:?}");
}

#[test]
fn an_answer_that_nobody_asked_for_is_refused() {
    let mut asking = Asking::new();
    inconsistent(asking.answered(FILE));
    inconsistent(asking.have_file(FILE));
    inconsistent(asking.have(&have(0, 1)));
    inconsistent(asking.end(FILE));
    asking.ask(&asked(How::Any), MIB);
    let other = (FILE.0, Generation(1));
    inconsistent(asking.answered(other));
    inconsistent(asking.have_file(other));
    inconsistent(asking.have(&Have { generation: other.1, ..have(0, 1) }));
    inconsistent(asking.end(other));
    assert!(!asking.is_empty(), "the question is still open");
    asking.answered(FILE).unwrap();
    assert!(asking.is_empty());
    inconsistent(asking.answered(FILE));
}

#[test]
fn a_chunk_beyond_the_end_is_not_described() {
    for (first, count) in [(3, 1), (0, 4), (2, 2), (u32::MAX, 1)] {
        inconsistent(asking(3).have(&have(first, count)));
    }
    asking(3).have(&have(0, 3)).unwrap();
    let mut empty = Asking::new();
    empty.ask(&asked(How::Any), 0);
    inconsistent(empty.have(&have(0, 1)));
    assert_eq!(empty.end(FILE), Ok(vec![]), "an empty file has no chunk that could be sent");
}

#[test]
fn a_chunk_is_described_once() {
    for (first, count) in [(1, 1), (0, 2), (2, 3)] {
        let mut asking = asking(5);
        asking.have(&have(1, 2)).unwrap();
        inconsistent(asking.have(&have(first, count)));
    }
}

#[test]
fn what_was_described_in_part_has_no_other_answer() {
    let mut asking = asking(5);
    asking.have(&have(1, 1)).unwrap();
    inconsistent(asking.answered(FILE));
    inconsistent(asking.have_file(FILE));
    assert_eq!(asking.end(FILE), Ok(vec![0..1, 2..5]));
    inconsistent(asking.end(FILE));
}

#[test]
fn a_file_that_was_described_by_its_hash_may_be_asked_about_again() {
    let mut asking = asking(2);
    asking.have_file(FILE).unwrap();
    assert!(asking.is_empty());
    inconsistent(asking.have(&have(0, 1)));
    asking.ask(&asked(How::Pages), 2 * MIB);
    asking.have(&have(0, 2)).unwrap();
    assert_eq!(asking.end(FILE), Ok(vec![]));
}

proptest! {
    #[test]
    fn what_was_not_described_is_what_is_sent_whole(
        chunks in 1..200u64,
        pieces in vec((0..200u64, 1..9u64), 0..20),
    ) {
        let mut asking = asking(chunks);
        let mut missing: std::collections::BTreeSet<u64> = (0..chunks).collect();
        for (first, count) in pieces {
            let range = first..(first + count).min(chunks);
            if !range.is_empty() && range.clone().all(|chunk| missing.contains(&chunk)) {
                asking.have(&have(first as u32, range.clone().count())).unwrap();
                missing.retain(|chunk| !range.contains(chunk));
            }
        }
        let whole = asking.end(FILE).unwrap();
        prop_assert!(whole.windows(2).all(|pair| pair[0].end < pair[1].start), "as few as can be");
        prop_assert!(whole.into_iter().flatten().eq(missing));
    }
}

#[test]
fn a_joiner_cannot_make_the_donor_keep_more_than_the_limit() {
    let chunks = UNDECIDED_MAX as u64 + 2;
    let mut asking = asking(chunks);
    let mut described = 0;
    while described < UNDECIDED_MAX {
        asking.have(&have(described as u32, HAVE_CHUNKS_PER_FRAME_MAX)).unwrap();
        described += HAVE_CHUNKS_PER_FRAME_MAX;
    }
    assert_eq!(described, UNDECIDED_MAX);
    asking.decided(1);
    asking.have(&have(described as u32, 1)).unwrap();
    let error = asking.have(&have(described as u32 + 1, 1)).unwrap_err();
    assert!(matches!(error, ProtocolError::Limit { limit, .. } if limit == UNDECIDED_MAX as u64));
    assert_eq!(error.refusal().map(|refusal| refusal.code), Some(codes::LIMIT));
}

#[test]
fn files_count_as_chunks_do() {
    let mut asking = Asking::new();
    let file = |number: usize| (FileId(number as u32), Generation(0));
    for number in 0..=UNDECIDED_MAX {
        let (id, generation) = file(number);
        asking.ask(&Asked { file: id, generation, how: How::Any }, 10);
    }
    for number in 0..UNDECIDED_MAX {
        asking.have_file(file(number)).unwrap();
    }
    assert!(matches!(asking.have_file(file(UNDECIDED_MAX)), Err(ProtocolError::Limit { .. })));
}

fn chunk(number: u32) -> ChunkRef {
    ChunkRef { file: FILE.0, generation: FILE.1, chunk: ChunkIndex(number) }
}

fn known(number: u8) -> Known {
    Known { hash: ChunkHash([number; 32]), pages: vec![PageHash([number; 32])] }
}

#[test]
fn what_is_described_is_decided_once() {
    let mut undecided = Undecided::new();
    undecided.describe(chunk(0), known(1));
    undecided.describe(chunk(1), known(2));
    undecided.describe_file(FILE, FileHash([3; 32]));
    assert_eq!((undecided.len(), undecided.is_empty()), (3, false));
    assert_eq!(undecided.take(chunk(1)), Some(known(2)));
    assert_eq!(undecided.take(chunk(1)), None);
    assert_eq!(undecided.take(chunk(2)), None);
    assert_eq!(undecided.take_file((FILE.0, Generation(1))), None);
    assert_eq!(undecided.take_file(FILE), Some(FileHash([3; 32])));
    assert_eq!(undecided.take_file(FILE), None);
    assert_eq!(undecided.take(chunk(0)), Some(known(1)));
    assert!(undecided.is_empty());
}

#[test]
fn nothing_is_decided_about_a_file_that_is_forgotten() {
    let mut undecided = Undecided::new();
    let other = ChunkRef { file: FileId(8), ..chunk(0) };
    undecided.describe(chunk(0), known(1));
    undecided.describe(other, known(2));
    undecided.describe_file(FILE, FileHash([3; 32]));
    undecided.forget(FILE.0);
    assert_eq!(undecided.take(chunk(0)), None);
    assert_eq!(undecided.take_file(FILE), None);
    assert_eq!(undecided.take(other), Some(known(2)));
}

#[test]
fn the_joiner_knows_when_it_has_to_wait() {
    let mut undecided = Undecided::new();
    undecided.describe_file(FILE, FileHash([3; 32]));
    for number in 1..UNDECIDED_MAX as u32 {
        assert!(undecided.has_room());
        undecided.describe(chunk(number), known(1));
    }
    assert!(!undecided.has_room());
    undecided.take_file(FILE);
    assert!(undecided.has_room());
}

/// A chunk of random length in a file of one to three chunks, and what changes in it.
#[derive(Debug, Clone)]
struct Change {
    file_size: u64,
    chunk: ChunkIndex,
    sent: PageMask,
    zero: PageMask,
    seed: u8,
}

fn change() -> impl Strategy<Value = Change> {
    let size = prop_oneof![1..=MIB, MIB + 1..=3 * MIB, Just(MIB), Just(PAGE as u64)];
    (size, any::<prop::sample::Index>(), any::<(u64, u64, u64)>(), any::<u8>()).prop_map(
        |(file_size, index, (sent, zero, few), seed)| {
            let chunk = ChunkIndex(index.index(file_size.div_ceil(MIB) as usize) as u32);
            let all = all_pages(chunk_len(file_size, chunk));
            let sent = PageMask(sent & few) & all;
            Change { file_size, chunk, sent, zero: PageMask(zero & !few) & all & !sent, seed }
        },
    )
}

impl Change {
    fn stale(&self) -> Vec<u8> {
        let len = chunk_len(self.file_size, self.chunk) as usize;
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&[self.seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn fresh(&self) -> Vec<u8> {
        let mut bytes = self.stale();
        for (number, page) in (0..).zip(bytes.chunks_mut(PAGE)) {
            if self.sent.contains(number) {
                page[0] ^= 1;
            } else if self.zero.contains(number) {
                page.fill(0);
            }
        }
        bytes
    }

    fn hashes(&self, plain: &[u8]) -> (ChunkHash, Vec<PageHash>) {
        let hash = chunk_hash(self.file_size, self.chunk, plain);
        (hash, page_hashes(self.file_size, self.chunk, plain))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_patched_chunk_has_the_hash_of_its_content(change in change()) {
        let Change { file_size, chunk, sent, zero, .. } = change;
        let new = change.fresh();
        let (hash, pages) = change.hashes(&change.stale());
        prop_assert_eq!(chunk_from_pages(file_size, chunk, &pages), Some(hash));
        let page = |number: u32| {
            let from = number as usize * PAGE;
            let content = &new[from..(from + PAGE).min(new.len())];
            (number, page_hash(file_size, chunk, (number, content)))
        };
        let at = ChunkRef { chunk, ..ChunkRef::default() };
        let sent: Vec<_> = sent.pages().map(page).collect();
        let patched = Known { hash, pages }.patched((file_size, at), &sent, zero);
        prop_assert_eq!(patched, Some(chunk_hash(file_size, chunk, &new)));
    }

    #[test]
    fn exactly_the_pages_that_differ_are_sent(change in change()) {
        let key = PageKey::new(&TRANSFER);
        let (stale, new) = (change.stale(), change.fresh());
        let (hash, pages) = change.hashes(&stale);
        let have = describe(hash, &pages, &key);
        let beyond = &have.pages[pages.len()..];
        prop_assert!(beyond.iter().all(|page| *page == [0; 8]), "zeros beyond the end");
        let (hash, pages) = change.hashes(&new);
        let verdict = compare(&have, &key, (hash, &pages));
        let changed = change.sent | change.zero;
        let expected =
            if changed.is_empty() { Verdict::Same } else { Verdict::Differs(changed) };
        prop_assert_eq!(verdict, expected);
    }
}

#[test]
fn a_page_that_a_chunk_does_not_have_cannot_be_patched() {
    let at = ChunkRef::default();
    let size = PAGE as u64 + 5;
    let pages = page_hashes(size, at.chunk, &vec![7; PAGE + 5]);
    let known = Known { hash: ChunkHash([0; 32]), pages };
    let page = PageHash([1; 32]);
    assert!(known.clone().patched((size, at), &[(1, page)], PageMask::NONE).is_some());
    assert_eq!(known.clone().patched((size, at), &[(2, page)], PageMask::NONE), None);
    assert_eq!(known.clone().patched((size, at), &[], PageMask::page(2)), None);
    assert_eq!(page_len(5, 1), 0);
    let short = Known { pages: known.pages[..1].to_vec(), ..known };
    assert_eq!(short.patched((size, at), &[], PageMask::NONE), None);
}

#[test]
fn when_every_page_looks_the_same_and_the_chunk_does_not_all_pages_are_sent() {
    let key = PageKey::new(&TRANSFER);
    let size = 3 * PAGE as u64;
    let stale = page_hashes(size, ChunkIndex(0), &vec![1; 3 * PAGE]);
    let new = vec![2; 3 * PAGE];
    let (hash, pages) =
        (chunk_hash(size, ChunkIndex(0), &new), page_hashes(size, ChunkIndex(0), &new));
    let mut have = describe(ChunkHash([9; 32]), &stale, &key);
    for (slot, page) in have.pages.iter_mut().zip(&pages) {
        *slot = key.of(page);
    }
    assert_eq!(compare(&have, &key, (hash, &pages)), Verdict::Differs(PageMask::first(3)));
    // One that differs visibly hides that another has collided: the joiner's full hash finds out.
    have.pages[1] = [0; 8];
    assert_eq!(compare(&have, &key, (hash, &pages)), Verdict::Differs(PageMask::page(1)));
}

fn frames_about_a_stale_copy() -> [(Frame, bool); 8] {
    let end = Frame::HaveEnd { file: FILE.0, generation: FILE.1 };
    [
        (Frame::Compare(vec![asked(How::Any)]), false),
        (Frame::Same(vec![chunk(0)]), false),
        (Frame::SameFiles(vec![FILE]), false),
        (Frame::Lacks(vec![FILE]), true),
        (Frame::HaveFiles(vec![(FILE.0, FILE.1, FileHash([1; 32]))]), true),
        (Frame::Seek(vec![FILE]), true),
        (Frame::Have(have(0, 1)), true),
        (end, true),
    ]
}

#[test]
fn without_delta_nothing_is_said_about_a_stale_copy() {
    for (frame, is_to_donor) in frames_about_a_stale_copy() {
        for mut pair in [Pair::streaming(), Pair::comparing()] {
            let has_delta = pair.joiner.features().contains(Features::DELTA);
            let frame = frame.clone();
            let (right, wrong) = if is_to_donor {
                let right = pair.donor.handle_frame(pair.now, frame.clone());
                (right, pair.joiner.handle_frame(pair.now, frame))
            } else {
                let right = pair.joiner.handle_frame(pair.now, frame.clone());
                (right, pair.donor.handle_frame(pair.now, frame))
            };
            assert_eq!(right.is_ok(), has_delta, "{right:?}");
            let error = if has_delta { wrong } else { right };
            assert!(matches!(error, Err(ProtocolError::Unexpected { .. })), "{error:?}");
        }
    }
}

#[test]
fn after_finish_nothing_is_said_about_a_stale_copy() {
    for (frame, is_to_donor) in frames_about_a_stale_copy() {
        let mut pair = Pair::comparing();
        pair.donor.manifest_end(0, 0).unwrap();
        let root_hash = RootHash([1; 32]);
        let finish = Finish { root_hash, position: vec![], entries: 0, bytes: 0 };
        pair.donor.finish(finish).unwrap();
        pair.exchange().unwrap();
        let result = if is_to_donor {
            pair.donor.handle_frame(pair.now, frame)
        } else {
            pair.joiner.handle_frame(pair.now, frame)
        };
        assert!(matches!(result, Err(ProtocolError::Unexpected { .. })), "{result:?}");
    }
}

#[test]
fn what_is_said_about_a_stale_copy_arrives() {
    let mut pair = Pair::comparing();
    pair.donor.compare(&[asked(How::Pages)]).unwrap();
    pair.donor.same(&[chunk(3)]).unwrap();
    pair.donor.same_files(&[FILE]).unwrap();
    pair.joiner.lacks(&[FILE]).unwrap();
    pair.joiner.seek(&[FILE]).unwrap();
    let file = (FILE.0, FILE.1, FileHash([1; 32]));
    pair.joiner.have_files(&[file]).unwrap();
    pair.joiner.have(have(2, 3)).unwrap();
    pair.joiner.have_end(FILE).unwrap();
    pair.exchange().unwrap();
    let heard = [
        JoinerEvent::Compare(vec![asked(How::Pages)]),
        JoinerEvent::Same(vec![chunk(3)]),
        JoinerEvent::SameFiles(vec![FILE]),
    ];
    assert_eq!(pair.joiner_events(), heard);
    let heard = [
        DonorEvent::Lacks(vec![FILE]),
        DonorEvent::Seek(vec![FILE]),
        DonorEvent::HaveFiles(vec![file]),
        DonorEvent::Have(have(2, 3)),
        DonorEvent::HaveEnd(FILE),
    ];
    assert_eq!(pair.donor_events(), heard);
}

#[test]
fn commands_about_a_stale_copy_are_a_misuse_without_one() {
    let misuse = |result: Result<(), ProtocolError>| {
        assert!(matches!(result, Err(ProtocolError::Misuse { .. })), "{result:?}");
    };
    for mut pair in [Pair::streaming(), Pair::offering(Features::SUPPORTED)] {
        misuse(pair.donor.compare(&[]));
        misuse(pair.donor.same(&[]));
        misuse(pair.donor.same_files(&[]));
        misuse(pair.joiner.lacks(&[]));
        misuse(pair.joiner.seek(&[]));
        misuse(pair.joiner.have_files(&[]));
        misuse(pair.joiner.have(have(0, 1)));
        misuse(pair.joiner.have_end(FILE));
    }
    let mut pair = Pair::comparing();
    let result = pair.joiner.have(have(0, HAVE_CHUNKS_PER_FRAME_MAX + 1));
    assert!(matches!(result, Err(ProtocolError::Unsendable(_))), "{result:?}");
}

#[test]
fn long_lists_about_a_stale_copy_are_split_over_frames() {
    let mut pair = Pair::comparing();
    let many = FILES_PER_FRAME_MAX + 1;
    pair.donor.compare(&vec![asked(How::Any); many]).unwrap();
    pair.donor.same(&vec![chunk(1); SAME_CHUNKS_PER_FRAME_MAX + 1]).unwrap();
    pair.donor.same_files(&vec![FILE; many]).unwrap();
    pair.joiner.lacks(&vec![FILE; many]).unwrap();
    pair.joiner.seek(&vec![FILE; many]).unwrap();
    pair.joiner.have_files(&vec![(FILE.0, FILE.1, FileHash([1; 32])); many]).unwrap();
    pair.exchange().unwrap();
    assert_eq!(pair.joiner_events().len(), 6);
    assert_eq!(pair.donor_events().len(), 6);
}
