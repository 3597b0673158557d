//! Whole transfers in one thread, on a clock that costs no time: the sessions, the delta, the
//! hashes and the bytes of all frames are the real ones; network, disk, journal and the rules of the
//! engine are models. All chance comes from one seed, so a failure can be had again.
//!
//! Each run is a joiner that may have an older state of the donor's tree. Attempts are made, and
//! broken, until one is left alone; in the end both have the same tree. On the way:
//!
//! - no page that the joiner has goes over the network, as far as it was compared;
//! - nothing wrong is ever written, and what is said to be durable survives a power failure;
//! - the journal never vouches for what is not there;
//! - neither end keeps more than the window allows of what is described and undecided;
//! - no attempt stands still, and one of which only lanes broke does not fail.
//!
//! To have one run again: `FASTSST_SIM_SEED=7 cargo test --release -p fastsst-mover simulation`;
//! to have more: `FASTSST_SIM_SEEDS=1000000`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a model for tests; its numbers are small"
)]

mod attempt;
mod chance;
mod content;
mod disk;
mod donor;
mod joiner;
mod journal;
mod net;
mod tests;
mod truth;

use std::collections::BTreeMap;

use fastsst_proto::{
    DeclKind, Declaration, Entry, EntryKind, FileHash, FileId, Generation, RelPath, RootHash,
    RootHasher, RootIndex, RootLine, Secret,
};

use attempt::{Fate, Outcome, attempt};
use chance::Chance;
use content::{Content, Page};
use disk::{Dir, Disk};
use net::Net;
use truth::{Mistake, Tallied, Truth};

/// What both ends, the network and the checks share.
#[derive(Debug)]
struct Shared {
    net: Net,
    chance: Chance,
    truth: Truth,
    /// How many chunks may be spoiled under way.
    spoils: u64,
}

/// Attempts that are broken, at most; one more is not.
const BROKEN_ATTEMPTS_MAX: u64 = 4;

/// One run; what was seen in it. Panics when a property does not hold.
fn run(seed: u64, mistake: Mistake) -> Tallied {
    let mut chance = Chance::new(seed);
    let mut tree = new_tree(&mut chance);
    let mut disk = Disk::default();
    if !chance.one_in(8) {
        stale_copy(&tree, &mut disk, &mut chance);
    }
    let net = Net::new(&mut chance);
    let mut shared = Shared { net, truth: Truth::new(mistake), spoils: 0, chance };
    let broken = shared.chance.below(BROKEN_ATTEMPTS_MAX + 1);
    for number in 0.. {
        shared.net = Net::new(&mut shared.chance);
        shared.truth.begin(at_hand(&disk));
        let fate = if number < broken { Fate::MayBreak } else { Fate::LanesBreak };
        let outcome = attempt(&mut tree, &mut disk, (&mut shared, fate));
        disk.restart(&mut shared.chance);
        match outcome {
            Outcome::Done => break,
            Outcome::Broken => assert_eq!(fate, Fate::MayBreak, "nothing was broken"),
        }
        if shared.chance.one_in(8) {
            let seen = disk.meddle(&mut shared.chance);
            seen.into_iter().for_each(|what| shared.truth.saw(what));
        }
        if shared.chance.one_in(2) {
            change(&mut tree, &mut shared.chance);
        }
    }
    let placed = disk.durable_root();
    assert!(placed.iter().map(|(path, content)| (path, *content)).eq(&tree), "the trees differ");
    shared.truth.seen
}

/// What an attempt can build on: what was built last, then the old copy, then what is in place.
fn at_hand(disk: &Disk) -> BTreeMap<u8, Content> {
    let mut found = BTreeMap::new();
    for dir in [Dir::Root, Dir::Old, Dir::New] {
        for path in disk.list(dir) {
            let inode = disk.inode(disk.find((dir, path)).expect("a name that was listed"));
            found.insert(path, inode.clone());
        }
    }
    found.retain(|_, inode| inode.other_names == 0);
    found.into_iter().map(|(path, inode)| (path, inode.content)).collect()
}

/// Most files are small; a few have several chunks.
fn new_tree(chance: &mut Chance) -> BTreeMap<u8, Content> {
    let files = 1 + chance.below(9);
    (0..files).map(|path| (path as u8, Content::random(any_size(chance), chance))).collect()
}

fn any_size(chance: &mut Chance) -> u64 {
    const PAGE: u64 = 1 << 14;
    let pages = match chance.below(8) {
        0 => 0,
        1..4 => 1 + chance.below(8),
        4..6 => 9 + chance.below(55),
        6 => 64 + chance.below(2) * chance.below(65),
        _ => 64 * (1 + chance.below(4)) + chance.below(64),
    };
    // Few lengths of last pages, so that their hashes are known.
    let short = chance.pick(&[0, 0, 1, PAGE - 100]);
    (pages * PAGE).saturating_sub(short)
}

/// Changes some pages; at times none, at times the size.
fn damage(content: &mut Content, chance: &mut Chance) {
    if chance.one_in(4) {
        content.resize(any_size(chance));
    }
    let pages = content.pages().len();
    for _ in 0..chance.below(5) {
        content.put(chance.index(pages), Page::random(chance));
    }
}

/// The donor works on, or it is another one.
fn change(tree: &mut BTreeMap<u8, Content>, chance: &mut Chance) {
    for content in tree.values_mut() {
        if chance.one_in(3) {
            damage(content, chance);
        }
    }
    if chance.one_in(4) {
        tree.insert(20 + chance.below(4) as u8, Content::random(any_size(chance), chance));
    }
}

/// The joiner was a member once: equal, changed, renamed, absent and strange files.
fn stale_copy(tree: &BTreeMap<u8, Content>, disk: &mut Disk, chance: &mut Chance) {
    for (path, content) in tree {
        let mut stale = content.clone();
        let mut name = *path;
        match chance.below(8) {
            0 => continue,
            1 => name += 40,
            2 => stale = Content::random(any_size(chance), chance),
            3 => {}
            _ => damage(&mut stale, chance),
        }
        put(name, &stale, disk);
        if chance.one_in(15) {
            let ino = disk.find((Dir::Root, name)).expect("it was put there");
            disk.link_elsewhere(ino);
        }
    }
    if chance.one_in(3) {
        put(80, &Content::random(any_size(chance), chance), disk);
    }
    for name in disk.list(Dir::Root) {
        disk.sync_file(disk.find((Dir::Root, name)).expect("a name that was listed"));
    }
    disk.sync_names();
}

fn put(name: u8, content: &Content, disk: &mut Disk) {
    let ino = disk.create((Dir::Root, name));
    disk.resize(ino, content.size());
    for (at, page) in content.pages().iter().enumerate() {
        disk.write(ino, at, *page);
    }
}

fn token() -> Secret {
    Secret::from_bytes([1; 16])
}

fn declaration() -> Declaration {
    Declaration {
        kind: DeclKind::Full,
        roots: vec!["datadir".into()],
        properties: Vec::new(),
        bytes_estimate: 0,
        files_estimate: 0,
        lanes: 3,
        capture: "locked".into(),
    }
}

fn path_of(number: u8) -> RelPath {
    RelPath::parse(format!("t{number:03}").as_bytes()).expect("a path")
}

fn number_of(path: &RelPath) -> u8 {
    path.to_string()[1..].parse().expect("one of ours")
}

fn entry(id: FileId, generation: Generation, (path, content): (u8, &Content)) -> Entry {
    Entry {
        id,
        generation,
        root: RootIndex(0),
        path: path_of(path),
        kind: EntryKind::File,
        size: content.size(),
        mode: 0o660,
        uid: 0,
        gid: 0,
        mtime_s: 0,
        mtime_ns: 0,
        sparse: false,
        link_target: None,
    }
}

fn root_hash(files: BTreeMap<u8, (u64, FileHash)>) -> RootHash {
    let mut hasher = RootHasher::new();
    for (number, (size, hash)) in files {
        let path = path_of(number);
        let line = RootLine {
            root: b"datadir",
            path: &path,
            kind: EntryKind::File,
            mode: 0o660,
            size,
            link_target: None,
            hard_link_of: None,
            file_hash: Some(hash),
        };
        hasher.add(&line).expect("ascending");
    }
    hasher.finish()
}
