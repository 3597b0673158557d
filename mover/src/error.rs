//! The one error type of the engine: a code, what failed and where, and the cause.
//!
//! Every code has a paragraph in `docs/OPERATIONS.md`; a test checks that. The exit code is
//! the errno that `mariadbd` prints for a failed SST script, so it must be a real errno and is
//! never 255.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// What went wrong, sorted by whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Code {
    /// Operator: an option, argument or configuration value is wrong.
    Usage = 1,
    /// Operator: a program or file that is needed is missing.
    Missing = 2,
    /// Local: a directory cannot be opened or written.
    Access = 3,
    /// Operator: the target directory is not empty.
    NotEmpty = 4,
    /// Local: another transfer works on this directory.
    Busy = 5,
    /// Local: the address or port cannot be bound.
    Address = 6,
    /// Local: a file system is full or has too little space.
    DiskFull = 7,
    /// Local: reading the source failed.
    SourceRead = 8,
    /// Local: writing the target failed.
    TargetWrite = 9,
    /// Operator: the ticket cannot be parsed.
    Ticket = 10,
    /// Network: the peer cannot be reached.
    Unreachable = 11,
    /// Trust: the peer's key is not the one in the ticket, or its certificate not what is demanded.
    WrongKey = 12,
    /// Trust: a token proof is wrong, or the ticket was used before.
    WrongToken = 13,
    /// Peer: it does not speak this protocol.
    NotFastsst = 14,
    /// Peer: its protocol or server version cannot work with ours.
    Incompatible = 15,
    /// Peer: it broke the protocol.
    Protocol = 16,
    /// Network: the peer vanished.
    PeerGone = 17,
    /// Network: nothing moved for longer than the timeout.
    Idle = 18,
    /// Peer: it stopped and said why.
    PeerStopped = 19,
    /// Data: a chunk does not have the hash it came with.
    CorruptChunk = 20,
    /// Local: a source file kept changing while it was read.
    SourceChanged = 21,
    /// Data: the trees of donor and joiner differ.
    RootHashDiffers = 22,
    /// Peer: a path would leave its root.
    UnsafePath = 23,
    /// Peer: a size or count is beyond what can be true.
    Limit = 24,
    /// Server: it could not flush and lock its tables.
    FreezeFailed = 25,
    /// Server: the locked phase, or waiting for it, passed its deadline.
    FreezeTimeout = 26,
    /// Server: `mariadbd` is gone.
    ServerGone = 27,
    /// Operator: stopped by a signal.
    Cancelled = 28,
    /// Operator: this server or layout cannot be served.
    Unsupported = 29,
    /// Operator: the source is in use and nothing freezes it.
    SourceInUse = 30,
    /// Nobody came before the initial timeout.
    NoDonor = 31,
    /// A bug of ours.
    Bug = 99,
}

impl Code {
    /// All codes, for the tests that tie them to the documentation.
    pub const ALL: [Self; 32] = [
        Self::Usage,
        Self::Missing,
        Self::Access,
        Self::NotEmpty,
        Self::Busy,
        Self::Address,
        Self::DiskFull,
        Self::SourceRead,
        Self::TargetWrite,
        Self::Ticket,
        Self::Unreachable,
        Self::WrongKey,
        Self::WrongToken,
        Self::NotFastsst,
        Self::Incompatible,
        Self::Protocol,
        Self::PeerGone,
        Self::Idle,
        Self::PeerStopped,
        Self::CorruptChunk,
        Self::SourceChanged,
        Self::RootHashDiffers,
        Self::UnsafePath,
        Self::Limit,
        Self::FreezeFailed,
        Self::FreezeTimeout,
        Self::ServerGone,
        Self::Cancelled,
        Self::Unsupported,
        Self::SourceInUse,
        Self::NoDonor,
        Self::Bug,
    ];

    /// The number behind the `E`, also sent to the peer.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The code with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// The process exit status: an errno, as the server prints `strerror` of it.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage | Self::Ticket => 22,                       // EINVAL
            Self::Missing => 2,                                     // ENOENT
            Self::Access | Self::WrongKey | Self::WrongToken => 13, // EACCES
            Self::NotEmpty => 39,                                   // ENOTEMPTY
            Self::Busy => 114,                                      // EALREADY
            Self::Address | Self::SourceInUse => 16,                // EBUSY, as the stock scripts
            Self::DiskFull => 28,                                   // ENOSPC
            Self::SourceRead | Self::TargetWrite | Self::FreezeFailed => 5, // EIO
            Self::Unreachable => 113,                               // EHOSTUNREACH
            Self::NotFastsst | Self::Protocol | Self::UnsafePath => 71, // EPROTO
            Self::Incompatible => 93,                               // EPROTONOSUPPORT
            Self::PeerGone | Self::ServerGone => 32,                // EPIPE, as the stock scripts
            Self::Idle | Self::FreezeTimeout | Self::NoDonor => 110, // ETIMEDOUT
            Self::PeerStopped => 103,                               // ECONNABORTED
            Self::CorruptChunk | Self::RootHashDiffers => 74,       // EBADMSG
            Self::SourceChanged => 116,                             // ESTALE
            Self::Limit => 7,                                       // E2BIG
            Self::Cancelled => 3,                                   // as the stock scripts' traps
            Self::Unsupported => 95,                                // EOPNOTSUPP
            Self::Bug => 131,                                       // ENOTRECOVERABLE
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E{:02}", self.number())
    }
}

/// An error with its code, a sentence for the operator and the cause.
///
/// The sentence says what failed, where, and what to do; one line, no full stop.
#[derive(Debug)]
pub struct Error {
    code: Code,
    what: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Results of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a deeper cause.
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure this is.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The sentence without code and cause.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The sentence with its causes, without the code.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = self.what.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            words.push_str(": ");
            if let Some(own) = error.downcast_ref::<Self>() {
                // It tells its own causes.
                words.push_str(&own.words());
                break;
            }
            words.push_str(&error.to_string());
            cause = error.source();
        }
        words
    }

    /// Reading a source file or directory failed.
    pub fn read(place: impl fmt::Display, source: io::Error) -> Self {
        Self::new(Code::SourceRead, format!("cannot read {place}")).because(source)
    }

    /// Writing below the target failed; a full file system gets its own code.
    pub fn write(place: impl fmt::Display, source: io::Error) -> Self {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let kind = source.kind();
        let error = if matches!(kind, StorageFull | QuotaExceeded) {
            let what =
                format!("disk full writing {place}; free space and start the transfer again");
            Self::new(Code::DiskFull, what)
        } else if matches!(kind, PermissionDenied | ReadOnlyFilesystem) {
            Self::new(Code::Access, format!("cannot write {place}"))
        } else {
            Self::new(Code::TargetWrite, format!("cannot write {place}"))
        };
        error.because(source)
    }

    /// A state that our own code should make impossible.
    pub fn bug(what: impl Into<String>) -> Self {
        Self::new(Code::Bug, format!("bug: {}; please report", what.into()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.words())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_number_and_an_exit_code_that_is_never_255() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), Some(code));
            assert!((1..=133).contains(&code.exit_code()), "{code}: not an errno");
        }
    }

    #[test]
    fn a_cause_is_told_once_and_without_its_code() {
        let cause = Error::write("a", io::Error::from_raw_os_error(28));
        let words = Error::new(Code::Protocol, "b was taken back").because(cause).to_string();
        assert!(words.starts_with("E16 b was taken back: disk full writing a"), "{words}");
        assert_eq!(words.matches("No space left").count(), 1, "{words}");
    }

    #[test]
    fn the_line_for_the_operator_has_code_place_and_cause() {
        let error = Error::write("ibdata1", io::Error::from_raw_os_error(28));
        assert_eq!(error.code(), Code::DiskFull);
        assert!(error.to_string().starts_with("E07 disk full writing ibdata1"));
        assert!(error.to_string().contains("No space left on device"));
    }
}
