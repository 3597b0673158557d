//! What was typed, and the scenario and contenders it means.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser;

use crate::contender::Contender;
use crate::contender::fastsst::Fastsst;
use crate::contender::rsync::Rsync;
use crate::scenario::Scenario;
use crate::scenario::datadir::Datadir;

const EXAMPLES: &str = "\
Examples:
  fastsst-bench --mib 3072 --runs 5 --dir /srv --json result.json
  fastsst-bench --mib 512 --runs 3 --only rsync

Exit status: 0 when every contender that is installed finished every run with an equal copy, or 1.";

/// Measures fastsst and its rivals on the same data in the same run.
#[derive(Debug, Parser)]
#[command(name = "fastsst-bench", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Size of the data set in MiB
    #[arg(long, value_name = "N", default_value_t = 3072,
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) mib: u32,
    /// How often each contender runs
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Where source and copies are made, in a directory of their own; it decides which disk is measured
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Also write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The fastsst to measure [default: beside this program, or in PATH]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) fastsst: Option<PathBuf>,
    /// Run only this contender (may be repeated)
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
}

impl Args {
    /// The data to copy.
    pub(crate) fn scenario(&self) -> Box<dyn Scenario> {
        Box::new(Datadir::new(self.mib))
    }

    /// Who takes part, the one that others are compared with first.
    ///
    /// # Errors
    /// A name that no contender has.
    pub(crate) fn contenders(&self) -> Result<Vec<Box<dyn Contender>>> {
        let mut all: Vec<Box<dyn Contender>> =
            vec![Box::new(Rsync::new()), Box::new(Fastsst::quic(self.fastsst()))];
        for name in &self.only {
            let known: Vec<_> = all.iter().map(|contender| contender.name()).collect();
            ensure!(
                known.contains(&name.as_str()),
                "no contender is called {name:?}: {}",
                known.join(", ")
            );
        }
        all.retain(|contender| {
            self.only.is_empty() || self.only.iter().any(|name| name == contender.name())
        });
        Ok(all)
    }

    fn fastsst(&self) -> PathBuf {
        const NAME: &str = "fastsst";
        let beside = std::env::current_exe().ok().map(|bench| bench.with_file_name(NAME));
        self.fastsst
            .clone()
            .or_else(|| beside.filter(|path| path.is_file()))
            .unwrap_or_else(|| PathBuf::from(NAME))
    }
}
