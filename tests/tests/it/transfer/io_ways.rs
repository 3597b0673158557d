//! Ways to read and write files, and file systems that do not have all of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;

use fastsst_tests::transfer::{Sandbox, Transfer, assert_same_tree, fill};
use seccompiler::{SeccompAction, SeccompFilter};

#[test]
fn every_way_of_reading_and_writing_gives_the_same_tree() {
    let place = Sandbox::new();
    let (source, target) = super::small_source(&place);
    fill(&source.join("large"), 3, 20);
    for (send, receive, sent, received) in [
        ("direct", "direct", "O_DIRECT", "O_DIRECT"),
        ("buffered", "buffered", "buffered", "buffered"),
        ("auto", "buffered", "", "buffered"),
        ("direct", "auto", "O_DIRECT", ""),
    ] {
        let done = Transfer::new(&source, &target)
            .receive(["--replace", "--io", receive])
            .send(["--io", send])
            .run();
        assert_same_tree(&source, &target, &done);
        for (summary, wanted) in [(&done.sent, sent), (&done.received, received)] {
            let io = summary["io"].as_str().unwrap();
            assert!(io.contains(wanted) && !io.is_empty(), "{wanted}: {summary:#}");
        }
    }
}

#[test]
fn a_file_system_in_memory_serves_as_source_and_target() {
    let memory = Path::new("/dev/shm");
    let (place, disk) = (Sandbox::below(memory), Sandbox::new());
    let (source, target) = super::small_source(&place);
    fill(&source.join("large"), 3, 20);
    for (io, told) in [("auto", 1), ("direct", 1), ("buffered", 0)] {
        let done =
            Transfer::new(&source, &target).receive(["--replace", "--io", io]).send(["--io", io]);
        let done = done.run();
        assert_same_tree(&source, &target, &done);
        for process in [&done.sender, &done.receiver] {
            let words = "is on a file system without direct I/O";
            // Since Linux 6.6 it has direct I/O, and there is nothing to tell.
            assert!(process.stderr.matches(words).count() <= told, "{io}: {process}");
        }
    }
    let on_disk = disk.dir("target");
    let done = Transfer::new(&source, &on_disk).run();
    assert_same_tree(&source, &on_disk, &done);
}

#[test]
fn little_memory_and_many_lanes_are_enough() {
    let place = Sandbox::new();
    let (source, target) = super::small_source(&place);
    fill(&source.join("large"), 3, 40);
    for lanes in ["1", "16"] {
        let done = Transfer::new(&source, &target)
            .receive(["--replace", "--buffer", "16m"])
            .send(["--buffer", "16m", "--lanes", lanes])
            .run();
        assert_same_tree(&source, &target, &done);
        assert_eq!(done.sent["lanes"].to_string(), lanes, "{:#}", done.sent);
        done.sender.assert_small();
        done.receiver.assert_small();
    }
}

/// `io_uring_setup`; the same number on every architecture (`asm-generic/unistd.h`).
const IO_URING_SETUP: i64 = 425;

/// Forbids io_uring to the calling thread and all processes it starts, as containers do.
fn forbid_io_uring() {
    const EPERM: u32 = 1;
    let rules = BTreeMap::from([(IO_URING_SETUP, Vec::new())]);
    let (others, this) = (SeccompAction::Allow, SeccompAction::Errno(EPERM));
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, others, this, arch).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

#[test]
fn a_container_that_forbids_io_uring_gets_threads_and_is_told_once() {
    let place = Sandbox::new();
    let (source, target) = super::small_source(&place);
    fill(&source.join("large"), 3, 20);
    let done = thread::scope(|scope| {
        // The filter stays with its thread, and with what that starts.
        let transfer = scope.spawn(|| {
            forbid_io_uring();
            Transfer::new(&source, &target).run()
        });
        transfer.join().unwrap()
    });
    assert_same_tree(&source, &target, &done);
    for (summary, process) in [(&done.sent, &done.sender), (&done.received, &done.receiver)] {
        assert_eq!(summary["io"], "O_DIRECT threads", "{summary:#}");
        assert_eq!(process.stderr.matches("io_uring is not available").count(), 1, "{process}");
    }
}
