//! A node joins.

use fastsst_tests::cluster::{Cluster, WriteLoad, assert_same_data};

use super::JOIN;

#[test]
fn an_empty_node_joins_by_sst() {
    let cluster = Cluster::builder().start(2);
    let [donor, joiner] = cluster.nodes();
    donor.fill_mib(32);
    let mark = donor.log_mark();
    joiner.start();
    joiner.wait_synced(JOIN);
    assert_eq!(donor.donations_since(mark), (1, 0), "one full copy");
    assert!(assert_same_data(donor, joiner) > 10, "six tables of ours and some of the server's");
    donor.assert_no_markers();
    joiner.assert_no_markers();
}

#[test]
fn a_node_joins_while_the_donor_is_written_to() {
    let cluster = Cluster::builder().start(2);
    let [donor, joiner] = cluster.nodes();
    donor.fill_mib(64);
    let load = WriteLoad::on(donor);
    joiner.start();
    joiner.wait_synced(JOIN);
    let seen = load.stop();
    assert_eq!(seen.refused, 0, "a client may wait, but is never refused: {seen:?}");
    let rows = joiner.sql_value("SET wsrep_sync_wait = 15; SELECT COUNT(*) FROM written.t");
    let rows: u64 = rows.parse().expect("a number");
    assert!(rows >= seen.commits, "{rows} rows at the joiner, but {seen:?} at the donor");
    assert_same_data(donor, joiner);
    donor.assert_no_markers();
    joiner.assert_no_markers();
}

#[test]
fn three_ssts_in_a_row_succeed() {
    let cluster = Cluster::builder().start(2);
    let [donor, joiner] = cluster.nodes();
    donor.fill_mib(8);
    let mark = donor.log_mark();
    for attempt in 1..=3 {
        // Into an empty directory, into what a fresh package makes, and again.
        if attempt > 1 {
            joiner.stop();
            joiner.wipe_datadir();
            joiner.install_datadir();
        }
        donor.fill_mib(1);
        joiner.start();
        joiner.wait_synced(JOIN);
        assert_eq!(donor.donations_since(mark), (attempt, 0), "one full copy each");
        assert_same_data(donor, joiner);
        donor.assert_no_markers();
        joiner.assert_no_markers();
    }
}
