//! Joiner: the directories in which the new data are built, and what of them makes room.
//!
//! The first is the data directory. What lies directly in it or below it is built there; each
//! other directory is a place of its own, and of it only the files of its part are touched:
//! other things in `/var/log/mysql` are somebody else's.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastsst_mover::receive::{Target, TargetPlace};
use fastsst_mover::staging::{Keep, Place};
use fastsst_mover::{Code, Error, Result};
use fastsst_proto::RelPath;

use crate::binlogs::{Binlogs, Replaced};
use crate::elsewhere::{Elsewhere, Kind, LOST_AND_FOUND};
use crate::files::NodeFiles;
use crate::layout::{Layout, make_directory};
use crate::parts::{Part, PartNames};

/// The directories of a joiner.
#[derive(Debug)]
pub(crate) struct Places {
    datadir: PathBuf,
    files: Arc<NodeFiles>,
    /// All but the data directory.
    others: Vec<Other>,
}

/// A directory outside, and what of it is the server's.
#[derive(Debug, Clone, Default)]
struct Other {
    path: PathBuf,
    what: Vec<String>,
    ours: Ours,
}

/// What of a directory is the server's.
#[derive(Debug, Clone, Default)]
struct Ours {
    parts: Vec<Part>,
    names: PartNames,
    binlogs: Replaced,
    tables: BTreeSet<Vec<u8>>,
}

impl Keep for Ours {
    fn keep(&self, name: &[u8]) -> bool {
        let is_ours = self.parts.iter().any(|part| self.names.replaces(*part, name))
            || self.binlogs.has(name)
            || self.tables.contains(name);
        !is_ours
    }
}

/// For a directory that is a database as a whole.
#[derive(Debug)]
struct KeepNothing;

impl Keep for KeepNothing {
    fn keep(&self, name: &[u8]) -> bool {
        // It may be the top of a file system.
        name == LOST_AND_FOUND
    }
}

impl Places {
    /// Of the parts, the binary logs, and the tables that the node has elsewhere now.
    ///
    /// # Errors
    /// E03, E07 or E09: a directory cannot be made. E08.
    pub(crate) fn new(
        layout: &Layout,
        files: &Arc<NodeFiles>,
        binlogs: Option<&Binlogs>,
        elsewhere: &Elsewhere,
    ) -> Result<Self> {
        let mut places =
            Self { datadir: layout.datadir.clone(), files: Arc::clone(files), others: Vec::new() };
        for part in Part::ALL {
            if let Some(other) = places.other(layout.home(part)) {
                other.what.push(part.words().to_owned());
                other.ours.parts.push(part);
                other.ours.names = layout.names();
            }
        }
        if let Some(binlogs) = binlogs {
            let directories = [
                (&binlogs.directory, "binary logs", "log-bin"),
                (&binlogs.index_directory, "binary log index", "log-bin-index"),
            ];
            for (directory, what, option) in directories {
                make_directory(directory, option)?;
                let replaced = binlogs.replaced(directory)?;
                if let Some(other) = places.other(directory) {
                    other.what.push(what.to_owned());
                    other.ours.binlogs = replaced;
                }
            }
        }
        for (outside, names) in &elsewhere.found {
            if outside.kind == Kind::Tablespace
                && let Some(other) = places.other(&outside.directory)
            {
                other.what.push(tables_of(&outside.database));
                other.ours.tables.extend(names.iter().cloned());
            }
        }
        Ok(places)
    }

    /// The place of a directory outside; `None` if it is the data directory or below.
    fn other(&mut self, path: &Path) -> Option<&mut Other> {
        if self.below(path).is_some() {
            return None;
        }
        let found = self.others.iter().position(|other| other.path == path);
        let number = found.unwrap_or_else(|| {
            self.others.push(Other { path: path.to_owned(), ..Other::default() });
            self.others.len() - 1
        });
        self.others.get_mut(number)
    }

    /// Where a directory lies below the data directory, unless what is there is kept.
    fn below<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let below = path.strip_prefix(&self.datadir).ok()?;
        let top = below.components().next().map(|top| top.as_os_str().as_bytes());
        top.is_none_or(|top| !self.files.keep(top)).then_some(below)
    }

    /// For the engine, the data directory first.
    pub(crate) fn for_engine(&self) -> Vec<Place> {
        let others = self.others.iter().map(|other| Place {
            name: other.what.join(", "),
            path: other.path.clone(),
            keep: Arc::new(other.ours.clone()),
        });
        let datadir = place_of_datadir(&self.datadir, &self.files);
        std::iter::once(datadir).chain(others).collect()
    }

    /// Where what belongs into a directory goes.
    ///
    /// # Errors
    /// E29: the directory's name cannot be a path of the protocol. E99: it has no place.
    pub(crate) fn target(&self, directory: &Path) -> Result<Target> {
        if let Some(below) = self.below(directory) {
            let prefix = match below.as_os_str().is_empty() {
                true => None,
                false => Some(prefix(below.as_os_str().as_bytes())?),
            };
            return Ok(Target { place: TargetPlace::Known(0), prefix });
        }
        let number = self.others.iter().position(|other| other.path == directory);
        let number =
            number.ok_or_else(|| Error::bug(format!("{} has no place", directory.display())))?;
        Ok(Target { place: TargetPlace::Known(number + 1), prefix: None })
    }

    /// Where tables go whose donor has them in a directory outside: the same directory here, of
    /// which nothing but what was theirs before makes room.
    ///
    /// # Errors
    /// As [`Places::target`].
    pub(crate) fn target_of_tables(&self, directory: &Path, what: &str) -> Result<Target> {
        let directory = crate::layout::resolved(directory);
        if self.others.iter().any(|other| other.path == directory)
            || self.below(&directory).is_some()
        {
            return self.target(&directory);
        }
        let keep = Arc::new(Ours::default());
        let place = Place { name: tables_of(what), path: directory, keep };
        Ok(Target { place: TargetPlace::New(place), prefix: None })
    }

    /// Where a database goes that is behind a link: all of the directory makes room.
    ///
    /// # Errors
    /// As [`Places::target`].
    pub(crate) fn target_of_database(&self, directory: &Path, what: &str) -> Result<Target> {
        if self.others.iter().any(|other| other.path == directory) {
            return Err(Error::new(
                Code::Unsupported,
                format!(
                    "{} holds the database {what} and other files of the server; give them \
                     directories of their own",
                    directory.display()
                ),
            ));
        }
        let keep = Arc::new(KeepNothing);
        let place = Place { name: what.to_owned(), path: directory.to_owned(), keep };
        Ok(Target { place: TargetPlace::New(place), prefix: None })
    }

    /// One line for the log; `None` when everything is in the data directory.
    pub(crate) fn line(&self) -> Option<String> {
        let line =
            |other: &Other| format!("{} in {}", other.what.join(" and "), other.path.display());
        let lines: Vec<_> = self.others.iter().map(line).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }
}

/// The data directory alone.
pub(crate) fn datadir(layout: &Layout, files: &Arc<NodeFiles>) -> Place {
    place_of_datadir(&layout.datadir, files)
}

fn place_of_datadir(path: &Path, files: &Arc<NodeFiles>) -> Place {
    let keep: Arc<dyn Keep> = Arc::clone(files) as _;
    Place { name: "datadir".to_owned(), path: path.to_owned(), keep }
}

/// Tables of a database, for messages and for the journal of their place.
fn tables_of(database: &str) -> String {
    format!("tables of {database}")
}

/// A path below a place.
///
/// # Errors
/// E29.
pub(crate) fn prefix(path: &[u8]) -> Result<RelPath> {
    RelPath::parse(path).map_err(|error| {
        let what = format!("{} cannot be a path", String::from_utf8_lossy(path));
        Error::new(Code::Unsupported, what).because(error)
    })
}
