//! The donor dies in the middle of a transfer.

use std::time::Instant;

use fastsst_tests::cluster::{Cluster, Method, WriteLoad, assert_same_data};

use super::{
    BROKEN_OFF_MIB, JOIN, NOTICE, SLOW_MIB_PER_SECOND, WRITABLE, assert_next_start_joins,
    assert_script_explained, slow_cluster, start_and_wait_for_transfer,
};

#[test]
fn when_the_donors_script_is_killed_both_servers_notice_and_the_next_start_joins() {
    let cluster = slow_cluster();
    let [donor, joiner] = cluster.nodes();
    let load = WriteLoad::on(donor);
    let mark = joiner.log_mark();
    start_and_wait_for_transfer(joiner, donor);
    let killed = Instant::now();
    donor.kill9_sst();
    load.wait_commit_after(killed, WRITABLE);
    assert!(!joiner.wait_exit(NOTICE).success(), "a node without state must not go on");
    joiner.wait_no_sst_script(NOTICE);
    donor.wait_no_sst_script(NOTICE);
    assert_script_explained(joiner, mark);
    donor.wait_synced(NOTICE);
    drop(load);
    assert_next_start_joins(&cluster, joiner, donor);
}

#[test]
fn when_the_donors_server_is_killed_the_joiner_ends_and_another_donor_serves_it() {
    let cluster = Cluster::builder().start(3);
    let [survivor, donor, joiner] = cluster.nodes();
    survivor.fill_mib(BROKEN_OFF_MIB);
    donor.start();
    donor.wait_synced(JOIN);
    cluster.throttle(Some(SLOW_MIB_PER_SECOND));
    joiner.set_option("mysqld", "wsrep_sst_donor", donor.name());
    let mark = joiner.log_mark();
    let load = WriteLoad::on(survivor);
    start_and_wait_for_transfer(joiner, donor);
    let killed = Instant::now();
    if Method::under_test() == Method::Rsync {
        // The stock script does not notice that its server is gone: it copies to the end.
        donor.kill9_sst();
    }
    donor.kill9();
    // Galera itself needs 3 s to expel the dead node before anybody can commit.
    load.wait_commit_after(killed, NOTICE);
    assert!(!joiner.wait_exit(NOTICE).success(), "a node without state must not go on");
    joiner.wait_no_sst_script(NOTICE);
    donor.wait_no_sst_script(NOTICE);
    assert_script_explained(joiner, mark);
    drop(load);
    joiner.remove_option("mysqld", "wsrep_sst_donor");
    assert_next_start_joins(&cluster, joiner, survivor);
    // The killed donor was frozen or copied from, never written to: it recovers by itself.
    assert!(donor.recovered_position().contains(':'));
    donor.start();
    donor.wait_synced(JOIN);
    assert_same_data(survivor, donor);
    donor.assert_no_markers();
}
