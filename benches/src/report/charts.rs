//! Two bar charts of each scenario: how fast, and how thrifty.

mod canvas;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use self::canvas::{Bar, Chart, Kind};
use super::Report;
use crate::catalogue::{LIMIT, OURS};
use crate::outcome::{Figures, Outcome};
use crate::stats::{Spread, mib};

/// One chart: the end of its file's name, what is in its title, and what its bars are.
struct Measure {
    suffix: &'static str,
    title: &'static str,
    unit: &'static str,
    value: fn(&Figures) -> Spread,
}

const MEASURES: [Measure; 2] = [
    Measure {
        suffix: "",
        title: "throughput",
        unit: "MiB/s",
        value: |figures| figures.bytes_per_second,
    },
    Measure {
        suffix: "-cpu",
        title: "data per CPU second of both sides",
        unit: "MiB per CPU second",
        value: |figures| figures.bytes_per_cpu_second,
    },
];

impl Report {
    /// Draws `SCENARIO.svg` and `SCENARIO-cpu.svg` for every scenario in which anybody finished.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn draw(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        for outcome in &self.scenarios {
            for measure in &MEASURES {
                let Some(chart) = self.chart(outcome, measure) else { continue };
                let name = format!("{}{}.svg", outcome.name, measure.suffix);
                let svg = chart.svg().with_context(|| format!("cannot draw {name}"))?;
                fs::write(directory.join(&name), svg)
                    .with_context(|| format!("cannot write {name}"))?;
            }
        }
        Ok(())
    }

    fn chart(&self, outcome: &Outcome, measure: &Measure) -> Option<Chart> {
        const MIB: f64 = (1 << 20) as f64;
        let bars: Vec<Bar> = outcome
            .entrants
            .iter()
            .filter_map(|entrant| {
                let Spread { median, min, max } = (measure.value)(&entrant.figures()?);
                Some(Bar {
                    name: entrant.name.to_owned(),
                    kind: kind(entrant.name),
                    median: median / MIB,
                    range: (min / MIB, max / MIB),
                })
            })
            .collect();
        if bars.is_empty() {
            return None;
        }
        let size = format!("{:.0} MiB in {} files", mib(outcome.bytes), outcome.files);
        Some(Chart {
            title: format!("{}: {}", outcome.name, measure.title),
            subtitle: format!(
                "{size}, {}; medians of {} with smallest and largest; longer is better",
                outcome.link, outcome.runs
            ),
            unit: measure.unit.to_owned(),
            bars,
            caption: self.caption(outcome),
        })
    }

    /// Where the figures come from.
    fn caption(&self, outcome: &Outcome) -> Vec<String> {
        let mut versions: Vec<&str> = Vec::new();
        for about in outcome.entrants.iter().filter_map(|entrant| entrant.about.as_ref()) {
            for version in about.version.split("; ") {
                if !versions.contains(&version) {
                    versions.push(version);
                }
            }
        }
        vec![
            format!("{}. {}", self.date, self.machine.line()),
            format!("Data: {}", outcome.data),
            format!("Versions: {}", versions.join("; ")),
            format!("Command: {}", self.command),
        ]
    }
}

fn kind(name: &str) -> Kind {
    if name.starts_with(LIMIT) {
        Kind::Limit
    } else if name.starts_with(OURS) {
        Kind::Ours
    } else {
        Kind::Rival
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::report;

    #[test]
    fn two_charts_with_everything_in_them() {
        let (dir, report) = (tempfile::tempdir().unwrap(), report());
        report.draw(dir.path()).unwrap();
        for name in ["datadir.svg", "datadir-cpu.svg"] {
            let svg = fs::read_to_string(dir.path().join(name)).unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
            for part in ["rsync", "fastsst", "floor", "datadir", "kernel", "--runs 3"] {
                assert!(svg.contains(part), "{part} is missing in {name}");
            }
            assert!(!svg.contains("syq"), "it has no figures");
            let escaped = "something &lt;special&gt; &amp; more";
            assert!(svg.contains(escaped) && !svg.contains("<special>"), "{svg}");
        }
    }

    #[test]
    fn nothing_is_drawn_of_nobody() {
        let (dir, mut report) = (tempfile::tempdir().unwrap(), report());
        report.scenarios[0].entrants.clear();
        report.draw(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
