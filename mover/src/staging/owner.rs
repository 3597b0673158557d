//! Who owns what is received, and which permissions it gets.

use fastsst_proto::manifest::{Entry, EntryKind};

use crate::tree::{FileTime, Meta};

/// Who owns the new files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The donor's numeric user and group when this process is root; otherwise this process.
    Preserve,
    /// This process. Files lose their set-user-id, set-group-id and sticky bits: they were meant
    /// for another owner.
    Process,
}

impl Owner {
    /// What an entry gets in the end.
    #[must_use]
    pub fn meta(self, entry: &Entry) -> Meta {
        let is_root = rustix::process::geteuid().is_root();
        let owner = (self == Self::Preserve && is_root).then_some((entry.uid, entry.gid));
        let mtime = FileTime { s: entry.mtime_s, ns: entry.mtime_ns };
        Meta { mode: self.mode(entry), owner, mtime }
    }

    fn mode(self, entry: &Entry) -> u16 {
        let mode = match (self, entry.kind) {
            (Self::Process, EntryKind::File) => entry.mode & 0o777,
            (Self::Preserve, EntryKind::File)
            | (_, EntryKind::Directory | EntryKind::Symlink | EntryKind::HardLink) => entry.mode,
        };
        if mode != entry.mode {
            tracing::warn!("{} loses the special bits of mode {:o}", entry.path, entry.mode);
        }
        mode
    }
}
