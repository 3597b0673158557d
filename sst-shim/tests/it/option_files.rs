//! The server's option files, read by the real `my_print_defaults`: whatever the server reads, the
//! program reads, and in the same order. A wrong value of `lanes` tells which one it has found.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::program::{Node, Program, free_port};

/// The value of `lanes` that counts with these further arguments.
fn lanes(node: &Node, arguments: &[&str]) -> String {
    let ended = Program::start(node.joiner(free_port()).args(arguments)).wait();
    ended.assert_failed(22, "E01");
    let (_, text) = ended.log.split_once(" lanes=").unwrap_or_else(|| panic!("{ended:#?}"));
    text.split_once(": use").unwrap().0.to_owned()
}

#[test]
fn the_last_value_of_repeated_groups_and_names_counts() {
    let node = Node::new("[sst]\nlanes=a\nlanes=b\n[mysqld]\nport=1\n[sst]\nlanes=c\n");
    assert_eq!(lanes(&node, &[]), "c");
}

#[test]
fn comments_quotes_and_spaces_are_those_of_the_server() {
    for (text, expected) in [
        ("lanes=many#lanes", "many"),
        ("lanes = many # lanes", "many"),
        ("lanes=\"x # y\"", "x # y"),
        ("lanes='z'", "z"),
        ("; lanes=0\n#lanes=0\n  lanes=w  ", "w"),
        ("loose_lanes=v", "v"),
    ] {
        assert_eq!(lanes(&Node::new(&format!("[sst]\n{text}\n")), &[]), expected, "{text}");
    }
}

#[test]
fn included_files_and_directories_count_where_they_stand() {
    let node = Node::new("");
    let directory = node.root().join("conf.d");
    fs::create_dir(&directory).unwrap();
    for (name, value) in [("10.cnf", "ten"), ("20.cnf", "twenty"), ("99.txt", "text")] {
        fs::write(directory.join(name), format!("[sst]\nlanes={value}\n")).unwrap();
    }
    let include = format!("!includedir {}\n", directory.display());
    fs::write(node.config(), format!("[sst]\nlanes=before\n{include}")).unwrap();
    let found = lanes(&node, &[]);
    assert!(["ten", "twenty"].contains(&&*found), "{found}");
    fs::write(node.config(), format!("{include}[sst]\nlanes=after\n")).unwrap();
    assert_eq!(lanes(&node, &[]), "after");
    let file = format!("!include {}\n", directory.join("10.cnf").display());
    fs::write(node.config(), format!("[sst]\nlanes=before\n{file}")).unwrap();
    assert_eq!(lanes(&node, &[]), "ten");
}

#[test]
fn groups_with_the_suffix_are_read_too_in_the_order_of_the_file() {
    let node = Node::new("[sst.1]\nlanes=one\n[sst]\nlanes=all\n[sst.2]\nlanes=two\n");
    assert_eq!(lanes(&node, &[]), "all");
    let found = lanes(&node, &["--defaults-group-suffix", ".2"]);
    assert_eq!(found, "two");
    let found = lanes(&node, &["--defaults-group-suffix=.1"]);
    assert_eq!(found, print_defaults(&node, ".1"));
}

/// What the tool itself says is the last value.
fn print_defaults(node: &Node, suffix: &str) -> String {
    let output = Command::new("my_print_defaults")
        .arg(format!("--defaults-file={}", node.config().display()))
        .arg(format!("--defaults-group-suffix={suffix}"))
        .arg("sst")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().last().unwrap().strip_prefix("--lanes=").unwrap().to_owned()
}

#[test]
fn an_extra_file_comes_after_the_first() {
    let node = Node::new("[sst]\nlanes=own\n");
    let extra = node.root().join("extra.cnf");
    fs::write(&extra, "[sst]\nlanes=extra\n").unwrap();
    let mut command = Command::new(crate::program::PROGRAM);
    command.args(["--role", "joiner", "--address", "127.0.0.1:1", "--datadir"]);
    command.arg(node.datadir()).arg("--defaults-extra-file").arg(&extra);
    let ended = Program::start(&mut command).wait();
    ended.assert_says("my.cnf [sst] lanes=extra: use");
}

#[test]
fn the_environment_counts_more_than_the_files_and_the_old_null_is_nothing() {
    let node = Node::new("[mysqld]\ninnodb_undo_directory=undo\n");
    let mut joiner = node.joiner(free_port());
    let mut joiner = Program::start(joiner.env("INNODB_UNDO_DIR", node.datadir()));
    joiner.ready();
    joiner.signal(Signal::TERM);
    joiner.wait();

    let node = Node::new("");
    for nothing in ["", "(null)"] {
        let mut joiner = node.joiner(free_port());
        let mut joiner = Program::start(joiner.env("INNODB_UNDO_DIR", nothing));
        joiner.ready();
        joiner.signal(Signal::TERM);
        joiner.wait();
    }
}

#[test]
fn threads_of_the_stock_methods_are_read_from_the_servers_groups_first() {
    let node = Node::new("[mariadb]\nloose-backup-threads=mine\n[sst]\nbackup-threads=4\n");
    let ended = Program::start(&mut node.joiner(free_port())).wait();
    ended.assert_failed(22, "E01");
    ended.assert_says("my.cnf [mysqld] backup-threads=mine: use a number from 1 to 1024");
}
