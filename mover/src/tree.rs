//! Directory trees that nothing can lead out of.
//!
//! Everything below a root is reached by `openat2` with `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS`
//! and `RESOLVE_NO_MAGICLINKS` from a held descriptor. So neither a path from the peer, nor a
//! directory that somebody swaps for a symbolic link while we work, makes us read or write
//! anywhere else: such an access fails with E23. What is missing on purpose is `rename`, which
//! belongs to `commit`.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fastsst_proto::limits::{LINK_TARGET_BYTES_MAX, PATH_DEPTH_MAX};
use fastsst_proto::path::RelPath;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, ResolveFlags, StatxFlags, Timespec, Timestamps,
    Uid,
};
use rustix::io::Errno;

use crate::disk::file::{FileMode, OpenFile};
use crate::error::{Code, Error, Result};

/// What a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link, never followed.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
    /// Block or character device, or something newer than this program.
    Device,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symbolic link",
            Self::Fifo => "named pipe",
            Self::Socket => "socket",
            Self::Device => "device",
        })
    }
}

/// A point in time as file systems keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FileTime {
    /// Seconds since 1970; negative before.
    pub s: i64,
    /// Nanoseconds after that. Range: below 1,000,000,000.
    pub ns: u32,
}

impl FileTime {
    /// This moment, as far as the clock is right.
    pub(crate) fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let since = since.unwrap_or_default();
        Self { s: i64::try_from(since.as_secs()).unwrap_or(0), ns: since.subsec_nanos() }
    }
}

/// What the file system says about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Length of the content. Unit: bytes.
    pub size: u64,
    /// Permission bits, at most 0o7777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When the content was last changed, as far as programs say the truth.
    pub mtime: FileTime,
    /// When content or metadata were last changed, as the kernel says.
    pub ctime: FileTime,
    /// Number of the inode on its file system.
    pub ino: u64,
    /// The file system.
    pub dev: u64,
    /// Number of names.
    pub nlink: u32,
    /// Allocated space. Unit: 512 bytes.
    pub blocks: u64,
}

impl Stat {
    /// Whether less space is allocated than the content needs, so that looking for holes pays.
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        self.kind == FileKind::File && self.blocks.saturating_mul(512) < self.size
    }

    /// Whether this may be a different content than `earlier`: another file, size or time.
    #[must_use]
    pub fn differs_from(&self, earlier: &Self) -> bool {
        (self.dev, self.ino, self.size, self.mtime, self.ctime)
            != (earlier.dev, earlier.ino, earlier.size, earlier.mtime, earlier.ctime)
    }

    /// Examines an open file.
    pub(crate) fn of(fd: impl AsFd) -> io::Result<Self> {
        Self::ask(fd.as_fd(), b"", AtFlags::EMPTY_PATH)
    }

    fn ask(fd: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> io::Result<Self> {
        let flags = flags | AtFlags::SYMLINK_NOFOLLOW;
        let x = rustix::fs::statx(fd, name, flags, StatxFlags::BASIC_STATS)?;
        let mode = u32::from(x.stx_mode);
        Ok(Self {
            kind: kind_of(FileType::from_raw_mode(mode)),
            size: x.stx_size,
            mode: x.stx_mode & 0o7777,
            uid: x.stx_uid,
            gid: x.stx_gid,
            mtime: FileTime { s: x.stx_mtime.tv_sec, ns: x.stx_mtime.tv_nsec },
            ctime: FileTime { s: x.stx_ctime.tv_sec, ns: x.stx_ctime.tv_nsec },
            ino: x.stx_ino,
            dev: (u64::from(x.stx_dev_major) << 32) | u64::from(x.stx_dev_minor),
            nlink: x.stx_nlink,
            blocks: x.stx_blocks,
        })
    }
}

/// What can be set on an entry after its content is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits, at most 0o7777. Not applied to symbolic links, which have none.
    pub mode: u16,
    /// Owner and group; absent: stay as they are. A number of `u32::MAX` is no owner and is
    /// left alone as well.
    pub owner: Option<(u32, u32)>,
    /// Modification time.
    pub mtime: FileTime,
}

impl Meta {
    /// Without an owner that an entry has already: setting it costs as much as changing it.
    #[must_use]
    pub(crate) fn on(mut self, now: &Stat) -> Self {
        self.owner = self.owner.filter(|owner| *owner != (now.uid, now.gid));
        self
    }

    pub(crate) fn apply(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        if let Some((uid, gid)) = self.ids() {
            rustix::fs::fchown(fd, uid, gid)?;
        }
        rustix::fs::fchmod(fd, Mode::from_raw_mode(u32::from(self.mode & 0o7777)))?;
        rustix::fs::futimens(fd, &self.times())?;
        Ok(())
    }

    fn apply_to_symlink(&self, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if let Some((uid, gid)) = self.ids() {
            rustix::fs::chownat(dir, name, uid, gid, flags)?;
        }
        rustix::fs::utimensat(dir, name, &self.times(), flags)?;
        Ok(())
    }

    fn ids(&self) -> Option<(Option<Uid>, Option<Gid>)> {
        let (uid, gid) = self.owner?;
        let uid = (uid != u32::MAX).then(|| Uid::from_raw(uid));
        let gid = (gid != u32::MAX).then(|| Gid::from_raw(gid));
        Some((uid, gid))
    }

    fn times(&self) -> Timestamps {
        // UTIME_OMIT: the access time is nobody's business.
        let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let mtime = Timespec { tv_sec: self.mtime.s, tv_nsec: self.mtime.ns.into() };
        Timestamps { last_access: omit, last_modification: mtime }
    }
}

/// Which side of a transfer a directory is on; decides which error a failed access is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

/// An open directory, a root or one below it.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    side: Side,
    /// For messages.
    place: String,
}

impl Dir {
    /// Opens the root of a tree that is read.
    ///
    /// The path is the operator's: it may lead through symbolic links.
    ///
    /// # Errors
    /// E02 when it does not exist, E03 when it cannot be opened, E29 on a kernel without `openat2`.
    pub fn open_source(path: &Path) -> Result<Self> {
        Self::open_root(path, Side::Source)
    }

    /// Opens the root of a tree that is written; otherwise as [`Dir::open_source`].
    ///
    /// # Errors
    /// As [`Dir::open_source`].
    pub fn open_target(path: &Path) -> Result<Self> {
        Self::open_root(path, Side::Target)
    }

    /// The directory's path, for messages.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The path of something in this directory, for messages.
    #[must_use]
    pub fn place_of(&self, path: &RelPath) -> String {
        format!("{}/{path}", self.place)
    }

    /// What this directory itself is now.
    ///
    /// # Errors
    /// E08 or E09.
    pub fn stat_self(&self) -> Result<Stat> {
        Stat::of(&self.fd).map_err(|error| self.fail(&self.place, error))
    }

    /// What is at `path`, not following a symbolic link; `None` when there is nothing.
    ///
    /// # Errors
    /// E23 when the way leads through a symbolic link, E08 or E09 otherwise.
    pub fn stat(&self, path: &RelPath) -> Result<Option<Stat>> {
        let Some((dir, name)) = self.parent_if_there(path)? else { return Ok(None) };
        match Stat::ask(dir.as_fd(), name, AtFlags::empty()) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.fail(&self.place_of(path), error)),
        }
    }

    /// Opens a directory below this one.
    ///
    /// # Errors
    /// E23 when the way leads through a symbolic link, E08 or E09 otherwise.
    pub fn open_dir(&self, path: &RelPath) -> Result<Self> {
        let place = self.place_of(path);
        match self.open_at(path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => Ok(Self { fd, side: self.side, place }),
            Err(errno) => Err(self.fail(&place, errno.into())),
        }
    }

    /// [`Dir::open_dir`]; `None` when there is no directory (any more).
    ///
    /// # Errors
    /// E23 when the way leads through a symbolic link, E08 or E09 otherwise.
    pub fn open_dir_if_there(&self, path: &RelPath) -> Result<Option<Self>> {
        let place = self.place_of(path);
        match self.open_at(path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => Ok(Some(Self { fd, side: self.side, place })),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(self.fail(&place, errno.into())),
        }
    }

    /// Opens a regular file to read it, and says what it is; `None` when there is none (any more).
    ///
    /// # Errors
    /// E23 when the way leads through a symbolic link, E08 or E09 otherwise.
    pub fn open_file_read(
        &self,
        path: &RelPath,
        mode: FileMode,
    ) -> Result<Option<(OpenFile, Stat)>> {
        // O_NONBLOCK: were the file swapped for a named pipe, opening it would wait for ever.
        self.open_file(path, OFlags::RDONLY | OFlags::NONBLOCK, mode)
    }

    /// Opens an existing regular file to read and write it; otherwise as [`Dir::open_file_read`].
    ///
    /// # Errors
    /// As [`Dir::open_file_read`].
    pub fn open_file_write(
        &self,
        path: &RelPath,
        mode: FileMode,
    ) -> Result<Option<(OpenFile, Stat)>> {
        self.open_file(path, OFlags::RDWR | OFlags::NONBLOCK, mode)
    }

    /// Creates a regular file that must not be there, readable and writable by its owner only.
    ///
    /// # Errors
    /// E23 when the way leads through a symbolic link, E07 or E09 otherwise.
    pub fn create_file(&self, path: &RelPath, mode: FileMode) -> Result<OpenFile> {
        let place = self.place_of(path);
        let fd = self.create(path).map_err(|errno| self.fail(&place, errno.into()))?;
        OpenFile::new(fd, mode, place).map_err(|error| self.fail(&self.place_of(path), error))
    }

    /// Creates an empty file as [`Dir::create_file`] does, and leaves it closed.
    ///
    /// # Errors
    /// As [`Dir::create_file`].
    pub fn make_file(&self, path: &RelPath) -> Result<()> {
        self.create(path).map(drop).map_err(|errno| self.fail(&self.place_of(path), errno.into()))
    }

    /// Creates a directory that must not be there, accessible to its owner only.
    ///
    /// # Errors
    /// E23 when the way leads through a symbolic link, E07 or E09 otherwise.
    pub fn mkdir(&self, path: &RelPath) -> Result<()> {
        self.at(path, |dir, name| Ok(rustix::fs::mkdirat(dir, name, PRIVATE_DIRECTORY)?))
    }

    /// Creates a symbolic link with this content.
    ///
    /// # Errors
    /// E23 when the way leads through a symbolic link, E07 or E09 otherwise.
    pub fn symlink(&self, path: &RelPath, target: &[u8]) -> Result<()> {
        self.at(path, |dir, name| Ok(rustix::fs::symlinkat(target, dir, name)?))
    }

    /// Gives the file at `existing` another name.
    ///
    /// # Errors
    /// E23 when a way leads through a symbolic link, E07 or E09 otherwise.
    pub fn hardlink(&self, existing: &RelPath, path: &RelPath) -> Result<()> {
        let (from, from_name) = self.parent(existing)?;
        // Without AT_SYMLINK_FOLLOW: a link to the symbolic link itself, were `existing` one.
        self.at(path, |dir, name| {
            Ok(rustix::fs::linkat(from.as_fd(), from_name, dir, name, AtFlags::empty())?)
        })
    }

    /// Content of a symbolic link; `None` when there is no symbolic link (any more).
    ///
    /// # Errors
    /// E23 when the way leads through a symbolic link, E29 when the content is too long, E08 or
    /// E09 otherwise.
    pub fn read_link(&self, path: &RelPath) -> Result<Option<Vec<u8>>> {
        let Some((dir, name)) = self.parent_if_there(path)? else { return Ok(None) };
        let target = match rustix::fs::readlinkat(dir.as_fd(), name, Vec::new()) {
            Ok(target) => target.into_bytes(),
            Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(self.fail(&self.place_of(path), errno.into())),
        };
        if target.len() > LINK_TARGET_BYTES_MAX {
            let what = format!("symbolic link {} is too long", self.place_of(path));
            return Err(Error::new(Code::Unsupported, what));
        }
        Ok(Some(target))
    }

    /// Sets owner, permissions and times of an entry. Symbolic links keep their permissions.
    ///
    /// # Errors
    /// E23 when the way leads through a symbolic link, E03 when that is not permitted, E09.
    pub fn set_meta(&self, path: &RelPath, meta: &Meta) -> Result<()> {
        self.at(path, |dir, name| {
            let stat = Stat::ask(dir, name, AtFlags::empty())?;
            if stat.kind == FileKind::Symlink {
                return meta.apply_to_symlink(dir, name);
            }
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let fd = rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve_flags())?;
            meta.apply(fd.as_fd())
        })
    }

    /// Removes anything but a directory; `false` when there was nothing.
    ///
    /// # Errors
    /// E23 when the way leads through a symbolic link, E09 otherwise.
    pub fn unlink(&self, path: &RelPath) -> Result<bool> {
        self.remove(path, AtFlags::empty())
    }

    /// Removes an empty directory; `false` when there was nothing.
    ///
    /// # Errors
    /// E23 when the way leads through a symbolic link, E09 otherwise.
    pub fn rmdir(&self, path: &RelPath) -> Result<bool> {
        self.remove(path, AtFlags::REMOVEDIR)
    }

    /// Removes whatever is at `path`, with everything in it, following no link; `false` when
    /// there was nothing.
    ///
    /// # Errors
    /// E23 when the way leads through a symbolic link, E09 otherwise.
    pub fn remove_tree(&self, path: &RelPath) -> Result<bool> {
        let Some((dir, name)) = self.parent_if_there(path)? else { return Ok(false) };
        let removed = remove_all(dir.as_fd(), name, REMOVE_DEPTH_MAX);
        removed.map_err(|error| self.fail(&self.place_of(path), error))
    }

    /// The names in this directory, in bytewise order.
    ///
    /// # Errors
    /// E08 or E09.
    pub fn names(&self) -> Result<Vec<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        self.open_at(b".", flags)
            .map_err(io::Error::from)
            .and_then(|fd| list(fd.as_fd()))
            .map_err(|error| self.fail(&self.place, error))
    }

    /// Makes the directory itself durable: which names it has.
    ///
    /// # Errors
    /// E07 or E09.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.fd).map_err(|errno| Error::write(&self.place, errno.into()))
    }

    /// Makes everything on this directory's file system durable.
    ///
    /// # Errors
    /// E07 or E09.
    pub fn sync_fs(&self) -> Result<()> {
        rustix::fs::syncfs(&self.fd).map_err(|errno| Error::write(&self.place, errno.into()))
    }

    /// Space that we may still use on this directory's file system. Unit: bytes.
    ///
    /// # Errors
    /// E08 or E09.
    pub fn free_bytes(&self) -> Result<u64> {
        rustix::fs::fstatvfs(&self.fd)
            .map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize))
            .map_err(|errno| self.fail(&self.place, errno.into()))
    }

    fn open_root(path: &Path, side: Side) -> Result<Self> {
        let place = path.display().to_string();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
            let code = if errno == Errno::NOENT { Code::Missing } else { Code::Access };
            Error::new(code, format!("cannot open directory {place}"))
                .because(io::Error::from(errno))
        })?;
        let dir = Self { fd, side, place };
        // Once, here, so that nobody finds out in the middle of a transfer.
        match dir.open_at(b".", OFlags::PATH) {
            Ok(_) => Ok(dir),
            Err(errno) => Err(dir.fail(&dir.place, errno.into())),
        }
    }

    fn create(&self, path: &RelPath) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.fd, path.as_bytes(), flags, PRIVATE_FILE, resolve_flags())
    }

    fn open_file(
        &self,
        path: &RelPath,
        flags: OFlags,
        mode: FileMode,
    ) -> Result<Option<(OpenFile, Stat)>> {
        let place = self.place_of(path);
        let fd = match self.open_at(path.as_bytes(), flags) {
            Ok(fd) => fd,
            // ENXIO: a socket, or a pipe that nobody reads. EISDIR: a directory, to write.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::ISDIR) => return Ok(None),
            Err(errno) => return Err(self.fail(&place, errno.into())),
        };
        let stat = Stat::of(&fd).map_err(|error| self.fail(&place, error))?;
        if stat.kind != FileKind::File {
            return Ok(None);
        }
        let file = OpenFile::new(fd, mode, place)
            .map_err(|error| self.fail(&self.place_of(path), error))?;
        Ok(Some((file, stat)))
    }

    /// Runs `act` with the directory that holds the last component of `path`, and that component.
    fn at(
        &self,
        path: &RelPath,
        act: impl FnOnce(BorrowedFd<'_>, &[u8]) -> io::Result<()>,
    ) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        act(dir.as_fd(), name).map_err(|error| self.fail(&self.place_of(path), error))
    }

    fn remove(&self, path: &RelPath, flags: AtFlags) -> Result<bool> {
        let Some((dir, name)) = self.parent_if_there(path)? else { return Ok(false) };
        match rustix::fs::unlinkat(dir.as_fd(), name, flags) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.fail(&self.place_of(path), errno.into())),
        }
    }

    fn parent<'a>(&'a self, path: &'a RelPath) -> Result<(Holder<'a>, &'a [u8])> {
        self.holder(path).map_err(|errno| self.fail(&self.place_of(path), errno.into()))
    }

    fn parent_if_there<'a>(&'a self, path: &'a RelPath) -> Result<Option<(Holder<'a>, &'a [u8])>> {
        match self.holder(path) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(self.fail(&self.place_of(path), errno.into())),
        }
    }

    fn holder<'a>(&'a self, path: &'a RelPath) -> Result<(Holder<'a>, &'a [u8]), Errno> {
        let name = path.name();
        let parent = path.as_bytes().len() - name.len();
        if parent == 0 {
            return Ok((Holder::Here(self.fd.as_fd()), name));
        }
        let fd = self.open_at(&path.as_bytes()[..parent], OFlags::PATH | OFlags::DIRECTORY)?;
        Ok((Holder::Below(fd), name))
    }

    fn open_at(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve_flags())
    }

    fn fail(&self, place: &str, error: io::Error) -> Error {
        match Errno::from_io_error(&error) {
            Some(Errno::LOOP | Errno::XDEV) => Error::new(
                Code::UnsafePath,
                format!("{place} leads through a symbolic link or out of its directory"),
            )
            .because(error),
            Some(Errno::NOSYS) => {
                Error::new(Code::Unsupported, "openat2 is missing; Linux 5.6 or later is needed")
                    .because(error)
            }
            _ if self.side == Side::Target => Error::write(place, error),
            _ => Error::read(place, error),
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The directory that holds an entry.
enum Holder<'a> {
    Here(BorrowedFd<'a>),
    Below(OwnedFd),
}

impl AsFd for Holder<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Here(fd) => *fd,
            Self::Below(fd) => fd.as_fd(),
        }
    }
}

/// The names in a directory whose descriptor has not been read from, in bytewise order.
fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut buffer = vec![MaybeUninit::uninit(); LIST_BUFFER_BYTES];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn remove_all(dir: BorrowedFd<'_>, name: &[u8], depth_left: usize) -> io::Result<bool> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => return Ok(true),
        Err(Errno::NOENT) => return Ok(false),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(errno.into()),
    }
    if depth_left == 0 {
        return Err(Errno::NAMETOOLONG.into());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inner = rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve_flags())?;
    for name in list(inner.as_fd())? {
        remove_all(inner.as_fd(), &name, depth_left - 1)?;
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn resolve_flags() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

fn kind_of(file_type: FileType) -> FileKind {
    match file_type {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => FileKind::Device,
    }
}

/// Path bytes as the standard library wants them.
#[must_use]
pub fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Files are private until they are complete and get their real permissions.
const PRIVATE_FILE: Mode = Mode::from_raw_mode(0o600);

/// As [`PRIVATE_FILE`], for directories.
const PRIVATE_DIRECTORY: Mode = Mode::from_raw_mode(0o700);

/// Room for the entries of one `getdents64`. Unit: bytes. Why: about a thousand short names.
const LIST_BUFFER_BYTES: usize = 32 * 1024;

/// How deep a tree may be to be removed: one descriptor is held per level. Unit: directories.
///
/// Why: deeper than any tree we can have built ourselves, and within the usual 1024 descriptors.
const REMOVE_DEPTH_MAX: usize = 4 * PATH_DEPTH_MAX;

#[cfg(test)]
mod tests;
