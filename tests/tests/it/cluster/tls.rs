//! Certificates of the operator.

use std::fs;

use fastsst_tests::cluster::{Cluster, Method, Node, assert_same_data};
use fastsst_tests::pki::{Issued, Pki};

use super::{JOIN, assert_script_explained};

/// EACCES: the exit code of a script whose peer is not the one that is demanded.
const NOT_TRUSTED: i32 = 13;

/// EINVAL: the exit code of a script that is configured wrongly.
const CONFIGURATION: i32 = 22;

/// What the stock script would do with these files is not the subject.
fn ours() -> bool {
    Method::under_test() == Method::Fastsst
}

fn use_in_sst(node: &Node, pki: &Pki, issued: &Issued) {
    for (name, value) in [("tca", &pki.ca()), ("tcert", &issued.chain), ("tkey", &issued.key)] {
        node.set_option("sst", name, value);
    }
}

/// The state that a node's provider says it has.
fn state(node: &Node) -> String {
    let text = fs::read_to_string(node.datadir().join("grastate.dat")).unwrap();
    let uuid = text.lines().find_map(|line| line.strip_prefix("uuid:"));
    let uuid = uuid.expect("a line for the state").trim();
    assert!(uuid.contains(|c: char| ('1'..='f').contains(&c)), "no state: {text}");
    uuid.to_owned()
}

#[test]
fn nodes_whose_servers_have_certificates_verify_each_other() {
    if !ours() {
        return;
    }
    let pki = Pki::default();
    let Issued { chain, key } = pki.issue(&["db.example"], 3000);
    // The servers themselves use them for their clients.
    let cluster = Cluster::builder()
        .option("mysqld", "ssl_ca", &pki.ca())
        .option("mysqld", "ssl_cert", &chain)
        .option("mysqld", "ssl_key", &key)
        .start(2);
    let [donor, joiner] = cluster.nodes();
    donor.fill_mib(8);
    joiner.start();
    joiner.wait_synced(JOIN);
    assert_same_data(donor, joiner);
    let decided = format!(
        "TLS: VERIFY_CA (an authority is configured) with {} ([mysqld] ssl-ca), certificate {chain} \
         ([mysqld] ssl-cert)",
        pki.ca()
    );
    for node in [donor, joiner] {
        let log = node.error_log();
        assert!(log.contains(&decided), "{}: no {decided:?} in\n{log}", node.name());
    }

    // A position alone is handed over in the same way.
    joiner.stop();
    let mark = donor.log_mark();
    donor.fill_mib(1);
    joiner.start();
    joiner.wait_synced(JOIN);
    assert_eq!(donor.donations_since(mark), (0, 1), "only what it missed");
    assert_same_data(donor, joiner);
    let log = donor.log_since(mark);
    assert!(log.contains(&decided), "no {decided:?} in\n{log}");
}

#[test]
fn a_joiner_is_known_by_the_address_in_its_certificate() {
    if !ours() {
        return;
    }
    let pki = Pki::default();
    let cluster = Cluster::builder().option("sst", "ssl-mode", "VERIFY_IDENTITY").start(2);
    let [donor, joiner] = cluster.nodes();
    donor.fill_mib(8);
    // Nobody looks for a donor's name.
    use_in_sst(donor, &pki, &pki.issue(&["donor.example"], 3000));
    use_in_sst(joiner, &pki, &pki.issue(&["other.example"], 3000));
    let marks = (donor.log_mark(), joiner.log_mark());
    joiner.start();
    assert!(!joiner.wait_exit(JOIN).success(), "a node without state must not go on");
    assert_eq!(donor.failed_scripts_since(marks.0), [NOT_TRUSTED], "the donor's exit code");
    let log = donor.log_since(marks.0);
    assert!(log.contains("E12") && log.contains("other.example"), "no name in\n{log}");
    let log = joiner.log_since(marks.1);
    assert!(log.contains("E12") && log.contains("refuses the certificate"), "nothing in\n{log}");

    use_in_sst(joiner, &pki, &pki.issue(&["127.0.0.1"], 3000));
    joiner.start();
    joiner.wait_synced(JOIN);
    assert_same_data(donor, joiner);
    let log = donor.error_log();
    assert!(log.contains("TLS: VERIFY_IDENTITY ([sst] ssl-mode=VERIFY_IDENTITY)"), "{log}");
}

#[test]
fn an_expired_certificate_is_found_before_anything_has_happened() {
    if !ours() {
        return;
    }
    let pki = Pki::default();
    let cluster = Cluster::builder().start(2);
    let [donor, joiner] = cluster.nodes();
    donor.fill_mib(8);
    joiner.start();
    joiner.wait_synced(JOIN);
    joiner.stop();
    let before = state(joiner);
    let position = joiner.recovered_position();

    use_in_sst(joiner, &pki, &pki.issue(&["127.0.0.1"], 2001));
    let marks = (donor.log_mark(), joiner.log_mark());
    donor.fill_mib(1);
    joiner.start();
    assert!(!joiner.wait_exit(JOIN).success(), "it must not join without what is configured");
    assert_eq!(joiner.failed_scripts_since(marks.1), [CONFIGURATION]);
    assert_script_explained(joiner, marks.1);
    let log = joiner.log_since(marks.1);
    assert!(log.contains("([sst] tcert) expired on"), "no option and date in\n{log}");
    assert_eq!(donor.donations_since(marks.0), (0, 0), "nobody was asked");
    // A provider that runs writes seqno -1 by itself; only `ready` would make it forget the state.
    assert_eq!(state(joiner), before, "the node forgot which state it has");
    assert_eq!(joiner.recovered_position(), position, "the node forgot its position");
    joiner.assert_no_markers();

    // With a good one it joins.
    use_in_sst(joiner, &pki, &pki.issue(&["127.0.0.1"], 3000));
    use_in_sst(donor, &pki, &pki.issue(&["127.0.0.2"], 3000));
    joiner.start();
    joiner.wait_synced(JOIN);
    assert_same_data(donor, joiner);
}
