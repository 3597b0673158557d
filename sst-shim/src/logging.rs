//! Log lines on standard error, which is the server's error log, in the form of the stock scripts:
//! `WSREP_SST: [INFO] text (20261231 23:59:59.999)`. Percona's server reads them and logs them anew, by
//! what they begin with: `INF:text` (contract 1.8).

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;

use crate::args::Server;
use crate::syslog::Syslog;

/// Crates whose informative lines are for the operator; of the others only errors are.
const OURS: [&str; 2] = ["wsrep_sst_fastsst", "fastsst"];

/// Longest piece of text in one line for Percona's server. Unit: bytes. Source: its buffer has 1024;
/// what does not fit would be logged as a line without a level.
const PXC_TEXT_BYTES_MAX: usize = 1000;

/// Whether Percona's server reads the lines.
static FOR_PXC: AtomicBool = AtomicBool::new(false);

/// From here on lines have the form that this server expects.
pub(crate) fn speak_to(server: Server) {
    FOR_PXC.store(server == Server::Pxc, Ordering::Relaxed);
}

/// Sends everything that is logged to standard error.
pub(crate) fn start() {
    // It is the first thing this process does, so nobody can have set another one.
    if tracing::subscriber::set_global_default(Registry::default().with(StockForm)).is_err() {
        tracing::debug!("a log exists already");
    }
}

/// Sends the lines that follow to syslog, too.
pub(crate) fn also_to_syslog() {
    match Syslog::connect() {
        // Only the first one is kept; there is no second.
        Ok(syslog) => drop(SYSLOG.set(syslog)),
        Err(error) => tracing::warn!("my.cnf [sst] sst-syslog=1: no syslog is running: {error}"),
    }
}

/// Where lines go besides standard error.
static SYSLOG: OnceLock<Syslog> = OnceLock::new();

/// The form of the stock scripts.
#[derive(Debug)]
struct StockForm;

impl<S: Subscriber> Layer<S> for StockForm {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let ours = OURS.iter().any(|name| metadata.target().starts_with(name));
        *metadata.level() <= if ours { Level::INFO } else { Level::ERROR }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = *event.metadata().level();
        let line = if FOR_PXC.load(Ordering::Relaxed) {
            format_for_pxc(level, &text.0)
        } else {
            let now = jiff::Zoned::now().strftime("%Y%m%d %H:%M:%S%.3f").to_string();
            format_line(level, &text.0, &now)
        };
        // One write a line; nobody could be told about a log that cannot be written.
        let _unwritable = std::io::stderr().lock().write_all(line.as_bytes());
        if let Some(syslog) = SYSLOG.get() {
            syslog.send(level, &line);
        }
    }
}

/// The message, then the other fields as `name=value`.
#[derive(Debug, Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _infallible = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// One line, whatever the text holds: a peer's words must not forge another line.
fn format_line(level: Level, text: &str, now: &str) -> String {
    let label = match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        _ => "INFO",
    };
    format!("WSREP_SST: [{label}] {} ({now})\n", one_line(text))
}

/// As many lines as the server's buffer needs, each with its level.
fn format_for_pxc(level: Level, text: &str) -> String {
    let label = match level {
        Level::ERROR => "ERR",
        Level::WARN => "WRN",
        _ => "INF",
    };
    let (text, mut lines) = (one_line(text), String::new());
    let mut rest = text.as_str();
    loop {
        let mut ends = (0..=rest.len().min(PXC_TEXT_BYTES_MAX)).rev();
        let end = ends.find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        lines.push_str(&format!("{label}:{piece}\n"));
        rest = after;
        if rest.is_empty() {
            return lines;
        }
    }
}

fn one_line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_look_like_those_of_the_stock_scripts() {
        let line = format_line(Level::WARN, "two\nlines", "20260102 03:04:05.678");
        assert_eq!(line, "WSREP_SST: [WARNING] two lines (20260102 03:04:05.678)\n");
    }

    #[test]
    fn perconas_server_gets_levels_and_lines_that_fit() {
        assert_eq!(format_for_pxc(Level::ERROR, "E27\nx"), "ERR:E27 x\n");
        assert_eq!(format_for_pxc(Level::INFO, ""), "INF:\n");
        let long = format_for_pxc(Level::WARN, &"\u{e4}".repeat(1201));
        assert!(long.lines().all(|line| line.starts_with("WRN:\u{e4}") && line.len() < 1023));
        assert_eq!(long.matches('\u{e4}').count(), 1201);
    }
}
