//! Where the donor's roots go at this end.
//!
//! The donor names the trees it sends ("datadir", "innodb-log", ...); how its directories lie is its own
//! business. Each tree gets a *place* here, a directory in which a new tree is built, and perhaps a
//! *prefix* below it. Several roots may share a place.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use fastsst_proto::frame::Declaration;
use fastsst_proto::manifest::{Entry, EntryKind};
use fastsst_proto::path::RelPath;
use fastsst_proto::{RootIndex, limits};

use super::catalog::Catalog;
use crate::error::{Code, Error, Result};
use crate::staging::{How, Place, Staging};

/// Where a declared root goes.
#[derive(Debug, Clone)]
pub struct Target {
    /// The directory in which it is built.
    pub place: TargetPlace,
    /// Where in that directory; absent: directly in it.
    pub prefix: Option<RelPath>,
}

/// A directory that a declared root goes to.
#[derive(Debug, Clone)]
pub enum TargetPlace {
    /// One of [`super::ReceiveConfig::places`], by its number.
    Known(usize),
    /// One that is only known from the declaration. It must exist; it is locked when the declaration
    /// is accepted. Several that are the same directory are one place, with what the first one keeps.
    New(Place),
}

impl Target {
    /// All of a root goes directly into a place of the configuration.
    #[must_use]
    pub fn known(place: usize) -> Self {
        Self { place: TargetPlace::Known(place), prefix: None }
    }
}

/// The caller's checks, made before anything is touched, and what it adds.
pub trait JoinerPolicy: Send {
    /// Decides whether this donor's files are wanted, and says where each of the declared roots goes,
    /// in their order. For a bypass the answer is empty.
    ///
    /// # Errors
    /// The refusal; the donor is told its code and words.
    fn accept(&mut self, declaration: &Declaration) -> Result<Vec<Target>>;

    /// Small files of the joiner's own that belong to the new trees, such as a list of other files.
    /// Asked once, when everything has arrived and before it is made durable.
    ///
    /// # Errors
    /// Whatever they cannot be made for; it ends the transfer.
    fn own_files(&mut self, names: &DeclaredNames) -> Result<Vec<OwnFile>> {
        let _nothing_to_add = names;
        Ok(Vec::new())
    }
}

/// Wants everything; each root goes to the place of the same name.
#[derive(Debug, Clone)]
pub struct AnyDonor {
    names: Vec<String>,
}

impl AnyDonor {
    /// For these places, of [`super::ReceiveConfig::places`] and in that order.
    #[must_use]
    pub fn for_places(names: &[&str]) -> Self {
        Self { names: names.iter().map(|name| (*name).to_owned()).collect() }
    }
}

impl JoinerPolicy for AnyDonor {
    fn accept(&mut self, declaration: &Declaration) -> Result<Vec<Target>> {
        let to = |root: &String| self.names.iter().position(|name| name == root);
        let targets: Option<Vec<_>> =
            declaration.roots.iter().map(|root| to(root).map(Target::known)).collect();
        targets.ok_or_else(|| {
            Error::new(
                Code::Unsupported,
                format!(
                    "the donor's roots {:?} are not this joiner's {:?}",
                    declaration.roots, self.names
                ),
            )
        })
    }
}

/// Every file that the donor has declared, and has not taken back.
#[derive(Debug, Default)]
pub struct DeclaredNames {
    /// Made when somebody asks: there may be millions, and most joiners add nothing.
    files: OnceCell<Vec<(usize, RelPath)>>,
    catalog: Option<Arc<Catalog>>,
}

impl DeclaredNames {
    /// These files, for tests of a policy.
    #[must_use]
    pub fn of(mut files: Vec<(usize, RelPath)>) -> Self {
        files.sort();
        Self { files: OnceCell::from(files), catalog: None }
    }

    pub(super) fn in_catalog(catalog: &Arc<Catalog>) -> Self {
        Self { files: OnceCell::new(), catalog: Some(Arc::clone(catalog)) }
    }

    /// Each with its root's number in the declaration, and its path there; files with several names
    /// with each of them. Ordered by both.
    #[must_use]
    pub fn files(&self) -> &[(usize, RelPath)] {
        self.files.get_or_init(|| {
            let mut files = self.catalog.as_ref().map_or_else(Vec::new, |it| it.file_names());
            files.sort();
            files
        })
    }

    /// The same of directories and symbolic links, in no order.
    #[must_use]
    pub fn others(&self) -> Vec<(usize, RelPath)> {
        self.catalog.as_ref().map_or_else(Vec::new, |it| it.other_names())
    }
}

/// A small file of the joiner's own.
#[derive(Debug, Clone)]
pub struct OwnFile {
    /// What `path` is relative to.
    pub at: OwnPlace,
    /// Where; directories that are missing are made. It must not be a declared entry.
    pub path: RelPath,
    /// At most 1 MiB.
    pub content: Vec<u8>,
}

/// What the path of a file of the joiner's own is relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnPlace {
    /// Where the declared root of this number goes, its prefix included.
    Root(usize),
    /// A place of [`super::ReceiveConfig::places`], by its number, whatever goes there.
    Place(usize),
}

/// The directories in which a transfer builds, and where each declared root goes in them.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// The leader first; then the other places of the configuration, then those of the declaration.
    stagings: Vec<Arc<Staging>>,
    roots: Vec<RootAt>,
}

/// Where one root goes.
#[derive(Debug, Clone)]
struct RootAt {
    name: String,
    /// Number of its staging.
    staging: usize,
    prefix: Option<RelPath>,
}

impl Layout {
    /// Brings the policy's answer and the stagings together.
    ///
    /// # Errors
    /// E29: a root goes to a place that the configuration does not have. E99: not every root has a
    /// target.
    pub(super) fn new(
        stagings: Vec<Arc<Staging>>,
        names: &[String],
        targets: Vec<(usize, Option<RelPath>)>,
    ) -> Result<Self> {
        if targets.len() != names.len() {
            let what = format!("{} roots have {} targets", names.len(), targets.len());
            return Err(Error::bug(what));
        }
        let roots = names.iter().zip(targets);
        let roots =
            roots.map(|(name, (staging, prefix))| RootAt { name: name.clone(), staging, prefix });
        let roots: Vec<_> = roots.collect();
        if let Some(lost) = roots.iter().find(|root| root.staging >= stagings.len()) {
            let what = format!("the donor's root {} has no place here", lost.name);
            return Err(Error::new(Code::Unsupported, what));
        }
        Ok(Self { stagings, roots })
    }

    /// The directories are going to be changed.
    ///
    /// # Errors
    /// As [`Staging::begin`].
    pub(super) fn take_over(&mut self, how: &How) -> Result<()> {
        Staging::join_forgotten(&mut self.stagings, how)?;
        for (number, staging) in self.stagings.iter().enumerate() {
            let here = self.prefixes().filter(|(_, staging, _)| *staging == number);
            staging.expect_prefixes(here.map(|(_, _, prefix)| prefix.clone()).collect())?;
        }
        Ok(())
    }

    /// Every directory, the leader first.
    pub(super) fn stagings(&self) -> &[Arc<Staging>] {
        &self.stagings
    }

    /// What donor and joiner call a root.
    pub(super) fn name(&self, root: RootIndex) -> &str {
        self.roots.get(usize::from(root.0)).map_or("", |root| root.name.as_str())
    }

    /// Number of the staging of a root.
    pub(super) fn number_of(&self, root: RootIndex) -> Option<usize> {
        self.roots.get(usize::from(root.0)).map(|root| root.staging)
    }

    /// Where a root is built.
    pub(super) fn staging(&self, root: RootIndex) -> Option<&Arc<Staging>> {
        self.staging_of(usize::from(root.0))
    }

    /// Where the root of this number in the declaration is built.
    pub(super) fn staging_of(&self, root: usize) -> Option<&Arc<Staging>> {
        self.roots.get(root).and_then(|root| self.stagings.get(root.staging))
    }

    /// Roots that have a prefix: their numbers, those of their stagings, and it.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = (RootIndex, usize, &RelPath)> {
        self.roots.iter().zip(0_u8..).filter_map(|(root, number)| {
            root.prefix.as_ref().map(|prefix| (RootIndex(number), root.staging, prefix))
        })
    }

    /// Whether names of one root may meet those of another in this staging, or a prefix.
    pub(super) fn is_shared(&self, staging: usize) -> bool {
        let mut here = self.roots.iter().filter(|root| root.staging == staging);
        let first = here.next();
        here.next().is_some() || first.is_some_and(|root| root.prefix.is_some())
    }

    /// An entry as it is in its staging, and that.
    ///
    /// # Errors
    /// E16: its root was not declared. E24: its path gets too long.
    pub(super) fn locate<'a>(&self, entry: &'a Entry) -> Result<(usize, Cow<'a, Entry>)> {
        let Some(root) = self.roots.get(usize::from(entry.root.0)) else {
            let what = format!("{} belongs to an undeclared root", entry.path);
            return Err(Error::new(Code::Protocol, what));
        };
        let Some(prefix) = &root.prefix else { return Ok((root.staging, Cow::Borrowed(entry))) };
        let mut there = entry.clone();
        there.path = below(prefix, entry.path.as_bytes())?;
        if let (EntryKind::HardLink, Some(first)) = (entry.kind, &entry.link_target) {
            there.link_target = Some(below(prefix, first)?.as_bytes().to_vec());
        }
        Ok((root.staging, Cow::Owned(there)))
    }

    /// The staging, and the path in it, of a file of the joiner's own.
    ///
    /// # Errors
    /// E99: there is no such root or place. E24: its path gets too long.
    pub(super) fn locate_own(&self, own: &OwnFile) -> Result<(usize, RelPath)> {
        let nowhere = || Error::bug(format!("{} belongs nowhere: {:?}", own.path, own.at));
        match own.at {
            OwnPlace::Place(number) if number < self.stagings.len() => {
                Ok((number, own.path.clone()))
            }
            OwnPlace::Place(_) => Err(nowhere()),
            OwnPlace::Root(number) => {
                let root = self.roots.get(number).ok_or_else(nowhere)?;
                let path = match &root.prefix {
                    Some(prefix) => below(prefix, own.path.as_bytes())?,
                    None => own.path.clone(),
                };
                Ok((root.staging, path))
            }
        }
    }
}

fn below(prefix: &RelPath, path: &[u8]) -> Result<RelPath> {
    let bytes = [prefix.as_bytes(), b"/", path].concat();
    RelPath::parse(&bytes).map_err(|error| {
        let what = format!(
            "a path below {prefix} gets longer than {} bytes or deeper than {} directories",
            limits::PATH_BYTES_MAX,
            limits::PATH_DEPTH_MAX
        );
        Error::new(Code::Limit, what).because(error)
    })
}
