//! What an interrupted transfer has built becomes part of the stale copy.

use std::os::fd::AsFd;

use fastsst_proto::path::RelPath;
use rustix::fs::Mode;

use super::{Hook, Step};
use crate::error::{Code, Error, Result};
use crate::staging::{clear, rel};
use crate::tree::{Dir, FileKind, Stat};

/// Told of every file before it is moved: its path below the new tree, and what it is.
pub(crate) type OnFile<'a> = &'a mut dyn FnMut(&RelPath, &Stat);

/// Moves everything in `new` to the same place in `old`. Where both have something, the one from
/// `new` wins: it is what arrived last. May be interrupted and run again.
///
/// # Errors
/// E03, E09.
pub(super) fn merge(new: &Dir, old: &Dir, on_file: OnFile<'_>, hook: Hook<'_>) -> Result<()> {
    Merge { on_file, hook }.directory(new, old, None)
}

struct Merge<'a, 'b> {
    on_file: OnFile<'a>,
    hook: Hook<'b>,
}

impl Merge<'_, '_> {
    fn directory(&mut self, new: &Dir, old: &Dir, path: Option<&RelPath>) -> Result<()> {
        for name in new.names()? {
            let name = rel(&name)?;
            let place = match path {
                Some(path) => path.join(name.as_bytes()).map_err(|error| {
                    Error::bug(format!("{path}/{name} is no path")).because(error)
                })?,
                None => name.clone(),
            };
            let Some(stat) = new.stat(&name)? else { continue };
            if stat.kind == FileKind::Directory {
                let (from, to) = (new.open_dir(&name)?, same_directory(old, &name)?);
                make_writable(&from)?;
                self.directory(&from, &to, Some(&place))?;
                new.rmdir(&name)?;
            } else {
                self.entry((new, old), &name, (&place, &stat))?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        (new, old): (&Dir, &Dir),
        name: &RelPath,
        (place, stat): (&RelPath, &Stat),
    ) -> Result<()> {
        if old.stat(name)?.is_some_and(|there| there.kind == FileKind::Directory) {
            clear(old, name)?;
        }
        if stat.kind == FileKind::File {
            (self.on_file)(place, stat);
        }
        (self.hook)(Step::Merge)?;
        rustix::fs::renameat(new, name.as_bytes(), old, name.as_bytes())
            .map_err(|errno| Error::write(new.place_of(place), errno.into()))
    }
}

/// The directory of this name, which is made if there is none or something else.
fn same_directory(old: &Dir, name: &RelPath) -> Result<Dir> {
    match old.stat(name)? {
        Some(stat) if stat.kind == FileKind::Directory => {
            let found = old.open_dir(name)?;
            make_writable(&found)?;
            return Ok(found);
        }
        Some(_) => {
            old.unlink(name)?;
        }
        None => {}
    }
    old.mkdir(name)?;
    old.open_dir(name)
}

/// Directories may have got their final permissions before the transfer was interrupted.
fn make_writable(dir: &Dir) -> Result<()> {
    const ALL: u16 = 0o700;
    if dir.stat_self()?.mode & ALL == ALL {
        return Ok(());
    }
    match rustix::fs::fchmod(dir.as_fd(), Mode::from_raw_mode(u32::from(ALL))) {
        Ok(()) => Ok(()),
        Err(errno) => Err(Error::new(Code::Access, format!("cannot write to {}", dir.place()))
            .because(std::io::Error::from(errno))),
    }
}
