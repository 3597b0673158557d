//! TLS 1.3 with raw public keys (RFC 7250): the ticket carries the hash of the joiner's key.
//!
//! There is no certificate authority, no name and no validity period; the donor accepts exactly
//! one key. The joiner proves that it owns that key by the handshake signature. The donor proves
//! nothing here: it knows the token, which is checked over the exporter of this connection.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs as provider;
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, PeerIncompatible, ServerConfig,
    SignatureScheme,
};

use crate::error::{Code, Error, Result};

/// SHA-256 of a key's `SubjectPublicKeyInfo`, as the ticket carries it.
pub type Pin = [u8; 32];

/// The application protocol. Source: design; a TLS server of another kind refuses it.
pub(super) const ALPN: &[u8] = b"fastsst/1";

/// Name sent in the handshake; nothing looks at it, but TLS clients need one.
pub(super) const SERVER_NAME: &str = "fastsst";

/// The joiner's key pair, made anew for every transfer and never written anywhere.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    pin: Pin,
}

impl Identity {
    /// A fresh ECDSA P-256 key. Why: every TLS library and FIPS mode has it.
    ///
    /// Errors: `Bug`, when the library refuses.
    pub fn generate() -> Result<Self> {
        let document = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .and_then(|pair| pair.to_pkcs8v1())
            .map_err(|error| Error::bug("cannot generate a key pair").because(error))?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(document.as_ref()));
        let key = provider::sign::any_ecdsa_type(&der)
            .map_err(|error| Error::bug("cannot use the new key pair").because(error))?;
        let spki = match key.public_key() {
            Some(spki) => CertificateDer::from(spki.as_ref().to_vec()),
            None => return Err(Error::bug("the new key pair has no public key")),
        };
        let pin = pin_of(&spki);
        Ok(Self { certified: Arc::new(CertifiedKey::new(vec![spki], key)), pin })
    }

    /// What goes into the ticket.
    #[must_use]
    pub const fn pin(&self) -> Pin {
        self.pin
    }

    /// TLS settings of the joiner. No tickets, no resumption, no early data.
    pub(super) fn server_config(&self) -> Result<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(crypto()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Error::bug("TLS 1.3 is missing").because(error))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::clone(
                &self.certified,
            ))));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(config)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// TLS settings of the donor, and whether the joiner showed another key than the pinned one.
pub(super) struct PinnedClient {
    /// For one connection.
    pub(super) config: ClientConfig,
    /// Set by the verifier, because an error inside a QUIC handshake survives only as text.
    pub(super) wrong_key: Arc<AtomicBool>,
}

impl PinnedClient {
    /// Accepts exactly the key behind `pin`.
    pub(super) fn new(pin: Pin) -> Result<Self> {
        let wrong_key = Arc::new(AtomicBool::new(false));
        let verifier = PinVerifier { pin, wrong_key: Arc::clone(&wrong_key) };
        let mut config = ClientConfig::builder_with_provider(Arc::new(crypto()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Error::bug("TLS 1.3 is missing").because(error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(Self { config, wrong_key })
    }
}

/// The joiner at `target` has shown another key.
pub(super) fn wrong_key_of(target: SocketAddr) -> Error {
    Error::new(
        Code::WrongKey,
        format!(
            "the key of {target} is not the one in the ticket; the ticket belongs to another run, \
             or something in between answers in the joiner's place"
        ),
    )
}

/// AES-128-GCM first: 128 bits are enough for data whose key lives for minutes, and it is the
/// fastest cipher where the processor has AES.
fn crypto() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            provider::cipher_suite::TLS13_AES_128_GCM_SHA256,
            provider::cipher_suite::TLS13_AES_256_GCM_SHA384,
            provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..provider::default_provider()
    }
}

fn pin_of(spki: &[u8]) -> Pin {
    let mut pin = Pin::default();
    let hash = digest::digest(&digest::SHA256, spki);
    for (to, from) in pin.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    pin
}

#[derive(Debug)]
struct PinVerifier {
    pin: Pin,
    wrong_key: Arc<AtomicBool>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if pin_of(end_entity) == self.pin && intermediates.is_empty() {
            return Ok(ServerCertVerified::assertion());
        }
        self.wrong_key.store(true, Ordering::Relaxed);
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(cert.as_ref()),
            dss,
            &provider::default_provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_identity_is_another_one_and_prints_nothing() {
        let (one, two) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        assert_ne!(one.pin(), two.pin());
        assert_eq!(format!("{one:?}"), "Identity { .. }");
    }

    #[test]
    fn the_pin_is_the_sha256_of_the_public_key() {
        let identity = Identity::generate().unwrap();
        assert_eq!(identity.pin(), pin_of(&identity.certified.cert[0]));
        assert_eq!(
            pin_of(b"abc")[..4],
            [0xba, 0x78, 0x16, 0xbf], // FIPS 180-2, appendix B.1
        );
    }
}
