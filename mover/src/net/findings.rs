//! What a donor's handshake brings to light, kept because an error inside a QUIC handshake
//! survives only as text.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

use super::tls::not_accepted;
use crate::error::{Code, Error};

/// Of one connection.
#[derive(Debug, Default)]
pub(super) struct Findings {
    refused: OnceLock<Refused>,
    empty_handed: AtomicBool,
}

/// Why the joiner was not accepted.
#[derive(Debug)]
pub(super) enum Refused {
    /// Another key than the pinned one.
    WrongKey,
    /// The right key, in a certificate that this node does not accept; why.
    Certificate(String),
}

impl Findings {
    /// The first reason stays.
    pub(super) fn refuse(&self, why: Refused) {
        if let Err(later) = self.refused.set(why) {
            tracing::trace!(?later, "refused already");
        }
    }

    /// The error of a joiner at `target` that was not accepted.
    pub(super) fn refusal(&self, target: SocketAddr) -> Option<Error> {
        self.refused.get().map(|why| match why {
            Refused::WrongKey => wrong_key_of(target),
            Refused::Certificate(why) => not_accepted(target, why),
        })
    }

    /// The error of a joiner that demands a certificate of a node that has none.
    ///
    /// To this end such a handshake has succeeded.
    pub(super) fn empty_handed(&self, target: SocketAddr) -> Option<Error> {
        self.empty_handed.load(Ordering::Relaxed).then(|| {
            let what = format!(
                "the joiner at {target} demands a certificate, and this node has none to show; \
                 configure one as on the joiner (ssl-cert and ssl-key), or no ssl-ca there"
            );
            Error::new(Code::WrongKey, what)
        })
    }
}

/// Shows the node's certificate when the joiner demands one.
#[derive(Debug)]
pub(super) struct Shown {
    own: Option<Arc<CertifiedKey>>,
    findings: Arc<Findings>,
}

impl Shown {
    pub(super) const fn new(own: Option<Arc<CertifiedKey>>, findings: Arc<Findings>) -> Self {
        Self { own, findings }
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.findings.empty_handed.store(self.own.is_none(), Ordering::Relaxed);
        self.own.clone()
    }

    fn has_certs(&self) -> bool {
        self.own.is_some()
    }
}

/// The joiner at `target` has shown another key.
fn wrong_key_of(target: SocketAddr) -> Error {
    Error::new(
        Code::WrongKey,
        format!(
            "the key of {target} is not the one in the ticket; the ticket belongs to another run, \
             or something in between answers in the joiner's place"
        ),
    )
}
