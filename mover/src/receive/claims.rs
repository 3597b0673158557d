//! Who has declared a path, where several roots share a directory.
//!
//! A path belongs to one entry. Directories are the exception: where two roots have the same one, or
//! one has what is another's prefix, it is one directory, and it goes when nobody has it any more.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fastsst_proto::manifest::{Entry, EntryKind};
use fastsst_proto::path::RelPath;
use fastsst_proto::{FileId, RootIndex};

use super::targets::Layout;
use crate::error::{Code, Error, Result};

/// Paths of shared directories that somebody has.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: Mutex<HashMap<(usize, RelPath), Vec<Holder>>>,
}

/// Who has a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// What goes below a prefix lies there.
    Prefix(RootIndex),
    /// It was declared.
    Entry { id: FileId, root: RootIndex, kind: EntryKind },
}

/// What a declared entry is to those that have its path already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claimed {
    /// It is to be made.
    Alone,
    /// A directory that is there, and gets what is declared of it now.
    TakenOver,
    /// A directory that is there and stays as another root has declared it.
    Shared,
}

impl Claims {
    /// The directories that prefixes name belong to everybody.
    pub(super) fn prefixes(layout: &Layout) -> Self {
        let claims = Self::default();
        for (root, staging, prefix) in layout.prefixes() {
            let mut path = Some(prefix.clone());
            while let Some(directory) = path {
                path = directory.parent();
                claims.lock().entry((staging, directory)).or_default().push(Holder::Prefix(root));
            }
        }
        claims
    }

    /// A root declares `entry`, which is `there` in its staging.
    ///
    /// # Errors
    /// E16: another root has that path.
    pub(super) fn claim(
        &self,
        layout: &Layout,
        entry: &Entry,
        (staging, there): (usize, &RelPath),
    ) -> Result<Claimed> {
        let Entry { id, root, kind, .. } = *entry;
        let holder = Holder::Entry { id, root, kind };
        let mut held = self.lock();
        let mut slot = match held.entry((staging, there.clone())) {
            Slot::Vacant(slot) => {
                slot.insert(vec![holder]);
                return Ok(Claimed::Alone);
            }
            Slot::Occupied(slot) => slot,
        };
        let is_own =
            |it: &Holder| matches!(it, Holder::Entry { root: theirs, .. } if *theirs == root);
        if slot.get().iter().any(is_own) {
            // Declared again; or twice, which the staging refuses.
            return Ok(Claimed::Alone);
        }
        if let Some(other) =
            slot.get().iter().find(|it| !(kind == EntryKind::Directory && it.is_directory()))
        {
            return Err(conflict(layout, entry, (other.root(), there), staging));
        }
        let is_first = slot.get().iter().all(|it| matches!(it, Holder::Prefix(_)));
        slot.get_mut().push(holder);
        Ok(if is_first { Claimed::TakenOver } else { Claimed::Shared })
    }

    /// A root takes an entry back; whether nobody has its path any more.
    pub(super) fn release(&self, id: FileId, staging: usize, there: &RelPath) -> bool {
        let mut held = self.lock();
        let Slot::Occupied(mut slot) = held.entry((staging, there.clone())) else { return true };
        slot.get_mut()
            .retain(|it| !matches!(it, Holder::Entry { id: theirs, .. } if *theirs == id));
        if !slot.get().is_empty() {
            return false;
        }
        slot.remove();
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(usize, RelPath), Vec<Holder>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder {
    fn root(&self) -> RootIndex {
        match self {
            Self::Prefix(root) | Self::Entry { root, .. } => *root,
        }
    }

    fn is_directory(&self) -> bool {
        match self {
            Self::Prefix(_) => true,
            Self::Entry { kind, .. } => *kind == EntryKind::Directory,
        }
    }
}

fn conflict(
    layout: &Layout,
    entry: &Entry,
    (other, there): (RootIndex, &RelPath),
    staging: usize,
) -> Error {
    let place = layout.stagings().get(staging).map_or("", |staging| staging.place());
    Error::new(
        Code::Protocol,
        format!(
            "{} of the donor's root {} and something of its root {} would both become {place}/{there}; \
             give the roots different directories here",
            entry.path,
            layout.name(entry.root),
            layout.name(other)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::staging::tests::{begin, entry, fails};

    /// Roots 0 and 1 share a directory, root 2 goes to `redo/inner` in it.
    fn layout(root: &std::path::Path) -> Layout {
        let names = ["datadir", "undo", "innodb-log"].map(str::to_owned);
        let prefix = RelPath::parse(b"redo/inner").unwrap();
        let targets = vec![(0, None), (0, None), (0, Some(prefix))];
        Layout::new(vec![begin(root)], &names, targets).unwrap()
    }

    #[test]
    fn a_path_has_one_owner_and_a_directory_as_many_as_have_it() {
        let root = tempfile::tempdir().unwrap();
        let layout = layout(root.path());
        let claims = Claims::prefixes(&layout);
        let claim = |id, number, path, kind| {
            let entry = Entry { root: RootIndex(number), ..entry(id, path, kind) };
            let (staging, there) = layout.locate(&entry).unwrap();
            claims.claim(&layout, &entry, (staging, &there.path))
        };
        let release =
            |id, path: &[u8]| claims.release(FileId(id), 0, &RelPath::parse(path).unwrap());
        let (file, directory) = (EntryKind::File, EntryKind::Directory);

        assert_eq!(claim(1, 0, "f", file).unwrap(), Claimed::Alone);
        assert_eq!(claim(1, 0, "f", file).unwrap(), Claimed::Alone, "declared again");
        for kind in [file, directory, EntryKind::Symlink, EntryKind::HardLink] {
            let words = fails(claim(2, 1, "f", kind), Code::Protocol);
            assert!(words.contains("root undo") && words.contains("root datadir"), "{words}");
        }
        assert!(release(1, b"f"));
        assert_eq!(claim(2, 1, "f", file).unwrap(), Claimed::Alone);

        assert_eq!(claim(3, 0, "db", directory).unwrap(), Claimed::Alone);
        assert_eq!(claim(4, 1, "db", directory).unwrap(), Claimed::Shared);
        assert!(!release(3, b"db"), "the other root still has it");
        assert!(release(4, b"db"));

        for path in ["redo", "redo/inner"] {
            let words = fails(claim(5, 1, path, file), Code::Protocol);
            assert!(words.contains("root innodb-log"), "{words}");
        }
        assert_eq!(claim(5, 0, "redo", directory).unwrap(), Claimed::TakenOver);
        assert!(!release(5, b"redo"), "what goes below it stays");
        assert_eq!(claim(6, 2, "ib_logfile0", file).unwrap(), Claimed::Alone);
        fails(claim(7, 0, "redo/inner/ib_logfile0", file), Code::Protocol);
    }
}
