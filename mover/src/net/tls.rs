//! TLS 1.3: the ticket carries the hash of the joiner's public key, whatever certificate it is in.
//!
//! The donor accepts exactly one key, and the joiner proves that it owns it by the handshake
//! signature. Without a configuration the certificate around the key is made for the transfer, and
//! nobody looks at its name or dates. The donor proves itself by the token, which is checked over
//! the exporter of this connection. What [`Tls`] demands comes on top, and is checked here, before
//! the first byte of the conversation.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, ClientConfig, ServerConfig};
use webpki::EndEntityCert;

use super::findings::{Findings, Shown};
use super::verifier::{DonorVerifier, JoinerVerifier};
use crate::error::{Code, Error, Result};
use crate::tls::{Demand, Own, Tls};

/// SHA-256 of a key's `SubjectPublicKeyInfo`, as the ticket carries it.
pub type Pin = [u8; 32];

/// The application protocol. Source: design; a TLS server of another kind refuses it.
pub(super) const ALPN: &[u8] = b"fastsst/1";

/// Name sent in the handshake; nothing looks at it, but TLS clients need one.
pub(super) const SERVER_NAME: &str = "fastsst";

/// What a joiner shows, and what it demands of a donor.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    pin: Pin,
    peer: Demand,
}

impl Identity {
    /// With a key made for one transfer and never written anywhere, demanding nothing.
    ///
    /// Errors: `Bug`, when the library refuses.
    pub fn generate() -> Result<Self> {
        Self::new(&Tls::default())
    }

    /// As configured.
    ///
    /// Errors: `Bug`, when the library refuses.
    pub fn new(tls: &Tls) -> Result<Self> {
        let certified = match &tls.own {
            Own::Ephemeral => ephemeral()?,
            Own::Files(certificate) => certificate.certified(),
        };
        let pin = certified.cert.first().and_then(pin_of);
        let pin = pin.ok_or_else(|| Error::bug("a certificate without a public key"))?;
        Ok(Self { certified, pin, peer: tls.peer.clone() })
    }

    /// What goes into the ticket.
    #[must_use]
    pub const fn pin(&self) -> Pin {
        self.pin
    }

    /// TLS settings of the joiner. No tickets, no resumption, no early data.
    pub(super) fn server_config(&self) -> Result<ServerConfig> {
        let versions = ServerConfig::builder_with_provider(Arc::new(crypto()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Error::bug("TLS 1.3 is missing").because(error))?;
        let donors = match self.peer.roots() {
            None => versions.with_no_client_auth(),
            Some(roots) => {
                versions.with_client_cert_verifier(Arc::new(DonorVerifier::new(roots.clone())))
            }
        };
        let shown = SingleCertAndKey::from(Arc::clone(&self.certified));
        let mut config = donors.with_cert_resolver(Arc::new(shown));
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

/// A fresh ECDSA P-256 key in a certificate of its own. Why: every TLS library and FIPS mode has it.
fn ephemeral() -> Result<Arc<CertifiedKey>> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|error| Error::bug("cannot generate a key pair").because(error))?;
    let certificate = rcgen::CertificateParams::new([SERVER_NAME.to_owned()])
        .and_then(|about| about.self_signed(&key))
        .map_err(|error| Error::bug("cannot make a certificate").because(error))?;
    let pkcs8 = zeroize::Zeroizing::new(key.serialize_der());
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_slice()));
    let key = provider::sign::any_ecdsa_type(&der)
        .map_err(|error| Error::bug("cannot use the new key pair").because(error))?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.into()], key)))
}

/// TLS settings of the donor for one connection, and what its handshake will bring to light.
pub(super) struct PinnedClient {
    pub(super) config: ClientConfig,
    pub(super) findings: Arc<Findings>,
}

impl PinnedClient {
    /// Accepts exactly the key behind `pin`, if it also has what `tls` demands.
    pub(super) fn new(pin: Pin, tls: &Tls) -> Result<Self> {
        let findings = Arc::<Findings>::default();
        let verifier = JoinerVerifier::new(pin, tls.peer.clone(), Arc::clone(&findings));
        let own = match &tls.own {
            Own::Ephemeral => None,
            Own::Files(certificate) => Some(certificate.certified()),
        };
        let shown = Shown::new(own, Arc::clone(&findings));
        let mut config = ClientConfig::builder_with_provider(Arc::new(crypto()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Error::bug("TLS 1.3 is missing").because(error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(shown));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(Self { config, findings })
    }
}

/// The error of a peer whose certificate this end does not accept.
pub(super) fn not_accepted(peer: SocketAddr, why: impl fmt::Display) -> Error {
    Error::new(
        Code::WrongKey,
        format!(
            "{peer} does not show the certificate that this node demands ({why}); compare the TLS \
             options of both nodes"
        ),
    )
}

/// What an alert says about the certificate of whoever receives it; `None` for all other alerts.
pub(super) fn about_certificates(alert: AlertDescription) -> Option<&'static str> {
    use AlertDescription as Alert;
    const SAYS: [(Alert, &str); 7] = [
        (Alert::CertificateRequired, "it demands one, and none was shown"),
        (Alert::UnknownCA, "it does not know the authority behind it"),
        (Alert::CertificateExpired, "it has expired or is not valid yet"),
        (Alert::CertificateRevoked, "it has been revoked"),
        (Alert::UnsupportedCertificate, "it is not made for this use"),
        (Alert::BadCertificate, "it is damaged or has another name"),
        (Alert::CertificateUnknown, "its own log says why"),
    ];
    SAYS.iter().find(|(known, _)| *known == alert).map(|(_, says)| *says)
}

/// The error of a peer that has sent such an alert.
pub(super) fn refused_by(peer: SocketAddr, alert: AlertDescription) -> Option<Error> {
    let why = about_certificates(alert)?;
    let what = format!(
        "{peer} refuses the certificate of this node: {why}; compare the TLS options of both nodes"
    );
    Some(Error::new(Code::WrongKey, what))
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

/// The pin of a certificate's key; `None` for what is no certificate.
pub(super) fn pin_of(certificate: &CertificateDer<'_>) -> Option<Pin> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    Some(sha256(parsed.subject_public_key_info().as_ref()))
}

fn sha256(bytes: &[u8]) -> Pin {
    let mut pin = Pin::default();
    let hash = digest::digest(&digest::SHA256, bytes);
    for (to, from) in pin.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    pin
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
        let spki = identity.certified.key.public_key().unwrap();
        assert_eq!(identity.pin(), sha256(spki.as_ref()));
        assert_eq!(
            sha256(b"abc")[..4],
            [0xba, 0x78, 0x16, 0xbf], // FIPS 180-2, appendix B.1
        );
    }
}
