//! The chunk frame of a lane: a fixed header and the payload.
//!
//! The payload is the concatenation of the *sent* pages in ascending order, compressed as one
//! Zstandard frame when the encoding says so. So a full chunk, a hole and a handful of changed
//! pages are the same frame.

use alloc::vec::Vec;

use crate::codec::{Reader, put_u16, put_u32, put_u64};
use crate::error::WireError;
use crate::frame::{FrameHeader, ty};
use crate::hash::ChunkHash;
use crate::limits::{CHUNK_BYTES, FILE_BYTES_MAX, GENERATION_MAX};
use crate::types::{ChunkIndex, ChunkRef, FileId, Generation, PageMask, chunk_count, chunk_len};

/// Length of an encoded [`ChunkHeader`]. Unit: bytes.
pub const HEADER_BYTES: usize = 68;

const CHUNK: u32 = 1 << 20;
const PAGE: u32 = 1 << 14;
const _: () = assert!(CHUNK as usize == CHUNK_BYTES);
const _: () = assert!(PAGE as usize == crate::limits::PAGE_BYTES);

/// How the payload is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// The pages themselves.
    Raw,
    /// One Zstandard frame of the pages.
    Zstd,
}

/// Everything about a chunk but its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Which chunk of which generation of which file.
    pub at: ChunkRef,
    /// How the payload is encoded.
    pub encoding: Encoding,
    /// Length of the chunk in the file. Unit: bytes. Range: 1 to `CHUNK_BYTES`.
    pub plain_len: u32,
    /// Length of the payload that follows. Unit: bytes.
    pub payload_len: u32,
    /// Pages whose content is in the payload.
    pub sent: PageMask,
    /// Pages that are all zeros. Invariant: disjoint from `sent`.
    pub zero: PageMask,
    /// Hash of the whole plain chunk, pages in neither mask included.
    pub hash: ChunkHash,
}

impl ChunkHeader {
    /// Appends the [`HEADER_BYTES`] bytes of the header, without the frame header before it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u32(out, self.at.file.0);
        put_u16(out, self.at.generation.0);
        put_u32(out, self.at.chunk.0);
        out.push(match self.encoding {
            Encoding::Raw => 0,
            Encoding::Zstd => 1,
        });
        out.push(0); // reserved
        put_u32(out, self.plain_len);
        put_u32(out, self.payload_len);
        put_u64(out, self.sent.0);
        put_u64(out, self.zero.0);
        out.extend_from_slice(&self.hash.0);
    }

    /// Appends the frame header (5 bytes) and the chunk header; the payload follows on the wire.
    pub fn encode_frame(&self, out: &mut Vec<u8>) {
        const TYPE_AND_HEADER: u32 = 69;
        const _: () = assert!(TYPE_AND_HEADER as usize == 1 + HEADER_BYTES);
        put_u32(out, self.payload_len.saturating_add(TYPE_AND_HEADER));
        out.push(ty::CHUNK);
        self.encode(out);
    }

    /// Reads a header from the first [`HEADER_BYTES`] bytes; what follows is not looked at.
    ///
    /// Errors: too few bytes, or values that contradict each other.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes.get(..HEADER_BYTES).ok_or(WireError::Truncated)?);
        let at = read_chunk_ref(&mut reader)?;
        let encoding = match reader.u8()? {
            0 => Encoding::Raw,
            1 => Encoding::Zstd,
            _ => return Err(WireError::BadValue { what: "chunk encoding" }),
        };
        if reader.u8()? != 0 {
            return Err(WireError::BadValue { what: "reserved byte of a chunk" });
        }
        let header = Self {
            at,
            encoding,
            plain_len: reader.u32()?,
            payload_len: reader.u32()?,
            sent: PageMask(reader.u64()?),
            zero: PageMask(reader.u64()?),
            hash: ChunkHash(reader.array()?),
        };
        reader.finish()?;
        header.validate()?;
        Ok(header)
    }

    /// Checks the fields against each other.
    ///
    /// Errors: the first rule that is broken. The sum of the page lengths bounds the buffers of
    /// whoever decodes the payload.
    pub fn validate(&self) -> Result<(), WireError> {
        if self.plain_len == 0 || self.plain_len > CHUNK {
            return Err(WireError::BadValue { what: "chunk length" });
        }
        let all = all_pages(self.plain_len);
        if !(self.sent & self.zero).is_empty() || !((self.sent | self.zero) & !all).is_empty() {
            return Err(WireError::BadValue { what: "page masks of a chunk" });
        }
        let plain = self.sent_bytes();
        let fits = match self.encoding {
            Encoding::Raw => self.payload_len == plain,
            Encoding::Zstd => 0 < self.payload_len && self.payload_len < plain,
        };
        if fits { Ok(()) } else { Err(WireError::BadValue { what: "payload length of a chunk" }) }
    }

    /// Checks that the chunk lies in a file of `file_size` bytes and has its full length there.
    ///
    /// Errors: it does not; writing it would change the file's size.
    pub fn validate_against(&self, file_size: u64) -> Result<(), WireError> {
        if u64::from(self.at.chunk.0) >= chunk_count(file_size) {
            return Err(WireError::BadValue { what: "chunk number" });
        }
        if self.plain_len != chunk_len(file_size, self.at.chunk) {
            return Err(WireError::BadValue { what: "chunk length" });
        }
        Ok(())
    }

    /// Checks that the frame has exactly the length this header announces.
    ///
    /// Errors: it does not; the next frame would begin in the wrong place.
    pub fn validate_frame(&self, frame: FrameHeader) -> Result<(), WireError> {
        let announced = u64::from(self.payload_len) + HEADER_BYTES as u64;
        if frame.is_chunk() && u64::from(frame.len) == announced {
            Ok(())
        } else {
            Err(WireError::BadValue { what: "frame length of a chunk" })
        }
    }

    /// Length of the sent pages before compression. Unit: bytes.
    #[must_use]
    pub fn sent_bytes(&self) -> u32 {
        self.sent.pages().map(|page| page_len(self.plain_len, page)).sum()
    }

    /// Length of the pages that are all zeros. Unit: bytes.
    #[must_use]
    pub fn zero_bytes(&self) -> u32 {
        self.zero.pages().map(|page| page_len(self.plain_len, page)).sum()
    }

    /// Length of the pages that are kept from the stale copy. Unit: bytes.
    #[must_use]
    pub fn kept_bytes(&self) -> u32 {
        self.plain_len.saturating_sub(self.sent_bytes()).saturating_sub(self.zero_bytes())
    }

    /// Whether the frame says everything about the chunk, so that no stale copy is needed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sent | self.zero == all_pages(self.plain_len)
    }
}

/// Length of a page in a chunk of `plain_len` bytes. Unit: bytes; 0 beyond the end.
#[must_use]
pub fn page_len(plain_len: u32, page: u32) -> u32 {
    plain_len.saturating_sub(page.saturating_mul(PAGE)).min(PAGE)
}

/// The pages a chunk of `plain_len` bytes has.
#[must_use]
pub fn all_pages(plain_len: u32) -> PageMask {
    PageMask::first(plain_len.div_ceil(PAGE))
}

/// Length of an encoded [`ChunkRef`]. Unit: bytes.
pub(crate) const CHUNK_REF_BYTES: usize = 10;

pub(crate) fn put_chunk_ref(out: &mut Vec<u8>, at: &ChunkRef) {
    put_u32(out, at.file.0);
    put_u16(out, at.generation.0);
    put_u32(out, at.chunk.0);
}

pub(crate) fn read_chunk_ref(reader: &mut Reader<'_>) -> Result<ChunkRef, WireError> {
    let file = FileId(reader.u32()?);
    let generation = read_generation(reader)?;
    let chunk = ChunkIndex(reader.u32()?);
    if chunk.offset() >= FILE_BYTES_MAX {
        return Err(WireError::BadValue { what: "chunk number" });
    }
    Ok(ChunkRef { file, generation, chunk })
}

pub(crate) fn read_generation(reader: &mut Reader<'_>) -> Result<Generation, WireError> {
    let generation = reader.u16()?;
    crate::codec::check_len("generation", usize::from(generation), usize::from(GENERATION_MAX))?;
    Ok(Generation(generation))
}
