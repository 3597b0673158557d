//! A lane of the donor: chunks out, acknowledgements in, and a new connection when one dies.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastsst_proto::chunk::HEADER_BYTES;
use fastsst_proto::frame::{FRAME_HEADER_BYTES, Frame};
use fastsst_proto::lane::{DonorLane, donor_check_welcome, donor_hello};
use fastsst_proto::secret::Secret;
use fastsst_proto::{LaneId, Scope, TransferId};
use flume::{Receiver, Sender};
use tokio::sync::Notify;

use super::control::Order;
use super::plan::Plan;
use crate::cancel::Cancel;
use crate::compress::{Encoded, Histogram};
use crate::error::{Code, Error, Result};
use crate::net::{
    Connection, FrameReader, FrameWriter, LanePort, NetOptions, Pin, QuicReader, QuicWriter,
};
use crate::progress::Progress;
use crate::runtime::block_on;
use crate::talk::protocol_error;

/// When no lane has been alive for this long the transfer ends; one alone may stay away.
const RECONNECT: Duration = Duration::from_secs(30);

/// First and longest pause before a dead lane is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What all lanes of a transfer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) peer: SocketAddr,
    pub(super) pin: Pin,
    pub(super) token: Secret,
    pub(super) transfer: TransferId,
    pub(super) software: String,
    pub(super) net: NetOptions,
    pub(super) orders: Sender<Order>,
    pub(super) chunks: Receiver<Encoded>,
    pub(super) plan: Arc<Plan>,
    pub(super) progress: Arc<Progress>,
    /// When any lane was last seen alive.
    pub(super) alive: Mutex<Instant>,
    pub(super) replaced: AtomicU64,
    pub(super) zero_bytes: AtomicU64,
    pub(super) histogram: Histogram,
    pub(super) cancel: Cancel,
}

impl Shared {
    fn alive(&self) -> MutexGuard<'_, Instant> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One lane; runs on a thread of its own.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: LaneId,
    pub(super) ready: Receiver<()>,
    pub(super) shared: Arc<Shared>,
}

impl Lane {
    /// Sends until no chunks are left, over as many connections as it takes.
    ///
    /// # Errors
    /// The lane cannot be brought back, or the joiner refuses it.
    pub(super) fn run(self) -> Result<()> {
        let mut pause = PAUSE.0;
        loop {
            let ledger = RefCell::new(DonorLane::new());
            let ended = block_on(async {
                tokio::select! {
                    ended = self.serve(&ledger) => ended,
                    () = self.shared.cancel.cancelled() => Err(self.shared.cancel.reason()),
                }
            });
            let unacked = ledger.into_inner().into_unacked();
            let Err(error) = ended else {
                return if unacked.is_empty() {
                    Ok(())
                } else {
                    Err(Error::bug("a lane ended early"))
                };
            };
            self.shared.cancel.check()?;
            if unacked.is_empty() && self.shared.chunks.is_disconnected() {
                tracing::debug!("lane {} died after its last chunk: {error}", self.id.0);
                return Ok(());
            }
            let hopeless = self.shared.alive().elapsed() >= RECONNECT;
            if hopeless || !matches!(error.code(), Code::PeerGone | Code::Unreachable | Code::Idle)
            {
                return Err(error);
            }
            tracing::warn!(
                "lane {} died, its {} unacknowledged chunks are sent again over others: {error}",
                self.id.0,
                unacked.len(),
            );
            self.shared.replaced.fetch_add(1, Ordering::Relaxed);
            self.shared.plan.send_again(unacked);
            self.shared.cancel.sleep(pause)?;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn serve(&self, ledger: &RefCell<DonorLane>) -> Result<()> {
        let (mut reader, mut writer) = self.connect().await?;
        *self.shared.alive() = Instant::now();
        let room = Notify::new();
        let sending = self.send_chunks(&mut writer, ledger, &room);
        let acking = self.take_acks(&mut reader, ledger, &room);
        tokio::pin!(sending, acking);
        tokio::select! {
            sent = &mut sending => match sent {
                // Everything is written; the joiner ends its side after the last ack.
                Ok(()) => acking.await,
                Err(error) => Err(error),
            },
            acked = &mut acking => match acked {
                Ok(()) => Err(Error::new(Code::PeerGone, "the joiner ended a lane early")),
                Err(error) => Err(error),
            },
        }
    }

    /// Announces the port, waits until the joiner listens for it, connects, proves both ends.
    async fn connect(&self) -> Result<(FrameReader<QuicReader>, FrameWriter<QuicWriter>)> {
        let shared = &self.shared;
        let port = LanePort::bind(shared.peer, &shared.net)?;
        while self.ready.try_recv().is_ok() {}
        let order = Order::OfferLane { lane: self.id, source_port: port.source_port() };
        shared.orders.send_async(order).await.map_err(|_closed| shared.cancel.reason())?;
        self.ready.recv_async().await.map_err(|_closed| shared.cancel.reason())?;
        let connection = port.connect(shared.pin).await?;
        let Connection { exporter, reader, writer, link, .. } = connection;
        let (mut reader, mut writer) = (FrameReader::new(reader), FrameWriter::new(writer));
        let scope = Scope::Lane { transfer: shared.transfer, lane: self.id };
        let hello =
            donor_hello(&shared.token, &exporter, shared.transfer, self.id, &shared.software);
        writer.write_frame(&hello).await?;
        let answer = reader.read_frame().await?.ok_or_else(|| {
            Error::new(Code::PeerGone, format!("{} closed a lane without an answer", link.peer()))
        })?;
        donor_check_welcome(&answer, &shared.token, &exporter, &scope)
            .map_err(|error| protocol_error(link.peer(), error))?;
        reader.peer_is_proven();
        tracing::debug!("lane {} is up, {:?}", self.id.0, link.stats());
        Ok((reader, writer))
    }

    async fn send_chunks(
        &self,
        writer: &mut FrameWriter<QuicWriter>,
        ledger: &RefCell<DonorLane>,
        room: &Notify,
    ) -> Result<()> {
        loop {
            while ledger.borrow().is_full() {
                room.notified().await;
            }
            let Ok(chunk) = self.shared.chunks.recv_async().await else {
                return writer.finish().await;
            };
            // Before the first byte goes out: from here on a dead lane gives the chunk back.
            ledger.borrow_mut().sent(chunk.header.at);
            let mut head = Vec::with_capacity(FRAME_HEADER_BYTES + HEADER_BYTES);
            chunk.header.encode_frame(&mut head);
            self.shared.progress.add_wire((head.len() + chunk.payload.len()) as u64);
            let unsent = chunk.header.plain_len - chunk.header.sent_bytes();
            self.shared.zero_bytes.fetch_add(u64::from(unsent), Ordering::Relaxed);
            self.shared.histogram.count(chunk.how);
            self.shared.progress.add_bytes(u64::from(chunk.header.plain_len));
            writer.write_all(&mut [Bytes::from(head), chunk.payload]).await?;
        }
    }

    async fn take_acks(
        &self,
        reader: &mut FrameReader<QuicReader>,
        ledger: &RefCell<DonorLane>,
        room: &Notify,
    ) -> Result<()> {
        while let Some(frame) = reader.read_frame().await? {
            let Frame::Ack(chunks) = frame else {
                let what = format!("{} sent {} on a lane", reader.peer(), frame.name());
                return Err(Error::new(Code::Protocol, what));
            };
            ledger
                .borrow_mut()
                .handle_ack(&chunks)
                .map_err(|error| protocol_error(reader.peer(), error))?;
            self.shared.plan.chunks_settled(chunks.len() as u64)?;
            *self.shared.alive() = Instant::now();
            room.notify_one();
        }
        Ok(())
    }
}
