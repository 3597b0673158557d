//! Numbers that nobody can guess and no other transfer has.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use crate::error::{Error, Result};

/// Random bytes of the system.
///
/// # Errors
/// E99: it has none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_unspecified| Error::bug("no random bytes"))?;
    Ok(bytes)
}
