//! Whether the donor's files fit, before anything is touched.

use fastsst_proto::frame::Declaration;

use super::targets::Layout;
use crate::error::{Code, Error, Result};
use crate::staging::Staging;
use crate::summary::mib;

/// Room to leave on the file system. Why: directories, the commit record, the server's first log
/// records; a file system filled to the last block fails in odd places.
pub(super) const RESERVE: u64 = 16 << 20;

/// Checks that what is declared fits when the old content is gone.
///
/// # Errors
/// E07 with both figures.
pub(super) fn check(layout: &Layout, declaration: &Declaration) -> Result<()> {
    let mut best: Option<(u64, &Staging)> = None;
    for staging in layout.stagings() {
        let room = staging.free_bytes()?.saturating_add(staging.replaced_bytes()?);
        if best.is_none_or(|(most, _)| room > most) {
            best = Some((room, staging));
        }
    }
    let Some((room, staging)) = best else { return Err(Error::bug("no place to receive into")) };
    let needed = declaration.bytes_estimate.saturating_add(RESERVE);
    if room < needed {
        return Err(Error::new(
            Code::DiskFull,
            format!(
                "not enough space below {}: {:.0} MiB free when the old data is gone, {:.0} MiB \
                 needed; free space and start again, nothing has been touched",
                staging.place(),
                mib(room),
                mib(needed)
            ),
        ));
    }
    Ok(())
}
