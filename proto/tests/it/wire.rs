//! Bytes: what is encoded is decoded, and nothing else is.

use fastsst_proto::chunk::HEADER_BYTES;
use fastsst_proto::frame::{
    FRAME_HEADER_BYTES, decode_body, decode_handshake_header, decode_header, encode, ty,
};
use fastsst_proto::limits::*;
use fastsst_proto::*;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{arbitrary, survives};

/// One whole frame from the front of `bytes`, and its length.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Option<Frame>, usize), WireError> {
    let head = bytes.first_chunk().ok_or(WireError::Truncated)?;
    let header = decode_header(head)?;
    let end = FRAME_HEADER_BYTES + header.body_len();
    let body = bytes.get(FRAME_HEADER_BYTES..end).ok_or(WireError::Truncated)?;
    Ok((decode_body(header.ty, body)?, end))
}

pub(crate) fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(frame, &mut bytes);
    bytes
}

fn body(frame: &Frame) -> Vec<u8> {
    encoded(frame)[FRAME_HEADER_BYTES..].to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_frame_survives_the_wire(frame in arbitrary::frame()) {
        let bytes = encoded(&frame);
        let len = bytes.len();
        prop_assert_eq!(decode(&bytes), Ok((Some(frame), len)));
    }

    #[test]
    fn a_cut_or_padded_body_is_an_error(frame in arbitrary::frame(), cut in any::<prop::sample::Index>()) {
        let mut bytes = body(&frame);
        if !bytes.is_empty() {
            prop_assert!(decode_body(frame.ty(), &bytes[..cut.index(bytes.len())]).is_err());
        }
        bytes.push(0);
        prop_assert!(decode_body(frame.ty(), &bytes).is_err());
    }

    #[test]
    fn random_bodies_never_panic(ty in any::<u8>(), bytes in vec(any::<u8>(), 0..600)) {
        let known = ty::ALL.iter().any(|(known, _)| *known == ty);
        let decoded = decode_body(ty, &bytes);
        if let Ok(Some(frame)) = &decoded {
            prop_assert_eq!(frame.ty(), ty);
        }
        prop_assert_eq!(decoded == Ok(None), !known && ty & ty::OPTIONAL != 0);
    }

    #[test]
    fn a_flipped_byte_never_panics(
        frame in arbitrary::frame(),
        at in any::<prop::sample::Index>(),
        flip in 1..=u8::MAX,
    ) {
        let mut bytes = encoded(&frame);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok((Some(other), _)) = decode(&bytes) {
            // Whatever was understood can be said again.
            let again = encoded(&other);
            prop_assert_eq!(decode(&again).unwrap().0, Some(other));
        }
    }

    #[test]
    fn random_headers_never_panic(bytes in any::<[u8; 5]>()) {
        if let Ok(header) = decode_header(&bytes) {
            prop_assert!(header.body_len() <= HEADER_BYTES + CHUNK_PAYLOAD_BYTES_MAX);
        }
        if let Ok(header) = decode_handshake_header(&bytes) {
            prop_assert!(header.body_len() <= 4 + REFUSAL_TEXT_BYTES_MAX);
        }
    }

    #[test]
    fn every_chunk_header_survives_the_wire(header in arbitrary::chunk_header()) {
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), HEADER_BYTES);
        prop_assert_eq!(ChunkHeader::decode(&bytes), Ok(header));
        let mut framed = Vec::new();
        header.encode_frame(&mut framed);
        let frame = decode_header(framed.first_chunk().unwrap()).unwrap();
        prop_assert_eq!(header.validate_frame(frame), Ok(()));
        prop_assert_eq!(&framed[FRAME_HEADER_BYTES..], &bytes[..]);
    }

    #[test]
    fn random_chunk_headers_never_panic(
        bytes in vec(any::<u8>(), 0..100), header in arbitrary::chunk_header(),
        at in 0..HEADER_BYTES, flip in any::<u8>(),
    ) {
        survives(ChunkHeader::decode(&bytes));
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        bytes[at] ^= flip;
        if let Ok(header) = ChunkHeader::decode(&bytes) {
            prop_assert!(header.sent_bytes() <= 1 << 20);
            survives(header.validate_against(u64::MAX));
        }
    }

    #[test]
    fn every_ticket_survives_its_text(ticket in arbitrary::ticket()) {
        prop_assert_eq!(Ticket::parse(&ticket.to_text()), Ok(ticket));
    }

    #[test]
    fn random_tickets_never_panic(text in ".{0,200}", tail in "[0-9a-f/:\\[\\]]{0,120}") {
        survives(Ticket::parse(&text));
        survives(Ticket::parse(&format!("fastsst://{tail}")));
    }

    #[test]
    fn a_path_is_its_components(path in arbitrary::path()) {
        let parts: Vec<&[u8]> = path.components().collect();
        prop_assert_eq!(RelPath::parse(&parts.join(&b'/')), Ok(path.clone()));
        if let Some(parent) = path.parent() {
            prop_assert_eq!(parent.join(path.name()), Ok(path.clone()));
        }
        prop_assert!(!path.to_string().chars().any(char::is_control));
    }

    #[test]
    fn a_random_path_cannot_leave_its_root(bytes in vec(prop_oneof![Just(b'.'), Just(b'/'), any::<u8>()], 0..40)) {
        if let Ok(path) = RelPath::parse(&bytes) {
            for part in path.components() {
                prop_assert!(!part.is_empty() && part != b"." && part != b".." && !part.contains(&0));
            }
        }
    }
}

#[test]
fn lengths_are_checked_before_anything_is_allocated() {
    let header = |len: u32, ty: u8| {
        let [a, b, c, d] = len.to_le_bytes();
        [a, b, c, d, ty]
    };
    let too_long = |result: Result<FrameHeader, WireError>| {
        assert!(matches!(result, Err(WireError::TooLong { .. })), "{result:?}");
    };
    too_long(decode_header(&header(514, ty::HELLO)));
    too_long(decode_header(&header(u32::MAX, ty::ENTRIES)));
    too_long(decode_header(&header((1 << 20) + 2, ty::ENTRIES)));
    too_long(decode_header(&header((1 << 20) + 68 + 2, ty::CHUNK)));
    too_long(decode_header(&header(u32::MAX, 0xff)));
    assert_eq!(decode_header(&header(0, ty::BYE)), Err(WireError::Truncated));
    assert_eq!(decode_header(&header(68, ty::CHUNK)), Err(WireError::Truncated));
    assert_eq!(decode_header(&header(1, 0x7f)), Err(WireError::UnknownType { ty: 0x7f }));
    assert!(decode_header(&header(513, ty::HELLO)).is_ok());
    assert!(decode_header(&header((1 << 20) + 68 + 1, ty::CHUNK)).is_ok());
}

#[test]
fn before_the_handshake_only_the_handshake_is_read() {
    for (number, name) in ty::ALL {
        let allowed = matches!(name, "Hello" | "Welcome" | "Refuse");
        assert_eq!(decode_handshake_header(&[1, 0, 0, 0, number]).is_ok(), allowed, "{name}");
    }
    assert_eq!(decode_handshake_header(b"GET /"), Err(WireError::BadMagic));
}

#[test]
fn counts_are_checked_against_limit_and_body() {
    let count = |ty, count: u32| decode_body(ty, &count.to_le_bytes());
    let lists = [
        ty::ENTRIES,
        ty::GONE,
        ty::DURABLE,
        ty::ACK,
        ty::COMPARE,
        ty::LACKS,
        ty::HAVE_FILES,
        ty::SEEK,
        ty::SAME,
        ty::SAME_FILES,
        ty::AGAIN,
    ];
    for ty in lists {
        assert_eq!(count(ty, 0).unwrap().unwrap().ty(), ty);
        assert_eq!(count(ty, 5), Err(WireError::Truncated));
        assert!(matches!(count(ty, u32::MAX), Err(WireError::TooLong { .. })));
    }
}

#[test]
fn a_question_of_an_unknown_kind_is_refused() {
    let question = |how: u8, page: [u8; 8]| {
        let body = [&[1, 0, 0, 0, 9, 0, 0, 0, 0, 0, how][..], &page].concat();
        decode_body(ty::COMPARE, &body)
    };
    let page = [0, 0, 0, 0, 0, 0, 0, 1];
    assert!(
        question(0, [0; 8]).is_ok() && question(1, [0; 8]).is_ok() && question(2, page).is_ok()
    );
    for (how, page) in [(0, page), (1, page), (3, page), (4, [0; 8])] {
        let wrong = WireError::BadValue { what: "question about a file" };
        assert_eq!(question(how, page), Err(wrong), "{how}");
    }
}

#[test]
fn an_unknown_optional_frame_is_skipped_and_any_other_is_not() {
    assert_eq!(decode(&[4, 0, 0, 0, 0xee, 1, 2, 3]), Ok((None, 8)));
    assert_eq!(decode(&[4, 0, 0, 0, 0x6e, 1, 2, 3]), Err(WireError::UnknownType { ty: 0x6e }));
}

#[test]
fn another_magic_is_another_program() {
    let mut bytes = vec![0; 60];
    bytes[..4].copy_from_slice(b"SSH-");
    assert_eq!(decode_body(ty::HELLO, &bytes), Err(WireError::BadMagic));
    assert_eq!(decode_body(ty::WELCOME, &bytes), Err(WireError::BadMagic));
    assert_eq!(ProtocolError::from(WireError::BadMagic), ProtocolError::NotFastsst);
}

#[test]
fn another_major_is_recognised_by_six_bytes() {
    let Ok(Some(Frame::Hello(hello))) = decode_body(ty::HELLO, b"FSST\x02\x00 whatever follows")
    else {
        panic!("not understood");
    };
    assert_eq!(hello.major, 2);
}

#[test]
fn texts_for_people_are_cut_and_cleaned() {
    let refusal = Refusal { code: 7, text: format!("a\nb{}", "€".repeat(1000)) };
    let Some(Frame::Refuse(back)) = decode(&encoded(&Frame::Refuse(refusal))).unwrap().0 else {
        panic!("not a refusal");
    };
    assert!(back.text.starts_with("a?b€") && back.text.len() <= REFUSAL_TEXT_BYTES_MAX);
    assert_eq!(
        decode_body(ty::ABORT, b"\x07\0\x02\0a\n"),
        Err(WireError::BadValue { what: "refusal text" })
    );
}

#[test]
fn frames_at_their_limits_fit() {
    let have = HaveChunk { hash: ChunkHash([1; 32]), pages: [[2; 8]; 64] };
    let asked = Asked { file: FileId(1), generation: Generation(0), how: How::Twin([u8::MAX; 8]) };
    let have_file = (FileId(1), Generation(2), FileHash([3; 32]));
    let frames = [
        Frame::Compare(vec![asked; FILES_PER_FRAME_MAX]),
        Frame::HaveFiles(vec![have_file; FILES_PER_FRAME_MAX]),
        Frame::Same(vec![ChunkRef::default(); SAME_CHUNKS_PER_FRAME_MAX]),
        Frame::Again(vec![ChunkRef::default(); ACKS_PER_FRAME_MAX]),
        Frame::Ack(vec![ChunkRef::default(); ACKS_PER_FRAME_MAX]),
        Frame::Gone(vec![FileId(1); FILES_PER_FRAME_MAX]),
        Frame::Durable(vec![(FileId(1), Generation(2)); FILES_PER_FRAME_MAX]),
        Frame::Have(Have {
            file: FileId(0),
            generation: Generation(0),
            first_chunk: ChunkIndex(0),
            chunks: vec![have; HAVE_CHUNKS_PER_FRAME_MAX],
        }),
        Frame::Declare(Declaration {
            kind: DeclKind::Bypass { position: vec![1; POSITION_BYTES_MAX] },
            roots: (0..ROOTS_MAX).map(|i| format!("{i:0>255}")).collect(),
            properties: (0..PROPERTIES_MAX)
                .map(|i| (format!("{i:0>64}"), "v".repeat(PROPERTY_VALUE_BYTES_MAX)))
                .collect(),
            bytes_estimate: u64::MAX,
            files_estimate: u64::MAX,
            lanes: LANES_MAX,
            capture: "c".repeat(CAPTURE_BYTES_MAX),
        }),
    ];
    for frame in frames {
        assert_eq!(decode(&encoded(&frame)).unwrap().0, Some(frame));
    }
}

#[test]
fn an_entry_with_unknown_extras_is_read_without_them() {
    let entry = Entry {
        id: FileId(1),
        generation: Generation(0),
        root: RootIndex(0),
        path: RelPath::parse(b"f").unwrap(),
        kind: EntryKind::File,
        size: 3,
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime_s: 0,
        mtime_ns: 0,
        sparse: false,
        link_target: None,
    };
    let mut bytes = body(&Frame::Entries(vec![entry.clone()]));
    assert_eq!(bytes.split_off(bytes.len() - 2), [0, 0], "the length of the extras comes last");
    let with = |extras: &[u8]| decode_body(ty::ENTRIES, &[&bytes[..], extras].concat());
    assert_eq!(with(&[7, 0, 9, 0, 3, 0, 1, 2, 3]), Ok(Some(Frame::Entries(vec![entry]))));
    assert_eq!(with(&[3, 0, 9, 0, 3]), Err(WireError::Truncated));
    assert_eq!(with(&[5, 0, 9, 0, 3, 0, 1]), Err(WireError::Truncated));
}

#[test]
fn entries_that_contradict_themselves_are_refused() {
    let good = Entry {
        id: FileId(1),
        generation: Generation(0),
        root: RootIndex(0),
        path: RelPath::parse(b"d/f").unwrap(),
        kind: EntryKind::File,
        size: 3,
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime_s: -1,
        mtime_ns: 999_999_999,
        sparse: true,
        link_target: None,
    };
    assert_eq!(good.validate(), Ok(()));
    let bad = [
        Entry { generation: Generation(GENERATION_MAX + 1), ..good.clone() },
        Entry { root: RootIndex(128), ..good.clone() },
        Entry { size: FILE_BYTES_MAX + 1, ..good.clone() },
        Entry { mode: 0o10000, ..good.clone() },
        Entry { mtime_ns: 1_000_000_000, ..good.clone() },
        Entry { kind: EntryKind::Directory, ..good.clone() },
        Entry { kind: EntryKind::Directory, size: 0, ..good.clone() },
        Entry { kind: EntryKind::Symlink, size: 0, sparse: false, ..good.clone() },
        Entry { link_target: Some(b"x".to_vec()), ..good.clone() },
        hard_link(&good, b"../f"),
        hard_link(&good, b"d/f"),
    ];
    for entry in bad {
        assert!(entry.validate().is_err(), "{entry:?}");
        assert!(decode(&encoded(&Frame::Entries(vec![entry.clone()]))).is_err(), "{entry:?}");
    }
}

fn hard_link(file: &Entry, to: &[u8]) -> Entry {
    Entry {
        kind: EntryKind::HardLink,
        size: 0,
        sparse: false,
        link_target: Some(to.to_vec()),
        ..file.clone()
    }
}

#[test]
fn chunk_headers_that_contradict_themselves_are_refused() {
    let good = ChunkHeader {
        at: ChunkRef::default(),
        encoding: Encoding::Raw,
        plain_len: 16384 * 2 + 1,
        payload_len: 16384 + 1,
        sent: PageMask(0b101),
        zero: PageMask(0b010),
        hash: ChunkHash([0; 32]),
    };
    assert_eq!(good.validate(), Ok(()));
    assert!(good.is_complete());
    let bad = [
        ChunkHeader { plain_len: 0, sent: PageMask(0), zero: PageMask(0), payload_len: 0, ..good },
        ChunkHeader { plain_len: (1 << 20) + 1, ..good },
        ChunkHeader { zero: PageMask(0b110), ..good },
        ChunkHeader { zero: PageMask(0b1010), ..good },
        ChunkHeader { payload_len: 16384, ..good },
        ChunkHeader { encoding: Encoding::Zstd, ..good },
        ChunkHeader { encoding: Encoding::Zstd, payload_len: 0, ..good },
        ChunkHeader { encoding: Encoding::Zstd, sent: PageMask(0), payload_len: 0, ..good },
    ];
    for header in bad {
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        assert!(ChunkHeader::decode(&bytes).is_err(), "{header:?}");
    }
    assert_eq!(good.validate_against(16384 * 2 + 1), Ok(()));
    assert!(good.validate_against(16384 * 2).is_err());
    assert!(good.validate_against(16384 * 2 + 2).is_err());
    assert!(good.validate_against(0).is_err());
    let second = ChunkRef { chunk: ChunkIndex(1), ..good.at };
    assert_eq!(
        ChunkHeader { at: second, ..good }.validate_against((1 << 20) + 16384 * 2 + 1),
        Ok(())
    );
    let keeps = ChunkHeader { zero: PageMask(0), ..good };
    assert_eq!((keeps.validate(), keeps.is_complete()), (Ok(()), false));
    assert!(good.validate_frame(FrameHeader { ty: ty::CHUNK, len: 68 + 16384 }).is_err());
}
