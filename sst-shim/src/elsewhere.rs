//! Tables that lie outside of the data directory: `DATA DIRECTORY`, and databases that are links.
//!
//! | in the data directory | leads to | sent as | at the joiner |
//! |---|---|---|---|
//! | `db/t.isl`, a text | `DIR/db/t.ibd` of `InnoDB` | a root for each `DIR/db` | the same place, or below `[sst] data-directory`; it writes its own `.isl` |
//! | `db/t.MYD`, a link | a file of `MyISAM` or Aria | a root for each directory | in its data directory |
//! | `db`, a link | a directory | a root | behind its own link of this name, else in its data directory |
//!
//! An `InnoDB` table of this kind stays one: with its file in the data directory `MariaDB` 10.11
//! opens it, and dies in the next `ALTER TABLE`. With another directory in the `.isl` it is content.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastsst_mover::tree::FileKind;
use fastsst_mover::walk::{Class, Filter, SourceRoot};
use fastsst_mover::{Code, Error, Result};
use fastsst_proto::RelPath;

/// What the roots are called; a number follows.
const ROOT: &str = "elsewhere-";

/// Largest `.isl` that is read. Unit: bytes. Why: it is one path.
const LINK_BYTES_MAX: u64 = 4096;

/// Of the file system, not of the server, which may not even read it.
pub(crate) const LOST_AND_FOUND: &[u8] = b"lost+found";

/// Files of `MyISAM` and Aria that may be links.
const LINKED: [&str; 4] = ["MYD", "MYI", "MAD", "MAI"];

/// What leads out of the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// An `.isl` file of `InnoDB`.
    Tablespace,
    /// A link to a file of `MyISAM` or Aria.
    File,
    /// A link to a directory.
    Database,
}

impl Kind {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Tablespace, "tablespaces"), (Self::File, "files"), (Self::Database, "database")];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

/// A directory outside with something of a database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Outside {
    pub(crate) kind: Kind,
    /// The database's directory, as it is called in the data directory.
    pub(crate) database: String,
    pub(crate) directory: PathBuf,
}

/// Everything that lies outside, by directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// Names of files that belong to the node; none of a database, which is meant as a whole.
    pub(crate) found: BTreeMap<Outside, BTreeSet<Vec<u8>>>,
    /// The entries of the data directory that lead there.
    pub(crate) entries: BTreeSet<RelPath>,
}

impl Elsewhere {
    /// Looks through the data directory; `home_links` lead to directories of the node's parts.
    ///
    /// # Errors
    /// E29 for what leads out in another way, E08 when something cannot be read.
    pub(crate) fn find(datadir: &Path, home_links: &BTreeSet<Vec<u8>>) -> Result<Self> {
        let mut elsewhere = Self::default();
        for entry in list(datadir)? {
            let (name, path) = (entry.file_name(), entry.path());
            // Hidden directories are no databases.
            let is_hidden = name.as_bytes().starts_with(b".") || name.as_bytes() == LOST_AND_FOUND;
            if is_hidden || home_links.contains(name.as_bytes()) {
                continue;
            }
            let kind = entry.file_type().map_err(|error| Error::read(path.display(), error))?;
            if kind.is_symlink() && path.is_dir() {
                let outside = Outside {
                    kind: Kind::Database,
                    database: text(name.as_bytes(), &path)?,
                    directory: real(&path)?,
                };
                elsewhere.look_into(datadir, &outside.directory, &name)?;
                elsewhere.entries.insert(relative(name.as_bytes())?);
                elsewhere.found.insert(outside, BTreeSet::new());
            } else if kind.is_dir() {
                elsewhere.look_into(datadir, &path, &name)?;
            }
        }
        Ok(elsewhere)
    }

    fn look_into(&mut self, datadir: &Path, directory: &Path, database: &OsStr) -> Result<()> {
        let entries = match list(directory) {
            Ok(entries) => entries,
            // Dropped meanwhile.
            Err(_) if !directory.exists() => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry.path();
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let (kind, target) = match path.extension().map(OsStr::as_bytes) {
                Some(b"isl") => (Kind::Tablespace, linked_tablespace(&path)?),
                _ if is_link => (Kind::File, linked_file(datadir, &path)?),
                _ => continue,
            };
            let Some(target) = target else { continue };
            let name = target.file_name().unwrap_or_default().as_bytes().to_vec();
            let parent = real(target.parent().unwrap_or(Path::new("/")))?;
            let database = text(database.as_bytes(), &path)?;
            let outside = Outside { kind, database, directory: parent };
            let own_name = relative(outside.database.as_bytes())?
                .join(entry.file_name().as_bytes())
                .map_err(|error| {
                    let what = path.display().to_string();
                    Error::new(Code::Unsupported, what).because(error)
                })?;
            self.entries.insert(own_name);
            self.found.entry(outside).or_default().insert(name);
        }
        Ok(())
    }

    /// Whether everything that is found now was found then, in the same directory: a table may have
    /// been made anew in another one under its old name.
    pub(crate) fn has_all_of(&self, now: &Self) -> bool {
        let is_there = |(outside, names): (&Outside, &BTreeSet<Vec<u8>>)| {
            self.found.get(outside).is_some_and(|then| names.is_subset(then))
        };
        now.entries.is_subset(&self.entries) && now.found.iter().all(is_there)
    }

    /// Donor: a root for each directory.
    pub(crate) fn roots(&self) -> Vec<SourceRoot> {
        let root = |(number, (outside, names)): (usize, (&Outside, &BTreeSet<Vec<u8>>))| {
            let filter: Arc<dyn Filter> = match outside.kind {
                Kind::Database => Arc::new(AllBut(self.entries_of(&outside.database))),
                Kind::Tablespace | Kind::File => Arc::new(TheseFiles(names.clone())),
            };
            SourceRoot { name: format!("{ROOT}{number}"), path: outside.directory.clone(), filter }
        };
        self.found.iter().enumerate().map(root).collect()
    }

    /// Entries of a database that lead out of it.
    fn entries_of(&self, database: &str) -> BTreeSet<Vec<u8>> {
        let inside = |entry: &RelPath| {
            let rest = entry.as_bytes().strip_prefix(database.as_bytes())?;
            rest.strip_prefix(b"/").map(<[u8]>::to_vec)
        };
        self.entries.iter().filter_map(inside).collect()
    }

    /// Donor: what a joiner needs to know about these roots.
    ///
    /// # Errors
    /// E29 for a directory whose name is not UTF-8.
    pub(crate) fn properties(&self) -> Result<Vec<(String, String)>> {
        let property = |(number, outside): (usize, &Outside)| {
            let directory = text(outside.directory.as_os_str().as_bytes(), &outside.directory)?;
            let value = format!("{}\t{}\t{directory}", outside.kind.name(), outside.database);
            Ok((format!("{ROOT}{number}"), value))
        };
        self.found.keys().enumerate().map(property).collect()
    }

    /// One line for the log; `None` when there is nothing.
    pub(crate) fn line(&self) -> Option<String> {
        let directories: BTreeSet<_> =
            self.found.keys().map(|outside| outside.directory.display().to_string()).collect();
        let directories: Vec<_> = directories.into_iter().collect();
        (!directories.is_empty()).then(|| directories.join(", "))
    }
}

/// Joiner: what a donor says about a root; `None` for a root that is not outside.
///
/// # Errors
/// E16: the donor's words make no sense.
pub(crate) fn outside_of(root: &str, properties: &[(String, String)]) -> Result<Option<Outside>> {
    if !root.starts_with(ROOT) {
        return Ok(None);
    }
    let wrong = || Error::new(Code::Protocol, format!("the donor does not say what {root} is"));
    let (_, value) = properties.iter().find(|(key, _)| key == root).ok_or_else(wrong)?;
    let mut words = value.splitn(3, '\t');
    let (kind, database, directory) = (words.next(), words.next(), words.next());
    let kind = Kind::ALL.iter().find(|(_, name)| Some(*name) == kind).ok_or_else(wrong)?.0;
    let database = database.filter(|name| !name.is_empty() && !name.contains('/'));
    let database = database.filter(|name| !name.starts_with('.')).ok_or_else(wrong)?.to_owned();
    let directory = directory.map(PathBuf::from).filter(|path| path.is_absolute());
    Ok(Some(Outside { kind, database, directory: directory.ok_or_else(wrong)? }))
}

/// Some files directly in a directory.
#[derive(Debug)]
struct TheseFiles(BTreeSet<Vec<u8>>);

impl Filter for TheseFiles {
    fn class(&self, path: &RelPath, kind: FileKind) -> Class {
        match kind == FileKind::File && self.0.contains(path.as_bytes()) {
            true => Class::Send,
            false => Class::Skip,
        }
    }
}

/// A directory without some of its files.
#[derive(Debug)]
struct AllBut(BTreeSet<Vec<u8>>);

impl Filter for AllBut {
    fn class(&self, path: &RelPath, _: FileKind) -> Class {
        // The directory may be the top of a file system.
        match self.0.contains(path.as_bytes()) || path.as_bytes() == LOST_AND_FOUND {
            true => Class::Skip,
            false => Class::Send,
        }
    }
}

/// Where an `.isl` leads to; `None` if it is gone.
fn linked_tablespace(path: &Path) -> Result<Option<PathBuf>> {
    let mut content = Vec::new();
    let read = fs::File::open(path)
        .and_then(|file| file.take(LINK_BYTES_MAX).read_to_end(&mut content).map(drop));
    match read {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::read(path.display(), error)),
    }
    let target = PathBuf::from(OsStr::from_bytes(content.trim_ascii()));
    let is_it = target.is_absolute()
        && target.file_stem() == path.file_stem()
        && target.extension() == Some(OsStr::new("ibd"));
    if is_it { Ok(Some(target)) } else { Err(unsupported(path, &target)) }
}

/// Where a link leads to; `None` if that is in the data directory, or it is gone.
fn linked_file(datadir: &Path, path: &Path) -> Result<Option<PathBuf>> {
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::read(path.display(), error)),
    };
    if target.starts_with(datadir) {
        return Ok(None);
    }
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    let is_it = LINKED.contains(&extension) && target.is_file();
    match is_it && target.file_name() == path.file_name() {
        true => Ok(Some(target)),
        false => Err(unsupported(path, &target)),
    }
}

fn unsupported(path: &Path, target: &Path) -> Error {
    Error::new(
        Code::Unsupported,
        format!(
            "{} leads out of the datadir to {} in a way that no server makes; replace it by what it \
             leads to, or use another SST method",
            path.display(),
            target.display()
        ),
    )
}

fn text(bytes: &[u8], path: &Path) -> Result<String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| {
        let what = format!("{} is no UTF-8; tables elsewhere need plain names", path.display());
        Error::new(Code::Unsupported, what).because(error)
    })
}

fn relative(name: &[u8]) -> Result<RelPath> {
    RelPath::parse(name).map_err(|error| {
        let what = format!("{} cannot be a path", String::from_utf8_lossy(name));
        Error::new(Code::Unsupported, what).because(error)
    })
}

fn real(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|error| Error::read(path.display(), error))
}

fn list(directory: &Path) -> Result<Vec<fs::DirEntry>> {
    fs::read_dir(directory)
        .and_then(Iterator::collect::<io::Result<_>>)
        .map_err(|error| Error::read(directory.display(), error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(root.path()).unwrap();
        let (datadir, outside) = (base.join("data"), base.join("outside"));
        fs::create_dir_all(datadir.join("db1")).unwrap();
        fs::create_dir_all(outside.join("db1")).unwrap();
        (root, datadir, outside)
    }

    #[test]
    fn what_lies_outside_is_found_by_directory() {
        let (_root, datadir, outside) = tree();
        fs::write(outside.join("db1/t.ibd"), "t").unwrap();
        let isl = outside.join("db1/t.ibd");
        fs::write(datadir.join("db1/t.isl"), isl.to_str().unwrap()).unwrap();
        fs::write(outside.join("m.MYD"), "m").unwrap();
        symlink(outside.join("m.MYD"), datadir.join("db1/m.MYD")).unwrap();
        fs::create_dir(outside.join("db2")).unwrap();
        symlink(outside.join("db2"), datadir.join("db2")).unwrap();
        symlink("t.frm", datadir.join("db1/inside.frm")).unwrap();
        fs::write(datadir.join("db1/t.frm"), "").unwrap();

        let elsewhere = Elsewhere::find(&datadir, &BTreeSet::new()).unwrap();
        let entries: Vec<_> = elsewhere.entries.iter().map(ToString::to_string).collect();
        assert_eq!(entries, ["db1/m.MYD", "db1/t.isl", "db2"]);
        let found: Vec<_> = elsewhere.found.keys().cloned().collect();
        let expected = |kind, database: &str, directory: &str| Outside {
            kind,
            database: database.to_owned(),
            directory: outside.join(directory),
        };
        assert_eq!(
            found,
            [
                expected(Kind::Tablespace, "db1", "db1"),
                expected(Kind::File, "db1", ""),
                expected(Kind::Database, "db2", "db2")
            ]
        );
        let roots = elsewhere.roots();
        let class = |root: usize, name: &str| {
            roots[root].filter.class(&RelPath::parse(name.as_bytes()).unwrap(), FileKind::File)
        };
        assert_eq!((class(0, "t.ibd"), class(0, "u.ibd")), (Class::Send, Class::Skip));
        assert_eq!((class(1, "m.MYD"), class(1, "t.ibd")), (Class::Send, Class::Skip));
        assert_eq!(class(2, "anything"), Class::Send);
        assert_eq!(class(2, "lost+found"), Class::Skip);

        // The joiner learns the same.
        let properties = elsewhere.properties().unwrap();
        for (root, outside) in roots.iter().zip(&found) {
            assert_eq!(outside_of(&root.name, &properties).unwrap().as_ref(), Some(outside));
        }
        assert_eq!(outside_of("datadir", &properties).unwrap(), None);
    }

    #[test]
    fn a_table_that_was_made_anew_in_another_directory_is_noticed() {
        let (_root, datadir, outside) = tree();
        let at = |directory: &str| {
            fs::create_dir_all(outside.join(directory)).unwrap();
            let file = outside.join(directory).join("t.ibd");
            fs::write(&file, "t").unwrap();
            fs::write(datadir.join("db1/t.isl"), file.to_str().unwrap()).unwrap();
            Elsewhere::find(&datadir, &BTreeSet::new()).unwrap()
        };
        let (then, moved) = (at("one/db1"), at("two/db1"));
        assert_eq!(then.entries, moved.entries);
        assert!(then.has_all_of(&then) && !then.has_all_of(&moved));
        assert!(then.has_all_of(&Elsewhere::default()), "what was dropped is no matter");
    }

    #[test]
    fn a_link_to_a_directory_of_the_node_is_no_database() {
        use crate::layout::Layout;
        use crate::server_args::ServerArgs;
        use crate::settings::tests::settings;

        let (_root, datadir, outside) = tree();
        for name in ["redo", "logs/bin", "db2"] {
            fs::create_dir_all(outside.join(name)).unwrap();
        }
        for name in ["redo", "logs", "db2"] {
            symlink(outside.join(name), datadir.join(name)).unwrap();
        }
        let files = ServerArgs::parse_lines("--innodb-log-group-home-dir=redo\n");
        let explicit = ServerArgs::default();
        let layout = Layout::resolve(&datadir, &settings(&files, &explicit)).unwrap();
        let links = layout.links_to_homes(&[&outside.join("logs/bin")]);
        assert_eq!(links, BTreeSet::from([b"logs".to_vec(), b"redo".to_vec()]));
        let found = Elsewhere::find(&datadir, &links).unwrap().found;
        let databases: Vec<_> = found.keys().map(|outside| outside.database.as_str()).collect();
        assert_eq!(databases, ["db2"]);

        // They stay at a joiner, and are not sent by a donor.
        use fastsst_mover::staging::Keep as _;
        let node = crate::files::NodeFiles::new(&layout, &settings(&files, &explicit), None);
        let node = node.with_home_links(links);
        assert!(node.keep(b"redo") && node.keep(b"logs") && !node.keep(b"db2"));
        let redo = RelPath::parse(b"redo").unwrap();
        assert_eq!(node.class(&redo, FileKind::Symlink), Class::Skip);
    }

    #[test]
    fn a_donor_that_makes_no_sense_is_refused() {
        for value in [
            "",
            "tablespaces",
            "tablespaces\tdb",
            "x\tdb\t/d",
            "files\tdb\td",
            "files\t..\t/d",
            "files\ta/b\t/d",
        ] {
            let properties = vec![("elsewhere-0".to_owned(), value.to_owned())];
            let error = outside_of("elsewhere-0", &properties).unwrap_err();
            assert_eq!(error.code(), Code::Protocol, "{value:?}");
        }
        assert!(outside_of("elsewhere-0", &[]).is_err());
    }

    #[test]
    fn links_that_no_server_makes_are_refused_by_name() {
        let (_root, datadir, outside) = tree();
        fs::write(outside.join("t.ibd"), "").unwrap();
        fs::write(outside.join("other.MYD"), "").unwrap();
        let refused = |path: &str| {
            let error = Elsewhere::find(&datadir, &BTreeSet::new()).unwrap_err();
            assert_eq!(error.code(), Code::Unsupported);
            assert!(error.to_string().contains(path), "{error}");
            fs::remove_file(datadir.join(path)).unwrap();
        };
        symlink(outside.join("t.ibd"), datadir.join("db1/t.ibd")).unwrap();
        refused("db1/t.ibd");
        symlink(outside.join("other.MYD"), datadir.join("db1/t.MYD")).unwrap();
        refused("db1/t.MYD");
        for text in ["relative/t.ibd", "/outside/u.ibd", "/outside/t.txt", ""] {
            fs::write(datadir.join("db1/t.isl"), text).unwrap();
            refused("db1/t.isl");
        }
        assert_eq!(Elsewhere::find(&datadir, &BTreeSet::new()).unwrap(), Elsewhere::default());
    }
}
