//! Certificates of the operator, on top of what the ticket says.
//!
//! Every connection is TLS 1.3, the joiner's key is the one whose hash is in the ticket, and both
//! ends prove the token; nothing here replaces any of that. What is configured here comes on top:
//! an end can show a certificate of its own, and can demand one of its peer.
//!
//! Everything is read and checked when it is loaded, before a port is bound or a peer is called.

mod certificate;
mod inspect;
mod names;
mod pem;
mod roots;

pub use certificate::Certificate;
pub use names::Names;
pub use pem::NamedFile;
pub use roots::Roots;
pub(crate) use roots::words;

use webpki::KeyUsage;

/// What an end shows, and what it demands to see. `Default`: what the ticket says is enough.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// What this end shows.
    pub own: Own,
    /// What the peer must show.
    pub peer: Demand,
}

/// What an end shows of itself.
#[derive(Debug, Clone, Default)]
pub enum Own {
    /// A joiner: a key made for this transfer; a donor: nothing but the token.
    #[default]
    Ephemeral,
    /// A chain and its key.
    Files(Certificate),
}

/// What a peer must show beyond the pinned key (of a joiner) and the token.
#[derive(Debug, Clone, Default)]
pub enum Demand {
    /// Nothing.
    #[default]
    Nothing,
    /// A certificate that leads to one of these.
    Chain(Roots),
    /// A donor demands one of these names as well; a joiner knows its donor by the token.
    ChainAndName(Roots, Names),
}

impl Demand {
    /// The certificates that a peer's chain must lead to.
    #[must_use]
    pub const fn roots(&self) -> Option<&Roots> {
        match self {
            Self::Nothing => None,
            Self::Chain(roots) | Self::ChainAndName(roots, _) => Some(roots),
        }
    }

    /// The names of which the joiner's certificate must have one.
    #[must_use]
    pub const fn names(&self) -> Option<&Names> {
        match self {
            Self::Nothing | Self::Chain(_) => None,
            Self::ChainAndName(_, names) => Some(names),
        }
    }
}

/// Whose certificate it is: what it may be used for is written in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The TLS server: it listens.
    Joiner,
    /// The TLS client: it connects.
    Donor,
}

impl End {
    /// The use that a certificate must allow if it names any.
    pub(crate) const fn usage(self) -> KeyUsage {
        match self {
            Self::Joiner => KeyUsage::server_auth(),
            Self::Donor => KeyUsage::client_auth(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
