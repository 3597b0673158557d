//! `[sst] sst-syslog`: log lines to the system's log, as datagrams to `/dev/log`.
//!
//! One datagram is one line in the form of RFC 3164, as `logger` of the stock scripts writes it. It
//! is sent without waiting: a system log that is stuck must not stop a transfer.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tracing::Level;

const SOCKET: &str = "/dev/log";

/// Who speaks. Source: RFC 3164, 4.1.1: 3 is system daemons, 8 severities each.
const FACILITY_DAEMON: u8 = 3 * 8;

/// A connection to the system's log.
#[derive(Debug)]
pub(crate) struct Syslog {
    socket: UnixDatagram,
    tag: String,
}

impl Syslog {
    /// Finds the system's log.
    ///
    /// # Errors
    /// None is running.
    pub(crate) fn connect() -> io::Result<Self> {
        Self::connect_to(Path::new(SOCKET))
    }

    fn connect_to(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, tag: format!("wsrep_sst_fastsst[{}]", std::process::id()) })
    }

    /// Sends one line; what cannot be sent at once is only in the server's error log.
    pub(crate) fn send(&self, level: Level, line: &str) {
        let severity = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            _ => 6,
        };
        let text = format!("<{}>{}: {}", FACILITY_DAEMON + severity, self.tag, line.trim_end());
        let _unsent = self.socket.send(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_datagram_with_its_severity() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = UnixDatagram::bind(&path).unwrap();
        let syslog = Syslog::connect_to(&path).unwrap();
        for (level, priority) in [(Level::ERROR, 27), (Level::WARN, 28), (Level::INFO, 30)] {
            syslog.send(level, "WSREP_SST: words\n");
            let mut text = [0; 200];
            let length = log.recv(&mut text).unwrap();
            let pid = std::process::id();
            let expected = format!("<{priority}>wsrep_sst_fastsst[{pid}]: WSREP_SST: words");
            assert_eq!(std::str::from_utf8(&text[..length]).unwrap(), expected);
        }
        assert!(Syslog::connect_to(&directory.path().join("none")).is_err());
    }
}
