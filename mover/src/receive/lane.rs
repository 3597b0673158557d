//! A lane of the joiner: chunks in, acknowledgements out.

use std::sync::Arc;

use fastsst_proto::ChunkRef;
use fastsst_proto::chunk::{ChunkHeader, HEADER_BYTES};
use fastsst_proto::frame::{FRAME_HEADER_BYTES, Frame, FrameHeader};
use fastsst_proto::lane::{joiner_check_hello, joiner_welcome};
use fastsst_proto::limits::{ACKS_PER_FRAME_MAX, HANDSHAKE_MS, UNACKED_CHUNKS_PER_LANE_MAX};
use fastsst_proto::secret::Secret;
use fastsst_proto::{Scope, TransferId};
use flume::{Receiver, Sender};

use super::catalog::{Catalog, Item};
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::net::{Connection, FrameReader, FrameWriter, LaneSocket, QuicReader, QuicWriter};
use crate::pool::{Pool, PoolBuf};
use crate::progress::Progress;
use crate::talk::protocol_error;

/// A chunk as it came from a lane.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) header: ChunkHeader,
    pub(super) item: Arc<Item>,
    pub(super) payload: PoolBuf,
    /// Where the chunk is acknowledged when it is written.
    pub(super) acks: Sender<ChunkRef>,
}

/// What all lanes of a transfer share.
#[derive(Debug)]
pub(super) struct Lanes {
    pub(super) token: Secret,
    pub(super) transfer: TransferId,
    pub(super) software: String,
    pub(super) catalog: Arc<Catalog>,
    pub(super) pool: Pool,
    pub(super) arrived: Sender<Arrived>,
    pub(super) progress: Arc<Progress>,
    pub(super) cancel: Cancel,
}

impl Lanes {
    /// Serves a lane on a socket of its own, from the handshake to its end.
    ///
    /// # Errors
    /// The lane did not come, or died; the donor sends again what was not acknowledged.
    pub(super) async fn serve_socket(&self, socket: LaneSocket) -> Result<()> {
        let patience = std::time::Duration::from_millis(HANDSHAKE_MS);
        let connection = socket.accept(patience).await?;
        let Connection { exporter, reader, writer, link, .. } = connection;
        let (mut reader, mut writer) = (FrameReader::new(reader), FrameWriter::new(writer));
        let hello = tokio::time::timeout(patience, reader.read_frame());
        let hello = hello.await.map_err(|error| {
            Error::new(Code::Unreachable, format!("{} said nothing", link.peer())).because(error)
        })??;
        let hello = hello.ok_or_else(|| Error::new(Code::PeerGone, "a lane closed at once"))?;
        let checked = joiner_check_hello(&hello, &self.token, &exporter, Some(&self.transfer));
        let accepted = checked.and_then(|accepted| match accepted.scope {
            Scope::Lane { .. } => Ok(accepted),
            Scope::Control => Err(fastsst_proto::ProtocolError::WrongTransfer),
        });
        match accepted {
            Ok(accepted) => {
                let scope = accepted.scope;
                let answer =
                    joiner_welcome(&self.token, &exporter, &scope, self.transfer, &self.software);
                writer.write_frame(&answer).await?;
                self.serve(reader, writer).await
            }
            Err(error) => {
                if let Some(refusal) = error.refusal() {
                    writer.write_frame(&Frame::Refuse(refusal)).await?;
                    writer.finish().await?;
                }
                Err(protocol_error(link.peer(), error))
            }
        }
    }

    /// Serves a lane whose two ends have proven themselves, until the donor ends it.
    ///
    /// # Errors
    /// As [`Lanes::serve_socket`].
    pub(super) async fn serve(
        &self,
        mut reader: FrameReader<QuicReader>,
        mut writer: FrameWriter<QuicWriter>,
    ) -> Result<()> {
        reader.peer_is_proven();
        // As many as the donor may leave unacknowledged, so that a worker never waits for a lane.
        let (acks, acks_rx) = flume::bounded(UNACKED_CHUNKS_PER_LANE_MAX);
        let receiving = self.receive(&mut reader, acks);
        let acking = write_acks(&mut writer, &acks_rx);
        tokio::pin!(receiving, acking);
        tokio::select! {
            received = &mut receiving => {
                received?;
                // The donor has sent its last chunk; the last acks follow.
                acking.await
            }
            acked = &mut acking => acked,
            () = self.cancel.cancelled() => Err(self.cancel.reason()),
        }
    }

    async fn receive(
        &self,
        reader: &mut FrameReader<QuicReader>,
        acks: Sender<ChunkRef>,
    ) -> Result<()> {
        while let Some(frame) = reader.read_header().await? {
            if !frame.is_chunk() {
                if let Some(frame) = reader.read_body(frame).await? {
                    let what = format!("{} sent {} on a lane", reader.peer(), frame.name());
                    return Err(self.fatal(Error::new(Code::Protocol, what)));
                }
                continue;
            }
            let (header, item) = self.header(reader, frame).await?;
            let mut payload =
                self.pool.acquire_async().await.ok_or_else(|| self.cancel.reason())?;
            let len = usize::try_from(header.payload_len).unwrap_or(0);
            let room = payload.as_mut_slice().get_mut(..len);
            reader
                .read_exact(room.ok_or_else(|| Error::bug("a payload beyond its buffer"))?)
                .await?;
            payload.set_len(len);
            self.progress.add_wire((FRAME_HEADER_BYTES + frame.body_len()) as u64);
            if item.entry.generation > header.at.generation {
                // The file was declared again meanwhile; its old chunks are of no use.
                self.drop_chunk(&acks, header.at)?;
                continue;
            }
            let arrived = Arrived { header, item, payload, acks: acks.clone() };
            self.arrived.send_async(arrived).await.map_err(|_closed| self.cancel.reason())?;
        }
        Ok(())
    }

    async fn header(
        &self,
        reader: &mut FrameReader<QuicReader>,
        frame: FrameHeader,
    ) -> Result<(ChunkHeader, Arc<Item>)> {
        let mut bytes = [0; HEADER_BYTES];
        reader.read_exact(&mut bytes).await?;
        let malformed = |error| {
            let what = format!("{} sent a malformed chunk", reader.peer());
            self.fatal(Error::new(Code::Protocol, what).because(error))
        };
        let header = ChunkHeader::decode(&bytes).map_err(malformed)?;
        header.validate_frame(frame).map_err(malformed)?;
        let item = self.catalog.file(header.at).await.map_err(|error| self.fatal(error))?;
        if item.entry.generation == header.at.generation {
            header.validate_against(item.entry.size).map_err(malformed)?;
        }
        if item.staged.is_none() || !header.is_complete() {
            let what =
                format!("{} sent a chunk that {} cannot have", reader.peer(), item.entry.path);
            return Err(self.fatal(Error::new(Code::Protocol, what)));
        }
        Ok((header, item))
    }

    fn drop_chunk(&self, acks: &Sender<ChunkRef>, at: ChunkRef) -> Result<()> {
        acks.try_send(at).map_err(|_closed| {
            self.fatal(Error::new(Code::Protocol, "the donor left too much unacknowledged"))
        })
    }

    /// A broken protocol is no broken lane: the transfer ends.
    fn fatal(&self, error: Error) -> Error {
        self.cancel.cancel_with(&error);
        error
    }
}

/// Sends acknowledgements, as many as there are at a time, until no chunk is left to be written.
async fn write_acks(writer: &mut FrameWriter<QuicWriter>, acks: &Receiver<ChunkRef>) -> Result<()> {
    while let Ok(first) = acks.recv_async().await {
        let mut batch = vec![first];
        batch.extend(acks.try_iter().take(ACKS_PER_FRAME_MAX - 1));
        writer.write_frame(&Frame::Ack(batch)).await?;
    }
    writer.finish().await
}
