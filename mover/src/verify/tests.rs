use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::*;
use crate::walk::AllFiles;

fn sample(root: &Path) {
    fs::create_dir_all(root.join("mysql/deep")).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("mysql/user.ibd"), vec![7; 100_000]).unwrap();
    fs::write(root.join("mysql/deep/x"), "x").unwrap();
    fs::write(root.join("ibdata1"), vec![9; (3 << 20) + 12_345]).unwrap();
    fs::hard_link(root.join("mysql/deep/x"), root.join("also-x")).unwrap();
    symlink("../else/where", root.join("link")).unwrap();
    let sparse = File::create(root.join("undo001")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    sparse.write_at(b"data", 5 << 20).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o640)).unwrap();
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    let target = to.path().join("copy");
    assert!(Command::new("cp").arg("-a").arg(from).arg(&target).status().unwrap().success());
    to
}

fn root(path: &Path) -> SourceRoot {
    SourceRoot { name: "data".into(), path: path.into(), filter: Arc::new(AllFiles) }
}

fn hash(path: &Path) -> RootHash {
    verify(&[root(path)], VerifyOptions::default()).unwrap().root_hash
}

#[test]
fn a_copy_has_the_same_hash_and_every_difference_another() {
    let tree = tempfile::tempdir().unwrap();
    sample(tree.path());
    let original = hash(tree.path());
    let changes: [fn(&Path); 8] = [
        |root| {
            let file = File::options().write(true).open(root.join("ibdata1")).unwrap();
            file.write_at(b"x", 2_500_000).unwrap();
        },
        |root| {
            let file = File::options().write(true).open(root.join("undo001")).unwrap();
            file.write_at(b"x", (10 << 20) - 1).unwrap();
        },
        |root| fs::write(root.join("empty"), "x").unwrap(),
        |root| fs::rename(root.join("empty"), root.join("Empty")).unwrap(),
        |root| fs::create_dir(root.join("new")).unwrap(),
        |root| fs::set_permissions(root.join("mysql"), fs::Permissions::from_mode(0o700)).unwrap(),
        |root| {
            fs::remove_file(root.join("also-x")).unwrap();
            fs::copy(root.join("mysql/deep/x"), root.join("also-x")).unwrap();
        },
        |root| {
            fs::remove_file(root.join("link")).unwrap();
            symlink("../else/there", root.join("link")).unwrap();
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let copied = copy(tree.path());
        let copied = copied.path().join("copy");
        assert_eq!(hash(&copied), original, "a copy is equal");
        change(&copied);
        assert_ne!(hash(&copied), original, "change {number}");
    }
}

#[test]
fn every_way_to_read_gives_the_same_hash_and_figures() {
    let tree = tempfile::tempdir().unwrap();
    sample(tree.path());
    let with = |io| {
        let options = VerifyOptions { io, threads: 3, buffers: 2 };
        let verified = verify(&[root(tree.path())], options).unwrap();
        (verified.root_hash, verified.files, verified.entries, verified.bytes)
    };
    let auto = with(IoPreference::Auto);
    assert_eq!((auto.1, auto.2), (5, 9));
    assert_eq!(auto.3, 100_000 + 1 + (3 << 20) + 12_345 + (10 << 20));
    assert_eq!(with(IoPreference::Direct), auto);
    assert_eq!(with(IoPreference::Buffered), auto);
}

#[test]
fn roots_are_hashed_under_their_names() {
    let tree = tempfile::tempdir().unwrap();
    sample(tree.path());
    let renamed = SourceRoot { name: "undo".into(), ..root(tree.path()) };
    let one = verify(std::slice::from_ref(&renamed), VerifyOptions::default()).unwrap();
    assert_ne!(one.root_hash, hash(tree.path()));
    let ab = verify(&[root(tree.path()), renamed.clone()], VerifyOptions::default()).unwrap();
    let ba = verify(&[renamed, root(tree.path())], VerifyOptions::default()).unwrap();
    assert_eq!(ab, ba);
    assert_eq!(ab.files, 2 * one.files);
}

#[test]
fn a_missing_root_is_an_error() {
    let error = verify(&[root(Path::new("/no/such/tree"))], VerifyOptions::default()).unwrap_err();
    assert_eq!(error.code(), Code::Missing);
}
