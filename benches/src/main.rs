//! fastsst beside its rivals: the same data, the same machine, the same run.
//!
//! A [`Scenario`] is a [`DataSet`](dataset::DataSet) over a [`Network`]. Each
//! [`Contender`](contender::Contender) copies it in turn, and the [`race`] between them starts every
//! copy with cold caches, times it until the copy is durable, and compares the copy with its source
//! afterwards. Each program's processor time and
//! memory are counted for the sending and the receiving side apart.

#![forbid(unsafe_code)]

mod args;
mod cancel;
mod catalogue;
mod scenario;
mod start;

mod dataset;
mod network;
mod server;

mod contender;
mod floor;
mod programs;
mod side;

mod cache;
mod clock;
mod race;
mod residency;
mod tree;

mod machine;
mod outcome;
mod report;
mod stats;
mod targets;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::args::{Args, Hidden};
use crate::cancel::Cancel;
use crate::dataset::store::Store;
use crate::machine::Machine;
use crate::network::Network;
use crate::race::Plan;
use crate::report::text::Style;
use crate::report::{Report, Skipped};
use crate::scenario::Scenario;

/// Prefix of everything that is created below `--dir`, and removed at the end.
const WORK_PREFIX: &str = "fastsst-bench-";

fn main() -> ExitCode {
    let args = Args::parse();
    let complete = match &args.command {
        Some(Hidden::Floor { source, target }) => floor::copy(source, target).map(|()| true),
        Some(Hidden::FloorRead { one, other }) => floor::read([one, other]).map(|_bytes| true),
        None if args.list => list(&args).map(|()| true),
        None => Cancel::on_signals().and_then(|cancel| run(&args, &cancel)),
    };
    match complete {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("fastsst-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether every contender that was there finished all its runs with a right copy.
fn run(args: &Args, cancel: &Cancel) -> Result<bool> {
    let store = Store::new(args.cache());
    let scenarios = args.scenarios()?;
    must_have_room(args, &store, &scenarios)?;
    let mut report = Report {
        date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        machine: Machine::of(&args.dir),
        command: args::typed(std::env::args()),
        scenarios: Vec::new(),
        skipped: Vec::new(),
        targets: Vec::new(),
    };
    let mut ended = Ok(());
    for scenario in &scenarios {
        ended = compare(args, scenario, &store, (&mut report, cancel));
        report.targets = targets::check(&report.scenarios);
        // What is there is written at once: a long run may not live to its end.
        write_files(args, &report)?;
        if ended.is_err() {
            break;
        }
    }
    write!(std::io::stdout().lock(), "{}", report.text(Style::Plain))
        .context("cannot write the table")?;
    ended.map(|()| report.complete())
}

/// Runs one scenario, or notes why it cannot be run here.
fn compare(
    args: &Args,
    scenario: &Scenario,
    store: &Store,
    (report, cancel): (&mut Report, &Cancel),
) -> Result<()> {
    let network = match Network::over(scenario.link) {
        Ok(network) => network,
        Err(why) => {
            let skipped = Skipped { scenario: scenario.name.to_string(), why: format!("{why:#}") };
            say(&format!("{}: skipped: {}", skipped.scenario, skipped.why));
            report.skipped.push(skipped);
            return Ok(());
        }
    };
    let mut contenders = args.contenders(scenario)?;
    // Removed when it is dropped, whatever happens.
    let work = tempfile::Builder::new()
        .prefix(WORK_PREFIX)
        .tempdir_in(&args.dir)
        .with_context(|| format!("cannot work in {}", args.dir.display()))?;
    // Programs are started elsewhere as well, so their paths must lead there too.
    let absolute = work.path().canonicalize().context("cannot work there")?;
    let plan = Plan { runs: args.runs, work: &absolute, store, cancel };
    let outcome = race::run(scenario, &network, &mut contenders, &plan);
    // Processes are gone by now, so this removes everything; a failure must not stay unseen.
    report.scenarios.push(outcome.with_context(|| format!("{} failed", scenario.name))?);
    work.close().context("cannot remove the working directory")
}

fn write_files(args: &Args, report: &Report) -> Result<()> {
    let write = |path: &Path, text: String| {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = args.output(args.json.as_deref(), "results.json") {
        let text = serde_json::to_string_pretty(report).context("the report is not JSON")?;
        write(&path, text + "\n")?;
    }
    if let Some(path) = args.output(args.csv.as_deref(), "results.csv") {
        write(&path, report.csv())?;
    }
    if let Some(path) = args.output(args.markdown.as_deref(), "results.md") {
        write(&path, report.text(Style::Markdown))?;
    }
    if let Some(directory) = args.output(args.charts.as_deref(), "") {
        report.draw(&directory)?;
    }
    Ok(())
}

fn list(args: &Args) -> Result<()> {
    let mut text = "scenarios:\n".to_owned();
    for name in scenario::names() {
        text += &format!("  {name}\n");
    }
    text += "contenders:\n";
    for mut contender in args.everybody() {
        let state = match contender.prepare() {
            Ok(about) => about.version,
            Err(why) => format!("not here: {why:#}"),
        };
        text += &format!("  {:<20}{state}\n", contender.name());
    }
    write!(std::io::stdout().lock(), "{text}").context("cannot write the list")
}

/// The data that is not there yet, the largest copy, a second one for a server to run on, and a
/// tenth for everything around them.
fn must_have_room(args: &Args, store: &Store, scenarios: &[Scenario]) -> Result<()> {
    let new = scenarios.iter().filter(|it| !store.has(it.data.as_ref()));
    let new: u64 = new.map(|scenario| scenario.data.bytes()).sum();
    let copies = |scenario: &Scenario| if scenario.data.is_a_server_s() { 2 } else { 1 };
    let copied = scenarios.iter().map(|scenario| scenario.data.bytes() * copies(scenario)).max();
    let needed = (new + copied.unwrap_or(0)) / 10 * 11;
    let fs = rustix::fs::statvfs(&args.dir)
        .with_context(|| format!("cannot look at {}", args.dir.display()))?;
    let free = fs.f_bavail * fs.f_frsize;
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
