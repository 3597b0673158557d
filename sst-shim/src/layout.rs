//! Where the server keeps its files, and whether this release can transfer them from there.
//!
//! Everything must lie in the data directory; what lies elsewhere would be missing on the joiner,
//! so it is refused by name instead of being left out.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use fastsst_mover::{Code, Error, Result};

use crate::settings::Settings;

/// Options that may move part of the data elsewhere.
const DIRECTORIES: [&str; 4] = [
    "innodb-data-home-dir",
    "innodb-log-group-home-dir",
    "innodb-undo-directory",
    "aria-log-dir-path",
];

/// The directories of one node.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Absolute and free of symbolic links.
    pub(crate) datadir: PathBuf,
    /// Files of InnoDB's system tablespace, as configured.
    pub(crate) system_files: Vec<String>,
}

impl Layout {
    /// Finds the directories and checks that they are one.
    ///
    /// # Errors
    /// E03 for a data directory that cannot be opened, E29 for one that is only part of the data.
    pub(crate) fn resolve(datadir: &Path, settings: &Settings<'_>) -> Result<Self> {
        let canonical = fs::canonicalize(datadir).and_then(|path| {
            fs::read_dir(&path)?;
            Ok(path)
        });
        let datadir = canonical.map_err(|error| {
            Error::new(Code::Access, format!("cannot open the datadir {}", datadir.display()))
                .because(error)
        })?;
        for option in DIRECTORIES {
            if let Some(value) = settings.value(option) {
                check_directory(&datadir, option, &value)?;
            }
        }
        let system_files = system_files(settings.value("innodb-data-file-path").as_deref());
        for file in &system_files {
            if relative_to(&datadir, Path::new(file))
                .is_none_or(|path| path.components().count() > 1)
            {
                return Err(elsewhere("innodb_data_file_path", file));
            }
        }
        Ok(Self { datadir, system_files })
    }

    /// Refuses tables that lie outside: those of `DATA DIRECTORY`, and databases behind symbolic
    /// links. They would be missing on the joiner.
    ///
    /// # Errors
    /// E29 naming the first; E08 when a directory cannot be read.
    pub(crate) fn refuse_tables_elsewhere(&self) -> Result<()> {
        for entry in list(&self.datadir)? {
            let path = entry.path();
            let kind = entry.file_type().map_err(|error| Error::read(path.display(), error))?;
            // Hidden directories are no databases.
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_symlink() && path.is_dir() {
                return Err(linked(&path));
            }
            if kind.is_dir() && entry.file_name() != "lost+found" {
                self.check_database(&path)?;
            }
        }
        Ok(())
    }

    fn check_database(&self, database: &Path) -> Result<()> {
        let entries = match list(database) {
            Ok(entries) => entries,
            // Dropped meanwhile.
            Err(_) if !database.exists() => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry.path();
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let is_outside =
                || fs::canonicalize(&path).is_ok_and(|target| !target.starts_with(&self.datadir));
            if path.extension().is_some_and(|extension| extension == "isl")
                || (is_link && is_outside())
            {
                return Err(linked(&path));
            }
        }
        Ok(())
    }
}

/// `path`, which may be relative to the data directory, as a path below it; `None` if it is not.
pub(crate) fn relative_to(datadir: &Path, path: &Path) -> Option<PathBuf> {
    let whole = datadir.join(path);
    // The file need not exist, its directory usually does.
    let whole = match (whole.parent().map(fs::canonicalize), whole.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => whole,
    };
    let below = whole.strip_prefix(datadir).ok()?;
    let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && below.components().next().is_some()).then(|| below.to_owned())
}

fn check_directory(datadir: &Path, option: &str, value: &str) -> Result<()> {
    let path = datadir.join(value);
    // A directory that does not exist yet is compared as it is written.
    let real = fs::canonicalize(&path).unwrap_or_else(|_| path.components().collect());
    let same = real.components().filter(|part| *part != Component::CurDir);
    match same.eq(datadir.components()) {
        true => Ok(()),
        false => Err(elsewhere(&option.replace('-', "_"), value)),
    }
}

/// File names of `innodb_data_file_path`: `name:size[:autoextend...];name:size`.
fn system_files(value: Option<&str>) -> Vec<String> {
    let value = value.unwrap_or("ibdata1:12M:autoextend");
    let names = value.split(';').filter_map(|part| part.split(':').next());
    names.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn list(directory: &Path) -> Result<Vec<fs::DirEntry>> {
    fs::read_dir(directory)
        .and_then(Iterator::collect::<io::Result<_>>)
        .map_err(|error| Error::read(directory.display(), error))
}

fn elsewhere(option: &str, value: &str) -> Error {
    Error::new(
        Code::Unsupported,
        format!(
            "{option}={value} is not the datadir; this release transfers only what lies in the \
             datadir, use another SST method for this node"
        ),
    )
}

fn linked(path: &Path) -> Error {
    Error::new(
        Code::Unsupported,
        format!(
            "{} leads out of the datadir (DATA DIRECTORY or a symbolic link); this release \
             transfers only what lies in the datadir, use another SST method",
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::server_args::ServerArgs;
    use crate::settings::tests::settings;

    fn resolve(datadir: &Path, files: &str) -> Result<Layout> {
        let (files, explicit) = (ServerArgs::parse_lines(files), ServerArgs::default());
        Layout::resolve(datadir, &settings(&files, &explicit))
    }

    #[test]
    fn the_datadir_under_any_name_is_accepted() {
        let root = tempfile::tempdir().unwrap();
        let datadir = root.path().join("data");
        fs::create_dir(&datadir).unwrap();
        symlink(&datadir, root.path().join("link")).unwrap();
        let text = format!(
            "--innodb-data-home-dir=.\n--innodb-log-group-home-dir=./\n--aria-log-dir-path={0}/\n\
             --innodb-undo-directory={1}/link\n--innodb_data_file_path=a:1M;b:2M:autoextend\n",
            datadir.display(),
            root.path().display()
        );
        let layout = resolve(&root.path().join("link"), &text).unwrap();
        assert_eq!(layout.datadir, fs::canonicalize(&datadir).unwrap());
        assert_eq!(layout.system_files, ["a", "b"]);
    }

    #[test]
    fn other_directories_are_refused_by_the_name_of_their_option() {
        let root = tempfile::tempdir().unwrap();
        for (option, value) in [
            ("innodb_undo_directory", "undo"),
            ("innodb_data_home_dir", "/elsewhere"),
            ("innodb_log_group_home_dir", ".."),
            ("aria_log_dir_path", "./aria"),
            ("innodb_data_file_path", "/raw/ibdata1:1G"),
            ("innodb_data_file_path", "sub/ibdata1:1G"),
        ] {
            let error = resolve(root.path(), &format!("--{option}={value}\n")).unwrap_err();
            assert_eq!(error.code(), Code::Unsupported);
            assert!(error.to_string().contains(option), "{error}");
        }
        assert_eq!(resolve(Path::new("/nonexistent"), "").unwrap_err().code(), Code::Access);
    }

    #[test]
    fn tables_elsewhere_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let datadir = root.path().join("data");
        fs::create_dir_all(datadir.join("db1")).unwrap();
        fs::create_dir(root.path().join("outside")).unwrap();
        fs::write(root.path().join("outside/t.ibd"), "").unwrap();
        let layout = resolve(&datadir, "").unwrap();
        symlink("t1.frm", datadir.join("db1/inside.frm")).unwrap();
        fs::write(datadir.join("db1/t1.frm"), "").unwrap();
        layout.refuse_tables_elsewhere().unwrap();

        let refused = |path: &str| {
            let error = layout.refuse_tables_elsewhere().unwrap_err();
            assert_eq!(error.code(), Code::Unsupported);
            assert!(error.to_string().contains(path), "{error}");
            fs::remove_file(datadir.join(path)).unwrap();
        };
        symlink(root.path().join("outside"), datadir.join("db2")).unwrap();
        refused("db2");
        fs::write(datadir.join("db1/t.isl"), "/outside/t.ibd").unwrap();
        refused("db1/t.isl");
        symlink(root.path().join("outside/t.ibd"), datadir.join("db1/t.ibd")).unwrap();
        refused("db1/t.ibd");
    }
}
