//! A node comes back that has most of the data: a full transfer, of which little is sent.

use std::fs;

use fastsst_tests::cluster::{Cluster, LogMark, Method, Node, WriteLoad, assert_same_data};

use super::JOIN;

/// Rows of a node that is away for a while.
const FILL_MIB: u64 = 64;

/// The promise: less than this share of the data is sent.
const SENT_SHARE: f64 = 0.15;

#[test]
fn a_node_that_missed_too_many_writes_gets_only_what_differs() {
    let cluster = Cluster::builder().gcache("1M").option("sst", "compress", "none").start(2);
    let [donor, joiner] = cluster.nodes();
    join_and_leave(donor, joiner);
    let load = WriteLoad::on(donor);
    // More than the cache of write sets holds, in pieces that go through its ring.
    donor.sql(
        "CREATE DATABASE missed; CREATE TABLE missed.t (a INT AUTO_INCREMENT PRIMARY KEY, b BLOB)",
    );
    donor.sql(&"INSERT INTO missed.t (b) VALUES (REPEAT('x', 8000));".repeat(300));
    donor.sql("UPDATE fill.t0 SET k = k + 1 WHERE id % 50 = 0");
    let mark = donor.log_mark();
    joiner.start();
    joiner.wait_synced(JOIN);
    let seen = load.stop();
    assert_eq!(seen.refused, 0, "a client may wait, but is never refused: {seen:?}");
    assert_joined_with_little(donor, joiner, mark);
}

#[test]
fn a_node_that_lost_its_position_gets_only_what_differs() {
    let cluster = Cluster::builder().option("sst", "compress", "none").start(2);
    let [donor, joiner] = cluster.nodes();
    join_and_leave(donor, joiner);
    fs::remove_file(joiner.datadir().join("grastate.dat")).unwrap();
    assert_rejoins_with_little(donor, joiner);
}

#[test]
fn a_node_whose_server_was_killed_gets_only_what_differs() {
    let cluster = Cluster::builder().option("sst", "compress", "none").start(2);
    let [donor, joiner] = cluster.nodes();
    donor.fill_mib(FILL_MIB);
    joiner.start();
    joiner.wait_synced(JOIN);
    joiner.kill9();
    fs::remove_file(joiner.datadir().join("grastate.dat")).unwrap();
    assert_rejoins_with_little(donor, joiner);
}

fn join_and_leave(donor: &Node, joiner: &Node) {
    donor.fill_mib(FILL_MIB);
    joiner.start();
    joiner.wait_synced(JOIN);
    joiner.stop();
}

fn assert_rejoins_with_little(donor: &Node, joiner: &Node) {
    let mark = donor.log_mark();
    joiner.start();
    joiner.wait_synced(JOIN);
    assert_joined_with_little(donor, joiner, mark);
}

fn assert_joined_with_little(donor: &Node, joiner: &Node, mark: LogMark) {
    assert_eq!(donor.donations_since(mark), (1, 0), "one full transfer");
    assert_same_data(donor, joiner);
    donor.assert_no_markers();
    joiner.assert_no_markers();
    if Method::under_test() == Method::Fastsst {
        let figures = donor.sent_since(mark);
        assert!(figures.wire_mib < figures.data_mib * SENT_SHARE, "{figures:?}");
    }
}
