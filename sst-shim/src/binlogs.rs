//! Binary logs: which of them go along, and the joiner's index of them.
//!
//! They are replaced together with the data: positions and GTIDs in old ones would contradict it.
//! The last of the donor's logs carries its GTID state (it was begun while the server was locked),
//! so `sst-max-binlogs` is 1 unless somebody wants more history. Names stay the donor's, as with
//! the stock methods; the joiner's server goes on with its own name.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastsst_mover::tree::FileKind;
use fastsst_mover::walk::{Class, Filter};
use fastsst_mover::{Code, Error, Result};
use fastsst_proto::RelPath;

use crate::layout::resolved;
use crate::name_pattern::matches;
use crate::settings::Settings;

/// What donor and joiner call the root.
pub(crate) const ROOT: &str = "binlog";

/// Name when neither the option nor `log-basename` gives one.
const NAME_DEFAULT: &str = "mysql-bin";

/// What follows the base of a log's name; the number has at least six digits.
const NUMBER: &str = ".%%%%%%*";

/// Further files that belong to a server's binary logs, by what follows their base.
const COMPANIONS: [&str; 3] = [".state", ".~rec~", ".index_crash_safe"];

/// Where the server keeps its binary logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binlogs {
    /// Absolute, without symbolic links as far as it exists.
    pub(crate) directory: PathBuf,
    /// Their name without the number.
    base: OsString,
    pub(crate) index_directory: PathBuf,
    pub(crate) index_name: OsString,
    datadir: PathBuf,
}

impl Binlogs {
    /// By the server's own rules (contract 6.2); `None` when it writes none.
    pub(crate) fn resolve(datadir: &Path, settings: &Settings<'_>) -> Option<Self> {
        // What the server has told the script is what came of all its options.
        let is_off = ["skip-log-bin", "disable-log-bin"].iter().any(|it| settings.is_set(it));
        if is_off && !settings.is_told("log-bin") {
            return None;
        }
        let basename = settings.value("log-basename");
        let by_basename = |suffix: &str| basename.as_ref().map(|base| format!("{base}{suffix}"));
        let name = match settings.value("log-bin") {
            Some(name) => name,
            None if settings.is_set("log-bin") => {
                by_basename("-bin").unwrap_or_else(|| NAME_DEFAULT.to_owned())
            }
            None => return None,
        };
        let index = settings.value("log-bin-index").map(PathBuf::from).map(|index| {
            match index.extension() {
                Some(_) => index,
                None => index.with_extension("index"),
            }
        });
        let index = index
            .or_else(|| by_basename("-bin.index").map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from(format!("{name}.index")));
        let (directory, base) = split(datadir, Path::new(&name))?;
        let (index_directory, index_name) = split(datadir, &index)?;
        let datadir = datadir.to_owned();
        Some(Self { directory, base, index_directory, index_name, datadir })
    }

    fn index(&self) -> PathBuf {
        self.index_directory.join(&self.index_name)
    }

    /// What the index lists, in its order.
    fn listed(&self) -> Result<Vec<PathBuf>> {
        let index = self.index();
        let text = match fs::read(&index) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::read(index.display(), error)),
        };
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let lines = lines.filter(|line| !line.is_empty());
        Ok(lines.map(|line| self.datadir.join(OsStr::from_bytes(line))).collect())
    }

    /// Joiner: the names that make room for the donor's, in `directory`.
    ///
    /// # Errors
    /// E08: the old index cannot be read.
    pub(crate) fn replaced(&self, directory: &Path) -> Result<Replaced> {
        let is_here = |path: &PathBuf| path.parent().map(resolved).as_deref() == Some(directory);
        let listed = self.listed()?.into_iter().filter(is_here);
        let mut names: BTreeSet<Vec<u8>> =
            listed.filter_map(|path| Some(path.file_name()?.as_bytes().to_vec())).collect();
        let mut patterns = Vec::new();
        if self.directory == directory {
            let base = self.base.as_bytes();
            patterns.push([base, NUMBER.as_bytes()].concat());
            names.extend(COMPANIONS.map(|suffix| [base, suffix.as_bytes()].concat()));
        }
        if self.index_directory == directory {
            names.insert(self.index_name.as_bytes().to_vec());
            names.insert([self.index_name.as_bytes(), b"_crash_safe"].concat());
        }
        Ok(Replaced { names, patterns })
    }

    /// Joiner: the text of its index for logs with these names.
    pub(crate) fn index_of(&self, names: &[Vec<u8>]) -> Vec<u8> {
        let mut names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        // A log with a seventh digit comes after all with six.
        names.sort_by_key(|name| (name.len(), *name));
        let directory = match self.directory == self.datadir {
            true => b".",
            false => self.directory.as_os_str().as_bytes(),
        };
        names.into_iter().flat_map(|name| [directory, b"/", name, b"\n"].concat()).collect()
    }
}

/// Names of a joiner's old binary logs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replaced {
    names: BTreeSet<Vec<u8>>,
    patterns: Vec<Vec<u8>>,
}

impl Replaced {
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.names.contains(name) || self.patterns.iter().any(|pattern| matches(pattern, name))
    }
}

/// Donor: the logs that go along. They are known once the server is locked, as its lock begins a
/// new one.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    binlogs: Binlogs,
    /// Most logs; negative: all.
    max: i64,
    names: Arc<Mutex<BTreeSet<Vec<u8>>>>,
}

impl Chosen {
    /// None yet.
    pub(crate) fn new(binlogs: Binlogs, max: i64) -> Self {
        Self { binlogs, max, names: Arc::default() }
    }

    /// Where they are.
    pub(crate) fn directory(&self) -> &Path {
        &self.binlogs.directory
    }

    /// Looks at the index; to be called when the server is locked.
    ///
    /// # Errors
    /// E08.
    pub(crate) fn choose(&self) -> Result<()> {
        let listed = self.binlogs.listed()?;
        let count = usize::try_from(self.max).unwrap_or(listed.len());
        let last = listed.len().saturating_sub(count);
        let mut names = self.lock();
        names.clear();
        for path in listed.get(last..).unwrap_or_default() {
            let is_here = path.parent().map(resolved).as_deref() == Some(self.directory());
            match path.file_name().filter(|_| is_here && path.is_file()) {
                Some(name) => drop(names.insert(name.as_bytes().to_vec())),
                None => tracing::warn!(
                    "binary log {} of the index is not in {} and is not sent",
                    path.display(),
                    self.directory().display()
                ),
            }
        }
        Ok(())
    }

    /// One line for the log.
    pub(crate) fn line(&self) -> String {
        let names = self.lock();
        let text = |name: Option<&Vec<u8>>| {
            name.map_or(String::new(), |name| String::from_utf8_lossy(name).into_owned())
        };
        match (names.len(), self.max) {
            (0, 0) => "no binary logs are sent ([sst] sst-max-binlogs=0)".to_owned(),
            (0, _) => "there are no binary logs to send".to_owned(),
            (1, _) => format!("binary log {} goes along", text(names.first())),
            (count, _) => format!(
                "{count} binary logs go along, from {} to {}",
                text(names.first()),
                text(names.last())
            ),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Vec<u8>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filter for Chosen {
    fn class(&self, path: &RelPath, kind: FileKind) -> Class {
        match kind == FileKind::File && self.lock().contains(path.as_bytes()) {
            true => Class::Send,
            false => Class::Skip,
        }
    }
}

/// Joiner: refuses what is no log's name, in a directory that others may use, too.
///
/// # Errors
/// E16 naming it.
pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    let pattern = [b"*", NUMBER.as_bytes()].concat();
    match matches(&pattern, name) && !name.contains(&b'/') {
        true => Ok(()),
        false => {
            let name = String::from_utf8_lossy(name).into_owned();
            Err(Error::new(Code::Protocol, format!("the donor sends {name:?} as a binary log")))
        }
    }
}

/// Directory and name of a file that may be relative to the data directory.
fn split(datadir: &Path, file: &Path) -> Option<(PathBuf, OsString)> {
    let whole = datadir.join(file);
    Some((resolved(whole.parent()?), whole.file_name()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server_args::ServerArgs;
    use crate::settings::tests::settings;

    fn resolve(datadir: &Path, files: &str, script: &str) -> Option<Binlogs> {
        let (files, explicit) = (ServerArgs::parse_lines(files), ServerArgs::parse_lines(script));
        Binlogs::resolve(datadir, &settings(&files, &explicit))
    }

    fn datadir() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let datadir = fs::canonicalize(root.path()).unwrap().join("data");
        fs::create_dir(&datadir).unwrap();
        (root, datadir)
    }

    #[test]
    fn names_are_those_of_the_server() {
        let (_root, datadir) = datadir();
        let names = |files: &str, script: &str| {
            let binlogs = resolve(&datadir, files, script)?;
            let short = |directory: &Path, name: &OsStr| {
                let path = directory.join(name);
                path.strip_prefix(&datadir).unwrap_or(&path).display().to_string()
            };
            Some((
                short(&binlogs.directory, &binlogs.base),
                short(&binlogs.index_directory, &binlogs.index_name),
            ))
        };
        let cases = [
            ("--log-bin=b\n", "", "b", "b.index"),
            ("--log-bin\n", "", "mysql-bin", "mysql-bin.index"),
            ("--log-bin\n--log-basename=n\n", "", "n-bin", "n-bin.index"),
            ("--log-bin=b\n--log-basename=n\n", "", "b", "n-bin.index"),
            ("--log-bin=b\n--log-bin-index=i\n", "", "b", "i.index"),
            ("--log-bin=b\n--log-bin-index=x/i.txt\n", "", "b", "x/i.txt"),
            ("--log-bin=b\n", "--log-bin=/logs/c\n", "/logs/c", "/logs/c.index"),
            ("--log-bin=./b\n", "", "b", "b.index"),
        ];
        for (files, script, base, index) in cases {
            let expected = Some((base.to_owned(), index.to_owned()));
            assert_eq!(names(files, script), expected, "{files} {script}");
        }
        assert_eq!(names("--log-bin-index=i\n", ""), None);
        assert_eq!(names("--log-bin=b\n--skip-log-bin\n", ""), None);
        let told = names("--skip-log-bin\n--log-bin=b\n", "--log-bin=c\n");
        assert_eq!(told, Some(("c".to_owned(), "c.index".to_owned())));
    }

    #[test]
    fn the_last_logs_are_chosen_when_the_server_is_locked() {
        let (_root, datadir) = datadir();
        for name in ["b.000001", "b.000002", "b.000003"] {
            fs::write(datadir.join(name), "").unwrap();
        }
        let whole =
            format!("./b.000001\n{}/b.000002\nb.000003\n/gone/b.000004\n", datadir.display());
        fs::write(datadir.join("b.index"), whole).unwrap();
        let chosen = |max| {
            let chosen = Chosen::new(resolve(&datadir, "--log-bin=b\n", "").unwrap(), max);
            assert!(chosen.lock().is_empty(), "nothing is known before");
            chosen.choose().unwrap();
            let names: Vec<_> =
                chosen.lock().iter().map(|name| String::from_utf8(name.clone()).unwrap()).collect();
            names
        };
        assert_eq!(chosen(-1), ["b.000001", "b.000002", "b.000003"]);
        assert_eq!(chosen(3), ["b.000002", "b.000003"]);
        assert_eq!(chosen(1), [""; 0], "the last is missing");
        assert_eq!(chosen(0), [""; 0]);
    }

    #[test]
    fn old_logs_make_room_and_nothing_else() {
        let (root, datadir) = datadir();
        let logs = fs::canonicalize(root.path()).unwrap().join("logs");
        fs::create_dir(&logs).unwrap();
        let text = format!("--log-bin={}/b\n--log-bin-index=own\n", logs.display());
        let binlogs = resolve(&datadir, &text, "").unwrap();
        let listed = format!("{}/donor-bin.000007\n./elsewhere.000001\n", logs.display());
        fs::write(datadir.join("own.index"), listed).unwrap();
        let replaced = binlogs.replaced(&logs).unwrap();
        for name in ["b.000001", "b.1000001", "b.state", "donor-bin.000007"] {
            assert!(replaced.has(name.as_bytes()), "{name}");
        }
        for name in ["other.000001", "b.txt", "elsewhere.000001", "own.index", "syslog"] {
            assert!(!replaced.has(name.as_bytes()), "{name}");
        }
        let replaced = binlogs.replaced(&datadir).unwrap();
        assert!(replaced.has(b"own.index") && replaced.has(b"elsewhere.000001"));
        assert!(!replaced.has(b"b.000001"));
    }

    #[test]
    fn the_index_names_the_joiners_places_in_the_order_of_numbers() {
        let (_root, datadir) = datadir();
        let index = |text: &str| {
            let binlogs = resolve(&datadir, text, "").unwrap();
            let names = ["d.1000000", "d.999999", "d.000001"].map(|name| name.as_bytes().to_vec());
            String::from_utf8(binlogs.index_of(&names)).unwrap()
        };
        assert_eq!(index("--log-bin=b\n"), "./d.000001\n./d.999999\n./d.1000000\n");
        assert!(index("--log-bin=/logs/b\n").starts_with("/logs/d.000001\n/logs/d.999999\n"));
    }

    #[test]
    fn only_logs_may_come_as_logs() {
        assert!(check_name(b"b.000001").is_ok());
        for name in ["syslog", "b.00001", "../b.000001", "d/b.000001", "b.index"] {
            assert_eq!(check_name(name.as_bytes()).unwrap_err().code(), Code::Protocol, "{name}");
        }
    }
}
