//! What only TCP has.

use std::net::TcpListener;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;
use crate::net::tls::PinnedClient;

#[tokio::test]
async fn an_end_without_tls_having_ended_is_a_cut() {
    let joiner = Joiner::at("127.0.0.1", Transport::Tcp);
    let (donor, mut accepted) = joiner.pair().await;
    // As the kernel closes the sockets of a process that was killed.
    drop(donor);
    let error = soon(accepted.reader.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.code(), Code::PeerGone);
    assert!(error.to_string().contains("cut off"), "{error}");

    let (mut donor, mut accepted) = joiner.pair().await;
    donor.writer.finish().await.unwrap();
    assert_eq!(soon(accepted.reader.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn last_words_arrive_although_the_peer_was_talking() {
    let joiner = Joiner::at("127.0.0.1", Transport::Tcp);
    for _ in 0..20 {
        let (mut donor, mut accepted) = joiner.pair().await;
        // Nobody at the joiner reads this: closing now would take back what was said last.
        donor.writer.write_all(&mut [Bytes::from(vec![1; 100_000])]).await.unwrap();
        accepted.writer.write_all(&mut [Bytes::from_static(b"farewell")]).await.unwrap();
        accepted.writer.finish().await.unwrap();
        let leaving = tokio::spawn(async move {
            accepted.link.shutdown(7, "").await;
            drop(accepted);
        });
        let mut words = [0; 8];
        soon(donor.reader.read_exact(&mut words)).await.unwrap();
        assert_eq!(&words, b"farewell");
        drop(donor);
        soon(leaving).await.unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_stops_and_never_ends_is_not_waited_for() {
    let joiner = Joiner::at("127.0.0.1", Transport::Tcp);
    let (donor, accepted) = joiner.pair().await;
    let started = Instant::now();
    accepted.link.shutdown(0, "").await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    drop(donor);
}

#[tokio::test]
async fn a_connection_goes_to_another_thread() {
    let joiner = Joiner::at("127.0.0.1", Transport::Tcp);
    let (mut donor, accepted) = joiner.pair().await;
    assert!(accepted.link.can_move());
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            accepted.link.move_here().unwrap();
            let Connection { mut reader, mut writer, .. } = accepted;
            let mut data = vec![0; 4 * MIB];
            soon(reader.read_exact(&mut data)).await.unwrap();
            writer.write_all(&mut [Bytes::from(data)]).await.unwrap();
            writer.finish().await.unwrap();
        });
    });
    let sent = Bytes::from((0..4 * MIB).map(|at| at.to_le_bytes()[1]).collect::<Vec<u8>>());
    let (mut back, mut pieces) = (vec![0; 4 * MIB], [sent.clone()]);
    let (writing, reading) = soon(async {
        tokio::join!(donor.writer.write_all(&mut pieces), donor.reader.read_exact(&mut back))
    })
    .await;
    writing.unwrap();
    reading.unwrap();
    assert_eq!(back, sent);
    tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_lane_notices_a_joiner_that_is_silent() {
    let joiner = Joiner::at("127.0.0.1", Transport::Tcp);
    let accepting = joiner.accept_one();
    let options = NetOptions { silence: Duration::from_millis(300), ..only(Transport::Tcp) };
    let target = (Ipv4Addr::LOCALHOST, joiner.port).into();
    let port = LanePort::bind(target, Carrier::Tcp, &options).unwrap();
    assert_eq!(port.source_port(), 0);
    let mut lane = soon(port.connect(joiner.identity.pin())).await.unwrap();
    let accepted = soon(accepting).await.unwrap().unwrap();
    let started = Instant::now();
    let error = soon(lane.reader.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.code(), Code::PeerGone, "{error}");
    assert!((250..2000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    drop(accepted);
}

#[tokio::test]
async fn another_application_is_turned_away_and_so_is_one_without_a_name() {
    let joiner = Joiner::at("127.0.0.1", Transport::Tcp);
    for protocols in [vec![b"h2".to_vec()], Vec::new()] {
        let accepting = joiner.accept_one();
        let mut config = PinnedClient::new(joiner.identity.pin(), &Tls::default()).unwrap().config;
        config.alpn_protocols = protocols;
        let socket = TcpStream::connect(("127.0.0.1", joiner.port)).await.unwrap();
        let name = "fastsst".try_into().unwrap();
        let shaking = TlsConnector::from(std::sync::Arc::new(config)).connect(name, socket).await;
        if let Ok(mut stream) = shaking {
            // TLS 1.3 lets the client finish first; what it hears then is the end.
            assert!(!matches!(stream.read(&mut [0; 1]).await, Ok(1..)));
        }
        assert_eq!(soon(accepting).await.unwrap().unwrap_err().code(), Code::NotFastsst);
    }
    joiner.pair().await;
}

#[tokio::test]
async fn a_handshake_that_was_damaged_on_the_way_is_tried_again() {
    let joiner = Joiner::at("127.0.0.1", Transport::Tcp);
    let pin = joiner.identity.pin();
    // A bit of what the joiner proves; a bit of what says that it is TLS.
    for (place, is_lane) in [(usize::MAX, false), (usize::MAX, true), (0, true)] {
        let target = damaging_once(joiner.port, place).await;
        let turned_away = joiner.accept_one();
        let connected = if is_lane {
            let lane = LanePort::bind(target, Carrier::Tcp, &only(Transport::Tcp)).unwrap();
            tokio::spawn(lane.connect(pin))
        } else {
            let port = target.port();
            tokio::spawn(async move { dial(("127.0.0.1", port), pin, Transport::Tcp).await })
        };
        assert!(soon(turned_away).await.unwrap().is_err(), "the first attempt");
        let accepting = joiner.accept_one();
        let mut donor = soon(connected).await.unwrap().unwrap();
        hello(&mut donor).await;
        heard(&mut soon(accepting).await.unwrap().unwrap()).await;
    }
}

/// A way to a port that changes one byte of the joiner's first words on the first connection.
async fn damaging_once(port: u16, place: usize) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for damages in [true, false] {
            let (mut donor, _) = listener.accept().await.unwrap();
            let mut joiner = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let mut words = vec![0; 16 << 10];
            let length = donor.read(&mut words).await.unwrap();
            joiner.write_all(&words[..length]).await.unwrap();
            let length = joiner.read(&mut words).await.unwrap();
            words[place.min(length - 1)] ^= u8::from(damages);
            donor.write_all(&words[..length]).await.unwrap();
            // Both may end it as they like.
            drop(tokio::io::copy_bidirectional(&mut donor, &mut joiner).await);
        }
    });
    address
}

#[tokio::test]
async fn services_of_other_kinds_are_not_fastsst() {
    let answers: [&[u8]; 2] =
        [b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", b"SSH-2.0-OpenSSH_9.9\r\n"];
    for answer in answers {
        let service = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = service.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            let (mut socket, _) = service.accept().await.unwrap();
            socket.write_all(answer).await.unwrap();
            socket.read_to_end(&mut Vec::new()).await
        });
        let error = dial(("127.0.0.1", port), [0; 32], Transport::Tcp).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFastsst, "{error}");
        serving.abort();
    }
}

#[tokio::test]
async fn nobody_there_and_nobody_who_answers_are_unreachable() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = taken.local_addr().unwrap().port();
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (port, why) in [(unused, "nothing listens there"), (silent, "no answer")] {
        let options = impatient(400, Transport::Tcp);
        let error = soon(connect("127.0.0.1", port, [0; 32], &options)).await.unwrap_err();
        assert_eq!(error.code(), Code::Unreachable, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(error.to_string().contains("TCP port"), "{error}");
    }
}

#[tokio::test]
async fn silent_strangers_do_not_keep_a_donor_out() {
    let joiner = Joiner::at("127.0.0.1", Transport::Auto);
    let acceptor = joiner.acceptor.clone();
    let (completed, donors) = flume::bounded(4);
    let serving = tokio::spawn(async move {
        while let Ok(incoming) = acceptor.accept().await {
            let completed = completed.clone();
            tokio::spawn(async move {
                let evicted = incoming.evicted();
                let connected = tokio::select! {
                    connected = incoming.complete(Duration::from_secs(20)) => connected,
                    () = evicted => return,
                };
                if let Ok(connection) = connected {
                    completed.send_async(connection).await.unwrap();
                }
            });
        }
    });
    let mut strangers = Vec::new();
    for _ in 0..40 {
        strangers.push(TcpStream::connect(("127.0.0.1", joiner.port)).await.unwrap());
    }
    for transport in [Transport::Tcp, Transport::Quic] {
        let to = ("127.0.0.1", joiner.port);
        let mut donor = dial(to, joiner.identity.pin(), transport).await.unwrap();
        hello(&mut donor).await;
        heard(&mut soon(donors.recv_async()).await.unwrap()).await;
    }
    serving.abort();
}

#[test]
fn one_port_number_serves_both_and_is_refused_when_either_is_taken() {
    let identity = Identity::generate().unwrap();
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let both = Listener::bind(any, &identity, &only(Transport::Auto)).unwrap();
    let at = both.local_addr();
    for (transport, protocol) in [(Transport::Quic, "UDP"), (Transport::Tcp, "TCP")] {
        let error = Listener::bind(at, &identity, &only(transport)).unwrap_err();
        assert_eq!(error.code(), Code::Address, "{error}");
        assert!(error.to_string().contains(protocol), "{error}");
    }
    drop(both);
    let quic = Listener::bind(at, &identity, &only(Transport::Quic)).unwrap();
    let tcp = Listener::bind(at, &identity, &only(Transport::Tcp)).unwrap();
    assert_eq!((quic.local_addr(), tcp.local_addr()), (at, at));
}
