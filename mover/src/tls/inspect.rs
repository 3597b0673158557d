//! What an operator must know of a certificate before anybody else sees it.

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Version;

use super::NamedFile;
use crate::error::Result;

/// A time as certificates have it, for messages.
pub(super) fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    ASN1Time::from_timestamp(seconds)
        .map_or_else(|_far| format!("{seconds} s after 1970"), |date| date.to_string())
}

/// Of one certificate.
#[derive(Debug)]
pub(super) struct Inspected {
    not_before: ASN1Time,
    not_after: ASN1Time,
    /// Whom it is for, for messages.
    pub(super) subject: String,
    /// It claims to have signed itself.
    pub(super) is_self_issued: bool,
    /// It may issue others: it says so, or is a root of the time before that could be said.
    pub(super) is_authority: bool,
    is_v3: bool,
}

impl Inspected {
    /// Errors: `Usage` naming `file`, where the certificate is from.
    pub(super) fn of(certificate: &CertificateDer<'_>, file: &NamedFile) -> Result<Self> {
        let (_, parsed) =
            x509_parser::parse_x509_certificate(certificate.as_ref()).map_err(|error| {
                file.wrong("holds a certificate that cannot be read; issue it again").because(error)
            })?;
        let is_self_issued = parsed.subject().as_raw() == parsed.issuer().as_raw();
        let is_v3 = parsed.version() == X509Version::V3;
        // As OpenSSL's check_ca: the constraint, or else the use, or else version 1.
        let is_authority = match (parsed.basic_constraints(), parsed.key_usage()) {
            (Ok(Some(constraints)), _) => constraints.value.ca,
            (Ok(None), Ok(Some(usage))) => usage.value.key_cert_sign(),
            (Ok(None), Ok(None)) => is_self_issued && !is_v3,
            (Err(_), _) | (_, Err(_)) => false,
        };
        Ok(Self {
            not_before: parsed.validity().not_before,
            not_after: parsed.validity().not_after,
            subject: parsed.subject().to_string(),
            is_self_issued,
            is_authority,
            is_v3,
        })
    }

    /// What is wrong with its dates at `now`, if anything is.
    pub(super) fn out_of_date(&self, now: UnixTime) -> Option<String> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now > self.not_after.timestamp() {
            return Some(format!("expired on {}", self.not_after));
        }
        let early = now < self.not_before.timestamp();
        early.then(|| format!("is not valid before {}", self.not_before))
    }

    /// Errors: `Usage` for a certificate that no end should show.
    pub(super) fn check(&self, file: &NamedFile) -> Result<()> {
        if let Some(why) = self.out_of_date(UnixTime::now()) {
            return Err(file.wrong(format!(
                "{why} (certificate of {}); issue a new one, correct this machine's clock, or show none \
                 (ssl-mode=DISABLED in [sst]; the transfer stays encrypted)",
                self.subject
            )));
        }
        if self.is_v3 {
            return Ok(());
        }
        Err(file.wrong(format!(
            "is of X.509 version 1 (certificate of {}), which this program does not verify; issue \
             it again with an extension, such as subjectAltName, or show none (ssl-mode=DISABLED in \
             [sst]; the transfer stays encrypted)",
            self.subject
        )))
    }
}
