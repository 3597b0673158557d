//! A plain receive keeps nothing of what was there.

use fastsst_mover::staging::Keep;

/// The joiner's directory becomes exactly the donor's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeepNothing;

impl Keep for KeepNothing {
    fn keep(&self, _: &[u8]) -> bool {
        false
    }
}
