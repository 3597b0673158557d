//! The root hash of a tree from its entries, the same at the donor, the joiner and `verify`.

use std::collections::HashMap;

use fastsst_proto::manifest::EntryKind;
use fastsst_proto::{FileHash, RelPath, RootHash, RootHasher, RootLine};

use crate::error::{Error, Result};

/// One entry as far as the root hash covers it.
///
/// Owner and modification time are kept by a transfer but not hashed: a joiner that runs as
/// another user owns its files, and touching a file does not change the data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TreeLine<'a> {
    /// Name of the root.
    pub(crate) root: &'a str,
    /// Path below it.
    pub(crate) path: &'a RelPath,
    /// What it is.
    pub(crate) kind: EntryKind,
    /// Permission bits.
    pub(crate) mode: u16,
    /// Bytes; 0 unless a file.
    pub(crate) size: u64,
    /// A symlink's target; a hard link's other name, which is a `File` line of the same root.
    pub(crate) link_target: Option<&'a [u8]>,
    /// A file's hash.
    pub(crate) file_hash: Option<FileHash>,
}

/// Hashes a tree; the order of `lines` does not matter.
///
/// # Errors
/// E99: a path twice, or a hard link to nothing; the caller has checked for both.
pub(crate) fn root_hash(lines: Vec<TreeLine<'_>>) -> Result<RootHash> {
    root_hash_of(lines, |_line| {})
}

/// As [`root_hash`], and shows every line in the form and order in which it is hashed.
///
/// Which name of a hard-linked file was declared first is an accident of the walk, so the group
/// is hashed under its bytewise smallest name.
///
/// # Errors
/// As [`root_hash`].
pub(crate) fn root_hash_of(
    mut lines: Vec<TreeLine<'_>>,
    mut show: impl FnMut(&RootLine<'_>),
) -> Result<RootHash> {
    let groups = smallest_names(&lines)?;
    lines.sort_unstable_by_key(|line| (line.root, line.path));
    let originals: HashMap<(&str, &[u8]), TreeLine<'_>> = lines
        .iter()
        .filter(|line| groups.contains_key(&(line.root, line.path.as_bytes())))
        .map(|line| ((line.root, line.path.as_bytes()), *line))
        .collect();
    let mut hasher = RootHasher::new();
    let mut add = |line: &RootLine<'_>| {
        show(line);
        hasher.add(line).map_err(tree_bug)
    };
    for line in &lines {
        let first = declared_name(line);
        let Some(smallest) = groups.get(&(line.root, first)) else {
            add(&plain(line))?;
            continue;
        };
        let original = originals
            .get(&(line.root, first))
            .ok_or_else(|| Error::bug(format!("{} links to nothing", line.path)))?;
        let mut hashed = plain(original);
        hashed.path = line.path;
        if *smallest != line.path {
            hashed.kind = EntryKind::HardLink;
            hashed.hard_link_of = Some(smallest);
            (hashed.size, hashed.file_hash) = (0, None);
        }
        add(&hashed)?;
    }
    Ok(hasher.finish())
}

/// For every hard-linked group its smallest name, by the name that was declared as the file.
fn smallest_names<'a>(lines: &[TreeLine<'a>]) -> Result<HashMap<(&'a str, &'a [u8]), &'a RelPath>> {
    let mut groups: HashMap<(&str, &[u8]), Option<&RelPath>> = HashMap::new();
    for line in lines.iter().filter(|line| line.kind == EntryKind::HardLink) {
        let smallest = groups.entry((line.root, declared_name(line))).or_default();
        *smallest = Some(smallest.map_or(line.path, |other| other.min(line.path)));
    }
    for line in lines.iter().filter(|line| line.kind == EntryKind::File) {
        if let Some(Some(smallest)) = groups.get_mut(&(line.root, line.path.as_bytes())) {
            *smallest = (*smallest).min(line.path);
        }
    }
    groups
        .into_iter()
        .map(|(name, smallest)| {
            smallest.map(|smallest| (name, smallest)).ok_or_else(|| Error::bug("empty link group"))
        })
        .collect()
}

/// The name under which the entry's content was declared.
fn declared_name<'a>(line: &TreeLine<'a>) -> &'a [u8] {
    match (line.kind, line.link_target) {
        (EntryKind::HardLink, Some(target)) => target,
        _ => line.path.as_bytes(),
    }
}

fn plain<'a>(line: &TreeLine<'a>) -> RootLine<'a> {
    RootLine {
        root: line.root.as_bytes(),
        path: line.path,
        kind: line.kind,
        mode: line.mode,
        size: line.size,
        link_target: if line.kind == EntryKind::Symlink { line.link_target } else { None },
        hard_link_of: None,
        file_hash: line.file_hash,
    }
}

fn tree_bug(error: fastsst_proto::RootError) -> Error {
    Error::bug("the tree cannot be hashed").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn file<'a>(path: &'a RelPath, of: Option<&'a RelPath>) -> TreeLine<'a> {
        TreeLine {
            root: "data",
            path,
            kind: if of.is_some() { EntryKind::HardLink } else { EntryKind::File },
            mode: 0o640,
            size: if of.is_some() { 0 } else { 7 },
            link_target: of.map(RelPath::as_bytes),
            file_hash: of.is_none().then_some(FileHash([7; 32])),
        }
    }

    #[test]
    fn which_hard_link_was_seen_first_does_not_matter() {
        let (a, b, c) = (path("a"), path("b"), path("c"));
        let one = root_hash(vec![file(&b, None), file(&a, Some(&b)), file(&c, Some(&b))]).unwrap();
        let two = root_hash(vec![file(&a, None), file(&c, Some(&a)), file(&b, Some(&a))]).unwrap();
        assert_eq!(one, two);
        let apart = root_hash(vec![file(&a, None), file(&b, None), file(&c, Some(&a))]).unwrap();
        assert_ne!(one, apart);
    }

    #[test]
    fn a_link_to_nothing_and_a_path_twice_are_bugs() {
        let (a, b) = (path("a"), path("b"));
        assert!(root_hash(vec![file(&a, Some(&b))]).is_err());
        assert!(root_hash(vec![file(&a, None), file(&a, None)]).is_err());
    }
}
