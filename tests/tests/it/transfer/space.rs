//! Disks that are full, and files that cannot be read.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use fastsst_tests::small_disk::SmallDisk;
use fastsst_tests::transfer::{
    Listing, Receive, Sandbox, Send, TRANSFER, fill, sparse_noise, wait_under_way,
};

use super::{NOTICE, SLOW_MIB_PER_SECOND, assert_empty, assert_untouched, used_target};

#[test]
fn too_little_space_is_refused_before_anything_is_touched() {
    let place = Sandbox::new();
    let disk = SmallDisk::mount(&place, 64);
    let source = place.dir("source");
    fill(&source.join("large"), 1, 80);
    fs::create_dir(disk.outside().join("target")).unwrap();
    fs::write(disk.outside().join("target/precious"), "data").unwrap();
    let before = Listing::of(&disk.outside().join("target"));

    let receiving =
        Receive::into(&disk.inside().join("target")).args(["--replace"]).on(&disk).start();
    let sender = Send::from(&source, &receiving.ticket).run(NOTICE);
    let receiver = receiving.wait(NOTICE);
    receiver.assert_failed("E07", 28);
    assert!(receiver.stderr.contains("MiB free"), "says how much there is: {receiver}");
    sender.assert_failed("E19", 103);
    assert!(sender.stderr.contains("E07"), "says what the joiner said: {sender}");
    assert_untouched(&disk.outside().join("target"), &before);
}

#[test]
fn a_disk_that_fills_up_in_the_middle_ends_both_sides_with_the_reason() {
    let place = Sandbox::new();
    let disk = SmallDisk::mount(&place, 128);
    let (source, target) = (place.dir("source"), disk.outside().join("target"));
    for number in 0..8 {
        sparse_noise(&source.join(format!("file-{number}")), number, 8);
    }
    fs::create_dir(&target).unwrap();

    let receiving = Receive::into(&disk.inside().join("target")).on(&disk).start();
    let sending =
        Send::from(&source, &receiving.ticket).on(&disk).slowly(SLOW_MIB_PER_SECOND).start();
    wait_under_way(&target, 4 << 20);
    disk.fill_up();
    let sender = sending.wait(NOTICE);
    let receiver = receiving.wait(NOTICE);
    receiver.assert_failed("E07", 28);
    assert!(receiver.stderr.contains("No space left"), "the system's words: {receiver}");
    sender.assert_failed("E19", 103);
    assert!(sender.stderr.contains("E07"), "says what the joiner said: {sender}");
    assert_empty(&target);

    // With room again, the next attempt needs no cleaning.
    fs::remove_file(disk.outside().join("filler")).unwrap();
    let receiving = Receive::into(&disk.inside().join("target")).on(&disk).start();
    Send::from(&source, &receiving.ticket).on(&disk).run(TRANSFER).assert_success();
    receiving.wait(TRANSFER).assert_success();
    Listing::of(&source).assert_eq(&Listing::of(&target), "after the second attempt");
}

#[test]
fn a_source_file_that_cannot_be_read_is_named_and_nothing_is_committed() {
    let place = Sandbox::new();
    let (source, target) = super::small_source(&place);
    let secret = source.join("directory/secret");
    fill(&secret, 1, 2);
    fs::set_permissions(&secret, Permissions::from_mode(0o000)).unwrap();
    let receiving = Receive::into(&target).start();
    let sender = Send::from(&source, &receiving.ticket).as_nobody(&place).run(NOTICE);
    sender.assert_failed("E08", 5);
    assert!(sender.stderr.contains("directory/secret"), "{sender}");
    assert!(sender.stderr.contains("Permission denied"), "{sender}");
    let receiver = receiving.wait(NOTICE);
    receiver.assert_failed("E19", 103);
    assert!(receiver.stderr.contains("E08"), "{receiver}");
    assert_empty(&target);
}

#[test]
fn a_source_directory_that_cannot_be_read_is_named_before_the_receiver_is_touched() {
    let place = Sandbox::new();
    let source = place.dir("source");
    fs::create_dir(source.join("closed")).unwrap();
    fs::set_permissions(source.join("closed"), Permissions::from_mode(0o000)).unwrap();
    let (target, before) = used_target(&place);
    let receiving = Receive::into(&target).args(["--replace"]).start();
    let sender = Send::from(&source, &receiving.ticket).as_nobody(&place).run(NOTICE);
    sender.assert_failed("E08", 5);
    assert!(sender.stderr.contains("closed"), "{sender}");
    assert_untouched(&target, &before);
    drop(receiving);
    fs::set_permissions(source.join("closed"), Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_source_that_is_missing_or_no_directory_is_named() {
    let place = Sandbox::new();
    let receiving = Receive::into(&place.dir("target")).start();
    fs::write(place.path("file"), "content").unwrap();
    for name in ["missing", "file"] {
        let sender = Send::from(&place.path(name), &receiving.ticket).run(NOTICE);
        sender.assert_failed_one_of(&[("E02", 2), ("E03", 13), ("E08", 5)]);
        assert!(sender.stderr.contains(&place.path(name).display().to_string()), "{sender}");
    }
}
