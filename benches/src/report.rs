//! The figures, for people and for programs.

pub(crate) mod charts;
pub(crate) mod csv;
mod grid;
pub(crate) mod text;

use serde::Serialize;

use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::targets::Target;

/// Everything that was measured, and where.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// When it began.
    pub(crate) date: String,
    /// Where.
    pub(crate) machine: Machine,
    /// What was typed.
    pub(crate) command: String,
    /// What.
    pub(crate) scenarios: Vec<Outcome>,
    /// What could not run here.
    pub(crate) skipped: Vec<Skipped>,
    /// What was promised.
    pub(crate) targets: Vec<Target>,
}

/// A scenario without an outcome.
#[derive(Debug, Serialize)]
pub(crate) struct Skipped {
    /// Its name.
    pub(crate) scenario: String,
    /// Why.
    pub(crate) why: String,
}

impl Report {
    /// Whether everybody who is installed finished.
    pub(crate) fn complete(&self) -> bool {
        let mut entrants = self.scenarios.iter().flat_map(|outcome| &outcome.entrants);
        entrants.all(|entrant| entrant.failure.is_none())
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use crate::outcome::samples::{entrant, outcome};
    use crate::targets;

    /// Two contenders, and one that is missing.
    pub(crate) fn report() -> Report {
        let mut absent = entrant("syq", &[]);
        absent.about = None;
        absent.absence = Some("syq is not installed".to_owned());
        let entrants = vec![
            entrant("rsync", &[4.0, 5.0, 6.0]),
            absent,
            entrant("fastsst", &[2.0, 2.5, 3.0]),
            entrant("floor", &[1.0, 1.0, 1.5]),
        ];
        let scenarios = vec![outcome("datadir", entrants)];
        Report {
            date: "2026-01-02T03:04:05Z".to_owned(),
            machine: Machine::of(std::path::Path::new(".")),
            command: "fastsst-bench --runs 3".to_owned(),
            targets: targets::check(&scenarios),
            skipped: vec![Skipped { scenario: "file-1g".to_owned(), why: "not root".to_owned() }],
            scenarios,
        }
    }
}
