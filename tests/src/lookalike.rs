//! QUIC and TLS peers that are not fastsst: they speak `h3`.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, ConnectionError, Endpoint, ServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

/// What they speak. Source: RFC 9114, section 3.1.
const ALPN: &[u8] = b"h3";

/// Handshakes on loopback take milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// A QUIC server that turns away whoever does not speak `h3`, until it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub port: u16,
    stop: tokio::sync::watch::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Listens on a free port of 127.0.0.1.
    #[must_use]
    pub fn start() -> Self {
        let (stop, mut stopped) = tokio::sync::watch::channel(());
        let (port, bound) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            event_loop(async {
                let endpoint = Endpoint::server(server_config(), local()).expect("a port");
                port.send(endpoint.local_addr().expect("bound").port()).expect("a waiting test");
                loop {
                    tokio::select! {
                        incoming = endpoint.accept() => {
                            // The handshake fails; that is what it is here for.
                            drop(incoming.expect("a socket").accept().expect("a peer").await);
                        }
                        _ = stopped.changed() => return,
                    }
                }
            });
        });
        Self { port: bound.recv().expect("the server starts"), stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Connects as a client of `h3`, and returns how it was turned away.
#[must_use]
pub fn knock(port: u16) -> ConnectionError {
    event_loop(async {
        let endpoint = Endpoint::client(local()).expect("a port");
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let connecting = endpoint.connect_with(client_config(), target, "db.example").unwrap();
        let ended = tokio::time::timeout(PATIENCE, connecting).await.expect("an answer");
        ended.expect_err("nothing in common to speak")
    })
}

/// Connects over TCP as a client of `h3`, and returns how it was turned away.
#[must_use]
pub fn knock_tcp(port: u16) -> std::io::Error {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    let name = ServerName::try_from("db.example").expect("a name");
    let mut session = rustls::ClientConnection::new(Arc::new(tls_client()), name).expect("TLS");
    session.complete_io(&mut socket).expect_err("nothing in common to speak")
}

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn server_config() -> ServerConfig {
    let pair = rcgen::KeyPair::generate().unwrap();
    let about = rcgen::CertificateParams::new(["db.example".to_owned()]).unwrap();
    let certificate = about.self_signed(&pair).unwrap();
    let key = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
    let mut config = rustls::ServerConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], key)
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config).unwrap()))
}

fn client_config() -> ClientConfig {
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls_client()).unwrap()))
}

fn tls_client() -> rustls::ClientConfig {
    let mut config = rustls::ClientConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyKey))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

fn crypto() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(provider::default_provider())
}

/// Trusts everybody.
#[derive(Debug)]
struct AnyKey;

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

fn event_loop<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("an event loop").block_on(work)
}
