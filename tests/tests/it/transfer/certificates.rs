//! Certificates by hand: the same as in a cluster, over either transport.

use fastsst_tests::pki::{Issued, Pki};
use fastsst_tests::transfer::{Receive, Sandbox, Send, Transfer, assert_same_tree};

use super::{NOTICE, small_source};

#[test]
fn ends_that_verify_each_other_transfer_a_tree() {
    let pki = Pki::default();
    let ca = pki.ca();
    let own = |names: &[&str]| pki.issue(names, 3000);
    for transport in ["quic", "tcp"] {
        let place = Sandbox::new();
        let (source, target) = small_source(&place);
        let (receiver, sender) = (own(&["127.0.0.1"]), own(&["sender.example"]));
        let options = |it: &Issued| {
            ["--tls-ca", &ca, "--tls-cert", &it.chain, "--tls-key", &it.key].map(str::to_owned)
        };
        let (receiver, sender) = (options(&receiver), options(&sender));
        let done = Transfer::new(&source, &target)
            .receive(receiver.each_ref().map(String::as_str))
            .receive(["--transport", transport])
            .send(sender.each_ref().map(String::as_str))
            .send(["--transport", transport, "--tls-verify", "identity", "--lanes", "3"])
            .run();
        assert_same_tree(&source, &target, &done);
        assert_eq!(done.sent["transport"], transport);
    }
}

#[test]
fn a_sender_without_a_certificate_is_told_that_one_is_demanded() {
    let pki = Pki::default();
    let Issued { chain, key } = pki.issue(&["127.0.0.1"], 3000);
    let place = Sandbox::new();
    let (source, target) = small_source(&place);
    let demands = ["--tls-ca", &pki.ca(), "--tls-cert", &chain, "--tls-key", &key];
    let receiving = Receive::into(&target).args(demands).start();
    let ended = Send::from(&source, &receiving.ticket).run(NOTICE);
    ended.assert_failed("E12", 13);
    receiving.running.wait_logged("E12", NOTICE);
    // It goes on waiting, for one that has a certificate.
    let own = pki.issue(&["sender.example"], 3000);
    let sender = Send::from(&source, &receiving.ticket);
    let sender = sender.args(["--tls-cert", &own.chain, "--tls-key", &own.key]);
    sender.run(NOTICE).assert_success();
    receiving.wait(NOTICE).assert_success();
}

#[test]
fn files_that_cannot_be_used_are_named_before_there_is_a_ticket() {
    let pki = Pki::default();
    let expired = pki.issue(&["127.0.0.1"], 2001);
    let place = Sandbox::new();
    let ended = Receive::into(&place.dir("target"))
        .args(["--tls-cert", &expired.chain, "--tls-key", &expired.key])
        .fail();
    ended.assert_failed("E01", 22);
    assert!(ended.stderr.contains("(--tls-cert) expired on"), "{ended}");
}
