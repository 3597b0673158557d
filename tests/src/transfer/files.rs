//! Files whose content tells what became of it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::getuid;

/// The account without rights. Source: every Linux distribution.
const NOBODY: u32 = 65_534;

/// Unit of [`write_version`]. Why: what a reader can see half of must be smaller than its reads.
const BLOCK: usize = 4096;

/// So many bytes that do not compress and differ from one `seed` to the next.
#[must_use]
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    reader.fill(&mut content);
    content
}

/// Makes a file of so many MiB of noise.
pub fn fill(path: &Path, seed: u64, mib: usize) {
    fs::write(path, noise(seed, mib << 20)).unwrap();
}

/// Makes a file of so many MiB of noise that ends with a hole of 1 MiB, so that a receiver has no
/// reason to reserve its space beforehand.
pub fn sparse_noise(path: &Path, seed: u64, mib: usize) {
    let file = File::create(path).unwrap();
    file.write_all_at(&noise(seed, mib << 20), 0).unwrap();
    file.set_len((mib as u64 + 1) << 20).unwrap();
}

/// BLAKE3 of a file, as `b3sum` prints it.
#[must_use]
pub fn b3sum(path: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    hasher.update_reader(file).unwrap();
    hasher.finalize().to_string()
}

/// Overwrites a file in place with blocks that all carry this version and their own number.
pub fn write_version(path: &Path, version: u32, mib: usize) {
    let mut content = noise(u64::from(version), mib << 20);
    for (number, block) in content.chunks_exact_mut(BLOCK).enumerate() {
        block[..4].copy_from_slice(&version.to_le_bytes());
        block[4..12].copy_from_slice(&(number as u64).to_le_bytes());
    }
    let file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
    (&file).write_all(&content).unwrap();
}

/// The versions of the blocks of such a file, all of which are in their place.
#[must_use]
pub fn versions_in(path: &Path) -> BTreeSet<u32> {
    let content = fs::read(path).unwrap();
    let blocks = content.chunks(BLOCK).enumerate();
    blocks
        .map(|(number, block)| {
            assert_eq!(block.len(), BLOCK, "{}: half a block at the end", path.display());
            let found = u64::from_le_bytes(block[4..12].try_into().unwrap());
            assert_eq!(found, number as u64, "{}: a block in a wrong place", path.display());
            u32::from_le_bytes(block[..4].try_into().unwrap())
        })
        .collect()
}

/// Bytes on disk below a directory, as far as it stands still.
#[must_use]
pub fn allocated_bytes(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let entries = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => allocated_bytes(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    });
    entries.sum()
}

/// A program that runs as an ordinary user: our own account, or `nobody` when that is root.
#[must_use]
pub fn nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    if getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/");
    command
}
