//! What is refused before `ready`: the server gets no line and the datadir stays as it was.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::program::{Node, PROGRAM, Program, free_port};

fn refused(node: &Node, exit_code: i32, error: &str) -> crate::program::Ended {
    node.write("ibdata1", "old");
    let before = node.files();
    let ended = Program::start(&mut node.joiner(free_port())).wait();
    ended.assert_failed(exit_code, error);
    assert!(ended.lines.is_empty(), "{ended:#?}");
    assert_eq!(node.files(), before);
    ended
}

#[test]
fn a_wrong_value_is_named_with_group_and_key() {
    for (config, expected) in [
        ("[sst]\nlanes = many\n", "my.cnf [sst] lanes=many: use a number from 1 to 64"),
        ("[sst]\nrlimit=quick\n", "rlimit=quick"),
        ("[sst]\ntransport=pigeon\n", "auto, quic or tcp"),
        ("[sst]\nsst_lock_timeout=-1\n", "sst-lock-timeout=-1: use seconds"),
        ("[sst]\ncompress\n", "compress=: "),
    ] {
        refused(&Node::new(config), 22, "E01").assert_says(expected);
    }
}

#[test]
fn option_files_that_cannot_be_read_are_refused_in_the_words_of_the_tool() {
    refused(&Node::new("lanes=3\n"), 22, "E01").assert_says("without preceding group");
    let node = Node::new("");
    fs::remove_file(node.config()).unwrap();
    refused(&node, 22, "E01").assert_says("my.cnf");
}

#[test]
fn the_group_suffix_and_includes_work_as_for_the_server() {
    let node = Node::new("[sst]\nlanes=3\n[sst.2]\nlanes=none\n");
    let mut command = node.joiner(free_port());
    command.args(["--defaults-group-suffix", ".2"]);
    Program::start(&mut command).wait().assert_failed(22, "E01");
    let included = node.root().join("more.cnf");
    fs::write(&included, "[sst]\nlanes=never\n").unwrap();
    fs::write(node.config(), format!("!include {}\n", included.display())).unwrap();
    Program::start(&mut node.joiner(free_port())).wait().assert_says("lanes=never");
}

#[test]
fn keys_of_other_methods_and_unknown_ones_are_warnings() {
    let node = Node::new("[sst]\nstreamfmt=mbstream\nfrobnicate=1\nlanes=0\n");
    let ended = refused(&node, 22, "E01");
    assert!(!ended.log.contains("frobnicate"), "an error comes first: {ended:#?}");
    let node = Node::new("[sst]\nstreamfmt=mbstream\nfrobnicate=1\n[mysqld]\ndatadir=x\n");
    let mut command = node.joiner(free_port());
    command.args(["--basedir", "/usr"]);
    let mut program = Program::start(&mut command);
    program.ready();
    program.signal(rustix::process::Signal::TERM);
    let ended = program.wait();
    ended.assert_says("[INFO] my.cnf [sst] streamfmt is not needed: ");
    ended.assert_says("[WARNING] my.cnf [sst] frobnicate is unknown and ignored");
}

#[test]
fn an_unknown_name_comes_with_the_one_that_was_meant() {
    let node = Node::new("[sst]\nsst-idle-timout = 5\nsst-initial-timeout=1\n");
    let mut program = Program::start(&mut node.joiner(free_port()));
    program.ready();
    let ended = program.wait();
    ended.assert_says("my.cnf [sst] sst-idle-timout is unknown; did you mean sst-idle-timeout?");
}

#[test]
fn encryption_by_other_programs_is_refused() {
    let node = Node::new("[sst]\nencrypt=1\nencrypt-key=c3c3c3c3\n");
    let ended = refused(&node, 95, "E29");
    ended.assert_says("the key-based encryption of encrypt=1 does not exist here");
    assert!(!ended.log.contains("c3c3"), "{ended:#?}");
    let node = Node::new("[sst]\nencrypt=1\n");
    refused(&node, 95, "E29").assert_says("[sst] encrypt=1: encryption with a shared key");
}

#[test]
fn layouts_that_cannot_be_transferred_are_refused_by_option() {
    let node = Node::new("[mysqld]\ninnodb_data_home_dir=\ninnodb_data_file_path=/raw/a:1G\n");
    refused(&node, 95, "E29").assert_says("innodb_data_file_path=/raw/a");
    let node = Node::new("[mysqld]\nlog_error=logs/error.err\n");
    refused(&node, 95, "E29").assert_says("log_error");
}

#[test]
fn a_missing_datadir_is_refused() {
    let node = Node::new("");
    let mut command = node.joiner(free_port());
    fs::remove_dir(node.datadir()).unwrap();
    let ended = Program::start(command.current_dir("/")).wait();
    ended.assert_failed(13, "E03");
    assert!(ended.lines.is_empty());
}

#[test]
fn an_unwritable_datadir_is_refused() {
    let node = Node::new("");
    let reachable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(node.root(), reachable).unwrap();
    let mut command = node.joiner(free_port());
    if rustix::process::getuid().is_root() {
        // Root writes everywhere: become somebody else, with a program that he can reach.
        let program = node.root().join("wsrep_sst_fastsst");
        fs::copy(PROGRAM, &program).unwrap();
        let mut other = Command::new(program);
        other.args(command.get_args()).uid(65534).gid(65534).current_dir("/");
        command = other;
    } else {
        fs::set_permissions(node.datadir(), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let ended = Program::start(&mut command).wait();
    ended.assert_failed(13, "E03");
    assert!(ended.lines.is_empty(), "{ended:#?}");
    assert!(node.files().is_empty());
}

#[test]
fn a_port_in_use_is_refused() {
    let node = Node::new("");
    let occupied = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = occupied.local_addr().unwrap().port();
    let ended = Program::start(&mut node.joiner(port)).wait();
    ended.assert_failed(16, "E06");
    ended.assert_says(&port.to_string());
    assert!(ended.lines.is_empty() && node.files().is_empty(), "{ended:#?}");
}
