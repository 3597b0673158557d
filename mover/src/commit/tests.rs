use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fastsst_proto::manifest::{Entry, EntryKind};

use super::*;
use crate::error::Code;
use crate::staging::sync_all;
use crate::staging::tests::{begin, entry, fails, link, prepared, put, target, tree};

/// What the root holds before the transfer.
fn old_root() -> tempfile::TempDir {
    // In memory if possible: it is processes that crash here, and there are hundreds of crashes.
    let memory = Path::new("/dev/shm");
    let root = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap();
    for dir in ["mysql", "gone", "private"] {
        fs::create_dir(root.path().join(dir)).unwrap();
    }
    for path in ["ibdata1", "ib_logfile0", "undo001", "mysql/user", "gone/t", "aria_log.00000001"] {
        fs::write(root.path().join(path), "old").unwrap();
    }
    for path in ["grastate.dat", "private/key"] {
        fs::write(root.path().join(path), "kept").unwrap();
    }
    root
}

/// Builds the new tree in a prepared staging.
fn build(staging: &Staging) {
    let declare = |entry: &Entry| staging.create(entry).unwrap();
    declare(&entry(1, "mysql", EntryKind::Directory));
    put(staging, 2, "mysql/user", "new");
    put(staging, 3, "ibdata1", "new");
    put(staging, 4, "ib_logfile0", "new");
    put(staging, 5, "undo001", "new");
    declare(&Entry { mode: 0o555, ..entry(6, "sealed", EntryKind::Directory) });
    put(staging, 7, "sealed/f", "new");
    declare(&link(8, "elsewhere", EntryKind::Symlink, "/nowhere"));
}

fn new_tree() -> BTreeMap<String, String> {
    let root = old_root();
    for path in ["ibdata1", "ib_logfile0", "undo001", "mysql", "gone", "aria_log.00000001"] {
        let path = root.path().join(path);
        fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)).unwrap();
    }
    let mut expected = tree(root.path());
    let new = [
        ("mysql", "750"),
        ("mysql/user", "640 new"),
        ("ibdata1", "640 new"),
        ("ib_logfile0", "640 new"),
        ("undo001", "640 new"),
        ("sealed", "555"),
        ("sealed/f", "640 new"),
        ("elsewhere", "-> /nowhere"),
    ];
    expected.extend(new.map(|(path, what)| (path.to_owned(), what.to_owned())));
    expected
}

/// What `--wsrep_recover` does before every start of a server: it makes an empty set of files
/// where there is no system tablespace.
fn server_starts(root: &Path) {
    if !root.join("ibdata1").exists() {
        for path in ["ibdata1", "ib_logfile0", "undo003"] {
            fs::write(root.join(path), "empty set").unwrap();
        }
        fs::create_dir_all(root.join("lost")).unwrap();
        fs::write(root.join("lost/t"), "").unwrap();
    }
}

/// Stops everything before a step, as a crash would.
struct Crash {
    at: usize,
    seen: Vec<Step>,
}

impl Crash {
    fn at(at: usize) -> Self {
        Self { at, seen: Vec::new() }
    }

    fn step(&mut self, step: Step) -> Result<()> {
        if self.seen.len() == self.at {
            return Err(Error::new(Code::Cancelled, "crash"));
        }
        self.seen.push(step);
        Ok(())
    }
}

/// Crashes before the first step of a kind.
fn crash_at(at: Step) -> impl FnMut(Step) -> Result<()> {
    move |step| match step == at {
        true => Err(Error::new(Code::Cancelled, "crash")),
        false => Ok(()),
    }
}

/// A transfer that crashes; true when it came to its end.
fn transfer(root: &Path, crash: &mut Crash) -> bool {
    let staging = begin(root);
    let mut hook = |step| crash.step(step);
    if staging.prepare_with(&mut hook).is_err() {
        return false;
    }
    server_starts(root);
    build(&staging);
    let stagings = [staging];
    let durable = sync_all(&stagings).unwrap();
    commit_with(&stagings, durable, &mut hook).is_ok()
}

fn content<'a>(found: &'a BTreeMap<String, String>, path: &str) -> Option<&'a str> {
    found.get(path).and_then(|what| what.split_once(' ')).map(|(_, content)| content)
}

/// What must hold after a crash, before anybody has recovered anything.
fn check_after_crash(root: &Path, crash: &Crash) {
    let found = tree(root);
    let system = ["ibdata1", "ib_logfile0", "undo001"].map(|path| content(&found, path));
    let contents: Vec<_> = system.iter().flatten().collect();
    assert!(contents.windows(2).all(|two| two[0] == two[1]), "a mix: {system:?}");
    // The old system tablespace is there only with everything that belongs to it.
    if content(&found, "ibdata1") == Some("old") {
        for path in ["gone/t", "mysql/user", "undo001", "ib_logfile0"] {
            assert_eq!(content(&found, path), Some("old"), "{path} after {:?}", crash.seen);
        }
    }
    check_always(root, crash);
}

/// What must hold at any moment, whatever a server did.
fn check_always(root: &Path, crash: &Crash) {
    let found = tree(root);
    for path in ["grastate.dat", "private/key"] {
        assert_eq!(content(&found, path), Some("kept"), "{path} after {:?}", crash.seen);
    }
    // The new log is there only with everything else that is new.
    if content(&found, "ib_logfile0") == Some("new") {
        let mut all = found.clone();
        all.insert("sealed".to_owned(), "555".to_owned());
        assert_eq!(all, new_tree(), "{:?}", crash.seen);
    }
}

fn unseal(root: &Path) {
    if let Ok(meta) = fs::metadata(root.join("sealed")) {
        let mode = fs::Permissions::from_mode(meta.permissions().mode() | 0o200);
        fs::set_permissions(root.join("sealed"), mode).unwrap();
    }
}

/// Crashes before every step, starts a server or not, crashes in the recovery before every step
/// of it, and recovers.
fn crash_everywhere(after_crash: fn(&Path)) {
    let expected = new_tree();
    let mut recovered = BTreeMap::new();
    for at in 0.. {
        let mut steps_of_recovery = 0;
        loop {
            let root = old_root();
            let mut crash = Crash::at(at);
            if transfer(root.path(), &mut crash) {
                assert_eq!(tree(root.path()), expected);
                unseal(root.path());
                assert!(recovered[&Recovered::Unfinished.to_string()] >= 10, "{recovered:?}");
                assert!(recovered[&Recovered::CompletedCommit.to_string()] >= 10, "{recovered:?}");
                return;
            }
            check_after_crash(root.path(), &crash);
            after_crash(root.path());
            let mut again = Crash::at(steps_of_recovery);
            let is_stopped = {
                let lock = Lock::take(&Arc::new(Dir::open_target(root.path()).unwrap())).unwrap();
                let keep = target(root.path()).keep;
                recover_locked(&lock, &*keep, &[], &mut |step| again.step(step)).is_err()
            };
            check_always(root.path(), &crash);
            finish(root.path(), &crash, &mut recovered);
            assert_eq!(tree(root.path()), expected, "after {:?}, {:?}", crash.seen, again.seen);
            unseal(root.path());
            if !is_stopped {
                break;
            }
            steps_of_recovery += 1;
        }
    }
}

/// The next start: either it finds the new tree complete, or it transfers anew.
fn finish(root: &Path, crash: &Crash, recovered: &mut BTreeMap<String, usize>) {
    let before = tree(root);
    let staging = begin(root);
    let decided = crash.seen.contains(&Step::SyncRecord);
    *recovered.entry(staging.recovered().to_string()).or_default() += 1;
    if decided {
        assert_eq!(tree(root), new_tree(), "{:?}", crash.seen);
        let left = staging.lock().staging().names().unwrap();
        assert!(!left.contains(&record::FILE.to_vec()), "{:?}", crash.seen);
    } else if staging.recovered() != Recovered::CompletedCommit && tree(root) != new_tree() {
        assert_eq!(tree(root), before, "recovery without a record touches nothing");
        drop(staging);
        assert!(transfer(root, &mut Crash::at(usize::MAX)));
    }
}

impl std::fmt::Display for Recovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

#[test]
fn a_crash_before_any_step_and_in_its_recovery_leaves_the_old_or_the_new() {
    crash_everywhere(|_| ());
}

#[test]
fn a_server_that_starts_after_the_crash_changes_nothing_about_that() {
    crash_everywhere(server_starts);
}

/// A second transfer after a first one that was stopped before its record: crashes before every
/// step, so also while what the first one has built becomes part of the stale copy.
#[test]
fn a_crash_before_any_step_of_a_second_attempt_loses_nothing_either() {
    let (expected, mut merged) = (new_tree(), 0);
    for at in 0.. {
        let root = old_root();
        let staging = prepared(root.path());
        build(&staging);
        let stagings = [staging];
        let durable = sync_all(&stagings).unwrap();
        fails(commit_with(&stagings, durable, &mut crash_at(Step::WriteRecord)), Code::Cancelled);
        drop(stagings);
        server_starts(root.path());
        let mut crash = Crash::at(at);
        let is_done = transfer(root.path(), &mut crash);
        merged = merged.max(crash.seen.iter().filter(|step| **step == Step::Merge).count());
        if !is_done {
            check_always(root.path(), &crash);
            server_starts(root.path());
            if !crash.seen.contains(&Step::SyncRecord) {
                assert!(transfer(root.path(), &mut Crash::at(usize::MAX)), "{:?}", crash.seen);
            }
            drop(begin(root.path()));
        }
        assert_eq!(tree(root.path()), expected, "after {:?}", crash.seen);
        unseal(root.path());
        if is_done {
            assert_eq!(merged, 6, "every file and link that the first one had built");
            return;
        }
    }
}

#[test]
fn the_steps_come_in_the_documented_order() {
    let root = old_root();
    let mut crash = Crash::at(usize::MAX);
    assert!(transfer(root.path(), &mut crash));
    crash.seen.dedup();
    let expected = [
        Step::MoveOut,
        Step::SyncMoveOut,
        Step::MoveOut,
        Step::SyncMoveOut,
        Step::DropTrash,
        Step::Directories,
        Step::WriteRecord,
        Step::SyncRecord,
        Step::Leftover,
        Step::MoveIn,
        Step::LatePermission,
        Step::SyncRoot,
        Step::DropRecord,
        Step::DropStaging,
    ];
    assert_eq!(crash.seen, expected);
    unseal(root.path());
}

#[test]
fn what_came_long_after_a_commit_is_not_removed_by_its_record() {
    let root = old_root();
    let staging = prepared(root.path());
    build(&staging);
    let stagings = [staging];
    let durable = sync_all(&stagings).unwrap();
    fails(commit_with(&stagings, durable, &mut crash_at(Step::DropRecord)), Code::Cancelled);
    drop(stagings);
    fs::create_dir(root.path().join("database_of_next_year")).unwrap();
    assert_eq!(recover(&target(root.path())).unwrap(), Recovered::CompletedCommit);
    assert!(root.path().join("database_of_next_year").exists());
    assert!(!root.path().join(".fastsst").exists());
    unseal(root.path());
}

#[test]
fn a_torn_record_was_never_written() {
    let root = old_root();
    let staging = prepared(root.path());
    build(&staging);
    let stagings = [staging];
    let durable = sync_all(&stagings).unwrap();
    fails(commit_with(&stagings, durable, &mut crash_at(Step::SyncRecord)), Code::Cancelled);
    drop(stagings);
    let path = root.path().join(".fastsst/commit");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let before = tree(root.path());
    assert_eq!(recover(&target(root.path())).unwrap(), Recovered::Unfinished);
    assert_eq!(tree(root.path()), before);
    assert!(transfer(root.path(), &mut Crash::at(usize::MAX)));
    assert_eq!(tree(root.path()), new_tree());
    unseal(root.path());
}

#[test]
fn a_kept_name_that_appeared_meanwhile_is_not_overwritten() {
    let root = tempfile::tempdir().unwrap();
    let staging = prepared(root.path());
    put(&staging, 1, "grastate.dat", "the donor's");
    fs::write(root.path().join("grastate.dat"), "mine").unwrap();
    let stagings = [staging];
    let durable = sync_all(&stagings).unwrap();
    fails(commit(&stagings, durable), Code::UnsafePath);
    drop(stagings);
    assert_eq!(fs::read_to_string(root.path().join("grastate.dat")).unwrap(), "mine");
    assert_eq!(recover(&target(root.path())).unwrap(), Recovered::Unfinished);
}

#[test]
fn a_proof_is_about_one_tree_at_one_time() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = ([prepared(one.path())], [prepared(two.path())]);
    put(&one[0], 1, "f", "x");
    let durable = sync_all(&one).unwrap();
    fails(commit(&two, durable), Code::Bug);
    let durable = sync_all(&one).unwrap();
    put(&one[0], 2, "g", "later");
    fails(commit(&one, durable), Code::Bug);
    let both = [Arc::clone(&one[0]), Arc::clone(&two[0])];
    let durable = sync_all(&both[..1]).unwrap();
    fails(commit(&both, durable), Code::Bug);
}

#[test]
fn an_empty_tree_can_be_committed() {
    let root = old_root();
    let stagings = [prepared(root.path())];
    let durable = sync_all(&stagings).unwrap();
    commit(&stagings, durable).unwrap();
    let left: Vec<_> = tree(root.path()).into_keys().collect();
    assert_eq!(left, ["grastate.dat", "private", "private/key"]);
    assert!(!root.path().join(".fastsst").exists());
}
