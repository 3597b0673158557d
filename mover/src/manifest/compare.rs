//! What differs between two manifests, in words.

use std::cmp::Ordering;
use std::fmt;

use fastsst_proto::RelPath;
use fastsst_proto::manifest::EntryKind;

use super::{Line, Manifest};

/// Something that is not as the manifest says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference<'a> {
    /// Where, below its root.
    pub path: &'a RelPath,
    /// What.
    pub what: What,
}

/// What is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The manifest has it, the tree has not.
    Missing,
    /// The tree has it, the manifest has not.
    Extra,
    /// Another kind of entry.
    Kind {
        /// In the manifest.
        expected: EntryKind,
        /// In the tree.
        found: EntryKind,
    },
    /// Other permission bits.
    Mode {
        /// In the manifest.
        expected: u16,
        /// In the tree.
        found: u16,
    },
    /// Another length, and so another content. Unit: bytes.
    Size {
        /// In the manifest.
        expected: u64,
        /// In the tree.
        found: u64,
    },
    /// Another content of the same length.
    Content,
    /// A link leads somewhere else.
    Target,
}

impl fmt::Display for Difference<'_> {
    /// One line; the path cannot break it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::Missing => f.write_str("missing"),
            What::Extra => f.write_str("extra"),
            What::Kind { expected, found } => {
                write!(f, "kind {}, not {}", word(found), word(expected))
            }
            What::Mode { expected, found } => write!(f, "mode {found:04o}, not {expected:04o}"),
            What::Size { expected, found } => write!(f, "size {found}, not {expected}"),
            What::Content => f.write_str("content differs"),
            What::Target => f.write_str("link differs"),
        }?;
        write!(f, ": {}", self.path)
    }
}

const fn word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink => "symbolic link",
        EntryKind::HardLink => "hard link",
    }
}

/// Goes through both in their common order.
pub(super) fn differences<'a>(
    expected: &'a Manifest,
    found: &'a Manifest,
) -> impl Iterator<Item = Difference<'a>> {
    let place = |of: &'a Manifest, line: &'a Line| (of.name_of(line), &line.path);
    let (mut left, mut right) = (expected.lines.iter().peekable(), found.lines.iter().peekable());
    let pairs = std::iter::from_fn(move || {
        let order = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => place(expected, a).cmp(&place(found, b)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let a = if order.is_le() { left.next() } else { None };
        let b = if order.is_ge() { right.next() } else { None };
        Some((a, b))
    });
    pairs.flat_map(|pair| match pair {
        (Some(a), Some(b)) => of_both(a, b),
        (Some(a), None) => vec![Difference { path: &a.path, what: What::Missing }],
        (None, Some(b)) => vec![Difference { path: &b.path, what: What::Extra }],
        (None, None) => Vec::new(),
    })
}

fn of_both<'a>(expected: &'a Line, found: &Line) -> Vec<Difference<'a>> {
    let mut whats = Vec::new();
    if expected.kind != found.kind {
        whats.push(What::Kind { expected: expected.kind, found: found.kind });
    } else if expected.size != found.size {
        whats.push(What::Size { expected: expected.size, found: found.size });
    } else if expected.hash != found.hash {
        whats.push(What::Content);
    } else if expected.target != found.target {
        whats.push(What::Target);
    }
    if expected.mode != found.mode {
        whats.push(What::Mode { expected: expected.mode, found: found.mode });
    }
    whats.into_iter().map(|what| Difference { path: &expected.path, what }).collect()
}
