//! What `ssl-mode`, `encrypt` and the files that are named come to.

use std::fmt;

use fastsst_mover::{Code, Error, Result};

use super::files::Files;
use super::given::{Given, Groups};

/// What is done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// Keys of this program's own.
    Own(String),
    /// The configured certificate is shown, nothing is demanded.
    Required(String),
    /// The peer's chain is verified.
    VerifyCa(String),
    /// A donor looks for the joiner's name besides.
    VerifyIdentity(String),
}

/// The values of `ssl-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SslMode {
    Disabled,
    Required,
    VerifyCa,
    VerifyIdentity,
}

/// The values of `encrypt`. Source: contract 5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encrypt {
    /// 0: `ssl-mode` decides.
    Follow,
    /// 2: authority, and certificate with its key in one file.
    Pem,
    /// 3: certificate and key.
    KeyAndCert,
    /// 4: certificate, key and authority.
    All,
}

impl Mode {
    /// Decides.
    ///
    /// # Errors
    /// E01 naming option, value and what is accepted; E29 for `encrypt=1`.
    pub(super) fn resolve(groups: &Groups<'_>, files: &Files) -> Result<Self> {
        let given = groups.value("ssl-mode");
        let wanted = given.as_ref().map(SslMode::parse).transpose()?;
        let why = |given: &Given| format!("{}={}", given.option, given.value);
        let asked = given.as_ref().map(why).unwrap_or_default();
        let encrypt = groups.value("encrypt");
        let mode = match &encrypt {
            None => Self::of_ssl_mode((wanted, asked), files),
            Some(given) => match Encrypt::parse(given)? {
                Encrypt::Follow => Self::of_ssl_mode((wanted, asked), files),
                encrypt @ (Encrypt::Pem | Encrypt::KeyAndCert | Encrypt::All) => {
                    encrypt.check(given, files)?;
                    Self::of_encrypt(wanted, why(given), files)
                }
            },
        };
        if mode.verifies() && !files.has_ca() {
            let given = given.as_ref().map(why).unwrap_or_default();
            return Err(Error::new(
                Code::Usage,
                format!(
                    "my.cnf {given} needs an authority: set ssl-ca or ssl-capath, or [sst] tca"
                ),
            ));
        }
        Ok(mode)
    }

    fn of_ssl_mode((wanted, asked): (Option<SslMode>, String), files: &Files) -> Self {
        match wanted {
            Some(SslMode::Disabled) => Self::Own(asked),
            Some(SslMode::Required) => Self::Required(asked),
            Some(SslMode::VerifyCa) => Self::VerifyCa(asked),
            Some(SslMode::VerifyIdentity) => Self::VerifyIdentity(asked),
            None if files.has_ca() => Self::VerifyCa("an authority is configured".to_owned()),
            None if files.cert.is_some() && files.key.is_some() => {
                Self::Required("a certificate is configured".to_owned())
            }
            None => Self::Own("no certificate is configured".to_owned()),
        }
    }

    /// With `encrypt` of 2 and more, `ssl-mode` can ask for more checks, never for less.
    fn of_encrypt(wanted: Option<SslMode>, asked: String, files: &Files) -> Self {
        match wanted {
            Some(SslMode::VerifyIdentity) => Self::VerifyIdentity(asked),
            Some(SslMode::VerifyCa) => Self::VerifyCa(asked),
            None | Some(SslMode::Disabled | SslMode::Required) => {
                if files.has_ca() {
                    Self::VerifyCa(asked)
                } else {
                    Self::Required(asked)
                }
            }
        }
    }

    /// Whether the configured files are read at all.
    pub(super) const fn uses_files(&self) -> bool {
        match self {
            Self::Own(_) => false,
            Self::Required(_) | Self::VerifyCa(_) | Self::VerifyIdentity(_) => true,
        }
    }

    /// Whether the peer must show a certificate.
    pub(super) const fn verifies(&self) -> bool {
        match self {
            Self::Own(_) | Self::Required(_) => false,
            Self::VerifyCa(_) | Self::VerifyIdentity(_) => true,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (does, why) = match self {
            Self::Own(why) => ("encrypted with a key made for this transfer", why),
            Self::Required(why) => ("encrypted, the peer needs no certificate", why),
            Self::VerifyCa(why) => ("VERIFY_CA", why),
            Self::VerifyIdentity(why) => ("VERIFY_IDENTITY", why),
        };
        write!(f, "{does} ({why})")
    }
}

impl SslMode {
    fn parse(given: &Given) -> Result<Self> {
        match given.value.to_ascii_uppercase().as_str() {
            "DISABLED" => Ok(Self::Disabled),
            "REQUIRED" => Ok(Self::Required),
            "VERIFY_CA" => Ok(Self::VerifyCa),
            "VERIFY_IDENTITY" => Ok(Self::VerifyIdentity),
            _ => Err(wrong(given, "use DISABLED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY")),
        }
    }
}

impl Encrypt {
    fn parse(given: &Given) -> Result<Self> {
        match given.value.as_str() {
            "0" => Ok(Self::Follow),
            "2" => Ok(Self::Pem),
            "3" => Ok(Self::KeyAndCert),
            "4" => Ok(Self::All),
            "1" => Err(Error::new(
                Code::Unsupported,
                format!(
                    "my.cnf {}=1: encryption with a shared key is not supported; remove it, as every \
                     transfer is encrypted, or use ssl-mode or encrypt=4 with certificates",
                    given.option
                ),
            )),
            _ => Err(wrong(given, "use 0, 2, 3 or 4")),
        }
    }

    /// Whether what it needs is named.
    fn check(self, given: &Given, files: &Files) -> Result<()> {
        let missing = |what| Err(wrong(given, what));
        match self {
            Self::Follow => Ok(()),
            Self::Pem | Self::KeyAndCert | Self::All if files.cert.is_none() => {
                missing("it needs a certificate: set ssl-cert, or [sst] tcert")
            }
            Self::KeyAndCert | Self::All if files.key.is_none() => {
                missing("it needs the key of the certificate: set ssl-key, or [sst] tkey")
            }
            Self::Pem | Self::All if !files.has_ca() => {
                missing("it needs an authority: set ssl-ca or ssl-capath, or [sst] tca")
            }
            Self::Pem | Self::KeyAndCert | Self::All => Ok(()),
        }
    }
}

fn wrong(given: &Given, accepted: &str) -> Error {
    Error::new(Code::Usage, format!("my.cnf {}={}: {accepted}", given.option, given.value))
}
