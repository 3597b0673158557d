//! The root hash: order, fields, and what changes it.

use fastsst_proto::*;
use proptest::prelude::*;

use crate::arbitrary;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn file<'a>(root: &'a str, path: &'a RelPath) -> RootLine<'a> {
    RootLine {
        root: root.as_bytes(),
        path,
        kind: EntryKind::File,
        mode: 0o640,
        size: 5,
        link_target: None,
        hard_link_of: None,
        file_hash: Some(FileHash([7; 32])),
    }
}

fn hash(lines: &[RootLine<'_>]) -> RootHash {
    let mut hasher = RootHasher::new();
    for line in lines {
        hasher.add(line).unwrap();
    }
    hasher.finish()
}

#[test]
fn lines_must_ascend() {
    let (a, b) = (path("a"), path("b"));
    let mut hasher = RootHasher::new();
    hasher.add(&file("data", &b)).unwrap();
    assert_eq!(hasher.add(&file("data", &a)), Err(RootError::Order));
    assert_eq!(hasher.add(&file("data", &b)), Err(RootError::Order));
    assert_eq!(hasher.add(&file("aria", &b)), Err(RootError::Order));
    hasher.add(&file("redo", &a)).unwrap();
    assert_eq!(hasher.finish(), hash(&[file("data", &b), file("redo", &a)]));
}

#[test]
fn fields_must_fit_the_kind() {
    let (a, b) = (path("a"), path("b"));
    let good = file("data", &a);
    let link = RootLine {
        kind: EntryKind::HardLink,
        size: 0,
        file_hash: None,
        hard_link_of: Some(&b),
        ..good
    };
    let bad = [
        RootLine { file_hash: None, ..good },
        RootLine { link_target: Some(b"x"), ..good },
        RootLine { hard_link_of: Some(&b), ..good },
        RootLine { kind: EntryKind::Directory, size: 0, ..good },
        RootLine { kind: EntryKind::Directory, file_hash: None, ..good },
        RootLine { kind: EntryKind::Symlink, size: 0, file_hash: None, ..good },
        RootLine { hard_link_of: None, ..link },
        RootLine { size: 1, ..link },
    ];
    for line in bad {
        assert_eq!(RootHasher::new().add(&line), Err(RootError::Fields), "{line:?}");
    }
    RootHasher::new().add(&link).unwrap();
}

#[test]
fn every_field_changes_the_hash() {
    let (a, b) = (path("a"), path("b"));
    let line = file("data", &a);
    let symlink = RootLine {
        kind: EntryKind::Symlink,
        size: 0,
        file_hash: None,
        link_target: Some(b"t"),
        ..line
    };
    let hard = RootLine {
        kind: EntryKind::HardLink,
        size: 0,
        file_hash: None,
        hard_link_of: Some(&b),
        ..line
    };
    let directory = RootLine { kind: EntryKind::Directory, size: 0, file_hash: None, ..line };
    let hashes = [
        hash(&[]),
        hash(&[line]),
        hash(&[file("date", &a)]),
        hash(&[file("data", &b)]),
        hash(&[RootLine { mode: 0o600, ..line }]),
        hash(&[RootLine { size: 6, ..line }]),
        hash(&[RootLine { file_hash: Some(FileHash([8; 32])), ..line }]),
        hash(&[symlink]),
        hash(&[RootLine { link_target: Some(b"u"), ..symlink }]),
        hash(&[hard]),
        hash(&[RootLine { hard_link_of: Some(&a), ..hard }]),
        hash(&[directory]),
        hash(&[line, file("data", &b)]),
    ];
    let distinct: std::collections::HashSet<_> = hashes.iter().collect();
    assert_eq!(distinct.len(), hashes.len());
}

#[test]
fn prints_64_digits() {
    assert_eq!(RootHash([0xa0; 32]).to_string(), "a0".repeat(32));
}

proptest! {
    #[test]
    fn any_ascending_list_has_a_hash(paths in proptest::collection::btree_set(arbitrary::path(), 0..20)) {
        let lines: Vec<_> = paths.iter().map(|path| file("data", path)).collect();
        let all = hash(&lines);
        if let [.., _last] = lines.as_slice() {
            prop_assert_ne!(all, hash(&lines[..lines.len() - 1]));
        }
    }
}
