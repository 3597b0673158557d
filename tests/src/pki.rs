//! Certificates of an operator, as files that a server can read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;

use crate::cluster::machine::give;

/// A root, an authority below it, and what that one has issued.
pub struct Pki {
    root: CertifiedIssuer<'static, KeyPair>,
    between: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

/// A certificate with its chain, and its key.
#[derive(Debug)]
pub struct Issued {
    /// The certificate, then the one of the authority that issued it.
    pub chain: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Default for Pki {
    fn default() -> Self {
        let key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(authority("Root"), key()).unwrap();
        let between = CertifiedIssuer::signed_by(authority("Between"), key(), &root).unwrap();
        let directory = tempfile::Builder::new().prefix("fastsst-pki-").tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { root, between, directory }
    }
}

impl Pki {
    /// The path of the root's certificate.
    #[must_use]
    pub fn ca(&self) -> String {
        self.write("ca.pem", &self.root.pem())
    }

    /// A certificate for `names`, good from 2000 to the beginning of `end`, a year.
    #[must_use]
    pub fn issue(&self, names: &[&str], end: i32) -> Issued {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let file = names.join("+");
        let mut about = CertificateParams::new(names).unwrap();
        about.distinguished_name.push(DnType::CommonName, "A Node");
        about.not_before = date_time_ymd(2000, 1, 1);
        about.not_after = date_time_ymd(end, 1, 1);
        let certificate = about.signed_by(&key, &self.between).unwrap();
        Issued {
            chain: self.write(
                &format!("{file}-{end}.pem"),
                &format!("{}{}", certificate.pem(), self.between.pem()),
            ),
            key: self.write(&format!("{file}-{end}.key"), &key.serialize_pem()),
        }
    }

    /// For the account of the servers, as an operator has it.
    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        give(Path::new(&path));
        path.display().to_string()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut about = CertificateParams::default();
    about.distinguished_name.push(DnType::CommonName, name);
    about.not_before = date_time_ymd(2000, 1, 1);
    about.not_after = date_time_ymd(3000, 1, 1);
    about.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    about
}
