//! MariaDB 11.8 of Debian 13, alone and beside this machine's 10.11.

use std::fs;
use std::time::Duration;

use fastsst_tests::cluster::{Cluster, Method, Node, Server, WriteLoad, assert_same_data};
use fastsst_tests::wait::until;

/// A node joins: seconds in practice; the limit is for a machine that compiles beside it.
const JOIN: Duration = Duration::from_secs(120);

/// A node that is refused ends.
const REFUSAL: Duration = Duration::from_secs(60);

#[test]
fn an_empty_node_joins_by_sst_while_the_donor_is_written_to() {
    let cluster = Cluster::builder().server(Server::Trixie).start(2);
    let [donor, joiner] = cluster.nodes();
    assert_release(donor, "11.8.");
    donor.fill_mib(32);
    let mark = donor.log_mark();
    let load = WriteLoad::on(donor);
    joiner.start();
    joiner.wait_synced(JOIN);
    let seen = load.stop();
    assert_eq!(seen.refused, 0, "a client may wait, but is never refused: {seen:?}");
    assert_release(joiner, "11.8.");
    assert_eq!(donor.donations_since(mark), (1, 0), "one full copy");
    assert_joined(donor, joiner);
}

#[test]
fn a_short_absence_is_bridged_by_ist() {
    let cluster = Cluster::builder().server(Server::Trixie).start(2);
    let [donor, joiner] = cluster.nodes();
    join(donor, joiner, 8);
    joiner.stop();
    donor.sql("CREATE DATABASE missed; CREATE TABLE missed.t (a INT PRIMARY KEY)");
    donor.sql("INSERT INTO missed.t VALUES (1), (2), (3)");
    let mark = donor.log_mark();
    joiner.start();
    joiner.wait_synced(JOIN);
    assert_eq!(donor.donations_since(mark), (0, 1), "a bypass, and no copy");
    assert_joined(donor, joiner);
}

#[test]
fn a_node_that_was_down_too_long_gets_only_what_differs() {
    let cluster =
        Cluster::builder().server(Server::Trixie).option("sst", "compress", "none").start(2);
    let [donor, joiner] = cluster.nodes();
    join(donor, joiner, 64);
    joiner.stop();
    fs::remove_file(joiner.datadir().join("grastate.dat")).unwrap();
    donor.sql("UPDATE fill.t0 SET k = k + 1 WHERE id % 50 = 0");
    let mark = donor.log_mark();
    joiner.start();
    joiner.wait_synced(JOIN);
    assert_eq!(donor.donations_since(mark), (1, 0), "one full transfer");
    assert_joined(donor, joiner);
    if Method::under_test() == Method::Fastsst {
        let figures = donor.sent_since(mark);
        assert!(figures.wire_mib < figures.data_mib * 0.15, "{figures:?}");
    }
}

/// Without it the server makes an account with all privileges for each transfer.
#[test]
fn with_wsrep_sst_auth_set_no_account_is_made_for_a_transfer() {
    let cluster = Cluster::builder()
        .server(Server::Trixie)
        .option("mysqld", "wsrep_sst_auth", "fastsst:none")
        .start(2);
    let [donor, joiner] = cluster.nodes();
    donor.fill_mib(16);
    cluster.throttle(Some(2));
    joiner.start();
    until("the transfer is under way", JOIN, || {
        (!donor.sst_pids().is_empty() && joiner.datadir_bytes() > (2 << 20)).then_some(())
    });
    let accounts = donor.sql("SELECT user FROM mysql.global_priv WHERE user LIKE 'wsrep.sst.%'");
    assert!(!donor.sst_pids().is_empty(), "asked while the transfer ran");
    assert!(accounts.is_empty(), "{accounts:?}");
}

#[test]
fn a_newer_node_joins_an_older_donor_and_its_log_says_upgrade() {
    let cluster = Cluster::builder().server_of(1, Server::Trixie).start(2);
    let [donor, joiner] = cluster.nodes();
    assert_release(donor, "10.11.");
    let mark = joiner.log_mark();
    join(donor, joiner, 16);
    assert_release(joiner, "11.8.");
    if Method::under_test() == Method::Fastsst {
        let log = joiner.log_since(mark);
        let said = log.lines().any(|it| it.contains("WSREP_SST") && it.contains("mariadb-upgrade"));
        assert!(said, "the log does not say that the data must be upgraded:\n{log}");
    }
}

#[test]
fn an_older_node_does_not_join_a_newer_donor_and_nothing_of_it_is_touched() {
    if Method::under_test() != Method::Fastsst {
        // The stock method lets it, and the server starts.
        return;
    }
    let cluster = Cluster::builder().server(Server::Trixie).server_of(1, Server::Machine).start(2);
    let [donor, joiner] = cluster.nodes();
    donor.fill_mib(4);
    joiner.install_datadir();
    let before = fs::read(joiner.datadir().join("ibdata1")).unwrap();
    let mark = joiner.log_mark();
    joiner.start();
    assert!(!joiner.wait_exit(REFUSAL).success(), "10.11 cannot use the files of 11.8");
    let log = joiner.log_since(mark);
    let named = log
        .lines()
        .any(|it| it.contains("WSREP_SST: [ERROR]") && it.contains("E15") && it.contains("11.8"));
    assert!(named, "no E15 with the donor's version in\n{log}");
    assert_eq!(before, fs::read(joiner.datadir().join("ibdata1")).unwrap(), "touched");
    donor.wait_synced(REFUSAL);
    donor.assert_no_markers();
}

fn join(donor: &Node, joiner: &Node, mib: u64) {
    donor.fill_mib(mib);
    joiner.start();
    joiner.wait_synced(JOIN);
    assert_joined(donor, joiner);
}

fn assert_joined(donor: &Node, joiner: &Node) {
    assert_same_data(donor, joiner);
    donor.assert_no_markers();
    joiner.assert_no_markers();
}

fn assert_release(node: &Node, release: &str) {
    let version = node.sql_value("SELECT VERSION()");
    assert!(version.starts_with(release), "{}: {version}", node.name());
}
