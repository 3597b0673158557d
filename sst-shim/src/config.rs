//! The server's option files, read by the server's own tool.
//!
//! `my_print_defaults` comes with every server and knows its include rules, quoting and group
//! order; a second parser would differ in some corner. It is the one child process of this
//! program, started directly and not by a shell.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fastsst_mover::{Code, Error, Result};

use crate::args::Defaults;
use crate::server_args::ServerArgs;

const PROGRAM: &str = "my_print_defaults";

/// Where to look after `PATH`, which a container may leave empty.
const SYSTEM_DIRECTORIES: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/usr/local/mysql/bin"];

/// The groups of the option files that matter here.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// What the server itself reads, in its own order of groups.
    pub(crate) server: ServerArgs,
    /// `[sst]`, then `[sst]` with the group suffix.
    pub(crate) sst: ServerArgs,
}

impl Config {
    /// Reads both groups.
    ///
    /// # Errors
    /// E02 without `my_print_defaults`; E01 with its words when a file cannot be read.
    pub(crate) fn read(defaults: &Defaults) -> Result<Self> {
        let program = find_program()?;
        Ok(Self {
            server: read_group(&program, defaults, "--mysqld")?,
            sst: read_group(&program, defaults, "sst")?,
        })
    }
}

fn read_group(program: &Path, defaults: &Defaults, group: &str) -> Result<ServerArgs> {
    let mut command = Command::new(program);
    let options = [
        ("--defaults-file", &defaults.file),
        ("--defaults-extra-file", &defaults.extra_file),
        ("--defaults-group-suffix", &defaults.group_suffix),
    ];
    for (name, value) in options {
        if let Some(value) = value {
            command.arg(format!("{name}={value}"));
        }
    }
    let output = command.arg(group).stdin(Stdio::null()).output().map_err(|error| {
        Error::new(Code::Missing, format!("cannot run {}", program.display())).because(error)
    })?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint.trim().replace('\n', "; ");
    if !output.status.success() {
        return Err(Error::new(
            Code::Usage,
            format!(
                "the option files cannot be read: {complaint}; correct them or their permissions \
                 and start the node again"
            ),
        ));
    }
    if !complaint.is_empty() {
        tracing::warn!("{PROGRAM}: {complaint}");
    }
    Ok(ServerArgs::parse_lines(&String::from_utf8_lossy(&output.stdout)))
}

/// Next to our own binary, in `../extra`, in `PATH`, in the usual places.
fn find_program() -> Result<PathBuf> {
    let own = std::env::current_exe().ok();
    let own = own.as_deref().and_then(Path::parent);
    let near = own.into_iter().flat_map(|own| [own.to_owned(), own.join("../extra")]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<_> = std::env::split_paths(&path).filter(|place| place.is_absolute()).collect();
    near.chain(path)
        .chain(SYSTEM_DIRECTORIES.map(PathBuf::from))
        .map(|place| place.join(PROGRAM))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            Error::new(
                Code::Missing,
                format!(
                    "{PROGRAM} is neither beside this program nor in PATH nor in /usr/bin; it \
                     comes with the server's packages (Debian: mariadb-server-core or \
                     mariadb-client-core), install it"
                ),
            )
        })
}
