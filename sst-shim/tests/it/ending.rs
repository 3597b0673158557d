//! How a waiting joiner ends, what it leaves, and what it does not inherit.

use std::fs::{self, File};
use std::io::Read;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::program::{Node, Program, free_port, wait_child};

/// What the program promises, and a slow machine's margin.
const AT_ONCE: Duration = Duration::from_secs(3);

#[test]
fn signals_end_it_within_a_second_and_leave_nothing() {
    for (signal, code) in
        [(Signal::TERM, 3), (Signal::INT, 3), (Signal::QUIT, 3), (Signal::HUP, 32)]
    {
        let node = Node::new("");
        let mut joiner = Program::start(&mut node.joiner(free_port()));
        joiner.ready();
        assert!(node.datadir().join("sst_in_progress").exists());
        joiner.signal(signal);
        let ended = joiner.wait();
        ended.assert_failed(code, if code == 3 { "E28" } else { "E27" });
        assert!(ended.took < AT_ONCE, "{ended:#?}");
        node.assert_no_markers();
        assert!(node.files().is_empty(), "{:?}", node.files());
    }
}

#[test]
fn a_server_that_closes_the_pipe_ends_it() {
    let node = Node::new("");
    let started = Instant::now();
    let (mut child, line) = Program::close_stdout(&mut node.joiner(free_port()));
    assert!(line.starts_with("ready "));
    assert_eq!(wait_child(&mut child).code(), Some(32));
    assert!(started.elapsed() < 2 * AT_ONCE);
    node.assert_no_markers();
}

#[test]
fn a_server_that_dies_ends_it() {
    let node = Node::new("");
    let mut server = Command::new("sleep").arg("1000").spawn().unwrap();
    let mut command = node.joiner(free_port());
    // The last one counts.
    command.args(["--parent", &server.id().to_string()]);
    let mut joiner = Program::start(&mut command);
    joiner.ready();
    server.kill().unwrap();
    server.wait().unwrap();
    let ended = joiner.wait();
    ended.assert_failed(32, "E27");
    assert!(ended.took < AT_ONCE, "{ended:#?}");
    node.assert_no_markers();
}

#[test]
fn a_server_that_is_dead_already_gets_no_request() {
    let node = Node::new("");
    let mut server = Command::new("true").spawn().unwrap();
    server.wait().unwrap();
    let mut command = node.joiner(free_port());
    command.args(["--parent", &server.id().to_string()]);
    let ended = Program::start(&mut command).wait();
    ended.assert_failed(32, "E27");
    assert!(ended.lines.is_empty());
}

#[test]
fn stale_markers_do_not_block() {
    let node = Node::new("");
    // Process 1 lives, but has no lock.
    node.write("wsrep_sst.pid", "1\n");
    node.write("sst_in_progress", "");
    let mut joiner = Program::start(&mut node.joiner(free_port()));
    joiner.ready();
    joiner.signal(Signal::KILL);
    joiner.wait();
    assert!(node.datadir().join("sst_in_progress").exists(), "kill -9 leaves it behind");
    let mut joiner = Program::start(&mut node.joiner(free_port()));
    joiner.ready();
    joiner.signal(Signal::TERM);
    joiner.wait();
    node.assert_no_markers();
}

#[test]
fn two_transfers_of_one_node_never_overlap() {
    let node = Node::new("");
    let mut first = Program::start(&mut node.joiner(free_port()));
    first.ready();
    let ended = Program::start(&mut node.joiner(free_port())).wait();
    ended.assert_failed(114, "E05");
    ended.assert_says(&format!("process {}", first.pid()));
    assert!(ended.lines.is_empty());
    assert!(first.is_running());
    let owner = fs::read_to_string(node.datadir().join("wsrep_sst.pid")).unwrap();
    assert_eq!(owner.trim(), first.pid().to_string(), "the loser changed the marker");
    first.signal(Signal::TERM);
    first.wait();
    node.assert_no_markers();
}

#[test]
fn a_successor_waits_for_a_predecessor_that_is_ending() {
    let node = Node::new("");
    let mut first = Program::start(&mut node.joiner(free_port()));
    first.ready();
    let mut second = Program::start(&mut node.joiner(free_port()));
    std::thread::sleep(Duration::from_millis(300));
    first.signal(Signal::TERM);
    first.wait();
    second.ready();
    second.signal(Signal::TERM);
    second.wait();
    node.assert_no_markers();
}

#[test]
fn inherited_descriptors_are_closed() {
    let node = Node::new("");
    // Without CLOEXEC: the program inherits both ends.
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let mut joiner = Program::start(&mut node.joiner(free_port()));
    joiner.ready();
    drop(writer);
    let inherited = fs::read_dir(format!("/proc/{}/fd", joiner.pid()))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| *target == fs::read_link(proc_fd(&reader)).unwrap())
        .count();
    assert_eq!(inherited, 0);
    drop(joiner);
    let mut rest = Vec::new();
    File::from(reader).read_to_end(&mut rest).unwrap();
}

fn proc_fd(fd: &impl std::os::fd::AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[test]
fn nobody_comes_before_the_timeout() {
    let node = Node::new("[sst]\nsst-initial-timeout=1\n");
    node.write("ibdata1", "old");
    let before = node.files();
    let mut joiner = Program::start(&mut node.joiner(free_port()));
    joiner.ready();
    joiner.wait().assert_failed(110, "E31");
    assert_eq!(node.files(), before);
}
