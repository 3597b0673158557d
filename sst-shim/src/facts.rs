//! Facts about a node that must agree at both ends, compared before anything is touched.

use std::fs;
use std::path::Path;

use fastsst_mover::options::parse_bytes;
use fastsst_mover::{Code, Error, Result};

use crate::settings::Settings;

/// Name and version told to the peer.
pub(crate) const SOFTWARE: &str = concat!("wsrep_sst_fastsst ", env!("CARGO_PKG_VERSION"));

const METHOD_VERSION: &str = "method-version";
const SERVER_VERSION: &str = "server-version";

/// InnoDB's page size when nothing is configured. Unit: bytes.
const PAGE_BYTES_DEFAULT: u64 = 16 << 10;

/// A fact that must be equal at both ends, with its option.
#[derive(Debug, PartialEq, Eq)]
struct Fact {
    name: &'static str,
    option: &'static str,
    value: String,
}

/// The facts of this node.
#[derive(Debug)]
pub(crate) struct Facts {
    must_agree: Vec<Fact>,
    server_version: Option<String>,
}

impl Facts {
    pub(crate) fn gather(datadir: &Path, settings: &Settings<'_>) -> Self {
        let page = settings.value("innodb-page-size").and_then(|text| parse_bytes(&text).ok());
        let case = settings.value("lower-case-table-names").unwrap_or_else(|| "0".to_owned());
        let must_agree = vec![
            Fact {
                name: "innodb-page-size",
                option: "innodb_page_size",
                value: page.unwrap_or(PAGE_BYTES_DEFAULT).to_string(),
            },
            Fact { name: "lower-case-table-names", option: "lower_case_table_names", value: case },
        ];
        Self { must_agree, server_version: version_of_files(datadir) }
    }

    /// For the declaration.
    pub(crate) fn properties(&self) -> Vec<(String, String)> {
        let method = (METHOD_VERSION, env!("CARGO_PKG_VERSION"));
        let version = self.server_version.as_deref().map(|version| (SERVER_VERSION, version));
        let must_agree = self.must_agree.iter().map(|fact| (fact.name, fact.value.as_str()));
        std::iter::once(method)
            .chain(version)
            .chain(must_agree)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Compares the donor's facts with ours; what one end does not know is not compared.
    ///
    /// # Errors
    /// E15 naming option and both values.
    pub(crate) fn check(&self, donor: &[(String, String)]) -> Result<()> {
        let theirs = |name| donor.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        for fact in &self.must_agree {
            if let Some(value) = theirs(fact.name).filter(|value| **value != fact.value) {
                return Err(Error::new(
                    Code::Incompatible,
                    format!(
                        "{} is {:?} on the donor and {:?} here; set the joiner's to the donor's \
                         and start it again",
                        fact.option, value, fact.value
                    ),
                ));
            }
        }
        let known = |name| theirs(name).map_or_else(|| "unknown".to_owned(), |v| format!("{v:?}"));
        tracing::info!(
            "the donor's files were last upgraded by server version {}, its method version is {}",
            known(SERVER_VERSION),
            known(METHOD_VERSION)
        );
        Ok(())
    }
}

/// The server version that last upgraded the system tables, the only version that files tell.
fn version_of_files(datadir: &Path) -> Option<String> {
    const VERSION_BYTES_MAX: usize = 64;
    let text = ["mariadb_upgrade_info", "mysql_upgrade_info"]
        .iter()
        .find_map(|name| fs::read_to_string(datadir.join(name)).ok())?;
    let version = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!version.is_empty() && version.len() <= VERSION_BYTES_MAX).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server_args::ServerArgs;
    use crate::settings::tests::settings;

    fn facts(text: &str) -> Facts {
        let (files, explicit) = (ServerArgs::parse_lines(text), ServerArgs::default());
        Facts::gather(Path::new("/nonexistent"), &settings(&files, &explicit))
    }

    #[test]
    fn the_same_value_in_other_words_agrees() {
        let donor = facts("--innodb-page-size=16k\n").properties();
        assert!(facts("").check(&donor).is_ok());
        assert!(facts("--innodb_page_size=16384").check(&donor).is_ok());
        assert!(facts("").check(&[]).is_ok());
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        let donor = facts("--innodb-page-size=8k\n--lower-case-table-names=0").properties();
        let error = facts("").check(&donor).unwrap_err();
        assert_eq!(error.code(), Code::Incompatible);
        let text = error.to_string();
        assert!(text.contains("innodb_page_size") && text.contains("8192"), "{text}");
        assert!(facts("--lower-case-table-names=1\n--innodb-page-size=8k").check(&donor).is_err());
    }

    #[test]
    fn the_version_is_read_from_the_datadir() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(version_of_files(directory.path()), None);
        fs::write(directory.path().join("mysql_upgrade_info"), "10.11.19-MariaDB\0").unwrap();
        assert_eq!(version_of_files(directory.path()).as_deref(), Some("10.11.19-MariaDB"));
    }
}
