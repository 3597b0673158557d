//! Whether a database server is working on a directory.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fastsst_proto::path::RelPath;
use rustix::fs::{OFlags, major, minor};
use rustix::process::{Flock, FlockType, fcntl_getlk};

use crate::disk::FileMode;
use crate::error::{Code, Error, Result};
use crate::tree::{Dir, FileKind};

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

/// Refuses files that another process has open for writing.
///
/// Redo log, undo tablespaces and tables carry no lock; outside of a data directory they are told
/// from another server's only by who has them open. Processes of other users cannot be looked into,
/// nor those that have changed theirs; servers that a unit starts run as the same user from the start.
///
/// # Errors
/// E30 naming the file and the process; E09.
pub(crate) fn check_writers(dir: &Dir, names: &[RelPath]) -> Result<()> {
    let mut wanted = HashMap::new();
    for name in names {
        if let Some(stat) = dir.stat(name)?.filter(|stat| stat.kind == FileKind::File) {
            wanted.insert((stat.dev, stat.ino), name);
        }
    }
    let own = std::process::id().to_string();
    let processes = if wanted.is_empty() { Vec::new() } else { entries(Path::new("/proc")) };
    for process in processes {
        let Some(pid) = process.file_name().and_then(OsStr::to_str) else { continue };
        if pid == own || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        for open in entries(&process.join("fd")) {
            let Ok(stat) = fs::metadata(&open) else { continue };
            // As `Stat` has it.
            let device = (u64::from(major(stat.dev())) << 32) | u64::from(minor(stat.dev()));
            let Some(name) = wanted.get(&(device, stat.ino())) else { continue };
            if may_write(&process, &open) {
                return Err(Error::new(
                    Code::SourceInUse,
                    format!(
                        "{} is open for writing in process {pid}: another server uses it; give each \
                         server directories of its own",
                        dir.place_of(name)
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// What is in a directory; nothing if it may not be read, or has gone.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(directory).into_iter().flatten();
    listed.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

/// Whether a process opened a descriptor for writing. Source: proc(5), `fdinfo`: `flags`, octal.
fn may_write(process: &Path, descriptor: &Path) -> bool {
    let name = descriptor.file_name().unwrap_or_default();
    let text = fs::read_to_string(process.join("fdinfo").join(name)).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| {
        OFlags::from_bits_retain(flags).intersects(OFlags::WRONLY | OFlags::RDWR)
    })
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
