//! A joiner is killed in the middle of its SST: the next start sends what is missing.

use std::fs;

use fastsst_tests::cluster::{Cluster, Figures, Method, Node, assert_same_data};
use fastsst_tests::transfer::{wait_written, written};
use fastsst_tests::wait::until;

use super::{BROKEN_OFF_MIB, JOIN, NOTICE};

/// What the joiner has written when it is killed. Unit: bytes.
const WRITTEN_BYTES: u64 = 24 << 20;

/// Rows that the donor gets while a joiner with old data is away. Unit: MiB.
const DIFFERENT_MIB: u64 = 4;

/// The throttle that keeps it busy until then. Unit: MiB per second.
const SLOW_MIB_PER_SECOND: u32 = 8;

/// What is under way when it is killed, and what the donor's server writes meanwhile. Unit: MiB.
const SLACK_MIB: f64 = 6.0;

#[test]
fn a_joiner_killed_in_the_middle_of_its_sst_rejoins_by_resuming() {
    if Method::under_test() != Method::Fastsst {
        // The stock method begins anew, or not at all.
        return;
    }
    let cluster = Cluster::builder().option("sst", "compress", "none").start(2);
    let [donor, joiner] = cluster.nodes();
    donor.fill_mib(BROKEN_OFF_MIB);
    let whole = join(donor, joiner);

    joiner.stop();
    joiner.wipe_datadir();
    cluster.throttle(Some(SLOW_MIB_PER_SECOND));
    let written = start_and_kill(donor, joiner);
    cluster.throttle(None);
    let rest = join(donor, joiner);
    let most = whole.wire_mib - fastsst_mover::summary::mib(written) + SLACK_MIB;
    assert!(rest.wire_mib <= most, "at most {most} MiB: {rest:?} after {written} of {whole:?}");
}

#[test]
fn a_joiner_with_old_data_that_is_killed_in_the_middle_still_gets_only_what_differs() {
    if Method::under_test() != Method::Fastsst {
        return;
    }
    let cluster = Cluster::builder().option("sst", "compress", "none").start(2);
    let [donor, joiner] = cluster.nodes();
    donor.fill_mib(BROKEN_OFF_MIB);
    let whole = join(donor, joiner);

    joiner.stop();
    fs::remove_file(joiner.datadir().join("grastate.dat")).unwrap();
    donor.fill_mib(DIFFERENT_MIB);
    // Slow enough to be killed, even if only what differs is limited.
    cluster.throttle(Some(1));
    let _written = start_and_kill(donor, joiner);
    cluster.throttle(None);
    let rest = join(donor, joiner);
    assert!(rest.wire_mib < whole.wire_mib / 2.0, "{rest:?} after {whole:?}");
}

/// Kills a joiner, its server and its script, in the middle of its SST; returns how much of the new
/// tree was there.
fn start_and_kill(donor: &Node, joiner: &Node) -> u64 {
    joiner.start();
    wait_for_script(joiner);
    wait_written(&joiner.datadir(), WRITTEN_BYTES);
    joiner.kill9_sst();
    joiner.kill9();
    donor.wait_no_sst_script(NOTICE);
    donor.wait_synced(NOTICE);
    assert!(joiner.recovered_position().contains(':'), "units look for a position before a start");
    written(&joiner.datadir())
}

/// The SST has begun, so that from now on its progress can be awaited with a short limit.
fn wait_for_script(joiner: &Node) {
    until("the joiner's script runs", JOIN, || (!joiner.sst_pids().is_empty()).then_some(()));
}

fn join(donor: &Node, joiner: &Node) -> Figures {
    let mark = donor.log_mark();
    joiner.start();
    joiner.wait_synced(JOIN);
    assert_eq!(donor.donations_since(mark), (1, 0), "one full transfer");
    assert_same_data(donor, joiner);
    donor.assert_no_markers();
    joiner.assert_no_markers();
    donor.sent_since(mark)
}
