//! The same look at disks finds what is wrong when something is: otherwise it would prove nothing.

use std::collections::BTreeMap;
use std::thread;

use fastsst_tests::recording_disk::{Crash, FileSystem, Survivors};
use fastsst_tests::transfer::{Receive, Receiving};
use seccompiler::{SeccompAction, SeccompFilter};

use super::check::{Inspector, Violation};
use super::stage::Recorded;

/// Writes of which one at a time is lost. Why: most are content of the new tree, each of which is
/// missed.
const LOST: u64 = 12;

#[test]
fn without_flushes_of_the_disk_the_promise_is_broken() {
    let recorded = Recorded::transfer(FileSystem::Ext4, Receive::start);
    let after = recorded.history.len();
    let lost = (0..LOST).map(|seed| Crash { after, survivors: Survivors::AllButOne(seed) });
    assert_broken(&recorded, lost, "and the new tree is not there");
}

#[test]
fn a_receiver_whose_syncs_do_nothing_breaks_the_promise() {
    let recorded = Recorded::transfer(FileSystem::Ext4, |receive| {
        start_without(receive, &[libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_syncfs])
    });
    let crash = Crash { after: recorded.succeeded, survivors: Survivors::All };
    assert_broken(&recorded, [crash], "and the new tree is not there");
}

#[test]
fn a_receiver_that_does_not_sync_small_files_breaks_the_promise() {
    for kind in [FileSystem::Ext4, FileSystem::Xfs] {
        let recorded = Recorded::transfer(kind, |receive| {
            // Past the page cache they would be on the disk anyway, synced or not.
            start_without(receive.args(["--io", "buffered"]), &[libc::SYS_syncfs])
        });
        let crash = Crash { after: recorded.succeeded, survivors: Survivors::All };
        assert_broken(&recorded, [crash], "and the new tree is not there");
    }
}

fn assert_broken(recorded: &Recorded, crashes: impl IntoIterator<Item = Crash>, how: &str) {
    let inspector = Inspector::new(recorded, "control");
    let found: Vec<_> = crashes.into_iter().map(|it| inspector.look(it).map(drop)).collect();
    let is_it =
        |it: &Result<(), Violation>| matches!(it, Err(Violation::Tree(why)) if why.contains(how));
    assert!(found.iter().any(is_it), "{found:?}");
}

/// Starts a receiver for which these system calls succeed without doing anything.
fn start_without(receive: Receive, calls: &[i64]) -> Receiving {
    const SUCCESS: u32 = 0;
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    // The filter stays with its thread, and with what that starts.
    let starter = thread::spawn(|| {
        let (others, these) = (SeccompAction::Allow, SeccompAction::Errno(SUCCESS));
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(rules, others, these, arch).unwrap();
        let program: seccompiler::BpfProgram = filter.try_into().unwrap();
        seccompiler::apply_filter(&program).unwrap();
        receive.start()
    });
    starter.join().unwrap()
}
