//! The Debian package: installed on this machine, used by a joining node, purged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fastsst_tests::cluster::{Cluster, Method, assert_same_data, program};
use fastsst_tests::wait::{run, succeed};

/// `dpkg` on a machine that has other things to do.
const DPKG: Duration = Duration::from_secs(60);

/// A node joins.
const JOIN: Duration = Duration::from_secs(90);

const PACKAGE: &str = "fastsst";

/// What must be there once it is installed.
const FILES: [&str; 8] = [
    "/usr/bin/wsrep_sst_fastsst",
    "/usr/bin/fastsst",
    "/usr/share/man/man1/fastsst.1.gz",
    "/usr/share/man/man1/fastsst-receive.1.gz",
    "/usr/share/man/man8/wsrep_sst_fastsst.8.gz",
    "/usr/share/bash-completion/completions/fastsst",
    "/usr/share/zsh/vendor-completions/_fastsst",
    "/usr/share/doc/fastsst/copyright",
];

/// Purges the package when the test ends, however it ends.
struct Installed;

impl Installed {
    fn from(package: &Path) -> Self {
        for file in FILES {
            assert!(!Path::new(file).exists(), "{file} is there already; this machine is in use");
        }
        let installed = Self;
        succeed(Command::new(program("dpkg")).arg("--install").arg(package), DPKG);
        installed
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let mut command = Command::new(program("dpkg"));
        // A failing test fails for its own reason; the good end looks for what is left.
        drop(run(command.args(["--purge", PACKAGE]), DPKG));
    }
}

#[test]
fn a_node_joins_with_the_installed_package_and_nothing_is_left_when_it_is_purged() {
    assert_eq!(Method::under_test(), Method::Fastsst);
    let package = std::env::var_os("FASTSST_DEB").expect("FASTSST_DEB: `make test-deb` sets it");
    let changelog = include_str!("../../../sst-shim/debian-changelog");
    let latest = format!("fastsst ({}-1) ", env!("CARGO_PKG_VERSION"));
    assert!(changelog.starts_with(&latest), "sst-shim/debian-changelog: {latest}is missing");
    let installed = Installed::from(&PathBuf::from(package));
    for file in FILES {
        let meta = fs::metadata(file).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(meta.len() > 0, "{file} is empty");
    }
    let page = succeed(Command::new(program("zcat")).arg(FILES[4]), DPKG);
    assert!(page.contains("wsrep_sst_method"), "{page}");

    let cluster = Cluster::builder().installed_programs().start(2);
    let [donor, joiner] = cluster.nodes();
    assert!(!cluster.directory().join("bin/wsrep_sst_fastsst").exists());
    donor.fill_mib(8);
    joiner.start();
    joiner.wait_synced(JOIN);
    assert_same_data(donor, joiner);
    donor.assert_no_markers();
    joiner.assert_no_markers();
    drop(cluster);

    drop(installed);
    for file in FILES {
        assert!(!Path::new(file).exists(), "{file} is left behind");
    }
}
