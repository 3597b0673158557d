//! Thousands of seeds, the seeds that once failed, and mistakes that must be found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::run;
use super::truth::{Mistake, Seen, Tallied};

/// Runs of each test run. Unit: seeds. Why: about 10 s of one processor.
const SEEDS: u64 = 20_000;

/// Runs in which a built-in mistake must be found. Unit: seeds.
const SEEDS_FOR_A_MISTAKE: u64 = 20_000;

/// Seeds that once failed, by what they found. The model changes, and with it what a seed does; they
/// cost nothing.
const ONCE_FAILED: [(&str, u64); 3] = [
    ("a lane was offered again while the joiner committed, and that was an error", 37),
    ("all of a chunk was sent once more, and its file was durable", 2518),
    ("a chunk that came before its entry was not checked", 1149),
];

/// Runs and says how to have the same run again, should it fail.
fn run_seed(seed: u64, mistake: Mistake) -> Tallied {
    catch_unwind(AssertUnwindSafe(|| run(seed, mistake))).unwrap_or_else(|_cause| {
        panic!(
            "seed {seed} fails; again: FASTSST_SIM_SEED={seed} cargo test --release -p \
             fastsst-mover simulation; then add it to the seeds with a name"
        )
    })
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}: {error}")))
}

#[test]
fn whatever_breaks_the_trees_end_up_equal_and_nothing_is_sent_in_vain() {
    if let Some(seed) = number("FASTSST_SIM_SEED") {
        run_seed(seed, Mistake::None);
        return;
    }
    let mut seen = Tallied::new();
    for seed in 0..number("FASTSST_SIM_SEEDS").unwrap_or(SEEDS) {
        for (what, times) in run_seed(seed, Mistake::None) {
            *seen.entry(what).or_default() += times;
        }
    }
    for what in Seen::ALL {
        let times = seen.get(&what).copied().unwrap_or(0);
        assert!(times > 20, "{what:?} happened only {times} times: the model has gone blind");
    }
}

#[test]
fn what_once_failed_does_not_fail_again() {
    for (_, seed) in ONCE_FAILED {
        run_seed(seed, Mistake::None);
    }
}

#[test]
fn every_mistake_that_is_built_in_is_found() {
    for mistake in Mistake::ALL {
        let is_found = |seed| catch_unwind(AssertUnwindSafe(|| run(seed, mistake))).is_err();
        assert!((0..SEEDS_FOR_A_MISTAKE).any(is_found), "{mistake:?} is not found");
    }
}
