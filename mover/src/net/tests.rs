//! Both ends in one process, over loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastsst_proto::frame::{Frame, Hello, ty};
use fastsst_proto::types::{ChunkIndex, ChunkRef, FileId, Generation, LaneId};
use fastsst_proto::version::Features;
use fastsst_proto::{ChunkHash, Scope};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::error::{Code, Error, Result};
use crate::options::Transport;

const PATIENCE: Duration = Duration::from_secs(10);
const MIB: usize = 1 << 20;

/// Tests that hold whatever carries the connection.
macro_rules! over_each_transport {
    ($($test:ident),* $(,)?) => {
        mod over_quic {
            $(#[tokio::test] async fn $test() { super::$test(super::Transport::Quic).await; })*
        }
        mod over_tcp {
            $(#[tokio::test] async fn $test() { super::$test(super::Transport::Tcp).await; })*
        }
    };
}

over_each_transport! {
    both_ends_export_the_same_secret_and_each_connection_another,
    a_wildcard_listener_serves_both_families,
    another_key_is_refused_at_once,
    a_joiner_that_comes_a_little_later_is_found,
    frames_survive_the_wire_and_cancelled_reads,
    too_large_frames_are_refused_by_their_header_alone,
    an_end_in_the_middle_of_a_frame_is_not_a_clean_end,
    a_killed_peer_is_noticed_within_a_second_while_data_flows,
    a_killed_peer_is_noticed_by_an_idle_connection,
    a_quarter_of_a_gigabyte_arrives_intact,
}

/// Fails a test that hangs.
async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(60), future).await.expect("takes too long")
}

/// A joiner on a free loopback port.
struct Joiner {
    transport: Transport,
    identity: Identity,
    acceptor: Acceptor,
    port: u16,
}

impl Joiner {
    fn at(host: &str, transport: Transport) -> Self {
        let identity = Identity::generate().unwrap();
        let address = format!("{host}:0").parse().unwrap();
        let listener = Listener::bind(address, &identity, &only(transport)).unwrap();
        let port = listener.local_addr().port();
        Self { transport, identity, acceptor: listener.start().unwrap(), port }
    }

    /// A donor that has connected and said nothing.
    async fn dial(&self) -> Connection {
        dial(("127.0.0.1", self.port), self.identity.pin(), self.transport).await.unwrap()
    }

    /// Serves one connection in the background.
    fn accept_one(&self) -> JoinHandle<Result<Connection>> {
        let acceptor = self.acceptor.clone();
        tokio::spawn(async move { acceptor.accept().await?.complete(PATIENCE).await })
    }

    /// Both ends of a connection; the donor has written `first`.
    async fn pair(&self) -> (Connection, Connection) {
        let accepting = self.accept_one();
        let mut donor = self.dial().await;
        hello(&mut donor).await;
        let mut joiner = soon(accepting).await.unwrap().unwrap();
        heard(&mut joiner).await;
        joiner.reader.peer_is_proven();
        (donor, joiner)
    }
}

async fn dial((host, port): (&str, u16), pin: Pin, transport: Transport) -> Result<Connection> {
    soon(connect(host, port, pin, &only(transport))).await.map(|reached| reached.connection)
}

fn only(transport: Transport) -> NetOptions {
    NetOptions { transport, ..NetOptions::default() }
}

/// QUIC shows a stream to the peer when something was written.
async fn hello(donor: &mut Connection) {
    donor.writer.write_all(&mut [Bytes::from_static(b"hello")]).await.unwrap();
}

async fn heard(joiner: &mut Connection) {
    let mut word = [0; 5];
    soon(joiner.reader.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"hello");
}

fn impatient(ms: u64, transport: Transport) -> NetOptions {
    NetOptions { connect_timeout: Duration::from_millis(ms), ..only(transport) }
}

fn an_ack(chunks: u32) -> Frame {
    let file = FileId(7);
    let at = |chunk| ChunkRef { file, generation: Generation(0), chunk: ChunkIndex(chunk) };
    Frame::Ack((0..chunks).map(at).collect())
}

async fn both_ends_export_the_same_secret_and_each_connection_another(transport: Transport) {
    let joiner = Joiner::at("127.0.0.1", transport);
    let (one_donor, one_joiner) = joiner.pair().await;
    let (two_donor, two_joiner) = joiner.pair().await;
    assert_eq!(one_donor.exporter.0, one_joiner.exporter.0);
    assert_eq!(two_donor.exporter.0, two_joiner.exporter.0);
    assert_ne!(one_donor.exporter.0, two_donor.exporter.0);
    assert_eq!(one_joiner.link.local_ip(), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
}

async fn a_wildcard_listener_serves_both_families(transport: Transport) {
    let joiner = Joiner::at("[::]", transport);
    for host in ["127.0.0.1", "::1", "localhost"] {
        let accepting = joiner.accept_one();
        let mut donor = dial((host, joiner.port), joiner.identity.pin(), transport).await.unwrap();
        hello(&mut donor).await;
        let mut accepted = soon(accepting).await.unwrap().unwrap();
        heard(&mut accepted).await;
        assert!(accepted.peer.ip().is_loopback(), "{host}: {}", accepted.peer);
    }
}

async fn another_key_is_refused_at_once(transport: Transport) {
    let joiner = Joiner::at("127.0.0.1", transport);
    let accepting = joiner.accept_one();
    let started = Instant::now();
    let error = dial(("127.0.0.1", joiner.port), [7; 32], transport).await.unwrap_err();
    assert_eq!(error.code(), Code::WrongKey, "{error}");
    assert!(error.to_string().contains(&joiner.port.to_string()), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(soon(accepting).await.unwrap().unwrap_err().code(), Code::NotFastsst);
    joiner.pair().await;
}

#[tokio::test]
async fn another_application_is_not_fastsst() {
    let identity = Identity::generate().unwrap();
    let mut tls = identity.server_config().unwrap();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(std::sync::Arc::new(crypto));
    let server = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let port = server.local_addr().unwrap().port();
    let serving = tokio::spawn(async move { server.accept().await.unwrap().await });
    let error = dial(("127.0.0.1", port), identity.pin(), Transport::Quic).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFastsst, "{error}");
    assert!(soon(serving).await.unwrap().is_err());
}

#[tokio::test]
async fn nobody_there_is_unreachable_with_address_time_and_hint() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let started = Instant::now();
    let error = soon(connect("127.0.0.1", port, [0; 32], &impatient(400, Transport::Quic)))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unreachable, "{error}");
    assert!((300..1500).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    let line = error.to_string();
    assert!(line.contains(&format!("127.0.0.1:{port}")), "{line}");
    assert!(line.contains("nothing listens there") && line.contains("firewall"), "{line}");

    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let error = soon(connect("127.0.0.1", port, [0; 32], &impatient(400, Transport::Quic)))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unreachable, "{error}");
    assert!(error.to_string().contains("no answer"), "{error}");

    let error = soon(connect("name.invalid", 1, [0; 32], &impatient(400, Transport::Quic)))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unreachable, "{error}");
}

async fn a_joiner_that_comes_a_little_later_is_found(transport: Transport) {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let identity = Identity::generate().unwrap();
    let pin = identity.pin();
    let late = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let listener = Listener::bind(address, &identity, &only(transport)).unwrap();
        listener.start().unwrap().accept().await?.complete(PATIENCE).await
    });
    let mut donor = dial(("127.0.0.1", port), pin, transport).await.unwrap();
    hello(&mut donor).await;
    heard(&mut soon(late).await.unwrap().unwrap()).await;
}

#[tokio::test]
async fn garbage_and_half_handshakes_do_not_keep_a_donor_out() {
    let joiner = Joiner::at("127.0.0.1", Transport::Quic);
    let target = (Ipv4Addr::LOCALHOST, joiner.port);
    let acceptor = joiner.acceptor.clone();
    let (completed, donors) = flume::bounded(1);
    let serving = tokio::spawn(async move {
        loop {
            let Ok(incoming) = acceptor.accept().await else { return };
            let completed = completed.clone();
            tokio::spawn(async move {
                if let Ok(connection) = incoming.complete(Duration::from_secs(20)).await {
                    completed.send_async(connection).await.unwrap();
                }
            });
        }
    });
    let noise = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [0, 1, 5, 20, 1200, 1452, 9000, 60_000] {
        for byte in [0x00, 0x40, 0xc0, 0xff] {
            noise.send_to(&vec![byte; length], target).unwrap();
        }
    }
    // More strangers than there are places start a handshake and never go on.
    let mut strangers = Vec::new();
    for _ in 0..40 {
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(&first_datagram().await, target).unwrap();
        strangers.push(stranger);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut donor = joiner.dial().await;
    hello(&mut donor).await;
    heard(&mut soon(donors.recv_async()).await.unwrap()).await;
    serving.abort();
}

/// What a donor that vanishes at once has sent.
async fn first_datagram() -> Vec<u8> {
    let trap = UdpSocket::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let trap = tokio::net::UdpSocket::from_std(trap).unwrap();
    let port = trap.local_addr().unwrap().port();
    let donor =
        tokio::spawn(async move { dial(("127.0.0.1", port), [0; 32], Transport::Quic).await });
    let mut datagram = vec![0; 65_536];
    let length = soon(trap.recv(&mut datagram)).await.unwrap();
    donor.abort();
    datagram.truncate(length);
    datagram
}

#[tokio::test]
async fn a_stranger_who_sends_nothing_is_dropped_in_time() {
    let joiner = Joiner::at("127.0.0.1", Transport::Quic);
    let acceptor = joiner.acceptor.clone();
    let accepting = tokio::spawn(async move {
        acceptor.accept().await.unwrap().complete(Duration::from_millis(300)).await
    });
    let donor = joiner.dial().await;
    assert_eq!(soon(accepting).await.unwrap().unwrap_err().code(), Code::Unreachable);
    assert_eq!(soon(donor.link.closed()).await.code(), Code::PeerGone);
}

#[tokio::test]
async fn a_peer_that_is_not_proven_cannot_fill_our_memory() {
    let joiner = Joiner::at("127.0.0.1", Transport::Quic);
    let accepting = joiner.accept_one();
    let mut donor = joiner.dial().await;
    let sent = Bytes::from(vec![5; 4 * MIB]);
    let mut left = [sent.clone()];
    let writing = timeout(Duration::from_millis(300), donor.writer.write_all(&mut left)).await;
    assert!(writing.is_err());
    let taken = sent.len() - left[0].len();
    assert!((1..=64 << 10).contains(&taken), "{taken}");
    let mut accepted = soon(accepting).await.unwrap().unwrap();
    accepted.reader.peer_is_proven();
    let writing = tokio::spawn(async move { donor.writer.write_all(&mut left).await });
    let mut data = vec![0; 4 * MIB];
    soon(accepted.reader.read_exact(&mut data)).await.unwrap();
    assert!(data.iter().all(|byte| *byte == 5));
    soon(writing).await.unwrap().unwrap();
}

#[tokio::test]
async fn lanes_arrive_at_their_own_sockets() {
    for host in ["127.0.0.1", "0.0.0.0", "[::]"] {
        let joiner = Joiner::at(host, Transport::Quic);
        let (mut donor, mut control) = joiner.pair().await;
        let mut lanes = Vec::new();
        for lane in 0..4_u8 {
            let port = LanePort::bind(donor.peer, Carrier::Quic, &NetOptions::default()).unwrap();
            let from = SocketAddr::new(control.peer.ip(), port.source_port());
            let socket = joiner.acceptor.lane_socket(&control.link, port.source_port()).unwrap();
            let accepting = tokio::spawn(socket.accept(PATIENCE));
            let mut dialled = soon(port.connect(joiner.identity.pin())).await.unwrap();
            hello(&mut dialled).await;
            // The listener must not have seen it.
            let mut accepted = soon(accepting).await.unwrap().unwrap();
            heard(&mut accepted).await;
            accepted.reader.peer_is_proven();
            assert_eq!(accepted.peer, from, "{host}");
            let chunk = Bytes::from(vec![lane; MIB]);
            soon(dialled.writer.write_all(&mut [chunk])).await.unwrap();
            let mut data = vec![0; MIB];
            soon(accepted.reader.read_exact(&mut data)).await.unwrap();
            assert!(data.iter().all(|byte| *byte == lane));
            lanes.push((dialled, accepted));
        }
        hello(&mut donor).await;
        heard(&mut control).await;
        for (dialled, accepted) in &mut lanes {
            hello(dialled).await;
            heard(accepted).await;
        }
    }
}

#[tokio::test]
async fn a_lane_whose_port_was_rewritten_reaches_the_listener() {
    let joiner = Joiner::at("127.0.0.1", Transport::Quic);
    let (donor, control) = joiner.pair().await;
    let announced = LanePort::bind(donor.peer, Carrier::Quic, &NetOptions::default()).unwrap();
    let socket = joiner.acceptor.lane_socket(&control.link, announced.source_port()).unwrap();
    let unused = tokio::spawn(socket.accept(Duration::from_millis(500)));
    let accepting = joiner.accept_one();
    let rewritten = LanePort::bind(donor.peer, Carrier::Quic, &NetOptions::default()).unwrap();
    let mut lane = soon(rewritten.connect(joiner.identity.pin())).await.unwrap();
    hello(&mut lane).await;
    heard(&mut soon(accepting).await.unwrap().unwrap()).await;
    assert_eq!(soon(unused).await.unwrap().unwrap_err().code(), Code::Unreachable);
}

async fn frames_survive_the_wire_and_cancelled_reads(transport: Transport) {
    let joiner = Joiner::at("127.0.0.1", transport);
    let (donor, accepted) = joiner.pair().await;
    let hello = Frame::Hello(Hello {
        major: 1,
        features: Features(0),
        scope: Scope::Control,
        proof: [3; 32],
        software: "test".to_owned(),
    });
    let offer = Frame::LaneOffer { lane: LaneId(3), source_port: 4711 };
    let sent = vec![hello, an_ack(256), offer, an_ack(1), Frame::Bye];
    let expected = sent.clone();
    let mut writer = FrameWriter::new(donor.writer);
    let writing = tokio::spawn(async move {
        let mut wire = Vec::new();
        for frame in &sent {
            fastsst_proto::frame::encode(frame, &mut wire);
        }
        let unknown = [3, 0, 0, 0, ty::OPTIONAL | 0x7f, 1, 2];
        wire.extend_from_slice(&unknown);
        // Byte by byte, so that reads are cancelled at every place.
        for byte in wire {
            writer.write_all(&mut [Bytes::copy_from_slice(&[byte])]).await.unwrap();
            tokio::task::yield_now().await;
        }
        writer.write_frame(&Frame::Bye).await.unwrap();
        writer.finish().await.unwrap();
    });
    let mut reader = FrameReader::new(accepted.reader);
    let mut received = Vec::new();
    let all = async {
        loop {
            match timeout(Duration::from_micros(50), reader.read_frame()).await {
                Err(_) => {}
                Ok(Ok(Some(frame))) => {
                    reader.peer_is_proven();
                    received.push(frame);
                }
                Ok(end) => break end.unwrap(),
            }
        }
    };
    assert!(soon(all).await.is_none());
    assert_eq!(received[..expected.len()], expected);
    assert_eq!(received[expected.len()..], [Frame::Bye]);
    soon(writing).await.unwrap();
}

/// What the joiner makes of these first bytes.
async fn refused(transport: Transport, bytes: &'static [u8]) -> Error {
    let joiner = Joiner::at("127.0.0.1", transport);
    let (mut donor, accepted) = joiner.pair().await;
    donor.writer.write_all(&mut [Bytes::from_static(bytes)]).await.unwrap();
    let mut reader = FrameReader::new(accepted.reader);
    soon(reader.read_frame()).await.unwrap_err()
}

async fn too_large_frames_are_refused_by_their_header_alone(transport: Transport) {
    let error = refused(transport, &[0, 0, 16, 0, ty::HELLO]).await;
    assert_eq!(error.code(), Code::Limit, "{error}");
    let error = refused(transport, &[0, 0, 1, 0, ty::ENTRIES]).await;
    assert_eq!(error.code(), Code::NotFastsst, "{error}");
    let error = refused(transport, b"GET / HTTP/1.1\r\n").await;
    assert_eq!(error.code(), Code::NotFastsst, "{error}");
    let error = refused(transport, &[0, 0, 0, 0, ty::HELLO]).await;
    assert_eq!(error.code(), Code::Protocol, "{error}");
}

async fn an_end_in_the_middle_of_a_frame_is_not_a_clean_end(transport: Transport) {
    let joiner = Joiner::at("127.0.0.1", transport);
    let (mut donor, accepted) = joiner.pair().await;
    donor.writer.write_all(&mut [Bytes::from_static(&[9, 0, 0])]).await.unwrap();
    let finishing = tokio::spawn(async move { donor.writer.finish().await.map(|()| donor.link) });
    let mut reader = FrameReader::new(accepted.reader);
    let error = soon(reader.read_frame()).await.unwrap_err();
    assert_eq!(error.code(), Code::PeerGone, "{error}");
    soon(finishing).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_peer_hears_code_and_reason_of_a_close() {
    let joiner = Joiner::at("127.0.0.1", Transport::Quic);
    let (donor, mut accepted) = joiner.pair().await;
    donor.link.shutdown(Code::DiskFull.number(), "disk full writing ibdata1").await;
    let error = soon(accepted.reader.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.code(), Code::PeerStopped);
    assert!(error.to_string().contains("E07 disk full writing ibdata1"), "{error}");
}

/// A joiner in a thread that reads for a while and then dies without a word.
fn a_joiner_that_dies(
    after: Duration,
    transport: Transport,
) -> (u16, Pin, std::thread::JoinHandle<()>) {
    let identity = Identity::generate().unwrap();
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let listener = Listener::bind(address, &identity, &only(transport)).unwrap();
    let port = listener.local_addr().port();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(async {
            let acceptor = listener.start().unwrap();
            let mut connection = acceptor.accept().await.unwrap().complete(PATIENCE).await.unwrap();
            connection.reader.peer_is_proven();
            let mut data = vec![0; MIB];
            let reading = async { while connection.reader.read(&mut data).await.is_ok() {} };
            timeout(after, reading).await.unwrap_err();
            connection
        });
        // Tasks and socket go before anything could be sent, as when the process is killed.
        drop(runtime);
        drop(connection);
    });
    (port, identity.pin(), thread)
}

async fn a_killed_peer_is_noticed_within_a_second_while_data_flows(transport: Transport) {
    let (port, pin, thread) = a_joiner_that_dies(Duration::from_millis(200), transport);
    let mut donor = dial(("127.0.0.1", port), pin, transport).await.unwrap();
    let link = donor.link.clone();
    let sending = tokio::spawn(async move {
        loop {
            let data = Bytes::from(vec![1; MIB]);
            if let Err(error) = donor.writer.write_all(&mut [data]).await {
                return error;
            }
        }
    });
    tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    let killed = Instant::now();
    let error = soon(sending).await.unwrap();
    assert_eq!(error.code(), Code::PeerGone, "{error}");
    assert!(error.to_string().contains("gone"), "{error}");
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    assert_eq!(link.closed().await.code(), Code::PeerGone);
}

async fn a_killed_peer_is_noticed_by_an_idle_connection(transport: Transport) {
    let (port, pin, thread) = a_joiner_that_dies(Duration::from_millis(200), transport);
    let mut donor = dial(("127.0.0.1", port), pin, transport).await.unwrap();
    hello(&mut donor).await;
    tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    let killed = Instant::now();
    let error = soon(donor.reader.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.code(), Code::PeerGone, "{error}");
    assert!(killed.elapsed() < Duration::from_millis(1500), "{:?}", killed.elapsed());
}

async fn a_quarter_of_a_gigabyte_arrives_intact(transport: Transport) {
    const CHUNKS: usize = 256;
    let joiner = Joiner::at("127.0.0.1", transport);
    let (mut donor, mut accepted) = joiner.pair().await;
    let sending = tokio::spawn(async move {
        let mut hasher = blake3::Hasher::new();
        for chunk in 0..CHUNKS {
            let data: Vec<u8> =
                (0..MIB).flat_map(|at| (at * 31 + chunk).to_le_bytes()).take(MIB).collect();
            hasher.update(&data);
            donor.writer.write_all(&mut [Bytes::from(data)]).await.unwrap();
        }
        donor.writer.finish().await.unwrap();
        (hasher.finalize(), donor.link.stats())
    });
    let mut hasher = blake3::Hasher::new();
    let mut data = vec![0; MIB];
    for _ in 0..CHUNKS {
        soon(accepted.reader.read_exact(&mut data)).await.unwrap();
        hasher.update(&data);
    }
    assert_eq!(soon(accepted.reader.read(&mut data)).await.unwrap(), 0);
    let (sent, stats) = soon(sending).await.unwrap();
    assert_eq!(ChunkHash(*hasher.finalize().as_bytes()), ChunkHash(*sent.as_bytes()));
    if let Some(datagrams) = stats.datagrams {
        assert!(datagrams.bytes_max > 60_000, "loopback takes large datagrams: {stats:?}");
    }
    assert!(stats.bytes_sent > (CHUNKS * MIB) as u64, "{stats:?}");
}

mod certificates;
mod choice;
mod tcp;
