//! The specification and the code say the same.

use std::fs;
use std::path::{Path, PathBuf};

use fastsst_proto::frame::ty;
use fastsst_proto::limits::*;

/// The sources that define bytes, in the order they are hashed.
const SOURCES: [&str; 11] = [
    "codec.rs",
    "frame.rs",
    "frame/body.rs",
    "frame/compare.rs",
    "frame/declaration.rs",
    "frame/handshake.rs",
    "frame/have.rs",
    "frame/lists.rs",
    "frame/ty.rs",
    "chunk.rs",
    "manifest.rs",
];

fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> String {
    fs::read_to_string(crate_dir().join("../docs/PROTOCOL.md")).unwrap()
}

fn wire_hash() -> String {
    let mut hasher = blake3::Hasher::new();
    for source in SOURCES {
        hasher.update(&fs::read(crate_dir().join("src").join(source)).unwrap());
    }
    hasher.finalize().to_hex().to_string()
}

#[test]
fn the_specification_was_read_again_when_the_wire_code_changed() {
    let line = format!("<!-- wire: {} -->", wire_hash());
    assert!(
        document().lines().any(|found| found == line),
        "the wire code changed: check docs/PROTOCOL.md against it, then put this line there:\n{line}"
    );
}

#[test]
fn every_source_of_frames_is_hashed() {
    for file in fs::read_dir(crate_dir().join("src/frame")).unwrap() {
        let name = PathBuf::from("frame").join(file.unwrap().file_name());
        assert!(SOURCES.iter().any(|source| Path::new(source) == name), "{}", name.display());
    }
}

#[test]
fn the_specification_names_every_frame_with_its_number() {
    let document = document();
    for (number, name) in ty::ALL {
        let heading = format!("### {number:#04x} {name}");
        assert!(document.lines().any(|line| line == heading), "{heading}");
    }
    let headings = document.lines().filter(|line| line.starts_with("### 0x")).count();
    assert_eq!(headings, ty::ALL.len(), "a frame that the code does not have");
}

#[test]
fn the_specification_has_the_limits_of_the_code() {
    let document = document();
    let limits: [(&str, u64); 29] = [
        ("PAGE_BYTES", PAGE_BYTES as u64),
        ("CHUNK_BYTES", CHUNK_BYTES as u64),
        ("CHUNK_PAYLOAD_BYTES_MAX", CHUNK_PAYLOAD_BYTES_MAX as u64),
        ("FRAME_BODY_BYTES_MAX", FRAME_BODY_BYTES_MAX as u64),
        ("HELLO_BODY_BYTES_MAX", HELLO_BODY_BYTES_MAX as u64),
        ("PATH_BYTES_MAX", PATH_BYTES_MAX as u64),
        ("NAME_BYTES_MAX", NAME_BYTES_MAX as u64),
        ("PATH_DEPTH_MAX", PATH_DEPTH_MAX as u64),
        ("LINK_TARGET_BYTES_MAX", LINK_TARGET_BYTES_MAX as u64),
        ("ENTRIES_PER_FRAME_MAX", ENTRIES_PER_FRAME_MAX as u64),
        ("FILES_PER_FRAME_MAX", FILES_PER_FRAME_MAX as u64),
        ("ACKS_PER_FRAME_MAX", ACKS_PER_FRAME_MAX as u64),
        ("HAVE_CHUNKS_PER_FRAME_MAX", HAVE_CHUNKS_PER_FRAME_MAX as u64),
        ("SAME_CHUNKS_PER_FRAME_MAX", SAME_CHUNKS_PER_FRAME_MAX as u64),
        ("UNDECIDED_MAX", UNDECIDED_MAX as u64),
        ("FILES_MAX", FILES_MAX),
        ("FILE_BYTES_MAX", FILE_BYTES_MAX),
        ("TOTAL_BYTES_MAX", TOTAL_BYTES_MAX),
        ("GENERATION_MAX", u64::from(GENERATION_MAX)),
        ("LANES_MAX", u64::from(LANES_MAX)),
        ("ROOTS_MAX", ROOTS_MAX as u64),
        ("PROPERTIES_MAX", PROPERTIES_MAX as u64),
        ("PROPERTY_KEY_BYTES_MAX", PROPERTY_KEY_BYTES_MAX as u64),
        ("PROPERTY_VALUE_BYTES_MAX", PROPERTY_VALUE_BYTES_MAX as u64),
        ("POSITION_BYTES_MAX", POSITION_BYTES_MAX as u64),
        ("REFUSAL_TEXT_BYTES_MAX", REFUSAL_TEXT_BYTES_MAX as u64),
        ("SOFTWARE_BYTES_MAX", SOFTWARE_BYTES_MAX as u64),
        ("CAPTURE_BYTES_MAX", CAPTURE_BYTES_MAX as u64),
        ("UNACKED_CHUNKS_PER_LANE_MAX", UNACKED_CHUNKS_PER_LANE_MAX as u64),
    ];
    for (name, value) in limits {
        let row = format!("| `{name}` | {value} |");
        assert!(document.lines().any(|line| line.starts_with(&row)), "{row}");
    }
}
