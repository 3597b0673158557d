//! A sender that knows the token and means harm, or has a bug: nothing outside of the target is
//! touched, and nothing of it is put in place.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fastsst_proto::frame::{Finish, ty};
use fastsst_proto::{
    ChunkHash, ChunkHeader, ChunkIndex, Encoding, EntryKind, FileId, Frame, PageMask, RootHash,
    RootHasher,
};
use fastsst_tests::stranger::{Donor, as_donor, chunk, chunk_frame, entry, file, link};
use fastsst_tests::transfer::{Listing, Receive, Sandbox};

use super::{NOTICE, assert_empty, assert_untouched, used_target};

const UNSAFE: &[(&str, i32)] = &[("E23", 71)];
const BROKEN: &[(&str, i32)] = &[("E16", 71)];
const LIMIT: &[(&str, i32)] = &[("E24", 7)];
const CORRUPT: &[(&str, i32)] = &[("E20", 74)];

#[test]
fn paths_that_leave_the_target_are_refused() {
    let cases: [&[u8]; 9] =
        [b"../victim", b"a/../../x", b"/tmp/evil", b"a//b", b"a/", b"./x", b"..", b"a/..", b"a\0b"];
    for path in cases {
        let placeholder = "q".repeat(path.len());
        hostile(UNSAFE, async |donor, _| {
            donor.entry_at(file(1, &placeholder, 5), path).await;
        });
    }
}

#[test]
fn a_path_through_a_link_of_the_same_manifest_is_refused() {
    for inner in [EntryKind::File, EntryKind::Directory] {
        hostile(UNSAFE, async |donor, victim| {
            let to_victim = link(1, "a", EntryKind::Symlink, victim.as_os_str().as_bytes());
            let mut below = entry(2, "a/file", inner);
            below.size = if inner == EntryKind::File { 5 } else { 0 };
            donor.entries(vec![to_victim, below]).await;
        });
    }
}

#[test]
fn a_directory_that_becomes_a_link_does_not_lead_outside() {
    let directory = || vec![entry(1, "a", EntryKind::Directory), file(2, "a/file", 5)];
    let to = |victim: &Path| link(3, "a", EntryKind::Symlink, victim.as_os_str().as_bytes());
    // With its content still there.
    hostile(BROKEN, async |donor, victim| {
        donor.entries(directory()).await;
        donor.talk.say(&Frame::Gone(vec![FileId(1)])).await;
        donor.entries(vec![to(victim)]).await;
    });
    // As it should be, and then content again.
    hostile(UNSAFE, async |donor, victim| {
        donor.entries(directory()).await;
        donor.talk.say(&Frame::Gone(vec![FileId(2), FileId(1)])).await;
        donor.entries(vec![to(victim), file(4, "a/file", 5)]).await;
    });
}

#[test]
fn hard_links_to_what_is_not_the_senders_are_refused() {
    // A path that leaves, and one through a link; a path nobody declared, and a directory.
    hostile(UNSAFE, async |donor, _| {
        donor.entries(vec![link(1, "hard", EntryKind::HardLink, b"../victim/file")]).await;
    });
    hostile(&[("E23", 71), ("E16", 71)], async |donor, victim| {
        let to_victim = link(1, "a", EntryKind::Symlink, victim.as_os_str().as_bytes());
        donor.entries(vec![to_victim, link(2, "hard", EntryKind::HardLink, b"a/file")]).await;
    });
    hostile(BROKEN, async |donor, _| {
        donor.entries(vec![link(1, "hard", EntryKind::HardLink, b"nowhere")]).await;
    });
    hostile(BROKEN, async |donor, _| {
        let directory = entry(1, "directory", EntryKind::Directory);
        let hard = link(2, "hard", EntryKind::HardLink, b"directory");
        donor.entries(vec![directory, hard]).await;
    });
    hostile(BROKEN, async |donor, victim| {
        let file = [victim.as_os_str().as_bytes(), b"/file"].concat();
        let soft = link(1, "soft", EntryKind::Symlink, &file);
        donor.entries(vec![soft, link(2, "hard", EntryKind::HardLink, b"soft")]).await;
    });
}

#[test]
fn what_a_receiver_keeps_for_itself_is_refused() {
    for path in [".fastsst", ".fastsst/lock", ".fastsst/commit", ".fastsst/new/x"] {
        hostile(&[("E23", 71), ("E16", 71)], async |donor, _| {
            donor.entries(vec![file(1, path, 5)]).await;
        });
    }
    hostile(&[("E23", 71)], async |donor, victim| {
        let victim = victim.as_os_str().as_bytes();
        donor.entries(vec![link(1, ".fastsst", EntryKind::Symlink, victim)]).await;
    });
}

#[test]
fn a_path_declared_twice_is_refused() {
    for second in [EntryKind::File, EntryKind::Directory] {
        hostile(BROKEN, async |donor, _| {
            donor.entries(vec![file(1, "same", 0), entry(2, "same", second)]).await;
        });
    }
    hostile(BROKEN, async |donor, _| {
        let here = link(2, "same", EntryKind::Symlink, b"elsewhere");
        donor.entries(vec![file(1, "same", 5), here]).await;
    });
}

#[test]
fn entries_without_their_directory_or_out_of_order_are_refused() {
    hostile(BROKEN, async |donor, _| donor.entries(vec![file(1, "missing/file", 5)]).await);
    hostile(BROKEN, async |donor, _| {
        donor.entries(vec![file(1, "file", 5), file(2, "file/below", 5)]).await;
    });
    // A number used for another path, a root nobody declared, an end of what never began.
    hostile(BROKEN, async |donor, _| {
        donor.entries(vec![file(1, "one", 5), file(1, "two", 5)]).await;
    });
    hostile(BROKEN, async |donor, _| {
        let mut elsewhere = file(1, "file", 5);
        elsewhere.root.0 = 1;
        donor.entries(vec![elsewhere]).await;
    });
    hostile(BROKEN, async |donor, _| donor.talk.say(&Frame::Gone(vec![FileId(7)])).await);
}

#[test]
fn sizes_that_cannot_be_true_are_refused() {
    hostile(BROKEN, async |donor, _| donor.entries(vec![file(1, "huge", 1 << 60)]).await);
    hostile(BROKEN, async |donor, _| donor.entries(vec![file(1, "huge", u64::MAX)]).await);
    hostile(BROKEN, async |donor, _| {
        let mut large = entry(1, "directory", EntryKind::Directory);
        large.size = 5;
        donor.entries(vec![large]).await;
    });
    // Each is possible, all together are more than there is.
    hostile(LIMIT, async |donor, _| {
        let files = (1..=65).map(|id| {
            let mut file = file(id, &id.to_string(), 1 << 44);
            file.sparse = true;
            file
        });
        donor.entries(files.collect()).await;
    });
    // More entries than a frame may have, a frame longer than any, a path longer than any.
    hostile(LIMIT, async |donor, _| {
        donor.talk.say_bytes(raw_frame(ty::ENTRIES, &u32::MAX.to_le_bytes())).await;
    });
    hostile(LIMIT, async |donor, _| {
        let mut header = u32::MAX.to_le_bytes().to_vec();
        header.push(ty::ENTRIES);
        donor.talk.say_bytes(header).await;
    });
    hostile(&[("E23", 71), ("E24", 7)], async |donor, _| {
        let long = file(1, &"q".repeat(200), 5);
        let mut bytes = Vec::new();
        fastsst_proto::frame::encode(&Frame::Entries(vec![long]), &mut bytes);
        let at = bytes.windows(2).position(|it| it == 200_u16.to_le_bytes()).unwrap();
        bytes[at..at + 2].copy_from_slice(&u16::MAX.to_le_bytes());
        donor.talk.say_bytes(bytes).await;
    });
}

#[test]
fn more_than_the_disk_holds_is_refused_before_anything_is_touched() {
    let place = Sandbox::new();
    let (target, before) = used_target(&place);
    let receiving = Receive::into(&target).args(["--replace"]).start();
    let refusal = as_donor(&receiving.ticket, async |mut donor| {
        donor.hello().await;
        donor.declare(u64::MAX).await;
        donor.talk.hear_why().await
    });
    assert_eq!(refusal.code, 7, "{refusal}");
    receiving.wait(NOTICE).assert_failed("E07", 28);
    assert_untouched(&target, &before);
}

#[test]
fn frames_that_are_none_are_refused() {
    // Cut short inside, with something behind its end, of a kind nobody knows, and a chunk.
    let offer = [0, 0, 0, 0];
    for bytes in [
        raw_frame(ty::LANE_OFFER, &offer[..3]),
        raw_frame(ty::LANE_OFFER, &[0; 5]),
        raw_frame(0x7e, b"?"),
        chunk_frame(&chunk(1, b"12345"), b"12345"),
        vec![0, 0, 0, 0, ty::BYE],
    ] {
        hostile(BROKEN, async |donor, _| donor.talk.say_bytes(bytes.clone()).await);
    }
    // In a place where it makes no sense; for a lane that was not agreed on.
    hostile(BROKEN, async |donor, _| donor.talk.say(&Frame::Bye).await);
    hostile(BROKEN, async |donor, _| donor.declare(0).await);
    hostile(BROKEN, async |donor, _| {
        donor.talk.say_bytes(raw_frame(ty::LANE_OFFER, &[9, 0, 0, 0])).await;
    });
    let wrong_sums = Frame::ManifestEnd { entries: 7, bytes: 7 };
    hostile(BROKEN, async |donor, _| donor.talk.say(&wrong_sums).await);
}

#[test]
fn a_conversation_that_ends_inside_a_frame_is_a_peer_that_is_gone() {
    let place = Sandbox::new();
    let target = place.dir("target");
    let receiving = Receive::into(&target).start();
    as_donor(&receiving.ticket, async |mut donor| {
        donor.begin().await;
        donor.talk.say_bytes(vec![100, 0, 0, 0, ty::ENTRIES, 1, 0]).await;
        donor.talk.stop_talking().await;
        donor.talk.hear_end().await;
    });
    receiving.wait(NOTICE).assert_failed("E17", 32);
    assert_empty(&target);
}

#[test]
fn a_chunk_that_does_not_have_its_hash_is_refused() {
    const CONTENT: &[u8] = b"what was read";
    let honest = chunk(1, CONTENT);
    let mut lying = honest;
    lying.hash = ChunkHash([7; 32]);
    hostile_chunk(CORRUPT, CONTENT.len(), &honest, b"what was reaD");
    hostile_chunk(CORRUPT, CONTENT.len(), &lying, CONTENT);
    let hole = ChunkHeader { payload_len: 0, sent: PageMask::NONE, zero: PageMask(1), ..honest };
    hostile_chunk(CORRUPT, CONTENT.len(), &hole, b"");
}

#[test]
fn a_compressed_chunk_that_is_not_what_it_says_is_refused() {
    const SIZE: usize = 100_000;
    let honest = chunk(1, &[7; SIZE]);
    let payloads: [&[u8]; 3] = [
        b"not zstd at all",
        // An empty frame, and one of a gigabyte (RFC 8878): both unlike what the header says.
        &[0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00],
        &[
            0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0x00, 0x00, 0x00, 0x40, 0x03, 0x00, 0x10, 0x00, 0x03,
            0x00, 0x10, 0x00,
        ],
    ];
    for payload in payloads {
        let payload_len = u32::try_from(payload.len()).unwrap();
        let header = ChunkHeader { encoding: Encoding::Zstd, payload_len, ..honest };
        hostile_chunk(CORRUPT, SIZE, &header, payload);
    }
}

#[test]
fn a_chunk_that_its_file_cannot_have_is_refused() {
    const CONTENT: &[u8] = b"12345";
    let honest = chunk(1, CONTENT);
    let mut beyond = honest;
    beyond.at.chunk = ChunkIndex(1);
    hostile_chunk(BROKEN, CONTENT.len(), &beyond, CONTENT);
    hostile_chunk(BROKEN, CONTENT.len() + 1, &honest, CONTENT);
    // Half of it, with the rest in neither mask.
    let incomplete = ChunkHeader { payload_len: 0, sent: PageMask::NONE, ..honest };
    hostile_chunk(BROKEN, CONTENT.len(), &incomplete, b"");
    for kind in [EntryKind::Directory, EntryKind::Symlink] {
        hostile(BROKEN, async |donor, _| {
            let mut other = entry(1, "other", kind);
            other.link_target = (kind == EntryKind::Symlink).then(|| b"target".to_vec());
            donor.entries(vec![other]).await;
            send_chunk(donor, &honest, CONTENT).await;
        });
    }
}

#[test]
fn a_lane_that_carries_something_else_is_refused() {
    hostile(BROKEN, async |donor, _| {
        let mut lane = donor.lane().await;
        lane.say(&Frame::Bye).await;
    });
    hostile(BROKEN, async |donor, _| {
        let mut lane = donor.lane().await;
        let mut bytes = chunk_frame(&chunk(1, b"12345"), b"12345");
        bytes[0] += 1;
        lane.say_bytes(bytes).await;
    });
}

#[test]
fn a_chunk_of_a_file_that_was_never_declared_is_never_written() {
    let place = Sandbox::new();
    let target = place.dir("target");
    let receiving = Receive::into(&target).start();
    as_donor(&receiving.ticket, async |mut donor| {
        donor.begin().await;
        let mut lane = donor.lane().await;
        lane.say_bytes(chunk_frame(&chunk(7, b"12345"), b"12345")).await;
        donor.talk.say(&Frame::ManifestEnd { entries: 0, bytes: 0 }).await;
        let (root_hash, position) = (RootHasher::new().finish(), Vec::new());
        let finish = Finish { root_hash, position, entries: 0, bytes: 0 };
        donor.talk.say(&Frame::Finish(finish)).await;
        // It may be refused; what it must not do is to appear.
        let answer = donor.talk.hear().await.unwrap();
        if let Frame::Abort(refusal) = answer {
            assert_eq!(refusal.code, 16, "{refusal}");
        } else {
            assert!(matches!(answer, Frame::Committed { .. }), "{answer:?}");
            donor.talk.say(&Frame::Bye).await;
        }
    });
    let receiver = receiving.wait(NOTICE);
    if !receiver.is_success() {
        receiver.assert_failed("E16", 71);
    }
    assert_empty(&target);
}

#[test]
fn a_tree_that_is_not_what_the_sender_says_is_not_put_in_place() {
    hostile(&[("E22", 74)], async |donor, _| {
        donor.entries(vec![file(1, "file", 5)]).await;
        let _lane = send_chunk(donor, &chunk(1, b"12345"), b"12345").await;
        donor.talk.say(&Frame::ManifestEnd { entries: 1, bytes: 5 }).await;
        let (root_hash, position) = (RootHash([7; 32]), Vec::new());
        let finish = Finish { root_hash, position, entries: 1, bytes: 5 };
        donor.talk.say(&Frame::Finish(finish)).await;
    });
}

#[test]
fn a_sender_that_never_sends_its_last_chunk_is_given_up() {
    never_completed(async |_| {});
}

#[test]
fn a_sender_that_says_it_is_done_without_its_last_chunk_is_given_up() {
    never_completed(async |donor| {
        let (root_hash, position) = (RootHash([7; 32]), Vec::new());
        donor.talk.say(&Frame::Finish(Finish { root_hash, position, entries: 1, bytes: 5 })).await;
    });
}

/// Lets a sender declare a file, say something more, and then neither send the file nor leave.
fn never_completed(then: impl AsyncFnOnce(&mut Donor)) {
    let place = Sandbox::new();
    let target = place.dir("target");
    let receiving = Receive::into(&target).args(["--idle-timeout", "3"]).start();
    let refusal = as_donor(&receiving.ticket, async |mut donor| {
        donor.begin().await;
        donor.entries(vec![file(1, "file", 5)]).await;
        donor.talk.say(&Frame::ManifestEnd { entries: 1, bytes: 5 }).await;
        then(&mut donor).await;
        donor.talk.hear_why().await
    });
    assert_eq!(refusal.code, 18, "{refusal}");
    receiving.wait(NOTICE).assert_failed("E18", 110);
    assert_empty(&target);
}

/// Lets a sender do something that must end the transfer with one of these errors, of which it is
/// told; nothing outside of the target is touched, and in it nothing appears.
fn hostile(expected: &[(&str, i32)], act: impl AsyncFnOnce(&mut Donor, &Path)) {
    let place = Sandbox::new();
    let (target, victim) = (place.dir("target"), place.dir("victim"));
    fs::write(victim.join("file"), "precious").unwrap();
    let before = Listing::of(&victim);
    let receiving = Receive::into(&target).start();
    let refusal = as_donor(&receiving.ticket, async |mut donor| {
        donor.begin().await;
        act(&mut donor, &victim).await;
        donor.talk.hear_why().await
    });
    let receiver = receiving.wait(NOTICE);
    receiver.assert_failed_one_of(expected);
    let code = format!("E{:02}", refusal.code);
    assert!(receiver.stderr.contains(&format!("ERROR {code} ")), "{refusal}, but {receiver}");
    assert!(!refusal.text.contains(&code), "the code once: {refusal}");
    assert_untouched(&victim, &before);
    assert_eq!(fs::metadata(victim.join("file")).map(|it| it.len()).unwrap(), 8);
    assert_empty(&target);
}

/// As [`hostile`], with one file of `size` bytes and one chunk.
fn hostile_chunk(expected: &[(&str, i32)], size: usize, header: &ChunkHeader, payload: &[u8]) {
    hostile(expected, async |donor, _| {
        donor.entries(vec![file(1, "file", size as u64)]).await;
        send_chunk(donor, header, payload).await;
    });
}

/// Sends a chunk over a lane, which stays open as long as the result lives.
async fn send_chunk(
    donor: &mut Donor,
    header: &ChunkHeader,
    payload: &[u8],
) -> fastsst_tests::stranger::Talk {
    let mut lane = donor.lane().await;
    lane.say_bytes(chunk_frame(header, payload)).await;
    lane
}

fn raw_frame(ty: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 1).unwrap();
    [&length.to_le_bytes()[..], &[ty], body].concat()
}
