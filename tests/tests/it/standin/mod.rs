//! The script's dialogue with every kind of server, played by a stand-in.

mod credentials;
mod dialogue;
mod dying;
mod names;
mod waiting;

use std::net::{TcpListener, UdpSocket};

use fastsst_tests::standin::{Donating, Joining, Server, Transfer};

/// An address with a port nobody has, neither for UDP nor for TCP.
fn free_address() -> String {
    for _ in 0..100 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address.to_string();
        }
    }
    panic!("no port is free");
}

/// A joiner that waits and a donor that has just been asked.
fn start<'a>(donor: &'a Server, joiner: &Server) -> (Donating<'a>, Joining) {
    let mut joining = joiner.join(&free_address());
    let request = joining.request();
    (donor.donate(&request, Transfer::Snapshot), joining)
}

/// A whole transfer that must succeed, and its result checked.
fn succeeds(donor: &Server, joiner: &Server) {
    let (donating, joining) = start(donor, joiner);
    let sent = donating.serve();
    let joined = joining.finish();
    assert!(joined.position.is_some(), "{joined:#?}\n{:#?}", sent.script);
    assert_eq!(sent.position, joined.position, "{:#?}", sent.script);
    assert_eq!((sent.script.code, joined.script.code), (Some(0), Some(0)));
    joiner.assert_has(&sent.files);
    joiner.assert_no_markers();
    donor.assert_no_markers();
}
