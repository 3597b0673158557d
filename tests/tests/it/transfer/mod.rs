//! `fastsst receive`, `send` and `verify` without any server: what arrives, what is refused, and
//! what is left when something breaks.

mod certificates;
mod changing;
mod death;
mod delta;
mod estimate;
mod faults;
mod freezing;
mod io_ways;
mod kill;
mod leftovers;
mod malice;
mod manifest;
mod network;
mod pace;
mod places;
mod reconnect;
mod resume;
mod roots;
mod space;
mod stale_in_use;
mod stale_memory;
mod stale_space;
mod strangers;
mod tickets;
mod trees;
mod usage;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastsst_tests::transfer::{Done, Listing, Sandbox, fill};

/// One end ends after something went wrong: the protocol's silence limit is 8 s.
const NOTICE: Duration = Duration::from_secs(20);

/// MiB of a source that is sent slowly, and how slowly, so that there is a middle of the transfer.
const SLOW_SOURCE_MIB: usize = 32;
const SLOW_MIB_PER_SECOND: u32 = 8;

/// A small source, and an empty target.
fn small_source(place: &Sandbox) -> (PathBuf, PathBuf) {
    let source = place.dir("source");
    fill(&source.join("noise"), 1, 2);
    fs::create_dir(source.join("directory")).unwrap();
    fs::write(source.join("directory/file"), "content").unwrap();
    (source, place.dir("target"))
}

/// A source of which a few MiB are sent per second, and an empty target.
fn slow_source(place: &Sandbox) -> (PathBuf, PathBuf) {
    let source = place.dir("source");
    for number in 0..4 {
        fill(&source.join(format!("noise-{number}")), number, SLOW_SOURCE_MIB / 4);
    }
    (source, place.dir("target"))
}

/// A target with somebody's data, and what it looks like.
fn used_target(place: &Sandbox) -> (PathBuf, Listing) {
    let target = place.dir("used-target");
    fs::write(target.join("precious"), "data").unwrap();
    fs::create_dir(target.join("database")).unwrap();
    fill(&target.join("database/table"), 99, 1);
    let listing = Listing::of(&target);
    (target, listing)
}

/// There is nothing below a target, except what a receiver keeps for its next attempt.
fn assert_empty(target: &Path) {
    let found = Listing::of(target);
    assert!(found.is_empty(), "{found:?}");
}

/// Nothing below a target has changed.
fn assert_untouched(target: &Path, before: &Listing) {
    before.assert_eq(&Listing::of(target), "the target was touched");
}

/// What a transfer cost on its lanes.
fn wire_bytes(done: &Done) -> u64 {
    done.sent["wire_bytes"].as_u64().expect("a number of bytes")
}
