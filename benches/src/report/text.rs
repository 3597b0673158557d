//! The tables.

use super::Report;
use super::grid::Grid;
use crate::cache::Cold;
use crate::contender::About;
use crate::machine::Machine;
use crate::outcome::{Entrant, Figures, Outcome};
use crate::start::Start;
use crate::stats::{Spread, mib, per};

const MIB: f64 = (1 << 20) as f64;

/// How tables and headings look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// For a terminal.
    Plain,
    /// For a document.
    Markdown,
}

impl Style {
    fn grid(self, grid: &Grid) -> String {
        match self {
            Self::Plain => grid.aligned(),
            Self::Markdown => grid.markdown(),
        }
    }

    fn heading(self, text: &str) -> String {
        match self {
            Self::Plain => format!("\n{text}\n"),
            Self::Markdown => format!("\n## {text}\n\n"),
        }
    }

    /// Lines as they are, such as commands.
    fn block(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Markdown if text.is_empty() => String::new(),
            Self::Markdown => format!("```text\n{}\n```\n", text.trim_matches('\n')),
        }
    }
}

impl Report {
    /// Everything in tables.
    pub(crate) fn text(&self, style: Style) -> String {
        let title = match style {
            Style::Plain => "",
            Style::Markdown => "# Results\n\n",
        };
        let mut text =
            format!("{title}{}; {}\ncommand: {}\n", self.date, self.machine.line(), self.command);
        for outcome in &self.scenarios {
            text += &outcome.text(style);
        }
        for skipped in &self.skipped {
            text += &format!("\n{}: skipped: {}\n", skipped.scenario, skipped.why);
        }
        text + &self.targets_text(style)
    }

    fn targets_text(&self, style: Style) -> String {
        if self.targets.is_empty() {
            return String::new();
        }
        let head = ["target", "measured", "met?"].map(str::to_owned).to_vec();
        let rows = self.targets.iter().map(|target| {
            let met = if target.met { "yes" } else { "NO" };
            vec![target.target.clone(), target.measured.clone(), met.to_owned()]
        });
        let grid = Grid(std::iter::once(head).chain(rows).collect());
        style.heading("targets") + &style.grid(&grid)
    }
}

impl Machine {
    /// For the head of a table and the foot of a chart.
    pub(crate) fn line(&self) -> String {
        let Self { cpu, cores, memory_bytes, kernel, system, file_system, commit, .. } = self;
        let commit = if commit.is_empty() { String::new() } else { format!(", commit {commit}") };
        format!(
            "{cpu}, {cores} cores, {:.0} MiB, {system}, kernel {kernel}, {file_system}{commit}",
            mib(*memory_bytes)
        )
    }
}

/// What all figures of a row are compared with, and how its columns are found.
struct Columns<'a> {
    outcome: &'a Outcome,
    baseline: Option<Figures>,
}

impl Outcome {
    fn text(&self, style: Style) -> String {
        let cold = match self.cold {
            Cold::Dropped => "all caches dropped before every run",
            Cold::SourceOnly => "only cached pages of source and target dropped (not root)",
        };
        let baseline = self.baseline();
        let link = match self.start.describe() {
            None => self.link.clone(),
            Some(start) => format!("{}; {start}", self.link),
        };
        let end = if style == Style::Markdown { "\n\n" } else { "\n" };
        let mut text = style.heading(&self.name)
            + &format!(
                "{:.0} MiB in {} files: {}{end}{}; medians of {} (min-max), {cold}; rate 1.00 is {}\n\n",
                mib(self.bytes),
                self.files,
                self.data,
                link,
                self.runs,
                baseline.map_or("nobody", |(name, _)| name),
            );
        let columns = Columns { outcome: self, baseline: baseline.map(|(_, figures)| figures) };
        let rows = self.entrants.iter().map(|entrant| columns.row(entrant));
        let grid = Grid(std::iter::once(columns.head()).chain(rows).collect());
        text += &style.grid(&grid);
        let details: String = self.entrants.iter().map(Entrant::details).collect();
        text + "\n" + &style.block(&details)
    }
}

impl Entrant {
    /// What it is, and what was run.
    fn details(&self) -> String {
        let mut text = String::new();
        if let Some(about) = &self.about {
            let wire = if about.encrypted { "encrypted" } else { "not encrypted" };
            let About { version, durability, .. } = about;
            text += &format!("{}: {version}; {wire}; {durability}\n", self.name);
        }
        let commands = self.runs.last().map(|run| run.measured.commands.as_slice());
        for command in commands.unwrap_or_default() {
            text += &format!("    {command}\n");
        }
        text
    }
}

impl Columns<'_> {
    fn head(&self) -> Vec<String> {
        let mut head = vec!["contender", "wall s", "MiB/s", "rate"];
        if self.outcome.link_bits_per_second.is_some() {
            head.push("link %");
        }
        match self.outcome.start {
            Start::Empty => {}
            Start::Identical | Start::Stale => head.push("wire MiB"),
            Start::Cut => head.extend(["wire MiB", "of whole %", "cut at %"]),
        }
        head.extend(["CPU s send", "CPU s receive", "CPU s/GiB", "MiB/CPU s"]);
        head.extend(["RSS MiB send", "RSS MiB receive"]);
        head.extend(["cached % source", "cached % copy", "notes"]);
        head.into_iter().map(str::to_owned).collect()
    }

    fn row(&self, entrant: &Entrant) -> Vec<String> {
        let Some(figures) = entrant.figures() else {
            let mut row = vec![entrant.name.to_owned()];
            row.resize(self.head().len() - 1, "-".to_owned());
            row.push(why_not(entrant));
            return row;
        };
        let Figures { wall_seconds: wall, bytes_per_second: rate, .. } = figures;
        let ratio = self.baseline.map(|it| per(rate.median, it.bytes_per_second.median));
        let mut row = vec![
            entrant.name.to_owned(),
            format!("{:.2} ({:.2}-{:.2})", wall.median, wall.min, wall.max),
            format!("{:.0}", rate.median / MIB),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
        ];
        if self.outcome.link_bits_per_second.is_some() {
            row.push(percent(self.outcome.link_share(&figures)));
        }
        if self.outcome.start != Start::Empty {
            row.push(
                figures
                    .wire_bytes
                    .map_or_else(|| "n/a".to_owned(), |wire| format!("{:.2}", wire.median / MIB)),
            );
        }
        if self.outcome.start == Start::Cut {
            row.push(share(figures.sent_share));
            row.push(share(figures.cut_share));
        }
        row.extend([
            format!("{:.2}", figures.sender_cpu_seconds.median),
            format!("{:.2}", figures.receiver_cpu_seconds.median),
            format!("{:.2}", figures.cpu_seconds_per_gib.median),
            format!("{:.0}", figures.bytes_per_cpu_second.median / MIB),
            // A peak is a peak: the largest of all runs.
            format!("{:.0}", figures.sender_peak_rss_bytes.max / MIB),
            format!("{:.0}", figures.receiver_peak_rss_bytes.max / MIB),
            share(figures.source_resident),
            share(figures.target_resident),
        ]);
        let notes = entrant.runs.last().map(|run| run.measured.notes.clone());
        let failed = entrant.failure.is_some().then(|| why_not(entrant));
        let notes: Vec<_> = notes.into_iter().chain(failed).filter(|it| !it.is_empty()).collect();
        row.push(notes.join("; "));
        row
    }
}

fn why_not(entrant: &Entrant) -> String {
    match (&entrant.absence, &entrant.failure) {
        (Some(why), _) => format!("skipped: {why}"),
        (None, Some(why)) => format!("FAILED: {why}"),
        (None, None) => String::new(),
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "n/a".to_owned(), |share| format!("{:.1}", share * 100.0))
}

fn share(share: Option<Spread>) -> String {
    percent(share.map(|share| share.median))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::report;

    #[test]
    fn everything_is_told() {
        let text = report().text(Style::Plain);
        for part in [
            "\ndatadir\n1024 MiB in 3 files",
            "medians of 3 (min-max), all caches dropped before every run; rate 1.00 is rsync",
            "skipped: syq is not installed",
            "file-1g: skipped: not root",
            "    rsync SOURCE TARGET\n",
            "kernel ",
            "fastsst-bench --runs 3",
            "at least 1.70 times as fast as rsync",
        ] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
        let row = text.lines().find(|line| line.starts_with("fastsst ")).unwrap();
        let cells: Vec<_> = row.split_ascii_whitespace().collect();
        assert_eq!(cells[1..5], ["2.50", "(2.00-3.00)", "410", "2.00"]);
        assert!(!text.contains("link %"));
    }

    #[test]
    fn what_was_sent_is_told_where_something_was_there() {
        let mut report = report();
        for (start, columns) in [
            (Start::Stale, "rate | wire MiB | CPU s send"),
            (Start::Cut, "rate | wire MiB | of whole % | cut at % | CPU s send"),
        ] {
            report.scenarios[0].start = start;
            let text = report.text(Style::Markdown);
            assert!(text.contains(columns), "{text}");
            assert!(text.contains(&start.describe().unwrap()), "{text}");
            let row = text.lines().find(|line| line.starts_with("| rsync |")).unwrap();
            assert_eq!(row.split(" | ").nth(4), Some("100.00"), "{row}");
        }
    }

    #[test]
    fn markdown_has_one_title_and_tables() {
        let mut report = report();
        report.scenarios[0].link_bits_per_second = Some(1e9);
        let text = report.text(Style::Markdown);
        assert!(text.starts_with("# Results\n"));
        assert!(text.contains("\n## datadir\n") && text.contains("\n## targets\n"), "{text}");
        assert!(text.contains("| link % |") && text.contains("| 171.8 |"), "{text}");
    }
}
