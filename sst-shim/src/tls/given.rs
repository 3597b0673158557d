//! Values of options, and in which group they were found.

use std::fmt;
use std::path::PathBuf;

use fastsst_mover::tls::NamedFile;

use crate::server_args::ServerArgs;

/// A value and the option it was given to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) value: String,
    /// With its group, as `[mysqld] ssl-ca`.
    pub(super) option: String,
}

impl Given {
    /// The file of this path.
    pub(super) fn file(&self) -> NamedFile {
        NamedFile { path: PathBuf::from(&self.value), option: self.option.clone() }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.value, self.option)
    }
}

/// The groups that the stock scripts read for TLS.
#[derive(Debug)]
pub(super) struct Groups<'a> {
    /// All groups of the server, `[mysqld]` for short.
    pub(super) server: &'a ServerArgs,
    pub(super) sst: &'a ServerArgs,
}

impl Groups<'_> {
    /// The server's groups win over `[sst]`. Source: `encgroups='--mysqld|sst'` of the scripts.
    pub(super) fn value(&self, name: &str) -> Option<Given> {
        given(self.server, "mysqld", name).or_else(|| self.of_sst(name))
    }

    /// `[sst]` alone.
    pub(super) fn of_sst(&self, name: &str) -> Option<Given> {
        given(self.sst, "sst", name)
    }
}

/// The last value of a group, if that is not empty: an empty one takes back what came before.
fn given(args: &ServerArgs, group: &str, name: &str) -> Option<Given> {
    let (_, value) = args.iter().filter(|(given, _)| *given == name).last()?;
    let option = format!("[{group}] {name}");
    (!value.is_empty()).then(|| Given { value: value.to_owned(), option })
}
