//! Whether InnoDB has stopped writing, for servers that answer before it has.
//!
//! MySQL's servers stop InnoDB's writes by a variable, Percona's only after it has told us that the
//! tables are locked (contract 3.4). Nothing says when the last write has been made, so the files
//! are looked at until two looks are alike.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastsst_mover::{Cancel, Error, Result};

use crate::name_pattern::matches;

/// Between two looks. Why: InnoDB's writers wake up several times a second, and a change shows in
/// the times of a file within a clock tick.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// The least time to wait, however quiet it is. Why: the variable may not be set yet.
const AT_LEAST: Duration = Duration::from_secs(1);

/// Files that InnoDB writes, in the data directory or in a directory of it.
const PATTERNS: [&str; 7] =
    ["ibdata*", "ib_logfile*", "#ib_redo*", "*.dblwr", "undo*", "*.ibd", "*.ibu"];

/// Size and times of every file of InnoDB.
type Look = BTreeMap<PathBuf, (u64, [i64; 4])>;

/// Waits until nothing is written any more.
///
/// # Errors
/// E08; the reason to stop, when there is one; that of `check`, which is asked at each look.
pub(crate) fn wait_until_quiet(
    datadir: &Path,
    cancel: &Cancel,
    check: impl Fn() -> Result<()>,
) -> Result<()> {
    let started = Instant::now();
    let mut last = look(datadir)?;
    loop {
        cancel.sleep(BETWEEN_LOOKS)?;
        check()?;
        let now = look(datadir)?;
        if now == last && started.elapsed() >= AT_LEAST {
            return Ok(());
        }
        last = now;
    }
}

fn look(datadir: &Path) -> Result<Look> {
    let mut found = Look::new();
    for directory in add_files(datadir, &mut found)? {
        add_files(&directory, &mut found)?;
    }
    Ok(found)
}

/// Adds the files of one directory; returns its directories.
fn add_files(directory: &Path, found: &mut Look) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::read(directory.display(), error);
    let mut directories = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Dropped meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        let name = name.as_encoded_bytes();
        if metadata.is_dir() && !name.starts_with(b".") {
            directories.push(entry.path());
        } else if PATTERNS.iter().any(|pattern| matches(pattern.as_bytes(), name)) {
            let times =
                [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
            found.insert(entry.path(), (metadata.len(), times));
        }
    }
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_the_last_write_of_innodb_and_for_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let datadir = directory.path().to_owned();
        fs::create_dir(datadir.join("#innodb_redo")).unwrap();
        let redo = datadir.join("#innodb_redo/#ib_redo7");
        fs::write(&redo, "0").unwrap();
        let writer = std::thread::spawn(move || {
            for round in 0..16 {
                fs::write(&redo, format!("{round}")).unwrap();
                std::thread::sleep(Duration::from_millis(100));
            }
            Instant::now()
        });
        let noise = datadir.join("error.log");
        let checks = std::cell::Cell::new(0);
        wait_until_quiet(&datadir, &Cancel::new(), || {
            checks.set(checks.get() + 1);
            fs::write(&noise, format!("{checks:?}")).unwrap();
            Ok(())
        })
        .unwrap();
        let now = Instant::now();
        assert!(now > writer.join().unwrap(), "it did not wait for the writer");
        assert!(checks.get() >= 3, "{checks:?}");
    }
}
