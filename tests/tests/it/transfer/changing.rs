//! A source that changes while it is sent: the transfer fails cleanly, or one version arrives.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fastsst_tests::transfer::{
    Ended, Listing, Receive, Sandbox, Send, TRANSFER, noise, versions_in, wait_under_way,
    write_version,
};

use super::{SLOW_MIB_PER_SECOND, assert_empty};

/// MiB of the file that changes: three seconds at the slow rate.
const FILE_MIB: usize = 24;

/// MiB of one that changes all the time: each pass over it takes half a second.
const BUSY_MIB: usize = 4;

#[test]
fn a_file_that_is_rewritten_in_place_arrives_in_its_last_version() {
    change_while_sending(|file| {
        write_version(file, 2, FILE_MIB);
        thread::sleep(Duration::from_millis(700));
        write_version(file, 3, FILE_MIB);
    });
}

#[test]
fn a_file_that_is_rewritten_behind_its_old_time_arrives_in_its_last_version() {
    change_while_sending(|file| {
        let old = fs::metadata(file).unwrap().modified().unwrap();
        write_version(file, 2, FILE_MIB);
        File::options().write(true).open(file).unwrap().set_modified(old).unwrap();
    });
}

#[test]
fn a_file_that_grows_arrives_in_its_last_length() {
    change_while_sending(|file| append(file, FILE_MIB, 1));
}

#[test]
fn a_file_that_shrinks_arrives_in_its_last_length() {
    change_while_sending(|file| {
        File::options().write(true).open(file).unwrap().set_len(3 << 20).unwrap();
    });
}

#[test]
fn a_file_that_is_emptied_arrives_empty() {
    change_while_sending(|file| drop(File::create(file).unwrap()));
}

#[test]
fn a_file_that_vanishes_leaves_no_part_of_itself() {
    change_while_sending(|file| fs::remove_file(file).unwrap());
}

#[test]
fn a_file_that_is_replaced_arrives_as_its_successor() {
    change_while_sending(|file| {
        let next = file.with_file_name("next");
        write_version(&next, 2, 5);
        fs::rename(next, file).unwrap();
    });
}

#[test]
fn files_and_directories_that_come_and_go_are_there_or_not() {
    change_while_sending(|file| {
        let source = file.parent().unwrap();
        fs::remove_dir_all(source.join("directory")).unwrap();
        fs::create_dir_all(source.join("new/inner")).unwrap();
        write_version(&source.join("new/inner/versioned"), 1, 1);
        fs::rename(source.join("bystander"), source.join("new/bystander")).unwrap();
        symlink("versioned", source.join("link")).unwrap();
    });
}

#[test]
fn a_file_that_becomes_a_link_or_a_directory_is_not_followed() {
    let changes: [&dyn Fn(&Path); 2] = [
        &|file| {
            let elsewhere = file.parent().unwrap().with_file_name("elsewhere");
            write_version(&elsewhere, 666, FILE_MIB);
            symlink(elsewhere, file).unwrap();
        },
        &|file| fs::create_dir(file).unwrap(),
    ];
    for change in changes {
        // Whether it gives up or sends what there is now is its own business.
        while_sending(FILE_MIB, |file, _| {
            fs::remove_file(file).unwrap();
            change(file);
        });
    }
}

#[test]
fn a_file_with_two_names_that_changes_arrives_in_one_version() {
    while_sending(FILE_MIB, |file, _| {
        fs::hard_link(file, file.with_file_name("second")).unwrap();
        write_version(file, 2, FILE_MIB);
    });
}

#[test]
fn a_file_that_is_rewritten_all_the_time_is_given_up() {
    let succeeded = while_sending(BUSY_MIB, |file, stop| {
        for version in 2.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            write_version(file, version, BUSY_MIB);
        }
    });
    assert!(!succeeded, "every pass saw another version");
}

#[test]
fn a_file_that_grows_all_the_time_is_given_up() {
    let succeeded = while_sending(BUSY_MIB, |file, stop| {
        for megabyte in BUSY_MIB.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            append(file, megabyte, 1);
            thread::sleep(Duration::from_millis(400));
        }
    });
    assert!(!succeeded, "every pass saw another length");
}

/// Changes the source once; then it stands still, and what it is then arrives.
fn change_while_sending(change: impl FnOnce(&Path)) {
    let succeeded = while_sending(FILE_MIB, |file, _| change(file));
    assert!(succeeded, "a later pass finds nothing changed");
}

/// Sends a tree slowly and, when it is under way, lets `change` do its work on the file
/// `versioned`; returns whether the transfer succeeded.
fn while_sending(mib: usize, change: impl FnOnce(&Path, &AtomicBool)) -> bool {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    let file = source.join("versioned");
    write_version(&file, 1, mib);
    fs::write(source.join("bystander"), noise(5, 1000)).unwrap();
    fs::create_dir(source.join("directory")).unwrap();
    fs::write(source.join("directory/file"), "content").unwrap();

    let receiving = Receive::into(&target).start();
    let sending = Send::from(&source, &receiving.ticket).slowly(SLOW_MIB_PER_SECOND).start();
    wait_under_way(&target, 1 << 20);
    let stop = AtomicBool::new(false);
    let sender = thread::scope(|scope| {
        let ending = scope.spawn(|| {
            let ended = sending.wait(TRANSFER);
            stop.store(true, Ordering::Relaxed);
            ended
        });
        change(&file, &stop);
        ending.join().unwrap()
    });
    let receiver = receiving.wait(TRANSFER);
    if sender.is_success() {
        receiver.assert_success();
        Listing::of(&source).assert_eq(&Listing::of(&target), "what arrived is what there is now");
        let arrived = target.join("versioned");
        if fs::symlink_metadata(&arrived).is_ok_and(|found| found.is_file() && found.size() > 0) {
            assert_eq!(versions_in(&arrived).len(), 1, "a mix of versions");
        }
    } else {
        sender.assert_failed_one_of(&[("E21", 116), ("E08", 5)]);
        receiver.assert_failed("E19", 103);
        let named = ["versioned", "bystander", "directory"];
        let is_named = |ended: &Ended| named.iter().any(|name| ended.stderr.contains(name));
        assert!(is_named(&sender) && is_named(&receiver), "{sender}{receiver}");
        assert_empty(&target);
    }
    sender.is_success()
}

/// Adds `mib` MiB of version 1 to a file that has `old_mib` of them.
fn append(file: &Path, old_mib: usize, mib: usize) {
    let longer = file.with_file_name("longer");
    write_version(&longer, 1, old_mib + mib);
    let content = fs::read(&longer).unwrap();
    fs::remove_file(longer).unwrap();
    let mut file = File::options().append(true).open(file).unwrap();
    file.write_all(&content[old_mib << 20..]).unwrap();
}
