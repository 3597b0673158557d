//! The options for certificates.

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, ValueEnum};
use fastsst_mover::Result;
use fastsst_mover::tls::{Certificate, Demand, End, NamedFile, Names, Own, Roots, Tls};

/// On top of what the ticket says.
#[derive(Debug, ClapArgs)]
pub(crate) struct Certificates {
    /// Show this certificate (PEM, the intermediate ones behind it), on top of the ticket's key and token
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its key; default: in the same file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Demand a certificate that leads to one of these authorities
    #[arg(long, value_name = "FILE|DIR")]
    tls_ca: Option<PathBuf>,
    /// What to look at: the chain, or for a sender also the receiver's name in the ticket
    #[arg(long, value_name = "WHAT", requires = "tls_ca", default_value = "ca")]
    tls_verify: Verify,
}

/// What is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Verify {
    Ca,
    Identity,
}

impl Certificates {
    /// Reads and checks the files; `host` is the receiver's name in the ticket.
    pub(crate) fn load(&self, end: End, host: &str) -> Result<Tls> {
        let own = match &self.tls_cert {
            None => Own::Ephemeral,
            Some(cert) => {
                let cert = named("--tls-cert", cert);
                let key = self.tls_key.as_deref().map(|key| named("--tls-key", key));
                Own::Files(Certificate::load(&cert, key.as_ref().unwrap_or(&cert))?)
            }
        };
        let Some(authorities) = &self.tls_ca else { return Ok(Tls { own, peer: Demand::Nothing }) };
        let roots = Roots::load(&[named("--tls-ca", authorities)])?;
        if let Own::Files(certificate) = &own {
            certificate.check_against(&roots, end)?;
        }
        let peer = match (self.tls_verify, end) {
            (Verify::Ca, _) | (Verify::Identity, End::Joiner) => Demand::Chain(roots),
            (Verify::Identity, End::Donor) => Demand::ChainAndName(roots, Names::parse(&[host])?),
        };
        Ok(Tls { own, peer })
    }
}

fn named(option: &str, path: &Path) -> NamedFile {
    NamedFile { path: path.to_owned(), option: option.to_owned() }
}
