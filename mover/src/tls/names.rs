//! Names under which a joiner may be known.

use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;

use super::roots::refusal;
use crate::error::{Code, Error, Result};

/// A certificate must have one of them as a subject alternative name.
#[derive(Debug, Clone)]
pub struct Names(Vec<ServerName<'static>>);

impl Names {
    /// Host names or IP addresses, the one that counts first.
    ///
    /// # Errors
    /// `Usage` for what is neither.
    pub fn parse(names: &[&str]) -> Result<Self> {
        let parse = |name: &&str| {
            ServerName::try_from((*name).to_owned()).map_err(|error| {
                let what = format!("{name:?} is no name that a certificate can have");
                Error::new(Code::Usage, what).because(error)
            })
        };
        Ok(Self(names.iter().map(parse).collect::<Result<_>>()?))
    }

    /// Whether a certificate has one of the names; the first one's error tells why not.
    pub(crate) fn verify(&self, leaf: &CertificateDer<'_>) -> Result<(), CertificateError> {
        let leaf = EndEntityCert::try_from(leaf).map_err(refusal)?;
        let mut first = None;
        for name in &self.0 {
            match leaf.verify_is_valid_for_subject_name(name) {
                Ok(()) => return Ok(()),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        Err(first.map_or(CertificateError::NotValidForName, refusal))
    }
}
