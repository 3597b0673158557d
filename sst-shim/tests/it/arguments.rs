//! The command line, before anything else happens.

use std::process::Command;

use crate::program::{Node, PROGRAM, Program};

fn run(words: &[&str]) -> crate::program::Ended {
    Program::start(Command::new(PROGRAM).args(words)).wait()
}

#[test]
fn help_and_version_are_for_people() {
    let help = run(&["--help"]);
    assert_eq!(help.code, Some(0));
    assert!(help.lines.iter().any(|line| line.contains("wsrep_sst_method = fastsst")));
    let version = run(&["--version"]);
    assert_eq!(version.lines, [format!("wsrep_sst_fastsst {}", env!("CARGO_PKG_VERSION"))]);
}

#[test]
fn missing_and_wrong_arguments_are_named_and_nothing_is_printed_for_the_server() {
    let node = Node::new("");
    let datadir = node.datadir();
    let datadir = datadir.to_str().unwrap();
    let cases: [(&[&str], &str); 6] = [
        (&[], "--address is missing"),
        (&["--role", "joiner", "--datadir", datadir], "--address is missing"),
        (&["--role", "joiner", "--address", "h:4444"], "--datadir is missing"),
        (&["--role", "leader", "--address", "h", "--datadir", datadir], "leader"),
        (&["--role", "joiner", "--address", "h:x", "--datadir", datadir], "\"h:x\" is malformed"),
        (
            &["--role", "joiner", "--address", "a,b", "--datadir", datadir],
            "wsrep_sst_receive_address",
        ),
    ];
    for (words, expected) in cases {
        let ended = run(words);
        ended.assert_failed(22, "E01");
        ended.assert_says(expected);
        assert!(ended.lines.is_empty(), "{ended:#?}");
    }
    assert!(node.files().is_empty());
}

#[test]
fn a_donor_refuses_requests_of_other_methods_without_showing_secrets() {
    let node = Node::new("");
    for address in ["h:4444/rsync_sst", "h:4444", "x:c3c3c3c3@h:4444/fastsst/1/5a5a"] {
        let ended = Program::start(&mut node.donor(address)).wait();
        ended.assert_failed(22, "E10");
        assert!(ended.lines.is_empty() && !ended.log.contains("c3c3"), "{ended:#?}");
    }
    // Nobody hands over the token.
    let address = format!("127.0.0.1:4444/fastsst/1/{}", "5a".repeat(32));
    let ended = Program::start(&mut node.donor(&address)).wait();
    ended.assert_failed(22, "E10");
    ended.assert_says("no token");
    assert!(node.files().is_empty());
}

#[test]
fn unknown_arguments_are_warned_about() {
    let node = Node::new("");
    let mut command = node.donor("h:4444");
    command.args(["--from-the-future", "x", "--mysqld-args", "--wsrep-on", "--role=joiner"]);
    let ended = Program::start(&mut command).wait();
    ended.assert_says("[WARNING] unknown argument --from-the-future is ignored");
    ended.assert_failed(22, "E10");
}
