//! How many bytes each transport carried.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::net::Carrier;
use crate::summary::mib;

/// Bytes of chunk frames, by what carried them.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    quic: AtomicU64,
    tcp: AtomicU64,
}

impl Carried {
    /// So many more.
    pub(crate) fn add(&self, carrier: Carrier, bytes: u64) {
        self.of(carrier).fetch_add(bytes, Ordering::Relaxed);
    }

    /// What carried most; `None` when nothing was carried.
    pub(crate) fn most(&self) -> Option<Carrier> {
        match (self.bytes(Carrier::Quic), self.bytes(Carrier::Tcp)) {
            (0, 0) => None,
            (quic, tcp) if tcp > quic => Some(Carrier::Tcp),
            _ => Some(Carrier::Quic),
        }
    }

    fn bytes(&self, carrier: Carrier) -> u64 {
        self.of(carrier).load(Ordering::Relaxed)
    }

    fn of(&self, carrier: Carrier) -> &AtomicU64 {
        match carrier {
            Carrier::Quic => &self.quic,
            Carrier::Tcp => &self.tcp,
        }
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (quic, tcp) = (self.bytes(Carrier::Quic), self.bytes(Carrier::Tcp));
        match (quic, tcp) {
            (0, 0) => f.write_str("nothing to carry"),
            (_, 0) => f.write_str("every lane over quic"),
            (0, _) => f.write_str("every lane over tcp"),
            _ => write!(f, "{:.0} MiB over quic, {:.0} MiB over tcp", mib(quic), mib(tcp)),
        }
    }
}
