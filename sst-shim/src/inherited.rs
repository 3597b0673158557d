//! Descriptors of the server that this process must not keep.
//!
//! Not everything the server has open is closed when it starts a script. A listening socket kept
//! by a script outlives the server and stops its next start (MDEV-8743).

use std::fs;

/// First descriptor that is not one of the three standard ones.
const FIRST: i32 = 3;

/// Closed blindly when `/proc` is not mounted. Why: the usual soft limit of open files.
const BLIND_END: i32 = 1024;

/// Closes every descriptor but the standard ones. Nothing of ours may be open yet.
pub(crate) fn close_all() {
    for descriptor in open_descriptors() {
        // The list may name the descriptor that read it, which is closed already.
        let _already_closed = nix::unistd::close(descriptor);
    }
}

fn open_descriptors() -> Vec<i32> {
    match fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|descriptor| *descriptor >= FIRST)
            .collect(),
        Err(_) => (FIRST..BLIND_END).collect(),
    }
}
