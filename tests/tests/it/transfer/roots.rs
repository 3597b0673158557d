//! Transfers of several roots between nodes that lay them out differently.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fastsst_mover::receive::{DeclaredNames, JoinerPolicy, OwnFile, OwnPlace};
use fastsst_mover::staging::Keep;
use fastsst_mover::tree::FileKind;
use fastsst_mover::walk::{AllFiles, Class, Filter, SourceRoot};
use fastsst_mover::{
    Cancel, Code, Error, NoFreeze, Options, Owner, Place, Progress, ReceiveConfig, Received,
    Receiver, Result, SendConfig, Summary, Target, TargetPlace, estimate, send,
};
use fastsst_proto::frame::Declaration;
use fastsst_proto::path::RelPath;
use fastsst_tests::transfer::{Listing, Sandbox, change_pages, fill, noise, written};
use fastsst_tests::wait::until;

/// The donor's roots, in this order. Two share a directory; one lies in another.
const ROOTS: [&str; 5] = ["datadir", "binlogs", "innodb-log", "undo", "tables"];

#[test]
fn every_root_comes_to_its_place_and_what_was_there_goes() {
    let nodes = Nodes::new();
    let (sent, received) = nodes.transfer(Options::default());
    let summary = sent.unwrap();
    received.unwrap();
    nodes.assert_equal();
    assert_eq!(summary.files, 9);

    // A second one sends what has changed, wherever it is.
    for path in ["data/db/large.ibd", "log/ib_logfile0"] {
        change_pages(&nodes.donor(path), 9, 3);
    }
    fs::rename(nodes.donor("ext/db/t.ibd"), nodes.donor("ext/db/renamed.ibd")).unwrap();
    let (sent, received) = nodes.transfer(Options::default());
    let (ours, theirs) = (sent.unwrap(), received.unwrap());
    nodes.assert_equal();
    assert!(ours.bytes - ours.kept_bytes < 1 << 20, "{} of {}", ours.kept_bytes, ours.bytes);
    assert_eq!(ours.kept_bytes, theirs.kept_bytes);
}

#[test]
fn what_an_interrupted_transfer_has_left_in_any_place_is_used() {
    let nodes = Nodes::new();
    let slow = Options { rlimit: Some(8 << 20), ..Options::default() };
    let cancel = Cancel::new();
    let watched = [nodes.joiner("data"), nodes.joiner("far"), nodes.joiner("other")];
    let stop = cancel.clone();
    let watching = std::thread::spawn(move || {
        while watched.iter().map(|place| written(place)).sum::<u64>() < 10 << 20 {
            stop.sleep(Duration::from_millis(5)).unwrap();
        }
        stop.cancel(Error::new(Code::Cancelled, "the test"));
    });
    let (sent, received) = nodes.transfer_until(slow, &cancel);
    watching.join().unwrap();
    sent.unwrap_err();
    received.unwrap_err();
    for place in ["data", "far", "other"] {
        assert!(nodes.joiner(place).join(".fastsst").exists(), "{place}");
    }

    let (sent, received) = nodes.transfer(Options::default());
    received.unwrap();
    nodes.assert_equal();
    let kept = sent.unwrap().kept_bytes;
    assert!(kept >= 4 << 20, "{kept}");
}

#[test]
fn a_place_that_no_longer_takes_part_is_cleaned() {
    let nodes = Nodes::new();
    let cancel = Cancel::new();
    let slow = Options { rlimit: Some(8 << 20), ..Options::default() };
    let (watched, stop) = (nodes.joiner("far"), cancel.clone());
    let watching = std::thread::spawn(move || {
        while !watched.join(".fastsst/new").exists() {
            stop.sleep(Duration::from_millis(5)).unwrap();
        }
        stop.cancel(Error::new(Code::Cancelled, "the test"));
    });
    let (sent, _) = nodes.transfer_until(slow, &cancel);
    watching.join().unwrap();
    sent.unwrap_err();
    assert!(nodes.joiner("far/.fastsst").exists());
    fs::create_dir(nodes.joiner("near")).unwrap();
    let layout = Layout { tables: Some("near"), ..Layout::of(&nodes) };
    let (sent, received) = nodes.run(layout, Options::default(), &Cancel::new());
    sent.unwrap();
    received.unwrap();
    assert_eq!(fs::read_dir(nodes.joiner("far")).unwrap().count(), 0);
    assert!(nodes.joiner("near/db/t.ibd").exists());
}

#[test]
fn a_file_that_another_server_writes_to_is_not_moved_away() {
    let nodes = Nodes::new();
    nodes.transfer(Options::default()).1.unwrap();
    let in_other = fs::read_dir(nodes.joiner("other")).unwrap().map(|entry| entry.unwrap().path());
    let is_log = |path: &PathBuf| path.to_string_lossy().contains("binlog.");
    let used = in_other.into_iter().find(is_log).expect("a binary log");
    let before = Listing::of(&nodes.joiner("other"));
    let writer = File::options().append(true).open(&used).unwrap();
    let mut server = Command::new("sleep").arg("600").stdout(writer).spawn().unwrap();
    let (sent, received) = nodes.transfer(Options::default());
    server.kill().unwrap();
    server.wait().unwrap();
    sent.unwrap_err();
    let error = received.unwrap_err();
    assert_eq!(error.code(), Code::SourceInUse, "{error}");
    let name = used.file_name().unwrap().to_str().unwrap();
    let process = format!("process {}", server.id());
    assert!(error.words().contains(name) && error.words().contains(&process), "{error}");
    Listing::of(&nodes.joiner("other")).assert_eq(&before, "nothing was touched");

    nodes.transfer(Options::default()).1.unwrap();
    nodes.assert_equal();
}

#[test]
fn roots_that_would_become_the_same_file_are_refused_with_both_names() {
    let nodes = Nodes::new();
    fs::write(nodes.donor("ext/undo001"), "another").unwrap();
    let layout = Layout { tables: None, ..Layout::of(&nodes) };
    let (sent, received) = nodes.run(layout, Options::default(), &Cancel::new());
    assert_eq!(sent.unwrap_err().code(), Code::PeerStopped);
    let error = received.unwrap_err();
    assert_eq!(error.code(), Code::Protocol);
    let words = error.words();
    assert!(
        words.contains("undo001") && words.contains("root undo") && words.contains("root tables"),
        "{words}"
    );
}

#[test]
fn a_file_of_the_joiners_own_does_not_replace_one_of_the_donor() {
    let nodes = Nodes::new();
    let layout = Layout { own: "binlog.000001", ..Layout::of(&nodes) };
    let (sent, received) = nodes.run(layout, Options::default(), &Cancel::new());
    sent.unwrap_err();
    assert_eq!(received.unwrap_err().code(), Code::UnsafePath);
    assert!(!nodes.joiner("data/db").exists(), "nothing new is in its place");
}

#[test]
fn an_estimate_leaves_every_place_as_it_is() {
    let nodes = Nodes::new();
    let places = ["data", "other", "far"];
    let before = places.map(|place| Listing::of(&nodes.joiner(place)));
    let receiver = nodes.receiver();
    let ticket = receiver.ticket("127.0.0.1").unwrap();
    let (mut policy, cancel) = (Layout::of(&nodes), Cancel::new());
    let stop = cancel.clone();
    let receiving = std::thread::spawn(move || {
        receiver.run(&mut policy, &Arc::new(Progress::default()), &stop)
    });
    let config = nodes.send_config(ticket, Options::default());
    let found = estimate(config, &Arc::new(Progress::default()), &Cancel::new()).unwrap();
    assert!(found.bytes > 24 << 20);
    cancel.cancel(Error::new(Code::Cancelled, "enough"));
    receiving.join().unwrap().unwrap_err();
    for (place, before) in places.iter().zip(before) {
        before.assert_eq(&Listing::of(&nodes.joiner(place)), place);
    }
}

/// A donor and a joiner.
struct Nodes {
    sandbox: Sandbox,
}

impl Nodes {
    fn new() -> Self {
        let nodes = Self { sandbox: Sandbox::new() };
        for path in ["data/db", "data/undo/inner", "log", "ext/db"] {
            fs::create_dir_all(nodes.donor(path)).unwrap();
        }
        fill(&nodes.donor("data/db/large.ibd"), 1, 8);
        fill(&nodes.donor("log/ib_logfile0"), 2, 8);
        fill(&nodes.donor("ext/db/t.ibd"), 3, 8);
        for path in ["data/ibdata1", "data/db/small.ibd", "data/undo/inner/undo001"] {
            fs::write(nodes.donor(path), noise(4, 70_000)).unwrap();
        }
        for path in ["data/binlog.000001", "data/binlog.000002"] {
            fs::write(nodes.donor(path), path).unwrap();
        }
        fs::hard_link(nodes.donor("data/db/small.ibd"), nodes.donor("data/db/same.ibd")).unwrap();
        // A file with a name in two roots is two files.
        fs::hard_link(nodes.donor("data/db/small.ibd"), nodes.donor("ext/db/same.ibd")).unwrap();
        for path in ["data/old_db", "other", "far"] {
            fs::create_dir_all(nodes.joiner(path)).unwrap();
        }
        for path in ["data/ib_logfile0", "data/old_db/t", "other/binlog.000009", "far/old"] {
            fs::write(nodes.joiner(path), "old").unwrap();
        }
        fs::write(nodes.joiner("data/grastate.dat"), "kept").unwrap();
        fs::write(nodes.joiner("other/grastate.dat"), "kept").unwrap();
        nodes
    }

    fn donor(&self, path: &str) -> PathBuf {
        self.sandbox.path("donor").join(path)
    }

    fn joiner(&self, path: &str) -> PathBuf {
        self.sandbox.path("joiner").join(path)
    }

    fn transfer(&self, options: Options) -> (Result<Summary>, Result<Summary>) {
        self.transfer_until(options, &Cancel::new())
    }

    fn transfer_until(
        &self,
        options: Options,
        cancel: &Cancel,
    ) -> (Result<Summary>, Result<Summary>) {
        self.run(Layout::of(self), options, cancel)
    }

    fn run(
        &self,
        mut layout: Layout,
        options: Options,
        cancel: &Cancel,
    ) -> (Result<Summary>, Result<Summary>) {
        let receiver = self.receiver();
        let ticket = receiver.ticket("127.0.0.1").unwrap();
        let receiving = std::thread::spawn(move || {
            receiver.run(&mut layout, &Arc::new(Progress::default()), &Cancel::new())
        });
        let config = self.send_config(ticket, options);
        let sent = send(config, &mut NoFreeze, &Arc::new(Progress::default()), cancel);
        let received = receiving.join().unwrap().map(|received| match received {
            Received::Full { summary, .. } => *summary,
            Received::Bypass { .. } => panic!("nothing was sent"),
        });
        (sent.map(|sent| sent.summary), received)
    }

    fn send_config(&self, ticket: fastsst_proto::ticket::Ticket, options: Options) -> SendConfig {
        let at = ["data", "data", "log", "data/undo/inner", "ext"];
        let filters: [Arc<dyn Filter>; 5] = [
            Arc::new(Only(|path| !path.starts_with("binlog.") && !path.starts_with("undo/inner"))),
            Arc::new(Only(|path| path.starts_with("binlog."))),
            Arc::new(AllFiles),
            Arc::new(AllFiles),
            Arc::new(AllFiles),
        ];
        let roots = ROOTS.iter().zip(at).zip(filters).map(|((name, path), filter)| SourceRoot {
            name: (*name).to_owned(),
            path: self.donor(path),
            filter,
        });
        SendConfig {
            roots: roots.collect(),
            ticket,
            options,
            properties: Vec::new(),
            capture: "test".into(),
            software: "test".into(),
        }
    }

    fn receiver(&self) -> Receiver {
        let place = |name: &str| Place {
            name: name.to_owned(),
            path: self.joiner(name),
            keep: Arc::new(KeepState),
        };
        // The threads of a reception that has failed may live a little longer, and with them its locks.
        until("the places are free", Duration::from_secs(20), || {
            let bound = Receiver::bind(ReceiveConfig {
                places: vec![place("data"), place("other")],
                listen: "127.0.0.1:0".parse().unwrap(),
                options: Options::default(),
                owner: Owner::Process,
                software: "test".into(),
            });
            match bound {
                Err(error) if error.code() == Code::Busy => None,
                bound => Some(bound.unwrap()),
            }
        })
    }

    /// The joiner has what the donor has, in its own layout, and what it kept and added.
    fn assert_equal(&self) {
        let mut expected = BTreeMap::new();
        let goes = [
            ("data", "data"),
            ("log", "data/redo/here"),
            ("data/undo/inner", "other"),
            ("ext", "far"),
        ];
        for (from, to) in goes {
            for (path, content) in files(&self.donor(from)) {
                let path = match path.as_str() {
                    "binlog.000001" | "binlog.000002" => format!("other/{path}"),
                    "undo/inner/undo001" => continue,
                    _ => format!("{to}/{path}"),
                };
                expected.insert(path, content);
            }
        }
        let own = "binlog.000001\nbinlog.000002\n";
        let added = [
            ("data/grastate.dat", "kept"),
            ("other/grastate.dat", "kept"),
            ("other/binlog.index", own),
            ("data/made/for/it", "own"),
        ];
        expected.extend(added.map(|(path, content)| (path.to_owned(), content.into())));
        let mut found = files(&self.sandbox.path("joiner"));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        found.retain(|path, content| expected[path] != *content);
        assert_eq!(found.keys().collect::<Vec<_>>(), Vec::<&String>::new());
    }
}

/// Every file below a directory, by its path there.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

/// Where the joiner wants the roots.
#[derive(Debug, Clone)]
struct Layout {
    joiner: PathBuf,
    /// A directory that only this says, or the one where the undo tablespaces go.
    tables: Option<&'static str>,
    /// Name of a file of its own.
    own: &'static str,
}

impl Layout {
    fn of(nodes: &Nodes) -> Self {
        Self { joiner: nodes.joiner(""), tables: Some("far"), own: "binlog.index" }
    }
}

impl JoinerPolicy for Layout {
    fn accept(&mut self, declaration: &Declaration) -> Result<Vec<Target>> {
        assert_eq!(declaration.roots, ROOTS);
        for root in ROOTS {
            let size =
                declaration.properties.iter().find(|(key, _)| *key == format!("bytes:{root}"));
            assert!(size.unwrap().1.parse::<u64>().unwrap() > 0, "{root}");
        }
        let prefix = RelPath::parse(b"redo/here").unwrap();
        let tables = match self.tables {
            None => TargetPlace::Known(1),
            Some(name) => TargetPlace::New(Place {
                name: name.to_owned(),
                path: self.joiner.join(name),
                keep: Arc::new(KeepState),
            }),
        };
        Ok(vec![
            Target::known(0),
            Target::known(1),
            Target { place: TargetPlace::Known(0), prefix: Some(prefix) },
            Target::known(1),
            Target { place: tables, prefix: None },
        ])
    }

    fn own_files(&mut self, names: &DeclaredNames) -> Result<Vec<OwnFile>> {
        let path = |path: &str| RelPath::parse(path.as_bytes()).unwrap();
        let binlogs = names.files().iter().filter(|(root, _)| *root == 1);
        let list: String = binlogs.map(|(_, path)| format!("{path}\n")).collect();
        Ok(vec![
            OwnFile { at: OwnPlace::Root(1), path: path(self.own), content: list.into() },
            OwnFile { at: OwnPlace::Place(0), path: path("made/for/it"), content: b"own".to_vec() },
        ])
    }
}

#[derive(Debug)]
struct KeepState;

impl Keep for KeepState {
    fn keep(&self, name: &[u8]) -> bool {
        name == b"grastate.dat"
    }
}

/// Sends what this says of, and every directory on the way.
#[derive(Debug)]
struct Only(fn(&str) -> bool);

impl Filter for Only {
    fn class(&self, path: &RelPath, kind: FileKind) -> Class {
        let wanted = (self.0)(&path.to_string());
        match (wanted, kind) {
            (true, _) => Class::Send,
            (false, _) => Class::Skip,
        }
    }
}
