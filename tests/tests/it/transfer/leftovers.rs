//! What a receiver finds of an earlier attempt, and should not trust.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use fastsst_tests::transfer::{
    Done, Sandbox, Transfer, Victim, assert_same_tree, b3sum, fill, interrupt_when, noise, written,
};

/// A source that takes a second at the rate at which it is cut, of files that are made
/// durable one by one.
const NAME: &str = "large-";
const FILES: u64 = 12;
const FILE_MIB: usize = 2;
const CUT_BYTES: u64 = 8 << 20;

/// Where a journal says what it is: magic, version, name of the root. Unit: bytes.
const JOURNAL_HEADER_BYTES: u64 = 16;

#[test]
fn a_journal_with_a_damaged_header_or_of_another_version_is_dropped_with_a_warning() {
    // Whatever byte of the header it is.
    for offset in (0..JOURNAL_HEADER_BYTES).step_by(3) {
        let (_place, source, target) = interrupted();
        flip(&journal(&target), offset);
        let done = complete(&source, &target);
        assert_warned(&done, "journal");
    }
}

#[test]
fn a_journal_with_a_damaged_record_ends_before_it_with_a_warning() {
    let (_place, source, target) = interrupted();
    let journal = journal(&target);
    flip(&journal, size(&journal) / 2);
    let done = complete(&source, &target);
    assert_warned(&done, "journal");
}

#[test]
fn a_journal_with_a_torn_tail_is_used_up_to_it() {
    for lost in [1, 7, 40] {
        let (_place, source, target) = interrupted();
        let journal = journal(&target);
        let file = File::options().write(true).open(&journal).unwrap();
        file.set_len(size(&journal) - lost).unwrap();
        complete(&source, &target);
    }
}

#[test]
fn a_journal_that_is_empty_foreign_or_no_file_is_no_hindrance() {
    let (_place, source, target) = interrupted();
    File::options().write(true).open(journal(&target)).unwrap().set_len(0).unwrap();
    complete(&source, &target);

    let (place, source, target) = interrupted();
    fs::write(journal(&target), noise(1, 10_000)).unwrap();
    complete(&source, &target);

    let outside = place.path("outside");
    fs::write(&outside, "somebody's").unwrap();
    for make in [symlink_to_outside, directory] {
        let (_place, source, target) = interrupted();
        fs::remove_file(journal(&target)).unwrap();
        make(&outside, &target.join(".fastsst/journal"));
        complete(&source, &target);
        assert_eq!(fs::read(&outside).unwrap(), b"somebody's");
    }
}

#[test]
fn a_journal_of_another_target_vouches_for_nothing() {
    let (_place, _source, foreign) = interrupted_with(1000);
    let (_other, source, target) = interrupted();
    fs::copy(journal(&foreign), journal(&target)).unwrap();
    complete(&source, &target);
}

#[test]
fn a_file_that_changed_after_it_was_journalled_is_compared_again() {
    let (_place, source, target) = interrupted();
    let new = target.join(".fastsst/new");
    for entry in fs::read_dir(&new).unwrap().map(Result::unwrap) {
        let (file, before) = (entry.path(), entry.metadata().unwrap());
        if !before.is_file() {
            continue;
        }
        let times = fs::FileTimes::new().set_modified(before.modified().unwrap());
        let open = File::options().write(true).open(file).unwrap();
        // The same size and the same time of change, as a tool that repairs pages leaves them.
        open.write_all_at(b"changed", 12_345).unwrap();
        open.set_len(before.size()).unwrap();
        open.set_times(times).unwrap();
    }
    complete(&source, &target);
}

#[test]
fn a_staging_of_a_foreign_tree_gives_nothing_away_and_is_no_hindrance() {
    let (_place, _source, foreign) = interrupted_with(1000);
    let (place, source, target) = interrupted();
    fs::remove_dir_all(target.join(".fastsst")).unwrap();
    fs::rename(foreign.join(".fastsst"), target.join(".fastsst")).unwrap();
    // Kinds that the source does not have at these names, and links that lead out of the target.
    let (new, outside) = (target.join(".fastsst/new"), place.path("outside"));
    fill(&outside, 7, 1);
    let before = b3sum(&outside);
    for number in 0..FILES {
        // Which of them were there is chance.
        drop(fs::remove_file(new.join(format!("large-{number}"))));
    }
    drop(fs::remove_dir_all(new.join("inner")));
    symlink(&outside, new.join("large-0")).unwrap();
    fs::hard_link(&outside, new.join("large-1")).unwrap();
    fs::create_dir_all(new.join("large-2/inner")).unwrap();
    fs::write(new.join("inner"), "a directory in the source").unwrap();
    complete(&source, &target);
    assert_eq!(b3sum(&outside), before, "a file outside of the target changed");
}

#[test]
fn a_staging_that_lost_files_is_completed() {
    for lost in [".fastsst/new", ".fastsst/old", ".fastsst/journal", ".fastsst/new/large-0"] {
        let (_place, source, target) = interrupted();
        let lost = target.join(lost);
        match fs::symlink_metadata(&lost) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&lost).unwrap(),
            Ok(_) => fs::remove_file(&lost).unwrap(),
            // Nothing of this name was there to lose.
            Err(_missing) => {}
        }
        complete(&source, &target);
    }
}

#[test]
fn a_staging_with_old_and_new_files_of_one_name_is_completed() {
    let (_place, source, target) = interrupted();
    // What a server made that was started on the empty root in between.
    fill(&target.join("large-0"), 500, 1);
    fs::create_dir(target.join("large-1")).unwrap();
    fill(&target.join("ibdata1"), 501, 1);
    let done = Transfer::new(&source, &target).receive(["--replace"]).run();
    assert_same_tree(&source, &target, &done);
    assert!(!target.join(".fastsst").exists(), "nothing of ours is left");
}

fn symlink_to_outside(outside: &Path, at: &Path) {
    symlink(outside, at).unwrap();
}

fn directory(_: &Path, at: &Path) {
    fs::create_dir(at).unwrap();
}

/// A target whose transfer was cut in the middle, with a journal that names some files.
fn interrupted() -> (Sandbox, PathBuf, PathBuf) {
    interrupted_with(0)
}

fn interrupted_with(seed: u64) -> (Sandbox, PathBuf, PathBuf) {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    for number in 0..FILES {
        fill(&source.join(format!("{NAME}{number}")), seed + number, FILE_MIB);
    }
    fs::create_dir(source.join("inner")).unwrap();
    fill(&source.join("inner/large"), seed + FILES, FILE_MIB);
    let _cut = interrupt_when(&source, &target, Victim::Receiver, || {
        written(&target) >= CUT_BYTES && names_a_file(&journal(&target))
    });
    (place, source, target)
}

fn journal(target: &Path) -> PathBuf {
    target.join(".fastsst/journal")
}

fn names_a_file(journal: &Path) -> bool {
    let content = fs::read(journal).unwrap_or_default();
    content.windows(NAME.len()).any(|found| found == NAME.as_bytes())
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).size()
}

/// Flips one bit.
fn flip(path: &Path, offset: u64) {
    assert!(offset < size(path), "{}: has {} bytes", path.display(), size(path));
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

/// The next attempt, which nobody told anything: the trees are equal, nothing of ours is left.
fn complete(source: &Path, target: &Path) -> Done {
    let done = Transfer::new(source, target).run();
    assert_same_tree(source, target, &done);
    assert!(!target.join(".fastsst").exists(), "nothing of ours is left");
    done
}

fn assert_warned(done: &Done, word: &str) {
    let log = &done.receiver.stderr;
    let warned = log.lines().any(|line| line.starts_with(" WARN") && line.contains(word));
    assert!(warned, "no warning of the {word} in\n{}", done.receiver);
}
