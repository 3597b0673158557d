//! What is copied.

pub(crate) mod datadir;
pub(crate) mod digits;
pub(crate) mod one_file;
pub(crate) mod small_files;
pub(crate) mod sparse;
pub(crate) mod store;
pub(crate) mod synthetic;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use crate::cancel::Cancel;

/// Modification time of every generated file, in seconds since 1970: part of what is the same
/// every time.
const MODIFIED_SECONDS: u64 = 1_700_000_000;

/// Data to copy. All but [`datadir`] are the same bytes every time, on every machine.
pub(crate) trait DataSet {
    /// Name of its kind.
    fn name(&self) -> &'static str;

    /// Changes whenever other bytes are generated, so that nothing old is taken for it.
    fn version(&self) -> u32;

    /// Its size as it was asked for, in MiB.
    fn mib(&self) -> u32;

    /// What it consists of, so that somebody else can judge and repeat it.
    fn describe(&self) -> String;

    /// Size of all files together, about.
    fn bytes(&self) -> u64;

    /// Whether it can be generated here.
    ///
    /// # Errors
    /// What is missing.
    fn is_possible(&self) -> Result<()> {
        Ok(())
    }

    /// Whether a database server can run on it.
    fn is_a_server_s(&self) -> bool {
        false
    }

    /// Whether it has holes worth keeping.
    fn is_sparse(&self) -> bool {
        false
    }

    /// Writes it into the empty directory `into`; `scratch` is for everything else.
    ///
    /// # Errors
    /// A file cannot be written, or a signal has come.
    fn generate(&self, into: &Path, scratch: &Path, cancel: &Cancel) -> Result<()>;
}

/// Creates one file with its fixed time.
fn write(path: &Path, content: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    const BUFFER: usize = 1 << 20;
    let cannot = || format!("cannot write {}", path.display());
    let mut file = BufWriter::with_capacity(BUFFER, File::create(path).with_context(cannot)?);
    content(&mut file).with_context(cannot)?;
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error);
    file.and_then(|file| set_time(&file)).with_context(cannot)
}

fn set_time(file: &File) -> std::io::Result<()> {
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED_SECONDS))
}

/// Writes `bytes` of any bytes.
fn any_bytes(file: &mut impl Write, seed: u64, bytes: u64, cancel: &Cancel) -> Result<()> {
    const PIECE: usize = 1 << 20;
    let (mut numbers, mut piece, mut left) = (digits::Numbers::new(seed), vec![0; PIECE], bytes);
    while left > 0 {
        cancel.check()?;
        numbers.fill(&mut piece);
        let now = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        file.write_all(&piece[..now])?;
        left -= now as u64;
    }
    Ok(())
}
