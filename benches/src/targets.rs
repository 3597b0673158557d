//! What fastsst promises, and whether it was kept here.

use serde::Serialize;

use crate::catalogue::OURS;
use crate::outcome::{Figures, Outcome};
use crate::stats::per;

/// Memory that no side may need more of. Unit: MiB.
const RSS_MIB_MAX: f64 = 400.0;

/// Unit of sizes in the table.
const MIB: f64 = (1 << 20) as f64;

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
    /// At most so many times the pages that differ, and this share of the data, is on the wire.
    Wire(f64, f64),
    /// At most this share of a whole transfer's bytes is on the wire.
    Rest(f64),
}

const PROMISES: [Promise; 14] = [
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
    promise("stale-1", "fastsst", What::Wire(1.15, 0.001)),
    promise("stale-1", "fastsst", What::Time(1.2, "floor-read")),
    promise("identical", "fastsst", What::Wire(1.15, 0.001)),
    promise("resume", "fastsst", What::Rest(0.52)),
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
            What::Wire(times, share) => on_the_wire(outcome, &ours, (*times, *share))?,
            What::Rest(most) => {
                let share = ours.sent_share?.median;
                let target = format!("at most {:.0} % of a whole transfer's bytes", most * 100.0);
                (target, format!("{:.1} %", share * 100.0), share <= *most)
            }
        };
        Some(Target { target: format!("{scenario}: {who}: {target}"), measured, met })
    }
}

/// The target in words, what was measured, and whether that is not too much.
fn on_the_wire(
    outcome: &Outcome,
    ours: &Figures,
    (times, share): (f64, f64),
) -> Option<(String, String, bool)> {
    let (wire, changed) = (ours.wire_bytes?.median, ours.changed_bytes?.median);
    let most = changed * times + outcome.bytes as f64 * share;
    let pages = format!("{times:.2} times the {:.2} MiB of pages that differ and ", changed / MIB);
    let pages = if changed > 0.0 { pages } else { String::new() };
    let target = format!("at most {pages}{:.1} % of the data on the wire", share * 100.0);
    Some((target, format!("{:.2} MiB of {:.2} MiB", wire / MIB, most / MIB), wire <= most))
}

/// What is promised in every scenario: little memory, and a page cache that is left alone.
fn everywhere(outcome: &Outcome) -> Vec<Target> {
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
    use crate::start::Before;

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
    fn the_wire_is_measured_by_what_differed_and_by_a_whole_transfer() {
        let ran = |name: &str, before: Before| {
            let mut outcome = outcome(name, vec![entrant("fastsst", &[1.0])]);
            outcome.entrants[0].runs[0].before = before;
            check(&[outcome]).remove(0)
        };
        // The sample has 100 MiB on the wire, of 1 GiB.
        let changed = |bytes| Before { changed_bytes: Some(bytes), ..Before::default() };
        let stale = ran("stale-1", changed(87 << 20));
        assert_eq!((stale.measured.as_str(), stale.met), ("100.00 MiB of 101.07 MiB", true));
        assert!(!ran("stale-1", changed(86 << 20)).met);
        let identical = ran("identical", changed(0));
        assert_eq!(identical.target, "identical: fastsst: at most 0.1 % of the data on the wire");
        assert!(!identical.met);
        let whole = |bytes| Before { whole_wire_bytes: Some(bytes), ..Before::default() };
        let resumed = ran("resume", whole(200 << 20));
        assert_eq!((resumed.measured.as_str(), resumed.met), ("50.0 %", true));
        assert!(!ran("resume", whole(190 << 20)).met);
    }

    #[test]
    fn nothing_is_said_without_us() {
        assert_eq!(check(&[outcome("datadir", vec![entrant("rsync", &[1.0])])]), []);
    }
}
