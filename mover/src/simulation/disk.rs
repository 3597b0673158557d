//! A disk with a cache: what is written is there at once, and survives a power failure once it is
//! synced. Before that it may survive or not, each page for itself, and a page may be torn.
//!
//! Names change in order, as file systems with a journal have it. The number of the operation at
//! which the machine stops is chosen beforehand; what is called later does nothing.

use std::collections::BTreeMap;

use super::chance::Chance;
use super::content::{Content, Page};
use super::truth::Seen;

pub(super) type Ino = u64;

/// Where a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dir {
    Root,
    Old,
    New,
}

/// A directory and a name in it.
pub(super) type Place = (Dir, u8);

type Names = BTreeMap<Place, Ino>;

/// How the joiner stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The process; what it wrote is in the kernel.
    Killed,
    /// The machine.
    PowerLoss,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    pub(super) content: Content,
    pub(super) ctime: u64,
    /// Names elsewhere that are not ours to change.
    pub(super) other_names: u32,
}

#[derive(Debug, Clone, Copy)]
enum Rename {
    Put(Place, Ino),
    Shift(Place, Place),
    Remove(Place),
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    cached: BTreeMap<Ino, Inode>,
    durable: BTreeMap<Ino, Inode>,
    names: Names,
    durable_names: Names,
    /// Changes of names that are not durable.
    pending: Vec<Rename>,
    journal: Vec<u8>,
    durable_journal: Vec<u8>,
    ticks: u64,
    next_ino: Ino,
    /// Operations until the joiner stops.
    left: Option<(u64, Stop)>,
    stopped: Option<Stop>,
}

impl Disk {
    /// The joiner stops at the `operations`th operation from now.
    pub(super) fn stop_after(&mut self, operations: u64, stop: Stop) {
        self.left = Some((operations, stop));
    }

    pub(super) fn stop(&mut self, stop: Stop) {
        self.stopped = Some(stop);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// The machine, or only the process, is started again.
    pub(super) fn restart(&mut self, chance: &mut Chance) {
        self.left = None;
        if self.stopped.take() == Some(Stop::PowerLoss) {
            self.lose_power(chance);
        }
    }

    pub(super) fn find(&self, place: Place) -> Option<Ino> {
        self.names.get(&place).copied()
    }

    pub(super) fn list(&self, dir: Dir) -> Vec<u8> {
        self.names.keys().filter(|(at, _)| *at == dir).map(|(_, name)| *name).collect()
    }

    pub(super) fn inode(&self, ino: Ino) -> &Inode {
        &self.cached[&ino]
    }

    /// What would be there after a power failure, whatever is lost.
    pub(super) fn durable(&self, ino: Ino) -> Option<&Content> {
        self.durable.get(&ino).map(|inode| &inode.content)
    }

    pub(super) fn durable_root(&self) -> BTreeMap<u8, &Content> {
        let names = self.durable_names.iter().filter(|((dir, _), _)| *dir == Dir::Root);
        names.map(|((_, name), ino)| (*name, &self.durable[ino].content)).collect()
    }

    pub(super) fn journal(&self) -> &[u8] {
        &self.journal
    }

    pub(super) fn create(&mut self, place: Place) -> Ino {
        self.next_ino += 1;
        let ino = self.next_ino;
        self.cached.insert(ino, Inode::default());
        self.change(Rename::Put(place, ino));
        ino
    }

    pub(super) fn shift(&mut self, from: Place, to: Place) {
        let ino = self.names[&from];
        self.change(Rename::Shift(from, to));
        self.touch(ino);
    }

    pub(super) fn remove(&mut self, place: Place) {
        self.change(Rename::Remove(place));
    }

    pub(super) fn write(&mut self, ino: Ino, at: usize, page: Page) {
        if self.step() {
            self.cached.get_mut(&ino).expect("an open file").content.put(at, page);
            self.touch(ino);
        }
    }

    pub(super) fn resize(&mut self, ino: Ino, size: u64) {
        if self.inode(ino).content.size() != size && self.step() {
            self.cached.get_mut(&ino).expect("an open file").content.resize(size);
            self.touch(ino);
        }
    }

    pub(super) fn link_elsewhere(&mut self, ino: Ino) {
        self.cached.get_mut(&ino).expect("an open file").other_names += 1;
    }

    pub(super) fn sync_file(&mut self, ino: Ino) {
        if self.step() {
            self.durable.insert(ino, self.cached[&ino].clone());
        }
    }

    pub(super) fn sync_names(&mut self) {
        if self.step() {
            self.pending.clear();
            self.durable_names = self.names.clone();
            for ino in self.names.values() {
                // A name without its inode cannot be.
                self.durable.entry(*ino).or_default();
            }
        }
    }

    pub(super) fn append_to_journal(&mut self, bytes: &[u8]) {
        if self.step() {
            self.journal.extend(bytes);
        }
    }

    /// The journal is replaced by a new one; that is durable with [`Disk::sync_journal`].
    pub(super) fn begin_journal(&mut self, header: &[u8]) {
        if self.step() {
            self.journal = header.to_vec();
        }
    }

    pub(super) fn sync_journal(&mut self) {
        if self.step() {
            self.durable_journal.clone_from(&self.journal);
        }
    }

    /// Somebody removes a file of the staging, or changes a bit of the journal.
    pub(super) fn meddle(&mut self, chance: &mut Chance) -> Option<Seen> {
        if chance.one_in(2) {
            let staged = self.names.keys().filter(|(dir, _)| *dir != Dir::Root);
            let staged: Vec<Place> = staged.copied().collect();
            let lost = staged.get(chance.index(staged.len()))?;
            self.names.remove(lost);
            self.durable_names = self.names.clone();
            self.pending.clear();
            return Some(Seen::FileLost);
        }
        let at = chance.index(self.journal.len());
        *self.journal.get_mut(at)? ^= 1 << chance.below(8);
        self.durable_journal.clone_from(&self.journal);
        Some(Seen::JournalDamaged)
    }

    /// The new tree takes its place. One operation: how it gets there is tested with the commit.
    pub(super) fn commit(&mut self) {
        if self.step() {
            self.names.retain(|(dir, _), _| *dir == Dir::New);
            let placed = self.names.iter().map(|((_, name), ino)| ((Dir::Root, *name), *ino));
            self.names = placed.collect();
            self.durable_names = self.names.clone();
            self.pending.clear();
            self.journal.clear();
            self.durable_journal.clear();
        }
    }

    fn step(&mut self) -> bool {
        if let Some((left, stop)) = &mut self.left {
            if *left == 0 {
                self.stopped = Some(*stop);
                self.left = None;
            } else {
                *left -= 1;
            }
        }
        self.stopped.is_none()
    }

    fn touch(&mut self, ino: Ino) {
        if self.stopped.is_none() {
            self.ticks += 1;
            self.cached.get_mut(&ino).expect("an open file").ctime = self.ticks;
        }
    }

    fn change(&mut self, change: Rename) {
        if self.step() {
            apply(&mut self.names, change);
            self.pending.push(change);
        }
    }

    fn lose_power(&mut self, chance: &mut Chance) {
        let kept = chance.index(self.pending.len() + 1);
        for change in self.pending.drain(..).take(kept) {
            apply(&mut self.durable_names, change);
        }
        self.names = self.durable_names.clone();
        for ino in self.names.values() {
            let cached = &self.cached[ino];
            let durable = self.durable.entry(*ino).or_default();
            lose(durable, cached, chance);
        }
        self.cached = self.durable.clone();
        self.cached.retain(|ino, _| self.names.values().any(|named| named == ino));
        self.lose_journal(chance);
    }

    fn lose_journal(&mut self, chance: &mut Chance) {
        if self.journal.starts_with(&self.durable_journal) {
            let unsynced = self.journal.len() - self.durable_journal.len();
            let kept = self.durable_journal.len() + chance.index(unsynced + 1);
            self.journal.truncate(kept);
            if kept > self.durable_journal.len() && chance.one_in(3) {
                let torn =
                    self.durable_journal.len() + chance.index(kept - self.durable_journal.len());
                self.journal[torn] ^= 1 << chance.below(8);
            }
        } else if chance.one_in(2) {
            self.journal.clone_from(&self.durable_journal);
        }
        self.durable_journal.clone_from(&self.journal);
    }
}

fn apply(names: &mut Names, change: Rename) {
    match change {
        Rename::Put(place, ino) => drop(names.insert(place, ino)),
        Rename::Shift(from, to) => {
            let ino = names.remove(&from).expect("a name that was there");
            names.insert(to, ino);
        }
        Rename::Remove(place) => drop(names.remove(&place)),
    }
}

/// What is left of a file: each part of it may be as it was, as it should be, or in between.
fn lose(durable: &mut Inode, cached: &Inode, chance: &mut Chance) {
    let keeps_size = chance.one_in(2);
    let size = if keeps_size { durable.content.size() } else { cached.content.size() };
    durable.content.resize(size);
    for (at, page) in cached.content.pages().iter().enumerate() {
        let is_same = durable.content.pages().get(at) == Some(page);
        match chance.below(5) {
            _ if is_same => {}
            0 | 1 => {}
            2 => durable.content.put(at, Page::torn(chance)),
            _ => durable.content.put(at, *page),
        }
    }
    if chance.one_in(2) {
        durable.ctime = cached.ctime;
    }
    durable.other_names = cached.other_names;
}
