//! What goes over a cable.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result};

use super::namespaces::DEVICE;

/// The device of one end. It stays readable when the process it was found by has ended.
#[derive(Debug)]
pub(crate) struct Counter(File);

impl Counter {
    /// That of the namespace in which the process `pid` runs.
    ///
    /// # Errors
    /// The process is gone.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let file = File::open(format!("/proc/{pid}/net/dev"));
        Ok(Self(file.context("cannot count what goes over the cable")?))
    }

    /// Bytes received and sent so far, headers included.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let (mut file, mut table) = (&self.0, String::new());
        file.seek(SeekFrom::Start(0))
            .and_then(|_start| file.read_to_string(&mut table))
            .context("cannot count what goes over the cable")?;
        both_ways(&table).context("no cable is there to be counted")
    }
}

/// The two sums of the cable's line of `/proc/net/dev`: the first figure, and the ninth.
fn both_ways(table: &str) -> Option<u64> {
    const FROM_RECEIVED_TO_SENT: usize = 7;
    let line = table.lines().find_map(|line| {
        let (device, figures) = line.trim_start().split_once(':')?;
        (device == DEVICE).then_some(figures)
    })?;
    let mut figures = line.split_ascii_whitespace();
    let received: u64 = figures.next()?.parse().ok()?;
    let sent: u64 = figures.nth(FROM_RECEIVED_TO_SENT)?.parse().ok()?;
    Some(received + sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_of_the_cable_count_and_nothing_else() {
        let table = "Inter-|   Receive                            |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes\n    \
             lo: 77 1 0 0 0 0 0 0 77 1 0 0 0 0 0 0\n \
             cable: 1000 5 0 0 0 0 0 0 30 6 0 0 0 0 0 0\n";
        assert_eq!(both_ways(table), Some(1030));
        assert_eq!(both_ways("lo: 77 1 0 0 0 0 0 0 77 1\n"), None);
    }
}
