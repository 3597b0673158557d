//! Everything about a tree that a transfer promises, entry by entry, to be kept in a file.
//!
//! The root hash says whether two trees are equal; a manifest says what is different. It is made
//! from the same lines in the same order, so that its last line can be the root hash of all
//! others: a manifest that was cut or changed is recognised. `manifest/text.rs` has the format.

mod compare;
mod text;

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use fastsst_proto::manifest::EntryKind;
use fastsst_proto::{FileHash, RelPath, RootHash};

pub use self::compare::{Difference, What};
use crate::error::{Code, Error, Result};
use crate::tree_hash::{TreeLine, root_hash_of};

/// What a tree consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Ascending.
    roots: Vec<String>,
    /// Ascending by root and path, which are unique. Of the names of one file the smallest is the
    /// file, the others are hard links to it.
    lines: Vec<Line>,
    root_hash: RootHash,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    /// Position of its root.
    root: usize,
    path: RelPath,
    kind: EntryKind,
    /// Permission bits.
    mode: u16,
    /// Unit: bytes; 0 unless a file.
    size: u64,
    /// Of a file.
    hash: Option<FileHash>,
    /// Content of a symbolic link; for a hard link the path of the file.
    target: Option<Vec<u8>>,
}

impl Manifest {
    /// Of roots with these names, and of these entries in any order.
    ///
    /// # Errors
    /// E99: a path twice, or a hard link to nothing.
    pub(crate) fn of(mut roots: Vec<String>, lines: Vec<TreeLine<'_>>) -> Result<Self> {
        roots.sort_unstable();
        let mut kept = Vec::with_capacity(lines.len());
        let root_hash = root_hash_of(lines, |line| {
            let named = |root: &String| root.as_bytes().cmp(line.root);
            let target = line.hard_link_of.map(RelPath::as_bytes).or(line.link_target);
            kept.push(Line {
                root: roots.binary_search_by(named).unwrap_or(roots.len()),
                path: line.path.clone(),
                kind: line.kind,
                mode: line.mode,
                size: line.size,
                hash: line.file_hash,
                target: target.map(<[u8]>::to_vec),
            });
        })?;
        if kept.iter().any(|line| line.root == roots.len()) {
            return Err(Error::bug("an entry of a root without a name"));
        }
        Ok(Self { roots, lines: kept, root_hash })
    }

    /// The hash of everything in it, as a transfer reports it.
    #[must_use]
    pub fn root_hash(&self) -> RootHash {
        self.root_hash
    }

    /// Names of the roots, ascending.
    #[must_use]
    pub fn roots(&self) -> &[String] {
        &self.roots
    }

    /// How many files, directories, symbolic links and further names there are.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.lines.len()
    }

    /// Reads a manifest from a file and checks all of it.
    ///
    /// # Errors
    /// E08: it cannot be read. E01: it is no manifest of this version, or it is damaged.
    pub fn load(path: &Path) -> Result<Self> {
        let failed = |error| Error::read(format!("manifest {}", path.display()), error);
        let file = File::open(path).map_err(failed)?;
        text::read(BufReader::new(file)).map_err(|error| {
            let (code, what) = (error.code(), error.what());
            let named = Error::new(code, format!("manifest {}: {what}", path.display()));
            match std::error::Error::source(&error) {
                Some(cause) => named.because(cause.to_string()),
                None => named,
            }
        })
    }

    /// Writes it as text.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: impl Write) -> std::io::Result<()> {
        text::write(self, out)
    }

    /// The differences between this and what was `found`, in the order of the paths.
    pub fn differences<'a>(&'a self, found: &'a Self) -> impl Iterator<Item = Difference<'a>> {
        compare::differences(self, found)
    }

    /// What these lines are when they are hashed, whatever the manifest says: something else than
    /// itself when it was changed.
    fn computed(&self) -> Result<Self> {
        let lines = self.lines.iter().map(|line| TreeLine {
            root: self.name_of(line),
            path: &line.path,
            kind: line.kind,
            mode: line.mode,
            size: line.size,
            link_target: line.target.as_deref(),
            file_hash: line.hash,
        });
        Self::of(self.roots.clone(), lines.collect())
            .map_err(|_bug| damaged("an entry is there twice, or a hard link leads nowhere"))
    }

    fn name_of(&self, line: &Line) -> &str {
        self.roots.get(line.root).map_or("", String::as_str)
    }
}

/// A manifest that cannot be used.
fn damaged(what: impl std::fmt::Display) -> Error {
    Error::new(Code::Usage, format!("{what}; the file is damaged, make it anew"))
}

#[cfg(test)]
mod tests;
