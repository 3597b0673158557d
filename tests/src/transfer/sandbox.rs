//! A directory for one test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::getuid;
use tempfile::TempDir;

use super::tool;
use crate::cluster::guard::Guard;

/// A directory that everybody can enter and that is gone after the test.
#[derive(Debug)]
pub struct Sandbox {
    directory: TempDir,
    _guard: Guard,
}

impl Sandbox {
    /// Where temporary files belong.
    #[must_use]
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// On the file system of `parent`.
    #[must_use]
    pub fn below(parent: &Path) -> Self {
        let directory = tempfile::Builder::new().prefix("fastsst-").tempdir_in(parent);
        let directory = directory.unwrap_or_else(|error| panic!("{}: {error}", parent.display()));
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let guard = Guard::over(directory.path());
        Self { directory, _guard: guard }
    }

    /// The path of something in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new directory in it.
    #[must_use]
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// The tool where any account can run it: cargo's own directory may be closed.
    pub(super) fn tool_for_everybody(&self) -> PathBuf {
        let path = self.path("fastsst");
        if !path.exists() {
            fs::copy(tool(), &path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        path
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Only root can remove what is in a directory without write permission.
        if !getuid().is_root() {
            let mut command = Command::new("chmod");
            drop(command.args(["-R", "u+rwX"]).arg(self.directory.path()).status());
        }
    }
}
