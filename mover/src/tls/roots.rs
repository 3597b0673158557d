//! The certificates that a peer's chain must lead to.

use std::error::Error as StdError;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::{CertificateError, ExtendedKeyPurpose, OtherError};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::inspect::{Inspected, date};
use super::{End, NamedFile};
use crate::error::Result;

/// A certificate, and those that came after it.
pub(crate) type Presented<'a> = (&'a CertificateDer<'a>, &'a [CertificateDer<'a>]);

/// Authorities that are trusted.
#[derive(Clone)]
pub struct Roots(Arc<Trusted>);

struct Trusted {
    anchors: Vec<TrustAnchor<'static>>,
    /// Certificates that are their own authority: as such they cannot be shown by the rules of
    /// chains, but servers are often set up like that, and OpenSSL takes them.
    self_signed: Vec<(CertificateDer<'static>, Inspected)>,
    /// Where they are from.
    places: String,
}

impl Roots {
    /// Reads files and directories; of a directory, every file that holds certificates.
    ///
    /// # Errors
    /// `Usage` naming option and file: it cannot be read, or holds no certificate that is valid now.
    pub fn load(places: &[NamedFile]) -> Result<Self> {
        let names: Vec<String> = places.iter().map(ToString::to_string).collect();
        let mut trusted =
            Trusted { anchors: Vec::new(), self_signed: Vec::new(), places: names.join(" and ") };
        for place in places {
            let before = trusted.count();
            let mut outdated = None;
            for (file, certificate) in certificates(place)? {
                if let Some(why) = trusted.add(certificate, &file)? {
                    tracing::warn!("{file} {why}; it is not used");
                    outdated = Some(why);
                }
            }
            if trusted.count() == before {
                let why = outdated.map(|why| format!("; the last one in it {why}"));
                return Err(place.wrong(format!(
                    "holds no certificate of an authority that can be used{}",
                    why.unwrap_or_default()
                )));
            }
        }
        Ok(Self(Arc::new(trusted)))
    }

    /// Checks a chain: signatures, dates, and that it is made for `end`.
    pub(crate) fn verify(
        &self,
        (leaf, intermediates): Presented<'_>,
        end: End,
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        let Trusted { anchors, self_signed, .. } = self.0.as_ref();
        if let Some((_, inspected)) = self_signed.iter().find(|(trusted, _)| trusted == leaf) {
            return match inspected.out_of_date(now) {
                Some(_) => Err(CertificateError::Expired),
                None => Ok(()),
            };
        }
        let algorithms = provider::default_provider().signature_verification_algorithms;
        let leaf = EndEntityCert::try_from(leaf).map_err(refusal)?;
        leaf.verify_for_usage(algorithms.all, anchors, intermediates, now, end.usage(), None, None)
            .map(drop)
            .map_err(refusal)
    }
}

impl Trusted {
    const fn count(&self) -> usize {
        self.anchors.len() + self.self_signed.len()
    }

    /// Takes one certificate, or says what is wrong with its dates.
    fn add(
        &mut self,
        certificate: CertificateDer<'static>,
        file: &NamedFile,
    ) -> Result<Option<String>> {
        let inspected = Inspected::of(&certificate, file)?;
        if let Some(why) = inspected.out_of_date(UnixTime::now()) {
            return Ok(Some(format!("{why} (certificate of {})", inspected.subject)));
        }
        // Whoever holds the key of a server or client must not be able to make others of it.
        let is_authority = inspected.is_authority;
        if inspected.is_self_issued {
            self.self_signed.push((certificate.clone(), inspected));
        } else if !inspected.is_authority {
            tracing::debug!(
                "{file} holds a certificate of {} too, which issues none",
                inspected.subject
            );
        }
        if !is_authority {
            return Ok(None);
        }
        let anchor = anchor_from_trusted_cert(&certificate).map_err(|error| {
            file.wrong("holds a certificate that cannot be used").because(error)
        })?;
        self.anchors.push(anchor.to_owned());
        Ok(None)
    }
}

impl fmt::Display for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.places)
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Roots").field(&self.0.places).finish()
    }
}

/// Every certificate of a file or directory once, with the file it is in.
fn certificates(place: &NamedFile) -> Result<Vec<(NamedFile, CertificateDer<'static>)>> {
    let mut found: Vec<(NamedFile, CertificateDer<'static>)> = Vec::new();
    if !place.path.is_dir() {
        let all = place.certificates()?;
        return Ok(all.into_iter().map(|certificate| (place.clone(), certificate)).collect());
    }
    for path in names_in(place)? {
        let file = NamedFile { path, option: place.option.clone() };
        match file.certificates() {
            Ok(all) if all.is_empty() => tracing::debug!("{file} holds no certificate"),
            Ok(all) => {
                // A hashed directory has each of them under two names.
                for certificate in all {
                    if !found.iter().any(|(_, known)| *known == certificate) {
                        found.push((file.clone(), certificate));
                    }
                }
            }
            Err(error) => tracing::debug!("skipped: {error}"),
        }
    }
    Ok(found)
}

/// The files of a directory, links to files included, in the order of their names.
fn names_in(directory: &NamedFile) -> Result<Vec<PathBuf>> {
    let unreadable = |error| directory.wrong("cannot be read").because(error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(&directory.path).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// An error of the chain in the words of TLS, which also chooses what the peer is told.
pub(super) fn refusal(error: webpki::Error) -> CertificateError {
    use webpki::Error as Chain;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the enum is not exhaustive; the rest is told as it is"
    )]
    match error {
        Chain::CertExpired { time, not_after } => {
            CertificateError::ExpiredContext { time, not_after }
        }
        Chain::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        // The second: an authority of the same name with another key.
        Chain::UnknownIssuer | Chain::InvalidSignatureForPublicKey => {
            CertificateError::UnknownIssuer
        }
        // A joiner is a TLS server, a donor a TLS client.
        Chain::RequiredEkuNotFoundContext(context) => CertificateError::InvalidPurposeContext {
            required: purpose(context.required.oid_values().collect()),
            presented: context.present.into_iter().map(purpose).collect(),
        },
        Chain::CertNotValidForName(context) => CertificateError::NotValidForNameContext {
            expected: context.expected,
            presented: context.presented,
        },
        other => CertificateError::Other(OtherError(Arc::new(Unacceptable(other)))),
    }
}

/// What is wrong with a certificate, for an operator; dates as dates.
pub(crate) fn words(error: &CertificateError) -> String {
    if let CertificateError::ExpiredContext { not_after, .. } = error {
        return format!("certificate expired on {}", date(*not_after));
    }
    if let CertificateError::NotValidYetContext { not_before, .. } = error {
        return format!("certificate is not valid before {}", date(*not_before));
    }
    if *error == CertificateError::UnknownIssuer {
        return "no authority that this node knows has issued it (UnknownIssuer)".to_owned();
    }
    error.to_string()
}

/// A use that a certificate may allow. Source: RFC 5280, section 4.2.1.12.
fn purpose(identifier: Vec<usize>) -> ExtendedKeyPurpose {
    match identifier.as_slice() {
        KeyUsage::SERVER_AUTH_REPR => ExtendedKeyPurpose::ServerAuth,
        KeyUsage::CLIENT_AUTH_REPR => ExtendedKeyPurpose::ClientAuth,
        _ => ExtendedKeyPurpose::Other(identifier),
    }
}

/// The rest of what can be wrong, in words.
struct Unacceptable(webpki::Error);

impl fmt::Display for Unacceptable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use webpki::Error as Chain;
        if matches!(self.0, Chain::CaUsedAsEndEntity) {
            return f.write_str("it is the certificate of an authority, not of a server");
        }
        write!(f, "it cannot be verified ({})", self.0)
    }
}

/// The same words: the TLS library writes this into its own texts.
impl fmt::Debug for Unacceptable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for Unacceptable {}
