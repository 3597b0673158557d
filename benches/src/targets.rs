//! What fastsst promises, and whether it was kept here.

use serde::Serialize;

use crate::catalogue::OURS;
use crate::outcome::{Figures, Outcome};
use crate::stats::per;

/// Memory that no side may need more of. Unit: MiB.
const RSS_MIB_MAX: f64 = 400.0;

/// Share of the files that may be left in the page cache.
const RESIDENT_MAX: f64 = 0.02;

/// One promise, measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Target {
    /// In words.
    pub(crate) target: String,
    /// What was measured.
    pub(crate) measured: String,
    /// Whether it is kept.
    pub(crate) met: bool,
}

/// A promise about one scenario.
#[derive(Debug, Clone, Copy)]
struct Promise {
    scenario: &'static str,
    who: &'static str,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    /// At least so many times as fast as another.
    Faster(f64, &'static str),
    /// At most so many times the time of another.
    Time(f64, &'static str),
    /// At most the processor time for each GiB of another.
    Thrift(&'static str),
    /// At least this share of the link is payload.
    Payload(f64),
}

const PROMISES: [Promise; 10] = [
    promise("datadir", "fastsst", What::Faster(1.7, "rsync")),
    promise("datadir", "fastsst", What::Faster(2.5, "rsync-stunnel")),
    promise("datadir", "fastsst", What::Faster(1.2, "syq")),
    promise("datadir", "fastsst", What::Time(1.25, "floor")),
    promise("datadir", "fastsst-quic", What::Faster(1.5, "rsync")),
    promise("datadir", "fastsst", What::Thrift("rsync")),
    promise("file", "fastsst", What::Faster(1.7, "rsync")),
    promise("small", "fastsst", What::Faster(1.5, "rsync")),
    promise("datadir-1g", "fastsst", What::Faster(2.2, "rsync")),
    promise("file-1g", "fastsst-quic", What::Payload(0.92)),
];

const fn promise(scenario: &'static str, who: &'static str, what: What) -> Promise {
    Promise { scenario, who, what }
}

/// Every promise about which these outcomes say something.
pub(crate) fn check(outcomes: &[Outcome]) -> Vec<Target> {
    let mut targets: Vec<_> = PROMISES
        .iter()
        .filter_map(|promise| {
            let outcome = outcomes.iter().find(|outcome| outcome.name == promise.scenario)?;
            promise.check(outcome)
        })
        .collect();
    targets.extend(outcomes.iter().flat_map(everywhere));
    targets
}

impl Promise {
    /// Nothing when one of the two has no figures.
    fn check(&self, outcome: &Outcome) -> Option<Target> {
        let Self { scenario, who, what } = self;
        let ours = outcome.figures_of(who)?;
        let (target, measured, met) = match what {
            What::Faster(times, other) => {
                let theirs = outcome.figures_of(other)?;
                let rate = per(ours.bytes_per_second.median, theirs.bytes_per_second.median);
                let target = format!("at least {times:.2} times as fast as {other}");
                (target, format!("{rate:.2}"), rate >= *times)
            }
            What::Time(times, other) => {
                let theirs = outcome.figures_of(other)?;
                let ratio = per(ours.wall_seconds.median, theirs.wall_seconds.median);
                let target = format!("at most {times:.2} times the time of {other}");
                (target, format!("{ratio:.2}"), ratio <= *times)
            }
            What::Thrift(other) => {
                let theirs = outcome.figures_of(other)?.cpu_seconds_per_gib.median;
                let ours = ours.cpu_seconds_per_gib.median;
                let target = format!("at most the CPU seconds per GiB of {other}");
                (target, format!("{ours:.2}, {other} {theirs:.2}"), ours <= theirs)
            }
            What::Payload(least) => {
                let share = outcome.link_share(&ours)?;
                let target = format!("at least {:.0} % of the link is payload", least * 100.0);
                (target, format!("{:.1} %", share * 100.0), share >= *least)
            }
        };
        Some(Target { target: format!("{scenario}: {who}: {target}"), measured, met })
    }
}

/// What is promised in every scenario: little memory, and a page cache that is left alone.
fn everywhere(outcome: &Outcome) -> Vec<Target> {
    const MIB: f64 = (1 << 20) as f64;
    let ours = outcome.entrants.iter().filter(|entrant| entrant.name.starts_with(OURS));
    let figures: Vec<Figures> = ours.filter_map(|entrant| entrant.figures()).collect();
    let largest = |value: &dyn Fn(&Figures) -> Option<f64>| {
        figures.iter().filter_map(value).max_by(f64::total_cmp)
    };
    let memory = largest(&|figures| {
        Some(figures.sender_peak_rss_bytes.max.max(figures.receiver_peak_rss_bytes.max) / MIB)
    });
    let resident = largest(&|figures| {
        Some(figures.source_resident?.median.max(figures.target_resident?.median))
    });
    let name = &outcome.name;
    let memory = memory.map(|mib| Target {
        target: format!("{name}: all of {OURS}: at most {RSS_MIB_MAX:.0} MiB RSS on each side"),
        measured: format!("{mib:.0} MiB"),
        met: mib <= RSS_MIB_MAX,
    });
    let resident = resident.map(|share| Target {
        target: format!("{name}: all of {OURS}: less than {:.0} % cached", RESIDENT_MAX * 100.0),
        measured: format!("{:.1} %", share * 100.0),
        met: share < RESIDENT_MAX,
    });
    memory.into_iter().chain(resident).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::samples::{entrant, outcome};

    #[test]
    fn promises_are_measured_where_both_ran() {
        let datadir = outcome(
            "datadir",
            vec![
                entrant("rsync", &[10.0]),
                entrant("fastsst", &[5.0]),
                entrant("fastsst-quic", &[8.0]),
                entrant("floor", &[4.5]),
                entrant("syq", &[]),
            ],
        );
        let targets = check(&[datadir]);
        let find = |part: &str| targets.iter().find(|target| target.target.contains(part));
        let faster = find("fastsst: at least 1.70").unwrap();
        assert_eq!((faster.measured.as_str(), faster.met), ("2.00", true));
        let quic = find("fastsst-quic: at least 1.50").unwrap();
        assert_eq!((quic.measured.as_str(), quic.met), ("1.25", false));
        assert!(find("time of floor").unwrap().met);
        assert!(find("CPU seconds per GiB").unwrap().met, "the same is not more");
        assert_eq!(find("syq"), None, "it has no runs");
        assert_eq!(find("stunnel"), None, "it was not there");
        assert!(find("400 MiB").unwrap().met);
        let cached = find("cached").unwrap();
        assert_eq!((cached.measured.as_str(), cached.met), ("50.0 %", false));
    }

    #[test]
    fn payload_is_a_share_of_the_link() {
        let mut file = outcome("file-1g", vec![entrant("fastsst-quic", &[9.0])]);
        file.link_bits_per_second = Some(1e9);
        let targets = check(&[file]);
        assert_eq!(targets[0].measured, "95.4 %");
        assert!(targets[0].met);
    }

    #[test]
    fn nothing_is_said_without_us() {
        assert_eq!(check(&[outcome("datadir", vec![entrant("rsync", &[1.0])])]), []);
    }
}
