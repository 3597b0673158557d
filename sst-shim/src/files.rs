//! Which files of a data directory are the database, and which belong to the node.
//!
//! The rule for a name decides for both ends: what matches is never sent, and [`Old`] says what
//! happens to the joiner's own. Everything else is sent, and the joiner's old one makes room.
//! A table of this with reasons is in `docs/OPERATIONS.md`; a test compares the two.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, PoisonError, RwLock};

use fastsst_mover::staging::Keep;
use fastsst_mover::tree::FileKind;
use fastsst_mover::walk::{Class, Filter};
use fastsst_mover::{Code, Error, Result};
use fastsst_proto::RelPath;

use crate::keep_pattern::KeepPattern;
use crate::layout::{Layout, relative_to};
use crate::name_pattern::matches;
use crate::parts::{Part, PartNames, REDO_DIRECTORY};
use crate::settings::Settings;

/// What happens to a file of this name that the joiner already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Old {
    /// It belongs to the node.
    Kept,
    /// It would contradict the new data.
    Removed,
}

/// What kind of entry a rule is about. Databases are directories and may have any of the names
/// below, so no rule for files is ever applied to a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Files,
    Directories,
    Both,
}

/// A name directly in the data directory. A pattern of `name_pattern`.
#[derive(Debug)]
struct Rule(&'static str, Of, Old);

/// The first rule that matches decides.
const RULES: [Rule; 51] = [
    // Left behind by the SST methods that unpack beside the data.
    Rule(".sst", Of::Directories, Old::Removed),
    // Ours (.fastsst), file systems' (.snapshot, .zfs), and the home of the user mysql.
    Rule(".*", Of::Both, Old::Kept),
    Rule("lost+found", Of::Directories, Old::Kept),
    // Must not survive into other data, although they look like logs.
    Rule("tc.log", Of::Files, Old::Removed),
    Rule("ddl_recovery*.log", Of::Files, Old::Removed),
    // The cluster's view of this node.
    Rule("grastate.dat", Of::Files, Old::Kept),
    Rule("gvwstate.dat", Of::Files, Old::Kept),
    Rule("galera.cache*", Of::Files, Old::Kept),
    Rule("gcache.page.*", Of::Files, Old::Kept),
    // Who this node is.
    Rule("auto.cnf", Of::Files, Old::Kept),
    Rule("mysqld-auto.cnf", Of::Files, Old::Kept),
    Rule("my.cnf", Of::Files, Old::Kept),
    Rule("backup-my.cnf", Of::Files, Old::Kept),
    Rule("*.pem", Of::Files, Old::Kept),
    Rule("keyring*", Of::Files, Old::Kept),
    Rule("component_keyring*", Of::Files, Old::Kept),
    Rule("mysqld.my", Of::Files, Old::Kept),
    Rule("debian-*.flag", Of::Files, Old::Kept),
    Rule("RPM_UPGRADE_*", Of::Files, Old::Kept),
    // What the running server has open or somebody may want to read.
    Rule("*.err", Of::Files, Old::Kept),
    Rule("*.err.*", Of::Files, Old::Kept),
    Rule("*.log", Of::Files, Old::Kept),
    Rule("*.log.*", Of::Files, Old::Kept),
    Rule("*.pid", Of::Files, Old::Kept),
    Rule("*.sock", Of::Files, Old::Kept),
    Rule("*.sock.lock", Of::Files, Old::Kept),
    Rule("core", Of::Files, Old::Kept),
    Rule("core.*", Of::Files, Old::Kept),
    Rule("sst_in_progress", Of::Files, Old::Kept),
    // Asynchronous replication into this node.
    Rule("*relay-bin*", Of::Files, Old::Kept),
    Rule("master.info", Of::Files, Old::Kept),
    Rule("master-*.info", Of::Files, Old::Kept),
    Rule("relay-log.info", Of::Files, Old::Kept),
    Rule("relay-log-*.info", Of::Files, Old::Kept),
    Rule("multi-master.info", Of::Files, Old::Kept),
    // Binary logs tell the history of the old data.
    Rule("*.%%%%%%*", Of::Files, Old::Removed),
    Rule("*.index", Of::Files, Old::Removed),
    Rule("*.index_crash_safe", Of::Files, Old::Removed),
    Rule("*.~rec~", Of::Files, Old::Removed),
    Rule("*.state", Of::Files, Old::Removed),
    // The dialogue of a donor with its script.
    Rule("tables_flushed*", Of::Files, Old::Removed),
    Rule("sst_error", Of::Files, Old::Removed),
    // Made anew at each start, or half made.
    Rule("ibtmp*", Of::Files, Old::Removed),
    Rule("#innodb_temp", Of::Directories, Old::Removed),
    Rule("ib_logfile101", Of::Files, Old::Removed),
    Rule("ib_buffer_pool.incomplete", Of::Files, Old::Removed),
    // Left behind by other SST methods and backups.
    Rule("rsync_sst*", Of::Files, Old::Removed),
    Rule("stunnel.conf", Of::Files, Old::Removed),
    Rule("wsrep_sst_binlog.tar", Of::Files, Old::Removed),
    Rule("xtrabackup_*", Of::Files, Old::Removed),
    Rule("mariadb_backup_*", Of::Files, Old::Removed),
];

/// Names at any depth that are never sent: temporary tables, and the write-set cache where
/// `gcache.dir` put it below the data directory.
const NEVER_SENT_ANYWHERE: [&str; 3] = ["#sql-temptable*", "galera.cache", "gcache.page.*"];

/// What makes a directory a database, whatever else it is.
const DB_OPT: &str = "db.opt";

/// Files the server writes during its lock; each of them may grow while it is sent.
const VOLATILE: [&str; 2] = ["mysql/general_log.CS*", "mysql/slow_log.CS*"];

/// What is read after all else of the data directory, by rank, so that what is read later covers
/// what changed before. `MyRocks`: immutable files before those that name them; then `MySQL`'s
/// doublewrite files. The parts of `parts` follow with the same rank or higher.
const LAST: [(&str, u8); 4] = [
    ("#rocksdb/MANIFEST-*", 0),
    ("#rocksdb/CURRENT", 1),
    ("#rocksdb/*.log", 2),
    ("#ib_*.dblwr", 3),
];

/// Options that name a file of the node, with the extension the server adds to a name without.
const FILE_OPTIONS: [(&[&str], &str); 9] = [
    (&["log-error"], "err"),
    (&["general-log-file"], ""),
    (&["log-slow-query-file", "slow-query-log-file"], ""),
    (&["server-audit-file-path"], ""),
    (&["pid-file"], "pid"),
    (&["socket"], ""),
    (&["master-info-file"], ""),
    (&["relay-log-info-file"], ""),
    (&["relay-log-index"], "index"),
];

/// Options that name a directory that the server expects to exist.
const DIRECTORY_OPTIONS: [&str; 3] = ["tmpdir", "innodb-tmpdir", "slave-load-tmpdir"];

/// The files of one node.
#[derive(Debug)]
pub(crate) struct NodeFiles {
    datadir: PathBuf,
    names: PartNames,
    /// Directories of parts that lie in the data directory, but not directly.
    nested_homes: Vec<(PathBuf, Part)>,
    /// Donor: entries whose content is sent from where they lead to.
    elsewhere: OnceLock<BTreeSet<RelPath>>,
    /// Joiner: links to databases elsewhere that stay as they are.
    links: RwLock<BTreeSet<Vec<u8>>>,
    /// Links on the way to directories of the node's parts.
    home_links: BTreeSet<Vec<u8>>,
    cpat: Option<KeepPattern>,
    /// Files of the node by configuration, with the option that names them.
    named: Vec<(PathBuf, &'static str)>,
    /// Relay logs: what begins like this.
    relay_log: Option<PathBuf>,
    /// Binary logs: what begins like this. Only needed below a directory of their own.
    binlog: Option<PathBuf>,
    /// Directories the server expects.
    directories: BTreeSet<PathBuf>,
}

impl NodeFiles {
    pub(crate) fn new(layout: &Layout, settings: &Settings<'_>, cpat: Option<KeepPattern>) -> Self {
        let below = |value: String| relative_to(&layout.datadir, Path::new(&value));
        let nested = |part: Part| {
            let home = layout.home(part).strip_prefix(&layout.datadir).ok()?;
            (!home.as_os_str().is_empty()).then(|| (home.to_owned(), part))
        };
        let mut named = Vec::new();
        for (options, extension) in FILE_OPTIONS {
            let Some(path) = settings.first_value(options).and_then(below) else { continue };
            if path.extension().is_none() && !extension.is_empty() {
                named.push((path.with_extension(extension), options[0]));
            }
            named.push((path, options[0]));
        }
        named.extend(
            provider_files(settings).into_iter().filter_map(|file| Some((below(file)?, PROVIDER))),
        );
        let relay_log = settings.value("relay-log").and_then(below);
        let binlog = settings.value("log-bin").and_then(below);
        let in_directory = DIRECTORY_OPTIONS.iter().filter_map(|option| settings.value(option));
        // tmpdir may be a list.
        let in_directory =
            in_directory.flat_map(|list| list.split(':').map(str::to_owned).collect::<Vec<_>>());
        let parent = |path: &PathBuf| path.parent().map(Path::to_owned);
        let directories = in_directory
            .filter_map(below)
            .chain(binlog.as_ref().and_then(parent))
            .filter(|directory| !directory.as_os_str().is_empty())
            .collect();
        Self {
            datadir: layout.datadir.clone(),
            names: layout.names(),
            nested_homes: Part::ALL.into_iter().filter_map(nested).collect(),
            elsewhere: OnceLock::new(),
            links: RwLock::default(),
            home_links: layout.links_to_homes(&[]),
            cpat,
            named,
            relay_log,
            binlog,
            directories,
        }
    }

    /// Links in the data directory that lead to where the binary logs are, too, belong to the node.
    pub(crate) fn with_home_links(self, home_links: BTreeSet<Vec<u8>>) -> Self {
        Self { home_links, ..self }
    }

    /// Links that are no databases.
    pub(crate) fn home_links(&self) -> &BTreeSet<Vec<u8>> {
        &self.home_links
    }

    /// Donor: these entries are not sent from here, but from where they lead to.
    pub(crate) fn leave_out(&self, entries: BTreeSet<RelPath>) -> Result<()> {
        self.elsewhere.set(entries).map_err(|_set| Error::bug("entries are left out twice"))
    }

    /// Joiner: these links in the data directory stay as they are.
    pub(crate) fn keep_links(&self, names: BTreeSet<Vec<u8>>) {
        *self.links.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Joiner: refuses files of the node below a subdirectory, as only names directly in the data
    /// directory can be kept while everything else makes room.
    ///
    /// # Errors
    /// E29 naming the option.
    pub(crate) fn refuse_nested(&self) -> Result<()> {
        let relay_log = self.relay_log.iter().map(|path| (path, "relay-log"));
        let nested = self.named.iter().map(|(path, option)| (path, *option)).chain(relay_log);
        for (path, option) in nested {
            if path.components().count() > 1 {
                return Err(Error::new(
                    Code::Unsupported,
                    format!(
                        "{} puts {} into a subdirectory of the datadir, which this release would \
                         replace; put it into the datadir itself or outside of it",
                        option.replace('-', "_"),
                        path.display()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Joiner: makes the directories that the server expects and the donor did not have.
    ///
    /// # Errors
    /// E03, E07 or E09.
    pub(crate) fn make_directories(&self) -> Result<()> {
        for directory in &self.directories {
            self.make_directory(directory)?;
        }
        Ok(())
    }

    /// One component after the other: what the donor sent must not lead out of the datadir.
    fn make_directory(&self, directory: &Path) -> Result<()> {
        let mut path = self.datadir.clone();
        for component in directory.components() {
            path.push(component);
            let failed = |error| Error::write(path.display(), error);
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => {
                    let what = format!("{} should be a directory and is not", path.display());
                    return Err(Error::new(Code::UnsafePath, what));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    fs::create_dir(&path).map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// Whether an entry belongs to a root of its own.
    fn is_of_other_root(&self, path: &RelPath, kind: Kind) -> bool {
        if self.elsewhere.get().is_some_and(|entries| entries.contains(path)) {
            return true;
        }
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        let name = path.file_name().unwrap_or_default().as_bytes();
        let parent = path.parent().unwrap_or(Path::new(""));
        let is_direct = parent.as_os_str().is_empty();
        if kind == Kind::Directory {
            let is_home =
                |home: &Path| path == home && !self.datadir.join(home).join(DB_OPT).exists();
            return (is_direct && name == REDO_DIRECTORY)
                || self.nested_homes.iter().any(|(home, _)| is_home(home));
        }
        self.names.of(name).is_some_and(|(part, _)| {
            is_direct || self.nested_homes.iter().any(|(home, of)| parent == home && part == *of)
        })
    }

    /// What happens to the joiner's entry of this name; `None` for part of the database.
    fn old(&self, name: &[u8], kind: Kind) -> Option<Old> {
        if kind == Kind::File && self.names.of(name).is_some() {
            return None;
        }
        if self.home_links.contains(name) {
            return Some(Old::Kept);
        }
        let path = Path::new(OsStr::from_bytes(name));
        let is_named = self.named.iter().any(|(named, _)| named == path);
        if kind == Kind::File && (is_named || self.is_relay_log(path)) {
            return Some(Old::Kept);
        }
        let cpat = self.cpat.as_ref();
        if cpat.is_some_and(|cpat| cpat.matches(&self.datadir, &String::from_utf8_lossy(name))) {
            return Some(Old::Kept);
        }
        RULES.iter().find(|rule| rule.is_about(name, kind)).map(|Rule(_, _, old)| *old)
    }

    fn is_relay_log(&self, path: &Path) -> bool {
        self.relay_log.as_ref().is_some_and(|base| {
            // The name of a connection may stand between the base and the number.
            rest_of(path, base).is_some_and(|rest| matches!(rest.first(), Some(b'.' | b'-')))
        })
    }

    fn is_nested_binlog(&self, path: &Path) -> bool {
        let nested = self.binlog.as_ref().filter(|base| base.components().count() > 1);
        nested.and_then(|base| rest_of(path, base)).is_some_and(|rest| {
            [".%%%%%%*", ".index*", ".state", ".~rec~"]
                .iter()
                .any(|pattern| matches(pattern.as_bytes(), rest))
        })
    }
}

/// Whether an entry is a directory, which is all that the rules ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

impl Rule {
    fn is_about(&self, name: &[u8], kind: Kind) -> bool {
        let Self(pattern, of, _) = self;
        let applies = match of {
            Of::Both => true,
            Of::Files => kind == Kind::File,
            Of::Directories => kind == Kind::Directory,
        };
        applies && matches(pattern.as_bytes(), name)
    }
}

impl Filter for NodeFiles {
    fn class(&self, path: &RelPath, kind: FileKind) -> Class {
        let bytes = path.as_bytes();
        let kind = if kind == FileKind::Directory { Kind::Directory } else { Kind::File };
        let mut components = bytes.split(|byte| *byte == b'/');
        let top = components.next().unwrap_or_default();
        let (top_kind, name) = match components.next_back() {
            None => (kind, top),
            Some(name) => (Kind::Directory, name),
        };
        if self.old(top, top_kind).is_some() || self.is_of_other_root(path, kind) {
            return Class::Skip;
        }
        if kind == Kind::Directory {
            return Class::Send;
        }
        let path = Path::new(OsStr::from_bytes(bytes));
        let is_named = self.named.iter().any(|(named, _)| named == path);
        let is_node_file = is_named || self.is_relay_log(path) || self.is_nested_binlog(path);
        if is_node_file || NEVER_SENT_ANYWHERE.iter().any(|p| matches(p.as_bytes(), name)) {
            return Class::Skip;
        }
        if let Some((_, rank)) = LAST.iter().find(|(pattern, _)| matches_path(pattern, bytes)) {
            return Class::Last(*rank);
        }
        match VOLATILE.iter().any(|pattern| matches_path(pattern, bytes)) {
            true => Class::Volatile,
            false => Class::Send,
        }
    }
}

impl Keep for NodeFiles {
    fn keep(&self, name: &[u8]) -> bool {
        if self.links.read().unwrap_or_else(PoisonError::into_inner).contains(name) {
            return true;
        }
        let path = self.datadir.join(OsStr::from_bytes(name));
        // Links are judged by where they lead; one that leads nowhere is a file.
        let kind = match path.is_dir() {
            true => Kind::Directory,
            false => Kind::File,
        };
        self.old(name, kind) == Some(Old::Kept)
    }
}

/// The provider's options that name files of the node.
const PROVIDER: &str = "wsrep-provider-options";

/// Files of the provider that may have other names or places than the rules know.
fn provider_files(settings: &Settings<'_>) -> Vec<String> {
    let options = settings.value(PROVIDER).unwrap_or_default();
    let value = |name: &str| {
        options.split(';').filter_map(|option| option.split_once('=')).find_map(|(key, value)| {
            (key.trim() == name && !value.trim().is_empty()).then(|| value.trim().to_owned())
        })
    };
    let base = value("base_dir").unwrap_or_else(|| ".".to_owned());
    let cache = value("gcache.dir").unwrap_or_else(|| base.clone());
    let cache_name = value("gcache.name").unwrap_or_else(|| "galera.cache".to_owned());
    let inside =
        |directory: &str, name: &str| Path::new(directory).join(name).display().to_string();
    vec![inside(&cache, &cache_name), inside(&base, "grastate.dat"), inside(&base, "gvwstate.dat")]
}

/// What follows `base` in `path`, when both lie in the same directory.
fn rest_of<'a>(path: &'a Path, base: &Path) -> Option<&'a [u8]> {
    path.as_os_str()
        .as_bytes()
        .strip_prefix(base.as_os_str().as_bytes())
        .filter(|rest| !rest.contains(&b'/'))
}

/// As `matches`, but for a path of the same depth as the pattern.
fn matches_path(pattern: &str, path: &[u8]) -> bool {
    let depth = |path: &[u8]| path.iter().filter(|byte| **byte == b'/').count();
    depth(pattern.as_bytes()) == depth(path) && matches(pattern.as_bytes(), path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server_args::ServerArgs;
    use crate::settings::tests::settings;

    fn node(directory: &Path, files: &str, cpat: Option<&str>) -> NodeFiles {
        let (files, explicit) = (ServerArgs::parse_lines(files), ServerArgs::default());
        let settings = settings(&files, &explicit);
        let layout = Layout::resolve(directory, &settings).unwrap();
        NodeFiles::new(&layout, &settings, cpat.map(|cpat| KeepPattern::parse(cpat).unwrap()))
    }

    fn class(node: &NodeFiles, path: &str) -> Class {
        node.class(&RelPath::parse(path.as_bytes()).unwrap(), FileKind::File)
    }

    #[test]
    fn data_is_sent_and_the_parts_have_roots_of_their_own() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("redo")).unwrap();
        let text = "--innodb-data-file-path=sys.000001:1M\n--innodb-log-group-home-dir=redo\n";
        let node = node(directory.path(), text, None);
        for path in ["db1/t.ibd", "db1/db.opt", "ib_buffer_pool", "mysql_upgrade_info", "x.ibd"] {
            assert_eq!(class(&node, path), Class::Send, "{path}");
        }
        for path in ["undo001", "aria_log_control", "ib_logfile0", "redo/ib_logfile0", "ibdata1"] {
            assert_eq!(class(&node, path), Class::Skip, "{path}");
            let name = path.rsplit('/').next().unwrap();
            assert!(!node.keep(name.as_bytes()), "a joiner's {path} makes room");
        }
        assert_eq!(class(&node, "sys.000001"), Class::Skip);
        assert_eq!(class(&node, "redo/undo001"), Class::Send, "of no part there");
        let redo = RelPath::parse(b"redo").unwrap();
        assert_eq!(node.class(&redo, FileKind::Directory), Class::Skip);
        fs::write(directory.path().join("redo/db.opt"), "").unwrap();
        assert_eq!(node.class(&redo, FileKind::Directory), Class::Send, "a database as well");
        assert_eq!(class(&node, "mysql/general_log.CSV"), Class::Volatile);
        assert_eq!(class(&node, "mysql/slow_log.CSM"), Class::Volatile);
        assert_eq!(class(&node, "other/slow_log.CSV"), Class::Send);
    }

    #[test]
    fn files_of_mysql_have_their_places() {
        let directory = tempfile::tempdir().unwrap();
        let node = node(directory.path(), "", None);
        assert_eq!(class(&node, "mysql.ibd"), Class::Send);
        assert_eq!(class(&node, "#ib_16384_0.dblwr"), Class::Last(3));
        for path in ["undo_001", "mine.ibu"] {
            assert_eq!(class(&node, path), Class::Skip, "{path} has a root of its own");
        }
        let redo = RelPath::parse(REDO_DIRECTORY).unwrap();
        assert_eq!(node.class(&redo, FileKind::Directory), Class::Skip);
        for name in ["auto.cnf", "mysqld-auto.cnf", "keyring", "component_keyring_file.cnf"] {
            assert_eq!(class(&node, name), Class::Skip, "{name}");
            assert!(node.keep(name.as_bytes()), "{name}");
        }
        assert!(!node.keep(b"#innodb_redo") && !node.keep(b"#ib_16384_0.dblwr"));
    }

    #[test]
    fn databases_with_the_names_of_node_files_are_sent() {
        let directory = tempfile::tempdir().unwrap();
        let node = node(directory.path(), "", None);
        for name in ["core", "undo_old", "tables_flushed", "ibdata", "sst_error", "rsync_sst"] {
            let path = RelPath::parse(name.as_bytes()).unwrap();
            assert_eq!(node.class(&path, FileKind::Directory), Class::Send, "{name}");
            let table = path.join(b"t.ibd").unwrap();
            assert_eq!(node.class(&table, FileKind::File), Class::Send, "{name}");
            fs::create_dir(directory.path().join(name)).unwrap();
            assert!(!node.keep(name.as_bytes()), "{name}");
        }
        assert_eq!(class(&node, "#rocksdb/000012.log"), Class::Last(2));
    }

    #[test]
    fn the_rules_hold_on_both_ends() {
        let directory = tempfile::tempdir().unwrap();
        let node = node(directory.path(), "", None);
        let kept = [
            "grastate.dat",
            "gvwstate.dat",
            "galera.cache",
            "gcache.page.000001",
            "auto.cnf",
            "ca.pem",
            "host.err",
            "slow.log",
            "audit.log.1",
            "host.pid",
            "mysql.sock",
            "sst_in_progress",
            "wsrep_sst.pid",
            ".bash_history",
            ".fastsst",
            "core.17",
            "my.cnf",
            "h-relay-bin.000001",
            "h-relay-bin.index",
            "master.info",
            "debian-10.11.flag",
        ];
        let removed = [
            "tc.log",
            "ddl_recovery.log",
            "ddl_recovery-backup.log",
            "tables_flushed",
            "tables_flushed.tmp",
            "sst_error",
            "ibtmp1",
            "ib_logfile101",
            "mysql-bin.000001",
            "mysql-bin.index",
            "mysql-bin.state",
            "rsync_sst.conf",
            "xtrabackup_ist",
        ];
        for name in kept.iter().chain(&removed) {
            assert_eq!(class(&node, name), Class::Skip, "{name}");
        }
        assert_eq!(class(&node, "db1/#sql-temptable-1-2-3.MAD"), Class::Skip);
        assert_eq!(class(&node, "db1/#sql-ib12.ibd"), Class::Send);
        assert!(kept.iter().all(|name| node.keep(name.as_bytes())));
        assert!(removed.iter().all(|name| !node.keep(name.as_bytes())));
        assert!(!node.keep(b"ibdata1") && !node.keep(b"db1") && !node.keep(b"dump.sql"));
        assert!(!node.keep(b"aria_log.00000001") && !node.keep(b"ib_logfile0"));
    }

    #[test]
    fn configured_names_are_the_nodes_own() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("logs")).unwrap();
        let text = format!(
            "--log-error=errors\n--general_log_file={}/general\n--socket=/run/s\n\
             --relay-log=r\n--log-bin=logs/b\n--tmpdir=tmp:/tmp\n\
             --wsrep_provider_options=gcache.size=1G; gcache.name = ring\n",
            directory.path().display()
        );
        let node = node(directory.path(), &text, Some(r".*/mine[0-9]*"));
        for name in ["errors", "errors.err", "general", "r.000001", "r-c.000001", "ring", "mine1"] {
            assert_eq!(class(&node, name), Class::Skip, "{name}");
            assert!(node.keep(name.as_bytes()), "{name}");
        }
        assert_eq!(class(&node, "logs/b.000001"), Class::Skip);
        assert_eq!(class(&node, "logs/b.index"), Class::Skip);
        assert_eq!(class(&node, "logs/b.ibd"), Class::Send);
        assert_eq!(class(&node, "rest"), Class::Send);
        node.refuse_nested().unwrap();
        fs::remove_dir(directory.path().join("logs")).unwrap();
        node.make_directories().unwrap();
        assert!(directory.path().join("logs").is_dir() && directory.path().join("tmp").is_dir());
    }

    #[test]
    fn node_files_in_subdirectories_are_refused_by_option() {
        let directory = tempfile::tempdir().unwrap();
        for (text, option) in [
            ("--log-error=logs/e.err\n", "log_error"),
            ("--wsrep-provider-options=gcache.dir=cache\n", "wsrep_provider_options"),
        ] {
            let error = node(directory.path(), text, None).refuse_nested().unwrap_err();
            assert_eq!(error.code(), Code::Unsupported);
            assert!(error.to_string().contains(option), "{error}");
        }
    }

    #[test]
    fn the_table_for_operators_has_every_rule() {
        let text = include_str!("../../docs/OPERATIONS.md");
        let (_, text) = text.split_once("\n## Which files are transferred\n").unwrap();
        for Rule(pattern, _, old) in &RULES {
            let shown = pattern.replace("%%%%%%", "NNNNNN");
            let row = text
                .lines()
                .find(|line| line.starts_with('|') && line.contains(&format!("`{shown}`")))
                .unwrap_or_else(|| panic!("no row for {shown}"));
            let word = if *old == Old::Kept { "kept" } else { "removed" };
            assert!(row.contains(word), "{shown}: {row}");
        }
    }
}
