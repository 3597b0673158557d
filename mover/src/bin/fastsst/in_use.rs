//! Whether a database server is working on a directory.

use std::fs::OpenOptions;
use std::path::Path;

use fastsst_mover::{Code, Error, Result};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

/// Files a running MariaDB or MySQL holds an fcntl lock on (InnoDB's first data file, Aria's
/// control file).
const LOCKED_BY_SERVERS: [&str; 2] = ["ibdata1", "aria_log_control"];

/// Refuses a directory that a server has open: its files would change while they are read.
///
/// # Errors
/// E30 naming the file.
pub(crate) fn check(dir: &Path) -> Result<()> {
    for name in LOCKED_BY_SERVERS {
        let path = dir.join(name);
        // Read and write: a shared lock is enough, but some file systems want both for any.
        let Ok(file) = OpenOptions::new().read(true).write(true).open(&path) else { continue };
        // Closing the file releases the lock.
        let locked = fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive);
        if matches!(locked, Err(Errno::AGAIN | Errno::ACCESS)) {
            return Err(Error::new(
                Code::SourceInUse,
                format!(
                    "{} is in use by a server; stop it, let the server's SST do the copy, or use \
                     --force when you know that nothing is written",
                    path.display()
                ),
            ));
        }
    }
    Ok(())
}
