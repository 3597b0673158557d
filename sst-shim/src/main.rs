//! `wsrep_sst_fastsst`: what a Galera server starts for `wsrep_sst_method=fastsst`.
//!
//! Arguments, option files, the dialogue on standard output and the freezing of the server are
//! here; moving the files is the engine's. Nothing is left running and no shell is involved.

#![forbid(unsafe_code)]

mod address;
mod args;
mod binlogs;
mod config;
mod credentials;
mod donor;
mod elsewhere;
mod exit;
mod facts;
mod files;
mod freeze;
mod inherited;
mod joiner;
mod keep_pattern;
mod layout;
mod liveness;
mod logging;
mod markers;
mod name_pattern;
mod options;
mod own_address;
mod parts;
mod places;
mod policy;
mod position;
mod progress_log;
mod quiet;
mod server_args;
mod session;
mod settings;
mod syslog;
mod tls;
mod version;
mod wsrep;

use std::process::ExitCode;

use fastsst_mover::{Cancel, Result};

use crate::args::{Args, Invocation, Role};
use crate::exit::Ending;
use crate::session::Session;

const HELP: &str = "\
wsrep_sst_fastsst: state snapshot transfers for Galera clusters

This program is started by the server. To use it, install it into /usr/bin on all nodes and set

    [mysqld]
    wsrep_sst_method = fastsst

Options go into the group [sst] of the server's option files; all have defaults:

    rlimit               bytes per second the donor reads, suffix k, m, g (no limit)
    compress             auto, none, zstd, zstd:LEVEL (auto)
    polite               on: the donor lets everything else on its machine go first (off)
    transport            auto, quic, tcp (auto)
    lanes                connections for data, 1 to 64 (cores of the donor, at most 4)
    sst-initial-timeout  seconds a joiner waits for its donor, 0: for ever (300)
    sst-idle-timeout     seconds a transfer may stand still, 0: for ever (120)
    donor-timeout        seconds a donor tries to reach the joiner (10)
    sst-reconnect-timeout
                         seconds all connections for data may be missing (30)
    sst-lock-timeout     seconds the donor may wait for its lock and hold it (3600)
    sst-max-binlogs      binary logs the donor sends, -1: all (1)
    data-directory       where a joiner puts tables that have DATA DIRECTORY (as at the donor)
    cpat                 pattern of further files that belong to the node (none)
    threads              threads that hash and compress (one for each core)
    progress             1: to the error log, none, or a file (1)
    sst-syslog           on: log lines go to syslog, too (off)
    ssl-mode, ssl-*, tca, tcert, tkey, encrypt
                         certificates on top of the keys of each transfer, as for the
                         stock methods; the server's groups count, too (none)

Options of wsrep_sst_rsync, wsrep_sst_mariabackup and xtrabackup-v2 may stay.

Every option, error code and log line is explained in OPERATIONS.md.
To copy a data directory by hand, use the program fastsst.
";

fn main() -> ExitCode {
    inherited::close_all();
    fastsst_mover::keep_freed_memory();
    logging::start();
    let ending = Ending::new(Cancel::new());
    ending.leave_on_panic();
    let outcome = run(&ending);
    ending.leave(outcome)
}

fn run(ending: &Ending) -> Result<()> {
    match args::parse(std::env::args_os().skip(1))? {
        Invocation::Help => wsrep::print_text(HELP),
        Invocation::Version => {
            wsrep::print_text(concat!("wsrep_sst_fastsst ", env!("CARGO_PKG_VERSION"), "\n"))
        }
        Invocation::Transfer(args) => transfer(*args, ending),
    }
}

fn transfer(args: Args, ending: &Ending) -> Result<()> {
    liveness::take_signals(ending)?;
    let session = Session::begin(args, ending)?;
    match session.args.role {
        Role::Donor => donor::run(&session),
        Role::Joiner => joiner::run(&session),
    }
}
