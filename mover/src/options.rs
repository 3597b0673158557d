//! What a user can choose about a transfer, and how the words are read.

use std::fmt;
use std::time::Duration;

use crate::error::{Code, Error, Result};

/// Choices of one transfer; `Default` is what an empty configuration means.
#[derive(Debug, Clone)]
pub struct Options {
    /// Data lanes; `None`: min(cores, 4), as one lane costs at most one core.
    pub lanes: Option<u16>,
    /// Threads that hash, compress and verify; `None`: one for each core.
    pub threads: Option<usize>,
    /// Whether chunks are compressed.
    pub compress: Compress,
    /// What carries the lanes.
    pub transport: Transport,
    /// Largest rate at which the donor reads. Unit: bytes per second; `None`: no limit.
    pub rlimit: Option<u64>,
    /// How long a donor tries to reach the joiner.
    pub connect_timeout: Duration,
    /// How long all lanes of a transfer may be missing at once; one alone may stay away.
    pub reconnect_timeout: Duration,
    /// How long a joiner waits for its donor; `None`: for ever.
    pub initial_timeout: Option<Duration>,
    /// How long a transfer may stand still; `None`: for ever. Heartbeats do not count,
    /// bytes that move do.
    pub idle_timeout: Option<Duration>,
    /// How long the server may wait for its lock and then stay locked, together.
    pub freeze_timeout: Duration,
    /// Memory for data in flight on this side. Unit: bytes.
    pub buffer_bytes: u64,
    /// Whether the donor lets everything else on its machine go first.
    pub polite: bool,
    /// Whether the donor keeps the manifest of what it has sent.
    pub manifest: bool,
    /// Which way to read and write files.
    pub io: crate::disk::IoPreference,
    /// Certificates, on top of what the ticket says.
    pub tls: crate::tls::Tls,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lanes: None,
            threads: None,
            compress: Compress::Auto,
            transport: Transport::Auto,
            rlimit: None,
            // As the stock scripts' donor-timeout (contract 5.2).
            connect_timeout: Duration::from_secs(10),
            // A link that fails over or a switch that restarts is back by then.
            reconnect_timeout: Duration::from_secs(30),
            // As wsrep_sst_mariabackup's sst-initial-timeout.
            initial_timeout: Some(Duration::from_secs(300)),
            // As PXC's sst-idle-timeout.
            idle_timeout: Some(Duration::from_secs(120)),
            // An hour copies a terabyte at disk speed; longer locks want a decision.
            freeze_timeout: Duration::from_secs(3600),
            // Enough for four lanes' windows and a deep disk queue, far below 400 MiB.
            buffer_bytes: 96 << 20,
            polite: false,
            manifest: false,
            io: crate::disk::IoPreference::Auto,
            tls: crate::tls::Tls::default(),
        }
    }
}

impl Options {
    /// Lanes to open: the choice, or min(cores, 4).
    #[must_use]
    pub fn lane_count(&self) -> u16 {
        const DEFAULT_MAX: u16 = 4;
        self.lanes.unwrap_or_else(|| {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            u16::try_from(cores).unwrap_or(DEFAULT_MAX).clamp(1, DEFAULT_MAX)
        })
    }

    /// Threads that hash, compress and verify: the choice, or one for each core.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.threads.unwrap_or_else(cores).max(1)
    }
}

/// The `compress` option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compress {
    /// zstd where the lanes are the bottleneck and processors are idle, at a level that follows
    /// both; kept where it shrinks a chunk by an eighth.
    Auto,
    /// Never.
    None,
    /// zstd at this level, kept where it shrinks a chunk by an eighth.
    Zstd(i32),
}

impl Compress {
    /// Fastest and strongest zstd level accepted. Why: those of the controller, and for an operator
    /// what zstd itself offers.
    pub const LEVELS: std::ops::RangeInclusive<i32> = -7..=19;

    /// Reads `auto`, `none`, `zstd` or `zstd:LEVEL`.
    ///
    /// # Errors
    /// E01 naming the value and what is accepted.
    pub fn parse(text: &str) -> Result<Self> {
        let level = match text.split_once(':') {
            None => match text {
                "auto" => return Ok(Self::Auto),
                "none" => return Ok(Self::None),
                "zstd" => Some(3),
                _ => None,
            },
            Some(("zstd", level)) => level.parse().ok(),
            Some(_) => None,
        };
        level.filter(|level| Self::LEVELS.contains(level)).map(Self::Zstd).ok_or_else(|| {
            Error::new(
                Code::Usage,
                format!(
                    "compress={text} is unknown; use auto, none, zstd or zstd:LEVEL (-7 to 19)"
                ),
            )
        })
    }
}

impl fmt::Display for Compress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

/// The `transport` option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Both; the donor measures which one is faster.
    Auto,
    /// QUIC over UDP.
    Quic,
    /// TLS 1.3 over TCP.
    Tcp,
}

impl Transport {
    /// Reads `auto`, `quic` or `tcp`.
    ///
    /// # Errors
    /// E01 naming the value and what is accepted.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "quic" => Ok(Self::Quic),
            "tcp" => Ok(Self::Tcp),
            _ => Err(Error::new(
                Code::Usage,
                format!("transport={text} is unknown; use auto, quic or tcp"),
            )),
        }
    }

    /// Whether QUIC may carry something.
    #[must_use]
    pub const fn has_quic(self) -> bool {
        matches!(self, Self::Auto | Self::Quic)
    }

    /// Whether TCP may carry something.
    #[must_use]
    pub const fn has_tcp(self) -> bool {
        matches!(self, Self::Auto | Self::Tcp)
    }

    /// The protocols a firewall must let pass.
    #[must_use]
    pub const fn protocols(self) -> &'static str {
        match self {
            Self::Auto => "UDP or TCP",
            Self::Quic => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// Reads a byte rate or size: digits with an optional suffix k, m, g or t (powers of 1024).
///
/// # Errors
/// E01 naming the value.
pub fn parse_bytes(text: &str) -> Result<u64> {
    let wrong = || {
        Error::new(
            Code::Usage,
            format!(
                "{text:?} is not a number of bytes; write digits with k, m, g or t, such as 100m"
            ),
        )
    };
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_parse| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_with_binary_suffixes() {
        assert_eq!(parse_bytes("100m").unwrap(), 100 << 20);
        assert_eq!(parse_bytes("7").unwrap(), 7);
        assert_eq!(parse_bytes("1G").unwrap(), 1 << 30);
        for wrong in ["", "m", "1x", "-1", "1.5m", "99999999999t"] {
            assert_eq!(parse_bytes(wrong).unwrap_err().code(), Code::Usage, "{wrong}");
        }
    }

    #[test]
    fn threads_are_those_chosen_or_one_for_each_core() {
        let chosen = |threads| Options { threads, ..Options::default() }.thread_count();
        assert_eq!((chosen(Some(3)), chosen(Some(0))), (3, 1));
        assert!(chosen(None) >= 1);
    }

    #[test]
    fn compress_and_transport_name_what_they_accept() {
        assert_eq!(Compress::parse("zstd:-5").unwrap(), Compress::Zstd(-5));
        assert_eq!(Compress::parse("auto").unwrap(), Compress::Auto);
        for wrong in ["zstd:99", "lz4", "", "zstd:"] {
            assert!(Compress::parse(wrong).unwrap_err().to_string().contains("auto"), "{wrong}");
        }
        assert_eq!(Transport::parse("tcp").unwrap(), Transport::Tcp);
        let error = Transport::parse("pigeon").unwrap_err();
        assert!(error.to_string().contains("auto, quic or tcp"), "{error}");
    }
}
