//! An old copy in the target, and a disk without room for what is new.

use std::fs;
use std::os::unix::fs::MetadataExt;

use fastsst_tests::small_disk::SmallDisk;
use fastsst_tests::transfer::{
    Listing, Receive, Sandbox, Send, TRANSFER, fill, sparse_noise, wait_written, written,
};
use serde_json::Value;

use super::{NOTICE, SLOW_MIB_PER_SECOND};

/// Files of the source, and MiB of each.
const FILES: u64 = 8;
const FILE_MIB: usize = 8;

#[test]
fn when_new_pages_find_no_room_nothing_is_lost_and_the_next_attempt_goes_on() {
    let place = Sandbox::new();
    let disk = SmallDisk::mount(&place, 128);
    let (source, target) = (place.dir("source"), disk.outside().join("target"));
    fs::create_dir(&target).unwrap();
    for number in 0..FILES {
        let name = format!("file-{number}");
        sparse_noise(&source.join(&name), number, FILE_MIB);
        // The old copy takes no room, so removing it makes none.
        let size = fs::metadata(source.join(&name)).unwrap().size();
        fs::File::create(target.join(&name)).unwrap().set_len(size).unwrap();
    }
    let receive = || Receive::into(&disk.inside().join("target")).args(["--replace"]).on(&disk);

    let receiving = receive().start();
    let sending =
        Send::from(&source, &receiving.ticket).on(&disk).slowly(SLOW_MIB_PER_SECOND).start();
    wait_written(&target, 16 << 20);
    disk.fill_up();
    let sender = sending.wait(NOTICE);
    let receiver = receiving.wait(NOTICE);
    receiver.assert_failed("E07", 28);
    sender.assert_failed("E19", 103);
    assert!(sender.stderr.contains("E07"), "says what the joiner said: {sender}");
    let kept = written(&target);
    assert!(kept >= 16 << 20, "{kept} bytes are left of what was written");

    // Still no room: said again, and nothing is lost by trying.
    let receiving = receive().start();
    let sender = Send::from(&source, &receiving.ticket).on(&disk).run(TRANSFER);
    assert!(!sender.is_success(), "there is no room: {sender}");
    receiving.wait(NOTICE).assert_failed("E07", 28);

    fs::remove_file(disk.outside().join("filler")).unwrap();
    let receiving = receive().start();
    let sending = Send::from(&source, &receiving.ticket).on(&disk);
    let (_, sent) = sending.args(["--compress", "none"]).succeed(TRANSFER);
    receiving.wait(TRANSFER).assert_success();
    Listing::of(&source).assert_eq(&Listing::of(&target), "after the last attempt");
    let total = FILES * ((FILE_MIB as u64) << 20);
    let most = total - kept + total / 50;
    assert!(wire(&sent) <= most, "{kept} bytes were there, at most {most} are sent: {sent:#}");
}

/// Room for one copy and the difference is enough where two copies do not fit.
#[test]
fn an_old_copy_is_patched_in_place_where_a_second_copy_has_no_room() {
    let place = Sandbox::new();
    let disk = SmallDisk::mount(&place, 80);
    let (source, target) = (place.dir("source"), disk.outside().join("target"));
    fs::create_dir(&target).unwrap();
    fill(&source.join("same"), 1, 40);
    fs::copy(source.join("same"), target.join("same")).unwrap();
    fill(&source.join("new"), 2, 12);
    let receiving =
        Receive::into(&disk.inside().join("target")).args(["--replace"]).on(&disk).start();
    let (_, sent) = Send::from(&source, &receiving.ticket).on(&disk).succeed(TRANSFER);
    receiving.wait(TRANSFER).assert_success();
    Listing::of(&source).assert_eq(&Listing::of(&target), "source and target differ");
    assert!(wire(&sent) < 14 << 20, "the new file only: {sent:#}");
}

/// Where the old copy is in the way and worth nothing, it goes.
#[test]
fn an_old_copy_without_use_makes_room_for_the_new_files() {
    let place = Sandbox::new();
    let disk = SmallDisk::mount(&place, 64);
    let (source, target) = (place.dir("source"), disk.outside().join("target"));
    fs::create_dir(&target).unwrap();
    fill(&target.join("other"), 1, 40);
    fill(&source.join("new"), 2, 41);
    let receiving =
        Receive::into(&disk.inside().join("target")).args(["--replace"]).on(&disk).start();
    Send::from(&source, &receiving.ticket).on(&disk).run(TRANSFER).assert_success();
    receiving.wait(TRANSFER).assert_success();
    Listing::of(&source).assert_eq(&Listing::of(&target), "source and target differ");
}

fn wire(sent: &Value) -> u64 {
    sent["wire_bytes"].as_u64().expect("a number of bytes")
}
