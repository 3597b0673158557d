//! Both transports are tried, and what the donor learns from that.

use std::net::TcpListener;

use super::*;

/// A joiner of which one transport is taken away, and how it is reached.
async fn reached(joiner: &Joiner) -> (Reached, Duration) {
    let acceptor = joiner.acceptor.clone();
    let serving = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok(incoming) = acceptor.accept().await {
            kept.push(tokio::spawn(incoming.complete(PATIENCE)));
        }
    });
    let started = Instant::now();
    let options = only(Transport::Auto);
    let dialled = soon(connect("127.0.0.1", joiner.port, joiner.identity.pin(), &options)).await;
    serving.abort();
    (dialled.unwrap(), started.elapsed())
}

#[tokio::test]
async fn when_both_get_through_tcp_carries_the_conversation() {
    let (reached, time) = reached(&Joiner::at("127.0.0.1", Transport::Auto)).await;
    assert_eq!(reached.connection.carrier(), Carrier::Tcp);
    assert!(reached.other_failed.is_none(), "{reached:?}");
    assert!(time < Duration::from_millis(500), "{time:?}");
}

#[tokio::test]
async fn when_udp_is_refused_tcp_is_there_at_once() {
    let (reached, time) = reached(&Joiner::at("127.0.0.1", Transport::Tcp)).await;
    assert_eq!(reached.connection.carrier(), Carrier::Tcp);
    let why = reached.other_failed.unwrap().to_string();
    assert!(why.contains("nothing listens there"), "{why}");
    assert!(time < Duration::from_secs(1), "{time:?}");
}

#[tokio::test]
async fn when_udp_is_blocked_tcp_is_there_after_two_seconds() {
    let joiner = Joiner::at("127.0.0.1", Transport::Tcp);
    let _black_hole = UdpSocket::bind(("127.0.0.1", joiner.port)).unwrap();
    let (reached, time) = reached(&joiner).await;
    assert_eq!(reached.connection.carrier(), Carrier::Tcp);
    assert!(reached.other_failed.is_some());
    assert!((1900..3000).contains(&time.as_millis()), "{time:?}");
}

#[tokio::test]
async fn when_tcp_is_refused_or_blocked_quic_carries_everything() {
    let joiner = Joiner::at("127.0.0.1", Transport::Quic);
    let (first, time) = reached(&joiner).await;
    assert_eq!(first.connection.carrier(), Carrier::Quic);
    assert!(first.other_failed.is_some());
    assert!(time < Duration::from_secs(1), "{time:?}");

    let _silent = TcpListener::bind(("127.0.0.1", joiner.port)).unwrap();
    let (second, time) = reached(&joiner).await;
    assert_eq!(second.connection.carrier(), Carrier::Quic);
    assert!(time < Duration::from_secs(1), "{time:?}");
}

#[tokio::test]
async fn a_wrong_key_is_said_whatever_else_happens() {
    let joiner = Joiner::at("127.0.0.1", Transport::Auto);
    let acceptor = joiner.acceptor.clone();
    let serving = tokio::spawn(async move {
        while let Ok(incoming) = acceptor.accept().await {
            tokio::spawn(incoming.complete(PATIENCE));
        }
    });
    let to = ("127.0.0.1", joiner.port);
    let error = dial(to, [7; 32], Transport::Auto).await.unwrap_err();
    assert_eq!(error.code(), Code::WrongKey, "{error}");
    serving.abort();
}

#[tokio::test]
async fn when_neither_answers_both_are_named() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = impatient(400, Transport::Auto);
    let error = soon(connect("127.0.0.1", port, [0; 32], &options)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unreachable);
    let words = error.to_string();
    assert!(words.contains("TCP: nothing listens") && words.contains("UDP: nothing"), "{words}");
}
