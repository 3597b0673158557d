//! What limited a transfer, as either end sees it.

use core::fmt;

/// The part of the way that the others waited for most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Bottleneck {
    /// Nothing was measured, or a later release knows more.
    #[default]
    Unknown = 0,
    /// The donor's disk.
    DiskRead = 1,
    /// Processors, at the end that says so.
    Cpu = 2,
    /// What lies between the two ends; to a joiner also everything before it.
    Network = 3,
    /// The joiner's disk.
    DiskWrite = 4,
    /// The limit the donor was given.
    Rlimit = 5,
}

impl Bottleneck {
    /// Every value, in the order of its number.
    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::DiskRead, Self::Cpu, Self::Network, Self::DiskWrite, Self::Rlimit];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// What a number means; one that this release does not know is [`Bottleneck::Unknown`].
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// The word for logs and summaries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::DiskRead => "disk-read",
            Self::Cpu => "cpu",
            Self::Network => "network",
            Self::DiskWrite => "disk-write",
            Self::Rlimit => "rlimit",
        }
    }

    /// What limited the whole, from what the two ends saw.
    ///
    /// A limit that was chosen is the limit. A joiner that kept up waited for what came before it,
    /// which only the donor can tell apart.
    #[must_use]
    pub const fn of_both(donor: Self, joiner: Self) -> Self {
        match (donor, joiner) {
            (Self::Rlimit, _) => donor,
            (_, Self::Cpu | Self::DiskWrite) => joiner,
            (_, Self::Unknown | Self::DiskRead | Self::Network | Self::Rlimit) => donor,
        }
    }
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_and_unknown_ones_are_unknown() {
        for bottleneck in Bottleneck::ALL {
            assert_eq!(Bottleneck::from_number(bottleneck.number()), bottleneck);
        }
        assert_eq!(Bottleneck::from_number(200), Bottleneck::Unknown);
    }

    #[test]
    fn the_joiner_knows_its_own_side_and_the_donor_the_rest() {
        use Bottleneck::{Cpu, DiskRead, DiskWrite, Network, Rlimit};
        for (donor, joiner, both) in [
            (Network, DiskWrite, DiskWrite),
            (Network, Cpu, Cpu),
            (Network, Network, Network),
            (DiskRead, Network, DiskRead),
            (Cpu, Network, Cpu),
            (Rlimit, Cpu, Rlimit),
        ] {
            assert_eq!(Bottleneck::of_both(donor, joiner), both, "{donor} and {joiner}");
        }
    }
}
