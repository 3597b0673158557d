//! What a network does to what passes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Way;

/// Environment variable that repeats the chances of an earlier run.
const SEED: &str = "FASTSST_RELAY_SEED";

/// Faults of a network, for everybody or for one flow; none to begin with.
///
/// A *flow* is what one UDP source address sends and gets, or one TCP connection. Bytes after
/// which something happens are counted for each flow by itself, both ways together, from the
/// moment when the faults are set or the flow begins.
///
/// Loss, duplication and reordering of a TCP stream are hidden by the kernels at its ends. What an
/// application sees of them is modelled instead, in *pieces*, which is what the relay reads at a
/// time: lost is a piece that, with everything behind it, comes later by a retransmission timeout;
/// doubled and held back are nothing. Flipped bits are what an application sees when a TCP
/// checksum fits by chance, or when a box on the way rewrites the stream.
///
/// Two things differ from a network, because the kernel of this machine ends each side of a TCP
/// connection at the relay: a connection is made without delay, and what silence swallows is
/// acknowledged until the buffers are full.
///
/// Chances are in thousandths.
#[derive(Debug, Clone)]
pub struct Faults {
    seed: u64,
    turn: u64,
    pub(super) lost: u16,
    pub(super) doubled: u16,
    pub(super) held_back: u16,
    pub(super) flipped: u16,
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    pub(super) rate: Option<Rate>,
    pub(super) datagram_bytes_max: usize,
    pub(super) piece_bytes_max: usize,
    pub(super) end: Option<End>,
}

/// How fast a link is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    pub(super) bytes_per_second: u64,
    /// Longest queue before it.
    pub(super) queue_bytes: u64,
}

/// What ends a flow.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) after_bytes: u64,
    pub(super) how: Ending,
}

/// How a flow ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing passes any more, in one direction or both.
    Silence(Option<Way>),
    /// Both ends are told: TCP only. Datagrams just vanish.
    Reset,
}

impl Faults {
    /// None; chances as an environment variable says, or never the same.
    #[must_use]
    pub fn none() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        Self::seeded(std::env::var(SEED).map_or_else(
            |_unset| now.as_secs() ^ u64::from(now.subsec_nanos()),
            |text| text.parse().expect("FASTSST_RELAY_SEED: a number"),
        ))
    }

    /// None; always the same chances: a flow's n-th datagram has the same fate each time.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self {
            seed,
            turn: 0,
            lost: 0,
            doubled: 0,
            held_back: 0,
            flipped: 0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate: None,
            datagram_bytes_max: usize::MAX,
            piece_bytes_max: usize::MAX,
            end: None,
        }
    }

    /// Other chances for each of several networks of a test, and the same with the same seed.
    #[must_use]
    pub const fn turn(mut self, number: u64) -> Self {
        self.turn = number;
        self
    }

    /// Nothing passes any more, in neither direction, and nobody is told.
    #[must_use]
    pub fn black_hole() -> Self {
        Self::none().silent_after(0)
    }

    /// Nothing passes any more in this direction, and nobody is told.
    #[must_use]
    pub fn half_open(dead: Way) -> Self {
        Self::none().silent_one_way_after(0, dead)
    }

    /// So many datagrams of a thousand vanish; pieces of TCP are late instead.
    #[must_use]
    pub const fn lose(mut self, per_mille: u16) -> Self {
        self.lost = per_mille;
        self
    }

    /// So many datagrams of a thousand come twice.
    #[must_use]
    pub const fn double(mut self, per_mille: u16) -> Self {
        self.doubled = per_mille;
        self
    }

    /// So many datagrams of a thousand are overtaken by later ones.
    #[must_use]
    pub const fn reorder(mut self, per_mille: u16) -> Self {
        self.held_back = per_mille;
        self
    }

    /// One bit is wrong in so many datagrams, or pieces of TCP, of a thousand.
    #[must_use]
    pub const fn flip(mut self, per_mille: u16) -> Self {
        self.flipped = per_mille;
        self
    }

    /// Everything comes later by `delay`, and by up to `jitter` more, in the order of sending.
    #[must_use]
    pub const fn delay(mut self, delay: Duration, jitter: Duration) -> Self {
        (self.delay, self.jitter) = (delay, jitter);
        self
    }

    /// At most so many bytes per second in each direction, all flows together; of what waits before
    /// that, `queue_bytes` are kept. What is more than that vanishes; TCP's sender has to wait.
    #[must_use]
    pub const fn rate(mut self, bytes_per_second: u64, queue_bytes: u64) -> Self {
        self.rate = Some(Rate { bytes_per_second, queue_bytes });
        self
    }

    /// Longer datagrams vanish (unit: bytes of UDP payload); TCP comes in pieces of at most that.
    #[must_use]
    pub const fn mtu(self, bytes: usize) -> Self {
        let mut faults = self.datagrams_up_to(bytes);
        faults.piece_bytes_max = bytes;
        faults
    }

    /// As [`Self::mtu`], and TCP is left alone.
    pub(super) const fn datagrams_up_to(mut self, bytes: usize) -> Self {
        self.datagram_bytes_max = bytes;
        self
    }

    /// After so many bytes of a flow nothing passes any more, and nobody is told.
    #[must_use]
    pub const fn silent_after(mut self, bytes: u64) -> Self {
        self.end = Some(End { after_bytes: bytes, how: Ending::Silence(None) });
        self
    }

    /// After so many bytes of a flow nothing passes any more in one direction.
    #[must_use]
    pub const fn silent_one_way_after(mut self, bytes: u64, dead: Way) -> Self {
        self.end = Some(End { after_bytes: bytes, how: Ending::Silence(Some(dead)) });
        self
    }

    /// After so many bytes of a TCP connection both ends get a reset; datagrams vanish then.
    #[must_use]
    pub const fn reset_after(mut self, bytes: u64) -> Self {
        self.end = Some(End { after_bytes: bytes, how: Ending::Reset });
        self
    }

    /// What the chances follow from.
    pub(super) const fn chances(&self) -> u64 {
        self.seed.wrapping_add(self.turn)
    }

    /// What a run needs to have the same chances again.
    pub(super) fn again(&self) -> String {
        format!("{SEED}={}: {self:?}", self.seed)
    }
}
