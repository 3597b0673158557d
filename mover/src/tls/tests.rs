//! Files of an operator, good and bad ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::slice::from_ref;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, PKCS_ECDSA_P256_SHA256, SignatureAlgorithm, date_time_ymd,
};
use tempfile::TempDir;

use super::*;
use crate::error::{Code, Error};

/// An authority and a directory for what it issues.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Certificates between this one and the root.
    bundle: String,
    directory: TempDir,
    /// Of what it issues.
    keys: &'static SignatureAlgorithm,
}

/// What shall be in a certificate.
pub(crate) struct Wanted {
    pub(crate) names: Vec<&'static str>,
    pub(crate) years: (i32, i32),
    pub(crate) uses: Vec<ExtendedKeyUsagePurpose>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { names: vec!["localhost", "127.0.0.1"], years: (2000, 3000), uses: Vec::new() }
    }
}

impl Wanted {
    fn params(self, subject: &str) -> CertificateParams {
        let names: Vec<String> = self.names.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, subject);
        params.not_before = date_time_ymd(self.years.0, 1, 1);
        params.not_after = date_time_ymd(self.years.1, 1, 1);
        params.extended_key_usages = self.uses;
        params
    }
}

fn authority(subject: &str, years: (i32, i32)) -> CertificateParams {
    let wanted = Wanted { names: Vec::new(), years, uses: Vec::new() };
    let mut params = wanted.params(subject);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl Authority {
    pub(crate) fn root() -> Self {
        Self::valid((2000, 3000))
    }

    pub(crate) fn valid(years: (i32, i32)) -> Self {
        let key = KeyPair::generate().unwrap();
        // All have the same name, as those that people make by the same recipe.
        let issuer = CertifiedIssuer::self_signed(authority("Test CA", years), key).unwrap();
        let directory = TempDir::new().unwrap();
        Self { issuer, bundle: String::new(), directory, keys: &PKCS_ECDSA_P256_SHA256 }
    }

    pub(crate) fn intermediate(&self) -> Self {
        let (key, params) = (self.key(), authority("Between", (2000, 3000)));
        let issuer = CertifiedIssuer::signed_by(params, key, &self.issuer).unwrap();
        let bundle = format!("{}{}", issuer.pem(), self.bundle);
        Self { issuer, bundle, directory: TempDir::new().unwrap(), keys: self.keys }
    }

    /// The same with a key of this kind, and all below it.
    pub(crate) fn with_keys(mut self, keys: &'static SignatureAlgorithm) -> Self {
        self.keys = keys;
        let about = authority("Test CA", (2000, 3000));
        self.issuer = CertifiedIssuer::self_signed(about, self.key()).unwrap();
        self
    }

    fn key(&self) -> KeyPair {
        KeyPair::generate_for(self.keys).unwrap()
    }

    /// The authority's own certificate, in a file.
    pub(crate) fn file(&self) -> NamedFile {
        self.write("ca.pem", &self.issuer.pem())
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::load(&[self.file()]).unwrap()
    }

    /// Files of a new certificate, with those between it and the root, and of its key.
    pub(crate) fn issue_files(&self, wanted: Wanted) -> (NamedFile, NamedFile) {
        let key = self.key();
        let certificate = wanted.params("A Server").signed_by(&key, &self.issuer).unwrap();
        let chain = format!("{}{}", certificate.pem(), self.bundle);
        (self.write("cert.pem", &chain), self.write("key.pem", &key.serialize_pem()))
    }

    pub(crate) fn issue(&self, wanted: Wanted) -> Certificate {
        let (chain, key) = self.issue_files(wanted);
        Certificate::load(&chain, &key).unwrap()
    }

    /// Without the checks of `load`, as a peer may be.
    pub(crate) fn issue_unchecked(&self, wanted: Wanted) -> Certificate {
        let (chain, key) = self.issue_files(wanted);
        Certificate::unchecked(&chain, &key)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> NamedFile {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        named(&path)
    }
}

fn named(path: &Path) -> NamedFile {
    NamedFile { path: path.to_owned(), option: "[mysqld] an-option".to_owned() }
}

/// Every error is the operator's, and names option and file.
fn told(error: Error, file: &NamedFile) -> String {
    assert_eq!(error.code(), Code::Usage, "{error}");
    let told = error.to_string();
    assert!(told.contains(&file.to_string()), "{told}");
    told
}

#[test]
fn a_chain_with_an_intermediate_authority_leads_to_its_root_only() {
    let (root, other) = (Authority::root(), Authority::root());
    let certificate = root.intermediate().issue(Wanted::default());
    for end in [End::Joiner, End::Donor] {
        certificate.check_against(&root.roots(), end).unwrap();
        let error = certificate.check_against(&other.roots(), end).unwrap_err();
        assert!(error.to_string().contains("does not pass the check against"), "{error}");
        assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    }
    // Without what is between: the root did not sign it.
    let between = root.intermediate();
    let (chain, key) = between.issue_files(Wanted::default());
    let text = fs::read_to_string(&chain.path).unwrap();
    let (leaf, rest) = text.split_at(text.find("-----END CERTIFICATE-----").unwrap());
    assert!(rest.len() > 100, "an intermediate certificate follows");
    let alone = between.write("alone.pem", &format!("{leaf}-----END CERTIFICATE-----\n"));
    let certificate = Certificate::load(&alone, &key).unwrap();
    told(certificate.check_against(&root.roots(), End::Joiner).unwrap_err(), &alone);
}

#[test]
fn certificates_out_of_their_time_are_named_with_the_date() {
    for (years, expected) in [((2000, 2001), "expired on"), ((2900, 3000), "not valid before")] {
        let root = Authority::root();
        let (chain, key) = root.issue_files(Wanted { years, ..Wanted::default() });
        let told = told(Certificate::load(&chain, &key).unwrap_err(), &chain);
        let date = if years.0 == 2000 { "2001" } else { "2900" };
        assert!(told.contains(expected) && told.contains(date), "{told}");
    }
    let authority = Authority::valid((2000, 2001));
    let old = authority.file();
    assert!(told(Roots::load(from_ref(&old)).unwrap_err(), &old).contains("expired on"));
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let root = Authority::root();
    let (chain, key) = root.issue_files(Wanted::default());
    let wrong = root.write("other.pem", &KeyPair::generate().unwrap().serialize_pem());
    let words = told(Certificate::load(&chain, &wrong).unwrap_err(), &wrong);
    assert!(words.contains("is not the key of"), "{words}");
    Certificate::load(&chain, &key).unwrap();
}

#[test]
fn files_that_hold_something_else_are_refused() {
    let root = Authority::root();
    let (chain, key) = root.issue_files(Wanted::default());
    let missing = named(Path::new("/nowhere/cert.pem"));
    assert!(
        told(Certificate::load(&missing, &key).unwrap_err(), &missing).contains("cannot be read")
    );
    assert!(told(Certificate::load(&key, &key).unwrap_err(), &key).contains("no certificate"));
    assert!(
        told(Certificate::load(&chain, &chain).unwrap_err(), &chain).contains("no private key")
    );
    assert!(told(Roots::load(from_ref(&key)).unwrap_err(), &key).contains("no certificate"));
    let cut = root.write("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    assert!(told(Certificate::load(&cut, &key).unwrap_err(), &cut).contains("damaged"));
    for mark in ["-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "Proc-Type: 4,ENCRYPTED\n"] {
        let locked = root.write("locked.pem", mark);
        let words = told(Certificate::load(&chain, &locked).unwrap_err(), &locked);
        assert!(words.contains("encrypted with a password"), "{words}");
    }
}

#[test]
fn certificate_and_key_may_share_a_file() {
    let root = Authority::root();
    let (chain, key) = root.issue_files(Wanted::default());
    let both = [&chain, &key].map(|file| fs::read_to_string(&file.path).unwrap()).concat();
    let both = root.write("both.pem", &both);
    Certificate::load(&both, &both).unwrap();
}

#[test]
fn certificates_of_version_1_are_named_as_such() {
    let root = Authority::root();
    let v1 = root.write("v1.pem", VERSION_1);
    let key = root.write("key.pem", &KeyPair::generate().unwrap().serialize_pem());
    let words = told(Certificate::load(&v1, &key).unwrap_err(), &v1);
    assert!(words.contains("version 1"), "{words}");
    // As an authority it is as good as any.
    Roots::load(&[v1]).unwrap();
}

#[test]
fn of_a_directory_every_certificate_counts_once_and_the_rest_is_skipped() {
    let (one, two, other) = (Authority::root(), Authority::root(), Authority::root());
    let place = TempDir::new().unwrap();
    for (name, authority) in [("a.pem", &one), ("9d66eef0.0", &one), ("b.crt", &two)] {
        fs::copy(authority.file().path, place.path().join(name)).unwrap();
    }
    fs::write(place.path().join("README"), "not a certificate").unwrap();
    fs::write(place.path().join("cut.pem"), "-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap();
    fs::create_dir(place.path().join("private")).unwrap();
    let roots = Roots::load(&[named(place.path())]).unwrap();
    for authority in [&one, &two] {
        let certificate = authority.issue(Wanted::default());
        certificate.check_against(&roots, End::Joiner).unwrap();
    }
    let stranger = other.issue(Wanted::default());
    stranger.check_against(&roots, End::Joiner).unwrap_err();
    let empty = named(TempDir::new().unwrap().path());
    told(Roots::load(from_ref(&empty)).unwrap_err(), &empty);
}

#[test]
fn a_certificate_that_is_its_own_authority_is_taken() {
    let root = Authority::root();
    let key = KeyPair::generate().unwrap();
    // As `openssl req -x509` makes it.
    let own = authority("localhost", (2000, 3000)).self_signed(&key).unwrap();
    let chain = root.write("own.pem", &own.pem());
    let key = root.write("own-key.pem", &key.serialize_pem());
    let certificate = Certificate::load(&chain, &key).unwrap();
    certificate.check_against(&Roots::load(&[chain]).unwrap(), End::Joiner).unwrap();
    certificate.check_against(&root.roots(), End::Joiner).unwrap_err();
}

#[test]
fn a_certificate_of_a_server_is_no_authority_wherever_it_lies() {
    let root = Authority::root();
    let params = Wanted::default().params("A Server");
    let issuer = CertifiedIssuer::signed_by(params, root.key(), &root.issuer).unwrap();
    let bundle = issuer.pem();
    let keys = &PKCS_ECDSA_P256_SHA256;
    let server = Authority { issuer, bundle, directory: TempDir::new().unwrap(), keys };
    let minted = server.issue(Wanted::default());
    // A file with both, as a directory of certificates and keys has them.
    let both = root.write("both.pem", &format!("{}{}", root.issuer.pem(), server.issuer.pem()));
    for file in [root.file(), both] {
        for end in [End::Joiner, End::Donor] {
            minted.check_against(&Roots::load(from_ref(&file)).unwrap(), end).unwrap_err();
        }
    }
    let alone = server.file();
    assert!(told(Roots::load(from_ref(&alone)).unwrap_err(), &alone).contains("authority"));
}

#[test]
fn a_use_that_is_not_written_in_the_certificate_is_refused() {
    let root = Authority::root();
    let uses = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = root.issue(Wanted { uses, ..Wanted::default() });
    certificate.check_against(&root.roots(), End::Joiner).unwrap();
    let error = certificate.check_against(&root.roots(), End::Donor).unwrap_err();
    assert!(error.to_string().contains("client authentication"), "{error}");
}

#[test]
fn names_are_host_names_and_addresses() {
    Names::parse(&["db1.example", "192.0.2.7", "fd00::7", "localhost"]).unwrap();
    assert_eq!(Names::parse(&["a b"]).unwrap_err().code(), Code::Usage);
}

/// `openssl req -x509` of OpenSSL 1.0, which made version 1 without extensions. No key exists.
const VERSION_1: &str = include_str!("../../fixtures/version-1.pem");
