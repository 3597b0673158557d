//! Joiner: what of a donor is wanted, where it goes, and what is added to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fastsst_mover::receive::{DeclaredNames, JoinerPolicy, OwnFile, OwnPlace, Target, TargetPlace};
use fastsst_mover::summary::mib;
use fastsst_mover::{Code, Error, Result};
use fastsst_proto::Declaration;

use crate::binlogs;
use crate::elsewhere::{Kind, Outside, outside_of};
use crate::parts::Part;
use crate::places::{Places, prefix};
use crate::session::{ROOT, Session};

/// The joiner's side of the agreement about roots.
#[derive(Debug)]
pub(crate) struct Policy<'a> {
    session: &'a Session,
    places: &'a Places,
    /// Root of the donor's binary logs, by its number in the declaration.
    binlog: Option<usize>,
    /// Roots with tablespaces of `DATA DIRECTORY`: database, and directory here.
    tablespaces: BTreeMap<usize, (String, PathBuf)>,
}

impl<'a> Policy<'a> {
    pub(crate) fn new(session: &'a Session, places: &'a Places) -> Self {
        Self { session, places, binlog: None, tablespaces: BTreeMap::new() }
    }

    /// Says what to do about a file that is in the way of a table outside of the datadir.
    pub(crate) fn explain(&self, error: Error) -> Error {
        if error.code() != Code::UnsafePath || self.tablespaces.is_empty() {
            return error;
        }
        Error::new(
            error.code(),
            "a file that is no table of this node may be in the way of a DATA DIRECTORY table; \
             remove it if no server uses it, or set [sst] data-directory",
        )
        .because(error)
    }

    fn target(&mut self, number: usize, root: &str, declaration: &Declaration) -> Result<Target> {
        if root == ROOT {
            return Ok(Target::known(0));
        }
        if let Some(part) = Part::ALL.into_iter().find(|part| part.root() == root) {
            return self.places.target(self.session.layout.home(part));
        }
        if let (binlogs::ROOT, Some(binlogs)) = (root, &self.session.binlogs) {
            self.binlog = Some(number);
            return self.places.target(&binlogs.directory);
        }
        match outside_of(root, &declaration.properties)? {
            Some(outside) => self.target_of(number, outside),
            None => Err(Error::new(
                Code::Unsupported,
                format!("the donor sends {root:?}, which this release does not know; use the same"),
            )),
        }
    }

    fn target_of(&mut self, number: usize, outside: Outside) -> Result<Target> {
        let Outside { kind, database, directory } = outside;
        let inside = || Ok::<_, Error>(Some(prefix(database.as_bytes())?));
        match kind {
            Kind::File => Ok(Target { place: TargetPlace::Known(0), prefix: inside()? }),
            Kind::Database => match self.own_link(&database) {
                Some(own) => self.places.target_of_database(&own, &database),
                None => Ok(Target { place: TargetPlace::Known(0), prefix: inside()? }),
            },
            Kind::Tablespace => {
                let here = match &self.session.options.data_directory {
                    Some(base) => base.join(&database),
                    None => directory,
                };
                let target = self.places.target_of_tables(&here, &database)?;
                self.tablespaces.insert(number, (database, here));
                Ok(target)
            }
        }
    }

    /// Where the joiner's own link of this name leads to, when that is outside.
    fn own_link(&self, database: &str) -> Option<PathBuf> {
        let datadir = &self.session.layout.datadir;
        let link = datadir.join(database);
        let target = fs::canonicalize(&link).ok().filter(|target| target.is_dir())?;
        (link.is_symlink() && !target.starts_with(datadir)).then_some(target)
    }

    /// Keeps the links of databases that stay elsewhere, and says which do not.
    fn settle_links(&self, declaration: &Declaration) -> Result<()> {
        let mut kept = BTreeSet::new();
        for root in &declaration.roots {
            if let Some(outside) = outside_of(root, &declaration.properties)?
                && outside.kind == Kind::Database
                && self.own_link(&outside.database).is_some()
            {
                kept.insert(outside.database.into_bytes());
            }
        }
        for outside in self.session.elsewhere.found.keys() {
            if outside.kind == Kind::Database && !kept.contains(outside.database.as_bytes()) {
                tracing::warn!(
                    "the database directory {} is no link at the donor: it will be in the datadir \
                     here, too; what is in {} stays there and is not used any more",
                    outside.database,
                    outside.directory.display()
                );
            }
        }
        self.session.files.keep_links(kept)
    }
}

impl JoinerPolicy for Policy<'_> {
    fn accept(&mut self, declaration: &Declaration) -> Result<Vec<Target>> {
        // IST needs nothing of this: the node's own files are used.
        if declaration.is_bypass() {
            return Ok(Vec::new());
        }
        self.session.facts.check(&declaration.properties)?;
        tracing::info!(
            "the donor sends a full copy, about {:.0} MiB in {} files",
            mib(declaration.bytes_estimate),
            declaration.files_estimate
        );
        self.settle_links(declaration)?;
        let roots = declaration.roots.iter().enumerate();
        roots.map(|(number, root)| self.target(number, root, declaration)).collect()
    }

    fn own_files(&mut self, names: &DeclaredNames) -> Result<Vec<OwnFile>> {
        let mut own = Vec::new();
        let mut logs = Vec::new();
        for (root, path) in names.files() {
            if Some(*root) == self.binlog {
                binlogs::check_name(path.as_bytes())?;
                logs.push(path.as_bytes().to_vec());
            }
            if let Some((database, directory)) = self.tablespaces.get(root) {
                own.push(link_of_tablespace(database, directory, path.as_bytes())?);
            }
        }
        if let (Some(binlogs), false) = (&self.session.binlogs, logs.is_empty()) {
            let Target { place, prefix: at } = self.places.target(&binlogs.index_directory)?;
            let TargetPlace::Known(place) = place else {
                return Err(Error::bug("the binary log index has no place"));
            };
            let name = binlogs.index_name.as_bytes();
            let path = match at {
                Some(at) => at.join(name).map_err(|error| {
                    Error::new(Code::Unsupported, "the binary log index").because(error)
                })?,
                None => prefix(name)?,
            };
            let content = binlogs.index_of(&logs);
            own.push(OwnFile { at: OwnPlace::Place(place), path, content });
        }
        Ok(own)
    }
}

/// The `.isl` by which the server finds `directory/NAME.ibd`.
fn link_of_tablespace(database: &str, directory: &Path, name: &[u8]) -> Result<OwnFile> {
    let stem = name.strip_suffix(b".ibd").filter(|stem| !stem.is_empty() && !stem.contains(&b'/'));
    let stem = stem.ok_or_else(|| {
        let name = String::from_utf8_lossy(name).into_owned();
        Error::new(Code::Protocol, format!("the donor sends {name:?} as a table elsewhere"))
    })?;
    let path = prefix(&[database.as_bytes(), b"/", stem, b".isl"].concat())?;
    let content = [directory.as_os_str().as_bytes(), b"/", name].concat();
    Ok(OwnFile { at: OwnPlace::Place(0), path, content })
}
