//! A chain and its key, ready to be shown.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::UnixTime;
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};

use super::inspect::Inspected;
use super::{End, NamedFile, Roots, words};
use crate::error::Result;

/// A chain with its key; it has been checked.
#[derive(Clone)]
pub struct Certificate {
    certified: Arc<CertifiedKey>,
    file: NamedFile,
}

impl Certificate {
    /// Reads the certificate, the intermediate ones after it, and its key.
    ///
    /// # Errors
    /// `Usage` naming option and file: it cannot be read, is encrypted, has expired, is not valid yet, the key is
    /// of a kind that TLS 1.3 does not have, or belongs to another certificate.
    pub fn load(chain: &NamedFile, key: &NamedFile) -> Result<Self> {
        let certificates = chain.certificates()?;
        let Some(leaf) = certificates.first() else {
            return Err(chain.wrong("holds no certificate in PEM form"));
        };
        Inspected::of(leaf, chain)?.check(chain)?;
        let private = key.private_key()?;
        let signer = provider::sign::any_supported_type(&private).map_err(|error| {
            key.wrong("holds a key that cannot be used; use RSA of 2048 bits or more, ECDSA (P-256, P-384, P-521) or Ed25519")
                .because(error)
        })?;
        let certified = CertifiedKey::new(certificates, signer);
        match certified.keys_match() {
            Ok(()) => Ok(Self { certified: Arc::new(certified), file: chain.clone() }),
            Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(key.wrong(format!(
                    "is not the key of the certificate in {chain}; name two that belong together"
                )))
            }
            Err(error) => {
                Err(chain.wrong("holds a certificate that cannot be used").because(error))
            }
        }
    }

    /// Checks what a peer with the same authorities would check.
    ///
    /// # Errors
    /// `Usage`: the chain does not lead to `roots`, or is not made for this end.
    pub fn check_against(&self, roots: &Roots, end: End) -> Result<()> {
        let Some((leaf, intermediates)) = self.certified.cert.split_first() else {
            return Ok(());
        };
        roots.verify((leaf, intermediates), end, UnixTime::now()).map_err(|error| {
            self.file.wrong(format!(
                "does not pass the check against {roots} ({}); put the intermediate certificates \
                 behind it in the same file, or name the authority that issued it",
                words(&error)
            ))
        })
    }

    /// For a test of the other end.
    #[cfg(test)]
    pub(super) fn unchecked(chain: &NamedFile, key: &NamedFile) -> Self {
        let key = provider::sign::any_supported_type(&key.private_key().unwrap()).unwrap();
        let certified = CertifiedKey::new(chain.certificates().unwrap(), key);
        Self { certified: Arc::new(certified), file: chain.clone() }
    }

    /// For the TLS library.
    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("file", &self.file).finish_non_exhaustive()
    }
}
