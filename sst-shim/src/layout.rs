//! Where the server keeps its files.
//!
//! The parts of the data (see `parts`) lie in the data directory unless an option says otherwise,
//! and donor and joiner may differ in that.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use fastsst_mover::{Code, Error, Result};

use crate::parts::{Part, PartNames};
use crate::settings::Settings;

/// The directories of one node.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Absolute and free of symbolic links.
    pub(crate) datadir: PathBuf,
    /// The same of each part, as far as it exists; by [`Part::ALL`].
    homes: [PathBuf; Part::ALL.len()],
    /// Files of `InnoDB`'s system tablespace, as configured.
    pub(crate) system_files: Vec<String>,
}

impl Layout {
    /// Finds the directories.
    ///
    /// # Errors
    /// E03 for a data directory that cannot be opened, E29 for a system tablespace that is not in
    /// its directory.
    pub(crate) fn resolve(datadir: &Path, settings: &Settings<'_>) -> Result<Self> {
        let canonical = fs::canonicalize(datadir).and_then(|path| {
            fs::read_dir(&path)?;
            Ok(path)
        });
        let datadir = canonical.map_err(|error| {
            Error::new(Code::Access, format!("cannot open the datadir {}", datadir.display()))
                .because(error)
        })?;
        let home = |part: Part| match settings.value(part.option()) {
            Some(value) => resolved(&datadir.join(value)),
            None => datadir.clone(),
        };
        let homes = Part::ALL.map(home);
        let system_files = system_files(settings.value("innodb-data-file-path").as_deref());
        for file in &system_files {
            if Path::new(file).components().count() != 1 || file.starts_with('/') {
                return Err(Error::new(
                    Code::Unsupported,
                    format!(
                        "innodb_data_file_path={file} is not a plain name; name the directory with \
                         innodb_data_home_dir, or use another SST method for this node"
                    ),
                ));
            }
        }
        Ok(Self { datadir, homes, system_files })
    }

    /// The directory of a part.
    pub(crate) fn home(&self, part: Part) -> &Path {
        let mut homes = Part::ALL.into_iter().zip(&self.homes);
        homes.find(|(of, _)| *of == part).map_or(&*self.datadir, |(_, home)| home)
    }

    /// Which names belong to which part.
    pub(crate) fn names(&self) -> PartNames {
        PartNames::new(self.system_files.clone())
    }

    /// Joiner: makes the directories of parts that do not exist yet, as the server expects them.
    ///
    /// # Errors
    /// E03, E07 or E09 naming the option.
    pub(crate) fn make_homes(&mut self) -> Result<()> {
        for (part, home) in Part::ALL.into_iter().zip(&mut self.homes) {
            make_directory(home, part.option())?;
            *home = resolved(home);
        }
        Ok(())
    }

    /// Donor: refuses directories that are configured and not there.
    ///
    /// # Errors
    /// E03 naming the option.
    pub(crate) fn check_homes(&self) -> Result<()> {
        for (part, home) in Part::ALL.into_iter().zip(&self.homes) {
            fs::read_dir(home).map_err(|error| {
                let option = part.option().replace('-', "_");
                let what = format!("cannot read {option}={}", home.display());
                Error::new(Code::Access, what).because(error)
            })?;
        }
        Ok(())
    }

    /// Donor: refuses links in the place of a part's files. They would be left out, as links are not
    /// followed, and the joiner would get data without them.
    ///
    /// # Errors
    /// E29 naming the link; E08.
    pub(crate) fn refuse_linked_files(&self) -> Result<()> {
        let names = self.names();
        for part in Part::ALL {
            let home = self.home(part);
            let failed = |error| Error::read(home.display(), error);
            for entry in fs::read_dir(home).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
                if is_link && names.belongs(part, entry.file_name().as_bytes()) {
                    return Err(Error::new(
                        Code::Unsupported,
                        format!(
                            "{} is a symbolic link; move the {} by {} instead, or use another SST \
                             method",
                            entry.path().display(),
                            part.words(),
                            part.option().replace('-', "_")
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Links directly in the data directory on the way to a directory of a part, or to one of `more`:
    /// they are the node's, and no databases.
    pub(crate) fn links_to_homes(&self, more: &[&Path]) -> BTreeSet<Vec<u8>> {
        let homes: Vec<_> =
            self.homes.iter().map(PathBuf::as_path).chain(more.iter().copied()).collect();
        let entries = fs::read_dir(&self.datadir).into_iter().flatten().flatten();
        let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
        let leads_home = |entry: &fs::DirEntry| {
            let target = fs::canonicalize(entry.path());
            target.is_ok_and(|target| {
                !self.datadir.starts_with(&target)
                    && homes.iter().any(|home| home.starts_with(&target))
            })
        };
        links.filter(leads_home).map(|entry| entry.file_name().as_bytes().to_vec()).collect()
    }

    /// One line for the log: what lies elsewhere; `None` when everything is in the data directory.
    pub(crate) fn elsewhere(&self) -> Option<String> {
        let parts = Part::ALL.into_iter().zip(&self.homes);
        let parts: Vec<_> = parts
            .filter(|(_, home)| **home != self.datadir)
            .map(|(part, home)| format!("{} in {}", part.words(), home.display()))
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// Makes a directory and those above it, unless it is there.
///
/// # Errors
/// E03, E07 or E09 naming the option that wants it.
pub(crate) fn make_directory(path: &Path, option: &str) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| {
        let what = format!("{} (a directory of {})", path.display(), option.replace('-', "_"));
        Error::write(what, error)
    })
}

/// The path without symbolic links, `.` and `..`; what does not exist yet is taken as written.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            match (path.parent(), path.components().next_back()) {
                (Some(parent), Some(Component::Normal(name))) => resolved(parent).join(name),
                (Some(parent), Some(Component::ParentDir)) => {
                    let real = resolved(parent);
                    real.parent().map_or_else(|| real.clone(), Path::to_owned)
                }
                (Some(parent), _) => resolved(parent),
                (None, _) => path.to_owned(),
            }
        }
        Err(_) => path.to_owned(),
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

/// File names of `innodb_data_file_path`: `name:size[:autoextend...];name:size`.
pub(crate) fn system_files(value: Option<&str>) -> Vec<String> {
    let value = value.unwrap_or("ibdata1:12M:autoextend");
    let names = value.split(';').filter_map(|part| part.split(':').next());
    names.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
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
    fn the_datadir_has_many_names() {
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
        for part in Part::ALL {
            assert_eq!(layout.home(part), layout.datadir, "{part:?}");
        }
        assert_eq!(layout.elsewhere(), None);
        layout.check_homes().unwrap();
    }

    #[test]
    fn each_part_may_lie_elsewhere() {
        let root = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(root.path()).unwrap();
        let datadir = base.join("data");
        fs::create_dir(&datadir).unwrap();
        let text = "--innodb_undo_directory=undo\n--innodb_data_home_dir=../home/./x\n\
                    --innodb_log_group_home_dir=..\n";
        let mut layout = resolve(&datadir, text).unwrap();
        assert_eq!(layout.home(Part::Undo), datadir.join("undo"));
        assert_eq!(layout.home(Part::DataHome), base.join("home/x"));
        assert_eq!(layout.home(Part::RedoLog), base);
        assert_eq!(layout.home(Part::AriaLog), datadir);
        let error = layout.check_homes().unwrap_err();
        assert_eq!(error.code(), Code::Access);
        assert!(error.to_string().contains("innodb_data_home_dir="), "{error}");
        layout.make_homes().unwrap();
        layout.check_homes().unwrap();
        assert!(base.join("home/x").is_dir());
        let line = layout.elsewhere().unwrap();
        assert!(line.contains("redo log in") && !line.contains("Aria"), "{line}");
    }

    #[test]
    fn a_link_in_the_place_of_a_part_is_refused_and_of_a_log_is_not() {
        let root = tempfile::tempdir().unwrap();
        let datadir = root.path().join("data");
        fs::create_dir(&datadir).unwrap();
        symlink("/var/log/mysql/error.log", datadir.join("host.err")).unwrap();
        let layout = resolve(&datadir, "--innodb-data-file-path=sys:1M\n").unwrap();
        layout.refuse_linked_files().unwrap();
        for (name, option) in [
            ("ibdata1", "innodb_data_home_dir"),
            ("sys", "innodb_data_home_dir"),
            ("undo001", "innodb_undo_directory"),
            ("ib_logfile0", "innodb_log_group_home_dir"),
            ("#innodb_redo", "innodb_log_group_home_dir"),
            ("aria_log_control", "aria_log_dir_path"),
        ] {
            let link = datadir.join(name);
            symlink(root.path().join("elsewhere"), &link).unwrap();
            let error = layout.refuse_linked_files().unwrap_err();
            assert_eq!(error.code(), Code::Unsupported);
            let text = error.to_string();
            assert!(text.contains(name) && text.contains(option), "{text}");
            fs::remove_file(&link).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_transferred_is_refused() {
        let root = tempfile::tempdir().unwrap();
        for value in ["/raw/ibdata1:1G", "sub/ibdata1:1G"] {
            let error = resolve(root.path(), &format!("--innodb_data_file_path={value}\n"));
            let error = error.unwrap_err();
            assert_eq!(error.code(), Code::Unsupported);
            assert!(error.to_string().contains("innodb_data_file_path"), "{error}");
        }
        assert_eq!(resolve(Path::new("/nonexistent"), "").unwrap_err().code(), Code::Access);
    }
}
