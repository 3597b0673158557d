//! `fastsst verify`.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use fastsst_mover::disk::IoPreference;
use fastsst_mover::verify::{VerifyOptions, take_inventory, verify};
use fastsst_mover::walk::{AllFiles, SourceRoot};
use fastsst_mover::{Code, Error, Manifest, Result};

use crate::args;
use crate::private_file::{PrivateFile, must_be_outside};
use crate::send::{MANIFEST, ROOT};

/// Differences that are named one by one. Why: a screen or two; the rest is a number.
const NAMED_MAX: usize = 100;

/// Prints the root hash of a directory; names what is not as a manifest says.
pub(crate) fn run(args: &args::Verify) -> Result<()> {
    let options = VerifyOptions { io: IoPreference::parse(&args.io)?, ..VerifyOptions::default() };
    // Before hours of reading.
    let expected = args.against.as_deref().map(load).transpose()?;
    let file = args.manifest.as_deref().map(|path| {
        must_be_outside(MANIFEST, path, &args.dir)?;
        PrivateFile::create(MANIFEST, path)
    });
    let file = file.transpose()?;
    let root =
        SourceRoot { name: ROOT.to_owned(), path: args.dir.clone(), filter: Arc::new(AllFiles) };
    let (verified, found) = if expected.is_some() || file.is_some() {
        let (verified, found) = take_inventory(&[root], options)?;
        (verified, Some(found))
    } else {
        (verify(&[root], options)?, None)
    };
    tracing::info!("{} entries, {} bytes, {}", verified.entries, verified.bytes, verified.io);
    writeln!(std::io::stdout().lock(), "{}", verified.root_hash)
        .map_err(|error| Error::write("standard output", error))?;
    let Some(found) = found else { return Ok(()) };
    file.map_or(Ok(()), |file| file.publish(|out| found.write(out)))?;
    match (expected, &args.against) {
        (Some(expected), Some(path)) => compare(&expected, &found, path),
        _ => Ok(()),
    }
}

/// A manifest of one tree that has the name of ours.
fn load(path: &Path) -> Result<Manifest> {
    let manifest = Manifest::load(path)?;
    if manifest.roots() != [ROOT] {
        let what = format!("manifest {} is of several trees; compare each by hand", path.display());
        return Err(Error::new(Code::Unsupported, what));
    }
    Ok(manifest)
}

fn compare(expected: &Manifest, found: &Manifest, path: &Path) -> Result<()> {
    let mut count = 0_usize;
    for difference in expected.differences(found) {
        count += 1;
        if count <= NAMED_MAX {
            tracing::warn!("{difference}");
        }
    }
    if count > NAMED_MAX {
        tracing::warn!("and {} more", count - NAMED_MAX);
    }
    match count {
        0 if expected.root_hash() == found.root_hash() => Ok(()),
        0 => Err(Error::bug("the root hashes differ, but nothing else does")),
        _ => {
            let what = format!(
                "the directory differs from manifest {} in {count} places, which are named above",
                path.display()
            );
            Err(Error::new(Code::RootHashDiffers, what))
        }
    }
}
