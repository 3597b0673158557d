//! fastsst beside its rivals: the same data, the same machine, the same run.
//!
//! One [`Scenario`](scenario::Scenario) generates a tree, each [`Contender`](contender::Contender)
//! copies it in turn, and the [`race`] between them starts every copy with cold caches, times it
//! until the copy is durable, and compares the copy with its source afterwards. Each program's
//! processor time and memory are counted for the sending and the receiving side apart.

#![forbid(unsafe_code)]

mod args;
mod cancel;

mod scenario;

mod contender;
mod side;

mod cache;
mod race;
mod tree;

mod machine;
mod report;
mod stats;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::args::Args;
use crate::cancel::Cancel;
use crate::race::Plan;
use crate::report::Report;

/// Prefix of everything that is created below `--dir`, and removed at the end.
const WORK_PREFIX: &str = "fastsst-bench-";

fn main() -> ExitCode {
    let complete = Cancel::on_signals().and_then(|cancel| run(&Args::parse(), &cancel));
    match complete {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("fastsst-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether every contender that was there finished all its runs with an equal copy.
fn run(args: &Args, cancel: &Cancel) -> Result<bool> {
    let scenario = args.scenario();
    let mut contenders = args.contenders()?;
    must_have_room(args, scenario.bytes())?;
    // Removed when it is dropped, whatever happens.
    let work = tempfile::Builder::new()
        .prefix(WORK_PREFIX)
        .tempdir_in(&args.dir)
        .with_context(|| format!("cannot work in {}", args.dir.display()))?;
    let plan = Plan { runs: args.runs, work: work.path(), cancel };
    let outcome = race::run(scenario.as_ref(), &mut contenders, &plan);
    // Processes are gone by now, so this removes everything; a failure must not stay unseen.
    let report = Report { machine: machine::Machine::of(&args.dir), scenarios: vec![outcome?] };
    work.close().context("cannot remove the working directory")?;

    write!(std::io::stdout().lock(), "{}", report.table()).context("cannot write the table")?;
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report).context("the report is not JSON")?;
        std::fs::write(path, text + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report.complete())
}

/// Source and one copy, and a tenth for everything around them.
fn must_have_room(args: &Args, data_bytes: u64) -> Result<()> {
    let fs = rustix::fs::statvfs(&args.dir)
        .with_context(|| format!("cannot look at {}", args.dir.display()))?;
    let (free, needed) = (fs.f_bavail * fs.f_frsize, data_bytes * 2 + data_bytes / 5);
    ensure!(
        free >= needed,
        "{} has {:.0} MiB free, {:.0} MiB are needed: use another --dir or a smaller --mib",
        args.dir.display(),
        stats::mib(free),
        stats::mib(needed)
    );
    Ok(())
}

/// One line of progress; standard output belongs to the table.
fn say(line: &str) {
    // Nobody may be listening, and the figures do not depend on it.
    writeln!(std::io::stderr().lock(), "{line}").unwrap_or(());
}
