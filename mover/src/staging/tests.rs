use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use fastsst_proto::manifest::{Entry, EntryKind};
use fastsst_proto::{FileHash, FileId, Generation, RootIndex};

use super::*;
use crate::disk::{IoEngine, IoJob, IoPreference};
use crate::pool::Pool;

/// Keeps these names.
#[derive(Debug)]
struct KeepThese(&'static [&'static str]);

impl Keep for KeepThese {
    fn keep(&self, name: &[u8]) -> bool {
        self.0.iter().any(|kept| kept.as_bytes() == name)
    }
}

pub(crate) const KEPT: [&str; 2] = ["grastate.dat", "private"];

pub(crate) fn target(path: &Path) -> Place {
    Place { name: "data".to_owned(), path: path.to_owned(), keep: Arc::new(KeepThese(&KEPT)) }
}

pub(crate) fn begin(path: &Path) -> Arc<Staging> {
    Arc::new(Staging::begin(target(path), Owner::Process, FileMode::Buffered).unwrap())
}

pub(crate) fn prepared(path: &Path) -> Arc<Staging> {
    let staging = begin(path);
    staging.prepare().unwrap();
    staging
}

pub(crate) fn entry(id: u32, path: &str, kind: EntryKind) -> Entry {
    Entry {
        id: FileId(id),
        generation: Generation(0),
        root: RootIndex(0),
        path: rel(path.as_bytes()).unwrap(),
        kind,
        size: 0,
        mode: if kind == EntryKind::Directory { 0o750 } else { 0o640 },
        uid: 0,
        gid: 0,
        mtime_s: 1_600_000_000 + i64::from(id),
        mtime_ns: 123_456_789,
        sparse: false,
        link_target: None,
    }
}

pub(crate) fn link(id: u32, path: &str, kind: EntryKind, target: &str) -> Entry {
    Entry { link_target: Some(target.as_bytes().to_vec()), ..entry(id, path, kind) }
}

/// Declares, writes and finishes a file.
pub(crate) fn put(staging: &Staging, id: u32, path: &str, content: &str) -> Entry {
    let entry = Entry { size: content.len() as u64, ..entry(id, path, EntryKind::File) };
    fill(&staging.create(&entry).unwrap().unwrap(), content);
    entry
}

fn fill(file: &Arc<StagedFile>, content: &str) {
    write(&file.open().unwrap(), content);
    file.finish(FileHash::default()).unwrap();
}

fn write(file: &crate::disk::OpenFile, content: &str) {
    assert_eq!(rustix::io::pwrite(file, content.as_bytes(), 0).unwrap(), content.len());
}

/// Everything below a directory that is not the staging's: path, and what matters of it.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect(root, root, &mut found);
    found
}

fn collect(root: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let meta = fs::symlink_metadata(&path).unwrap();
        if name == ".fastsst" {
            continue;
        }
        let what = if meta.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if meta.is_dir() {
            collect(root, &path, found);
            format!("{:o}", meta.permissions().mode() & 0o7777)
        } else {
            let mode = meta.permissions().mode() & 0o7777;
            format!("{mode:o} {}", String::from_utf8(fs::read(&path).unwrap()).unwrap())
        };
        found.insert(name, what);
    }
}

#[track_caller]
pub(crate) fn fails<T: fmt::Debug>(result: Result<T>, code: Code) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    error.to_string()
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_root_that_is_not_prepared_is_left_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("ibdata1"), "old").unwrap();
    let meta = || fs::metadata(root.path()).unwrap();
    let (mtime, before) = ((meta().mtime(), meta().mtime_nsec()), tree(root.path()));
    let staging = begin(root.path());
    assert_eq!(staging.recovered(), Recovered::Nothing);
    assert_eq!(mode_of(&root.path().join(".fastsst")), 0o700);
    assert!(staging.replaced_bytes(&[]).unwrap() >= 4096);
    drop(staging);
    assert!(!root.path().join(".fastsst").exists());
    assert_eq!((tree(root.path()), (meta().mtime(), meta().mtime_nsec())), (before, mtime));
    assert_eq!(commit::recover(&target(root.path())).unwrap(), Recovered::Nothing);
    assert!(!root.path().join(".fastsst").exists());
}

#[test]
fn a_living_process_excludes_others_and_a_dead_one_does_not() {
    let root = tempfile::tempdir().unwrap();
    let first = begin(root.path());
    let second = Staging::begin(target(root.path()), Owner::Process, FileMode::Buffered);
    assert!(fails(second, Code::Busy).contains(root.path().to_str().unwrap()));
    fails(commit::recover(&target(root.path())), Code::Busy);
    assert!(root.path().join(".fastsst/lock").exists(), "the loser removes nothing");
    drop(first);
    fs::create_dir_all(root.path().join(".fastsst/new/half")).unwrap();
    fs::write(root.path().join(".fastsst/lock"), "").unwrap();
    let next = begin(root.path());
    assert_eq!(next.recovered(), Recovered::Unfinished);
    drop(next);
    assert!(root.path().join(".fastsst/new/half").exists(), "nobody has touched that");
    fs::set_permissions(root.path().join(".fastsst"), fs::Permissions::from_mode(0o755)).unwrap();
    let next = prepared(root.path());
    assert_eq!(mode_of(&root.path().join(".fastsst")), 0o700);
    assert!(!root.path().join(".fastsst/new/half").exists());
    drop(next);
}

#[test]
fn a_lock_file_of_a_killed_process_goes_with_the_next_one() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join(".fastsst")).unwrap();
    fs::write(root.path().join(".fastsst/lock"), "").unwrap();
    drop(begin(root.path()));
    assert!(!root.path().join(".fastsst").exists());
}

#[test]
fn something_else_in_the_place_of_our_files_is_refused() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let place = root.path().join(".fastsst");
    let try_it = || Staging::begin(target(root.path()), Owner::Process, FileMode::Buffered);
    symlink(outside.path(), &place).unwrap();
    fails(try_it(), Code::UnsafePath);
    fs::remove_file(&place).unwrap();
    fs::write(&place, "").unwrap();
    fails(try_it(), Code::UnsafePath);
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    symlink(outside.path().join("f"), place.join("lock")).unwrap();
    fails(try_it(), Code::UnsafePath);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    fails(
        Staging::begin(target(&root.path().join("none")), Owner::Process, FileMode::Buffered),
        Code::Missing,
    );
}

#[test]
fn prepare_sets_aside_what_is_not_kept_even_where_permissions_forbid_it() {
    let root = tempfile::tempdir().unwrap();
    for path in ["sealed/inner", "mysql", "private"] {
        fs::create_dir_all(root.path().join(path)).unwrap();
    }
    for path in ["ibdata1", "grastate.dat", "private/key", "sealed/inner/f", "mysql/t"] {
        fs::write(root.path().join(path), path).unwrap();
    }
    for path in ["sealed/inner", "sealed"] {
        fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let staging = prepared(root.path());
    let left: Vec<_> = tree(root.path()).into_keys().collect();
    assert_eq!(left, ["grastate.dat", "private", "private/key"]);
    let names: [&[u8]; 4] = [b"journal", b"lock", b"new", b"old"];
    assert_eq!(staging.lock.staging().names().unwrap(), names);
    assert!(root.path().join(".fastsst/old/sealed/inner/f").exists());
    assert!(staging.drop_stale().unwrap() > 0, "whatever their permissions");
    assert_eq!(fs::read_dir(root.path().join(".fastsst/old")).unwrap().count(), 0);
    assert_eq!(staging.drop_stale().unwrap(), 0);
    fails(staging.prepare(), Code::Bug);
}

#[test]
fn a_move_that_fails_brings_everything_back() {
    let root = tempfile::tempdir().unwrap();
    for path in ["ibdata1", "ib_logfile0", "a", "b"] {
        fs::write(root.path().join(path), path).unwrap();
    }
    let staging = begin(root.path());
    let mut moves = 0;
    let failed = staging.prepare_with(&mut |step| {
        moves += usize::from(step == commit::Step::MoveOut);
        if moves == 4 && root.path().join("b").exists() {
            fs::remove_file(root.path().join("b")).unwrap();
        }
        Ok(())
    });
    fails(failed, Code::TargetWrite);
    drop(staging);
    let left: Vec<_> = tree(root.path()).into_keys().collect();
    assert_eq!(left, ["a", "ib_logfile0", "ibdata1"]);
    assert!(!root.path().join(".fastsst").exists());
}

#[test]
fn every_kind_of_entry_is_built_and_gets_its_attributes() {
    let root = tempfile::tempdir().unwrap();
    let staging = prepared(root.path());
    let declare = |entry: &Entry| staging.create(entry).unwrap();
    declare(&Entry { mode: 0o3555, ..entry(1, "d", EntryKind::Directory) });
    declare(&entry(2, "d/e", EntryKind::Directory));
    put(&staging, 3, "d/e/f", "content");
    declare(&link(4, "d/same", EntryKind::HardLink, "d/e/f"));
    declare(&link(5, "d/link", EntryKind::Symlink, "/nowhere/..\u{e4}"));
    put(&staging, 6, "d/empty", "");
    let special = Entry { mode: 0o6755, ..entry(7, "special", EntryKind::File) };
    declare(&special).unwrap().finish(FileHash::default()).unwrap();
    let stagings = [staging];
    let durable = sync_all(&stagings).unwrap();
    commit::commit(&stagings, durable).unwrap();

    let at = |path: &str| root.path().join(path);
    let times = |path: &str| {
        let meta = fs::symlink_metadata(at(path)).unwrap();
        (meta.mtime() - 1_600_000_000, meta.mtime_nsec())
    };
    for (id, path) in [(1, "d"), (2, "d/e"), (3, "d/e/f"), (5, "d/link"), (6, "d/empty")] {
        assert_eq!(times(path), (id, 123_456_789), "{path}");
    }
    assert_eq!((mode_of(&at("d")), mode_of(&at("d/e"))), (0o3555, 0o750));
    assert_eq!(mode_of(&at("special")), 0o755, "set-user-id is for the donor's user");
    assert_eq!(fs::read_to_string(at("d/same")).unwrap(), "content");
    assert_eq!(fs::metadata(at("d/same")).unwrap().ino(), fs::metadata(at("d/e/f")).unwrap().ino());
    assert_eq!(fs::read_link(at("d/link")).unwrap(), Path::new("/nowhere/..\u{e4}"));
    assert!(!at(".fastsst").exists());
    // So that the directory can be removed by somebody who is not root.
    fs::set_permissions(at("d"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn owners_and_special_bits_follow_the_policy() {
    let is_root = rustix::process::geteuid().is_root();
    let special = Entry { mode: 0o4711, uid: 12345, gid: 54321, ..entry(1, "f", EntryKind::File) };
    assert_eq!(
        (Owner::Process.meta(&special).mode, Owner::Process.meta(&special).owner),
        (0o711, None)
    );
    let preserved = Owner::Preserve.meta(&special);
    assert_eq!((preserved.mode, preserved.owner.is_some()), (0o4711, is_root));
    let root = tempfile::tempdir().unwrap();
    let staging = Staging::begin(target(root.path()), Owner::Preserve, FileMode::Buffered).unwrap();
    staging.prepare().unwrap();
    staging.create(&special).unwrap().unwrap().finish(FileHash::default()).unwrap();
    let meta = fs::metadata(root.path().join(".fastsst/new/f")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o4711);
    if is_root {
        assert_eq!((meta.uid(), meta.gid()), (12345, 54321));
    }
}

#[test]
fn a_donor_that_breaks_the_rules_is_refused() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("grastate.dat"), "mine").unwrap();
    let staging = prepared(root.path());
    let create = |entry: Entry| staging.create(&entry);
    put(&staging, 1, "f", "x");
    create(link(2, "l", EntryKind::Symlink, "/etc")).unwrap();
    let kinds = [EntryKind::File, EntryKind::Directory];
    for kind in kinds {
        fails(create(entry(9, "f", kind)), Code::Protocol);
        fails(create(entry(9, "none/f", kind)), Code::Protocol);
        fails(create(entry(9, "f/f", kind)), Code::Protocol);
        fails(create(entry(9, "l/f", kind)), Code::UnsafePath);
        fails(create(entry(9, "grastate.dat", kind)), Code::UnsafePath);
        fails(create(entry(9, ".fastsst", kind)), Code::UnsafePath);
    }
    for target in ["none", "l", "l/passwd", "."] {
        let result = create(link(9, "h", EntryKind::HardLink, target));
        assert!(
            matches!(result.unwrap_err().code(), Code::Protocol | Code::UnsafePath),
            "{target}"
        );
    }
    // What this node would keep but does not have may come.
    create(entry(3, "private", EntryKind::Directory)).unwrap();
    create(entry(4, "private/grastate.dat", EntryKind::Directory)).unwrap();
    fails(staging.remove(&entry(3, "private", EntryKind::Directory)), Code::Protocol);
    put(&staging, 5, "still", "alive");
    assert_eq!(fs::read_to_string(root.path().join("grastate.dat")).unwrap(), "mine");
}

#[test]
fn a_file_declared_again_is_a_new_file_under_all_its_names() {
    let root = tempfile::tempdir().unwrap();
    let new = root.path().join(".fastsst/new");
    let staging = prepared(root.path());
    let first = Entry { size: 8, ..entry(1, "f", EntryKind::File) };
    let old = staging.create(&first).unwrap().unwrap();
    let late = old.open().unwrap();
    staging.create(&link(2, "g", EntryKind::HardLink, "f")).unwrap();
    let again = Entry { size: 3, generation: Generation(1), ..first.clone() };
    let file = staging.create(&again).unwrap().unwrap();
    write(&late, "too late");
    assert!(old.is_retired() && !file.is_retired());
    fails(old.open(), Code::SourceChanged);
    assert!(!old.finish(FileHash::default()).unwrap(), "finishing the earlier one does nothing");
    fails(sync_all(&[Arc::clone(&staging)]), Code::Bug);
    fill(&file, "new");
    for name in ["f", "g"] {
        assert_eq!(fs::read_to_string(new.join(name)).unwrap(), "new", "{name}");
    }
    assert_eq!(fs::metadata(new.join("f")).unwrap().nlink(), 2);

    staging.remove(&again).unwrap();
    assert!(!new.join("f").exists() && new.join("g").exists());
    put(&staging, 3, "f", "somebody else");
    let directory = entry(4, "d", EntryKind::Directory);
    staging.create(&directory).unwrap();
    let changed = Entry { mode: 0o700, generation: Generation(1), ..directory };
    staging.create(&changed).unwrap();
    staging.remove(&changed).unwrap();
    let symbolic = link(5, "s", EntryKind::Symlink, "one");
    staging.create(&symbolic).unwrap();
    let target = Some(b"two".to_vec());
    staging.create(&Entry { generation: Generation(1), link_target: target, ..symbolic }).unwrap();
    assert_eq!(fs::read_link(new.join("s")).unwrap(), Path::new("two"));
    sync_all(&[staging]).unwrap();
}

#[test]
fn many_open_files_take_turns() {
    let root = tempfile::tempdir().unwrap();
    let staging = prepared(root.path());
    let count = OPEN_FOR_TEST;
    let declare = |id| {
        let entry = Entry { size: 4, ..entry(id, &format!("f{id}"), EntryKind::File) };
        staging.create(&entry).unwrap().unwrap()
    };
    let files: Vec<_> = (0..count).map(declare).collect();
    for file in &files {
        write(&file.open().unwrap(), "half");
    }
    let open = files.iter().filter(|file| file.is_open()).count();
    assert!((8..=512).contains(&open), "{open} of {count} files are open");
    for file in files.iter().rev() {
        write(&file.open().unwrap(), "done");
        file.finish(FileHash::default()).unwrap();
    }
    assert!(files.iter().all(|file| !file.is_open()));
    sync_all(&[staging]).unwrap();
    let first = fs::read_to_string(root.path().join(".fastsst/new/f0")).unwrap();
    assert_eq!(first, "done", "a file that was closed in between is the same file");
}

/// More than may be open.
const OPEN_FOR_TEST: u32 = 600;

#[test]
fn direct_writes_end_where_the_file_ends() {
    let root = tempfile::tempdir().unwrap();
    let staging = Staging::begin(target(root.path()), Owner::Process, FileMode::Direct).unwrap();
    staging.prepare().unwrap();
    let size = (1 << 20) + 5;
    let file = Entry { size, ..entry(1, "f", EntryKind::File) };
    let file = staging.create(&file).unwrap().unwrap();
    let (done_tx, done) = flume::bounded(2);
    let engine = IoEngine::start(IoPreference::Auto, 2, done_tx, &[]).unwrap();
    // The first chunk is zeros and never written.
    let mut buf = Pool::new(1).acquire().unwrap();
    buf.as_mut_slice()[..5].copy_from_slice(b"tail!");
    buf.set_len(5);
    engine.submit(IoJob::write(file.open().unwrap(), 1 << 20, buf, ())).unwrap();
    done.recv().unwrap().result.unwrap();
    assert!(file.finish(FileHash::default()).unwrap(), "a large file is durable at once");
    let hole = Entry { size: 3 << 20, sparse: true, ..entry(2, "hole", EntryKind::File) };
    assert!(staging.create(&hole).unwrap().unwrap().finish(FileHash::default()).unwrap());
    let small = Entry { size: 9, ..entry(3, "small", EntryKind::File) };
    assert!(!staging.create(&small).unwrap().unwrap().finish(FileHash::default()).unwrap());
    let new = root.path().join(".fastsst/new");
    let content = fs::read(new.join("f")).unwrap();
    assert_eq!(content.len() as u64, size);
    assert!(content.starts_with(&[0; 4096]) && content.ends_with(b"\0tail!"));
    assert_eq!(fs::metadata(new.join("hole")).unwrap().len(), 3 << 20);
    assert_eq!(fs::read(new.join("small")).unwrap(), [0; 9]);
}

#[test]
fn small_files_are_written_and_finished_in_one_go() {
    for mode in [FileMode::Direct, FileMode::Buffered] {
        let root = tempfile::tempdir().unwrap();
        let staging = Staging::begin(target(root.path()), Owner::Process, mode).unwrap();
        staging.prepare().unwrap();
        let mut buf = Pool::new(1).acquire().unwrap();
        for (id, size) in [(1, 1), (2, 4095), (3, 4096), (4, 70_001), (5, 128 << 10)] {
            let file = Entry { size: size as u64, ..entry(id, &format!("f{id}"), EntryKind::File) };
            // What follows the content in the buffer must not reach the disk.
            buf.as_mut_slice()[..size].fill(b'x');
            buf.as_mut_slice()[size..].fill(0xee);
            let staged = staging.create(&file).unwrap().unwrap();
            assert!(!staged.store(Some(buf.as_mut_slice())).unwrap(), "durable with the others");
            assert!(staged.is_retired());
            let path = root.path().join(format!(".fastsst/new/f{id}"));
            assert!(fs::read(&path).unwrap() == vec![b'x'; size], "{size} {mode:?}");
            let stat = fs::metadata(&path).unwrap();
            assert_eq!((stat.mode() & 0o7777, stat.mtime()), (0o640, file.mtime_s), "{mode:?}");
        }
        let hole = Entry { size: 9, ..entry(6, "hole", EntryKind::File) };
        staging.create(&hole).unwrap().unwrap().store(None).unwrap();
        assert_eq!(fs::read(root.path().join(".fastsst/new/hole")).unwrap(), [0; 9]);
        let again = Entry { size: 1, ..entry(7, "again", EntryKind::File) };
        let old = staging.create(&again).unwrap().unwrap();
        let again = Entry { generation: Generation(1), ..again };
        let new = staging.create(&again).unwrap().unwrap();
        fails(old.store(Some(buf.as_mut_slice())), Code::SourceChanged);
        new.store(Some(buf.as_mut_slice())).unwrap();
        sync_all(&[Arc::new(staging)]).unwrap();
    }
}

#[test]
fn after_a_failed_write_nothing_succeeds_any_more() {
    let root = tempfile::tempdir().unwrap();
    let staging = prepared(root.path());
    let file = staging.create(&entry(1, "f", EntryKind::File)).unwrap().unwrap();
    let error = file.write_failed(std::io::Error::from_raw_os_error(28));
    assert_eq!(error.code(), Code::DiskFull);
    let later = file.write_failed(std::io::Error::from_raw_os_error(5));
    assert_eq!(later.code(), Code::TargetWrite);
    fails(file.open(), Code::DiskFull);
    fails(file.finish(FileHash::default()), Code::DiskFull);
    fails(staging.create(&entry(2, "g", EntryKind::File)), Code::DiskFull);
    fails(staging.remove(&entry(1, "f", EntryKind::File)), Code::DiskFull);
    let words = fails(sync_all(&[staging]), Code::DiskFull);
    assert!(words.contains(".fastsst/new/f"), "the first failure is the one that is told: {words}");
}

#[test]
fn an_unprepared_staging_refuses_to_build() {
    let root = tempfile::tempdir().unwrap();
    let staging = begin(root.path());
    fails(staging.create(&entry(1, "f", EntryKind::File)), Code::Bug);
    assert!(tree(root.path()).is_empty());
}
