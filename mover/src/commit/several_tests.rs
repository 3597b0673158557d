//! Crashes in transfers into several roots.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fastsst_proto::manifest::{Entry, EntryKind};

use super::*;
use crate::disk::file::FileMode;
use crate::error::Code;
use crate::staging::tests::{KEPT, entry, fails, put, target, tree};
use crate::staging::{How, Owner, sync_all};

/// Names below the directory of a node: data directory, system files, tables elsewhere.
const PLACES: [&str; 3] = ["data", "sys", "tables"];

/// How a node has spread its files.
#[derive(Debug, Clone, Copy)]
struct Spread {
    ibdata: &'static str,
    log: &'static str,
    undo: &'static str,
    /// Below the data directory, where system files may be.
    prefixes: &'static [&'static str],
}

/// Two roots share `sys`; the log has a prefix.
const SHARED: Spread = Spread {
    ibdata: "sys/ibdata1",
    log: "data/redo/ib_logfile0",
    undo: "sys/undo001",
    prefixes: &["redo"],
};

const LOG_ELSEWHERE: Spread = Spread {
    ibdata: "data/ibdata1",
    log: "sys/ib_logfile0",
    undo: "tables/undo001",
    prefixes: &[],
};

/// All system files in directories of the data directory, which as such would come early.
const ALL_BELOW: Spread = Spread {
    ibdata: "data/a/ibdata1",
    log: "data/b/c/ib_logfile0",
    undo: "data/a/undo001",
    prefixes: &["a", "b/c"],
};

const TABLES: [&str; 4] = ["data/mysql/user", "data/gone/t", "tables/db/t.ibd", "sys/other"];

struct Node {
    dir: tempfile::TempDir,
    spread: Spread,
}

impl Node {
    /// What it holds before the transfer.
    fn old(spread: Spread) -> Self {
        // In memory if possible: it is processes that crash here, and there are thousands of crashes.
        let memory = Path::new("/dev/shm");
        let dir = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap();
        let node = Self { dir, spread };
        for place in PLACES {
            node.write(&format!("{place}/private/key"), "kept");
        }
        node.write("data/grastate.dat", "kept");
        for path in TABLES.into_iter().chain(node.system()) {
            node.write(path, "old");
        }
        node
    }

    fn system(&self) -> [&'static str; 3] {
        [self.spread.ibdata, self.spread.log, self.spread.undo]
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), content).unwrap();
    }

    /// Content of a file.
    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok()
    }

    /// Everything that is no staging's.
    fn tree(&self) -> BTreeMap<String, String> {
        let trees = PLACES.into_iter().flat_map(|place| {
            let found = tree(&self.at(place)).into_iter();
            found.map(move |(path, what)| (format!("{place}/{path}"), what))
        });
        trees.collect()
    }

    fn places(&self) -> Vec<Place> {
        PLACES.map(|place| target(&self.at(place))).to_vec()
    }

    fn begin(&self) -> Vec<Arc<Staging>> {
        Staging::begin_all(self.places(), &how()).unwrap()
    }

    /// What `--wsrep_recover` does before every start of a server.
    fn server_starts(&self) {
        if !self.at(self.spread.ibdata).exists() {
            let undo = self.spread.undo.replace("undo001", "undo003");
            for path in [self.spread.ibdata, self.spread.log, &undo] {
                self.write(path, "empty set");
            }
            self.write("data/lost/t", "");
        }
    }

    /// A transfer that crashes; true when it came to its end.
    fn transfer(&self, crash: &mut Crash) -> bool {
        self.transfer_into(&self.begin(), PLACES.len(), crash)
    }

    /// With something new for the first `count` of these roots.
    fn transfer_into(&self, stagings: &[Arc<Staging>], count: usize, crash: &mut Crash) -> bool {
        let mut hook = |step| crash.step(step);
        let prefixes = self.spread.prefixes.iter().map(|it| rel(it.as_bytes()).unwrap());
        stagings[0].expect_prefixes(prefixes.collect()).unwrap();
        if Staging::prepare_all(stagings, &mut hook).is_err() {
            return false;
        }
        self.server_starts();
        self.build(&stagings[..count]);
        let durable = sync_all(stagings).unwrap();
        commit_with(stagings, durable, &mut hook).is_ok()
    }

    fn build(&self, stagings: &[Arc<Staging>]) {
        let new = self.new_files();
        for (id, path) in (1..).zip(&new) {
            let (place, path) = path.split_once('/').unwrap();
            let number = PLACES.iter().position(|name| *name == place).unwrap();
            // One that does not take part.
            let Some(staging) = stagings.get(number) else { continue };
            let path = rel(path.as_bytes()).unwrap();
            if let Some(parent) = path.parent() {
                staging.make_directories(&parent).unwrap();
            }
            put(staging, id, &path.to_string(), "new");
        }
        let sealed = Entry { mode: 0o555, ..entry(1000, "sealed", EntryKind::Directory) };
        stagings[1].create(&sealed).unwrap();
    }

    fn new_files(&self) -> Vec<&'static str> {
        ["data/mysql/user", "tables/db/t.ibd", "tables/db/new.ibd"]
            .into_iter()
            .chain(self.system())
            .collect()
    }

    /// What it holds in the end.
    fn expected(spread: Spread) -> BTreeMap<String, String> {
        let node = Self::old(spread);
        for place in PLACES {
            for entry in fs::read_dir(node.at(place)).unwrap() {
                let path = entry.unwrap().path();
                if !KEPT.iter().any(|kept| path.ends_with(kept)) {
                    fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)).unwrap();
                }
            }
        }
        let mut expected = node.tree();
        for path in node.new_files() {
            expected.insert(path.to_owned(), "640 new".to_owned());
            for parent in
                Path::new(path).ancestors().skip(1).filter(|it| it.components().count() > 1)
            {
                expected.insert(parent.to_str().unwrap().to_owned(), "750".to_owned());
            }
        }
        expected.insert("sys/sealed".to_owned(), "555".to_owned());
        expected
    }

    /// What must hold after a crash, before anybody has recovered anything and no server started.
    fn check_after_crash(&self, crash: &Crash) {
        let system = self.system().map(|path| self.read(path));
        let found: Vec<_> = system.iter().flatten().collect();
        assert!(found.windows(2).all(|two| two[0] == two[1]), "{system:?} after {:?}", crash.seen);
        // The old system tablespace is there only with everything that belongs to it.
        if self.read(self.spread.ibdata).as_deref() == Some("old") {
            for path in TABLES.into_iter().chain([self.spread.undo, self.spread.log]) {
                assert_eq!(
                    self.read(path).as_deref(),
                    Some("old"),
                    "{path} after {:?}",
                    crash.seen
                );
            }
        }
        self.check_always(crash);
    }

    /// What must hold at any moment, whatever a server did.
    fn check_always(&self, crash: &Crash) {
        for path in PLACES.map(|place| format!("{place}/private/key")) {
            assert_eq!(self.read(&path).as_deref(), Some("kept"), "{path} after {:?}", crash.seen);
        }
        assert_eq!(self.read("data/grastate.dat").as_deref(), Some("kept"));
        // A server completes a start when both are there; then everything must be.
        let is_new = |path| self.read(path).as_deref() == Some("new");
        if is_new(self.spread.log) && is_new(self.spread.ibdata) {
            let mut all = self.tree();
            all.insert("sys/sealed".to_owned(), "555".to_owned());
            assert_eq!(all, Self::expected(self.spread), "{:?}", crash.seen);
        }
    }

    /// The next start: either it finds the new trees complete, or it transfers anew.
    fn finish(&self, crash: &Crash, expected: &BTreeMap<String, String>) -> Recovered {
        let before = self.tree();
        let stagings = self.begin();
        let recovered = stagings[0].recovered();
        let decided = crash.count(Step::SyncRecord) == PLACES.len();
        if decided || recovered == Recovered::CompletedCommit || self.tree() == *expected {
            assert_eq!(self.tree(), *expected, "{:?}", crash.seen);
            for staging in &stagings {
                let left = staging.lock().staging().names().unwrap();
                assert!(!left.contains(&record::FILE.to_vec()), "{:?}", crash.seen);
            }
        } else {
            assert_eq!(self.tree(), before, "recovery without a record touches nothing");
            drop(stagings);
            assert!(self.transfer(&mut Crash::at(usize::MAX)));
        }
        recovered
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // So that it can be removed by somebody who is not root.
        drop(fs::remove_dir(self.at("sys/sealed")));
    }
}

fn how() -> How {
    How::new(Owner::Process, FileMode::Buffered)
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

    fn count(&self, step: Step) -> usize {
        self.seen.iter().filter(|seen| **seen == step).count()
    }
}

/// Crashes before every step, starts a server or not, crashes in the recovery before every step of
/// it, and recovers.
fn crash_everywhere(spread: Spread, after_crash: fn(&Node)) {
    let expected = Node::expected(spread);
    let (mut completed, mut unfinished) = (0, 0);
    for at in 0.. {
        let mut steps_of_recovery = 0;
        loop {
            let node = Node::old(spread);
            let mut crash = Crash::at(at);
            if node.transfer(&mut crash) {
                assert_eq!(node.tree(), expected);
                for place in PLACES {
                    assert!(!node.at(place).join(".fastsst").exists(), "{place}");
                }
                assert!(completed >= 20 && unfinished >= 20, "{completed}, {unfinished}");
                return;
            }
            node.check_after_crash(&crash);
            after_crash(&node);
            let mut again = Crash::at(steps_of_recovery);
            let is_stopped = {
                let dir = Dir::open_target(&node.at("data")).unwrap();
                let (lock, places) = (Lock::take(&Arc::new(dir)).unwrap(), node.places());
                let mut hook = |step| again.step(step);
                recover_locked(&lock, &*places[0].keep, &places, &mut hook).is_err()
            };
            node.check_always(&crash);
            match node.finish(&crash, &expected) {
                Recovered::CompletedCommit => completed += 1,
                Recovered::Unfinished => unfinished += 1,
                Recovered::Nothing => {}
            }
            assert_eq!(node.tree(), expected, "after {:?}, {:?}", crash.seen, again.seen);
            if !is_stopped {
                break;
            }
            steps_of_recovery += 1;
        }
    }
}

#[test]
fn a_crash_anywhere_leaves_the_old_or_the_new_in_all_roots() {
    for spread in [SHARED, LOG_ELSEWHERE, ALL_BELOW] {
        crash_everywhere(spread, |_| ());
    }
}

#[test]
fn a_server_that_starts_after_the_crash_changes_nothing_about_that_in_any_root() {
    for spread in [SHARED, LOG_ELSEWHERE, ALL_BELOW] {
        crash_everywhere(spread, Node::server_starts);
    }
}

/// The second transfer knows nothing of one root of the first.
#[test]
fn nothing_is_left_in_a_root_that_no_longer_takes_part() {
    let (mut remembered, mut emptied) = (0, 0);
    for at in 0.. {
        let node = Node::old(SHARED);
        let mut crash = Crash::at(at);
        if node.transfer(&mut crash) {
            assert!(remembered >= 10 && emptied >= 10, "{remembered}, {emptied}");
            return;
        }
        let table = node.read("tables/db/t.ibd");
        let places = node.places()[..2].to_vec();
        let mut stagings = Staging::begin_all(places, &how()).unwrap();
        Staging::join_forgotten(&mut stagings, &how()).unwrap();
        remembered += usize::from(stagings.len() == 3);
        let recovered = stagings[0].recovered();
        assert!(node.transfer_into(&stagings, 2, &mut Crash::at(usize::MAX)), "{:?}", crash.seen);
        for place in PLACES {
            assert!(!node.at(place).join(".fastsst").exists(), "{place} after {:?}", crash.seen);
        }
        assert_eq!(node.read("tables/private/key").as_deref(), Some("kept"));
        if recovered == Recovered::CompletedCommit {
            assert_eq!(node.read("tables/db/t.ibd").as_deref(), Some("new"), "{:?}", crash.seen);
        } else {
            emptied += usize::from(table.is_none());
            assert_eq!(node.read("tables/db/t.ibd"), table, "what is in its place stays");
        }
    }
}

/// Decided, and nothing in its place yet.
fn decided() -> Node {
    let node = Node::old(SHARED);
    let stagings = node.begin();
    let mut records = 0;
    let mut crash = |step| {
        records += usize::from(step == Step::SyncRecord);
        match step == Step::MoveIn {
            true => Err(Error::new(Code::Cancelled, "crash")),
            false => Ok(()),
        }
    };
    Staging::prepare_all(&stagings, &mut crash).unwrap();
    node.build(&stagings);
    let durable = sync_all(&stagings).unwrap();
    fails(commit_with(&stagings, durable, &mut crash), Code::Cancelled);
    assert_eq!(records, 3);
    node
}

#[test]
fn a_follower_waits_for_its_leader_once_that_has_decided() {
    let node = decided();
    let alone = |place| Staging::begin(target(&node.at(place)), Owner::Process, FileMode::Buffered);
    let words = fails(alone("sys"), Code::Unsupported);
    assert!(words.contains(node.at("data").to_str().unwrap()), "names the leader: {words}");
    fails(recover(&target(&node.at("tables"))).map(|_| ()), Code::Unsupported);
    assert_eq!(recover(&target(&node.at("data"))).unwrap(), Recovered::CompletedCommit);
    assert_eq!(node.tree(), Node::expected(SHARED), "also with nobody who says what is kept");
    drop(alone("sys").unwrap());

    // Without the leader's record theirs say nothing.
    let node = decided();
    fs::remove_file(node.at("data/.fastsst/commit")).unwrap();
    let staging =
        Staging::begin(target(&node.at("sys")), Owner::Process, FileMode::Buffered).unwrap();
    assert_eq!(staging.recovered(), Recovered::Unfinished);
    assert!(staging.lock().staging().stat(&rel(b"commit").unwrap()).unwrap().is_some());
    staging.prepare().unwrap();
    assert!(staging.lock().staging().stat(&rel(b"commit").unwrap()).unwrap().is_none());
}

#[test]
fn a_follower_that_is_not_where_it_was_is_asked_for() {
    let node = decided();
    let begin = || Staging::begin_all(node.places(), &how()).map(|_| ());
    // As if its file system was not mounted.
    fs::rename(node.at("tables"), node.at("elsewhere")).unwrap();
    fails(begin(), Code::Missing);
    fs::create_dir(node.at("tables")).unwrap();
    let words = fails(begin(), Code::Missing);
    assert!(words.contains("mount"), "{words}");
    fs::remove_dir(node.at("tables")).unwrap();
    fs::rename(node.at("elsewhere"), node.at("tables")).unwrap();
    // Of another transfer.
    let other = decided();
    let ours = fs::read(node.at("tables/.fastsst/commit")).unwrap();
    fs::copy(other.at("tables/.fastsst/commit"), node.at("tables/.fastsst/commit")).unwrap();
    fails(begin(), Code::Bug);
    fs::write(node.at("tables/.fastsst/commit"), ours).unwrap();
    begin().unwrap();
    assert_eq!(node.tree(), Node::expected(SHARED));
}

#[test]
fn a_root_that_cannot_make_room_brings_everything_back_in_all() {
    let node = Node::old(SHARED);
    let before = node.tree();
    let stagings = node.begin();
    let mut moves = 0;
    let failed = Staging::prepare_all(&stagings, &mut |step| {
        moves += usize::from(step == Step::MoveOut);
        if moves == 7 && node.at("tables/db").exists() {
            // The last root's only name, so that its move fails.
            fs::remove_dir_all(node.at("tables/db")).unwrap();
        }
        Ok(())
    });
    assert_eq!(failed.unwrap_err().code(), Code::TargetWrite);
    drop(stagings);
    node.write("tables/db/t.ibd", "old");
    let mut after = node.tree();
    after.insert("tables/db".to_owned(), before["tables/db"].clone());
    after.insert("tables/db/t.ibd".to_owned(), before["tables/db/t.ibd"].clone());
    assert_eq!(after, before);
    for place in PLACES {
        assert!(!node.at(place).join(".fastsst").exists(), "{place}");
    }
}

#[test]
fn places_that_are_in_each_others_way_are_refused() {
    let node = Node::old(SHARED);
    let begin = |paths: &[&str]| {
        let places = paths.iter().map(|path| target(&node.at(path))).collect();
        Staging::begin_all(places, &how()).map(|_| ())
    };
    std::os::unix::fs::symlink(node.at("data"), node.at("link")).unwrap();
    fs::create_dir_all(node.at("data/private/inner")).unwrap();
    fails(begin(&["data", "link"]), Code::Unsupported);
    fails(begin(&["data", "data/mysql"]), Code::Unsupported);
    fails(begin(&["link/mysql", "data"]), Code::Unsupported);
    fails(begin(&[]), Code::Bug);
    begin(&["data", "data/private/inner", "sys"]).unwrap();
    begin(&["data/private/inner", "link"]).unwrap();
}

#[test]
fn what_belongs_to_another_leader_by_now_is_left_alone() {
    let node = Node::old(SHARED);
    let stagings = node.begin();
    Staging::prepare_all(&stagings, &mut |_| Ok(())).unwrap();
    drop(stagings);
    let take_part = || {
        let mut stagings = Staging::begin_all(node.places()[..1].to_vec(), &how()).unwrap();
        Staging::join_forgotten(&mut stagings, &how()).unwrap();
        stagings.iter().map(|it| it.path().file_name().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(take_part(), ["data", "sys", "tables"]);
    // Another node has begun to receive into it.
    let other = Staging::begin_all(vec![target(&node.at("sys"))], &how()).unwrap();
    Staging::prepare_all(&other, &mut |_| Ok(())).unwrap();
    drop(other);
    assert_eq!(take_part(), ["data", "tables"]);
    fs::remove_dir_all(node.at("tables")).unwrap();
    assert_eq!(take_part(), ["data"]);
}

/// Prepares another transfer while the leader's file system is not mounted.
fn prepare_without_leader(node: &Node) {
    fs::rename(node.at("data"), node.at("away")).unwrap();
    fs::create_dir(node.at("data")).unwrap();
    let stagings = node.begin();
    Staging::prepare_all(&stagings, &mut |_| Ok(())).unwrap();
    drop(stagings);
    fs::remove_dir_all(node.at("data")).unwrap();
    fs::rename(node.at("away"), node.at("data")).unwrap();
}

#[test]
fn a_root_that_has_lost_its_part_is_not_taken_for_done() {
    let begin = |node: &Node| Staging::begin_all(node.places(), &how()).map(|_| ());
    // What its disk was replaced by has the same inode: those of file systems' roots have one number.
    let node = decided();
    fs::remove_dir_all(node.at("tables/.fastsst")).unwrap();
    fails(begin(&node), Code::Missing);
    assert_eq!(node.read("data/mysql/user"), None, "nothing came to its place");

    let node = decided();
    prepare_without_leader(&node);
    fails(begin(&node), Code::Missing);
    assert_eq!(node.read("data/mysql/user"), None, "nothing came to its place");
}

#[test]
fn a_place_inside_of_another_that_paths_do_not_show_is_refused() {
    let node = Node::old(LOG_ELSEWHERE);
    for (inner, is_kept) in [("data/mysql/redo", false), ("data/private/redo", true)] {
        fs::create_dir_all(node.at(inner)).unwrap();
        // As if its path was that of another mount.
        let begin =
            |place| Staging::begin(target(&node.at(place)), Owner::Process, FileMode::Buffered);
        let stagings = ["data", inner].map(|place| Arc::new(begin(place).unwrap()));
        let replaced = stagings[0].replaced_bytes(&stagings);
        if is_kept {
            replaced.unwrap();
        } else {
            let words = fails(replaced, Code::Unsupported);
            assert!(words.contains(inner), "{words}");
        }
    }
}

#[test]
fn system_files_of_a_server_that_started_do_not_stay_in_a_root_that_nobody_knows() {
    let node = decided();
    // It makes an empty set, with one undo tablespace more.
    node.server_starts();
    assert!(node.at("sys/undo003").exists());
    assert_eq!(recover(&target(&node.at("data"))).unwrap(), Recovered::CompletedCommit);
    assert_eq!(node.tree(), Node::expected(SHARED));
}
