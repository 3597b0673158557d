//! Which data over which link, and who takes part.

use std::borrow::Cow;

use anyhow::Result;

use crate::dataset::DataSet;
use crate::dataset::datadir::Datadir;
use crate::dataset::one_file::OneFile;
use crate::dataset::small_files::SmallFiles;
use crate::dataset::sparse::Sparse;
use crate::dataset::synthetic::Synthetic;
use crate::network::Link;
use crate::say;
use crate::start::Start;

/// One comparison.
pub(crate) struct Scenario {
    /// Name in the table, in the report and for `--scenario`.
    pub(crate) name: Cow<'static, str>,
    /// What is copied.
    pub(crate) data: Box<dyn DataSet>,
    /// Over what.
    pub(crate) link: Link,
    /// What the target holds before.
    pub(crate) start: Start,
    /// Who takes part, unless `--contender` says otherwise.
    pub(crate) contenders: &'static [&'static str],
}

/// What a scenario is made of.
#[derive(Debug, Clone, Copy)]
struct Plan {
    name: &'static str,
    data: Data,
    link: Link,
    start: Start,
    contenders: &'static [&'static str],
    /// Whether it runs when nobody names a scenario.
    by_default: bool,
}

#[derive(Debug, Clone, Copy)]
enum Data {
    /// A server's directory. Part of `--mib`: one over this.
    Datadir(u32),
    Synthetic,
    /// Part of `--mib`, in percent.
    File(u32),
    Small,
    Sparse,
}

const ALL: &[&str] = &[
    "rsync",
    "rsync-parallel",
    "rsync-stunnel",
    "rsync-ssh",
    "syq",
    "tar-socat",
    "tar-zstd-socat",
    "mariabackup-socat",
    "fastsst",
    "fastsst-quic",
    "fastsst-tcp",
    "floor",
];

const ONE_FILE: &[&str] = &["rsync", "syq", "fastsst", "fastsst-quic", "fastsst-tcp", "floor"];

const HOLES: &[&str] = &["rsync", "tar-socat", "fastsst", "floor"];

const MANY_FILES: &[&str] = &["rsync", "syq", "tar-socat", "fastsst", "floor"];

// Without syq: it is measured uncompressed, which is no comparison on a slow link.
const NETWORK: &[&str] = &["rsync", "fastsst", "fastsst-quic", "fastsst-tcp"];

const NETWORK_FILE: &[&str] = &["rsync", "fastsst-quic", "fastsst-tcp"];

const SLOW: &[&str] = &["rsync", "tar-zstd-socat", "fastsst"];

const AGAIN: &[&str] =
    &["rsync", "rsync-delta", "fastsst", "fastsst-quic", "fastsst-tcp", "floor-read"];

const CUT: &[&str] = &["rsync", "rsync-delta", "fastsst", "fastsst-quic", "fastsst-tcp"];

/// Files of the scenario `small` for each 3072 MiB of `--mib`.
const SMALL_FILES: u64 = 50_000;

/// The default of `--mib`, which all sizes are given for.
pub(crate) const MIB: u32 = 3072;

const PLANS: [Plan; 12] = [
    plan("datadir", Data::Datadir(1), Link::Loopback, ALL),
    Plan { by_default: false, ..plan("datadir-synthetic", Data::Synthetic, Link::Loopback, ALL) },
    plan("file", Data::File(67), Link::Loopback, ONE_FILE),
    plan("small", Data::Small, Link::Loopback, MANY_FILES),
    plan("datadir-1g", Data::Datadir(1), Link::Cable(Some(1000)), NETWORK),
    plan("file-1g", Data::File(67), Link::Cable(Some(1000)), NETWORK_FILE),
    plan("datadir-lan", Data::Datadir(1), Link::Cable(None), NETWORK),
    plan("sparse", Data::Sparse, Link::Loopback, HOLES),
    plan("datadir-100m", Data::Datadir(12), Link::Cable(Some(100)), SLOW),
    Plan { start: Start::Stale, ..plan("stale-1", Data::Datadir(1), Link::Loopback, AGAIN) },
    Plan { start: Start::Identical, ..plan("identical", Data::Datadir(1), Link::Loopback, AGAIN) },
    // A cable, because its bytes can be counted while they flow.
    Plan { start: Start::Cut, ..plan("resume", Data::Datadir(1), Link::Cable(None), CUT) },
];

const fn plan(
    name: &'static str,
    data: Data,
    link: Link,
    contenders: &'static [&'static str],
) -> Plan {
    Plan { name, data, link, start: Start::Empty, contenders, by_default: true }
}

/// Names for `--scenario`.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PLANS.iter().map(|plan| plan.name)
}

/// The scenarios of these names in their order here; without names, all that run by default.
pub(crate) fn scenarios(chosen: &[String], mib: u32) -> Vec<Scenario> {
    let is_chosen = |plan: &&Plan| {
        let named = chosen.iter().any(|name| name == plan.name);
        if chosen.is_empty() { plan.by_default } else { named }
    };
    PLANS.iter().filter(is_chosen).map(|plan| plan.scenario(mib)).collect()
}

impl Plan {
    fn scenario(&self, mib: u32) -> Scenario {
        let mut name = Cow::Borrowed(self.name);
        let data: Box<dyn DataSet> = match self.data {
            Data::Synthetic => Box::new(Synthetic::new(mib)),
            Data::File(percent) => Box::new(OneFile::new(part(mib, percent))),
            Data::Small => Box::new(SmallFiles::new(small_files(mib))),
            Data::Sparse => Box::new(Sparse::new(mib / 12)),
            Data::Datadir(share) => {
                let mib = (mib / share).max(1);
                match datadir(mib) {
                    Ok(data) => Box::new(data),
                    Err(why) => {
                        name = synthetic_name(self.name).into();
                        say(&format!("{} is {name} here: {why:#}", self.name));
                        Box::new(Synthetic::new(mib))
                    }
                }
            }
        };
        let (link, start, contenders) = (self.link, self.start, self.contenders);
        Scenario { name, data, link, start, contenders }
    }
}

/// Figures of other data are never taken for those of a server's.
fn synthetic_name(name: &str) -> String {
    const MARK: &str = "synthetic";
    if name.contains("datadir") {
        name.replace("datadir", &format!("datadir-{MARK}"))
    } else {
        format!("{name}-{MARK}")
    }
}

fn datadir(mib: u32) -> Result<Datadir> {
    let data = Datadir::new(mib);
    data.is_possible()?;
    Ok(data)
}

fn part(mib: u32, percent: u32) -> u32 {
    // Two thirds are a percentage that is not whole; whole sizes in GiB read better.
    const STEP: u32 = 64;
    let exact = mib.saturating_mul(percent) / 100;
    if exact >= STEP * 8 { exact / STEP * STEP } else { exact.max(1) }
}

fn small_files(mib: u32) -> u32 {
    u32::try_from(SMALL_FILES * u64::from(mib) / u64::from(MIB)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_the_default() {
        assert_eq!(part(MIB, 67), 2048);
        assert_eq!(small_files(MIB), 50_000);
        let sparse = Sparse::new(MIB / 12);
        assert_eq!(sparse.bytes(), 8 << 30);
    }

    #[test]
    fn other_data_has_another_name() {
        assert_eq!(synthetic_name("datadir-1g"), "datadir-synthetic-1g");
        assert_eq!(synthetic_name("stale-1"), "stale-1-synthetic");
    }

    #[test]
    fn chosen_by_name_or_all() {
        let chosen = scenarios(&["sparse".to_owned(), "file".to_owned()], 64);
        let found: Vec<_> = chosen.iter().map(|scenario| &*scenario.name).collect();
        assert_eq!(found, ["file", "sparse"]);
        assert_eq!(scenarios(&[], 64).len(), PLANS.len() - 1);
        assert!(names().any(|name| name == "datadir-100m"));
    }
}
