//! What a transfer did, for people and programs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result};

/// The end of a transfer in figures. Sizes in bytes, times in seconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// `send` or `receive`.
    pub role: String,
    /// Plain bytes of all files, holes included.
    pub bytes: u64,
    /// Bytes of all frames, those of the control connection included, in both directions, before
    /// encryption and packet headers.
    pub wire_bytes: u64,
    /// Bytes the joiner had already: found equal in its stale copy, and not sent.
    pub kept_bytes: u64,
    /// Bytes that were holes or zero pages and not sent.
    pub zero_bytes: u64,
    /// Plain bytes sent for each byte on the lanes; above 1 where compression helped.
    pub ratio: f64,
    /// Chunks by what was done to them: `zero` (not sent), `raw`, `zstd:LEVEL`. Only the donor
    /// knows.
    pub chunks: BTreeMap<String, u64>,
    /// Entries: files, directories, links.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Seconds spent in each phase.
    pub seconds: PhaseSeconds,
    /// How long the server could not write; 0 without a server.
    pub freeze_seconds: f64,
    /// What carried the lanes: `quic` or `tcp`, whichever carried more.
    pub transport: String,
    /// Why; on a joiner, how much each of them carried.
    pub transport_reason: String,
    /// Lanes that were open.
    pub lanes: u16,
    /// Lanes that died and were replaced.
    pub lanes_replaced: u64,
    /// Passes over the files.
    pub passes: u32,
    /// How files were read or written.
    pub io: String,
    /// How the donor got a consistent image.
    pub capture: String,
    /// BLAKE3 of the canonical manifest; equal on both ends.
    pub root_hash: String,
    /// What bounded the rate, from what both ends saw: disk-read, cpu, network, disk-write, rlimit,
    /// or unknown when there was no time to see anything.
    pub limited_by: String,
}

/// Wall time of each phase, in seconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct PhaseSeconds {
    /// Reaching and proving the peer, checks included.
    pub connect: f64,
    /// Waiting for the server's lock.
    pub freeze: f64,
    /// From the first entry until the joiner held every chunk.
    pub copy: f64,
    /// Until the files were durable and in place.
    pub commit: f64,
    /// All together.
    pub total: f64,
}

impl Summary {
    /// Writes the summary as JSON to `path`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::bug("summary does not serialise").because(error))?;
        std::fs::write(path, text).map_err(|error| Error::write(path.display(), error))
    }

    /// How many chunks of how many were compressed at which levels, for the line.
    fn compression(&self) -> String {
        let levels: Vec<String> = self
            .chunks
            .iter()
            .filter_map(|(how, count)| Some(format!("{count} at {}", how.strip_prefix("zstd:")?)))
            .collect();
        if levels.is_empty() {
            return String::new();
        }
        let chunks: u64 = self.chunks.values().sum();
        format!(" (of {chunks} chunks zstd {}; ratio {:.2})", levels.join(", "), self.ratio)
    }

    /// What was not sent because it was there, for the line.
    fn kept(&self) -> String {
        match self.kept_bytes {
            0 => String::new(),
            bytes => format!(", {:.1} MiB were there already", mib(bytes)),
        }
    }

    /// How long the donor's server stood still, for the line; joiners do not know.
    fn stopped(&self) -> String {
        match self.freeze_seconds {
            seconds if seconds > 0.0 => format!(", writes stopped for {seconds:.2} s"),
            _ => String::new(),
        }
    }

    /// One line for a log.
    #[must_use]
    pub fn line(&self) -> String {
        let rate =
            if self.seconds.total > 0.0 { mib(self.bytes) / self.seconds.total } else { 0.0 };
        format!(
            "{:.1} MiB in {} files, {:.1} MiB on the wire{}{}, {:.1} s ({rate:.0} MiB/s){}, \
             {} lanes over {} ({}), {}, capture {}, limited by {}, root hash {}",
            mib(self.bytes),
            self.files,
            mib(self.wire_bytes),
            self.compression(),
            self.kept(),
            self.seconds.total,
            self.stopped(),
            self.lanes,
            self.transport,
            self.transport_reason,
            self.io,
            self.capture,
            self.limited_by,
            self.root_hash,
        )
    }
}

/// Plain bytes for each byte on the wire; 1 when nothing was sent.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "a figure for people; 52 bits are plenty")]
pub fn ratio(plain: u64, wire: u64) -> f64 {
    if wire == 0 { 1.0 } else { plain as f64 / wire as f64 }
}

/// Bytes as MiB, for people.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "a figure for people; 52 bits are plenty")]
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A duration in seconds, for the summary.
#[must_use]
pub fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
