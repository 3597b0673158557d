//! One chunk for the wire: which pages are zero, its hash, and whether it is worth compressing.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fastsst_proto::chunk::{ChunkHeader, Encoding, all_pages, page_len};
use fastsst_proto::hash::chunk_hash;
use fastsst_proto::limits::PAGE_BYTES;
use fastsst_proto::{ChunkHash, ChunkRef, FileId, PageMask};

use crate::error::{Error, Result};
use crate::level::Level;
use crate::options::Compress;
use crate::pool::{Pool, PoolBuf};

/// Smallest content that is compressed. Unit: bytes. Why: below it the frame around the chunk
/// eats what could be won.
const WORTH_BYTES: usize = 1024;

/// Chunks of one file that did not shrink, one after the other, until the file is left alone.
const FAILURES_MAX: u32 = 8;

/// Of a file that is left alone every so manieth chunk is tried, as its content may change.
const PROBE_EVERY: u32 = 16;

/// Files whose failures are remembered. Why: more are never read at the same time.
/// Reached: all are forgotten, which costs a few attempts.
const FILES_REMEMBERED_MAX: usize = 4096;

/// A chunk as a lane sends it.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// What goes before the payload.
    pub(crate) header: ChunkHeader,
    /// The sent pages.
    pub(crate) payload: Bytes,
}

/// What all encoders of a transfer share.
#[derive(Debug)]
pub(crate) struct Compression {
    /// How hard to compress now.
    pub(crate) level: Level,
    /// What became of the chunks.
    pub(crate) histogram: Histogram,
    stubborn: Stubborn,
}

impl Compression {
    /// As the user chose.
    pub(crate) fn new(choice: Compress) -> Self {
        let (histogram, stubborn) = (Histogram::default(), Stubborn::default());
        Self { level: Level::new(choice), histogram, stubborn }
    }
}

/// What became of a chunk's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// All zeros: nothing is sent.
    Zero,
    /// Sent as it is.
    Raw,
    /// Compressed at this level of zstd.
    Zstd(i32),
}

/// How many chunks were sent in which way.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    zero: AtomicU64,
    raw: AtomicU64,
    /// By level, from the lowest of [`Compress::LEVELS`].
    zstd: [AtomicU64; LEVEL_COUNT],
}

/// How many levels of zstd there are to choose from.
const LEVEL_COUNT: usize = 27;

impl Histogram {
    /// One more chunk.
    pub(crate) fn count(&self, how: How) {
        let slot = match how {
            How::Zero => Some(&self.zero),
            How::Raw => Some(&self.raw),
            How::Zstd(level) => usize::try_from(level - Compress::LEVELS.start())
                .ok()
                .and_then(|number| self.zstd.get(number)),
        };
        if let Some(slot) = slot {
            slot.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those that occurred: `zero`, `raw`, `zstd:LEVEL`.
    pub(crate) fn to_map(&self) -> BTreeMap<String, u64> {
        let zstd = Compress::LEVELS.zip(&self.zstd);
        let zstd = zstd.map(|(level, count)| (Compress::Zstd(level).to_string(), count));
        let plain = [("zero".to_owned(), &self.zero), ("raw".to_owned(), &self.raw)];
        plain
            .into_iter()
            .chain(zstd)
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// Files whose chunks do not shrink, so that no time is lost on all of them.
#[derive(Debug, Default)]
pub(crate) struct Stubborn {
    failures: Mutex<HashMap<FileId, u32>>,
}

impl Stubborn {
    fn is_worth_trying(&self, file: FileId) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = failures.get_mut(&file).filter(|count| **count >= FAILURES_MAX) else {
            return true;
        };
        *count = count.saturating_add(1);
        count.is_multiple_of(PROBE_EVERY)
    }

    fn note(&self, file: FileId, shrank: Shrank) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match shrank {
            Shrank::Yes => {
                failures.remove(&file);
            }
            Shrank::No => {
                if failures.len() >= FILES_REMEMBERED_MAX {
                    failures.clear();
                }
                let count = failures.entry(file).or_default();
                *count = count.saturating_add(1);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shrank {
    Yes,
    No,
}

/// Compresses chunks; one per thread, as it keeps zstd's tables.
pub(crate) struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
    /// The level `zstd` is set to.
    level: i32,
    shared: Arc<Compression>,
    /// Buffers for compressed payloads.
    wire: Pool,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("level", &self.level).finish_non_exhaustive()
    }
}

impl Encoder {
    /// # Errors
    /// zstd cannot be set up.
    pub(crate) fn new(shared: Arc<Compression>, wire: Pool) -> Result<Self> {
        let level = 1;
        let zstd = zstd::bulk::Compressor::new(level).map_err(refused)?;
        Ok(Self { zstd, level, shared, wire })
    }

    /// Encodes the chunk `plain` of a file of `file_size` bytes; `None` when the pool is closed.
    pub(crate) fn encode(
        &mut self,
        at: ChunkRef,
        file_size: u64,
        mut plain: PoolBuf,
    ) -> Result<Option<Encoded>> {
        let header = raw_header(at, file_size, &mut plain);
        self.finish(header, plain)
    }

    /// Encodes some pages of a chunk whose hash is known; `None` when the pool is closed.
    pub(crate) fn encode_pages(
        &mut self,
        (at, hash): (ChunkRef, ChunkHash),
        pages: PageMask,
        mut plain: PoolBuf,
    ) -> Result<Option<Encoded>> {
        let header = header_of(at, hash, pages, &mut plain);
        self.finish(header, plain)
    }

    /// Compresses the pages that are to be sent, if that is worth it.
    fn finish(&mut self, mut header: ChunkHeader, plain: PoolBuf) -> Result<Option<Encoded>> {
        let file = header.at.file;
        if let Some(level) = self.level_for(file, plain.len()) {
            let Some(mut out) = self.wire.acquire() else { return Ok(None) };
            let compressed = self.compress(file, level, plain.filled(), out.as_mut_slice())?;
            if let Some(len) = compressed {
                out.set_len(len);
                as_zstd(&mut header, len);
                return Ok(Some(Encoded { header, payload: Bytes::from_owner(out) }));
            }
        }
        self.count_plain(plain.filled());
        let payload = if plain.is_empty() { Bytes::new() } else { Bytes::from_owner(plain) };
        Ok(Some(Encoded { header, payload }))
    }

    /// Compresses the sent pages of a small chunk into `out`, if that is worth it; the header then
    /// says so. Returns how many bytes they have become.
    ///
    /// # Errors
    /// As [`Encoder::new`].
    pub(crate) fn compress_into(
        &mut self,
        header: &mut ChunkHeader,
        sent: &[u8],
        out: &mut [u8],
    ) -> Result<Option<usize>> {
        let file = header.at.file;
        if let Some(level) = self.level_for(file, sent.len())
            && let Some(len) = self.compress(file, level, sent, out)?
        {
            as_zstd(header, len);
            return Ok(Some(len));
        }
        self.count_plain(sent);
        Ok(None)
    }

    /// The level to try, if it is worth it.
    fn level_for(&self, file: FileId, len: usize) -> Option<i32> {
        let level = self.shared.level.now().filter(|_| len >= WORTH_BYTES)?;
        self.shared.stubborn.is_worth_trying(file).then_some(level)
    }

    /// The compressed length, when it saves at least an eighth.
    fn compress(
        &mut self,
        file: FileId,
        level: i32,
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<Option<usize>> {
        if level != self.level {
            self.zstd.set_compression_level(level).map_err(refused)?;
            self.level = level;
        }
        let most = plain.len() - plain.len() / 8;
        let Some(room) = out.get_mut(..most) else { return Ok(None) };
        // Not fitting means not shrinking: zstd stops as soon as it runs out of room.
        let len = self.zstd.compress_to_buffer(plain, room).ok().filter(|len| *len > 0);
        self.shared.stubborn.note(file, if len.is_some() { Shrank::Yes } else { Shrank::No });
        if len.is_some() {
            self.shared.histogram.count(How::Zstd(level));
        }
        Ok(len)
    }

    fn count_plain(&self, sent: &[u8]) {
        self.shared.histogram.count(if sent.is_empty() { How::Zero } else { How::Raw });
    }
}

fn refused(error: std::io::Error) -> Error {
    Error::bug("zstd refuses its level").because(error)
}

/// Hashes a chunk and leaves in `plain` the pages that are to be sent; its header as a raw one.
pub(crate) fn raw_header(at: ChunkRef, file_size: u64, plain: &mut PoolBuf) -> ChunkHeader {
    let hash = chunk_hash(file_size, at.chunk, plain.filled());
    let all = all_pages(len_u32(plain.len()));
    header_of(at, hash, all, plain)
}

/// As [`raw_header`] for some `pages` of a chunk; the others are the joiner's own.
fn header_of(at: ChunkRef, hash: ChunkHash, pages: PageMask, plain: &mut PoolBuf) -> ChunkHeader {
    let plain_len = len_u32(plain.len());
    let zero = zero_pages(plain.filled()) & pages;
    let sent = pages & all_pages(plain_len) & !zero;
    if sent != all_pages(plain_len) {
        let kept = pack(plain.as_mut_slice(), plain_len, sent);
        plain.set_len(kept);
    }
    let payload_len = len_u32(plain.len());
    ChunkHeader { at, encoding: Encoding::Raw, plain_len, payload_len, sent, zero, hash }
}

fn as_zstd(header: &mut ChunkHeader, len: usize) {
    header.encoding = Encoding::Zstd;
    header.payload_len = len_u32(len);
}

/// A buffer is never longer than a chunk.
fn len_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// The pages of `plain` that hold nothing but zeros.
pub(crate) fn zero_pages(plain: &[u8]) -> PageMask {
    let mut zero = PageMask::NONE;
    for (page, bytes) in (0u32..).zip(plain.chunks(PAGE_BYTES)) {
        if is_zero(bytes) {
            zero = zero | PageMask::page(page);
        }
    }
    zero
}

fn is_zero(bytes: &[u8]) -> bool {
    // Most pages differ in their first bytes; the rest compares 16 bytes at a time.
    let (head, words, tail) =
        (bytes.first(), bytes.chunks_exact(16), bytes.chunks_exact(16).remainder());
    head.is_none_or(|byte| *byte == 0)
        && words.map(|word| word.try_into().map_or(1, u128::from_ne_bytes)).all(|word| word == 0)
        && tail.iter().all(|byte| *byte == 0)
}

/// Moves the pages in `sent` to the front; returns how many bytes they are.
fn pack(buf: &mut [u8], plain_len: u32, sent: PageMask) -> usize {
    let mut end = 0;
    for page in sent.pages() {
        let (from, len) = page_range(plain_len, page);
        buf.copy_within(from..from + len, end);
        end += len;
    }
    end
}

/// Moves packed pages to their places and fills the zero pages between them.
///
/// Asserts: the masks were checked when the header was decoded, so all places lie in the chunk.
pub(crate) fn unpack(buf: &mut [u8], plain_len: u32, sent: PageMask, zero: PageMask) {
    let mut end: usize = sent.pages().map(|page| page_range(plain_len, page).1).sum();
    let pages: Vec<u32> = (sent | zero).pages().collect();
    for page in pages.into_iter().rev() {
        let (to, len) = page_range(plain_len, page);
        if sent.contains(page) {
            end -= len;
            buf.copy_within(end..end + len, to);
        } else {
            buf[to..to + len].fill(0);
        }
    }
}

/// Offset and length of a page in its chunk.
pub(crate) fn page_range(plain_len: u32, page: u32) -> (usize, usize) {
    let len = usize::try_from(page_len(plain_len, page)).unwrap_or(0);
    (usize::try_from(page).unwrap_or(0) * PAGE_BYTES, len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zero_pages_are_found_at_any_byte() {
        let mut chunk = vec![0; 3 * PAGE_BYTES + 7];
        assert_eq!(zero_pages(&chunk), PageMask(0b1111));
        for (byte, mask) in [(0, 0b1110), (PAGE_BYTES + 9, 0b1101), (3 * PAGE_BYTES + 6, 0b0111)] {
            chunk[byte] = 1;
            assert_eq!(zero_pages(&chunk), PageMask(mask), "{byte}");
            chunk[byte] = 0;
        }
    }

    #[test]
    fn a_file_that_does_not_shrink_is_left_alone_and_looked_at_now_and_then() {
        let stubborn = Stubborn::default();
        let file = FileId(7);
        let tried =
            |stubborn: &Stubborn| (0..32).filter(|_| stubborn.is_worth_trying(file)).count();
        for _ in 0..FAILURES_MAX {
            assert!(stubborn.is_worth_trying(file));
            stubborn.note(file, Shrank::No);
        }
        assert_eq!(tried(&stubborn), 2);
        assert!(stubborn.is_worth_trying(FileId(8)), "others are not concerned");
        stubborn.note(file, Shrank::Yes);
        assert_eq!(tried(&stubborn), 32);
    }

    #[test]
    fn a_chunk_is_compressed_at_the_level_of_the_moment_and_only_if_it_shrinks() {
        let (pool, wire) = (Pool::new(1), Pool::new(1));
        let shared = Arc::new(Compression::new(Compress::Auto));
        let mut encoder = Encoder::new(Arc::clone(&shared), wire).unwrap();
        let text: Vec<u8> = b"0123456789-".iter().copied().cycle().take(100_000).collect();
        let noise: Vec<u8> =
            (0..100_000_u32).map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[0]).collect();
        for (content, level, encoding) in [
            (&text, Some(1), Encoding::Zstd),
            (&text, Some(-5), Encoding::Zstd),
            (&text, None, Encoding::Raw),
            (&noise, Some(3), Encoding::Raw),
            (&vec![0; 50_000], Some(3), Encoding::Raw),
        ] {
            let mut buf = pool.acquire().unwrap();
            buf.as_mut_slice()[..content.len()].copy_from_slice(content);
            buf.set_len(content.len());
            shared.level.set(level);
            let size = content.len() as u64;
            let encoded = encoder.encode(ChunkRef::default(), size, buf).unwrap().unwrap();
            assert_eq!(encoded.header.encoding, encoding, "{level:?}");
            assert_eq!(encoded.payload.len(), encoded.header.payload_len as usize);
        }
        let counts: Vec<(String, u64)> = shared.histogram.to_map().into_iter().collect();
        let names = [("raw", 2), ("zero", 1), ("zstd:-5", 1), ("zstd:1", 1)];
        assert_eq!(counts, names.map(|(name, count)| (name.to_owned(), count)));
    }

    #[test]
    fn every_level_has_its_place_in_the_histogram() {
        assert_eq!(Compress::LEVELS.count(), LEVEL_COUNT);
    }

    proptest! {
        #[test]
        fn packing_and_unpacking_give_the_chunk_back(mask: u64, len in 1usize..=(1 << 20)) {
            let mut chunk: Vec<u8> = (1..=251u8).cycle().take(len).collect();
            for (page, bytes) in chunk.chunks_mut(PAGE_BYTES).enumerate() {
                if mask >> page & 1 == 0 { bytes.fill(0); }
            }
            let plain_len = u32::try_from(len).unwrap();
            let zero = zero_pages(&chunk);
            let sent = all_pages(plain_len) & !zero;
            let mut buf = chunk.clone();
            let kept = pack(&mut buf, plain_len, sent);
            buf[kept..].fill(0xee);
            unpack(&mut buf, plain_len, sent, zero);
            prop_assert!(buf == chunk);
        }
    }
}
