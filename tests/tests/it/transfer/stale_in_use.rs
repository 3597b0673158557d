//! A server that runs on the old copy: refused, before and while it is compared.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use fastsst_tests::transfer::{
    Ended, Listing, Receive, Sandbox, Send, TRANSFER, fill, wait_written,
};
use rustix::fs::{FlockOperation, fcntl_lock};

use super::{NOTICE, SLOW_MIB_PER_SECOND, assert_untouched};

/// Files that a running server holds a lock on. Source: InnoDB, Aria.
const LOCKED: [&str; 2] = ["ibdata1", "aria_log_control"];

#[test]
fn a_target_on_which_a_server_runs_is_refused() {
    for name in LOCKED {
        let (_place, _, target) = datadirs();
        let before = Listing::of(&target);
        let lock = lock(&target.join(name));
        let refused = Receive::into(&target).args(["--replace"]).fail();
        assert_in_use(&refused, name);
        assert_eq!(refused.stdout, "", "no ticket");
        drop(lock);
        assert_untouched(&target, &before);
        assert!(!target.join(".fastsst").exists(), "nothing at all was made");
    }
}

#[test]
fn a_server_that_starts_before_the_sender_comes_is_noticed_before_anything_is_touched() {
    let (_place, source, target) = datadirs();
    let before = Listing::of(&target);
    let receiving = Receive::into(&target).args(["--replace"]).start();
    let lock = lock(&target.join(LOCKED[0]));
    let sender = Send::from(&source, &receiving.ticket).run(NOTICE);
    assert_in_use(&receiving.wait(NOTICE), LOCKED[0]);
    sender.assert_failed("E19", 103);
    assert!(sender.stderr.contains("E30"), "says what the joiner said: {sender}");
    drop(lock);
    assert_untouched(&target, &before);
}

#[test]
fn a_server_that_has_the_copy_open_while_it_is_compared_keeps_it_from_being_put_in_place() {
    let (_place, source, target) = datadirs();
    let receiving = Receive::into(&target).args(["--replace"]).start();
    // The server opened its files by their names, before these were moved.
    let opened = File::options().read(true).write(true).open(target.join(LOCKED[0])).unwrap();
    let sending = Send::from(&source, &receiving.ticket).slowly(SLOW_MIB_PER_SECOND).start();
    wait_written(&target, 4 << 20);
    fcntl_lock(&opened, FlockOperation::NonBlockingLockExclusive).unwrap();
    let receiver = receiving.wait(TRANSFER);
    let sender = sending.wait(NOTICE);
    assert_in_use(&receiver, LOCKED[0]);
    sender.assert_failed("E19", 103);
    assert!(Listing::of(&target).is_empty(), "nothing was put in place");

    drop(opened);
    let receiving = Receive::into(&target).args(["--replace"]).start();
    Send::from(&source, &receiving.ticket).run(TRANSFER).assert_success();
    receiving.wait(TRANSFER).assert_success();
    Listing::of(&source).assert_eq(&Listing::of(&target), "source and target differ");
}

/// A source, and a target with an older copy of the same files.
fn datadirs() -> (Sandbox, PathBuf, PathBuf) {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    for (seed, root) in [(1, &source), (2, &target)] {
        fill(&root.join("ibdata1"), seed, 2);
        fill(&root.join("aria_log_control"), 10 + seed, 1);
        fs::create_dir(root.join("database")).unwrap();
        fill(&root.join("database/table.ibd"), 20 + seed, 16);
    }
    (place, source, target)
}

/// Holds a file as a server does, in another process than the receiver. Reading the file here and
/// closing it would give the lock back.
fn lock(path: &Path) -> File {
    let file = File::options().read(true).write(true).open(path).unwrap();
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    file
}

fn assert_in_use(ended: &Ended, name: &str) {
    ended.assert_failed("E30", 16);
    assert!(ended.stderr.contains(name), "names the file: {ended}");
    let ours = format!("process {}", std::process::id());
    assert!(ended.stderr.contains(&ours), "names the process: {ended}");
}
