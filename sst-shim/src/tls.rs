//! Which certificates the option files ask for, and what is checked of the peer.
//!
//! Names, groups and what follows from what are those of the stock scripts, so that a node that
//! verifies with them verifies with this program. Encryption, pin and token do not depend on it.
//! Source: contract 6.3; `check_server_ssl_config` of `wsrep_sst_common`.

mod files;
mod given;
mod mode;
#[cfg(test)]
mod tests;

use fastsst_mover::tls::{Certificate, Demand, End, Names, Own, Roots, Tls};
use fastsst_mover::{Code, Error, Result};

use self::files::Files;
use self::given::Groups;
use self::mode::Mode;
use crate::args::Role;
use crate::config::Config;
use crate::own_address;

/// What of `[sst]` is read here.
pub(crate) const OPTIONS: [&str; 18] = [
    "encrypt",
    "ssl-ca",
    "ssl-capath",
    "ssl-cert",
    "ssl-client-ca",
    "ssl-client-capath",
    "ssl-client-cert",
    "ssl-client-key",
    "ssl-key",
    "ssl-mode",
    "ssl-server-ca",
    "ssl-server-capath",
    "ssl-server-cert",
    "ssl-server-key",
    "tca",
    "tcapath",
    "tcert",
    "tkey",
];

/// What a node shows and demands, before its files have been looked at.
#[derive(Debug)]
pub(crate) struct Choice {
    end: End,
    mode: Mode,
    files: Files,
}

impl Choice {
    /// Decides by names and values alone.
    ///
    /// # Errors
    /// E01 naming option, value and what is accepted; E29 for `encrypt=1`.
    pub(crate) fn resolve(config: &Config, role: Role) -> Result<Self> {
        let groups = Groups { server: &config.server, sst: &config.sst };
        let end = match role {
            Role::Joiner => End::Joiner,
            Role::Donor => End::Donor,
        };
        let files = Files::resolve(&groups, end);
        Ok(Self { end, mode: Mode::resolve(&groups, &files)?, files })
    }

    /// Reads the files and checks all that a peer would check; tells the log what was decided.
    /// `joiner`: the host of the request, whose name or address a donor may have to find.
    ///
    /// # Errors
    /// E01 naming option and file.
    pub(crate) fn load(&self, joiner: &str) -> Result<Tls> {
        tracing::info!("TLS: {self}");
        if !self.mode.uses_files() {
            return Ok(Tls::default());
        }
        let own = self.own()?;
        if let (Own::Ephemeral, End::Joiner, true) = (&own, self.end, self.mode.verifies()) {
            return Err(Error::new(
                Code::Usage,
                format!(
                    "my.cnf asks for {}, but this node has no certificate to show, and donors that are configured \
                     like it would refuse it; set ssl-cert and ssl-key, or ssl-mode=DISABLED in [sst]",
                    self.mode
                ),
            ));
        }
        let roots = self.roots()?;
        if let (Own::Files(certificate), Some(roots)) = (&own, &roots) {
            // A peer that verifies looks at the use of the certificate, too; nobody else does.
            let end = if self.mode.verifies() { self.end } else { End::Joiner };
            certificate.check_against(roots, end)?;
        }
        let peer = match (&self.mode, roots) {
            (Mode::VerifyCa(_), Some(roots)) => Demand::Chain(roots),
            (Mode::VerifyIdentity(_), Some(roots)) => self.by_name(roots, joiner)?,
            (Mode::Own(_) | Mode::Required(_), _)
            | (Mode::VerifyCa(_) | Mode::VerifyIdentity(_), None) => Demand::Nothing,
        };
        Ok(Tls { own, peer })
    }

    fn own(&self) -> Result<Own> {
        let Files { cert, key, .. } = &self.files;
        let Some(cert) = cert else {
            return match key {
                None => Ok(Own::Ephemeral),
                Some(key) => Err(Error::new(
                    Code::Usage,
                    format!("{key} names a key, but no option its certificate; set ssl-cert"),
                )),
            };
        };
        // As socat and stunnel: a key that is not named is in the same file.
        let key = key.as_ref().unwrap_or(cert);
        Certificate::load(&cert.file(), &key.file()).map(Own::Files)
    }

    fn roots(&self) -> Result<Option<Roots>> {
        let places: Vec<_> = [&self.files.ca, &self.files.capath]
            .into_iter()
            .flatten()
            .map(|it| it.file())
            .collect();
        if places.is_empty() { Ok(None) } else { Roots::load(&places).map(Some) }
    }

    /// A joiner does not know who its donor will be; it has the token for that.
    fn by_name(&self, roots: Roots, joiner: &str) -> Result<Demand> {
        match self.end {
            End::Joiner => Ok(Demand::Chain(roots)),
            End::Donor => {
                let mut names = vec![joiner];
                if own_address::is_local(joiner) {
                    names.push("localhost");
                }
                Ok(Demand::ChainAndName(roots, Names::parse(&names)?))
            }
        }
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.mode)?;
        if !self.mode.uses_files() {
            return Ok(());
        }
        let Files { ca, capath, cert, .. } = &self.files;
        let places: Vec<_> = [ca, capath].into_iter().flatten().map(ToString::to_string).collect();
        if self.mode.verifies() {
            write!(f, " with {}", places.join(" and "))?;
        }
        match cert {
            Some(cert) => write!(f, ", certificate {cert}"),
            None => f.write_str(", no certificate of this node"),
        }
    }
}
