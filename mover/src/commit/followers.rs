//! Which other roots a leader has taken along, and whom a follower belongs to.
//!
//! The leader's list is written before the first follower is touched. So the next transfer into the
//! leader finds what an interrupted one has left in directories that it would not look into: roots
//! that only that donor had, or that the node's configuration no longer has. The follower's says that
//! what is there is still this leader's, and not of a node that has the directory now.
//!
//! ```text
//!  "FSSTFLW1" | u32 paths | path… | 32 bytes BLAKE3 of all before      path: u16 length and that many bytes
//! ```

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::disk::file::{FileMode, OpenFile};
use crate::error::{Code, Error, Result};
use crate::staging::rel;
use crate::tree::{Dir, as_path};

/// Name of a leader's list in its staging directory.
pub(crate) const FOLLOWERS: &[u8] = b"followers";

/// Name of a follower's list, of its leader, in its staging directory.
pub(crate) const LEADER: &[u8] = b"leader";

/// Name of a list that is being written.
pub(super) const UNFINISHED: &[u8] = b"list.new";

const MAGIC: &[u8] = b"FSSTFLW1";

/// Longest list. Unit: bytes. Why: far more directories than a transfer has roots, with paths of the
/// longest kind.
/// Reached: writing one fails before anything is touched; one that is read does not count.
const BYTES_MAX: usize = 4 << 20;

/// The roots of the list; none when there is no list, or it is not whole.
///
/// # Errors
/// E08: it is there and cannot be read.
pub(crate) fn load(staging: &Dir, name: &[u8]) -> Result<Vec<PathBuf>> {
    let opened = staging.open_file_read(&rel(name)?, FileMode::Buffered)?;
    let Some((file, stat)) = opened else { return Ok(Vec::new()) };
    let len = usize::try_from(stat.size).unwrap_or(usize::MAX);
    let bytes = if len <= BYTES_MAX { read(&file, len)? } else { Vec::new() };
    let paths = decode(&bytes);
    if paths.is_none() {
        tracing::warn!("{} is damaged and not used", file.place());
    }
    Ok(paths.unwrap_or_default())
}

/// Replaces the list, durably; without any root there is none.
///
/// # Errors
/// E07, E09. E24: it would be too long.
pub(super) fn store(staging: &Dir, name: &[u8], paths: &[PathBuf]) -> Result<()> {
    let (name, new_name) = (rel(name)?, rel(UNFINISHED)?);
    if paths.is_empty() {
        return match staging.unlink(&name)? {
            true => staging.sync(),
            false => Ok(()),
        };
    }
    let bytes = encode(paths)?;
    staging.unlink(&new_name)?;
    let file = staging.create_file(&new_name, FileMode::Buffered)?;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        match rustix::io::write(&file, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::write(file.place(), errno.into())),
        }
    }
    file.sync()?;
    rustix::fs::renameat(staging, new_name.as_bytes(), staging, name.as_bytes())
        .map_err(|errno| Error::write(staging.place_of(&name), errno.into()))?;
    staging.sync()
}

fn read(file: &OpenFile, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match rustix::io::read(file, room) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::read(file.place(), errno.into())),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn encode(paths: &[PathBuf]) -> Result<Vec<u8>> {
    let too_long = || Error::new(Code::Limit, "too many, or too long, paths of directories");
    let mut out = MAGIC.to_vec();
    let count = u32::try_from(paths.len()).map_err(|error| too_long().because(error))?;
    out.extend_from_slice(&count.to_le_bytes());
    for path in paths {
        let path = path.as_os_str().as_bytes();
        let len = u16::try_from(path.len()).map_err(|error| too_long().because(error))?;
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(path);
    }
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    if out.len() > BYTES_MAX { Err(too_long()) } else { Ok(out) }
}

fn decode(bytes: &[u8]) -> Option<Vec<PathBuf>> {
    let (content, hash) = bytes.split_last_chunk::<{ blake3::OUT_LEN }>()?;
    if blake3::hash(content) != *hash {
        return None;
    }
    let (count, mut rest) = content.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    let mut paths = Vec::new();
    for _ in 0..u32::from_le_bytes(*count) {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let (path, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        let path = as_path(path);
        if !path.is_absolute() {
            return None;
        }
        paths.push(path.to_path_buf());
        rest = after;
    }
    rest.is_empty().then_some(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_back_whole_or_not_at_all() {
        let tree = tempfile::tempdir().unwrap();
        let dir = Dir::open_target(tree.path()).unwrap();
        assert!(load(&dir, FOLLOWERS).unwrap().is_empty());
        for paths in [vec!["/a", "/b/\u{e4}"], vec!["/c"]] {
            let paths: Vec<_> = paths.into_iter().map(PathBuf::from).collect();
            store(&dir, FOLLOWERS, &paths).unwrap();
            assert_eq!(load(&dir, FOLLOWERS).unwrap(), paths);
            assert!(load(&dir, LEADER).unwrap().is_empty());
        }
        let bytes = std::fs::read(tree.path().join("followers")).unwrap();
        for at in 0..bytes.len() {
            assert_eq!(decode(&bytes[..at]), None, "cut to {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert_eq!(decode(&flipped), None, "flipped in {at}");
        }
        assert_eq!(decode(&encode(&["relative".into()]).unwrap()), None);
        store(&dir, FOLLOWERS, &[]).unwrap();
        assert_eq!(std::fs::read_dir(tree.path()).unwrap().count(), 0);
    }
}
