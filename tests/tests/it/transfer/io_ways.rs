//! Ways to read and write files, and file systems that do not have all of them.

use std::path::Path;

use fastsst_tests::transfer::{Sandbox, Transfer, assert_same_tree, fill};

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
    for io in ["auto", "direct", "buffered"] {
        let done =
            Transfer::new(&source, &target).receive(["--replace", "--io", io]).send(["--io", io]);
        assert_same_tree(&source, &target, &done.run());
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
