//! Joiner: what of a donor is wanted, where it goes, and what is added to it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fastsst_mover::receive::{DeclaredNames, JoinerPolicy, OwnFile, OwnPlace, Target, TargetPlace};
use fastsst_mover::summary::mib;
use fastsst_mover::{Code, Error, Result};
use fastsst_proto::Declaration;

use crate::binlogs;
use crate::elsewhere::{Elsewhere, Kind, Outside, outside_of};
use crate::layout::make_directory;
use crate::parts::Part;
use crate::places::{Places, prefix};
use crate::session::{ROOT, Session};

/// The joiner's side of the agreement about roots.
#[derive(Debug)]
pub(crate) struct Policy<'a> {
    session: &'a Session,
    places: &'a Places,
    /// What this node has outside of its data directory now.
    elsewhere: &'a Elsewhere,
    /// Databases that are links at both ends: the number of their root, and where the link leads.
    linked: BTreeMap<String, (usize, PathBuf)>,
    /// Root of the donor's binary logs, by its number in the declaration.
    binlog: Option<usize>,
    /// Roots with tablespaces of `DATA DIRECTORY`: database, and directory here.
    tablespaces: BTreeMap<usize, (String, PathBuf)>,
}

impl<'a> Policy<'a> {
    pub(crate) fn new(session: &'a Session, places: &'a Places, elsewhere: &'a Elsewhere) -> Self {
        let (linked, tablespaces) = (BTreeMap::new(), BTreeMap::new());
        Self { session, places, elsewhere, linked, binlog: None, tablespaces }
    }

    /// Says what to do about a file that is in the way of a table outside of the datadir.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let nothing_outside = self.tablespaces.is_empty() && self.binlog.is_none();
        if error.code() != Code::UnsafePath || nothing_outside {
            return error;
        }
        Error::new(
            error.code(),
            "a file that is none of this node's may be in the way of a DATA DIRECTORY table or a binary \
             log; remove it if no server uses it, or set [sst] data-directory on this node, or \
             sst-max-binlogs=0 on the donor",
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
            Some(outside) => self.target_of(number, outside, declaration),
            None => Err(Error::new(
                Code::Unsupported,
                format!("the donor sends {root:?}, which this release does not know; use the same"),
            )),
        }
    }

    fn target_of(
        &mut self,
        number: usize,
        outside: Outside,
        declaration: &Declaration,
    ) -> Result<Target> {
        let Outside { kind, database, directory } = outside;
        match kind {
            // A file of a database goes where the database is.
            Kind::File | Kind::Database => match self.linked.get(&database) {
                Some((_, own)) => self.places.target_of_database(own, &database),
                None => Ok(Target {
                    place: TargetPlace::Known(0),
                    prefix: Some(prefix(database.as_bytes())?),
                }),
            },
            Kind::Tablespace => {
                let here = match &self.session.options.data_directory {
                    Some(base) => base.join(&database),
                    None => directory,
                };
                if declaration.is_estimate() && !here.is_dir() {
                    // Nothing is made for a mere look, and nothing can be there.
                    return Ok(Target::known(0));
                }
                make_directory(&here, "DATA DIRECTORY")?;
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

    /// Finds the databases that are links at both ends, keeps their links, and says which do not stay.
    fn settle_links(&mut self, declaration: &Declaration) -> Result<()> {
        for (number, root) in declaration.roots.iter().enumerate() {
            if let Some(outside) = outside_of(root, &declaration.properties)?
                && outside.kind == Kind::Database
                && let Some(own) = self.own_link(&outside.database)
            {
                self.linked.insert(outside.database, (number, own));
            }
        }
        for outside in self.elsewhere.found.keys() {
            if outside.kind == Kind::Database && !self.linked.contains_key(&outside.database) {
                tracing::warn!(
                    "the database directory {} is no link at the donor: it will be in the datadir \
                     here, too; what is in {} stays there and is not used any more",
                    outside.database,
                    outside.directory.display()
                );
            }
        }
        let kept = self.linked.keys().map(|name| name.clone().into_bytes()).collect();
        self.session.files.keep_links(kept);
        Ok(())
    }
}

impl JoinerPolicy for Policy<'_> {
    fn accept(&mut self, declaration: &Declaration) -> Result<Vec<Target>> {
        // IST needs nothing of this: the node's own files are used.
        if declaration.is_bypass() {
            return Ok(Vec::new());
        }
        self.session.facts.check(&declaration.properties)?;
        // An estimate, or a donor that left, may have been here before.
        self.linked.clear();
        self.tablespaces.clear();
        self.binlog = None;
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
        let (mut own, mut logs) = (Vec::new(), Vec::new());
        if self.binlog.is_none() && self.tablespaces.is_empty() {
            // The list may be long.
            return Ok(own);
        }
        // These directories may be anywhere, and other things may be in them.
        let only_files = |root| Some(root) == self.binlog || self.tablespaces.contains_key(&root);
        if let Some((_, path)) = names.others().into_iter().find(|(root, _)| only_files(*root)) {
            let what =
                format!("the donor sends {path}, which is no file, among tables elsewhere or logs");
            return Err(Error::new(Code::Protocol, what));
        }
        for (root, path) in names.files() {
            if Some(*root) == self.binlog {
                binlogs::check_name(path.as_bytes())?;
                logs.push(path.as_bytes().to_vec());
            }
            if let Some((database, directory)) = self.tablespaces.get(root) {
                let (at, parent) = match self.linked.get(database) {
                    Some((root, _)) => (OwnPlace::Root(*root), String::new()),
                    None => (OwnPlace::Place(0), format!("{database}/")),
                };
                let (stem, content) = link_of_tablespace(directory, path.as_bytes())?;
                let path = prefix(&[parent.as_bytes(), &stem, b".isl"].concat())?;
                own.push(OwnFile { at, path, content });
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

/// Name without extension and content of the `.isl` by which the server finds `directory/NAME.ibd`.
fn link_of_tablespace(directory: &Path, name: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let stem = name.strip_suffix(b".ibd").filter(|stem| !stem.is_empty() && !stem.contains(&b'/'));
    let stem = stem.ok_or_else(|| {
        let name = String::from_utf8_lossy(name).into_owned();
        Error::new(Code::Protocol, format!("the donor sends {name:?} as a table elsewhere"))
    })?;
    let content = [directory.as_os_str().as_bytes(), b"/", name].concat();
    Ok((stem.to_vec(), content))
}
