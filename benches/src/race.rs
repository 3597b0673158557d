//! One scenario, all contenders, in turn: A B A B, so that a slow minute of the machine does not
//! hit one of them alone.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::cache::{self, Cold};
use crate::cancel::Cancel;
use crate::contender::{Contender, Job, Proof, mariabackup};
use crate::dataset::store::Store;
use crate::network::Network;
use crate::outcome::{Entrant, Outcome, Run};
use crate::residency::Residency;
use crate::say;
use crate::scenario::Scenario;
use crate::start::Start;
use crate::tree::Tree;

/// How and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// Runs of each contender.
    pub(crate) runs: u32,
    /// An empty directory for copies and logs.
    pub(crate) work: &'a Path,
    /// Where the data comes from.
    pub(crate) store: &'a Store,
    /// Whether to stop.
    pub(crate) cancel: &'a Cancel,
}

/// What every run of a scenario has in common.
#[derive(Debug, Clone, Copy)]
struct Course<'a> {
    source: &'a Path,
    original: &'a Tree,
    sparse: bool,
    start: Start,
    network: &'a Network,
    plan: &'a Plan<'a>,
}

/// Lets everybody copy the data of one scenario.
///
/// # Errors
/// The data cannot be made, or a signal has come. A contender that fails is part of the outcome.
pub(crate) fn run(
    scenario: &Scenario,
    network: &Network,
    contenders: &mut [Box<dyn Contender>],
    plan: &Plan<'_>,
) -> Result<Outcome> {
    let mut entrants: Vec<Entrant> = contenders.iter_mut().map(|one| enter(one.as_mut())).collect();
    let stored = plan.store.get(scenario.data.as_ref(), plan.cancel)?;
    let original = Tree::read(&stored.tree, plan.cancel)?;
    let course = Course {
        source: &stored.tree,
        original: &original,
        sparse: scenario.data.is_sparse(),
        start: scenario.start,
        network,
        plan,
    };
    let mut cold = None;

    for round in 1..=plan.runs {
        // Another one begins each round, so that nobody always follows the heaviest writer.
        let first = usize::try_from(round - 1).unwrap_or(0);
        for turn in 0..contenders.len() {
            let number = (first + turn) % contenders.len();
            let (contender, entrant) = (&contenders[number], &mut entrants[number]);
            if !entrant.takes_part() {
                continue;
            }
            let place = format!("{}: {round}/{}", scenario.name, plan.runs);
            match once(contender.as_ref(), &course) {
                Ok(run) => {
                    say(&format!("{place}: {}", run.line(contender.name())));
                    cold = Some(run.cold);
                    entrant.runs.push(run);
                }
                // Not the contender's fault: nothing that it says counts.
                Err(error) if plan.cancel.is_set() => return Err(error),
                Err(error) => {
                    say(&format!("{place}: {}: {error:#}", contender.name()));
                    entrant.failure = Some(format!("run {round}: {error:#}"));
                }
            }
        }
    }
    Ok(Outcome {
        name: scenario.name.to_string(),
        data: stored.about,
        link: scenario.link.describe(),
        start: scenario.start,
        link_bits_per_second: scenario.link.bits_per_second(),
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

/// One copy: cold caches, the measured part, the proof, and nothing left behind.
fn once(contender: &dyn Contender, course: &Course<'_>) -> Result<Run> {
    let (source, original, cancel) = (course.source, course.original, course.plan.cancel);
    let here = tempfile::tempdir_in(course.plan.work).context("cannot create a directory")?;
    let (target, scratch) = (here.path().join("copy"), here.path().join("scratch"));
    for dir in [&target, &scratch] {
        fs::create_dir(dir).context("cannot create a directory")?;
    }
    cancel.check()?;
    let Course { sparse, start, network, .. } = *course;
    let job = Job { source, target: &target, start, scratch: &scratch, sparse, network, cancel };
    let before = start.prepare(contender, &job)?;
    cancel.check()?;
    let cold = cache::chill(&[source, &target])?;

    let measured = contender.run(&job)?;
    // Looked at before anything else reads the files.
    let residency = Residency::of(source, &target);

    match contender.proof() {
        Proof::Equal => {
            let copy = Tree::read(&target, cancel)?;
            if let Some(difference) = original.difference(&copy) {
                bail!("the copy is not the source: {difference}");
            }
        }
        Proof::Nothing => {}
        Proof::Tables => mariabackup::has_all_tables(source, &target)?,
    }
    here.close().context("cannot remove a copy")?;
    Ok(Run::new(measured, original.bytes, before, (cold, residency)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::fastsst::Fastsst;
    use crate::contender::rsync::Rsync;
    use crate::contender::{About, Measurement};
    use crate::dataset::synthetic::Synthetic;
    use crate::network::Link;
    use crate::outcome::Figures;

    fn race(contenders: &mut [Box<dyn Contender>]) -> (Outcome, tempfile::TempDir) {
        let data = Box::new(Synthetic::new(2));
        let (name, link, start) = ("test".into(), Link::Loopback, Start::Empty);
        let scenario = Scenario { name, data, link, start, contenders: &[] };
        let network = Network::over(link).unwrap();
        race_in(&scenario, &network, contenders)
    }

    fn race_in(
        scenario: &Scenario,
        network: &Network,
        contenders: &mut [Box<dyn Contender>],
    ) -> (Outcome, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        fs::create_dir(&work).unwrap();
        let (cancel, store) = (Cancel::default(), Store::new(dir.path().join("data")));
        let plan = Plan { runs: 2, work: &work, store: &store, cancel: &cancel };
        let outcome = run(scenario, network, contenders, &plan).unwrap();
        assert_eq!(fs::read_dir(work).unwrap().count(), 0, "nothing is left");
        (outcome, dir)
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
                machine_cpu_seconds: None,
                sender: crate::side::Cost::default(),
                receiver: crate::side::Cost::default(),
                wire_bytes: Some(100 << 20),
                link_bytes: None,
                commands: Vec::new(),
                notes: String::new(),
                details: serde_json::Value::Null,
            })
        }
    }

    #[test]
    fn absent_and_lying_contenders_are_part_of_the_outcome() {
        let absent = Fastsst::quic("/nonexistent/fastsst".into());
        let (outcome, _dir) = race(&mut [Box::new(absent), Box::new(Liar)]);
        assert!(outcome.entrants[0].absence.as_ref().unwrap().contains("cannot be run"));
        let failure = outcome.entrants[1].failure.as_ref().unwrap();
        assert!(failure.contains("the copy is not the source"), "{failure}");
    }

    #[test]
    fn rsync_copies_and_is_counted() {
        let mut rsync = Rsync::whole();
        if rsync.prepare().is_err() {
            return;
        }
        let (outcome, _dir) = race(&mut [Box::new(rsync)]);
        let entrant = &outcome.entrants[0];
        assert_eq!(entrant.failure, None);
        assert_eq!(entrant.runs.len(), 2);
        let measured = &entrant.runs[0].measured;
        assert!(measured.wall_seconds > 0.0);
        assert!(measured.receiver.peak_rss_bytes > 1 << 20, "{measured:?}");
        assert!(measured.commands[1].starts_with("rsync -a --whole-file"), "{measured:?}");
        assert!(measured.commands[1].contains(" SOURCE/ "), "{measured:?}");
    }

    /// Everything that `rsync-delta` sends, of what is there already in a scenario of `start`.
    fn delta(start: Start, (link, mib): (Link, u32)) -> Option<Figures> {
        let mut rsync: [Box<dyn Contender>; 1] = [Box::new(Rsync::delta())];
        // Namespaces need root.
        let network = Network::over(link).ok()?;
        rsync[0].prepare().ok()?;
        let data = Box::new(Synthetic::new(mib));
        let scenario = Scenario { name: "test".into(), data, link, start, contenders: &[] };
        let (outcome, _dir) = race_in(&scenario, &network, &mut rsync);
        assert_eq!(outcome.entrants[0].failure, None);
        outcome.entrants[0].figures()
    }

    #[test]
    fn a_copy_that_was_there_leaves_only_its_differences_to_send() {
        const DATA: (Link, u32) = (Link::Loopback, 8);
        let wire = |figures: &Figures| figures.wire_bytes.unwrap().median;
        let Some(identical) = delta(Start::Identical, DATA) else { return };
        assert!(wire(&identical) < 200_000.0, "{identical:?}");
        assert!(identical.changed_bytes.unwrap().max < 1.0);
        let stale = delta(Start::Stale, DATA).unwrap();
        let changed = stale.changed_bytes.unwrap().median;
        assert!(changed > 50_000.0, "{stale:?}");
        assert!((changed / 2.0..1e6).contains(&(wire(&stale) - wire(&identical))), "{stale:?}");
    }

    #[test]
    fn what_was_sent_before_the_cut_is_not_sent_again() {
        let Some(figures) = delta(Start::Cut, (Link::Cable(Some(1000)), 64)) else { return };
        let (cut, sent) = (figures.cut_share.unwrap(), figures.sent_share.unwrap());
        assert!(cut.min >= 0.5 && cut.max < 0.9, "{cut:?}");
        assert!(sent.min > 0.1 && sent.max < 0.7, "{sent:?}");
    }
}
