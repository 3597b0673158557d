//! What was typed, and the scenarios and contenders it means.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};

use crate::catalogue::{self, Programs};
use crate::contender::Contender;
use crate::scenario::{self, MIB, Scenario};

const EXAMPLES: &str = "\
Examples:
  fastsst-bench --dir /srv --out results
  fastsst-bench --scenario datadir --scenario file --runs 3 --json result.json
  fastsst-bench --mib 512 --contender rsync --contender fastsst

Exit status: 0 when every contender that is installed finished every run and every copy was right,
or 1. A target that is missed, a scenario or a contender that cannot run here does not change it.";

/// Measures fastsst and its rivals on the same data in the same run.
#[derive(Debug, Parser)]
#[command(name = "fastsst-bench", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Hidden>,
    /// Run only this scenario (may be repeated); see --list
    #[arg(long, value_name = "NAME")]
    pub(crate) scenario: Vec<String>,
    /// Run only this contender (may be repeated); see --list
    #[arg(long, value_name = "NAME")]
    pub(crate) contender: Vec<String>,
    /// Leave this contender out (may be repeated)
    #[arg(long, value_name = "NAME")]
    pub(crate) without: Vec<String>,
    /// Say which scenarios and contenders there are
    #[arg(long)]
    pub(crate) list: bool,
    /// Size of the scenario "datadir" in MiB; those of all others follow it
    #[arg(long, value_name = "N", default_value_t = MIB,
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) mib: u32,
    /// How often each contender runs
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Where copies are made, in a directory of their own; it decides which disk is measured
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Where generated data stays for the next time [default: fastsst-bench-data in --dir]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// Also write results.json, results.csv, results.md and the charts to this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Also write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Also write one line for every run to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Also write the tables to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// Also draw two charts of each scenario into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) charts: Option<PathBuf>,
    /// The fastsst to measure [default: beside this program, or in PATH]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) fastsst: Option<PathBuf>,
    /// The syq to measure [default: in PATH]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) syq: Option<PathBuf>,
}

/// What the bench starts itself for.
#[derive(Debug, Subcommand)]
pub(crate) enum Hidden {
    /// Copies a tree as fast as this disk can
    #[command(hide = true)]
    Floor {
        /// What to copy
        source: PathBuf,
        /// An empty directory
        target: PathBuf,
    },
    /// Reads two trees as fast as this disk can
    #[command(hide = true)]
    FloorRead {
        /// The one
        one: PathBuf,
        /// The other
        other: PathBuf,
    },
}

impl Args {
    /// What runs.
    ///
    /// # Errors
    /// A name that no scenario has.
    pub(crate) fn scenarios(&self) -> Result<Vec<Scenario>> {
        let known: Vec<_> = scenario::names().collect();
        must_be_known("scenario", &self.scenario, &known)?;
        Ok(scenario::scenarios(&self.scenario, self.mib))
    }

    /// Who takes part in `scenario`.
    ///
    /// # Errors
    /// A name that no contender has.
    pub(crate) fn contenders(&self, scenario: &Scenario) -> Result<Vec<Box<dyn Contender>>> {
        let mut all = self.everybody();
        let known: Vec<_> = all.iter().map(|contender| contender.name()).collect();
        must_be_known("contender", &self.contender, &known)?;
        must_be_known("contender", &self.without, &known)?;
        all.retain(|contender| {
            let name = contender.name();
            let fits = name != catalogue::OF_A_SERVER || scenario.data.is_a_server_s();
            let chosen = self.contender.iter().any(|chosen| chosen == name);
            let by_default = self.contender.is_empty() && scenario.contenders.contains(&name);
            let left_out = self.without.iter().any(|left_out| left_out == name);
            fits && (chosen || by_default) && !left_out
        });
        Ok(all)
    }

    /// Everybody there is.
    pub(crate) fn everybody(&self) -> Vec<Box<dyn Contender>> {
        let fastsst = self.fastsst();
        catalogue::contenders(Programs { fastsst: &fastsst, syq: self.syq.as_deref() })
    }

    /// Where generated data stays.
    pub(crate) fn cache(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| self.dir.join("fastsst-bench-data"))
    }

    /// Where a kind of output goes: to its own file, or into `--out`.
    pub(crate) fn output(&self, own: Option<&Path>, name: &str) -> Option<PathBuf> {
        own.map(Path::to_owned).or_else(|| self.out.as_ref().map(|out| out.join(name)))
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

fn must_be_known(what: &str, named: &[String], known: &[&str]) -> Result<()> {
    for name in named {
        ensure!(
            known.contains(&name.as_str()),
            "no {what} is called {name:?}: {}",
            known.join(", ")
        );
    }
    Ok(())
}

/// What was typed, without directories of this machine: of a path only the last part.
pub(crate) fn typed(words: impl Iterator<Item = String>) -> String {
    let short = |word: String| {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (format!("{option}="), value),
            Some(_) | None => (String::new(), word.as_str()),
        };
        let last = Path::new(value).file_name().filter(|_| value.contains('/'));
        format!("{option}{}", last.map_or(value.into(), |last| last.to_string_lossy()))
    };
    words.map(short).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_without_directories() {
        let words = ["/x/y/fastsst-bench", "--dir", "/x/z", "--json=/a/b.json", "--runs", "3"];
        let text = typed(words.into_iter().map(str::to_owned));
        assert_eq!(text, "fastsst-bench --dir z --json=b.json --runs 3");
    }

    #[test]
    fn a_backup_needs_a_server() {
        let args =
            |words: &[&str]| Args::parse_from(["fastsst-bench", "--mib", "8"].iter().chain(words));
        let names = |args: &Args| {
            let scenario = args.scenarios().unwrap().remove(0);
            let contenders = args.contenders(&scenario).unwrap();
            contenders.iter().map(|contender| contender.name()).collect::<Vec<_>>()
        };
        let file = names(&args(&["--scenario", "file"]));
        assert!(file.contains(&"floor") && !file.contains(&"rsync-parallel"), "{file:?}");
        let left_out = ["--scenario", "file", "--without", "syq"];
        assert!(!names(&args(&left_out)).contains(&"syq"));
        let chosen = ["--scenario", "file", "--contender", catalogue::OF_A_SERVER];
        assert!(names(&args(&chosen)).is_empty());
        assert!(args(&["--scenario", "nonsense"]).scenarios().is_err());
    }

    #[test]
    fn outputs_go_where_they_are_sent() {
        let args = Args::parse_from(["fastsst-bench", "--out", "o", "--csv", "x.csv"]);
        let csv = args.output(args.csv.as_deref(), "results.csv");
        assert_eq!(csv, Some(PathBuf::from("x.csv")));
        let json = args.output(args.json.as_deref(), "results.json");
        assert_eq!(json, Some(PathBuf::from("o/results.json")));
    }
}
