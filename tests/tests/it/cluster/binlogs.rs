//! Binary logs and GTIDs, with a node that replicates to others or from others.

use std::fs;
use std::path::Path;
use std::time::Duration;

use fastsst_tests::cluster::{Builder, Cluster, Node, assert_same_data};
use fastsst_tests::wait::{ASK, until_every};

use super::JOIN;

/// An ordinary server catches up with another.
const CATCH_UP: Duration = Duration::from_secs(60);

fn with_binlogs() -> Builder {
    Cluster::builder()
        .option("mysqld", "log_slave_updates", "ON")
        .node_option(0, "mysqld", "log_bin", "first-bin")
        .node_option(0, "mysqld", "server_id", "11")
        .node_option(1, "mysqld", "log_bin", "{node}/logs/second-bin")
        .node_option(1, "mysqld", "server_id", "12")
}

/// What a node's index lists, in its order, by name.
fn listed(node: &Node) -> Vec<String> {
    node.sql("SHOW BINARY LOGS").into_iter().map(|row| row[0].clone()).collect()
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// Joins once more by a whole transfer.
fn rejoin(joiner: &Node) {
    joiner.stop();
    fs::remove_file(joiner.datadir().join("grastate.dat")).unwrap();
    joiner.start();
    joiner.wait_synced(JOIN);
}

#[test]
fn as_many_binary_logs_go_along_as_asked_and_old_ones_go() {
    let cluster = with_binlogs().start(2);
    let [donor, joiner] = cluster.nodes();
    donor.sql("CREATE DATABASE d; FLUSH BINARY LOGS; CREATE TABLE d.t (a INT PRIMARY KEY)");
    donor.sql("FLUSH BINARY LOGS; INSERT INTO d.t VALUES (1)");
    joiner.start();
    joiner.wait_synced(JOIN);
    let logs = joiner.datadir().with_file_name("logs");
    // The donor's newest one, then the joiner's own.
    let newest = listed(donor).last().unwrap().clone();
    assert_eq!(listed(joiner), [newest, "second-bin.000001".to_owned()]);
    let state = "SELECT @@gtid_binlog_state";
    assert_eq!(donor.sql_value(state), joiner.sql_value(state));

    donor.set_option("sst", "sst-max-binlogs", "-1");
    rejoin(joiner);
    let mut all = listed(donor);
    all.push("second-bin.000001".to_owned());
    assert!(all.len() > 4, "{all:?}");
    assert_eq!(listed(joiner), all);
    let with_index = files(&logs);
    for name in &all {
        assert!(with_index.contains(name), "{name} of {with_index:?}");
    }

    donor.set_option("sst", "sst-max-binlogs", "0");
    rejoin(joiner);
    assert_eq!(listed(joiner), ["second-bin.000001"]);
    let left: Vec<_> = files(&logs).into_iter().filter(|name| name.starts_with("first")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_same_data(donor, joiner);
}

#[test]
fn the_domain_of_the_cluster_reaches_the_joiner() {
    let cluster = with_binlogs()
        .option("mysqld", "wsrep_gtid_mode", "ON")
        .node_option(0, "mysqld", "wsrep_gtid_domain_id", "7")
        .node_option(1, "mysqld", "wsrep_gtid_domain_id", "8")
        .start(2);
    let [donor, joiner] = cluster.nodes();
    donor
        .sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
    joiner.start();
    joiner.wait_synced(JOIN);
    assert_eq!(joiner.sql_value("SELECT @@wsrep_gtid_domain_id"), "7");
    joiner.sql("INSERT INTO d.t VALUES (2)");
    assert_same_data(donor, joiner);
    let position = "SELECT @@gtid_binlog_pos";
    assert!(joiner.sql_value(position).starts_with("7-"), "{}", joiner.sql_value(position));
    assert_eq!(donor.sql_value(position), joiner.sql_value(position));
}

/// A third node is an ordinary server here: it is no member of the cluster.
fn with_a_stranger(builder: Builder) -> Cluster {
    builder
        .node_option(2, "mysqld", "wsrep_on", "OFF")
        .node_option(2, "mysqld", "wsrep_cluster_address", "")
        .node_option(2, "mysqld", "server_id", "13")
        .node_option(2, "mysqld", "log_bin", "third-bin")
        .start(3)
}

fn start_alone(node: &Node) {
    node.install_datadir();
    node.start();
    until_every(ASK, "the server answers", CATCH_UP, || node.try_sql("SELECT 1").ok());
}

/// Makes `replica` follow `primary` by GTID.
fn follow(replica: &Node, primary: &Node) {
    replica.sql(&format!(
        "STOP SLAVE; CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='follows',
         MASTER_PASSWORD='follows', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1; START SLAVE",
        primary.client_port()
    ));
}

fn count(node: &Node) -> String {
    node.sql_value("SELECT COUNT(*) FROM d.t")
}

fn wait_for_rows(node: &Node, rows: &str) {
    until_every(ASK, "the rows arrive", CATCH_UP, || {
        let found = node.try_sql("SELECT COUNT(*) FROM d.t").ok()?;
        (found[0][0] == rows).then_some(())
    });
}

#[test]
fn a_replica_goes_on_from_a_node_that_has_joined() {
    let cluster = with_a_stranger(with_binlogs());
    let [donor, joiner, replica] = cluster.nodes();
    start_alone(replica);
    donor.sql("GRANT REPLICATION SLAVE ON *.* TO follows@'127.0.0.1' IDENTIFIED BY 'follows'");
    donor
        .sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
    follow(replica, donor);
    wait_for_rows(replica, "1");
    joiner.start();
    joiner.wait_synced(JOIN);
    donor.sql("INSERT INTO d.t VALUES (2)");
    wait_for_rows(replica, "2");
    // Now from the joiner, which has no log of what came before it joined, but its GTID state.
    follow(replica, joiner);
    joiner.sql("INSERT INTO d.t VALUES (3)");
    wait_for_rows(replica, "3");
}

#[test]
fn a_donor_that_follows_another_server_goes_on_and_the_joiner_does_not_follow() {
    let cluster = with_a_stranger(with_binlogs());
    let [donor, joiner, primary] = cluster.nodes();
    start_alone(primary);
    primary.sql("GRANT REPLICATION SLAVE ON *.* TO follows@'127.0.0.1' IDENTIFIED BY 'follows'");
    primary
        .sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
    follow(donor, primary);
    wait_for_rows(donor, "1");
    joiner.start();
    primary.sql("INSERT INTO d.t VALUES (2)");
    joiner.wait_synced(JOIN);
    primary.sql("INSERT INTO d.t VALUES (3)");
    wait_for_rows(donor, "3");
    wait_for_rows(joiner, "3");
    assert_eq!(count(joiner), count(donor));
    assert!(joiner.sql("SHOW ALL SLAVES STATUS").is_empty(), "it belongs to the donor");
    let inherited = files(&joiner.datadir());
    assert!(!inherited.iter().any(|name| name.contains("relay")), "{inherited:?}");
}
