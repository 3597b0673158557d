//! What each end checks of the other one's certificate.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs as provider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, PeerIncompatible, SignatureScheme,
};

use super::findings::{Findings, Refused};
use super::tls::{Pin, pin_of};
use crate::tls::{Demand, End, Roots, words};

/// The donor's: the pinned key, in a certificate that has what is demanded.
#[derive(Debug)]
pub(super) struct JoinerVerifier {
    pin: Pin,
    demand: Demand,
    findings: Arc<Findings>,
}

impl JoinerVerifier {
    pub(super) const fn new(pin: Pin, demand: Demand, findings: Arc<Findings>) -> Self {
        Self { pin, demand, findings }
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        if let Some(roots) = self.demand.roots() {
            roots.verify((leaf, intermediates), End::Joiner, now)?;
        }
        if let Some(names) = self.demand.names() {
            names.verify(leaf)?;
        }
        Ok(())
    }
}

impl ServerCertVerifier for JoinerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if pin_of(end_entity) != Some(self.pin) {
            self.findings.refuse(Refused::WrongKey);
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        match self.check(end_entity, intermediates, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(error) => {
                self.findings.refuse(Refused::Certificate(words(&error)));
                Err(error.into())
            }
        }
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
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// The joiner's: a certificate that leads to one of its authorities. Who the donor is, is a
/// matter of the token.
#[derive(Debug)]
pub(super) struct DonorVerifier {
    roots: Roots,
}

impl DonorVerifier {
    pub(super) const fn new(roots: Roots) -> Self {
        Self { roots }
    }
}

impl ClientCertVerifier for DonorVerifier {
    /// Strangers need not know whom this node trusts; a donor has one certificate or none.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.roots.verify((end_entity, intermediates), End::Donor, now)?;
        Ok(ClientCertVerified::assertion())
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
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider::default_provider().signature_verification_algorithms
}
