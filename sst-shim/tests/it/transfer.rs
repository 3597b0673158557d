//! Both programs together, each with a stand-in for its server.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::program::{Node, POSITION_OF_JOINER, Program, free_port, wait_child};

/// What the donor's server writes when it stands still.
const POSITION: &str = "61e1e4b5-9b5c-11ef-8a1c-0242ac110002:17 7";

/// Long enough for a dead peer to be noticed.
const SOON: Duration = Duration::from_secs(15);

const MIB: usize = 1 << 20;

/// A donor with something of everything.
fn donor_node(config: &str) -> Node {
    let node = Node::new(config);
    node.write("db1/t.ibd", noise(3 * MIB + 17));
    node.write("db1/db.opt", "default-character-set=utf8mb4\n");
    node.write("db1/with space.frm", "");
    node.write("mysql/general_log.CSV", "log\n");
    node.write("ibdata1", noise(MIB));
    node.write("undo001", noise(MIB / 2));
    node.write("ib_logfile0", noise(2 * MIB));
    node.write("aria_log_control", "aria");
    node.write("aria_log.00000001", noise(8192));
    node.write("mysql_upgrade_info", "10.11.19-MariaDB");
    fs::create_dir(node.datadir().join("empty_db")).unwrap();
    for name in OF_THE_DONOR {
        node.write(name, "donor's own");
    }
    node
}

/// Files that no joiner must get.
const OF_THE_DONOR: [&str; 8] = [
    "grastate.dat",
    "galera.cache",
    "server-key.pem",
    "donor.err",
    "mysql-bin.000001",
    "mysql-bin.index",
    "tc.log",
    "ibtmp1",
];

/// A joiner with an old datadir.
fn joiner_node(config: &str) -> Node {
    let node = Node::new(config);
    node.write("grastate.dat", "joiner's own");
    node.write("joiner.err", "joiner's own");
    node.write("olddb/t.ibd", "old");
    node.write("db1/t.ibd", "old");
    node.write("ibdata1", "old");
    node.write("mysql-bin.000009", "old");
    node
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ bytes as u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(bytes)
    .collect()
}

/// A joiner that waits, and the donor's command that serves it.
fn ready(donor: &Node, joiner: &Node) -> (Program, Command) {
    let mut program = Program::start(&mut joiner.joiner(free_port()));
    let (credentials, place) = program.ready();
    let mut command = donor.donor(&place);
    command.env("WSREP_SST_OPT_REMOTE_AUTH", credentials);
    (program, command)
}

/// Checks that the joiner has the donor's data and kept what is its own.
fn assert_joined(donor: &Node, joiner: &Node) {
    let mut expected = donor.files();
    expected.retain(|path, _| !OF_THE_DONOR.contains(&path.as_str()));
    for name in ["grastate.dat", "joiner.err"] {
        expected.insert(name.to_owned(), b"joiner's own".to_vec());
    }
    let got = joiner.files();
    assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, content) in &expected {
        assert!(got[path] == *content, "{path} differs");
    }
}

#[test]
fn a_snapshot_follows_the_dialogue() {
    let (donor, joiner) = (donor_node(""), joiner_node(""));
    // Left behind by an earlier run: must not be taken for an answer.
    donor.answer("61e1e4b5-9b5c-11ef-8a1c-0242ac110002:1 7");
    let (mut receiving, mut command) = ready(&donor, &joiner);
    let mut sending = Program::start(&mut command);
    sending.expect("flush tables");
    assert!(!donor.datadir().join("tables_flushed").exists());
    donor.answer(POSITION);
    sending.expect("continue");
    // The server writes the file a second time.
    sending.expect(&format!("done {POSITION}"));
    receiving.expect(POSITION);
    let (sent, received) = (sending.wait(), receiving.wait());
    assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{sent:#?} {received:#?}");
    assert!(sent.lines.is_empty() && received.lines.is_empty(), "{sent:#?} {received:#?}");
    sent.assert_says("writes are stopped at 61e1e4b5-9b5c-11ef-8a1c-0242ac110002:17 7");
    received.assert_says("root hash");
    donor.assert_no_markers();
    joiner.assert_no_markers();
    assert!(!joiner.datadir().join(".fastsst").exists());
    assert_joined(&donor, &joiner);
}

#[test]
fn the_token_may_come_on_standard_input() {
    let (donor, joiner) = (donor_node(""), joiner_node(""));
    let mut receiving = Program::start(&mut joiner.joiner(free_port()));
    let (credentials, place) = receiving.ready();
    let (user, token) = credentials.split_once(':').unwrap();
    // A server may take its time, and may not close the pipe.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut sending = Program::start_with(donor.donor(&place).stdin(Stdio::from(reader)));
    std::thread::sleep(Duration::from_millis(500));
    let text = format!(
        "sst_user=a\nsst_password=b\nsst_remote_user={user}\nsst_remote_password={token}\n"
    );
    (&writer).write_all(text.as_bytes()).unwrap();
    sending.expect("flush tables");
    donor.answer(POSITION);
    sending.expect("continue");
    sending.expect(&format!("done {POSITION}"));
    receiving.expect(POSITION);
    let (sent, received) = (sending.wait(), receiving.wait());
    for log in [&sent.log, &received.log] {
        assert!(!log.contains(token), "the token is in the log");
    }
    drop(writer);
}

#[test]
fn a_bypass_hands_over_the_position_and_touches_nothing() {
    let (donor, joiner) = (donor_node(""), joiner_node(""));
    let (before, donors) = (joiner.files(), donor.files());
    let (mut receiving, mut command) = ready(&donor, &joiner);
    let mut sending = Program::start(command.arg("--bypass"));
    let position = format!("{POSITION_OF_JOINER} 7");
    sending.expect(&format!("done {position}"));
    receiving.expect(&position);
    assert_eq!((sending.wait().code, receiving.wait().code), (Some(0), Some(0)));
    assert_eq!(joiner.files(), before);
    assert_eq!(donor.files(), donors);
}

#[test]
fn three_in_a_row() {
    let (donor, joiner) = (donor_node(""), joiner_node(""));
    for _ in 0..3 {
        let (mut receiving, mut command) = ready(&donor, &joiner);
        let mut sending = Program::start(&mut command);
        sending.expect("flush tables");
        donor.answer(POSITION);
        sending.expect("continue");
        sending.expect(&format!("done {POSITION}"));
        receiving.expect(POSITION);
        assert_eq!((sending.wait().code, receiving.wait().code), (Some(0), Some(0)));
    }
    assert_joined(&donor, &joiner);
}

#[test]
fn a_server_that_cannot_lock_fails_both_ends() {
    let (donor, joiner) = (donor_node(""), joiner_node(""));
    let (mut receiving, mut command) = ready(&donor, &joiner);
    let mut sending = Program::start(&mut command);
    sending.expect("flush tables");
    donor.write("sst_error", "");
    let sent = sending.wait();
    sent.assert_failed(5, "E25");
    assert!(sent.lines.is_empty(), "there is nothing to continue: {sent:#?}");
    receiving.wait().assert_failed(103, "E19");
    donor.assert_no_markers();
    joiner.assert_no_markers();
}

#[test]
fn waiting_for_the_lock_has_a_deadline() {
    let (donor, joiner) = (donor_node("[sst]\nsst-lock-timeout=1\n"), joiner_node(""));
    let (mut receiving, mut command) = ready(&donor, &joiner);
    let mut sending = Program::start(&mut command);
    sending.expect("flush tables");
    let sent = sending.wait();
    sent.assert_failed(110, "E26");
    assert!(sent.took < Duration::from_secs(4), "{sent:#?}");
    receiving.wait().assert_failed(103, "E19");
}

#[test]
fn the_lock_itself_has_a_deadline() {
    let donor = donor_node("[sst]\nsst-lock-timeout=2\nrlimit=500k\ncompress=none\n");
    let joiner = joiner_node("");
    let (mut receiving, mut command) = ready(&donor, &joiner);
    let mut sending = Program::start(&mut command);
    sending.expect("flush tables");
    donor.answer(POSITION);
    let sent = sending.wait();
    sent.assert_failed(110, "E26");
    assert!(sent.took < Duration::from_secs(5), "{sent:#?}");
    receiving.wait().assert_failed(103, "E19");
    donor.assert_no_markers();
}

#[test]
fn a_dead_donor_is_noticed_and_the_next_attempt_succeeds() {
    let (slow, joiner) = (donor_node("[sst]\nrlimit=500k\ncompress=none\n"), joiner_node(""));
    let (mut receiving, mut command) = ready(&slow, &joiner);
    let mut sending = Program::start(&mut command);
    sending.expect("flush tables");
    slow.answer(POSITION);
    std::thread::sleep(Duration::from_secs(2));
    sending.signal(Signal::KILL);
    assert_eq!(sending.wait().signal, Some(9));
    let received = receiving.wait();
    received.assert_failed(32, "E17");
    assert!(received.took < SOON, "{received:#?}");
    joiner.assert_no_markers();
    succeeds_now(&joiner);
}

#[test]
fn a_dead_joiner_is_noticed_and_the_next_attempt_succeeds() {
    let (slow, joiner) = (donor_node("[sst]\nrlimit=500k\ncompress=none\n"), joiner_node(""));
    let (mut receiving, mut command) = ready(&slow, &joiner);
    let mut sending = Program::start(&mut command);
    sending.expect("flush tables");
    slow.answer(POSITION);
    std::thread::sleep(Duration::from_secs(2));
    receiving.signal(Signal::KILL);
    receiving.wait();
    // The donor's server must write again at once.
    sending.expect("continue");
    let sent = sending.wait();
    sent.assert_failed(32, "E17");
    assert!(sent.took < SOON, "{sent:#?}");
    slow.assert_no_markers();
    succeeds_now(&joiner);
}

fn succeeds_now(joiner: &Node) {
    let donor = donor_node("");
    let (mut receiving, mut command) = ready(&donor, joiner);
    let mut sending = Program::start(&mut command);
    sending.expect("flush tables");
    donor.answer(POSITION);
    sending.expect("continue");
    sending.expect(&format!("done {POSITION}"));
    receiving.expect(POSITION);
    assert_eq!((sending.wait().code, receiving.wait().code), (Some(0), Some(0)));
    assert_joined(&donor, joiner);
}

#[test]
fn signals_end_a_donor_that_holds_the_lock() {
    let (donor, joiner) = (donor_node("[sst]\nrlimit=500k\n"), joiner_node(""));
    let (mut receiving, mut command) = ready(&donor, &joiner);
    let mut sending = Program::start(&mut command);
    sending.expect("flush tables");
    donor.answer(POSITION);
    std::thread::sleep(Duration::from_millis(500));
    sending.signal(Signal::TERM);
    let sent = sending.wait();
    sent.assert_failed(3, "E28");
    assert!(sent.took < Duration::from_secs(3), "{sent:#?}");
    receiving.wait();
    donor.assert_no_markers();
}

#[test]
fn a_donors_server_that_closes_the_pipe_ends_both() {
    let (donor, joiner) = (donor_node(""), joiner_node(""));
    let (mut receiving, mut command) = ready(&donor, &joiner);
    let started = Instant::now();
    let (mut sending, line) = Program::close_stdout(&mut command);
    assert_eq!(line, "flush tables\n");
    assert_eq!(wait_child(&mut sending).code(), Some(32));
    assert!(started.elapsed() < Duration::from_secs(5));
    receiving.wait().assert_failed(103, "E19");
}

#[test]
fn servers_that_do_not_fit_are_told_at_both_ends_and_nothing_is_touched() {
    let donor = donor_node("[mysqld]\ninnodb_page_size=8k\n");
    let joiner = joiner_node("[mysqld]\ninnodb_page_size=16384\n");
    let before = joiner.files();
    let (mut receiving, mut command) = ready(&donor, &joiner);
    let sent = Program::start(&mut command).wait();
    assert!(sent.lines.is_empty(), "no lock before the joiner agrees: {sent:#?}");
    sent.assert_says("innodb_page_size");
    let received = receiving.wait();
    received.assert_failed(93, "E15");
    received.assert_says("innodb_page_size is \"8192\" on the donor and \"16384\" here");
    assert_eq!(joiner.files(), before);
}

#[test]
fn a_donor_with_the_wrong_token_is_refused_and_the_right_one_still_welcome() {
    let (donor, joiner) = (donor_node(""), joiner_node(""));
    let before = joiner.files();
    let (mut receiving, mut command) = ready(&donor, &joiner);
    let mut wrong = Command::new(command.get_program());
    wrong.args(command.get_args()).current_dir(donor.datadir());
    wrong.env("WSREP_SST_OPT_REMOTE_AUTH", format!("fastsst:{}", "0".repeat(32)));
    Program::start(&mut wrong).wait().assert_failed(13, "E13");
    assert!(receiving.is_running());
    let mut shown = before.clone();
    shown.insert("sst_in_progress".to_owned(), Vec::new());
    shown.insert("wsrep_sst.pid".to_owned(), format!("{}\n", receiving.pid()).into_bytes());
    assert_eq!(joiner.files(), shown);
    let mut sending = Program::start(&mut command);
    sending.expect("flush tables");
    donor.answer(POSITION);
    sending.expect("continue");
    sending.expect(&format!("done {POSITION}"));
    receiving.expect(POSITION);
}

#[test]
fn a_donor_whose_tables_cannot_be_found_is_refused_before_its_server_locks() {
    let links =
        [("/elsewhere/db1/far.ibd", 5, "E08", "/elsewhere/db1"), ("far", 95, "E29", "far.isl")];
    for (target, status, code, named) in links {
        let (donor, joiner) = (donor_node(""), joiner_node(""));
        donor.write("db1/far.isl", target);
        let (_receiving, mut command) = ready(&donor, &joiner);
        let sent = Program::start(&mut command).wait();
        sent.assert_failed(status, code);
        sent.assert_says(named);
        assert!(sent.lines.is_empty());
    }
}

#[test]
fn progress_lines_are_only_for_servers_that_ask() {
    let (donor, joiner) = (donor_node("[sst]\nrlimit=500k\ncompress=none\n"), joiner_node(""));
    let (mut receiving, mut command) = ready(&donor, &joiner);
    // The last one counts.
    let mut sending = Program::start(command.args(["--progress", "1"]));
    sending.expect("flush tables");
    donor.answer(POSITION);
    assert!(sending.line().starts_with("total "));
    assert!(sending.line().starts_with("complete "));
    while sending.line() != "continue" {}
    sending.expect(&format!("done {POSITION}"));
    receiving.expect(POSITION);
    sending.wait().assert_says("[INFO] donor copy: ");
}
