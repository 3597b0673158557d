//! How many clusters run at once on this machine, and which ports each of them uses.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::getuid;

/// Clusters that run at once. Why: each keeps about one core busy, and machines for tests have two.
const SLOTS_DEFAULT: u16 = 2;

/// Ports of one slot, enough for eight nodes even when half of them are taken.
const PORTS_PER_SLOT: u16 = 64;

/// First port of slot 0. Below the range that the kernel gives to outgoing connections.
const PORT_BASE: u16 = 21_000;

/// How long a test waits for its turn.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// The right to run one cluster, and the ports that come with it.
///
/// It is a lock on a file, so it holds between threads and processes, and the kernel gives it
/// back however its owner ends.
#[derive(Debug)]
pub(super) struct Slot {
    _lock: File,
    next_port: u16,
    end_port: u16,
}

impl Slot {
    /// Waits for a free slot.
    pub(super) fn take() -> Self {
        let slots = std::env::var("FASTSST_TEST_CLUSTERS")
            .map_or(SLOTS_DEFAULT, |text| text.parse().expect("FASTSST_TEST_CLUSTERS: a number"));
        assert!((1..=64).contains(&slots), "FASTSST_TEST_CLUSTERS: 1 to 64");
        let start = Instant::now();
        loop {
            if let Some(slot) = (0..slots).find_map(Self::try_take) {
                return slot;
            }
            assert!(start.elapsed() < PATIENCE, "other clusters held every slot for {PATIENCE:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn try_take(number: u16) -> Option<Self> {
        let name = format!("fastsst-cluster-{}-{number}.lock", getuid().as_raw());
        let path = std::env::temp_dir().join(name);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        let next_port = PORT_BASE + number * PORTS_PER_SLOT;
        Some(Self { _lock: lock, next_port, end_port: next_port + PORTS_PER_SLOT })
    }

    /// A port of this slot that nobody uses now, for TCP and UDP, never given out before.
    pub(super) fn port(&mut self) -> u16 {
        while self.next_port < self.end_port {
            let port = self.next_port;
            self.next_port += 1;
            let address = (Ipv4Addr::LOCALHOST, port);
            if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
                return port;
            }
        }
        panic!("no free port below {}", self.end_port);
    }
}
