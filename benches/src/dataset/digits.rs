//! Reproducible numbers.

/// SplitMix64: small, fast, and the same everywhere, which is all that is asked here.
#[derive(Debug, Clone)]
pub(crate) struct Numbers(u64);

impl Numbers {
    /// The sequence that belongs to `seed`; neighbouring seeds give unrelated sequences.
    pub(crate) fn new(seed: u64) -> Self {
        let mut numbers = Self(seed);
        Self(numbers.next())
    }

    /// Any 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        let wide = (self.next() >> 32) * u64::from(limit);
        // The product of two 32-bit numbers, shifted by 32, has 32 bits.
        u32::try_from(wide >> 32).unwrap_or(0)
    }

    /// Any bytes.
    pub(crate) fn fill(&mut self, into: &mut [u8]) {
        for piece in into.chunks_mut(size_of::<u64>()) {
            let bytes = self.next().to_le_bytes();
            piece.copy_from_slice(&bytes[..piece.len()]);
        }
    }

    /// Sysbench's text: groups of eleven digits with dashes between them, a space at the end.
    pub(crate) fn groups(&mut self, into: &mut [u8]) {
        const GROUP: usize = 11;
        for group in into.chunks_mut(GROUP + 1) {
            let mut number = self.next();
            let (separator, digits) = match group.split_last_mut() {
                Some((separator, digits)) => (separator, digits),
                None => return,
            };
            for digit in digits {
                *digit = b'0' + (number % 10).to_le_bytes()[0];
                number /= 10;
            }
            *separator = b'-';
        }
        if let Some(last) = into.last_mut() {
            *last = b' ';
        }
    }
}
