//! A copy of a running cluster into a directory, for which `garbd` finds a donor.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use fastsst_tests::cluster::{Cluster, Method, program};
use fastsst_tests::transfer::{Receive, Sandbox, TRANSFER};
use fastsst_tests::wait::run;

use super::{JOIN, NOTICE};

/// `garbd` joins, asks and leaves: its own patience with an address is 30 s.
const ASK: Duration = Duration::from_secs(60);

#[test]
fn garbd_gets_a_copy_that_starts_as_a_server_and_its_token_is_on_no_command_line() {
    if Method::under_test() != Method::Fastsst {
        return;
    }
    let cluster = Cluster::builder().start(2);
    let [donor, restored] = cluster.nodes();
    donor.fill_mib(8);
    let sums = donor.checksum_all_tables();
    let place = Sandbox::new();
    let (target, request) = (place.dir("copy"), place.path("garbd.cnf"));
    let receiving = Receive::into(&target).args(["--garbd"]).args([&request]).start();
    let token = receiving.token();
    let mode = fs::metadata(&request).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "readable by its owner only");

    let mark = donor.log_mark();
    let mut garbd = Command::new(program("garbd"));
    garbd
        .arg("--address")
        .arg(format!("gcomm://127.0.0.1:{}", donor.group_port()))
        .arg("--group")
        .arg(donor.sql_value("SELECT @@wsrep_cluster_name"))
        .arg("--donor")
        .arg(donor.name())
        .arg("--options")
        .arg(format!("gmcast.listen_addr=tcp://127.0.0.1:{}", restored.group_port()))
        .arg("--cfg")
        .arg(&request)
        .stdin(Stdio::null());
    assert!(!format!("{garbd:?}").contains(&token));
    let asked = run(&mut garbd, ASK);
    let ended = receiving.wait(TRANSFER);
    ended.assert_success();
    assert!(asked.status.success(), "{asked:?}");
    let log = donor.log_since(mark);
    assert_eq!(donor.donations_since(mark), (1, 0), "one full copy");
    assert!(!log.contains(&token), "the donor's log repeats the token:\n{log}");
    donor.wait_no_sst_script(NOTICE);
    donor.wait_synced(NOTICE);
    donor.assert_no_markers();

    restored.adopt_datadir(&target);
    donor.stop();
    restored.bootstrap();
    restored.wait_synced(JOIN);
    assert_eq!(sums, restored.checksum_all_tables(), "the copy differs");
}
