//! A lane of the joiner: chunks in, acknowledgements out.

use std::sync::Arc;
use std::time::Duration;

use fastsst_proto::chunk::{ChunkHeader, HEADER_BYTES};
use fastsst_proto::frame::{FRAME_HEADER_BYTES, Frame, FrameHeader};
use fastsst_proto::limits::{
    ACKS_PER_FRAME_MAX, HEARTBEAT_INTERVAL_MS, UNACKED_CHUNKS_PER_LANE_MAX,
};
use fastsst_proto::{ChunkRef, Scope};
use flume::{Receiver, Sender};

use super::catalog::{Catalog, Item};
use super::compare::Comparison;
use super::greet::{HANDSHAKE, Secrets, Visitor, greet};
use super::small::{Group, is_small};
use crate::cancel::Cancel;
use crate::carried::Carried;
use crate::error::{Code, Error, Result};
use crate::net::{Carrier, FrameReader, FrameWriter, LaneSocket, Reader, Writer};
use crate::pool::{Pool, PoolBuf};
use crate::progress::{Phase, Progress};

/// Where the lane that brought chunks is told what became of them.
pub(super) type Acks = Sender<Outcome>;

/// What became of chunks.
#[derive(Debug)]
pub(super) enum Outcome {
    /// They are written.
    Stored(Vec<ChunkRef>),
    /// It cannot be made from the pages that came; the whole of it is needed.
    Again(ChunkRef),
}

/// A chunk as it came from a lane.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) header: ChunkHeader,
    pub(super) item: Arc<Item>,
    pub(super) payload: PoolBuf,
    /// Where the chunk is acknowledged when it is written.
    pub(super) acks: Acks,
}

/// What all lanes of a transfer share.
#[derive(Debug)]
pub(super) struct Lanes {
    pub(super) secrets: Secrets,
    pub(super) catalog: Arc<Catalog>,
    /// Present when there is a stale copy.
    pub(super) comparison: Option<Arc<Comparison>>,
    pub(super) pool: Pool,
    pub(super) arrived: Sender<Arrived>,
    /// Chunks that are small files of their own.
    pub(super) groups: Sender<Group>,
    pub(super) progress: Arc<Progress>,
    pub(super) carried: Arc<Carried>,
    pub(super) cancel: Cancel,
}

impl Lanes {
    /// Serves a lane on a socket of its own, from the handshake to its end.
    ///
    /// # Errors
    /// The lane did not come, or died; the donor sends again what was not acknowledged.
    pub(super) async fn serve_socket(self: Arc<Self>, socket: LaneSocket) -> Result<()> {
        let connection = socket.accept(HANDSHAKE).await?;
        let Some(visitor) = greet(connection, &self.secrets).await? else {
            return Err(Error::new(Code::PeerGone, "a lane closed at once"));
        };
        if let Scope::Control = visitor.accepted.scope {
            visitor.turn_away(Code::Busy, "this port is a lane's").await;
            return Err(Error::new(Code::Busy, "a donor came to the port of a lane"));
        }
        self.serve_visitor(visitor).await
    }

    /// Serves a lane that has proven itself, until the donor ends it.
    ///
    /// # Errors
    /// As [`Lanes::serve_socket`].
    pub(super) async fn serve_visitor(self: Arc<Self>, mut visitor: Visitor) -> Result<()> {
        if visitor.link.can_move() {
            visitor.link.move_here()?;
        }
        visitor.welcome(&self.secrets).await?;
        let Visitor { mut reader, mut writer, link, .. } = visitor;
        reader.peer_is_proven();
        // As many as the donor may leave unacknowledged, so that a worker never waits for a lane.
        let (acks, acks_rx) = flume::bounded(UNACKED_CHUNKS_PER_LANE_MAX);
        let receiving = self.receive(&mut reader, (acks, link.carrier()));
        let acking = write_acks(&mut writer, &acks_rx, link.carrier());
        let serving = async {
            tokio::pin!(receiving, acking);
            tokio::select! {
                received = &mut receiving => {
                    received?;
                    // The donor has sent its last chunk; the last acks follow.
                    acking.await
                }
                acked = &mut acking => acked,
            }
        };
        tokio::select! {
            served = serving => served,
            () = self.cancel.cancelled() => Err(self.cancel.reason()),
        }
    }

    async fn receive(
        &self,
        reader: &mut FrameReader<Reader>,
        (acks, carrier): (Acks, Carrier),
    ) -> Result<()> {
        let mut group: Option<Group> = None;
        loop {
            let frame = tokio::select! {
                biased;
                frame = reader.read_header() => match frame {
                    Ok(frame) => frame,
                    Err(error) => {
                        // What has arrived whole is not thrown away with its lane.
                        self.hand_on(&mut group).await?;
                        return Err(error);
                    }
                },
                // Nothing more is here now: what there is must not wait for it.
                () = std::future::ready(()), if group.is_some() => {
                    self.hand_on(&mut group).await?;
                    continue;
                }
            };
            let Some(frame) = frame else { return self.hand_on(&mut group).await };
            if !frame.is_chunk() {
                if let Some(frame) = reader.read_body(frame).await? {
                    let what = format!("{} sent {} on a lane", reader.peer(), frame.name());
                    return Err(self.fatal(Error::new(Code::Protocol, what)));
                }
                continue;
            }
            let (header, item) = self.header(reader, frame).await?;
            let wire = (FRAME_HEADER_BYTES + frame.body_len()) as u64;
            self.progress.add_wire(wire);
            self.carried.add(carrier, wire);
            if is_small(&header, &item) {
                self.receive_small(reader, &mut group, (header, item), &acks).await?;
            } else {
                // A lane waits for a buffer only while it holds none.
                self.hand_on(&mut group).await?;
                self.receive_large(reader, (header, item), &acks).await?;
            }
        }
    }

    /// Takes the payload of a small chunk into the group, or of a full one into the next.
    async fn receive_small(
        &self,
        reader: &mut FrameReader<Reader>,
        group: &mut Option<Group>,
        (header, item): (ChunkHeader, Arc<Item>),
        acks: &Acks,
    ) -> Result<()> {
        if group.as_mut().is_none_or(|group| group.place(&header).is_none()) {
            self.hand_on(group).await?;
            *group = Some(Group::new(self.buffer().await?, acks));
        }
        let beyond = || Error::bug("a small payload beyond its buffer");
        let group = group.as_mut().ok_or_else(beyond)?;
        reader.read_exact(group.place(&header).ok_or_else(beyond)?).await?;
        group.add(header, item);
        Ok(())
    }

    async fn receive_large(
        &self,
        reader: &mut FrameReader<Reader>,
        (header, item): (ChunkHeader, Arc<Item>),
        acks: &Acks,
    ) -> Result<()> {
        let mut payload = self.buffer().await?;
        let len = usize::try_from(header.payload_len).unwrap_or(0);
        let room = payload.as_mut_slice().get_mut(..len);
        reader.read_exact(room.ok_or_else(|| Error::bug("a payload beyond its buffer"))?).await?;
        payload.set_len(len);
        if item.entry.generation > header.at.generation {
            // The file was declared again meanwhile; its old chunks are of no use.
            return self.drop_chunk(acks, header.at);
        }
        let arrived = Arrived { header, item, payload, acks: acks.clone() };
        self.arrived.send_async(arrived).await.map_err(|_closed| self.cancel.reason())
    }

    async fn buffer(&self) -> Result<PoolBuf> {
        self.pool.acquire_async().await.ok_or_else(|| self.cancel.reason())
    }

    async fn hand_on(&self, group: &mut Option<Group>) -> Result<()> {
        let Some(group) = group.take() else { return Ok(()) };
        self.groups.send_async(group).await.map_err(|_closed| self.cancel.reason())
    }

    async fn header(
        &self,
        reader: &mut FrameReader<Reader>,
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
        let may_be_partial = self.comparison.is_some() && !is_small(&header, &item);
        if item.staged.is_none() || !(header.is_complete() || may_be_partial) {
            let what =
                format!("{} sent a chunk that {} cannot have", reader.peer(), item.entry.path);
            return Err(self.fatal(Error::new(Code::Protocol, what)));
        }
        Ok((header, item))
    }

    fn drop_chunk(&self, acks: &Acks, at: ChunkRef) -> Result<()> {
        acks.try_send(Outcome::Stored(vec![at])).map_err(|_closed| {
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
///
/// Over TCP heartbeats fill the pauses: QUIC keeps its connections alive by itself, but the kernel
/// of a donor cannot tell a joiner whose disk is slow from one that has vanished.
async fn write_acks(
    writer: &mut FrameWriter<Writer>,
    acks: &Receiver<Outcome>,
    carrier: Carrier,
) -> Result<()> {
    const HEARTBEAT: Duration = Duration::from_millis(HEARTBEAT_INTERVAL_MS);
    loop {
        let first = match tokio::time::timeout(HEARTBEAT, acks.recv_async()).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => return writer.finish().await,
            Err(_) if carrier == Carrier::Tcp => {
                let phase = Phase::Copy as u8;
                writer.write_frame(&Frame::Heartbeat { bytes: 0, files: 0, phase }).await?;
                continue;
            }
            Err(_) => continue,
        };
        let (mut stored, mut again) = (Vec::new(), Vec::new());
        for outcome in std::iter::once(first).chain(acks.try_iter()) {
            match outcome {
                Outcome::Stored(chunks) => stored.extend(chunks),
                Outcome::Again(chunk) => again.push(chunk),
            }
        }
        for frame in stored.chunks(ACKS_PER_FRAME_MAX) {
            writer.queue(&Frame::Ack(frame.to_vec()));
        }
        for frame in again.chunks(ACKS_PER_FRAME_MAX) {
            writer.queue(&Frame::Again(frame.to_vec()));
        }
        writer.flush().await?;
    }
}
