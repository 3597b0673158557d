//! Whether a database server is working on a directory.

use std::fs::File;
use std::path::Path;

use fastsst_mover::{Code, Error, Result};
use rustix::process::{Flock, FlockType, fcntl_getlk};

/// Files a running MariaDB or MySQL holds an fcntl lock on (InnoDB's first data file, Aria's
/// control file).
const LOCKED_BY_SERVERS: [&str; 2] = ["ibdata1", "aria_log_control"];

/// Refuses a directory that a server has open: its files would change under our hands.
///
/// The lock is only asked about, never taken, so that a server that is starting is not disturbed.
///
/// # Errors
/// E30 naming the file and the process.
pub(crate) fn check(dir: &Path) -> Result<()> {
    for name in LOCKED_BY_SERVERS {
        let path = dir.join(name);
        let Ok(file) = File::open(&path) else { continue };
        let wanted = Flock::from(FlockType::WriteLock);
        if let Ok(Some(held)) = fcntl_getlk(&file, &wanted) {
            let owner = held.pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
            return Err(Error::new(
                Code::SourceInUse,
                format!(
                    "{} is in use by a server{owner}; stop it, or let the server's own SST do the \
                     copy",
                    path.display()
                ),
            ));
        }
    }
    Ok(())
}
