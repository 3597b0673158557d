//! Peers that are not fastsst, or not this one.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use fastsst_proto::frame::{Hello, Welcome};
use fastsst_proto::{Features, Frame, Refusal, Secret};
use fastsst_tests::lookalike;
use fastsst_tests::stranger::{Joiner, as_donor};
use fastsst_tests::transfer::{Listing, Receive, Receiving, Sandbox, Send};

use super::{NOTICE, assert_untouched, small_source, used_target};

#[test]
fn noise_at_the_port_disturbs_nobody() {
    among_strangers(|receiving| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = ("127.0.0.1", receiving.port());
        for length in [0, 1, 20, 1200, 1452, 9000, 60_000] {
            for byte in [0x00, 0x40, 0xc0, 0xff] {
                socket.send_to(&vec![byte; length], target).unwrap();
            }
        }
        socket.send_to(b"GET / HTTP/1.1\r\n\r\n", target).unwrap();
        for byte in [0x00, 0x16, 0x80, 0xff] {
            let mut socket = TcpStream::connect(target).unwrap();
            // It may be turned away before it has said everything.
            drop(socket.write_all(&vec![byte; 60_000]));
        }
    });
}

#[test]
fn a_web_browser_is_turned_away() {
    among_strangers(|receiving| {
        let mut socket = TcpStream::connect(("127.0.0.1", receiving.port())).unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nHost: db\r\n\r\n").unwrap();
        // Turned away, not left waiting; a TLS alert may come first.
        drop(socket.read_to_end(&mut Vec::new()));
        receiving.running.wait_logged("E14", NOTICE);
    });
}

#[test]
fn silent_connections_in_every_place_do_not_keep_a_sender_out() {
    let mut strangers = Vec::new();
    among_strangers(|receiving| {
        for _ in 0..40 {
            strangers.push(TcpStream::connect(("127.0.0.1", receiving.port())).unwrap());
        }
    });
}

#[test]
fn whoever_only_looks_at_the_port_leaves_no_warning() {
    let receiver = among_strangers(|receiving| {
        drop(TcpStream::connect(("127.0.0.1", receiving.port())).unwrap());
    });
    assert!(!receiver.stderr.contains("turned away"), "{receiver}");
}

#[test]
fn a_tls_client_of_another_kind_is_turned_away() {
    among_strangers(|receiving| {
        let error = lookalike::knock_tcp(receiving.port());
        assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
        receiving.running.wait_logged("E14", NOTICE);
    });
}

#[test]
fn a_quic_client_of_another_kind_is_turned_away() {
    among_strangers(|receiving| {
        let error = lookalike::knock(receiving.port());
        // TLS alert 120: no application protocol in common (RFC 7301).
        assert!(error.to_string().contains("error 120"), "{error}");
        receiving.running.wait_logged("E14", NOTICE);
    });
}

#[test]
fn a_client_that_speaks_something_else_is_turned_away() {
    among_strangers(|receiving| {
        let refusal = as_donor(&receiving.ticket, async |mut donor| {
            donor.talk.say_bytes(b"GET / HTTP/1.1\r\nHost: db\r\n\r\n".to_vec()).await;
            donor.talk.hear_why().await
        });
        assert_eq!(refusal.code, 14, "{refusal}");
        receiving.running.wait_logged("E14", NOTICE);
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_first_word_is_forgotten() {
    among_strangers(|receiving| {
        as_donor(&receiving.ticket, async |mut donor| {
            donor.talk.say_bytes(vec![60, 0, 0]).await;
            donor.talk.stop_talking().await;
        });
        receiving.running.wait_logged("turned away", NOTICE);
    });
}

#[test]
fn a_sender_of_another_major_version_is_refused_with_both_versions() {
    among_strangers(|receiving| {
        let refusal = as_donor(&receiving.ticket, async |mut donor| {
            donor.say_hello(2).await;
            donor.talk.hear_why().await
        });
        assert_eq!(refusal.code, 15, "{refusal}");
        assert!(refusal.text.contains('1') && refusal.text.contains('2'), "{refusal}");
        receiving.running.wait_logged("E15", NOTICE);
    });
}

#[test]
fn a_first_frame_that_claims_to_be_huge_is_refused_by_its_header() {
    among_strangers(|receiving| {
        let refusal = as_donor(&receiving.ticket, async |mut donor| {
            donor.talk.say_bytes(vec![0xff, 0xff, 0xff, 0x7f, 0x01]).await;
            donor.talk.hear_why().await
        });
        assert_eq!(refusal.code, 24, "{refusal}");
    });
}

#[test]
fn nobody_at_the_address_is_unreachable() {
    let place = Sandbox::new();
    let (source, _) = small_source(&place);
    let unused = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for address in [format!("127.0.0.1:{unused}"), "no-such-host.invalid:4444".to_owned()] {
        let started = Instant::now();
        let sender = send_to(&source, &address);
        sender.assert_failed("E11", 113);
        let host = address.split(':').next().unwrap();
        assert!(sender.stderr.contains(host), "names it: {sender}");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}

#[test]
fn a_udp_service_that_answers_with_something_else_is_not_fastsst() {
    let place = Sandbox::new();
    let (source, _) = small_source(&place);
    let service = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = service.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        // Ends when the sender has given up: nobody sends any more, and this is a daemon thread.
        let mut datagram = [0; 2048];
        while let Ok((_, from)) = service.recv_from(&mut datagram) {
            drop(service.send_to(b"unknown command\r\n", from));
        }
    });
    send_to(&source, &address).assert_failed_one_of(&[("E11", 113), ("E14", 71)]);
}

#[test]
fn a_tcp_service_of_another_kind_is_not_fastsst() {
    let place = Sandbox::new();
    let (source, _) = small_source(&place);
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = service.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        // Ends with the test process; nobody comes any more when the sender has given up.
        for mut socket in service.incoming().map_while(Result::ok) {
            drop(socket.write_all(b"SSH-2.0-OpenSSH_9.9\r\n"));
        }
    });
    send_to(&source, &address).assert_failed("E14", 71);
}

#[test]
fn a_quic_server_of_another_kind_is_not_fastsst() {
    let place = Sandbox::new();
    let (source, _) = small_source(&place);
    let server = lookalike::Server::start();
    let sender = send_to(&source, &format!("127.0.0.1:{}", server.port));
    sender.assert_failed("E14", 71);
    assert!(sender.stderr.contains(&server.port.to_string()), "names it: {sender}");
}

#[test]
fn a_receiver_of_another_major_version_is_refused() {
    let answers: [fn(Hello) -> Frame; 2] = [
        |hello| {
            Frame::Welcome(Welcome {
                major: 2,
                features: Features(u64::MAX),
                proof: hello.proof,
                transfer: fastsst_proto::TransferId([7; 16]),
                software: "fastsst 9".to_owned(),
            })
        },
        |_| Frame::Refuse(Refusal { code: 15, text: "this end speaks protocol 2".to_owned() }),
    ];
    for answer in answers {
        let sender = send_to_joiner(async move |mut guest| {
            let hello = guest.hear_hello().await;
            guest.talk.say(&answer(hello)).await;
            guest.talk.hear_end().await;
        });
        sender.assert_failed("E15", 93);
        assert!(sender.stderr.contains('2'), "names the version: {sender}");
    }
}

#[test]
fn a_receiver_that_does_not_know_the_token_is_refused() {
    let sender = send_to_joiner(async |mut guest| {
        guest.hear_hello().await;
        let wrong = guest.welcome(&Secret::from_bytes([0; 16]));
        guest.talk.say(&wrong).await;
        guest.talk.hear_end().await;
    });
    sender.assert_failed("E13", 13);
}

#[test]
fn a_receiver_that_speaks_something_else_is_refused() {
    let sender = send_to_joiner(async |mut guest| {
        guest.hear_hello().await;
        guest.talk.say_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
        guest.talk.hear_end().await;
    });
    sender.assert_failed("E14", 71);
}

#[test]
fn a_receiver_that_breaks_the_rules_is_refused() {
    let cases: [(Vec<u8>, &str, i32); 4] = [
        // A frame that has no place here; one nobody knows; one cut short; one without an end.
        (frame(&Frame::Bye), "E16", 71),
        (vec![1, 0, 0, 0, 0x7e], "E16", 71),
        (vec![2, 0, 0, 0, 0x06, 1], "E16", 71),
        (vec![0xff, 0xff, 0xff, 0xff, 0x06], "E24", 7),
    ];
    for (bytes, code, exit) in cases {
        let sender = send_to_joiner(async move |mut guest| {
            guest.greet().await;
            guest.talk.say_bytes(bytes).await;
            guest.talk.hear_end().await;
        });
        sender.assert_failed(code, exit);
    }
}

#[test]
fn a_receiver_that_falls_silent_is_given_up() {
    let started = Instant::now();
    let sender = send_to_joiner(async |mut guest| {
        guest.greet().await;
        // Alive for QUIC, which answers by itself, but without a word.
        guest.talk.hear_end().await;
    });
    sender.assert_failed("E17", 32);
    assert!(started.elapsed() < NOTICE, "{:?}", started.elapsed());
}

/// Lets strangers come to a receiver, which afterwards serves its sender as if nothing had been.
fn among_strangers(come: impl FnOnce(&Receiving)) -> fastsst_tests::transfer::Ended {
    let place = Sandbox::new();
    let (source, _) = small_source(&place);
    let (target, before) = used_target(&place);
    let receiving = Receive::into(&target).args(["--replace"]).start();
    come(&receiving);
    assert_untouched(&target, &before);
    Send::from(&source, &receiving.ticket).run(NOTICE).assert_success();
    let receiver = receiving.wait(NOTICE);
    receiver.assert_success();
    Listing::of(&source).assert_eq(&Listing::of(&target), "source and target differ");
    receiver
}

/// Sends to whatever is at an address.
fn send_to(source: &std::path::Path, address: &str) -> fastsst_tests::transfer::Ended {
    let ticket = format!("fastsst://{address}/1/{}/{}", "5a".repeat(32), "c3".repeat(16));
    Send::from(source, &ticket).args(["--connect-timeout", "2"]).run(NOTICE)
}

/// Sends to a joiner made by hand.
fn send_to_joiner(
    act: impl AsyncFnOnce(fastsst_tests::stranger::Guest) + std::marker::Send + 'static,
) -> fastsst_tests::transfer::Ended {
    let place = Sandbox::new();
    let (source, _) = small_source(&place);
    let joiner = Joiner::start(act);
    let sender = Send::from(&source, &joiner.ticket).run(NOTICE);
    joiner.join();
    sender
}

fn frame(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    fastsst_proto::frame::encode(frame, &mut bytes);
    bytes
}
