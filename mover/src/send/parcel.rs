//! What a lane sends in one go: a chunk, or many small ones back to back.

use bytes::Bytes;
use fastsst_proto::ChunkRef;
use fastsst_proto::chunk::{ChunkHeader, HEADER_BYTES};
use fastsst_proto::frame::FRAME_HEADER_BYTES;

use crate::compress::{Encoded, Encoder};
use crate::error::{Error, Result};
use crate::pool::PoolBuf;

/// What a chunk's frame has before the payload. Unit: bytes.
pub(super) const HEAD_BYTES: usize = FRAME_HEADER_BYTES + HEADER_BYTES;

/// Most chunks of one parcel. Why: handing a parcel on costs next to nothing for each of 64, and
/// a lane may have sixteen times as many unacknowledged.
pub(super) const PARCEL_CHUNKS_MAX: usize = 64;

/// One chunk in a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Framed {
    /// Which.
    pub(super) at: ChunkRef,
    /// Its frame. Unit: bytes.
    pub(super) wire_bytes: u64,
    /// Its content. Unit: bytes.
    pub(super) plain_bytes: u64,
}

impl From<&ChunkHeader> for Framed {
    fn from(header: &ChunkHeader) -> Self {
        let wire_bytes = HEAD_BYTES as u64 + u64::from(header.payload_len);
        Self { at: header.at, wire_bytes, plain_bytes: u64::from(header.plain_len) }
    }
}

/// Frames for a lane, in the order in which they are to go out.
#[derive(Debug)]
pub(super) struct Parcel {
    /// Whose frames they are. At most [`PARCEL_CHUNKS_MAX`].
    pub(super) chunks: Vec<Framed>,
    /// Their content. Unit: bytes.
    pub(super) plain_bytes: u64,
    /// What of the content is zeros that are not sent. Unit: bytes.
    pub(super) zero_bytes: u64,
    /// The frames, in one piece or two.
    pub(super) frames: [Bytes; 2],
}

impl From<Encoded> for Parcel {
    fn from(chunk: Encoded) -> Self {
        let Encoded { header, payload } = chunk;
        let mut head = Vec::with_capacity(HEAD_BYTES);
        header.encode_frame(&mut head);
        Self {
            chunks: vec![Framed::from(&header)],
            plain_bytes: u64::from(header.plain_len),
            zero_bytes: header.zero_bytes().into(),
            frames: [Bytes::from(head), payload],
        }
    }
}

/// A parcel of small chunks while it is filled.
///
/// Frames lie one behind the other in a single buffer: content is copied there, or compressed
/// into it, while it is in the processor's cache. So the transport keeps one piece for all of
/// them, and what they were read into is free again at once.
#[derive(Debug)]
pub(super) struct Packing {
    frames: PoolBuf,
    chunks: Vec<Framed>,
    plain_bytes: u64,
    zero_bytes: u64,
}

impl Packing {
    /// Nothing packed yet.
    pub(super) fn new(frames: PoolBuf) -> Self {
        Self { frames, chunks: Vec::new(), plain_bytes: 0, zero_bytes: 0 }
    }

    /// Adds a chunk whose pages that are sent are `content`, with the header of a raw chunk.
    ///
    /// # Errors
    /// E99: it does not fit; the plan keeps batches below the size of a buffer.
    pub(super) fn add(
        &mut self,
        mut header: ChunkHeader,
        content: &[u8],
        encoder: &mut Encoder,
    ) -> Result<()> {
        let payload = self.frames.len() + HEAD_BYTES;
        let room = self.frames.as_mut_slice().get_mut(payload..payload + content.len());
        let room = room.ok_or_else(|| Error::bug("a batch of small files beyond its buffer"))?;
        let len = encoder.compress_into(&mut header, content, room)?.unwrap_or_else(|| {
            room.copy_from_slice(content);
            content.len()
        });
        let mut head = Vec::with_capacity(HEAD_BYTES);
        header.encode_frame(&mut head);
        self.frames.as_mut_slice()[payload - HEAD_BYTES..payload].copy_from_slice(&head);
        self.frames.set_len(payload + len);
        self.chunks.push(Framed::from(&header));
        self.plain_bytes += u64::from(header.plain_len);
        self.zero_bytes += u64::from(header.zero_bytes());
        Ok(())
    }

    /// The parcel; `None` when nothing was packed.
    pub(super) fn finish(self) -> Option<Parcel> {
        let Self { frames, chunks, plain_bytes, zero_bytes } = self;
        (!chunks.is_empty()).then(|| Parcel {
            chunks,
            plain_bytes,
            zero_bytes,
            frames: [Bytes::from_owner(frames), Bytes::new()],
        })
    }
}

#[cfg(test)]
mod tests {
    use fastsst_proto::{FileId, Generation};

    use super::*;
    use std::sync::Arc;

    use crate::compress::{Compression, raw_header};
    use crate::options::Compress;
    use crate::pool::Pool;

    #[test]
    fn small_chunks_lie_back_to_back_as_their_frames() {
        let pool = Pool::new(3);
        let mut encoder =
            Encoder::new(Arc::new(Compression::new(Compress::Zstd(1))), pool.clone()).unwrap();
        let mut packing = Packing::new(pool.acquire().unwrap());
        let noise: Vec<u8> = (0..1250u32)
            .flat_map(|i| i.wrapping_mul(i).wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        let contents = [vec![7; 20_000], noise.clone(), vec![0; 9000], vec![1]];
        for (id, content) in (0..).zip(&contents) {
            let mut plain = pool.acquire().unwrap();
            plain.as_mut_slice()[..content.len()].copy_from_slice(content);
            plain.set_len(content.len());
            let at = ChunkRef { file: FileId(id), generation: Generation(0), ..Default::default() };
            let header = raw_header(at, content.len() as u64, &mut plain);
            packing.add(header, plain.filled(), &mut encoder).unwrap();
        }
        let parcel = packing.finish().unwrap();
        assert_eq!(parcel.chunks.len(), contents.len());
        assert_eq!((parcel.plain_bytes, parcel.zero_bytes), (34_001, 9000));
        let mut frames = &parcel.frames[0][..];
        for (id, content) in (0..).zip(&contents) {
            let header = ChunkHeader::decode(&frames[FRAME_HEADER_BYTES..]).unwrap();
            assert_eq!((header.at.file.0, header.plain_len as usize), (id, content.len()));
            let (payload, rest) =
                frames[HEAD_BYTES..].split_at(header.payload_len.try_into().unwrap());
            match id {
                0 => assert!(zstd::bulk::decompress(payload, 20_000).unwrap() == *content),
                2 => assert!(payload.is_empty() && header.sent.is_empty()),
                _ => assert!(payload == content),
            }
            frames = rest;
        }
        assert!(frames.is_empty());
        assert!(Packing::new(pool.acquire().unwrap()).finish().is_none());
    }
}
