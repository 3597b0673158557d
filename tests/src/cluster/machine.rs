//! What the machine provides: Debian's server, Galera's provider, our two binaries.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use rustix::process::getuid;

use super::server::Server;
use crate::wait::succeed;

/// Name of the binary a server starts for `wsrep_sst_method=fastsst`.
pub const SHIM: &str = "wsrep_sst_fastsst";

/// Name of the command line tool.
pub const TOOL: &str = "fastsst";

/// Where programs are looked for after `PATH`; an ordinary user's `PATH` lacks some of them.
pub(super) const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Creating a datadir. Why: it takes 2 to 5 s here, and disks of test machines can be slow.
const INSTALL: Duration = Duration::from_secs(120);

/// Copying files of a few hundred MiB.
const COPY: Duration = Duration::from_secs(120);

/// Compiling our binaries when nobody else did.
const COMPILE: Duration = Duration::from_secs(20 * 60);

/// The full path of a program.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    std::env::split_paths(&format!("{path}:{SYSTEM_PATH}"))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run `make deps`"))
}

/// Whether servers must be told to become `mysql`: only root can, and only root needs to.
pub(super) fn as_root() -> bool {
    getuid().is_root()
}

/// The account that opens SQL connections over the socket: our own.
pub(super) fn own_name() -> String {
    if as_root() {
        return "root".to_owned();
    }
    succeed(Command::new(program("id")).arg("-un"), COPY).trim().to_owned()
}

/// Gives a file or directory to the account that servers run as.
pub(crate) fn give(path: &Path) {
    if as_root() {
        succeed(Command::new(program("chown")).args(["-R", "mysql:mysql"]).arg(path), COPY);
    }
}

/// Copies a file or tree with all attributes, as a reflink where the file system can.
pub(super) fn copy(from: &Path, to: &Path) {
    let mut command = Command::new(program("cp"));
    succeed(command.args(["-a", "--reflink=auto", "--sparse=never"]).arg(from).arg(to), COPY);
}

/// The directory with our two binaries: `FASTSST_BIN_DIR`, or cargo's own after a build.
///
/// The build is repeated in every test process (it takes no time when nothing changed), so a
/// test can never run against yesterday's binaries.
pub(crate) fn own_binaries() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let directory =
            std::env::var_os("FASTSST_BIN_DIR").map_or_else(build, |given| PathBuf::from(&given));
        for name in [SHIM, TOOL] {
            let file = directory.join(name);
            assert!(file.is_file(), "{} is missing", file.display());
        }
        directory
    })
}

fn build() -> PathBuf {
    let target = target_directory();
    let profile = target.1.file_name().expect("a profile").to_owned();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["build", "--quiet", "--bins", "-p", "fastsst-mover", "-p", "fastsst-sst-shim"])
        .arg("--target-dir")
        .arg(&target.0)
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"));
    if profile == "release" {
        command.arg("--release");
    }
    succeed(&mut command, COMPILE);
    target.1
}

/// Cargo's target directory, and the profile's directory in it, that this program lies in:
/// `target/PROFILE/deps/it-...` or `target/PROFILE/fastsst-demo`.
pub(super) fn target_directory() -> (PathBuf, PathBuf) {
    let program = std::env::current_exe().expect("own path");
    let mut profile = program.parent().expect("a directory");
    if profile.file_name().is_some_and(|name| name == "deps") {
        profile = profile.parent().expect("the profile's directory");
    }
    let target = profile.parent().expect("the target directory");
    (target.to_owned(), profile.to_owned())
}

/// Puts our binaries into a directory that the server's account can read.
pub(super) fn install_binaries(into: &Path) {
    for name in [SHIM, TOOL] {
        copy(&own_binaries().join(name), &into.join(name));
        fs::set_permissions(into.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Makes `datadir` what the server's `mariadb-install-db` makes; `scratch` is a directory of the
/// caller, below the directory `base` of its cluster.
///
/// The result is kept beside cargo's artefacts, per server version and account, because
/// every cluster needs it and making it takes seconds.
pub(super) fn install_datadir(server: Server, datadir: &Path, (base, scratch): (&Path, &Path)) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let version = succeed(server.command("mariadbd", base).args(["--no-defaults", "-V"]), COPY);
    let version = version.split_whitespace().nth(2).expect("mariadbd  Ver X").to_owned();
    let name = format!("fastsst-datadir-{}-{version}", getuid().as_raw());
    let template = target_directory().0.join(name);
    {
        let _turn = ONE_AT_A_TIME.lock();
        if !template.is_dir() {
            make_template(server, &template, (base, scratch));
        }
    }
    copy(&template.join("."), datadir);
}

fn make_template(server: Server, template: &Path, (base, scratch): (&Path, &Path)) {
    let fresh = scratch.join("template");
    fs::create_dir(&fresh).unwrap();
    give(&fresh);
    let mut command = server.command("mariadb-install-db", base);
    command
        .args(["--no-defaults", "--skip-test-db", "--skip-name-resolve", "--force"])
        .arg("--auth-root-authentication-method=socket")
        .arg(format!("--datadir={}", fresh.display()))
        .arg(format!("--innodb-log-file-size={}", super::config::LOG_FILE_SIZE));
    if as_root() {
        command.arg("--user=mysql");
    } else {
        command.arg(format!("--auth-root-socket-user={}", own_name()));
    }
    succeed(command.current_dir(scratch), INSTALL);
    // Another process may do the same now: whoever renames first wins, a template is whole.
    let staged = template.with_extension(std::process::id().to_string());
    copy(&fresh, &staged);
    if fs::rename(&staged, template).is_err() {
        fs::remove_dir_all(&staged).unwrap();
    }
    fs::remove_dir_all(&fresh).unwrap();
    assert!(template.is_dir(), "{}: cannot be made", template.display());
}
