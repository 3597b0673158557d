//! A donor that is newer than the joiner, told by what runs and what is in the files.

use std::fs;
use std::io::Write;
use std::process::{Child, Command};

use crate::program::{Node, POSITION_OF_JOINER, Program, free_port};

const POSITION: &str = "61e1e4b5-9b5c-11ef-8a1c-0242ac110002:17 7";

/// Something that runs and whose program has the version of a server in it.
struct Server(Child);

impl Server {
    fn of_version(node: &Node, version: &str) -> Self {
        let program = node.root().join("mariadbd");
        fs::copy("/bin/sleep", &program).unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(&program).unwrap();
        write!(file, "\0{version}-MariaDB\0").unwrap();
        drop(file);
        Self(Command::new(program).arg("1000").spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A donor whose files say this version, and a joiner whose server runs that one.
fn pair(donor_version: &str, joiner_version: &str) -> (Node, Node, Server) {
    let (donor, joiner) = (Node::new(""), Node::new(""));
    donor.write("mysql_upgrade_info", format!("{donor_version}-MariaDB"));
    donor.write("ibdata1", "new");
    joiner.write("ibdata1", "old");
    let server = Server::of_version(&joiner, joiner_version);
    (donor, joiner, server)
}

fn start(donor: &Node, joiner: &Node, server: &Server) -> (Program, Command) {
    let mut command = joiner.joiner(free_port());
    // The last one counts.
    command.args(["--parent", &server.0.id().to_string()]);
    let mut receiving = Program::start(&mut command);
    let (credentials, place) = receiving.ready();
    let mut command = donor.donor(&place);
    command.env("WSREP_SST_OPT_REMOTE_AUTH", credentials);
    (receiving, command)
}

#[test]
fn a_newer_donor_is_refused_at_both_ends_before_it_locks() {
    let (donor, joiner, server) = pair("11.4.2", "10.11.19");
    let before = joiner.files();
    let (mut receiving, mut command) = start(&donor, &joiner, &server);
    let sent = Program::start(&mut command).wait();
    assert!(sent.lines.is_empty(), "no lock before the joiner agrees: {sent:#?}");
    sent.assert_failed(93, "E15");
    sent.assert_says("the donor runs MariaDB 11.4.2 and this node MariaDB 10.11.19");
    let received = receiving.wait();
    received.assert_failed(93, "E15");
    received.assert_says("upgrade this node's server");
    assert_eq!(joiner.files(), before);
}

#[test]
fn an_older_donor_is_welcome_with_a_word_about_the_upgrade() {
    let (donor, joiner, server) = pair("10.6.12", "10.11.19");
    let (mut receiving, mut command) = start(&donor, &joiner, &server);
    let mut sending = Program::start(&mut command);
    sending.expect("flush tables");
    donor.answer(POSITION);
    sending.expect("continue");
    sending.expect(&format!("done {POSITION}"));
    receiving.expect(POSITION);
    let received = receiving.wait();
    assert_eq!((sending.wait().code, received.code), (Some(0), Some(0)));
    received.assert_says("[WARNING] the donor runs MariaDB 10.6.12 and this node MariaDB 10.11.19");
    received.assert_says("mariadb-upgrade");
    assert_eq!(joiner.files()["ibdata1"], b"new");
}

#[test]
fn ist_from_a_newer_donor_is_never_refused() {
    let (donor, joiner, server) = pair("11.4.2", "10.11.19");
    let (mut receiving, mut command) = start(&donor, &joiner, &server);
    let mut sending = Program::start(command.arg("--bypass"));
    let position = format!("{POSITION_OF_JOINER} 7");
    sending.expect(&format!("done {position}"));
    receiving.expect(&position);
    assert_eq!((sending.wait().code, receiving.wait().code), (Some(0), Some(0)));
    assert_eq!(joiner.files()["ibdata1"], b"old");
}
