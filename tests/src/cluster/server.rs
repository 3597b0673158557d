//! The server that a node runs: this machine's, or that of another Debian release in a directory.
//!
//! The other release is entered by chroot(2) in a mount namespace of the process's own, which has
//! the cluster's directory at its usual place: all paths are the same inside and outside, and the
//! mounts are gone with the process.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::machine::{SYSTEM_PATH, program, target_directory};

/// Where Debian's releases put the provider.
const PROVIDERS: [&str; 2] = ["/usr/lib/galera/libgalera_smm.so", "/usr/lib/libgalera_smm.so"];

/// Where Debian's releases put messages and character sets.
const SHARES: [&str; 2] = ["/usr/share/mysql", "/usr/share/mariadb"];

/// Where Debian's releases put plugins.
const PLUGINS: [&str; 2] = ["/usr/lib/mysql/plugin", "/usr/lib/mariadb/plugin"];

/// Enters the root `$1`, in which the directory `$2` is where it is outside, and becomes the rest.
///
/// The first component of that directory is an empty one of this process alone, so nothing is made
/// in the root itself. `proc` and `dev` are this machine's.
const ENTER: &str = r#"
set -eu
root=$1 base=$2
shift 2
top=${base#/}
mount -t tmpfs -o mode=1777 tmpfs "$root/${top%%/*}"
mkdir -p "$root$base"
mount --bind "$base" "$root$base"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" "$@"
"#;

/// A server's release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// What this machine has installed: MariaDB 10.11 on Debian 12.
    Machine,
    /// MariaDB 11.8 of Debian 13, in `target/trixie`, where `make trixie` puts it. Needs root.
    Trixie,
}

impl Server {
    /// A command that runs one of the server's programs, with a cluster's directory at hand.
    pub(super) fn command(self, name: &str, base: &Path) -> Command {
        match self.root() {
            None => Command::new(program(name)),
            Some(root) => {
                let mut command = Command::new(program("unshare"));
                command
                    .args(["--mount", "--propagation", "private", "--", "/bin/sh", "-c", ENTER])
                    .arg("enter")
                    .args([&root, base])
                    .arg(inside(&root, SYSTEM_PATH.split(':'), name));
                command
            }
        }
    }

    /// Galera's library, as the server sees it.
    pub(super) fn provider(self) -> String {
        self.find(&PROVIDERS)
    }

    /// The directory of messages and character sets, as the server sees it.
    pub(super) fn share(self) -> String {
        self.find(&SHARES)
    }

    /// The directory of plugins, as the server sees it.
    pub(super) fn plugins(self) -> String {
        self.find(&PLUGINS)
    }

    fn find(self, candidates: &[&str]) -> String {
        let root = self.root().unwrap_or_else(|| PathBuf::from("/"));
        candidates
            .iter()
            .find(|path| below(&root, path).exists())
            .unwrap_or_else(|| {
                panic!("{}: none of {candidates:?} is there; {}", root.display(), self.remedy())
            })
            .to_string()
    }

    /// The directory that is the server's root, unless that is this machine's.
    fn root(self) -> Option<PathBuf> {
        match self {
            Self::Machine => None,
            Self::Trixie => {
                let root = target_directory().0.join("trixie");
                assert!(root.is_dir(), "{}: missing; {}", root.display(), self.remedy());
                Some(root)
            }
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Machine => "run `make deps`",
            Self::Trixie => "run `make trixie`",
        }
    }
}

/// The place of an absolute path in a root.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The absolute path of a program in a root.
fn inside<'a>(root: &Path, mut places: impl Iterator<Item = &'a str>, name: &str) -> PathBuf {
    let place = places.find(|place| below(root, place).join(name).exists());
    let place = place.unwrap_or_else(|| panic!("{}: {name} is not installed", root.display()));
    Path::new(place).join(name)
}
