//! SQL through the `mariadb` client over a node's socket.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::machine::{own_name, program};
use crate::wait::run;

/// Longest statement of a test: filling a table, or waiting for a frozen donor.
const STATEMENT: Duration = Duration::from_secs(180);

/// A result set: rows of columns, as text.
pub type Rows = Vec<Vec<String>>;

/// The client, told where to connect and to print plain rows.
pub(super) fn client(socket: &Path) -> Command {
    let mut command = Command::new(program("mariadb"));
    command
        .args(["--no-defaults", "--batch", "--skip-column-names", "--raw", "--connect-timeout=5"])
        .arg(format!("--socket={}", socket.display()))
        .arg(format!("--user={}", own_name()));
    command
}

/// Runs statements; an error is the client's own words.
pub(super) fn query(socket: &Path, statements: &str) -> Result<Rows, String> {
    let finished = run(client(socket).arg(format!("--execute={statements}")), STATEMENT);
    if !finished.status.success() {
        return Err(finished.stderr.trim().to_owned());
    }
    let row = |line: &str| line.split('\t').map(str::to_owned).collect();
    Ok(finished.stdout.lines().map(row).collect())
}
