//! One line for every run, for whoever makes tables and charts of their own.

use super::Report;
use crate::outcome::{Entrant, Outcome, Run};

const HEAD: [&str; 26] = [
    "date",
    "cpu",
    "cores",
    "kernel",
    "scenario",
    "data",
    "link",
    "start",
    "files",
    "bytes",
    "contender",
    "version",
    "run",
    "wall_seconds",
    "bytes_per_second",
    "sender_cpu_seconds",
    "receiver_cpu_seconds",
    "machine_cpu_seconds",
    "sender_peak_rss_bytes",
    "receiver_peak_rss_bytes",
    "source_resident",
    "target_resident",
    "wire_bytes",
    "changed_bytes",
    "whole_wire_bytes",
    "command",
];

impl Report {
    /// Comma-separated values, as RFC 4180 has them but with plain line ends.
    pub(crate) fn csv(&self) -> String {
        let mut text = HEAD.join(",") + "\n";
        for outcome in &self.scenarios {
            for entrant in &outcome.entrants {
                for (number, run) in (1_u32..).zip(&entrant.runs) {
                    let cells = self.cells(outcome, entrant, (number, run));
                    text += &(cells.map(|cell| quoted(&cell)).join(",") + "\n");
                }
            }
        }
        text
    }

    fn cells(
        &self,
        outcome: &Outcome,
        entrant: &Entrant,
        (number, run): (u32, &Run),
    ) -> [String; HEAD.len()] {
        let measured = &run.measured;
        let (sender, receiver) = (&measured.sender, &measured.receiver);
        let maybe = |value: Option<f64>| value.map_or_else(String::new, |it| format!("{it:.4}"));
        let bytes = |value: Option<u64>| value.map_or_else(String::new, |it| it.to_string());
        [
            self.date.clone(),
            self.machine.cpu.clone(),
            self.machine.cores.to_string(),
            self.machine.kernel.clone(),
            outcome.name.clone(),
            outcome.data.clone(),
            outcome.link.clone(),
            outcome.start.name().to_owned(),
            outcome.files.to_string(),
            outcome.bytes.to_string(),
            entrant.name.to_owned(),
            entrant.about.as_ref().map_or_else(String::new, |about| about.version.clone()),
            number.to_string(),
            format!("{:.4}", measured.wall_seconds),
            format!("{:.0}", run.bytes_per_second),
            format!("{:.2}", sender.cpu_seconds()),
            format!("{:.2}", receiver.cpu_seconds()),
            maybe(measured.machine_cpu_seconds),
            sender.peak_rss_bytes.to_string(),
            receiver.peak_rss_bytes.to_string(),
            maybe(run.residency.map(|residency| residency.source)),
            maybe(run.residency.map(|residency| residency.target)),
            bytes(measured.wire_bytes),
            bytes(run.before.changed_bytes),
            bytes(run.before.whole_wire_bytes),
            self.command.clone(),
        ]
    }
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::report;

    #[test]
    fn a_line_for_every_run() {
        let text = report().csv();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 1 + 3 * 3);
        assert!(
            lines[1]
                .contains(",datadir,something <special> & more,loopback,empty,3,1073741824,rsync,")
        );
        assert!(lines[1].contains(",1,4.0000,268435456,1.50,1.50,3.5000,"), "{}", lines[1]);
    }

    #[test]
    fn commas_and_quotes_are_quoted() {
        assert_eq!(quoted("a"), "a");
        assert_eq!(quoted("a, \"b\""), "\"a, \"\"b\"\"\"");
    }
}
