//! A target that holds an older copy: only what differs is sent.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use fastsst_tests::transfer::{
    Done, Listing, PAGE, Receive, Sandbox, Send, TRANSFER, Transfer, assert_same_tree, b3sum,
    change_pages, fill, noise,
};
use fastsst_tests::wait::until;

use super::wire_bytes;

/// Files of the tree, and MiB of each.
const FILES: u64 = 4;
const FILE_MIB: usize = 16;
const TREE_BYTES: u64 = FILES * ((FILE_MIB as u64) << 20);

#[test]
fn of_an_identical_copy_nothing_but_hashes_is_exchanged() {
    let (_place, source, target) = two_copies();
    let done = send(&source, &target);
    assert_wire_at_most(&done, TREE_BYTES / 1000);
}

#[test]
fn of_a_copy_with_one_page_of_a_hundred_changed_only_these_pages_are_sent() {
    let (_place, source, target) = two_copies();
    let pages = TREE_BYTES / PAGE / 100 / FILES;
    for number in 0..FILES {
        change_pages(&source.join(number.to_string()), 50 + number, pages);
    }
    let done = send(&source, &target);
    let changed = FILES * pages * PAGE;
    assert_wire_at_most(&done, changed * 115 / 100 + TREE_BYTES / 1000);
}

#[test]
fn of_a_file_that_has_grown_or_shrunk_only_what_differs_is_sent() {
    let (_place, source, target) = two_copies();
    let added = noise(60, (1 << 20) + 7);
    let grown = File::options().write(true).open(source.join("0")).unwrap();
    grown.write_all_at(&added, (FILE_MIB as u64) << 20).unwrap();
    let shrunk = File::options().write(true).open(source.join("1")).unwrap();
    shrunk.set_len((5 << 20) + 11).unwrap();
    let done = send(&source, &target);
    // The last chunk of a file, and its last page, are shorter than others.
    assert_wire_at_most(&done, added.len() as u64 + (2 << 20));
}

#[test]
fn pages_that_became_zeros_or_holes_arrive_as_such() {
    let (_place, source, target) = two_copies();
    let file = File::options().write(true).open(source.join("0")).unwrap();
    file.write_all_at(&vec![0; 3 << 20], (2 << 20) + 512).unwrap();
    let holes = File::create(source.join("1")).unwrap();
    holes.set_len((FILE_MIB as u64) << 20).unwrap();
    let done = send(&source, &target);
    assert_wire_at_most(&done, TREE_BYTES / 100);
}

#[test]
fn a_renamed_large_file_is_found_again_and_not_sent() {
    let (_place, source, target) = two_copies();
    fs::create_dir(source.join("elsewhere")).unwrap();
    fs::rename(source.join("2"), source.join("elsewhere/renamed")).unwrap();
    let done = send(&source, &target);
    assert_wire_at_most(&done, ((FILE_MIB as u64) << 20) / 100);
}

#[test]
fn what_vanished_at_the_source_is_gone_afterwards() {
    let (_place, source, target) = two_copies();
    fs::create_dir_all(target.join("dropped/inner")).unwrap();
    fill(&target.join("dropped/inner/table"), 70, 2);
    symlink("0", target.join("dropped/link")).unwrap();
    fs::remove_file(source.join("3")).unwrap();
    // A directory where a file was, and the reverse.
    fs::create_dir(source.join("3")).unwrap();
    fs::write(source.join("dropped"), "a file now").unwrap();
    let done = send(&source, &target);
    assert!(target.join("dropped").is_file() && target.join("3").is_dir());
    assert_wire_at_most(&done, TREE_BYTES / 100);
}

#[test]
fn a_file_with_a_second_name_outside_of_the_target_keeps_its_content_there() {
    let (place, source, target) = two_copies();
    let outside = place.path("outside");
    fs::hard_link(target.join("0"), &outside).unwrap();
    let before = b3sum(&outside);
    change_pages(&source.join("0"), 80, 10);
    let _done = send(&source, &target);
    assert_eq!(b3sum(&outside), before, "the other name's content changed");
    let (other, new) = (fs::metadata(&outside).unwrap(), fs::metadata(target.join("0")).unwrap());
    assert_ne!(other.ino(), new.ino(), "two files now");
}

#[test]
fn a_file_behind_a_symbolic_link_of_the_old_copy_is_not_touched() {
    let (place, source, target) = two_copies();
    let outside = place.dir("outside");
    fs::write(outside.join("table"), noise(90, 2 << 20)).unwrap();
    let before = b3sum(&outside.join("table"));
    symlink(&outside, target.join("database")).unwrap();
    symlink(outside.join("table"), target.join("link")).unwrap();
    fs::create_dir(source.join("database")).unwrap();
    fill(&source.join("database/table"), 91, 2);
    fill(&source.join("link"), 92, 2);
    let _done = send(&source, &target);
    assert_eq!(b3sum(&outside.join("table")), before, "a file outside of the target changed");
}

#[test]
fn names_of_one_file_become_files_of_their_own_and_the_reverse() {
    let (_place, source, target) = two_copies();
    fs::hard_link(target.join("0"), target.join("second")).unwrap();
    fill(&source.join("second"), 95, FILE_MIB);
    fs::remove_file(source.join("1")).unwrap();
    fs::hard_link(source.join("2"), source.join("1")).unwrap();
    let _done = send(&source, &target);
}

#[test]
fn small_files_that_are_the_same_are_not_sent_again() {
    const SMALL_FILES: u64 = 2000;
    const SMALL_BYTES: usize = 10_000;
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    for number in 0..SMALL_FILES {
        let content = noise(number, SMALL_BYTES);
        fs::write(target.join(number.to_string()), &content).unwrap();
        fs::write(source.join(number.to_string()), &content).unwrap();
    }
    for number in 0..SMALL_FILES / 100 {
        fs::write(source.join(number.to_string()), noise(1000 * number, SMALL_BYTES)).unwrap();
    }
    let done = send(&source, &target);
    // One in a hundred was changed; of each its entry, a question and an answer.
    let changed = SMALL_FILES / 100 * SMALL_BYTES as u64;
    assert_wire_at_most(&done, changed + SMALL_FILES * 128);
}

#[test]
fn a_source_that_changes_while_it_is_compared_arrives_as_it_is_in_the_end() {
    let (place, source, target) = two_copies();
    for number in 0..500 {
        for tree in [&source, &target] {
            fs::write(tree.join(format!("small-{number}")), noise(number, 2000)).unwrap();
        }
    }
    let receiving = Receive::into(&target).args(["--replace"]).start();
    let sending = Send::from(&source, &receiving.ticket).slowly(32).start();
    until("the comparison is under way", TRANSFER, || {
        target.join(".fastsst/new").join("0").exists().then_some(())
    });
    for number in 0..FILES {
        change_pages(&source.join(number.to_string()), 50 + number, 3);
    }
    for number in (0..500).step_by(3) {
        fs::write(source.join(format!("small-{number}")), noise(7000 + number, 1900)).unwrap();
    }
    File::options().write(true).open(source.join("1")).unwrap().set_len(3 << 20).unwrap();
    sending.wait(TRANSFER).assert_success();
    receiving.wait(TRANSFER).assert_success();
    Listing::of(&source).assert_eq(&Listing::of(&target), "something else arrived");
    drop(place);
}

fn two_copies() -> (Sandbox, PathBuf, PathBuf) {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    for number in 0..FILES {
        let content = noise(number, FILE_MIB << 20);
        fs::write(source.join(number.to_string()), &content).unwrap();
        fs::write(target.join(number.to_string()), &content).unwrap();
    }
    (place, source, target)
}

/// A transfer over what is there; the trees are equal afterwards, and nothing of ours is left.
fn send(source: &Path, target: &Path) -> Done {
    let done =
        Transfer::new(source, target).receive(["--replace"]).send(["--compress", "none"]).run();
    assert_same_tree(source, target, &done);
    assert!(!target.join(".fastsst").exists(), "nothing of ours is left");
    done
}

fn assert_wire_at_most(done: &Done, bytes: u64) {
    let wire = wire_bytes(done);
    assert!(wire <= bytes, "{wire} bytes on the wire, at most {bytes}\n{}", done.sender);
}
