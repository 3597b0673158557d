//! The content of a disk, in memory; what is zero takes no room.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Unit in which content is kept. Unit: bytes. Why: the block size of the file systems on it.
const BLOCK: usize = 4096;

/// One block; shared between the images of one disk.
type Block = Arc<[u8; BLOCK]>;

/// A disk's content.
#[derive(Debug, Clone)]
pub struct Medium {
    bytes: u64,
    blocks: BTreeMap<u64, Block>,
}

impl Medium {
    /// What is in a file.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        let mut file = File::open(path).unwrap();
        let mut medium = Self { bytes: file.metadata().unwrap().len(), blocks: BTreeMap::new() };
        let mut buffer = [0; BLOCK];
        for number in 0..medium.bytes / BLOCK as u64 {
            file.read_exact(&mut buffer).unwrap();
            if buffer.iter().any(|byte| *byte != 0) {
                medium.blocks.insert(number, Arc::new(buffer));
            }
        }
        medium
    }

    /// Writes it into a new file, with holes.
    pub fn save(&self, path: &Path) {
        let file = File::create(path).unwrap();
        file.set_len(self.bytes).unwrap();
        for (number, block) in &self.blocks {
            file.write_all_at(block.as_slice(), number * BLOCK as u64).unwrap();
        }
    }

    /// Its size. Unit: bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        for (number, within, data) in pieces(offset, data.len()).map(|it| it.of(data)) {
            let block = self.blocks.entry(number).or_insert_with(|| Arc::new([0; BLOCK]));
            Arc::make_mut(block)[within..within + data.len()].copy_from_slice(data);
        }
    }

    pub(super) fn read(&self, offset: u64, bytes: usize) -> Vec<u8> {
        let rest = usize::try_from(self.bytes.saturating_sub(offset)).unwrap();
        let mut data = vec![0; bytes.min(rest)];
        for piece in pieces(offset, data.len()) {
            if let Some(block) = self.blocks.get(&piece.block) {
                let to = &mut data[piece.from..piece.from + piece.bytes];
                to.copy_from_slice(&block[piece.within..piece.within + piece.bytes]);
            }
        }
        data
    }
}

/// The part of a read or write that falls into one block.
struct Piece {
    block: u64,
    /// Where in the block.
    within: usize,
    /// Where in the data.
    from: usize,
    bytes: usize,
}

impl Piece {
    fn of(self, data: &[u8]) -> (u64, usize, &[u8]) {
        (self.block, self.within, &data[self.from..self.from + self.bytes])
    }
}

fn pieces(offset: u64, bytes: usize) -> impl Iterator<Item = Piece> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = offset + from as u64;
        let within = usize::try_from(at % BLOCK as u64).unwrap();
        let piece = Piece {
            block: at / BLOCK as u64,
            within,
            from,
            bytes: (BLOCK - within).min(bytes - from),
        };
        from += piece.bytes;
        (piece.bytes > 0).then_some(piece)
    })
}
