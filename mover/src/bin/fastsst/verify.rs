//! `fastsst verify`.

use std::io::Write;
use std::sync::Arc;

use fastsst_mover::disk::IoPreference;
use fastsst_mover::verify::{VerifyOptions, verify};
use fastsst_mover::walk::{AllFiles, SourceRoot};
use fastsst_mover::{Error, Result};

use crate::args;
use crate::send::ROOT;

/// Prints the root hash of a directory.
pub(crate) fn run(args: &args::Verify) -> Result<()> {
    let options = VerifyOptions { io: IoPreference::parse(&args.io)?, ..VerifyOptions::default() };
    let root =
        SourceRoot { name: ROOT.to_owned(), path: args.dir.clone(), filter: Arc::new(AllFiles) };
    let verified = verify(&[root], options)?;
    tracing::info!("{} entries, {} bytes, {}", verified.entries, verified.bytes, verified.io);
    writeln!(std::io::stdout().lock(), "{}", verified.root_hash)
        .map_err(|error| Error::write("standard output", error))
}
