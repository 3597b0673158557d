//! Between which places a run copies.

pub(crate) mod counter;
pub(crate) mod namespaces;

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use self::counter::Counter;
use self::namespaces::Namespaces;

/// What a scenario runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// 127.0.0.1.
    Loopback,
    /// Two network namespaces and a cable between them; limited to so many Mbit/s, or not at all.
    Cable(Option<u32>),
}

impl Link {
    /// Bits per second, where there is a limit.
    pub(crate) fn bits_per_second(self) -> Option<f64> {
        match self {
            Self::Cable(Some(mbit)) => Some(f64::from(mbit) * 1e6),
            Self::Loopback | Self::Cable(None) => None,
        }
    }

    /// For the head of a table.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Loopback => "loopback".to_owned(),
            Self::Cable(None) => {
                "veth pair between two network namespaces, MTU 1500, no limit".to_owned()
            }
            Self::Cable(Some(mbit)) => format!(
                "veth pair between two network namespaces, MTU 1500, {mbit} Mbit/s each way (tbf)"
            ),
        }
    }
}

/// The two places, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Network {
    /// Where the sender runs.
    pub(crate) sender: Place,
    /// Where the receiver runs.
    pub(crate) receiver: Place,
    /// Removed with it.
    _namespaces: Option<Namespaces>,
}

impl Network {
    /// Makes what `link` needs.
    ///
    /// # Errors
    /// Namespaces need root and `ip` and `tc`.
    pub(crate) fn over(link: Link) -> Result<Self> {
        let Link::Cable(mbit) = link else {
            let here = Place { namespace: None, address: Ipv4Addr::LOCALHOST };
            return Ok(Self { sender: here.clone(), receiver: here, _namespaces: None });
        };
        let namespaces = Namespaces::make(mbit)?;
        let [sender, receiver] = namespaces.ends();
        Ok(Self { sender, receiver, _namespaces: Some(namespaces) })
    }
}

/// Where a side runs, and the address that it has there.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The `ip` program and a network namespace, when it is not the one of this process.
    pub(crate) namespace: Option<(PathBuf, String)>,
    /// The address to bind, and to connect to.
    pub(crate) address: Ipv4Addr,
}

impl Place {
    /// A command that will run here. `ip netns exec` becomes the program, so times and signals
    /// are the program's own.
    pub(crate) fn command(&self, program: impl Into<PathBuf>) -> Command {
        let program = program.into();
        match &self.namespace {
            None => Command::new(program),
            Some((ip, name)) => {
                let mut command = Command::new(ip);
                command.args(["netns", "exec", name]).arg(program);
                command
            }
        }
    }

    /// Counts what goes through the device here, once the process `pid` runs here; nothing where
    /// everybody else's traffic would be counted as well.
    ///
    /// # Errors
    /// The process is gone.
    pub(crate) fn counter(&self, pid: u32) -> Result<Option<Counter>> {
        self.namespace.as_ref().map(|_own| Counter::of(pid)).transpose()
    }
}

/// A port that nobody uses now. Namespaces are empty, so it is free there too.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr().context("no port is free")?.port())
}

/// Whether the process `pid` listens on `port`, in its own namespace and without a connection,
/// which the ones that serve only once would take for the real one.
pub(crate) fn listens(pid: u32, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    table.lines().skip(1).any(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let local = words.next().is_some_and(|local| local.ends_with(&suffix));
        local && words.nth(1) == Some(LISTEN)
    })
}

/// A password for one run.
///
/// # Errors
/// The kernel gives none.
pub(crate) fn random_hex() -> Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("no random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_port_is_seen_without_a_connection() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens(std::process::id(), port));
        drop(listener);
        assert!(!listens(std::process::id(), port));
    }

    #[test]
    fn a_limit_is_in_bits() {
        assert_eq!(Link::Cable(Some(100)).bits_per_second(), Some(1e8));
        assert_eq!(Link::Loopback.bits_per_second(), None);
    }
}
