//! Files in PEM form, as an option names them.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::error::{Code, Error, Result};

/// Largest file that is read. Unit: bytes. Why: all public authorities together are 0.2 MiB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Permission of everybody to read.
const READABLE_BY_ALL: u32 = 0o004;

/// A file, and the option that names it; messages have both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Which option says so, as the operator would look for it: `[mysqld] ssl-cert`.
    pub option: String,
}

impl fmt::Display for NamedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.option)
    }
}

impl NamedFile {
    /// All certificates of the file, in its order; none is an answer, too.
    ///
    /// Errors: `Usage`, when it cannot be read or is damaged.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let text = self.read()?;
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|error| {
            self.wrong("is damaged: a certificate in it is no valid PEM").because(error)
        })
    }

    /// The first private key of the file.
    ///
    /// Errors: `Usage`, when there is none that can be used without a password.
    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        let text = self.read()?;
        if is_encrypted(&text) {
            return Err(self.wrong(
                "holds a key that is encrypted with a password; remove the password (openssl \
                 pkey -in OLD -out NEW) and let only the server's user read the file",
            ));
        }
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
            self.wrong("holds no private key in PEM form (PKCS#8, PKCS#1 or SEC1)").because(error)
        })?;
        self.warn_if_all_may_read();
        Ok(key)
    }

    /// The error of a file that cannot be used; `why` follows its name.
    pub(super) fn wrong(&self, why: impl fmt::Display) -> Error {
        Error::new(Code::Usage, format!("{self} {why}"))
    }

    fn read(&self) -> Result<Zeroizing<Vec<u8>>> {
        let unreadable = |error| {
            self.wrong("cannot be read; correct the path, or let the server's user read it")
                .because(error)
        };
        let file = File::open(&self.path).map_err(unreadable)?;
        let mut text = Zeroizing::new(Vec::new());
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(self.wrong(format!("is larger than {} MiB", FILE_BYTES_MAX >> 20)));
        }
        Ok(text)
    }

    fn warn_if_all_may_read(&self) {
        match self.path.metadata() {
            Ok(found) if found.permissions().mode() & READABLE_BY_ALL != 0 => {
                tracing::warn!(
                    "{self} holds a key that every user of this machine may read; chmod 600 it"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("{self}: {error}"),
        }
    }
}

/// Whether a PEM text says that its key needs a password (PKCS#8, or RFC 1421 headers).
fn is_encrypted(text: &[u8]) -> bool {
    let has = |mark: &[u8]| text.windows(mark.len()).any(|part| part == mark);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}
