//! Facts about a node that must agree at both ends, compared before anything is touched.

use fastsst_mover::options::parse_bytes;
use fastsst_mover::{Code, Error, Result};

use crate::settings::Settings;
use crate::version::{Comparison, ServerVersion};

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
    server_version: Option<ServerVersion>,
}

impl Facts {
    /// `system_files`: of `InnoDB`'s system tablespace, in their order.
    pub(crate) fn gather(
        server_version: Option<ServerVersion>,
        settings: &Settings<'_>,
        system_files: &[String],
    ) -> Self {
        let page = settings.value("innodb-page-size").and_then(|text| parse_bytes(&text).ok());
        let case = settings.value("lower-case-table-names").unwrap_or_else(|| "0".to_owned());
        let must_agree = vec![
            Fact {
                name: "innodb-page-size",
                option: "innodb_page_size",
                value: page.unwrap_or(PAGE_BYTES_DEFAULT).to_string(),
            },
            Fact { name: "lower-case-table-names", option: "lower_case_table_names", value: case },
            // A server does not start with other names than its files have.
            Fact {
                name: "innodb-data-file-path",
                option: "innodb_data_file_path (the names in it)",
                value: system_files.join(";"),
            },
        ];
        Self { must_agree, server_version }
    }

    /// For the declaration.
    pub(crate) fn properties(&self) -> Vec<(String, String)> {
        let method = (METHOD_VERSION, env!("CARGO_PKG_VERSION"));
        let version = self.server_version.as_ref();
        let version = version.map(|version| (SERVER_VERSION, version.as_str()));
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
        let donor = theirs(SERVER_VERSION).and_then(|text| ServerVersion::parse(text));
        check_versions(donor.as_ref(), self.server_version.as_ref())
    }
}

/// Whether a node that runs `ours` can use the files of a donor that runs `donor`.
fn check_versions(donor: Option<&ServerVersion>, ours: Option<&ServerVersion>) -> Result<()> {
    let (donor, ours) = match (donor, ours) {
        (Some(donor), Some(ours)) => (donor, ours),
        (donor, ours) => {
            let shown = |version: Option<&ServerVersion>| {
                version.map_or_else(|| "unknown".to_owned(), ToString::to_string)
            };
            tracing::info!(
                "server versions are not compared: the donor's is {}, this node's is {}",
                shown(donor),
                shown(ours)
            );
            return Ok(());
        }
    };
    let refused = |why: &str| {
        let what = format!("the donor runs {donor} and this node {ours}: {why}");
        Err(Error::new(Code::Incompatible, what))
    };
    match ours.compare_donor(donor) {
        Comparison::Same => {
            tracing::info!("the donor runs {donor}, this node {ours}");
            Ok(())
        }
        Comparison::Upgrade => {
            tracing::warn!(
                "the donor runs {donor} and this node {ours}, which upgrades the files it gets{}",
                ours.after_upgrade()
            );
            Ok(())
        }
        Comparison::DonorIsNewer => refused(
            "an older server cannot use files of a newer one; upgrade this node's server, or \
             choose a donor that is not newer with wsrep_sst_donor",
        ),
        Comparison::DonorIsTooOld => refused(
            "files of servers before MariaDB 10.5 cannot be upgraded like this; upgrade the donor \
             first, or choose another one with wsrep_sst_donor",
        ),
        Comparison::OtherFork => {
            refused("MariaDB and MySQL cannot use each other's files; copy the data with a dump")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::system_files;
    use crate::server_args::ServerArgs;
    use crate::settings::tests::settings;

    fn facts(text: &str) -> Facts {
        of_version(text, None)
    }

    fn of_version(text: &str, version: Option<&str>) -> Facts {
        let (files, explicit) = (ServerArgs::parse_lines(text), ServerArgs::default());
        let version = version.and_then(ServerVersion::parse);
        let system_files = system_files(files.value("innodb-data-file-path"));
        Facts::gather(version, &settings(&files, &explicit), &system_files)
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
        let donor = facts("--innodb-page-size=8k\n--innodb_data_file_path=a:1M;b:1M").properties();
        let error = facts("--innodb-page-size=8k").check(&donor).unwrap_err().to_string();
        assert!(error.contains("a;b") && error.contains("ibdata1"), "{error}");
        assert!(facts("--lower-case-table-names=1\n--innodb-page-size=8k").check(&donor).is_err());
    }

    #[test]
    fn a_newer_donor_is_refused_with_both_versions_and_an_unknown_one_is_not() {
        let check = |donor, ours| {
            let donor = of_version("", donor).properties();
            of_version("", ours).check(&donor)
        };
        let (old, new) = (Some("10.11.19-MariaDB-0+deb12u1"), Some("11.8.3-MariaDB"));
        let error = check(new, old).unwrap_err();
        assert_eq!(error.code(), Code::Incompatible);
        for part in ["MariaDB 11.8.3", "MariaDB 10.11.19", "wsrep_sst_donor"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(check(Some("8.0.36"), old).unwrap_err().code(), Code::Incompatible);
        assert_eq!(check(Some("10.4.2-MariaDB"), old).unwrap_err().code(), Code::Incompatible);
        for (donor, ours) in [(old, new), (new, None), (None, old), (None, None)] {
            check(donor, ours).unwrap();
        }
    }
}
