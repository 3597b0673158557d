//! Files that only their owner can read, and that appear as a whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fastsst_mover::{Code, Error, Result};

/// A file that is made beside its place: whoever looks for it never sees half of it, nor does
/// anybody else its content, since it is made anew and never by somebody else.
#[derive(Debug)]
pub(crate) struct PrivateFile {
    /// What it is, for messages.
    what: &'static str,
    path: PathBuf,
    partial: PathBuf,
    file: File,
}

impl PrivateFile {
    /// Makes the file, still beside its place, so that it is known early whether it can be written.
    ///
    /// # Errors
    /// As [`Error::write`], naming the file.
    pub(crate) fn create(what: &'static str, path: &Path) -> Result<Self> {
        let mut partial = OsString::from(path);
        partial.push(".part");
        let partial = PathBuf::from(partial);
        let made = remove_if_there(&partial).and_then(|()| {
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)
        });
        let file = made.map_err(|error| failed(what, path, error))?;
        Ok(Self { what, path: path.to_owned(), partial, file })
    }

    /// Fills it, makes it durable and puts it in its place, where it replaces an older one.
    ///
    /// # Errors
    /// As [`Error::write`], naming the file; nothing is left of it then.
    pub(crate) fn publish(
        self,
        fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<()> {
        fill(&mut &self.file)
            .and_then(|()| self.file.sync_all())
            .and_then(|()| remove_if_there(&self.path))
            // A link and not the other way to move a file: that one belongs to the commit.
            .and_then(|()| fs::hard_link(&self.partial, &self.path))
            .map_err(|error| failed(self.what, &self.path, error))
    }
}

impl Drop for PrivateFile {
    fn drop(&mut self) {
        if let Err(error) = remove_if_there(&self.partial) {
            tracing::warn!("cannot remove {}: {error}", self.partial.display());
        }
    }
}

/// Refuses a file that would become part of what it is about.
///
/// # Errors
/// E01.
pub(crate) fn must_be_outside(what: &str, path: &Path, dir: &Path) -> Result<()> {
    let refused = |why: &str| {
        let text = format!("{what} {}: {why}", path.display());
        Err(Error::new(Code::Usage, text))
    };
    if path.as_os_str() == "-" {
        return refused("name a file, standard output is not used for it");
    }
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // What is not there is reported by whoever opens it.
    let (Ok(parent), Ok(dir)) = (parent.canonicalize(), dir.canonicalize()) else { return Ok(()) };
    if parent.starts_with(&dir) {
        return refused("it would lie in the directory itself; choose another place");
    }
    Ok(())
}

fn failed(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::write(format!("{what} {}", path.display()), error)
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
