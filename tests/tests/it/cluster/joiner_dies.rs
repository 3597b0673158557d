//! The joiner dies in the middle of a transfer.

use std::time::Instant;

use fastsst_tests::cluster::{LogMark, Method, Node, WriteLoad};

use super::{
    NOTICE, assert_next_start_joins, assert_script_explained, slow_cluster,
    start_and_wait_for_transfer,
};

/// EPIPE: the exit code of a script whose peer vanished.
const PEER_GONE: i32 = 32;

/// ECONNABORTED: the exit code of a script whose peer said why it stops.
const PEER_STOPPED: i32 = 103;

#[test]
fn when_the_joiner_is_killed_the_donor_serves_writes_and_the_next_start_joins() {
    let cluster = slow_cluster();
    let [donor, joiner] = cluster.nodes();
    let load = WriteLoad::on(donor);
    let mark = donor.log_mark();
    start_and_wait_for_transfer(joiner, donor);
    let killed = Instant::now();
    joiner.kill9_sst();
    joiner.kill9();
    assert_donor_recovers(donor, &load, killed, (mark, PEER_GONE));
    drop(load);
    assert_next_start_joins(&cluster, joiner, donor);
}

#[test]
fn when_the_joiners_server_alone_is_killed_its_script_ends_too() {
    let cluster = slow_cluster();
    let [donor, joiner] = cluster.nodes();
    let load = WriteLoad::on(donor);
    let marks = (donor.log_mark(), joiner.log_mark());
    start_and_wait_for_transfer(joiner, donor);
    let killed = Instant::now();
    joiner.kill9();
    joiner.wait_no_sst_script(NOTICE);
    assert_script_explained(joiner, marks.1);
    assert_donor_recovers(donor, &load, killed, (marks.0, PEER_STOPPED));
    drop(load);
    assert_next_start_joins(&cluster, joiner, donor);
}

#[test]
fn when_the_joiners_script_alone_is_killed_its_server_ends_too() {
    let cluster = slow_cluster();
    let [donor, joiner] = cluster.nodes();
    let load = WriteLoad::on(donor);
    let mark = donor.log_mark();
    start_and_wait_for_transfer(joiner, donor);
    let killed = Instant::now();
    joiner.kill9_sst();
    assert!(!joiner.wait_exit(NOTICE).success(), "a node without state must not go on");
    assert_donor_recovers(donor, &load, killed, (mark, PEER_GONE));
    drop(load);
    assert_next_start_joins(&cluster, joiner, donor);
}

/// Within seconds the donor's script has ended and its server serves writes again.
fn assert_donor_recovers(
    donor: &Node,
    load: &WriteLoad,
    killed: Instant,
    (mark, exit): (LogMark, i32),
) {
    load.wait_commit_after(killed, NOTICE);
    donor.wait_no_sst_script(NOTICE);
    donor.wait_synced(NOTICE);
    if Method::under_test() == Method::Fastsst {
        assert_eq!(donor.failed_scripts_since(mark), [exit], "the donor's script's exit code");
        assert_script_explained(donor, mark);
    }
}
