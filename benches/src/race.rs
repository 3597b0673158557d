//! One scenario, all contenders, in turn: A B A B, so that a slow minute of the machine does not
//! hit one of them alone.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::param::clock_ticks_per_second;

use crate::cache::{self, Cold};
use crate::cancel::Cancel;
use crate::contender::{Contender, Job};
use crate::report::{Entrant, Outcome, Run};
use crate::scenario::Scenario;
use crate::stats::mib;
use crate::tree::Tree;
use crate::{machine, say};

/// How and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// Runs of each contender.
    pub(crate) runs: u32,
    /// An empty directory for source, copies and logs.
    pub(crate) work: &'a Path,
    /// Whether to stop.
    pub(crate) cancel: &'a Cancel,
}

/// Generates the data and lets everybody copy it.
///
/// # Errors
/// The data cannot be made, or a signal has come. A contender that fails is part of the outcome.
pub(crate) fn run(
    scenario: &dyn Scenario,
    contenders: &mut [Box<dyn Contender>],
    plan: &Plan<'_>,
) -> Result<Outcome> {
    let mut entrants: Vec<Entrant> = contenders.iter_mut().map(|one| enter(one.as_mut())).collect();
    let source = plan.work.join("source");
    fs::create_dir(&source).context("cannot create the source")?;
    say(&format!("{}: generating {:.0} MiB", scenario.name(), mib(scenario.bytes())));
    scenario.generate(&source, plan.cancel)?;
    let original = Tree::read(&source, plan.cancel)?;
    let mut cold = None;

    for round in 1..=plan.runs {
        for (contender, entrant) in contenders.iter().zip(&mut entrants) {
            if !entrant.takes_part() {
                continue;
            }
            match once(contender.as_ref(), &source, &original, plan) {
                Ok(run) => {
                    say(&format!("{round}/{}: {}", plan.runs, run.line(contender.name())));
                    cold = Some(run.cold);
                    entrant.runs.push(run);
                }
                // Not the contender's fault: nothing that it says counts.
                Err(error) if plan.cancel.is_set() => return Err(error),
                Err(error) => {
                    say(&format!("{round}/{}: {}: {error:#}", plan.runs, contender.name()));
                    entrant.failure = Some(format!("run {round}: {error:#}"));
                }
            }
        }
    }
    Ok(Outcome {
        name: scenario.name(),
        data: scenario.describe(),
        files: original.files,
        bytes: original.bytes,
        runs: plan.runs,
        cold: cold.unwrap_or(Cold::SourceOnly),
        entrants,
    })
}

fn enter(contender: &mut dyn Contender) -> Entrant {
    let (about, absence) = match contender.prepare() {
        Ok(about) => (Some(about), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    Entrant { name: contender.name(), about, absence, failure: None, runs: Vec::new() }
}

/// One copy: cold caches, the measured part, the comparison, and nothing left behind.
fn once(contender: &dyn Contender, source: &Path, original: &Tree, plan: &Plan<'_>) -> Result<Run> {
    let here = tempfile::tempdir_in(plan.work).context("cannot create a directory")?;
    let (target, scratch) = (here.path().join("copy"), here.path().join("scratch"));
    for dir in [&target, &scratch] {
        fs::create_dir(dir).context("cannot create a directory")?;
    }
    plan.cancel.check()?;
    let cold = cache::chill(source)?;

    let busy_before = machine::busy_ticks();
    let job = Job { source, target: &target, scratch: &scratch, cancel: plan.cancel };
    let measured = contender.run(&job)?;
    let busy = machine::busy_ticks().zip(busy_before).map(|(after, before)| after - before);

    let copy = Tree::read(&target, plan.cancel)?;
    if let Some(difference) = original.difference(&copy) {
        bail!("the copy is not the source: {difference}");
    }
    here.close().context("cannot remove a copy")?;
    let machine_cpu_seconds = busy.map(|ticks| ticks as f64 / clock_ticks_per_second() as f64);
    Ok(Run::new(measured, original.bytes, cold, machine_cpu_seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::fastsst::Fastsst;
    use crate::contender::rsync::Rsync;
    use crate::contender::{About, Measurement};
    use crate::scenario::datadir::Datadir;

    fn race(contenders: &mut [Box<dyn Contender>]) -> (Outcome, tempfile::TempDir) {
        let work = tempfile::tempdir().unwrap();
        let cancel = Cancel::default();
        let plan = Plan { runs: 2, work: work.path(), cancel: &cancel };
        (run(&Datadir::new(2), contenders, &plan).unwrap(), work)
    }

    /// Says that it has copied.
    struct Liar;

    impl Contender for Liar {
        fn name(&self) -> &'static str {
            "liar"
        }

        fn prepare(&mut self) -> Result<About> {
            let durability = String::new();
            Ok(About { version: String::new(), durability, encrypted: false })
        }

        fn run(&self, _: &Job<'_>) -> Result<Measurement> {
            Ok(Measurement {
                wall_seconds: 0.0,
                sender: crate::side::Cost::default(),
                receiver: crate::side::Cost::default(),
                commands: Vec::new(),
                details: serde_json::Value::Null,
            })
        }
    }

    #[test]
    fn absent_and_lying_contenders_are_part_of_the_outcome() {
        let absent = Fastsst::quic("/nonexistent/fastsst".into());
        let (outcome, work) = race(&mut [Box::new(absent), Box::new(Liar)]);
        assert!(outcome.entrants[0].absence.as_ref().unwrap().contains("cannot be run"));
        let failure = outcome.entrants[1].failure.as_ref().unwrap();
        assert!(failure.contains("the copy is not the source"), "{failure}");
        assert_eq!(fs::read_dir(work.path()).unwrap().count(), 1, "only the source is left");
    }

    #[test]
    fn rsync_copies_and_is_counted() {
        let mut rsync = Rsync::new();
        if rsync.prepare().is_err() {
            return;
        }
        let (outcome, _work) = race(&mut [Box::new(rsync)]);
        let entrant = &outcome.entrants[0];
        assert_eq!(entrant.failure, None);
        assert_eq!(entrant.runs.len(), 2);
        let measured = &entrant.runs[0].measured;
        assert!(measured.wall_seconds > 0.0);
        assert!(measured.receiver.peak_rss_bytes > 1 << 20, "{measured:?}");
        assert!(measured.commands[1].starts_with("rsync -a "), "{measured:?}");
        assert!(measured.commands[1].contains(" SOURCE/ "), "{measured:?}");
    }
}
