//! The joiner's account of the manifest.

use fastsst_proto::limits::*;
use fastsst_proto::*;

use crate::pair::{Pair, entry};

fn feed(frames: Vec<Frame>) -> Result<(), ProtocolError> {
    let mut pair = Pair::streaming();
    frames.into_iter().try_for_each(|frame| pair.joiner.handle_frame(pair.now, frame))
}

fn inconsistent(frames: Vec<Frame>) {
    let result = feed(frames);
    assert!(matches!(result, Err(ProtocolError::Inconsistent { .. })), "{result:?}");
}

fn end(entries: u64, bytes: u64) -> Frame {
    Frame::ManifestEnd { entries, bytes }
}

fn finish(entries: u64, bytes: u64) -> Frame {
    Frame::Finish(Finish { root_hash: RootHash([0; 32]), position: vec![], entries, bytes })
}

#[test]
fn a_second_pass_replaces_and_removes() {
    feed(vec![
        Frame::Entries(vec![entry(1, 0, 10), entry(5, 0, 20), entry(6, 0, 0)]),
        end(3, 30),
        Frame::Entries(vec![entry(5, 2, 7), entry(9, 0, 100)]),
        Frame::Gone(vec![FileId(1)]),
        Frame::Entries(vec![entry(5, 3, 8)]),
        end(3, 108),
        finish(3, 108),
    ])
    .unwrap();
}

#[test]
fn numbers_ascend_and_are_never_reused() {
    inconsistent(vec![Frame::Entries(vec![entry(5, 0, 1), entry(4, 0, 1)])]);
    inconsistent(vec![Frame::Entries(vec![entry(5, 0, 1), entry(5, 0, 1)])]);
    inconsistent(vec![Frame::Gone(vec![FileId(5)])]);
    inconsistent(vec![
        Frame::Entries(vec![entry(5, 0, 1)]),
        Frame::Gone(vec![FileId(5), FileId(5)]),
    ]);
    inconsistent(vec![
        Frame::Entries(vec![entry(5, 0, 1)]),
        Frame::Gone(vec![FileId(5)]),
        Frame::Entries(vec![entry(5, 1, 1)]),
    ]);
}

#[test]
fn an_entry_declared_again_keeps_its_place() {
    let again = |change: fn(&mut Entry)| {
        let mut changed = entry(5, 1, 1);
        change(&mut changed);
        inconsistent(vec![Frame::Entries(vec![entry(5, 0, 1), changed])]);
    };
    again(|entry| entry.path = RelPath::parse(b"other").unwrap());
    again(|entry| entry.root = RootIndex(1));
    again(|entry| (entry.kind, entry.size) = (EntryKind::Directory, 0));
    again(|entry| entry.generation = Generation(0));
}

#[test]
fn roots_are_those_declared() {
    let mut outside = entry(1, 0, 1);
    outside.root = RootIndex(2);
    inconsistent(vec![Frame::Entries(vec![outside])]);
}

#[test]
fn sums_must_be_right() {
    let entries = || Frame::Entries(vec![entry(1, 0, 10)]);
    inconsistent(vec![entries(), end(1, 11)]);
    inconsistent(vec![entries(), end(2, 10)]);
    inconsistent(vec![entries(), end(1, 10), finish(1, 11)]);
    inconsistent(vec![entries(), finish(1, 10)]);
    inconsistent(vec![entries(), end(1, 10), Frame::Entries(vec![entry(2, 0, 0)]), finish(2, 10)]);
}

#[test]
fn a_transfer_has_a_largest_size() {
    let files = TOTAL_BYTES_MAX / FILE_BYTES_MAX;
    let entries = |count: u64| (0..count).map(|id| entry(id as u32, 0, FILE_BYTES_MAX)).collect();
    feed(vec![Frame::Entries(entries(files))]).unwrap();
    let result = feed(vec![Frame::Entries(entries(files + 1))]);
    let value = TOTAL_BYTES_MAX + FILE_BYTES_MAX;
    assert_eq!(
        result,
        Err(ProtocolError::Limit { what: "bytes of the transfer", limit: TOTAL_BYTES_MAX, value })
    );
}
