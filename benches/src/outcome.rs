//! What came out of a scenario.

use serde::{Serialize, Serializer};

use crate::cache::Cold;
use crate::catalogue::BASELINE;
use crate::contender::{About, Measurement};
use crate::residency::Residency;
use crate::start::{Before, Start};
use crate::stats::{Spread, per};

/// One scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// The scenario's name.
    pub(crate) name: String,
    /// What the data is.
    pub(crate) data: String,
    /// Over what it was copied.
    pub(crate) link: String,
    /// What the target held before.
    pub(crate) start: Start,
    /// Rate of the link, where it has one.
    pub(crate) link_bits_per_second: Option<f64>,
    /// How many files.
    pub(crate) files: u64,
    /// Their size.
    pub(crate) bytes: u64,
    /// Runs that were asked for.
    pub(crate) runs: u32,
    /// How caches were emptied.
    pub(crate) cold: Cold,
    /// Who took part.
    #[serde(serialize_with = "with_figures")]
    pub(crate) entrants: Vec<Entrant>,
}

impl Outcome {
    /// The figures of a contender that has any.
    pub(crate) fn figures_of(&self, name: &str) -> Option<Figures> {
        self.entrants.iter().find(|entrant| entrant.name == name)?.figures()
    }

    /// Whose rate is 1.00: rsync, or the first one that has figures.
    pub(crate) fn baseline(&self) -> Option<(&'static str, Figures)> {
        let with_figures =
            |entrant: &Entrant| entrant.figures().map(|figures| (entrant.name, figures));
        let mut all = self.entrants.iter().filter_map(with_figures);
        all.clone().find(|(name, _)| *name == BASELINE).or_else(|| all.next())
    }

    /// How much of the link is filled by the bytes of the files.
    pub(crate) fn link_share(&self, figures: &Figures) -> Option<f64> {
        Some(figures.bytes_per_second.median * 8.0 / self.link_bits_per_second?)
    }
}

/// One contender's part.
#[derive(Debug, Serialize)]
pub(crate) struct Entrant {
    /// The contender's name.
    pub(crate) name: &'static str,
    /// What it is; nothing when it is not installed.
    pub(crate) about: Option<About>,
    /// Why it did not take part.
    pub(crate) absence: Option<String>,
    /// Why it did not finish.
    pub(crate) failure: Option<String>,
    /// The runs that it finished.
    pub(crate) runs: Vec<Run>,
}

/// One contender's runs, condensed.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Figures {
    pub(crate) wall_seconds: Spread,
    pub(crate) bytes_per_second: Spread,
    pub(crate) bytes_per_cpu_second: Spread,
    pub(crate) cpu_seconds_per_gib: Spread,
    pub(crate) sender_cpu_seconds: Spread,
    pub(crate) receiver_cpu_seconds: Spread,
    pub(crate) sender_peak_rss_bytes: Spread,
    pub(crate) receiver_peak_rss_bytes: Spread,
    /// Nothing where `fincore` is missing.
    pub(crate) source_resident: Option<Spread>,
    pub(crate) target_resident: Option<Spread>,
    /// Nothing for who does not count it.
    pub(crate) wire_bytes: Option<Spread>,
    /// Pages that differed before; nothing where there were none to differ.
    pub(crate) changed_bytes: Option<Spread>,
    /// Part of a whole transfer's bytes that was sent; nothing where none was made.
    pub(crate) sent_share: Option<Spread>,
    /// Part of a whole transfer's bytes that was sent when it was cut.
    pub(crate) cut_share: Option<Spread>,
}

/// Entrants in the report carry their figures, which nobody has to keep in step by hand.
fn with_figures<S: Serializer>(entrants: &[Entrant], to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct WithFigures<'a> {
        #[serde(flatten)]
        entrant: &'a Entrant,
        figures: Option<Figures>,
    }
    to.collect_seq(
        entrants.iter().map(|entrant| WithFigures { entrant, figures: entrant.figures() }),
    )
}

impl Entrant {
    /// Whether it is there and has not failed.
    pub(crate) fn takes_part(&self) -> bool {
        self.absence.is_none() && self.failure.is_none()
    }

    /// Nothing for who has no run.
    pub(crate) fn figures(&self) -> Option<Figures> {
        let spread = |value: fn(&Run) -> f64| Spread::of(self.runs.iter().map(value));
        let resident = |value: fn(&Residency) -> f64| {
            Spread::of(self.runs.iter().filter_map(|run| run.residency.as_ref()).map(value))
        };
        let some = |value: fn(&Run) -> Option<f64>| Spread::of(self.runs.iter().filter_map(value));
        Some(Figures {
            wire_bytes: some(|run| Some(run.measured.wire_bytes? as f64)),
            changed_bytes: some(|run| Some(run.before.changed_bytes? as f64)),
            sent_share: some(|run| {
                let (sent, whole) = (run.measured.wire_bytes?, run.before.whole_wire_bytes?);
                Some(per(sent as f64, whole as f64))
            }),
            cut_share: some(|run| {
                let (cut, whole) = (run.before.cut_link_bytes?, run.before.whole_link_bytes?);
                Some(per(cut as f64, whole as f64))
            }),
            wall_seconds: spread(|run| run.measured.wall_seconds)?,
            bytes_per_second: spread(|run| run.bytes_per_second)?,
            bytes_per_cpu_second: spread(|run| run.bytes_per_cpu_second)?,
            cpu_seconds_per_gib: spread(|run| run.cpu_seconds_per_gib)?,
            sender_cpu_seconds: spread(|run| run.measured.sender.cpu_seconds())?,
            receiver_cpu_seconds: spread(|run| run.measured.receiver.cpu_seconds())?,
            sender_peak_rss_bytes: spread(|run| run.measured.sender.peak_rss_bytes as f64)?,
            receiver_peak_rss_bytes: spread(|run| run.measured.receiver.peak_rss_bytes as f64)?,
            source_resident: resident(|residency| residency.source),
            target_resident: resident(|residency| residency.target),
        })
    }
}

/// One copy that was proven.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    /// What the contender's run gave.
    #[serde(flatten)]
    pub(crate) measured: Measurement,
    /// What was there before.
    #[serde(flatten)]
    pub(crate) before: Before,
    /// How the caches were emptied before.
    pub(crate) cold: Cold,
    /// What the page cache held afterwards; nothing where `fincore` is missing.
    pub(crate) residency: Option<Residency>,
    /// Plain bytes per second of wall time.
    pub(crate) bytes_per_second: f64,
    /// Plain bytes per second of both sides' processor time.
    pub(crate) bytes_per_cpu_second: f64,
    /// Both sides' processor time for each GiB of plain bytes.
    pub(crate) cpu_seconds_per_gib: f64,
}

impl Run {
    /// A run that copied `bytes`.
    pub(crate) fn new(
        measured: Measurement,
        bytes: u64,
        before: Before,
        (cold, residency): (Cold, Option<Residency>),
    ) -> Self {
        const GIB: f64 = (1 << 30) as f64;
        let cpu = measured.sender.cpu_seconds() + measured.receiver.cpu_seconds();
        Self {
            bytes_per_second: per(bytes as f64, measured.wall_seconds),
            bytes_per_cpu_second: per(bytes as f64, cpu),
            cpu_seconds_per_gib: per(cpu * GIB, bytes as f64),
            measured,
            before,
            cold,
            residency,
        }
    }

    /// One line of progress.
    pub(crate) fn line(&self, name: &str) -> String {
        let Measurement { wall_seconds, sender, receiver, .. } = &self.measured;
        format!(
            "{name}: {wall_seconds:.2} s, CPU {:.2} s + {:.2} s",
            sender.cpu_seconds(),
            receiver.cpu_seconds()
        )
    }
}

/// Outcomes for tests of what is made of them.
#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use crate::side::Cost;

    /// One contender that took so many seconds in each of its runs.
    pub(crate) fn entrant(name: &'static str, seconds: &[f64]) -> Entrant {
        let run = |wall_seconds: &f64| {
            let cost = Cost { user_seconds: 1.0, system_seconds: 0.5, peak_rss_bytes: 100 << 20 };
            let measured = Measurement {
                wall_seconds: *wall_seconds,
                machine_cpu_seconds: Some(3.5),
                sender: cost,
                receiver: cost,
                wire_bytes: Some(100 << 20),
                link_bytes: None,
                commands: vec![format!("{name} SOURCE TARGET")],
                notes: "a, \"b\" & <c>".to_owned(),
                details: serde_json::Value::Null,
            };
            let residency = Some(Residency { source: 0.01, target: 0.5 });
            Run::new(measured, 1 << 30, Before::default(), (Cold::Dropped, residency))
        };
        let about =
            About { version: "1.0".to_owned(), durability: "syncfs".to_owned(), encrypted: false };
        Entrant {
            name,
            about: Some(about),
            absence: None,
            failure: None,
            runs: seconds.iter().map(run).collect(),
        }
    }

    /// A GiB that they copied.
    pub(crate) fn outcome(name: &str, entrants: Vec<Entrant>) -> Outcome {
        Outcome {
            name: name.to_owned(),
            data: "something <special> & more".to_owned(),
            link: "loopback".to_owned(),
            start: Start::Empty,
            link_bits_per_second: None,
            files: 3,
            bytes: 1 << 30,
            runs: 3,
            cold: Cold::Dropped,
            entrants,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{entrant, outcome};

    #[test]
    fn the_baseline_is_rsync_or_the_first() {
        let both = outcome("x", vec![entrant("fast", &[1.0]), entrant("rsync", &[2.0])]);
        assert_eq!(both.baseline().unwrap().0, "rsync");
        let idle = outcome("x", vec![entrant("rsync", &[]), entrant("fast", &[1.0])]);
        assert_eq!(idle.baseline().unwrap().0, "fast");
    }

    #[test]
    fn figures_follow_from_the_runs() {
        let mut outcome = outcome("x", vec![entrant("a", &[10.0, 20.0, 8.0])]);
        let figures = outcome.figures_of("a").unwrap();
        assert!((figures.wall_seconds.median - 10.0).abs() < 1e-9);
        assert!((figures.cpu_seconds_per_gib.median - 3.0).abs() < 1e-9);
        assert_eq!(outcome.link_share(&figures), None);
        outcome.link_bits_per_second = Some(1e9);
        let share = outcome.link_share(&figures).unwrap();
        assert!((share - 0.859).abs() < 0.001, "{share}");
    }
}
