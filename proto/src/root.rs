//! The root hash: one number for everything that was transferred.
//!
//! Both ends compute it from what they read and what they wrote; the transfer has succeeded when
//! the two are equal. Owners and times are transferred but not hashed: they may rightly differ.

use alloc::vec::Vec;
use core::fmt;

use thiserror::Error;

use crate::codec::{put_bytes, put_u16, put_u64};
use crate::hash::FileHash;
use crate::hex;
use crate::limits::{LINK_TARGET_BYTES_MAX, NAME_BYTES_MAX};
use crate::manifest::EntryKind;
use crate::path::RelPath;

const DOMAIN: &[u8] = b"fastsst 1 root hash\n";

/// BLAKE3 over the canonical manifest. `Display` prints 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RootHash(pub [u8; 32]);

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::fmt(&self.0, f)
    }
}

/// One entry of the canonical manifest.
#[derive(Debug, Clone, Copy)]
pub struct RootLine<'a> {
    /// Name of the root.
    pub root: &'a [u8],
    /// Path below it.
    pub path: &'a RelPath,
    /// What it is. Of the names of one file the bytewise smallest path is the `File`, the others
    /// are `HardLink`s, whichever the donor saw first.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u16,
    /// Length of the content. Unit: bytes; 0 unless a file.
    pub size: u64,
    /// Content of a symbolic link; absent otherwise.
    pub link_target: Option<&'a [u8]>,
    /// For a hard link the bytewise smallest path of its group; absent otherwise.
    pub hard_link_of: Option<&'a RelPath>,
    /// Hash of a file; absent otherwise.
    pub file_hash: Option<FileHash>,
}

/// Why a line was not taken; always a bug of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RootError {
    /// Not above the line before.
    #[error("lines of the root hash are not in ascending order")]
    Order,
    /// A field is present or absent against the kind of the entry.
    #[error("a line of the root hash has the wrong fields for its kind")]
    Fields,
}

/// Computes the root hash line by line, in ascending order of (root name, path bytes).
#[derive(Debug, Clone)]
pub struct RootHasher {
    hasher: blake3::Hasher,
    last: Option<(Vec<u8>, RelPath)>,
    lines: u64,
    buffer: Vec<u8>,
}

impl Default for RootHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl RootHasher {
    /// No line yet.
    #[must_use]
    pub fn new() -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(DOMAIN);
        Self { hasher, last: None, lines: 0, buffer: Vec::new() }
    }

    /// Adds the next line.
    ///
    /// Errors: not in order (the same path twice included), or fields that do not fit the kind.
    /// The hasher is unchanged then.
    pub fn add(&mut self, line: &RootLine<'_>) -> Result<(), RootError> {
        check_fields(line)?;
        if let Some((root, path)) = &self.last
            && (line.root, line.path) <= (root.as_slice(), path)
        {
            return Err(RootError::Order);
        }
        self.buffer.clear();
        put_line(&mut self.buffer, line);
        self.hasher.update(&self.buffer);
        self.lines += 1;
        self.last = Some((line.root.to_vec(), line.path.clone()));
        Ok(())
    }

    /// The hash of all lines and their number.
    #[must_use]
    pub fn finish(mut self) -> RootHash {
        self.hasher.update(&self.lines.to_le_bytes());
        RootHash(*self.hasher.finalize().as_bytes())
    }
}

fn check_fields(line: &RootLine<'_>) -> Result<(), RootError> {
    let is_file = line.kind == EntryKind::File;
    let fits = line.file_hash.is_some() == is_file
        && line.link_target.is_some() == (line.kind == EntryKind::Symlink)
        && line.hard_link_of.is_some() == (line.kind == EntryKind::HardLink)
        && (is_file || line.size == 0)
        && line.root.len() <= NAME_BYTES_MAX
        && line.link_target.is_none_or(|target| target.len() <= LINK_TARGET_BYTES_MAX);
    if fits { Ok(()) } else { Err(RootError::Fields) }
}

fn put_line(out: &mut Vec<u8>, line: &RootLine<'_>) {
    put_bytes(out, line.root);
    put_bytes(out, line.path.as_bytes());
    out.push(line.kind.number());
    put_u16(out, line.mode);
    put_u64(out, line.size);
    match (line.file_hash, line.link_target, line.hard_link_of) {
        (Some(hash), _, _) => out.extend_from_slice(&hash.0),
        (None, Some(target), _) => put_bytes(out, target),
        (None, None, Some(first)) => put_bytes(out, first.as_bytes()),
        (None, None, None) => {}
    }
}
