//! Which files are meant.

use std::path::Path;

use fastsst_mover::tls::End;

use super::given::{Given, Groups};

/// Files for one end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Files {
    /// Authorities in one file.
    pub(super) ca: Option<Given>,
    /// Authorities in a directory.
    pub(super) capath: Option<Given>,
    pub(super) cert: Option<Given>,
    pub(super) key: Option<Given>,
}

impl Files {
    /// The old names of `[sst]` if there is any, else those of the server; then, one by one, what
    /// is there for this end alone.
    pub(super) fn resolve(groups: &Groups<'_>, end: End) -> Self {
        let old = Self {
            ca: groups.of_sst("tca"),
            capath: groups.of_sst("tcapath"),
            cert: groups.of_sst("tcert"),
            key: groups.of_sst("tkey"),
        };
        let general = Self::of_prefix(groups, "ssl");
        let base = if old.is_empty() { general } else { old.instead_of(&general) };
        let own = Self::of_prefix(
            groups,
            match end {
                End::Joiner => "ssl-server",
                End::Donor => "ssl-client",
            },
        );
        let mut files = Self {
            ca: own.ca.or(base.ca),
            capath: own.capath.or(base.capath),
            cert: own.cert.or(base.cert),
            key: own.key.or(base.key),
        };
        if files.ca.as_ref().is_some_and(|ca| is_directory(&ca.value)) {
            files.capath = files.ca.take();
        }
        files
    }

    /// Whether there are authorities.
    pub(super) const fn has_ca(&self) -> bool {
        self.ca.is_some() || self.capath.is_some()
    }

    fn of_prefix(groups: &Groups<'_>, prefix: &str) -> Self {
        let value = |name: &str| groups.value(&format!("{prefix}-{name}"));
        Self { ca: value("ca"), capath: value("capath"), cert: value("cert"), key: value("key") }
    }

    fn is_empty(&self) -> bool {
        self.values().iter().all(Option::is_none)
    }

    fn values(&self) -> [Option<&str>; 4] {
        [&self.ca, &self.capath, &self.cert, &self.key]
            .map(|given| given.as_ref().map(|given| given.value.as_str()))
    }

    fn instead_of(self, general: &Self) -> Self {
        if !general.is_empty() && general.values() != self.values() {
            tracing::info!(
                "[sst] tca, tcapath, tcert and tkey are there: ssl-ca, ssl-capath, ssl-cert and ssl-key \
                 are not used for SST"
            );
        }
        self
    }
}

fn is_directory(path: &str) -> bool {
    path.ends_with('/') || Path::new(path).is_dir()
}
