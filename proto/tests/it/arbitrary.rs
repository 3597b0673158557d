//! Generated values that the wire can carry.

use fastsst_proto::chunk::{all_pages, page_len};
use fastsst_proto::limits::*;
use fastsst_proto::*;
use proptest::collection::vec;
use proptest::prelude::*;

pub(crate) fn path() -> impl Strategy<Value = RelPath> {
    let component = vec(any::<u8>(), 1..20)
        .prop_map(|bytes| {
            bytes.iter().map(|b| if matches!(b, 0 | b'/') { b'_' } else { *b }).collect()
        })
        .prop_map(
            |bytes: Vec<u8>| if bytes == b"." || bytes == b".." { b"x".to_vec() } else { bytes },
        );
    vec(component, 1..6).prop_map(|parts| RelPath::parse(&parts.join(&b'/')).unwrap())
}

pub(crate) fn entry() -> impl Strategy<Value = Entry> {
    let content = prop_oneof![
        (0..=FILE_BYTES_MAX, any::<bool>()).prop_map(|(size, sparse)| (
            EntryKind::File,
            size,
            sparse,
            None
        )),
        Just((EntryKind::Directory, 0, false, None)),
        vec(1..=u8::MAX, 1..50).prop_map(|to| (EntryKind::Symlink, 0, false, Some(to))),
        path().prop_map(|to| (
            EntryKind::HardLink,
            0,
            false,
            Some([b"first/", to.as_bytes()].concat())
        )),
    ];
    let owner = (0..=0o7777u16, any::<u32>(), any::<u32>());
    let time = (any::<i64>(), 0..1_000_000_000u32);
    (any::<u32>(), 0..=GENERATION_MAX, 0..16u8, path(), content, owner, time).prop_map(
        |(
            id,
            generation,
            root,
            path,
            (kind, size, sparse, link_target),
            (mode, uid, gid),
            time,
        )| Entry {
            id: FileId(id),
            generation: Generation(generation),
            root: RootIndex(root),
            path,
            kind,
            size,
            mode,
            uid,
            gid,
            mtime_s: time.0,
            mtime_ns: time.1,
            sparse,
            link_target,
        },
    )
}

pub(crate) fn chunk_ref() -> impl Strategy<Value = ChunkRef> {
    (any::<u32>(), 0..=GENERATION_MAX, 0..(1u32 << 24)).prop_map(|(file, generation, chunk)| {
        ChunkRef {
            file: FileId(file),
            generation: Generation(generation),
            chunk: ChunkIndex(chunk),
        }
    })
}

pub(crate) fn chunk_header() -> impl Strategy<Value = ChunkHeader> {
    let masks = (any::<u64>(), any::<u64>(), 1..=(1u32 << 20), any::<bool>(), any::<u32>());
    (chunk_ref(), masks, any::<[u8; 32]>()).prop_map(
        |(at, (sent, zero, plain_len, squeeze, by), hash)| {
            let all = all_pages(plain_len);
            let sent = PageMask(sent) & all;
            let zero = PageMask(zero) & all & !sent;
            let sent_bytes: u32 = sent.pages().map(|page| page_len(plain_len, page)).sum();
            let (encoding, payload_len) = if squeeze && sent_bytes > 1 {
                (Encoding::Zstd, 1 + by % (sent_bytes - 1))
            } else {
                (Encoding::Raw, sent_bytes)
            };
            ChunkHeader { at, encoding, plain_len, payload_len, sent, zero, hash: ChunkHash(hash) }
        },
    )
}

pub(crate) fn secret() -> impl Strategy<Value = Secret> {
    any::<[u8; 16]>().prop_map(Secret::from_bytes)
}

pub(crate) fn ticket() -> impl Strategy<Value = Ticket> {
    ("[A-Za-z0-9._:%-]{1,60}", 1..=u16::MAX, any::<[u8; 32]>(), secret())
        .prop_map(|(host, port, pin, token)| Ticket::from_parts(host, port, pin, token).unwrap())
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        Just(Scope::Control),
        (any::<[u8; 16]>(), 0..LANES_MAX)
            .prop_map(|(id, lane)| Scope::Lane { transfer: TransferId(id), lane: LaneId(lane) }),
    ]
}

fn hello() -> impl Strategy<Value = Hello> {
    (any::<u64>(), scope(), any::<[u8; 32]>(), "[ -~]{0,64}").prop_map(
        |(features, scope, proof, software)| Hello {
            major: version::MAJOR,
            features: Features(features),
            scope,
            proof,
            software,
        },
    )
}

fn welcome() -> impl Strategy<Value = Welcome> {
    (any::<u64>(), any::<[u8; 16]>(), any::<[u8; 32]>(), "[ -~]{0,64}").prop_map(
        |(features, id, proof, software)| Welcome {
            major: version::MAJOR,
            features: Features(features),
            proof,
            transfer: TransferId(id),
            software,
        },
    )
}

pub(crate) fn refusal() -> impl Strategy<Value = Refusal> {
    (any::<u16>(), "[ -~äöü€]{0,200}").prop_map(|(code, text)| Refusal { code, text })
}

pub(crate) fn declaration() -> impl Strategy<Value = Declaration> {
    let kind = prop_oneof![
        Just(DeclKind::Full),
        Just(DeclKind::Estimate),
        vec(any::<u8>(), 0..POSITION_BYTES_MAX).prop_map(|position| DeclKind::Bypass { position }),
    ];
    let roots = proptest::collection::btree_set("[a-z_]{1,30}", 0..ROOTS_MAX);
    let properties = proptest::collection::btree_map("[a-z_.]{1,30}", ".{0,50}", 0..10);
    let sizes = (any::<u64>(), any::<u64>(), 1..=LANES_MAX);
    (kind, roots, properties, sizes, "[a-z]{0,10}").prop_map(
        |(kind, roots, properties, (bytes_estimate, files_estimate, lanes), capture)| Declaration {
            kind,
            roots: roots.into_iter().collect(),
            properties: properties.into_iter().collect(),
            bytes_estimate,
            files_estimate,
            lanes,
            capture,
        },
    )
}

fn finish() -> impl Strategy<Value = Finish> {
    (any::<[u8; 32]>(), vec(any::<u8>(), 0..=POSITION_BYTES_MAX), any::<u64>(), any::<u64>())
        .prop_map(|(hash, position, entries, bytes)| Finish {
            root_hash: RootHash(hash),
            position,
            entries,
            bytes,
        })
}

fn have() -> impl Strategy<Value = Have> {
    let chunk = (any::<[u8; 32]>(), any::<u8>())
        .prop_map(|(hash, page)| HaveChunk { hash: ChunkHash(hash), pages: [[page; 8]; 64] });
    (chunk_ref(), vec(chunk, 0..4)).prop_map(|(at, chunks)| Have {
        file: at.file,
        generation: at.generation,
        first_chunk: ChunkIndex(at.chunk.0 / 2),
        chunks,
    })
}

fn file_refs() -> impl Strategy<Value = Vec<FileRef>> {
    vec((any::<u32>().prop_map(FileId), (0..=GENERATION_MAX).prop_map(Generation)), 0..50)
}

/// What is said about a stale copy.
fn delta() -> impl Strategy<Value = Frame> {
    let how = prop_oneof![
        Just(How::Any),
        Just(How::Pages),
        any::<[u8; 8]>().prop_map(How::Twin),
        Just(How::Withdrawn),
    ];
    let asked = (any::<u32>(), 0..=GENERATION_MAX, how).prop_map(|(file, generation, how)| Asked {
        file: FileId(file),
        generation: Generation(generation),
        how,
    });
    let have_file = (any::<u32>(), 0..=GENERATION_MAX, any::<[u8; 32]>()).prop_map(
        |(file, generation, hash)| (FileId(file), Generation(generation), FileHash(hash)),
    );
    prop_oneof![
        have().prop_map(Frame::Have),
        chunk_ref().prop_map(|at| Frame::HaveEnd { file: at.file, generation: at.generation }),
        vec(asked, 0..50).prop_map(Frame::Compare),
        file_refs().prop_map(Frame::Lacks),
        vec(have_file, 0..50).prop_map(Frame::HaveFiles),
        file_refs().prop_map(Frame::Seek),
        vec(chunk_ref(), 0..300).prop_map(Frame::Same),
        file_refs().prop_map(Frame::SameFiles),
        vec(chunk_ref(), 0..=ACKS_PER_FRAME_MAX).prop_map(Frame::Again),
    ]
}

/// Every kind of frame.
pub(crate) fn frame() -> impl Strategy<Value = Frame> {
    let lane = || (0..LANES_MAX).prop_map(LaneId);
    let handshake = prop_oneof![
        hello().prop_map(Frame::Hello),
        welcome().prop_map(Frame::Welcome),
        refusal().prop_map(Frame::Refuse),
        refusal().prop_map(Frame::Abort),
        declaration().prop_map(Frame::Declare),
        (0..=LANES_MAX).prop_map(|lanes| Frame::Accept(Accept { lanes })),
    ];
    let lanes = prop_oneof![
        (lane(), any::<u16>())
            .prop_map(|(lane, source_port)| Frame::LaneOffer { lane, source_port }),
        (lane(), any::<bool>())
            .prop_map(|(lane, own_socket)| Frame::LaneReady { lane, own_socket }),
        vec(chunk_ref(), 0..=ACKS_PER_FRAME_MAX).prop_map(Frame::Ack),
    ];
    let manifest = prop_oneof![
        vec(entry(), 0..8).prop_map(Frame::Entries),
        vec(any::<u32>().prop_map(FileId), 0..50).prop_map(Frame::Gone),
        (any::<u64>(), any::<u64>())
            .prop_map(|(entries, bytes)| Frame::ManifestEnd { entries, bytes }),
        file_refs().prop_map(Frame::Durable),
        finish().prop_map(Frame::Finish),
        any::<[u8; 32]>().prop_map(|hash| Frame::Committed { root_hash: RootHash(hash) }),
    ];
    let rest = prop_oneof![
        Just(Frame::BypassAck),
        Just(Frame::Bye),
        (any::<u64>(), any::<u64>(), any::<u8>())
            .prop_map(|(bytes, files, phase)| Frame::Heartbeat { bytes, files, phase }),
        proptest::sample::select(&Bottleneck::ALL[..]).prop_map(Frame::LimitedBy),
    ];
    prop_oneof![handshake, lanes, manifest, rest, delta()]
}
