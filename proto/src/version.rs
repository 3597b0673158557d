//! Which protocol both ends speak.

/// First bytes of every `Hello` and `Welcome`; never changes.
pub const MAGIC: [u8; 4] = *b"FSST";

/// Major version: raised when an older end could not follow. Ends with different majors part.
pub const MAJOR: u16 = 1;

/// Optional parts of the protocol, one bit each; what both ends offer is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Features(pub u64);

impl Features {
    /// Payloads may be compressed with Zstandard.
    pub const ZSTD: Self = Self(1 << 0);
    /// Zero pages may be left out of a payload and named in the *zero* mask.
    pub const PAGE_MASKS: Self = Self(1 << 1);
    /// Pages in neither mask are kept from the joiner's stale copy. A joiner without one does not
    /// offer it.
    pub const DELTA: Self = Self(1 << 2);
    /// What this build can do.
    pub const SUPPORTED: Self = Self(Self::ZSTD.0 | Self::PAGE_MASKS.0 | Self::DELTA.0);

    /// The features both ends have.
    #[must_use]
    pub fn negotiate(ours: Self, theirs: Self) -> Self {
        Self(ours.0 & theirs.0)
    }

    /// All of these but `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in force.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}
