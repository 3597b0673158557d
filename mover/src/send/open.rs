//! Opens declared files, and sees that they are still what was declared.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastsst_proto::FileId;

use super::catalog::{Catalog, Changed, FileToRead, lock};
use crate::cancel::Cancel;
use crate::disk::{FileMode, OpenFile};
use crate::error::{Error, Result};
use crate::tree::{Dir, Stat};
use crate::walk::Class;

/// What all threads that read files share.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) roots: Vec<Dir>,
    pub(super) catalog: Arc<Mutex<Catalog>>,
    pub(super) changed: Arc<Changed>,
    pub(super) mode: FileMode,
    /// A file is read when its last change is this long ago.
    pub(super) settle: Duration,
    pub(super) cancel: Cancel,
}

impl Source {
    /// What is to be read of these files; `None` for those that are gone.
    pub(super) fn files(&self, ids: &[FileId]) -> Vec<Option<FileToRead>> {
        let catalog = lock(&self.catalog);
        ids.iter().map(|id| catalog.file(*id)).collect()
    }

    /// Opens a file and checks that it is still the one that was declared; `None` when it is not,
    /// which is noted.
    ///
    /// # Errors
    /// It cannot be opened, or the transfer was cancelled.
    pub(super) fn open(&self, id: FileId, found: &FileToRead) -> Result<Option<Arc<OpenFile>>> {
        let root = self.roots.get(usize::from(found.root.0));
        let root = root.ok_or_else(|| Error::bug("an entry of an unknown root"))?;
        let Some((file, mut now)) = root.open_file_read(&found.path, self.mode)? else {
            self.changed.insert(id);
            return Ok(None);
        };
        if let Some(wait) = settles_in(&now, self.settle) {
            self.cancel.sleep(wait)?;
            now = file.stat()?;
        }
        let tolerated = found.class == Class::Volatile && now.size >= found.stat.size;
        if !tolerated && now.differs_from(&found.stat) {
            self.changed.insert(id);
            return Ok(None);
        }
        Ok(Some(Arc::new(file)))
    }
}

/// How long to wait until every later change of the file is seen in its timestamps, so that
/// comparing them after reading proves that what was read is one version.
fn settles_in(stat: &Stat, settle: Duration) -> Option<Duration> {
    let seconds = u64::try_from(stat.ctime.s).ok()?;
    let changed =
        UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(stat.ctime.ns.into());
    // A time in the future (a clock that was set back) says nothing: wait once, then go on.
    let age = SystemTime::now().duration_since(changed).unwrap_or_default();
    settle.checked_sub(age).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_settles_one_tick_after_its_last_change() {
        let file = tempfile::tempfile().unwrap();
        let fresh = Stat::of(&file).unwrap();
        let long = Duration::from_mins(5);
        assert!(settles_in(&fresh, long).is_some_and(|wait| wait <= long));
        let settle = Duration::from_millis(50);
        std::thread::sleep(settle);
        assert_eq!(settles_in(&fresh, settle), None);
    }
}
