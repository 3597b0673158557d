//! What the server reads: the only file that writes to standard output.
//!
//! ```text
//! joiner:  ready ADDRESS -> [total N | complete N]... -> POSITION
//! donor:   flush tables -> [total N | complete N]... -> continue -> done POSITION
//! ```
//!
//! Each line is one write, so the server never sees half of one. After the last line nothing
//! more is printed.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fastsst_mover::{Code, Error, Result};
use zeroize::Zeroizing;

use crate::args::ProgressLines;
use crate::position::Position;

/// Longest line a donor's server reads in one piece. Unit: bytes with the newline. Source:
/// a buffer of 128 bytes (contract 3.2), less a margin.
const DONOR_LINE_BYTES_MAX: usize = 120;

/// Longest line a joiner's server reads in one piece. Unit: bytes with the newline. Source:
/// a buffer of 512 bytes (contract 2.1), less a margin.
const JOINER_LINE_BYTES_MAX: usize = 500;

/// The conversation with the server.
#[derive(Debug)]
pub(crate) struct Wsrep {
    state: Mutex<State>,
    progress: ProgressLines,
}

#[derive(Debug, Default)]
struct State {
    /// The last line is out; whatever follows would confuse the server.
    over: bool,
    total: Option<u64>,
    complete: u64,
}

impl Wsrep {
    pub(crate) fn new(progress: ProgressLines) -> Self {
        Self { state: Mutex::new(State::default()), progress }
    }

    /// Joiner: the listener is bound, `request` goes to the donor.
    ///
    /// # Errors
    /// E27 when the server does not listen any more, as for all lines.
    pub(crate) fn ready(&self, request: &str) -> Result<()> {
        let _state = self.lock();
        write_line(&Zeroizing::new(format!("ready {request}")), JOINER_LINE_BYTES_MAX)
    }

    /// Donor: the server shall flush and lock.
    pub(crate) fn flush_tables(&self) -> Result<()> {
        let _state = self.lock();
        write_line("flush tables", DONOR_LINE_BYTES_MAX)
    }

    /// Donor: the server may write again.
    pub(crate) fn resume(&self) -> Result<()> {
        let _state = self.lock();
        write_line("continue", DONOR_LINE_BYTES_MAX)
    }

    /// Either: bytes so far, and in all, where the server wants to know.
    pub(crate) fn progress(&self, complete: u64, total: u64) -> Result<()> {
        let mut state = self.lock();
        if self.progress == ProgressLines::Unwanted || state.over || total == 0 {
            return Ok(());
        }
        // A second `total` would start a new stage, so a larger one is left to `complete`.
        if state.total.is_none() {
            write_line(&format!("total {total}"), DONOR_LINE_BYTES_MAX)?;
            state.total = Some(total);
        }
        if complete > state.complete {
            write_line(&format!("complete {complete}"), DONOR_LINE_BYTES_MAX)?;
            state.complete = complete;
        }
        Ok(())
    }

    /// Donor: everything is at the joiner and durable.
    pub(crate) fn done(&self, position: &Position) -> Result<()> {
        let mut state = self.lock();
        state.over = true;
        let whole = format!("done {position}");
        // The donor's server parses UUID:seqno only; the rest may be too long for its buffer.
        match whole.len() < DONOR_LINE_BYTES_MAX {
            true => write_line(&whole, DONOR_LINE_BYTES_MAX),
            false => write_line(&format!("done {}", position.gtid()), DONOR_LINE_BYTES_MAX),
        }
    }

    /// Joiner: the data directory is complete and durable at this position.
    pub(crate) fn joined(&self, position: &Position) -> Result<()> {
        let mut state = self.lock();
        state.over = true;
        write_line(position.as_str(), JOINER_LINE_BYTES_MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For a person: help and version, when no server started this program.
pub(crate) fn print_text(text: &str) -> Result<()> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let written = write_once(rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

fn write_line(line: &str, bytes_max: usize) -> Result<()> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(line.len() + 1));
    bytes.extend_from_slice(line.as_bytes());
    bytes.push(b'\n');
    if bytes.len() > bytes_max || line.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(Error::bug(format!("a line of {} bytes for the server", bytes.len())));
    }
    match write_once(&bytes)? {
        written if written == bytes.len() => Ok(()),
        _ => Err(gone(io::Error::from(io::ErrorKind::WriteZero))),
    }
}

fn write_once(bytes: &[u8]) -> Result<usize> {
    rustix::io::retry_on_intr(|| rustix::io::write(io::stdout(), bytes))
        .map_err(|error| gone(error.into()))
}

fn gone(error: io::Error) -> Error {
    Error::new(
        Code::ServerGone,
        "the server does not read from this program any more; see its own log for why it stopped",
    )
    .because(error)
}
