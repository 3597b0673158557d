//! Generated data sets that stay for the next run, because generating takes a while.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::DataSet;
use crate::cancel::Cancel;
use crate::say;
use crate::stats::mib;

/// A directory of data sets, one directory each: `NAME-MIB-vVERSION/{tree,about}`. A data set
/// gets its name when it is complete.
#[derive(Debug, Clone)]
pub(crate) struct Store(PathBuf);

/// Prefix of a data set that is not complete; removed when it is dropped.
const INCOMPLETE: &str = "making-";

/// A data set that is there.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The directory to copy.
    pub(crate) tree: PathBuf,
    /// How it was described when it was generated, with the versions of that day.
    pub(crate) about: String,
}

impl Store {
    /// The data sets in `directory`.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Whether `data` is there.
    pub(crate) fn has(&self, data: &dyn DataSet) -> bool {
        self.place(data).is_dir()
    }

    /// `data`, generated if it is not there yet.
    ///
    /// # Errors
    /// It cannot be generated, or a signal has come.
    pub(crate) fn get(&self, data: &dyn DataSet, cancel: &Cancel) -> Result<Stored> {
        let place = self.place(data);
        if !place.is_dir() {
            say(&format!("generating {}, {:.0} MiB", data.name(), mib(data.bytes())));
            self.make(data, &place, cancel)?;
        }
        let about = fs::read_to_string(place.join("about")).context("a data set lacks its text")?;
        Ok(Stored { tree: place.join("tree"), about })
    }

    fn make(&self, data: &dyn DataSet, place: &Path, cancel: &Cancel) -> Result<()> {
        let cannot = || format!("cannot work in {}", self.0.display());
        fs::create_dir_all(&self.0).with_context(cannot)?;
        let making = tempfile::Builder::new().prefix(INCOMPLETE).tempdir_in(&self.0);
        let making = making.with_context(cannot)?;
        let (whole, scratch) = (making.path().join("whole"), making.path().join("scratch"));
        let tree = whole.join("tree");
        for directory in [&scratch, &whole, &tree] {
            fs::create_dir(directory).with_context(cannot)?;
        }
        data.generate(&tree, &scratch, cancel).context("cannot generate the data")?;
        fs::write(whole.join("about"), data.describe()).with_context(cannot)?;
        match fs::rename(&whole, place) {
            // Somebody else was faster; one is as good as the other.
            Err(_) if place.is_dir() => Ok(()),
            result => result.with_context(cannot),
        }
    }

    fn place(&self, data: &dyn DataSet) -> PathBuf {
        self.0.join(format!("{}-{}-v{}", data.name(), data.mib(), data.version()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::one_file::OneFile;

    #[test]
    fn made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let (store, data) = (Store::new(dir.path().join("data")), OneFile::new(1));
        assert!(!store.has(&data));
        let made = store.get(&data, &Cancel::default()).unwrap();
        fs::write(made.tree.join("mark"), "").unwrap();
        let found = store.get(&data, &Cancel::default()).unwrap();
        assert!(found.tree.join("mark").exists(), "not made again");
        assert_eq!(found.about, data.describe());
        assert!(!store.has(&OneFile::new(2)), "another size is another data set");
    }

    #[test]
    fn nothing_is_left_of_an_interrupted_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned());
        let cancel = Cancel::default();
        cancel.set();
        assert!(store.get(&OneFile::new(1), &cancel).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
