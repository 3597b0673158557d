//! What an operator reads in the two error logs.

use fastsst_tests::cluster::{Cluster, Method};

use super::JOIN;

/// Lines of the program in one log; more than that is noise.
const LINES_MAX: usize = 25;

/// Fails unless the log is short and tells these things in this order.
fn assert_tells(log: &str, parts: &[&str]) {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("WSREP_SST: [")).collect();
    assert!(lines.len() <= LINES_MAX, "{} lines:\n{}", lines.len(), lines.join("\n"));
    let mut rest = lines.iter();
    for part in parts {
        let found = rest.any(|line| line.contains(part));
        assert!(found, "{part:?} is missing, or out of order:\n{}", lines.join("\n"));
    }
}

#[test]
fn both_error_logs_of_an_sst_read_like_a_story() {
    let cluster = Cluster::builder().start(2);
    let [donor, joiner] = cluster.nodes();
    donor.fill_mib(96);
    // Slow enough for a line about the progress.
    cluster.throttle(Some(7));
    let (donors, joiners) = (donor.log_mark(), joiner.log_mark());
    joiner.start();
    joiner.wait_synced(JOIN);
    if Method::under_test() != Method::Fastsst {
        return;
    }
    // Both servers are of this machine, and their programs say which.
    let version = ", this node MariaDB 1";
    assert_tells(
        &joiner.log_since(joiners),
        &[
            "this node joins: it waits at",
            "has proven itself",
            version,
            "the donor sends a full copy, about",
            "joiner copy: ",
            "received ",
            "fastsst SST completed on joiner: the server goes on from",
        ],
    );
    assert_tells(
        &donor.log_since(donors),
        &[
            "this node is the donor of",
            "asking the server to flush and lock its tables",
            "writes are stopped at",
            "lanes over ",
            "donor copy: ",
            "writes may go on; they were stopped for",
            "sent ",
            "fastsst SST completed on donor: the joiner has everything, safe on its disks, as of",
        ],
    );
}
