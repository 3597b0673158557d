//! The figures, for people and for programs.

use serde::{Serialize, Serializer};

use crate::cache::Cold;
use crate::contender::{About, Measurement};
use crate::machine::Machine;
use crate::stats::{Spread, mib, per};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Where.
    pub(crate) machine: Machine,
    /// What.
    pub(crate) scenarios: Vec<Outcome>,
}

/// One scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// The scenario's name.
    pub(crate) name: &'static str,
    /// What the data is.
    pub(crate) data: String,
    /// How many files.
    pub(crate) files: u64,
    /// Their size.
    pub(crate) bytes: u64,
    /// Runs that were asked for.
    pub(crate) runs: u32,
    /// How caches were emptied.
    pub(crate) cold: Cold,
    /// Who took part; the first is what others are compared with.
    #[serde(serialize_with = "with_figures")]
    pub(crate) entrants: Vec<Entrant>,
}

/// One contender's runs, condensed.
#[derive(Debug, Clone, Copy, Serialize)]
struct Figures {
    wall_seconds: Spread,
    bytes_per_second: Spread,
    bytes_per_cpu_second: Spread,
    sender_cpu_seconds: Spread,
    receiver_cpu_seconds: Spread,
    sender_peak_rss_bytes: Spread,
    receiver_peak_rss_bytes: Spread,
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

impl Entrant {
    /// Whether it is there and has not failed.
    pub(crate) fn takes_part(&self) -> bool {
        self.absence.is_none() && self.failure.is_none()
    }

    /// Nothing for who has no run.
    fn figures(&self) -> Option<Figures> {
        let spread = |value: fn(&Run) -> f64| Spread::of(self.runs.iter().map(value));
        Some(Figures {
            wall_seconds: spread(|run| run.measured.wall_seconds)?,
            bytes_per_second: spread(|run| run.bytes_per_second)?,
            bytes_per_cpu_second: spread(|run| run.bytes_per_cpu_second)?,
            sender_cpu_seconds: spread(|run| run.measured.sender.cpu_seconds())?,
            receiver_cpu_seconds: spread(|run| run.measured.receiver.cpu_seconds())?,
            sender_peak_rss_bytes: spread(|run| run.measured.sender.peak_rss_bytes as f64)?,
            receiver_peak_rss_bytes: spread(|run| run.measured.receiver.peak_rss_bytes as f64)?,
        })
    }
}

/// One copy, compared with its source and found equal.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    /// What the contender's run gave.
    #[serde(flatten)]
    pub(crate) measured: Measurement,
    /// How the caches were emptied before.
    pub(crate) cold: Cold,
    /// Plain bytes per second of wall time.
    pub(crate) bytes_per_second: f64,
    /// Plain bytes per second of both sides' processor time.
    pub(crate) bytes_per_cpu_second: f64,
    /// Processor time of the whole machine meanwhile, write-back and other programs included.
    pub(crate) machine_cpu_seconds: Option<f64>,
}

impl Run {
    /// A run that copied `bytes`.
    pub(crate) fn new(
        measured: Measurement,
        bytes: u64,
        cold: Cold,
        machine_cpu_seconds: Option<f64>,
    ) -> Self {
        let cpu = measured.sender.cpu_seconds() + measured.receiver.cpu_seconds();
        Self {
            bytes_per_second: per(bytes as f64, measured.wall_seconds),
            bytes_per_cpu_second: per(bytes as f64, cpu),
            measured,
            cold,
            machine_cpu_seconds,
        }
    }

    /// One line of progress.
    pub(crate) fn line(&self, name: &str) -> String {
        let Measurement { wall_seconds, sender, receiver, .. } = &self.measured;
        format!(
            "{name}: {wall_seconds:.2} s, CPU {:.2} s + {:.2} s, equal",
            sender.cpu_seconds(),
            receiver.cpu_seconds()
        )
    }
}

impl Report {
    /// Whether everybody who is installed finished.
    pub(crate) fn complete(&self) -> bool {
        let mut entrants = self.scenarios.iter().flat_map(|outcome| &outcome.entrants);
        entrants.all(|entrant| entrant.failure.is_none())
    }

    /// A table for people.
    pub(crate) fn table(&self) -> String {
        let Machine { cpu, cores, memory_bytes, kernel, system, file_system, .. } = &self.machine;
        let mut text = format!(
            "{cpu}, {cores} cores, {:.0} MiB, {system}, kernel {kernel}, {file_system}\n",
            mib(*memory_bytes)
        );
        for outcome in &self.scenarios {
            text.push_str(&outcome.table());
        }
        text
    }
}

/// Columns of the table.
const HEAD: [&str; 9] = [
    "contender",
    "wall s (min-max)",
    "MiB/s",
    "rate",
    "CPU s send",
    "CPU s receive",
    "MiB per CPU s",
    "RSS MiB send",
    "RSS MiB receive",
];

impl Outcome {
    fn table(&self) -> String {
        let cold = match self.cold {
            Cold::Dropped => "all caches dropped before every run",
            Cold::SourceOnly => "only the source's cached pages dropped (not root)",
        };
        let mut text = format!(
            "\n{}: {:.0} MiB in {} files; {}\nmedians of {}, {cold}; rate 1.00 is {}\n\n",
            self.name,
            mib(self.bytes),
            self.files,
            self.data,
            self.runs,
            self.entrants.first().map_or("nobody", |entrant| entrant.name),
        );
        let mut rows = vec![HEAD.map(str::to_owned)];
        rows.extend(self.entrants.iter().filter_map(|entrant| self.row(entrant)));
        text.push_str(&aligned(&rows));
        for entrant in &self.entrants {
            if let Some(about) = &entrant.about {
                let wire = if about.encrypted { "encrypted" } else { "not encrypted" };
                let About { version, durability, .. } = about;
                text += &format!("\n{}: {version}; {wire}; {durability}\n", entrant.name);
            }
            let commands = entrant.runs.last().map(|run| run.measured.commands.as_slice());
            for command in commands.unwrap_or_default() {
                text += &format!("    {command}\n");
            }
            if let Some(why) = &entrant.absence {
                text += &format!("\n{}: skipped: {why}\n", entrant.name);
            }
            if let Some(why) = &entrant.failure {
                text += &format!("    FAILED: {why}\n");
            }
        }
        text
    }

    /// Nothing for who has no run.
    fn row(&self, entrant: &Entrant) -> Option<[String; HEAD.len()]> {
        const MIB: f64 = (1 << 20) as f64;
        let Figures {
            wall_seconds: wall,
            bytes_per_second: rate,
            bytes_per_cpu_second: thrift,
            sender_cpu_seconds: sender,
            receiver_cpu_seconds: receiver,
            sender_peak_rss_bytes: sender_peak,
            receiver_peak_rss_bytes: receiver_peak,
        } = entrant.figures()?;
        let first = self.entrants.first().and_then(Entrant::figures);
        let ratio = first.map(|first| per(rate.median, first.bytes_per_second.median));
        Some([
            entrant.name.to_owned(),
            format!("{:.2} ({:.2}-{:.2})", wall.median, wall.min, wall.max),
            format!("{:.0}", rate.median / MIB),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            format!("{:.2}", sender.median),
            format!("{:.2}", receiver.median),
            format!("{:.0}", thrift.median / MIB),
            // A peak is a peak: the largest of all runs.
            format!("{:.0}", sender_peak.max / MIB),
            format!("{:.0}", receiver_peak.max / MIB),
        ])
    }
}

/// The first column to the left, figures to the right.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            match column {
                0 => text += &format!("{cell:<width$}"),
                _ => text += &format!("  {cell:>width$}"),
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "1"], ["bcd", "200"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), "a      1\nbcd  200\n");
    }
}
