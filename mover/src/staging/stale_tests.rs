//! Adoption, merging and the journal, without an engine.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use fastsst_proto::manifest::{Entry, EntryKind};
use fastsst_proto::{FileHash, Generation};

use super::tests::{begin, entry, fails, link, prepared, put};
use super::*;

const MIB: u64 = 1 << 20;

fn declared(staging: &Staging, id: u32, path: &str, size: u64) -> Arc<StagedFile> {
    staging.create(&Entry { size, ..entry(id, path, EntryKind::File) }).unwrap().unwrap()
}

/// A root with these files, each of which holds its own name.
fn root_with(paths: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for path in paths {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, path.file_name().unwrap().as_encoded_bytes()).unwrap();
    }
    root
}

fn large(root: &Path, path: &str, byte: u8) {
    fs::write(root.join(path), vec![byte; 3 << 20]).unwrap();
}

#[test]
fn an_empty_root_has_no_stale_copy_and_anything_else_has() {
    let root = root_with(&["grastate.dat", "private/key"]);
    assert!(!begin(root.path()).has_stale().unwrap(), "what is kept is not stale");
    fs::write(root.path().join("t"), "t").unwrap();
    assert!(begin(root.path()).has_stale().unwrap());
    drop(prepared(root.path()));
    assert!(begin(root.path()).has_stale().unwrap(), "it is in the staging directory now");
}

#[test]
fn a_file_of_the_same_name_is_moved_and_has_the_declared_length() {
    let root = root_with(&["db/t1", "db/t2"]);
    let inode = fs::metadata(root.path().join("db/t1")).unwrap().ino();
    let staging = prepared(root.path());
    staging.create(&entry(1, "db", EntryKind::Directory)).unwrap();
    let adopted = declared(&staging, 2, "db/t1", 100);
    assert_eq!(adopted.basis(), Some(Basis { size: 2, vouched: None }));
    let place = root.path().join(".fastsst/new/db/t1");
    assert_eq!(fs::metadata(&place).unwrap().ino(), inode);
    assert_eq!(fs::read(&place).unwrap(), [b"t1".as_slice(), &[0; 98]].concat());
    assert!(!root.path().join(".fastsst/old/db/t1").exists());
    assert_eq!(declared(&staging, 3, "db/new", 5).basis(), None);
    let twice = Entry { size: 1, ..entry(4, "db/t1", EntryKind::File) };
    fails(staging.create(&twice), Code::Protocol);
    assert!(root.path().join(".fastsst/old/db/t2").exists(), "nobody wants it");
}

#[test]
fn what_is_declared_again_begins_empty() {
    let root = root_with(&["t"]);
    let staging = prepared(root.path());
    assert!(declared(&staging, 1, "t", 1).basis().is_some());
    let again = Entry { size: 1, generation: Generation(1), ..entry(1, "t", EntryKind::File) };
    assert_eq!(staging.create(&again).unwrap().unwrap().basis(), None);
    assert_eq!(fs::read(root.path().join(".fastsst/new/t")).unwrap(), b"");
}

#[test]
fn only_a_file_that_is_ours_alone_is_adopted() {
    let root = root_with(&["linked", "elsewhere/t", "directory/t"]);
    let outside = tempfile::tempdir_in(root.path().parent().unwrap()).unwrap();
    fs::hard_link(root.path().join("linked"), outside.path().join("backup")).unwrap();
    fs::create_dir(outside.path().join("db")).unwrap();
    fs::write(outside.path().join("db/t"), "t").unwrap();
    fs::remove_dir_all(root.path().join("elsewhere")).unwrap();
    symlink(outside.path().join("db"), root.path().join("elsewhere")).unwrap();
    symlink("linked", root.path().join("link")).unwrap();
    let staging = prepared(root.path());
    staging.create(&entry(1, "elsewhere", EntryKind::Directory)).unwrap();
    for (id, path) in [(2, "linked"), (3, "link"), (4, "elsewhere/t"), (5, "directory")] {
        assert_eq!(declared(&staging, id, path, 1).basis(), None, "{path}");
    }
    assert_eq!(fs::read(outside.path().join("backup")).unwrap(), b"linked");
    assert_eq!(fs::read(outside.path().join("db/t")).unwrap(), b"t");
}

#[test]
fn a_file_that_forbids_it_can_be_patched_and_gets_its_permissions_in_the_end() {
    let root = root_with(&["t"]);
    fs::set_permissions(root.path().join("t"), fs::Permissions::from_mode(0o040)).unwrap();
    let staging = prepared(root.path());
    let file = declared(&staging, 1, "t", 1);
    file.open().unwrap();
    file.finish(FileHash::default()).unwrap();
    let mode = fs::metadata(root.path().join(".fastsst/new/t")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
}

#[test]
fn a_small_file_is_stored_over_a_longer_or_shorter_one() {
    let root = root_with(&["longer_than_this", "s", "hole"]);
    let staging = prepared(root.path());
    let pool = crate::pool::Pool::new(1);
    for (id, path) in [(1, "longer_than_this"), (2, "s")] {
        let file = declared(&staging, id, path, 9);
        let mut buf = pool.acquire().unwrap();
        buf.as_mut_slice()[..9].copy_from_slice(b"123456789");
        file.store(Some(buf.as_mut_slice())).unwrap();
        let stored = fs::read(root.path().join(".fastsst/new").join(path)).unwrap();
        assert_eq!(stored, b"123456789", "{path}");
    }
    declared(&staging, 3, "hole", 3).store(None).unwrap();
    assert_eq!(fs::read(root.path().join(".fastsst/new/hole")).unwrap(), [0; 3]);
}

#[test]
fn a_renamed_file_is_found_by_its_size_and_taken_once() {
    let root = root_with(&[]);
    large(root.path(), "was", 7);
    large(root.path(), "other", 8);
    let staging = prepared(root.path());
    assert!(staging.twins(MIB).is_empty());
    let twins = staging.twins(3 * MIB);
    assert_eq!(twins, [rel(b"other").unwrap(), rel(b"was").unwrap()]);
    assert_eq!(staging.first_page(&twins[1]).unwrap().unwrap(), [7; 16384]);
    let file = declared(&staging, 1, "is", 3 * MIB);
    assert!(staging.adopt(&file, &twins[1]).unwrap());
    assert_eq!(file.basis(), Some(Basis { size: 3 * MIB, vouched: None }));
    assert_eq!(fs::read(root.path().join(".fastsst/new/is")).unwrap()[0], 7);
    assert_eq!(staging.twins(3 * MIB).len(), 1);
    assert!(!staging.adopt(&file, &twins[0]).unwrap(), "it has its content");
    let second = declared(&staging, 2, "second", 3 * MIB);
    assert!(!staging.adopt(&second, &twins[1]).unwrap(), "it is gone");
    assert_eq!(staging.first_page(&twins[1]).unwrap(), None);
    let linked = declared(&staging, 3, "linked", 3 * MIB);
    staging.create(&link(4, "too", EntryKind::HardLink, "linked")).unwrap();
    assert!(!staging.adopt(&linked, &twins[0]).unwrap(), "the other name would stay behind");
}

#[test]
fn what_was_built_is_merged_into_what_was_there_and_wins() {
    let root = root_with(&["ibdata1", "db/t", "db/untouched", "gone/t"]);
    let staging = prepared(root.path());
    put(&staging, 1, "ibdata1", "built");
    staging.create(&entry(2, "db", EntryKind::Directory)).unwrap();
    put(&staging, 3, "db/t", "built");
    staging.create(&entry(4, "fresh", EntryKind::Directory)).unwrap();
    put(&staging, 5, "fresh/t", "built");
    drop(staging);
    // What a server makes before every start.
    fs::write(root.path().join("ibdata1"), "empty set").unwrap();
    fs::write(root.path().join("undo001"), "empty set").unwrap();
    let staging = prepared(root.path());
    let old = |path: &str| fs::read_to_string(root.path().join(".fastsst/old").join(path)).unwrap();
    for path in ["ibdata1", "db/t", "fresh/t"] {
        assert_eq!(old(path), "built", "{path}");
    }
    assert_eq!((old("db/untouched"), old("gone/t")), ("untouched".into(), "t".into()));
    assert_eq!(old("undo001"), "empty set");
    assert!(!root.path().join(".fastsst/trash").exists());
    assert!(!root.path().join("ibdata1").exists());
    drop(staging);
}

#[test]
fn a_node_that_was_restored_since_keeps_what_was_restored() {
    let root = root_with(&["ibdata1", "db/t", "gone/t"]);
    drop(prepared(root.path()));
    fs::create_dir(root.path().join("db")).unwrap();
    for path in ["ibdata1", "db/restored"] {
        fs::write(root.path().join(path), "restored").unwrap();
    }
    drop(prepared(root.path()));
    let old = root.path().join(".fastsst/old");
    assert!(old.join("db/restored").exists() && !old.join("db/t").exists());
    assert!(old.join("gone/t").exists(), "nobody has anything newer");
}

#[test]
fn what_cannot_be_moved_is_sent_whole() {
    let root = root_with(&["db/sealed/t"]);
    let staging = prepared(root.path());
    staging.create(&entry(1, "db", EntryKind::Directory)).unwrap();
    staging.create(&entry(2, "db/sealed", EntryKind::Directory)).unwrap();
    let sealed = root.path().join(".fastsst/old/db/sealed");
    fs::set_permissions(&sealed, fs::Permissions::from_mode(0o500)).unwrap();
    let file = declared(&staging, 3, "db/sealed/t", 1);
    // Root may do it all the same.
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(file.basis().is_some(), is_root);
    fs::set_permissions(&sealed, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn kinds_that_differ_are_no_obstacle_to_merging() {
    let root = root_with(&["was_a_directory/t", "was_a_file"]);
    let staging = prepared(root.path());
    put(&staging, 1, "was_a_directory", "a file now");
    staging.create(&entry(2, "was_a_file", EntryKind::Directory)).unwrap();
    put(&staging, 3, "was_a_file/t", "in a directory");
    drop(staging);
    let staging = prepared(root.path());
    let old = root.path().join(".fastsst/old");
    assert_eq!(fs::read_to_string(old.join("was_a_directory")).unwrap(), "a file now");
    assert_eq!(fs::read_to_string(old.join("was_a_file/t")).unwrap(), "in a directory");
    drop(staging);
}

/// Builds one large file and is interrupted.
fn interrupted(root: &Path) {
    let staging = prepared(root);
    let file = declared(&staging, 1, "t", 3 * MIB);
    file.open().unwrap();
    assert!(file.finish(FileHash([9; 32])).unwrap(), "durable");
    declared(&staging, 2, "unfinished", 3 * MIB).open().unwrap();
}

fn vouched(root: &Path) -> Option<FileHash> {
    let staging = prepared(root);
    assert!(declared(&staging, 2, "unfinished", 3 * MIB).basis().unwrap().vouched.is_none());
    declared(&staging, 1, "t", 3 * MIB).basis().and_then(|basis| basis.vouched)
}

#[test]
fn the_journal_vouches_for_what_was_durable_when_the_transfer_was_interrupted() {
    let root = root_with(&[]);
    interrupted(root.path());
    assert_eq!(vouched(root.path()), Some(FileHash([9; 32])));
    assert_eq!(vouched(root.path()), None, "it was moved, and nothing has been recorded since");
}

#[test]
fn the_journal_does_not_vouch_for_a_file_that_was_touched() {
    let root = root_with(&[]);
    interrupted(root.path());
    let file = fs::File::options().write(true).open(root.path().join(".fastsst/new/t")).unwrap();
    // Kernel timestamps advance with the timer tick.
    std::thread::sleep(std::time::Duration::from_millis(20));
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 0).unwrap();
    assert_eq!(vouched(root.path()), None);
}

#[test]
fn without_a_readable_journal_nothing_is_vouched_for_and_nothing_fails() {
    for damage in [0, 5, 20] {
        let root = root_with(&[]);
        interrupted(root.path());
        let path = root.path().join(".fastsst/journal");
        let mut bytes = fs::read(&path).unwrap();
        bytes[damage] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(vouched(root.path()), None, "byte {damage}");
    }
    let root = root_with(&[]);
    interrupted(root.path());
    fs::remove_file(root.path().join(".fastsst/journal")).unwrap();
    assert_eq!(vouched(root.path()), None);
    let root = root_with(&[]);
    interrupted(root.path());
    fs::remove_file(root.path().join(".fastsst/journal")).unwrap();
    fs::create_dir(root.path().join(".fastsst/journal")).unwrap();
    assert_eq!(vouched(root.path()), None, "a directory");
}
