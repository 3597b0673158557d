//! Whether a database server is working on a directory.

use fastsst_proto::path::RelPath;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use crate::disk::FileMode;
use crate::error::{Code, Error, Result};
use crate::tree::Dir;

/// Files a running MariaDB or MySQL holds an fcntl lock on (InnoDB's first data file, Aria's
/// control file).
const LOCKED_BY_SERVERS: [&[u8]; 2] = [b"ibdata1", b"aria_log_control"];

/// [`check`], also in those directories below that may hold such files.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_with(dir: &Dir, below: &[RelPath]) -> Result<()> {
    check(dir)?;
    for path in below {
        // One that cannot be entered is not moved to or from.
        if let Ok(Some(inner)) = dir.open_dir_if_there(path) {
            check(&inner)?;
        }
    }
    Ok(())
}

/// Refuses a directory that a server has open: its files would change under our hands.
///
/// The lock is only asked about, never taken, so that a server that is starting is not disturbed.
///
/// # Errors
/// E30 naming the file and the process.
pub fn check(dir: &Dir) -> Result<()> {
    for name in LOCKED_BY_SERVERS {
        let path =
            RelPath::parse(name).map_err(|error| Error::bug("a file name").because(error))?;
        // Whoever may not read a file will fail at it by himself, with better words.
        let Ok(Some((file, _))) = dir.open_file_read(&path, FileMode::Buffered) else { continue };
        let wanted = Flock::from(FlockType::WriteLock);
        if let Ok(Some(held)) = fcntl_getlk(&file, &wanted) {
            let owner = held.pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
            return Err(Error::new(
                Code::SourceInUse,
                format!(
                    "{} is in use by a server{owner}; stop it, or let the server's own SST do the \
                     copy",
                    dir.place_of(&path)
                ),
            ));
        }
    }
    Ok(())
}
