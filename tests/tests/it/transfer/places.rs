//! Directories and addresses that a receiver cannot use: refused before it prints a ticket.

use std::fs::{self, Permissions};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};

use fastsst_tests::transfer::{Listing, Receive, Sandbox, Transfer, assert_same_tree};

use super::{assert_untouched, small_source, used_target};

#[test]
fn a_target_that_is_not_empty_is_refused() {
    let place = Sandbox::new();
    let (target, before) = used_target(&place);
    let refused = Receive::into(&target).fail();
    refused.assert_failed("E04", 39);
    assert!(refused.stderr.contains("--replace"), "says what to do: {refused}");
    assert_eq!(refused.stdout, "", "no ticket");
    assert_untouched(&target, &before);
    assert!(!target.join(".fastsst").exists(), "nothing at all was made");
}

#[test]
fn a_hidden_file_makes_a_target_not_empty() {
    let place = Sandbox::new();
    let target = place.dir("target");
    fs::write(target.join(".hidden"), "").unwrap();
    Receive::into(&target).fail().assert_failed("E04", 39);
}

#[test]
fn a_target_is_replaced_when_that_is_asked_for() {
    let place = Sandbox::new();
    let (target, _) = used_target(&place);
    fs::create_dir(target.join("closed")).unwrap();
    fs::write(target.join("closed/file"), "content").unwrap();
    fs::set_permissions(target.join("closed"), Permissions::from_mode(0o500)).unwrap();
    symlink(place.dir("outside"), target.join("link")).unwrap();
    fs::write(place.path("outside/file"), "content").unwrap();
    let source = place.dir("source");
    fs::write(source.join("precious"), "other data").unwrap();
    let done = Transfer::new(&source, &target).receive(["--replace"]).run();
    assert_same_tree(&source, &target, &done);
    assert!(!target.join(".fastsst").exists(), "nothing of ours is left");
    assert_eq!(fs::read(place.path("outside/file")).unwrap(), b"content", "links lead nowhere");
}

#[test]
fn a_receiver_that_nobody_came_to_leaves_the_target_alone() {
    let place = Sandbox::new();
    let (target, before) = used_target(&place);
    let receiving = Receive::into(&target).args(["--replace", "--initial-timeout", "1"]);
    let ended = receiving.fail();
    ended.assert_failed("E31", 110);
    assert!(ended.stderr.contains("UDP or TCP port"), "says where to look: {ended}");
    assert_untouched(&target, &before);
}

#[test]
fn a_target_that_cannot_be_written_is_refused() {
    let place = Sandbox::new();
    let (target, _) = used_target(&place);
    fs::set_permissions(&target, Permissions::from_mode(0o555)).unwrap();
    let before = Listing::of(&target);
    let refused = Receive::into(&target).args(["--replace"]).as_nobody(&place).fail();
    refused.assert_failed("E03", 13);
    assert!(refused.stderr.contains(&target.display().to_string()), "names it: {refused}");
    assert!(refused.stderr.contains("Permission denied"), "says why: {refused}");
    assert_untouched(&target, &before);
}

#[test]
fn a_target_that_is_missing_or_no_directory_is_refused() {
    let place = Sandbox::new();
    fs::write(place.path("file"), "content").unwrap();
    for name in ["missing", "file"] {
        for arguments in [&[][..], &["--replace"]] {
            let refused = Receive::into(&place.path(name)).args(arguments).fail();
            refused.assert_failed_one_of(&[("E03", 13), ("E02", 2)]);
            let named = place.path(name).display().to_string();
            assert!(refused.stderr.contains(&named), "names it: {refused}");
        }
    }
    assert!(!place.path("missing").exists());
    assert_eq!(fs::read(place.path("file")).unwrap(), b"content");
}

#[test]
fn a_target_that_another_receiver_works_on_is_refused() {
    let place = Sandbox::new();
    let (source, target) = small_source(&place);
    let first = Receive::into(&target).start();
    let refused = Receive::into(&target).fail();
    refused.assert_failed("E05", 114);
    let sender = fastsst_tests::transfer::Send::from(&source, &first.ticket);
    sender.run(super::NOTICE).assert_success();
    first.wait(super::NOTICE).assert_success();
}

#[test]
fn a_port_in_use_is_refused() {
    let place = Sandbox::new();
    let target = place.dir("target");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = [("UDP", udp.local_addr().unwrap()), ("TCP", tcp.local_addr().unwrap())];
    for (protocol, address) in taken {
        let refused = Receive::into(&target).args(["--listen", &address.to_string()]).fail();
        refused.assert_failed("E06", 16);
        let named = format!("{protocol} port {}", address.port());
        assert!(refused.stderr.contains(&named), "names it: {refused}");
        assert!(!target.join(".fastsst").exists(), "nothing was touched");
    }
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let place = Sandbox::new();
    // TEST-NET-1 (RFC 5737) belongs to nobody.
    let refused = Receive::into(&place.dir("target")).args(["--listen", "192.0.2.1:0"]).fail();
    refused.assert_failed("E06", 16);
    assert!(refused.stderr.contains("192.0.2.1"), "names it: {refused}");
}
