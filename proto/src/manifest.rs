//! Entries of the manifest: one file, directory or link each.

use alloc::vec::Vec;

use crate::chunk::read_generation;
use crate::codec::{Reader, check_len, put_bytes, put_i64, put_u16, put_u32, put_u64};
use crate::error::WireError;
use crate::limits::{
    ENTRY_EXTRAS_BYTES_MAX, FILE_BYTES_MAX, GENERATION_MAX, LINK_TARGET_BYTES_MAX, PATH_BYTES_MAX,
    ROOTS_MAX,
};
use crate::path::RelPath;
use crate::types::{FileId, Generation, RootIndex};

/// Length of an encoded entry without its path, link target and extras. Unit: bytes.
pub(crate) const ENTRY_FIXED_BYTES: usize = 45;

const MODE_MAX: u16 = 0o7777;
const FLAG_SPARSE: u8 = 1;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A regular file; its chunks follow on the lanes.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Another name of a file that was declared before.
    HardLink,
}

impl EntryKind {
    /// The number on the wire and in the root hash.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::File => 0,
            Self::Directory => 1,
            Self::Symlink => 2,
            Self::HardLink => 3,
        }
    }

    fn from_number(number: u8) -> Result<Self, WireError> {
        match number {
            0 => Ok(Self::File),
            1 => Ok(Self::Directory),
            2 => Ok(Self::Symlink),
            3 => Ok(Self::HardLink),
            _ => Err(WireError::BadValue { what: "entry kind" }),
        }
    }
}

/// One file, directory or link below a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number; new entries ascend.
    pub id: FileId,
    /// 0 at first; higher when the entry is declared again because it changed.
    pub generation: Generation,
    /// Below which root.
    pub root: RootIndex,
    /// Where below the root.
    pub path: RelPath,
    /// What it is.
    pub kind: EntryKind,
    /// Length of the content. Unit: bytes; 0 unless a file.
    pub size: u64,
    /// Permission bits. Range: 0 to 0o7777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of content, seconds since 1970.
    pub mtime_s: i64,
    /// Nanoseconds of that time. Range: below 10^9.
    pub mtime_ns: u32,
    /// Whether the donor's file has holes; the joiner then does not preallocate.
    pub sparse: bool,
    /// Symbolic link: its raw content. Hard link: the path of the name declared before, below the
    /// same root. Absent for files and directories.
    pub link_target: Option<Vec<u8>>,
}

impl Entry {
    /// Checks the fields against their ranges and each other.
    ///
    /// Errors: the first rule that is broken.
    pub fn validate(&self) -> Result<(), WireError> {
        check_len("generation", usize::from(self.generation.0), usize::from(GENERATION_MAX))?;
        check_len("root number", usize::from(self.root.0), ROOTS_MAX - 1)?;
        if self.size > FILE_BYTES_MAX || (self.size != 0 && self.kind != EntryKind::File) {
            return Err(WireError::BadValue { what: "size of an entry" });
        }
        if self.mode > MODE_MAX {
            return Err(WireError::BadValue { what: "mode of an entry" });
        }
        if self.mtime_ns >= 1_000_000_000 {
            return Err(WireError::BadValue { what: "modification time of an entry" });
        }
        if self.sparse && self.kind != EntryKind::File {
            return Err(WireError::BadValue { what: "flags of an entry" });
        }
        self.validate_target()
    }

    fn validate_target(&self) -> Result<(), WireError> {
        match (self.kind, &self.link_target) {
            (EntryKind::File | EntryKind::Directory, None) => Ok(()),
            (EntryKind::Symlink, Some(target)) => {
                check_len("link target", target.len(), LINK_TARGET_BYTES_MAX)?;
                if target.is_empty() || target.contains(&0) {
                    return Err(WireError::BadValue { what: "link target" });
                }
                Ok(())
            }
            (EntryKind::HardLink, Some(target)) => {
                if RelPath::parse(target)? == self.path {
                    return Err(WireError::BadValue { what: "link target" });
                }
                Ok(())
            }
            (EntryKind::File | EntryKind::Directory, Some(_))
            | (EntryKind::Symlink | EntryKind::HardLink, None) => {
                Err(WireError::BadValue { what: "link target" })
            }
        }
    }

    /// Length of the encoded entry. Unit: bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let target = self.link_target.as_ref().map_or(0, Vec::len);
        ENTRY_FIXED_BYTES + self.path.as_bytes().len() + target
    }

    /// Appends the bytes of the entry.
    ///
    /// Panics: a link target longer than 16 bits can say; [`Entry::validate`] refuses it earlier.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u32(out, self.id.0);
        put_u16(out, self.generation.0);
        out.push(self.root.0);
        out.push(self.kind.number());
        out.push(if self.sparse { FLAG_SPARSE } else { 0 });
        put_u16(out, self.mode);
        put_u32(out, self.uid);
        put_u32(out, self.gid);
        put_i64(out, self.mtime_s);
        put_u32(out, self.mtime_ns);
        put_u64(out, self.size);
        put_bytes(out, self.path.as_bytes());
        put_bytes(out, self.link_target.as_deref().unwrap_or_default());
        put_bytes(out, &[]); // extras: none yet
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let id = FileId(reader.u32()?);
        let generation = read_generation(reader)?;
        let root = RootIndex(reader.u8()?);
        let kind = EntryKind::from_number(reader.u8()?)?;
        let sparse = match reader.u8()? {
            0 => false,
            FLAG_SPARSE => true,
            _ => return Err(WireError::BadValue { what: "flags of an entry" }),
        };
        let mode = reader.u16()?;
        let uid = reader.u32()?;
        let gid = reader.u32()?;
        let mtime_s = reader.i64()?;
        let mtime_ns = reader.u32()?;
        let size = reader.u64()?;
        let path = RelPath::parse(reader.bytes("path", PATH_BYTES_MAX)?)?;
        let target = reader.bytes("link target", LINK_TARGET_BYTES_MAX)?;
        let link_target = (!target.is_empty()).then(|| target.to_vec());
        skip_extras(reader.bytes("entry extras", ENTRY_EXTRAS_BYTES_MAX)?)?;
        let entry = Self {
            id,
            generation,
            root,
            path,
            kind,
            size,
            mode,
            uid,
            gid,
            mtime_s,
            mtime_ns,
            sparse,
            link_target,
        };
        entry.validate()?;
        Ok(entry)
    }
}

/// Walks the attributes of later releases (type, length, value); none is known yet.
fn skip_extras(bytes: &[u8]) -> Result<(), WireError> {
    let mut reader = Reader::new(bytes);
    let mut rest = bytes.len();
    while rest > 0 {
        let _unknown_type = reader.u16()?;
        let value = reader.bytes("entry extra", ENTRY_EXTRAS_BYTES_MAX)?;
        rest -= 4 + value.len();
    }
    reader.finish()
}
