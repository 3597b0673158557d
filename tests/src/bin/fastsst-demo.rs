//! `make demo`: the same node joins the same cluster by fastsst and by rsync; one table.
//!
//! Each method gets a fresh cluster of one with the same amount of data and the same write load,
//! so neither profits from what the other left in caches or files.
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a demonstration that fails says where, and its cluster cleans up"
)]
#![allow(clippy::print_stdout, reason = "a program for people, on a terminal")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastsst_tests::cluster::{Cluster, Method, Seen, WriteLoad, assert_same_data};

/// MiB of rows, unless `FASTSST_DEMO_MIB` says otherwise.
const DATA_MIB: u64 = 1024;

/// The longest that a join may take.
const JOIN: Duration = Duration::from_secs(600);

/// What one join was like.
struct Measured {
    method: Method,
    join: Duration,
    writes: Seen,
    wire_bytes: u64,
    tables: usize,
    logs: PathBuf,
}

fn main() {
    let mib = std::env::var("FASTSST_DEMO_MIB")
        .map_or(DATA_MIB, |text| text.parse().expect("FASTSST_DEMO_MIB: a number"));
    let start = Instant::now();
    println!("A second node joins a MariaDB cluster of one that holds {mib} MiB of random rows");
    println!("while a client commits a row every few milliseconds. Both nodes on this machine.");
    let measured = [Method::Fastsst, Method::Rsync].map(|method| join_by(method, mib));
    print_table(&measured);
    println!("Done in {:.0} s; servers and data are removed.", start.elapsed().as_secs_f64());
}

fn join_by(method: Method, mib: u64) -> Measured {
    let name = method.name();
    println!("\n[{name}] starting a cluster of one and filling it");
    let cluster = Cluster::builder()
        .method(method)
        .option("mysqld", "innodb_buffer_pool_size", "256M")
        .start(2);
    let [donor, joiner] = cluster.nodes();
    donor.fill_mib(mib);
    let load = WriteLoad::on(donor);
    println!("[{name}] the second node starts with an empty data directory");
    let before = loopback_bytes();
    joiner.start();
    let join = joiner.wait_synced(JOIN);
    let wire_bytes = loopback_bytes() - before;
    let writes = load.stop();
    println!("[{name}] joined after {:.1} s; comparing all tables", join.as_secs_f64());
    let tables = assert_same_data(donor, joiner);
    let logs = cluster.keep_logs(&format!("demo-{name}"));
    Measured { method, join, writes, wire_bytes, tables, logs }
}

fn print_table(measured: &[Measured]) {
    println!();
    println!("  method   join time  writes stalled  bytes on the wire  commits  tables equal");
    for it in measured {
        println!(
            "  {:<8} {:>7.1} s  {:>12.2} s  {:>13} MiB  {:>7}  {:>12}",
            it.method.name(),
            it.join.as_secs_f64(),
            it.writes.longest_stall.as_secs_f64(),
            it.wire_bytes / (1024 * 1024),
            it.writes.commits,
            format!("all {}", it.tables),
        );
    }
    println!();
    println!(
        "  join time: from the start of the server until it is a synced member, recovery included"
    );
    println!("  writes stalled: longest time between two commits on the donor meanwhile");
    println!(
        "  bytes on the wire: everything that crossed loopback meanwhile, replication included"
    );
    println!("  tables equal: CHECKSUM TABLE gave the same on both nodes");
    println!();
    for it in measured {
        println!("  {} logs: {}", it.method.name(), it.logs.display());
    }
}

/// Bytes that loopback has sent since boot.
fn loopback_bytes() -> u64 {
    let text = fs::read_to_string("/proc/net/dev").expect("/proc is mounted");
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    // After the name: eight columns of what was received, then the bytes that were sent.
    line.and_then(|line| line.split_ascii_whitespace().nth(8)?.parse().ok())
        .unwrap_or_else(|| panic!("no loopback in /proc/net/dev:\n{text}"))
}
