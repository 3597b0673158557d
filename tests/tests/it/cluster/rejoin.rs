//! A node comes back with data that is too old or of unknown age: a full copy replaces it.

use std::fs;

use fastsst_tests::cluster::{Cluster, Node, assert_same_data};

use super::JOIN;

#[test]
fn a_node_that_lost_its_position_gets_a_full_copy_over_its_old_data() {
    let cluster = Cluster::builder().start(2);
    let [donor, joiner] = cluster.nodes();
    join_and_leave(donor, joiner);
    fs::remove_file(joiner.datadir().join("grastate.dat")).unwrap();
    donor.fill_mib(4);
    assert_rejoins_by_copy(donor, joiner);
}

#[test]
fn a_node_that_was_away_too_long_gets_a_full_copy_over_its_old_data() {
    let cluster = Cluster::builder().gcache("1M").start(2);
    let [donor, joiner] = cluster.nodes();
    join_and_leave(donor, joiner);
    // More than the cache of write sets holds, in pieces that go through its ring.
    donor.sql("CREATE TABLE new.big (a INT AUTO_INCREMENT PRIMARY KEY, b BLOB)");
    donor.sql(&"INSERT INTO new.big (b) VALUES (REPEAT('x', 8000));".repeat(600));
    assert_rejoins_by_copy(donor, joiner);
}

/// The node joins, leaves in order, and the cluster drops and makes tables meanwhile.
fn join_and_leave(donor: &Node, joiner: &Node) {
    donor.fill_mib(8);
    donor.sql("CREATE DATABASE old; CREATE TABLE old.t (a INT PRIMARY KEY)");
    joiner.start();
    joiner.wait_synced(JOIN);
    joiner.stop();
    assert!(joiner.datadir().join("old/t.ibd").is_file());
    donor.sql("DROP DATABASE old; CREATE DATABASE new; CREATE TABLE new.t (a INT PRIMARY KEY)");
    donor.sql("INSERT INTO new.t SELECT seq FROM mysql.seq_1_to_100");
}

fn assert_rejoins_by_copy(donor: &Node, joiner: &Node) {
    let mark = donor.log_mark();
    joiner.start();
    joiner.wait_synced(JOIN);
    assert_eq!(donor.donations_since(mark), (1, 0), "one full copy");
    assert_same_data(donor, joiner);
    assert!(!joiner.datadir().join("old").exists(), "a dropped database came back");
    donor.assert_no_markers();
    joiner.assert_no_markers();
}
