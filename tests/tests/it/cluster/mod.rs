//! Real servers: what Galera and a DBA see when the SST method works, and when it is broken off.
//!
//! All tests run with the method under test; `FASTSST_TEST_METHOD=rsync` runs them with the
//! stock one, to tell a broken test from a broken method. What only ours promises is asserted
//! only for ours.

mod binlogs;
mod donor_dies;
mod elsewhere;
mod equipment;
mod garbd;
mod ist;
mod join;
mod joiner_dies;
mod layouts;
mod probes;
mod rejoin;
mod rejoin_delta;
mod resume;
mod story;
mod tls;

use std::time::Duration;

use fastsst_tests::cluster::{Cluster, LogMark, Method, Node, assert_same_data};
use fastsst_tests::wait::until;

/// A node joins: seconds in practice; the limit is for a machine that compiles beside it.
const JOIN: Duration = Duration::from_secs(90);

/// One side notices that the other died: the protocol's silence limit is 8 s, Galera's 3 s.
const NOTICE: Duration = Duration::from_secs(20);

/// The donor serves writes again after a transfer broke: "at once", seen by a client.
const WRITABLE: Duration = Duration::from_secs(5);

/// MiB of rows where a transfer is broken off, and the throttle that keeps it busy meanwhile.
const BROKEN_OFF_MIB: u64 = 40;
const SLOW_MIB_PER_SECOND: u32 = 3;

/// A cluster whose only member has data, and a second node whose transfer will be slow.
fn slow_cluster() -> Cluster {
    let cluster = Cluster::builder().start(2);
    let [donor, _] = cluster.nodes();
    donor.fill_mib(BROKEN_OFF_MIB);
    cluster.throttle(Some(SLOW_MIB_PER_SECOND));
    cluster
}

/// Starts a node and returns when its SST has begun to fill the datadir.
fn start_and_wait_for_transfer(joiner: &Node, donor: &Node) {
    let before = joiner.datadir_bytes();
    joiner.start();
    until("the transfer is under way", JOIN, || {
        let some = joiner.datadir_bytes() >= before + 2 * 1024 * 1024;
        (some && !donor.sst_pids().is_empty() && !joiner.sst_pids().is_empty()).then_some(())
    });
}

/// After a broken transfer: an ordinary start joins, with everything, and cleans up.
fn assert_next_start_joins(cluster: &Cluster, joiner: &Node, donor: &Node) {
    cluster.throttle(None);
    if Method::under_test() == Method::Fastsst {
        // Units run this before every start, and a datadir that fails it needs a human. A broken
        // rsync leaves such a datadir: some InnoDB files, but not the redo log.
        assert!(joiner.recovered_position().contains(':'));
    }
    let mark = donor.log_mark();
    joiner.start();
    joiner.wait_synced(JOIN);
    assert_eq!(donor.donations_since(mark), (1, 0), "one full copy");
    assert_same_data(donor, joiner);
    donor.assert_no_markers();
    joiner.assert_no_markers();
}

/// Our scripts say in the error log what went wrong, with an error code.
fn assert_script_explained(node: &Node, mark: LogMark) {
    if Method::under_test() == Method::Fastsst {
        let log = node.log_since(mark);
        let explained =
            log.lines().any(|it| it.contains("WSREP_SST: [ERROR]") && it.contains(" E"));
        assert!(explained, "{}: no error with a code in\n{log}", node.name());
    }
}
