//! A transfer and a bypass on each kind of server.

use fastsst_tests::standin::{Kind, OLD_POSITION, POSITION, Server, Transfer};

use super::{free_address, start, succeeds};

fn pair(kind: Kind) -> (Server, Server) {
    let (donor, joiner) = (Server::new(kind, ""), Server::new(kind, ""));
    donor.fill();
    joiner.fill_old();
    (donor, joiner)
}

fn snapshot(kind: Kind) {
    let (donor, joiner) = pair(kind);
    let (donating, joining) = start(&donor, &joiner);
    let sent = donating.serve();
    let joined = joining.finish();
    let expected = match kind {
        Kind::MariaDb105 | Kind::MariaDb1011 | Kind::MariaDb118 => format!("{POSITION} 7"),
        Kind::MysqlWsrep80 | Kind::MysqlWsrep80Late => {
            format!("{POSITION} 91e1e4b5-9b5c-11ef-8a1c-0242ac110002:3 9")
        }
        Kind::Pxc80 | Kind::Pxc84 => POSITION.to_owned(),
    };
    assert_eq!(joined.position.as_deref(), Some(&*expected), "{joined:#?}\n{:#?}", sent.script);
    assert_eq!(sent.position.as_deref(), Some(&*expected));
    joiner.assert_has(&sent.files);
    for log in [&sent.script.log, &joined.script.log] {
        check_log(kind, log);
    }
    joiner.assert_no_markers();
    donor.assert_no_markers();
    // Onto what is there now, as after the next restart.
    succeeds(&donor, &joiner);
}

/// Lines with the form that the server expects, and words about what has not been tried.
fn check_log(kind: Kind, log: &str) {
    let is_mariadb = matches!(kind, Kind::MariaDb105 | Kind::MariaDb1011 | Kind::MariaDb118);
    assert_eq!(log.contains("has not been tried with the server itself"), !is_mariadb, "{log}");
    let is_pxc = matches!(kind, Kind::Pxc80 | Kind::Pxc84);
    for line in log.lines() {
        let has_level = ["ERR:", "WRN:", "INF:"].iter().any(|level| line.starts_with(level));
        assert_eq!(has_level, is_pxc, "{line}");
        assert_eq!(line.starts_with("WSREP_SST: ["), !is_pxc, "{line}");
        assert!(line.len() < 1023, "the server would cut {line}");
    }
    assert!(!log.contains("unknown argument"), "{log}");
}

#[test]
fn mariadb_10_5_gets_its_lines() {
    snapshot(Kind::MariaDb105);
}

#[test]
fn mariadb_10_11_gets_its_lines() {
    snapshot(Kind::MariaDb1011);
}

#[test]
fn mariadb_11_8_gets_its_lines() {
    snapshot(Kind::MariaDb118);
}

#[test]
fn mysql_wsrep_8_0_gets_its_lines() {
    snapshot(Kind::MysqlWsrep80);
    snapshot(Kind::MysqlWsrep80Late);
}

/// A transfer that takes long enough for a line about progress; its lines, as the servers read them.
fn slow(kind: Kind) -> (usize, usize) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("progress");
    let config = format!("[sst]\nrlimit=250k\ncompress=none\nprogress={}\n", file.display());
    let (donor, joiner) = (Server::new(kind, &config), Server::new(kind, ""));
    donor.fill();
    let (donating, joining) = start(&donor, &joiner);
    let (sent, joined) = (donating.serve(), joining.finish());
    assert!(joined.position.is_some(), "{joined:#?}\n{:#?}", sent.script);
    joined.script.assert_says("joiner copy: ");
    assert!(!sent.script.log.contains("donor copy: "), "it is in the file: {:#?}", sent.script);
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(" donor copy: ") && text.ends_with('\n'), "{text}");
    (sent.progress, joined.progress)
}

#[test]
fn mysql_wsrep_reads_progress_and_the_operators_file_gets_it_too() {
    let (sent, joined) = slow(Kind::MysqlWsrep80);
    assert!(sent >= 2 && joined >= 2, "{sent} and {joined} lines");
}

#[test]
fn pxc_never_gets_a_line_about_progress() {
    assert_eq!(slow(Kind::Pxc84), (0, 0));
}

#[test]
fn pxc_8_0_gets_its_lines_and_stands_still_before_it_is_copied() {
    snapshot(Kind::Pxc80);
}

#[test]
fn pxc_8_4_gets_its_lines_and_stands_still_before_it_is_copied() {
    snapshot(Kind::Pxc84);
}

#[test]
fn a_bypass_leaves_every_kind_of_server_as_it_was() {
    for kind in Kind::ALL {
        let (donor, joiner) = pair(kind);
        let before = joiner.files();
        let mut joining = joiner.join(&free_address());
        let request = joining.request();
        let sent = donor.donate(&request, Transfer::Bypass(OLD_POSITION)).serve();
        let joined = joining.finish();
        assert_eq!(sent.position, joined.position, "{kind:?}: {:#?}", sent.script);
        let position = joined.position.expect("a position");
        assert_eq!(position.split(' ').next(), Some(OLD_POSITION), "{kind:?}");
        assert!(sent.files.is_empty(), "{kind:?} was locked");
        assert_eq!(joiner.files(), before, "{kind:?}");
    }
}

#[test]
fn a_server_of_the_other_kind_is_refused_and_keeps_its_files() {
    let donor = Server::new(Kind::MariaDb1011, "");
    donor.fill();
    let joiner = Server::new(Kind::MysqlWsrep80, "");
    joiner.fill_old();
    let before = joiner.files();
    let (donating, joining) = start(&donor, &joiner);
    let sent = donating.serve();
    sent.script.assert_failed(93, "E15");
    let joined = joining.finish();
    joined.script.assert_failed(93, "E15");
    joined.script.assert_says("MariaDB and MySQL cannot use each other's files");
    assert_eq!(joiner.files(), before);
}
