//! Files whose content tells what became of it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use rustix::process::getuid;

/// The account without rights. Source: every Linux distribution.
const NOBODY: u32 = 65_534;

/// Size of a page as the protocol has it. Source: `PAGE_BYTES`, section 2 of docs/PROTOCOL.md.
pub const PAGE: u64 = fastsst_proto::limits::PAGE_BYTES as u64;

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

/// Overwrites so many whole pages of a file, spread evenly over it, with noise.
pub fn change_pages(path: &Path, seed: u64, pages: u64) {
    let file = File::options().write(true).open(path).unwrap();
    let has = file.metadata().unwrap().size() / PAGE;
    assert!(pages <= has, "{}: only {has} pages", path.display());
    for page in 0..pages {
        let content = noise(seed.wrapping_mul(0x1_0000) + page, usize::try_from(PAGE).unwrap());
        file.write_all_at(&content, page * has / pages * PAGE).unwrap();
    }
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

/// Bytes of data below a directory, as far as it stands still: neither holes, nor space that is only
/// reserved. Files are counted, not names.
#[must_use]
pub fn written_bytes(directory: &Path) -> u64 {
    fn below(directory: &Path, seen: &mut BTreeSet<(u64, u64)>) -> u64 {
        let Ok(entries) = fs::read_dir(directory) else { return 0 };
        let entries = entries.flatten().map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => below(&entry.path(), seen),
            Ok(found) if found.is_file() && seen.insert((found.dev(), found.ino())) => {
                // What has just been removed or renamed counts nothing.
                File::open(entry.path()).map_or(0, |file| data_in(&file))
            }
            Ok(_) | Err(_) => 0,
        });
        entries.sum()
    }
    below(directory, &mut BTreeSet::new())
}

/// Bytes of a file that are neither in a hole nor only reserved.
fn data_in(file: &File) -> u64 {
    let (mut at, mut bytes) = (0, 0);
    loop {
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            // No data until the end, or the file has just become shorter.
            Err(Errno::NXIO) => return bytes,
            Err(error) => panic!("a file system that does not tell its holes: {error}"),
        };
        match seek(file, SeekFrom::Hole(data)) {
            Ok(hole) => (at, bytes) = (hole, bytes + (hole - data)),
            Err(Errno::NXIO) => return bytes,
            Err(error) => panic!("a file system that does not tell its holes: {error}"),
        }
    }
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
