//! Two machines in one: a network namespace for each side, and a cable between them.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use super::Place;
use crate::programs;

/// Name of the only device in either namespace, besides `lo`.
pub(super) const DEVICE: &str = "cable";

/// What an end may send at once. A segmented packet of 64 KiB must fit, or the limiter takes it
/// apart, and at one Gbit/s the timers must come often enough to fill the line.
const BURST: &str = "256kb";

/// How long a packet may wait in the limiter's queue: about the buffer of a switch.
const LATENCY: &str = "20ms";

/// Both ends, inside namespaces that nobody else uses; the addresses are seen nowhere else.
const ENDS: [(char, Ipv4Addr); 2] =
    [('a', Ipv4Addr::new(10, 77, 0, 1)), ('b', Ipv4Addr::new(10, 77, 0, 2))];

/// Removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Namespaces {
    ip: PathBuf,
    made: Vec<String>,
}

impl Namespaces {
    /// Two namespaces with a cable, limited to `mbit` Mbit/s in each direction.
    ///
    /// # Errors
    /// Not root, or `ip` or `tc` is missing or fails.
    pub(crate) fn make(mbit: Option<u32>) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "network namespaces need root");
        let (ip, tc) = (programs::find("ip")?, programs::find("tc")?);
        let mut this = Self { ip, made: Vec::new() };
        let names = names(std::process::id());
        for name in &names {
            this.ip(&["netns", "add", name])?;
            this.made.push(name.clone());
        }
        let [a, b] = &names;
        // Made inside at once: nothing of it is ever seen in the namespace of the machine.
        let pair = ["netns", a, "mtu", "1500", "type", "veth", "peer", "name", DEVICE, "netns", b];
        this.ip(&[&["link", "add", DEVICE][..], &pair].concat())?;
        for (name, (_, address)) in names.iter().zip(ENDS) {
            let address = format!("{address}/24");
            this.ip(&["-n", name, "address", "add", &address, "dev", DEVICE])?;
            for device in ["lo", DEVICE] {
                this.ip(&["-n", name, "link", "set", device, "up"])?;
            }
            if let Some(mbit) = mbit {
                let rate = format!("{mbit}mbit");
                let limit = ["tbf", "rate", &rate, "burst", BURST, "latency", LATENCY];
                let mut command = Command::new(&tc);
                command.args(["-n", name, "qdisc", "add", "dev", DEVICE, "root"]).args(limit);
                programs::done(&mut command).context("cannot limit the cable")?;
            }
        }
        Ok(this)
    }

    /// The sender's place and the receiver's.
    pub(crate) fn ends(&self) -> [Place; 2] {
        ENDS.map(|(letter, address)| {
            let name = self.made.iter().find(|name| name.ends_with(letter));
            Place { namespace: name.map(|name| (self.ip.clone(), name.clone())), address }
        })
    }

    fn ip(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.ip);
        programs::done(command.args(arguments)).context("cannot make a network namespace")
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.made {
            if let Err(error) = self.ip(&["netns", "delete", name]) {
                crate::say(&format!("cannot remove the network namespace {name}: {error:#}"));
            }
        }
    }
}

/// Names that belong to this process: those of two benches on one machine must differ, and so
/// must those of two cables of one bench.
fn names(pid: u32) -> [String; 2] {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = match MADE.fetch_add(1, Ordering::Relaxed) {
        0 => String::new(),
        more => format!("-{more}"),
    };
    ENDS.map(|(letter, _)| format!("fsb{pid}{number}{letter}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_this_process_and_differ() {
        let [a, b] = names(4711);
        let [c, d] = names(4711);
        for name in [&a, &b, &c, &d] {
            assert!(name.starts_with("fsb4711"), "{name}");
        }
        assert!(a.ends_with('a') && b.ends_with('b'), "{a} {b}");
        assert!(a != c && b != d, "{a} {c}");
    }

    #[test]
    fn made_and_removed() {
        let Ok(namespaces) = Namespaces::make(Some(1000)) else {
            return;
        };
        let [sender, receiver] = namespaces.ends();
        let listed = || {
            let output = Command::new(&namespaces.ip).args(["netns", "list"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        for place in [&sender, &receiver] {
            let (_, name) = place.namespace.clone().unwrap();
            assert!(listed().contains(&name));
            let mut command = place.command(&namespaces.ip);
            let output = command.args(["-4", "address"]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains(&place.address.to_string()), "{text}");
        }
        let ip = namespaces.ip.clone();
        drop(namespaces);
        let output = Command::new(ip).args(["netns", "list"]).output().unwrap();
        let left = String::from_utf8(output.stdout).unwrap();
        let (_, name) = sender.namespace.unwrap();
        assert!(!left.lines().any(|line| line.split(' ').next() == Some(&name)), "{left}");
    }
}
