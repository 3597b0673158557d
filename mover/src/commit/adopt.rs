//! Files of the stale copy become files of the new tree.

use fastsst_proto::path::RelPath;
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::tree::Dir;

/// Moves the file at `path` of the stale copy to the same place in the new tree.
///
/// # Errors
/// E09; with `AlreadyExists` when there is something at that place.
pub(crate) fn adopt(stale: &Dir, path: &RelPath, new: &Dir) -> Result<()> {
    move_file((stale, path), (new, path), RenameFlags::NOREPLACE)
}

/// Moves the file at `path` of the stale copy over a file of the new tree.
///
/// # Errors
/// E09.
pub(crate) fn adopt_as(stale: &Dir, path: &RelPath, new: &Dir, new_path: &RelPath) -> Result<()> {
    move_file((stale, path), (new, new_path), RenameFlags::empty())
}

fn move_file(from: (&Dir, &RelPath), to: (&Dir, &RelPath), flags: RenameFlags) -> Result<()> {
    let failed = |errno: Errno| Error::write(to.0.place_of(to.1), errno.into());
    let (from_dir, to_dir) = (parent(from)?, parent(to)?);
    let (from_dir, to_dir) = (from_dir.as_ref().unwrap_or(from.0), to_dir.as_ref().unwrap_or(to.0));
    let (name, new_name) = (from.1.name(), to.1.name());
    match rustix::fs::renameat_with(from_dir, name, to_dir, new_name, flags) {
        Ok(()) => Ok(()),
        // A file system that cannot refuse to replace.
        Err(Errno::INVAL) if !flags.is_empty() => {
            if to.0.stat(to.1)?.is_some() {
                return Err(failed(Errno::EXIST));
            }
            rustix::fs::renameat(from_dir, name, to_dir, new_name).map_err(failed)
        }
        Err(errno) => Err(failed(errno)),
    }
}

/// The directory that holds a file, unless it is the top.
fn parent((dir, path): (&Dir, &RelPath)) -> Result<Option<Dir>> {
    path.parent().map(|parent| dir.open_dir(&parent)).transpose()
}
