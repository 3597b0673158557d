//! What operators' scripts, probes and resource agents look for while a node joins.

use std::fs::{self, File};

use fastsst_tests::cluster::{Method, ProcessId};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{JOIN, NOTICE, assert_next_start_joins, slow_cluster, start_and_wait_for_transfer};

/// What probes ask for: `pgrep wsrep_sst_`, which sees 15 characters of a name.
const COMM: &str = "wsrep_sst_fasts";

#[test]
fn probes_see_a_joining_node_and_a_killed_script_does_not_block_the_next_start() {
    if Method::under_test() != Method::Fastsst {
        return;
    }
    let cluster = slow_cluster();
    let [donor, joiner] = cluster.nodes();
    let (marker, lock) =
        (joiner.datadir().join("sst_in_progress"), joiner.datadir().join("wsrep_sst.pid"));
    assert!(!marker.exists());
    start_and_wait_for_transfer(joiner, donor);
    assert!(marker.is_file(), "operators take a node without it for a broken one");
    assert!(!donor.datadir().join("sst_in_progress").exists(), "the donor is no joiner");
    let script = one(&joiner.sst_pids());
    assert_eq!(proc(script, "comm").trim_end(), COMM);
    let words: Vec<_> = proc(script, "cmdline").split('\0').map(str::to_owned).collect();
    assert!(words[0].ends_with("wsrep_sst_fastsst"), "{words:?}");
    assert!(words.windows(2).any(|it| it == ["--role", "joiner"]), "{words:?}");
    let owner = fs::read_to_string(&lock).unwrap();
    assert_eq!(owner, format!("{}\n", script.pid), "as the stock scripts write it");
    let held = flock(File::open(&lock).unwrap(), FlockOperation::NonBlockingLockExclusive);
    assert_eq!(held, Err(Errno::WOULDBLOCK), "whoever asks the kernel knows that the owner lives");

    joiner.kill9_sst();
    assert!(!joiner.wait_exit(JOIN).success(), "a node without state must not go on");
    donor.wait_no_sst_script(NOTICE);
    donor.wait_synced(NOTICE);
    assert!(marker.is_file() && lock.is_file(), "nobody could remove them: what is tested below");
    // In a container the old number means somebody else, who lives.
    fs::write(&lock, format!("{}\n", std::process::id())).unwrap();
    assert_next_start_joins(&cluster, joiner, donor);
}

fn one(processes: &[ProcessId]) -> ProcessId {
    assert_eq!(processes.len(), 1, "{processes:?}");
    processes[0]
}

fn proc(process: ProcessId, file: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{file}", process.pid)).unwrap()
}
