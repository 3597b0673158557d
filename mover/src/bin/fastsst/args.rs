//! What was typed; what it means is decided where it is used.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};
use fastsst_mover::disk::IoPreference;
use fastsst_mover::options::parse_bytes;
use fastsst_mover::{Compress, Options, Result, Transport};

use crate::certificates::Certificates;

const EXAMPLES: &str = "\
Examples:
  On the new machine:      fastsst receive --into /var/lib/mysql --listen 0.0.0.0:4444 --ticket-file t
  On the old machine:      fastsst send /var/lib/mysql --to @t
  Afterwards, on both:     fastsst verify /var/lib/mysql
  What differs, by name:   fastsst verify /old --manifest m; fastsst verify /new --against m

Exit status: 0, or the errno of the error code that is printed; docs/OPERATIONS.md explains each code.";

/// Fast, verified, encrypted transfer of a directory tree.
#[derive(Debug, Parser)]
#[command(name = "fastsst", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Say more (twice: everything)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send a directory to a waiting receiver
    Send(Send),
    /// Wait for a sender and build its directory here
    Receive(Receive),
    /// Say how much send would send to a waiting receiver, and about how long it would take
    Estimate(Estimate),
    /// Print the root hash of a directory, or what differs from a manifest; equal trees have equal hashes
    Verify(Verify),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Send {
    /// The directory to send
    pub(crate) dir: PathBuf,
    /// The receiver's ticket, @FILE to read it from a file, or - for standard input
    #[arg(long, value_name = "TICKET|@FILE|-")]
    pub(crate) to: String,
    /// Send although a server uses the directory: only safe when nothing is written to it
    #[arg(long)]
    pub(crate) force: bool,
    /// Largest rate at which files are read, such as 100m (bytes per second)
    #[arg(long, value_name = "RATE")]
    pub(crate) rlimit: Option<String>,
    /// auto (follows the bottleneck), none, zstd or zstd:LEVEL
    #[arg(long, default_value = "auto")]
    pub(crate) compress: String,
    /// Let everything else on this machine go first: lowest priority for processors and disks
    #[arg(long)]
    pub(crate) polite: bool,
    /// How long to try to reach the receiver, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) connect_timeout: u64,
    /// How long all data lanes may be missing at once before the transfer fails, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) reconnect_timeout: u64,
    /// Afterwards, write what was sent to this file, with all hashes; see verify --against
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Receive {
    /// The directory to build; must be empty unless --replace is given
    #[arg(long, value_name = "DIR")]
    pub(crate) into: PathBuf,
    /// Address and port (UDP and TCP) to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:4444")]
    pub(crate) listen: SocketAddr,
    /// Name or address under which the sender reaches this machine, for the ticket
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Also write the ticket to this file, readable by its owner only
    #[arg(long, value_name = "FILE")]
    pub(crate) ticket_file: Option<PathBuf>,
    /// Receive from a Galera cluster: write what garbd needs to ask for a copy, for its --cfg
    #[arg(long, value_name = "FILE")]
    pub(crate) garbd: Option<PathBuf>,
    /// Replace what is in the directory
    #[arg(long)]
    pub(crate) replace: bool,
    /// How long to wait for a sender, in seconds; 0: for ever
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) initial_timeout: u64,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Estimate {
    /// The directory that would be sent
    pub(crate) dir: PathBuf,
    /// The receiver's ticket, @FILE to read it from a file, or - for standard input; it stays good
    #[arg(long, value_name = "TICKET|@FILE|-")]
    pub(crate) to: String,
    /// What the network carries, in bytes per second; the default is a link of 1 Gbit/s
    #[arg(long, value_name = "RATE", default_value = "112m")]
    pub(crate) rate: String,
    /// Read although a server uses the directory: the figures are only about right then
    #[arg(long)]
    pub(crate) force: bool,
    /// Let everything else on this machine go first: lowest priority for processors and disks
    #[arg(long)]
    pub(crate) polite: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Verify {
    /// The directory to read
    pub(crate) dir: PathBuf,
    /// Compare the directory with this manifest and name every difference
    #[arg(long, value_name = "FILE")]
    pub(crate) against: Option<PathBuf>,
    /// Write what was found to this file, with all hashes
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// How to read files: auto, uring, direct or buffered
    #[arg(long, default_value = "auto")]
    pub(crate) io: String,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Common {
    /// Data lanes; default: as many as cores, at most 4 (the sender decides)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) lanes: Option<u16>,
    /// What carries the data: auto, quic (UDP) or tcp
    #[arg(long, default_value = "auto")]
    pub(crate) transport: String,
    /// How to read and write files: auto, uring, direct or buffered
    #[arg(long, default_value = "auto")]
    pub(crate) io: String,
    /// End when nothing moves for so many seconds; 0: never
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) idle_timeout: u64,
    /// Memory for data in flight, such as 96m (at least 16m)
    #[arg(long, value_name = "SIZE", default_value = "96m")]
    pub(crate) buffer: String,
    /// Write what was done to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) summary_json: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) certificates: Certificates,
}

impl Common {
    /// The engine's options, without what only one side has.
    pub(crate) fn options(&self) -> Result<Options> {
        /// Two lanes, their queues and a disk queue need this much to flow.
        const BUFFER_MIN: u64 = 16 << 20;
        Ok(Options {
            lanes: self.lanes,
            transport: Transport::parse(&self.transport)?,
            io: IoPreference::parse(&self.io)?,
            idle_timeout: seconds(self.idle_timeout),
            buffer_bytes: parse_bytes(&self.buffer)?.max(BUFFER_MIN),
            ..Options::default()
        })
    }
}

impl Send {
    /// The engine's options.
    pub(crate) fn options(&self) -> Result<Options> {
        Ok(Options {
            compress: Compress::parse(&self.compress)?,
            polite: self.polite,
            rlimit: self.rlimit.as_deref().map(parse_bytes).transpose()?,
            connect_timeout: Duration::from_secs(self.connect_timeout),
            reconnect_timeout: Duration::from_secs(self.reconnect_timeout),
            manifest: self.manifest.is_some(),
            ..self.common.options()?
        })
    }
}

impl Receive {
    /// The engine's options.
    pub(crate) fn options(&self) -> Result<Options> {
        Ok(Options { initial_timeout: seconds(self.initial_timeout), ..self.common.options()? })
    }
}

/// 0 means for ever.
fn seconds(number: u64) -> Option<Duration> {
    (number > 0).then(|| Duration::from_secs(number))
}
