//! Bytes that never change: fixtures of this major version, kept for ever.
//!
//! Each `fixtures/v1/NAME.hex` holds one whole frame. An older release's bytes must be understood
//! by every later one, so a fixture is added, never edited.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use fastsst_proto::auth::proof;
use fastsst_proto::hash::{chunk_hash, page_hashes, zero_chunk_hash};
use fastsst_proto::*;

use crate::wire::{decode, encoded};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1")
}

fn load(name: &str) -> Vec<u8> {
    let file = folder().join(format!("{name}.hex"));
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn counting<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|i| from.wrapping_add(u8::try_from(i).unwrap()))
}

fn transfer() -> TransferId {
    TransferId(counting(0x40))
}

fn at(chunk: u32) -> ChunkRef {
    ChunkRef { file: FileId(0x0102_0304), generation: Generation(2), chunk: ChunkIndex(chunk) }
}

fn file() -> Entry {
    Entry {
        id: FileId(7),
        generation: Generation(1),
        root: RootIndex(0),
        path: RelPath::parse(b"mysql/user.ibd").unwrap(),
        kind: EntryKind::File,
        size: 0x0001_0203_0405,
        mode: 0o660,
        uid: 999,
        gid: 998,
        mtime_s: 1_700_000_000,
        mtime_ns: 123_456_789,
        sparse: true,
        link_target: None,
    }
}

fn link(id: u32, kind: EntryKind, path: &[u8], target: Option<&[u8]>) -> Entry {
    Entry {
        id: FileId(id),
        generation: Generation(0),
        path: RelPath::parse(path).unwrap(),
        kind,
        size: 0,
        sparse: false,
        mtime_s: -1,
        link_target: target.map(<[u8]>::to_vec),
        ..file()
    }
}

fn declaration(kind: DeclKind) -> Declaration {
    Declaration {
        kind,
        roots: vec!["datadir".into(), "redo".into()],
        properties: vec![("version".into(), "11.8.9".into()), ("page_size".into(), "16384".into())],
        bytes_estimate: 0x1122_3344_5566,
        files_estimate: 321,
        lanes: 4,
        capture: "locked".into(),
    }
}

fn hello(scope: Scope) -> Frame {
    Frame::Hello(Hello {
        major: 1,
        features: Features(3),
        scope,
        proof: counting(0x80),
        software: "fastsst 0.1.0".into(),
    })
}

fn handshake() -> Vec<(&'static str, Frame)> {
    let lane = Scope::Lane { transfer: transfer(), lane: LaneId(2) };
    vec![
        ("hello_control", hello(Scope::Control)),
        ("hello_lane", hello(lane)),
        (
            "welcome",
            Frame::Welcome(Welcome {
                major: 1,
                features: Features(3),
                proof: counting(0x80),
                transfer: transfer(),
                software: "fastsst 0.1.0".into(),
            }),
        ),
        ("refuse", Frame::Refuse(Refusal { code: 7, text: "disk full: ibdata1".into() })),
        ("abort", Frame::Abort(Refusal { code: 28, text: "cancelled – bye".into() })),
        ("declare_full", Frame::Declare(declaration(DeclKind::Full))),
        (
            "declare_bypass",
            Frame::Declare(declaration(DeclKind::Bypass { position: b"6f2d:42".to_vec() })),
        ),
        ("declare_estimate", Frame::Declare(declaration(DeclKind::Estimate))),
        ("accept", Frame::Accept(Accept { lanes: 4 })),
        ("lane_offer", Frame::LaneOffer { lane: LaneId(2), source_port: 54321 }),
        ("lane_ready", Frame::LaneReady { lane: LaneId(2), own_socket: true }),
    ]
}

fn transfer_frames() -> Vec<(&'static str, Frame)> {
    let entries = vec![
        file(),
        link(8, EntryKind::Directory, b"mysql", None),
        link(9, EntryKind::Symlink, b"s\xff", Some(b"/var/lib/other")),
        link(10, EntryKind::HardLink, b"h", Some(b"mysql/user.ibd")),
    ];
    let finish = Finish {
        root_hash: RootHash(counting(0)),
        position: b"6f2d:42".to_vec(),
        entries: 4,
        bytes: 0x0001_0203_0405,
    };
    let mut pages = [[0; 8]; 64];
    pages[0] = counting(1);
    let have = Have {
        file: FileId(7),
        generation: Generation(1),
        first_chunk: ChunkIndex(3),
        chunks: vec![HaveChunk { hash: ChunkHash(counting(0x20)), pages }],
    };
    vec![
        ("entries", Frame::Entries(entries)),
        ("gone", Frame::Gone(vec![FileId(8), FileId(0x0a0b_0c0d)])),
        ("manifest_end", Frame::ManifestEnd { entries: 4, bytes: 0x0001_0203_0405 }),
        ("durable", Frame::Durable(vec![(FileId(7), Generation(1)), (FileId(8), Generation(0))])),
        ("finish", Frame::Finish(finish)),
        ("committed", Frame::Committed { root_hash: RootHash(counting(0)) }),
        ("bypass_ack", Frame::BypassAck),
        ("bye", Frame::Bye),
        ("heartbeat", Frame::Heartbeat { bytes: 0x0102_0304_0506_0708, files: 9, phase: 3 }),
        ("ack", Frame::Ack(vec![at(0), at(0x0506)])),
        ("have", Frame::Have(have)),
        ("have_end", Frame::HaveEnd { file: FileId(7), generation: Generation(1) }),
        ("limited_by", Frame::LimitedBy(Bottleneck::Network)),
    ]
}

fn delta() -> Vec<(&'static str, Frame)> {
    let asked = |file, how| Asked { file: FileId(file), generation: Generation(1), how };
    let questions = vec![
        asked(7, How::Any),
        asked(0x0a0b_0c0d, How::Pages),
        asked(9, How::Twin(counting(0xa0))),
    ];
    let files = || vec![(FileId(7), Generation(1)), (FileId(0x0a0b_0c0d), Generation(0))];
    let hash = FileHash(counting(0x20));
    vec![
        ("compare", Frame::Compare(questions)),
        ("compare_withdrawn", Frame::Compare(vec![asked(9, How::Withdrawn)])),
        ("lacks", Frame::Lacks(files())),
        ("have_files", Frame::HaveFiles(vec![(FileId(7), Generation(1), hash)])),
        ("seek", Frame::Seek(files())),
        ("same", Frame::Same(vec![at(0), at(0x0506)])),
        ("same_files", Frame::SameFiles(files())),
        ("again", Frame::Again(vec![at(0x0506)])),
    ]
}

fn frames() -> Vec<(&'static str, Frame)> {
    handshake().into_iter().chain(transfer_frames()).chain(delta()).collect()
}

fn chunks() -> Vec<(&'static str, ChunkHeader)> {
    let raw = ChunkHeader {
        at: at(1),
        encoding: Encoding::Raw,
        plain_len: 2 * 16384 + 5,
        payload_len: 16384 + 5,
        sent: PageMask(0b101),
        zero: PageMask(0b010),
        hash: ChunkHash(counting(0x60)),
    };
    let zstd = ChunkHeader { encoding: Encoding::Zstd, payload_len: 77, ..raw };
    let hole = ChunkHeader { sent: PageMask(0), zero: PageMask(0b111), payload_len: 0, ..raw };
    let keeps = ChunkHeader { sent: PageMask(0b100), zero: PageMask(0), payload_len: 5, ..raw };
    vec![
        ("chunk_raw", raw),
        ("chunk_zstd", zstd),
        ("chunk_hole", hole),
        ("chunk_of_changed_pages", keeps),
    ]
}

/// Every frame has a fixture. With `FASTSST_WRITE_FIXTURES=1`, for the one who adds a frame, the
/// missing ones are written first.
#[test]
fn no_fixture_is_missing() {
    if std::env::var_os("FASTSST_WRITE_FIXTURES").is_some() {
        write_missing_fixtures();
    }
    let names = frames().into_iter().map(|(name, _)| name);
    for name in names.chain(chunks().into_iter().map(|(name, _)| name)) {
        assert!(folder().join(format!("{name}.hex")).exists(), "{name} has no fixture");
    }
}

fn write_missing_fixtures() {
    fs::create_dir_all(folder()).unwrap();
    if !values_file().exists() {
        fs::write(values_file(), values()).unwrap();
    }
    let mut all: Vec<_> = frames().iter().map(|(name, frame)| (*name, encoded(frame))).collect();
    for (name, header) in chunks() {
        let mut bytes = Vec::new();
        header.encode_frame(&mut bytes);
        all.push((name, bytes));
    }
    for (name, bytes) in all {
        let file = folder().join(format!("{name}.hex"));
        if !file.exists() {
            let lines: Vec<String> = bytes.chunks(32).map(hex).collect();
            fs::write(file, lines.join("\n") + "\n").unwrap();
        }
    }
}

#[test]
fn frames_have_the_bytes_of_their_fixtures() {
    for (name, frame) in frames() {
        let bytes = load(name);
        assert_eq!(hex(&encoded(&frame)), hex(&bytes), "{name} is written as before");
        assert_eq!(decode(&bytes), Ok((Some(frame), bytes.len())), "{name} is read as before");
    }
}

#[test]
fn chunk_headers_have_the_bytes_of_their_fixtures() {
    for (name, header) in chunks() {
        let bytes = load(name);
        let mut now = Vec::new();
        header.encode_frame(&mut now);
        assert_eq!(hex(&now), hex(&bytes), "{name} is written as before");
        assert_eq!(ChunkHeader::decode(&bytes[5..]), Ok(header), "{name} is read as before");
    }
}

#[test]
fn every_fixture_is_read_and_every_type_has_one() {
    let files: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let names = frames().iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let chunk_names = chunks().iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let tested: BTreeSet<String> =
        names.iter().chain(&chunk_names).map(|name| (*name).to_owned()).collect();
    assert_eq!(files, tested);
    let types: BTreeSet<u8> = files.iter().map(|name| load(name)[4]).collect();
    assert_eq!(types, frame::ty::ALL.iter().map(|(ty, _)| *ty).collect());
}

/// Values that both ends compute for themselves; a second implementation can check itself here.
fn values() -> String {
    let token = Secret::from_bytes(counting(0));
    let exporter = Exporter(counting(0x20));
    let lane = Scope::Lane { transfer: transfer(), lane: LaneId(2) };
    let bytes: Vec<u8> = (0..(1u32 << 20) + 3).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let size = bytes.len() as u64;
    let page = page_hashes(size, ChunkIndex(1), &bytes[1 << 20..])[0];
    let values = [
        ("proof_donor_control", hex(&proof(&token, &exporter, Role::Donor, &Scope::Control))),
        ("proof_joiner_lane", hex(&proof(&token, &exporter, Role::Joiner, &lane))),
        ("chunk_only", chunk_hash(3, ChunkIndex(0), &bytes[..3]).to_string()),
        ("chunk_first_of_two", chunk_hash(size, ChunkIndex(0), &bytes[..1 << 20]).to_string()),
        ("chunk_second_of_two", chunk_hash(size, ChunkIndex(1), &bytes[1 << 20..]).to_string()),
        ("chunk_zeros_first_of_two", zero_chunk_hash(size, ChunkIndex(0)).to_string()),
        ("have_page", hex(&PageKey::new(&transfer()).of(&page))),
        ("root_hash_of_nothing", RootHasher::new().finish().to_string()),
        ("root_hash_of_four_entries", root_of_four().to_string()),
    ];
    values.iter().map(|(name, value)| format!("{name} {value}\n")).collect()
}

fn values_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1-values.txt")
}

#[test]
fn computed_values_are_as_before() {
    assert_eq!(fs::read_to_string(values_file()).unwrap(), values());
}

fn root_of_four() -> RootHash {
    let paths = ["a", "d", "h", "s"].map(|path| RelPath::parse(path.as_bytes()).unwrap());
    let [a, d, h, s] = &paths;
    let file = RootLine {
        root: b"datadir",
        path: a,
        kind: EntryKind::File,
        mode: 0o660,
        size: 3,
        link_target: None,
        hard_link_of: None,
        file_hash: Some(FileHash(*blake3::hash(b"abc").as_bytes())),
    };
    let other = RootLine { size: 0, file_hash: None, ..file };
    let lines = [
        file,
        RootLine { path: d, kind: EntryKind::Directory, mode: 0o750, ..other },
        RootLine { path: h, kind: EntryKind::HardLink, hard_link_of: Some(a), ..other },
        RootLine {
            path: s,
            kind: EntryKind::Symlink,
            mode: 0o777,
            link_target: Some(b"a"),
            ..other
        },
    ];
    let mut hasher = RootHasher::new();
    for line in &lines {
        hasher.add(line).unwrap();
    }
    hasher.finish()
}
