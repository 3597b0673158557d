//! Power fails during a transfer, and after it: the promise at the top of docs/DURABILITY.md.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use fastsst_tests::recording_disk::{Crash, Dice, FileSystem, Survivors};
use fastsst_tests::transfer::Receive;

use super::check::{Found, Inspector};
use super::stage::Recorded;

/// Disks that are looked at beside each other. Why: one waits as long as it computes.
const WORKERS: usize = 2;

/// Before the record of the commit, one moment in so many is looked at. Why: what happens there
/// is the same thing for one file after the other.
const SPARSE: usize = 3;

/// Choices among the writes at risk that are looked at, before and after the record of the commit.
const CHOICES: [usize; 2] = [24, 24];

/// Choices at each single moment, with `FASTSST_CRASH_IMAGES=all`.
const ALL_CHOICES: u64 = 8;

/// What power failures in a first attempt must have led to, or the test has looked at too little.
const ALL_STATES: &[Found] = &[Found::Old, Found::Staging, Found::New];

#[test]
fn a_power_failure_on_ext4_leaves_the_old_tree_or_a_staging_or_the_new_tree() {
    let recorded = Recorded::transfer(FileSystem::Ext4, Receive::start);
    fail_at_many_moments(&recorded, ALL_STATES);
}

#[test]
fn a_power_failure_on_xfs_leaves_the_old_tree_or_a_staging_or_the_new_tree() {
    let recorded = Recorded::transfer(FileSystem::Xfs, Receive::start);
    fail_at_many_moments(&recorded, ALL_STATES);
}

#[test]
fn a_power_failure_without_direct_io_leaves_the_old_tree_or_a_staging_or_the_new_tree() {
    let start = |receive: Receive| receive.args(["--io", "buffered"]).start();
    let recorded = Recorded::transfer(FileSystem::Ext4, start);
    fail_at_many_moments(&recorded, ALL_STATES);
}

#[test]
fn a_power_failure_in_the_attempt_after_one_leaves_a_staging_or_the_new_tree() {
    let first = Recorded::transfer(FileSystem::Ext4, Receive::start);
    let record = first.record.expect("the record reaches the disk");
    // Far enough for a journal and files to merge, not so far that nothing is left to do.
    let crash = Crash { after: record - (record - first.offered) / 4, survivors: Survivors::All };
    fail_at_many_moments(&first.next_attempt(crash), &[Found::Staging, Found::New]);
}

fn fail_at_many_moments(recorded: &Recorded, expected: &[Found]) {
    let seed = seed();
    let crashes = if std::env::var("FASTSST_CRASH_IMAGES").is_ok_and(|it| it == "all") {
        all(recorded, seed)
    } else {
        sample(recorded, seed)
    };
    let (next, seen) = (AtomicUsize::new(0), Mutex::new(BTreeMap::<Found, usize>::new()));
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (crashes, next, seen) = (&crashes, &next, &seen);
            scope.spawn(move || {
                let inspector = Inspector::new(recorded, &worker.to_string());
                while let Some(crash) = crashes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let _kept = KeptIfPanicking { recorded, crash: *crash, seed };
                    let found = inspector.check(*crash).unwrap_or_else(|why| panic!("{why}"));
                    *seen.lock().unwrap().entry(found).or_default() += 1;
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap();
    for found in expected {
        assert!(seen.contains_key(found), "no power failure led to {found:?}: {seen:?}");
    }
}

/// Every moment around the commit, some before, and of each of both parts some choices.
fn sample(recorded: &Recorded, seed: u64) -> Vec<Crash> {
    let end = recorded.history.len();
    let record = recorded.record.expect("the record reaches the disk");
    let mut dice = Dice::new(seed);
    let prefix = |after| Crash { after, survivors: Survivors::All };
    let mut crashes: Vec<_> = (dice.below(SPARSE)..record).step_by(SPARSE).map(prefix).collect();
    crashes.push(prefix(recorded.offered));
    crashes.extend((record..=end).map(prefix));
    for (range, choices) in [0..record, record..end + 1].into_iter().zip(CHOICES) {
        // With one write at risk a choice is a prefix.
        let moments: Vec<_> = range.filter(|it| recorded.history.at_risk(*it) > 1).collect();
        crashes.extend((0..choices).filter_map(|_| {
            let after = *moments.get(dice.below(moments.len()))?;
            Some(Crash { after, survivors: Survivors::Chosen(dice.number()) })
        }));
    }
    crashes
}

/// Every moment, and at each some choices.
fn all(recorded: &Recorded, seed: u64) -> Vec<Crash> {
    let mut dice = Dice::new(seed);
    let moments = 0..=recorded.history.len();
    let crashes = moments.flat_map(|after| {
        let choices = if recorded.history.at_risk(after) > 0 { ALL_CHOICES } else { 0 };
        let choices: Vec<_> = (0..choices).map(|_| Survivors::Chosen(dice.number())).collect();
        let survivors = std::iter::once(Survivors::All).chain(choices);
        survivors.map(move |survivors| Crash { after, survivors })
    });
    crashes.collect()
}

fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    std::env::var("FASTSST_CRASH_SEED").map_or_else(
        |_unset| now.as_secs() ^ u64::from(now.subsec_nanos()),
        |text| text.parse().expect("FASTSST_CRASH_SEED: a number"),
    )
}

/// Keeps the disk that made the test fail: no two recordings are the same, so a seed alone does not
/// bring it back.
struct KeptIfPanicking<'a> {
    recorded: &'a Recorded,
    crash: Crash,
    seed: u64,
}

impl Drop for KeptIfPanicking<'_> {
    #[expect(clippy::print_stderr, reason = "a failing test speaks to whoever runs it")]
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let Self { recorded, crash, seed } = self;
        let name = format!("crash-{:?}-{}.image", recorded.kind, crash.after);
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        recorded.history.image(*crash).save(&file);
        eprintln!(
            "---- {crash:?} of {}, nobody let in until {}, record at {:?}, success at {}; the disk is in {}; \
             FASTSST_CRASH_SEED={seed}",
            recorded.history.len(),
            recorded.offered,
            recorded.record,
            recorded.succeeded,
            file.display()
        );
    }
}
