//! Chances that come again with their seed.

/// Of a thousand: the unit of every chance here.
const ALL: u64 = 1000;

/// A row of pseudo-random numbers: `SplitMix64`.
///
/// Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// A row of its own for each of several `users` of one seed.
    pub(super) fn new(seed: u64, users: [u64; 2]) -> Self {
        let mut dice = Self(seed);
        for user in users {
            dice.0 ^= user;
            dice.0 = dice.roll();
        }
        dice
    }

    /// Any number.
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// Whether something happens that does so many times of a thousand.
    pub(super) fn happens(&mut self, per_mille: u16) -> bool {
        self.below(ALL) < u64::from(per_mille)
    }

    /// A number below `end`; 0 when there is none.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.roll().checked_rem(end).unwrap_or(0)
    }
}
