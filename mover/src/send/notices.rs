//! What an operator should know about the network, each said once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::net::LinkStats;

/// What has been said.
#[derive(Debug, Default)]
pub(super) struct Notices {
    no_segmentation: AtomicBool,
    black_hole: AtomicBool,
    /// Largest datagram that got through so far. Unit: bytes.
    datagram_bytes: AtomicU64,
}

impl Notices {
    /// Looks at a lane.
    pub(super) fn look(&self, stats: &LinkStats) {
        let Some(datagrams) = &stats.datagrams else { return };
        let size = u64::from(datagrams.bytes_max);
        let largest = self.datagram_bytes.fetch_max(size, Ordering::Relaxed).max(size);
        if !datagrams.segments_in_kernel && !self.no_segmentation.swap(true, Ordering::Relaxed) {
            tracing::info!(
                "the kernel does not cut large sends into datagrams (GSO): QUIC costs about three \
                 times as much processor time; transport=tcp may be faster"
            );
        }
        if datagrams.black_holes > 0 && !self.black_hole.swap(true, Ordering::Relaxed) {
            tracing::info!(
                "the path swallows large datagrams: they were up to {largest} bytes and are {size} \
                 now; look for a smaller MTU on the way"
            );
        }
    }
}
