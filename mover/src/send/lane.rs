//! A lane of the donor: chunks out, acknowledgements in, and a new connection when one dies.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastsst_proto::frame::Frame;
use fastsst_proto::lane::{DonorLane, donor_check_welcome, donor_hello};
use fastsst_proto::limits::UNACKED_CHUNKS_PER_LANE_MAX;
use fastsst_proto::secret::Secret;
use fastsst_proto::{ChunkRef, LaneId, ProtocolError, Scope, TransferId};
use flume::{Receiver, Sender};
use tokio::sync::Notify;

use super::control::Order;
use super::notices::Notices;
use super::parcel::{Framed, PARCEL_CHUNKS_MAX, Parcel};
use super::plan::Plan;
use super::transport::{Acked, Switch};
use crate::bottleneck::{Samples, is_half_full};
use crate::cancel::Cancel;
use crate::carried::Carried;
use crate::cpu::ThreadLoad;
use crate::error::{Code, Error, Result};
use crate::net::{
    Carrier, Connection, FrameReader, FrameWriter, LanePort, Link, NetOptions, Pin, Reader, Writer,
};
use crate::progress::Progress;
use crate::runtime::block_on;
use crate::talk::protocol_error;

/// First and longest pause before a dead lane is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How often a lane that is away looks whether it is still wanted. Why: no person notices it, and
/// it costs nothing.
const LOOK: Duration = Duration::from_millis(50);

/// Share of a core from which a lane, and not the link, is what limits.
const LANE_BUSY: f64 = 0.7;

/// Idle share of the machine below which a cheaper transport helps, be it that it leaves more time
/// for compression.
const MACHINE_BUSY: f64 = 0.3;

/// What all lanes of a transfer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) peer: SocketAddr,
    pub(super) pin: Pin,
    pub(super) token: Secret,
    pub(super) transfer: TransferId,
    pub(super) software: String,
    /// As far as every lane has the same; the rest follows from what carries it.
    pub(super) net: NetOptions,
    pub(super) switch: Switch,
    pub(super) carried: Carried,
    pub(super) notices: Notices,
    pub(super) orders: Sender<Order>,
    pub(super) parcels: Receiver<Parcel>,
    pub(super) plan: Arc<Plan>,
    pub(super) progress: Arc<Progress>,
    /// Lanes that are connected, and when there were none.
    pub(super) connected: Connected,
    /// How long there may be none; one alone may stay away.
    pub(super) reconnect_timeout: Duration,
    pub(super) replaced: AtomicU64,
    pub(super) zero_bytes: AtomicU64,
    pub(super) samples: Arc<Samples>,
    pub(super) cancel: Cancel,
}

/// How many lanes are connected. A lane that waits for a slow disk is: its transport notices by
/// itself when the peer is gone.
#[derive(Debug)]
pub(super) struct Connected(Mutex<(u32, Instant)>);

impl Connected {
    /// None, since now.
    pub(super) fn none() -> Self {
        Self(Mutex::new((0, Instant::now())))
    }

    /// One more, until the result is dropped.
    fn one(&self) -> impl Drop + '_ {
        self.lock().0 += 1;
        OneConnected(self)
    }

    /// For how long no lane has been connected.
    fn missing_for(&self) -> Duration {
        let (lanes, since) = *self.lock();
        if lanes == 0 { since.elapsed() } else { Duration::ZERO }
    }

    fn lock(&self) -> MutexGuard<'_, (u32, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct OneConnected<'a>(&'a Connected);

impl Drop for OneConnected<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        *state = (state.0.saturating_sub(1), Instant::now());
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
        let shared = &self.shared;
        let mut pause = PAUSE.0;
        loop {
            let (under_way, since) = (RefCell::new(UnderWay::default()), Instant::now());
            let carrier = shared.switch.look(|decision| decision.carrier());
            let ended = block_on(async {
                tokio::select! {
                    ended = self.serve(carrier, &under_way) => ended,
                    () = shared.cancel.cancelled() => Err(shared.cancel.reason()),
                }
            });
            let unacked = under_way.into_inner().ledger.into_unacked();
            let error = match ended {
                Ok(_) if !unacked.is_empty() => {
                    let what = "the joiner ended a lane before it had acknowledged everything";
                    Error::new(Code::PeerGone, what)
                }
                Ok(End::Done) => return Ok(()),
                Ok(End::Changing) if shared.parcels.is_disconnected() => return Ok(()),
                Ok(End::Changing) => {
                    shared.switch.tell(|decision, _| decision.lane_left(self.id));
                    continue;
                }
                Err(error) => error,
            };
            shared.cancel.check()?;
            if unacked.is_empty() && shared.parcels.is_disconnected() {
                tracing::debug!("lane {} died after its last chunk: {error}", self.id.0);
                return Ok(());
            }
            if !matches!(error.code(), Code::PeerGone | Code::Unreachable | Code::Idle) {
                return Err(error);
            }
            tracing::warn!(
                "lane {} died, its {} unacknowledged chunks are sent again over others: {error}",
                self.id.0,
                unacked.len(),
            );
            shared.replaced.fetch_add(1, Ordering::Relaxed);
            shared.plan.send_again(unacked);
            shared.switch.tell(|decision, now| {
                decision.lane_failed(now, self.id, (carrier, since));
            });
            match self.rest(pause)? {
                None => pause = (pause * 2).min(PAUSE.1),
                Some(Away::Unneeded) => return Ok(()),
                Some(Away::Hopeless) => return Err(self.lost(error)),
            }
        }
    }

    /// Waits before the next attempt, unless there shall be none.
    fn rest(&self, pause: Duration) -> Result<Option<Away>> {
        block_on(async {
            tokio::select! {
                () = tokio::time::sleep(pause) => Ok(None),
                away = self.away() => Ok(Some(away)),
                () = self.shared.cancel.cancelled() => Err(self.shared.cancel.reason()),
            }
        })
    }

    /// Resolves when a lane that is away need not or must not go on trying.
    async fn away(&self) -> Away {
        let shared = &self.shared;
        loop {
            if shared.parcels.is_disconnected() {
                return Away::Unneeded;
            }
            if shared.connected.missing_for() >= shared.reconnect_timeout {
                return Away::Hopeless;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Why the transfer ends when no lane is left.
    fn lost(&self, last: Error) -> Error {
        let limit = self.shared.reconnect_timeout.as_secs();
        let what = format!(
            "all lanes have been missing for {limit} s and none could be connected; see to the \
             network between, or allow it more time with sst-reconnect-timeout \
             (--reconnect-timeout of fastsst send)"
        );
        Error::new(Code::PeerGone, what).because(last)
    }

    async fn serve(&self, carrier: Carrier, under_way: &RefCell<UnderWay>) -> Result<End> {
        let connected = tokio::select! {
            connected = self.connect(carrier) => connected,
            away = self.away() => match away {
                Away::Unneeded => return Ok(End::Done),
                Away::Hopeless => {
                    let what = format!("{} does not answer over {carrier}", self.shared.peer);
                    Err(Error::new(Code::Unreachable, what))
                }
            },
        };
        let (mut reader, mut writer, link) = connected?;
        let _connected = self.shared.connected.one();
        self.shared.switch.tell(|decision, now| decision.lane_up(now, self.id, carrier));
        let room = Notify::new();
        let sending = self.send_chunks(&mut writer, (carrier, under_way), &room);
        let acking = self.take_acks(&mut reader, (&link, under_way), &room);
        tokio::pin!(sending, acking);
        let end = tokio::select! {
            sent = &mut sending => {
                let end = sent?;
                // Everything is written; the joiner ends its side after the last ack.
                acking.await?;
                end
            }
            acked = &mut acking => {
                acked?;
                // The joiner may be done before we hear that it has our end.
                let end = under_way.borrow().end;
                end.ok_or_else(|| Error::new(Code::PeerGone, "the joiner ended a lane early"))?
            }
        };
        tracing::debug!("lane {} is done over {carrier}, {:?}", self.id.0, link.stats());
        Ok(end)
    }

    /// Announces the port, waits until the joiner listens for it, connects, proves both ends.
    async fn connect(
        &self,
        carrier: Carrier,
    ) -> Result<(FrameReader<Reader>, FrameWriter<Writer>, Link)> {
        let shared = &self.shared;
        let net = shared.switch.look(|decision| NetOptions {
            silence: decision.silence(carrier),
            connect_timeout: decision.patience(shared.net.connect_timeout),
            ..shared.net.clone()
        });
        let port = LanePort::bind(shared.peer, carrier, &net)?;
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
        tracing::debug!("lane {} is up over {carrier}, {:?}", self.id.0, link.stats());
        Ok((reader, writer, link))
    }

    async fn send_chunks(
        &self,
        writer: &mut FrameWriter<Writer>,
        (carrier, under_way): (Carrier, &RefCell<UnderWay>),
        room: &Notify,
    ) -> Result<End> {
        let mut change = self.shared.switch.watch();
        loop {
            // Before a parcel is taken: another lane may have room for it.
            while under_way.borrow().is_full() {
                room.notified().await;
            }
            let next = tokio::select! {
                biased;
                // The sender lives in `shared`: this ends by a change only.
                changed = change.wait_for(|now| *now != carrier) => match changed {
                    Ok(_) => Err(End::Changing),
                    Err(_) => return Err(self.shared.cancel.reason()),
                },
                parcel = self.shared.parcels.recv_async() => parcel.map_err(|_closed| End::Done),
            };
            let parcel = match next {
                Ok(parcel) => parcel,
                Err(end) => {
                    under_way.borrow_mut().end = Some(end);
                    return writer.finish().await.map(|()| end);
                }
            };
            let Parcel { chunks, plain_bytes, zero_bytes, mut frames } = parcel;
            // Before the first byte goes out: from here on a dead lane gives the chunks back.
            under_way.borrow_mut().sent(&chunks);
            self.shared.progress.add_wire(chunks.iter().map(|chunk| chunk.wire_bytes).sum());
            self.shared.zero_bytes.fetch_add(zero_bytes, Ordering::Relaxed);
            self.shared.progress.add_bytes(plain_bytes);
            writer.write_all(&mut frames).await?;
        }
    }

    async fn take_acks(
        &self,
        reader: &mut FrameReader<Reader>,
        (link, under_way): (&Link, &RefCell<UnderWay>),
        room: &Notify,
    ) -> Result<()> {
        let load = ThreadLoad::start();
        while let Some(frame) = reader.read_frame().await? {
            // A joiner whose disk is slow says that it is there.
            if let Frame::Heartbeat { .. } = frame {
                continue;
            }
            // The pages that were sent do not make a chunk out of what the joiner has.
            let (chunks, stored) = if let Frame::Again(chunks) = frame {
                (chunks, Stored::No)
            } else {
                (acks(reader, frame)?, Stored::Yes)
            };
            let acked = under_way
                .borrow_mut()
                .acked(&chunks)
                .map_err(|error| protocol_error(reader.peer(), error))?;
            match stored {
                Stored::Yes => self.shared.plan.acknowledged(&chunks)?,
                Stored::No => self.shared.plan.send_whole(chunks),
            }
            self.account(link, &load, acked);
            room.notify_one();
        }
        Ok(())
    }

    /// What acknowledgements say about the transport.
    fn account(&self, link: &Link, load: &ThreadLoad, (wire_bytes, plain_bytes): (u64, u64)) {
        let Shared { switch, carried, notices, progress, parcels, samples, .. } = &*self.shared;
        let carrier = link.carrier();
        carried.add(carrier, wire_bytes);
        let stats = link.stats();
        notices.look(&stats);
        let acked = Acked {
            carrier,
            wire_bytes,
            plain_bytes,
            lanes_limit: samples.cpu_idle() < MACHINE_BUSY
                || (load.share() >= LANE_BUSY && is_half_full(parcels)),
            datagram_bytes: stats.datagrams.map(|datagrams| datagrams.bytes_max),
            plain_left: progress.bytes_total().saturating_sub(progress.bytes_done()),
        };
        switch.tell(|decision, now| decision.acked(now, &acked));
    }
}

/// Whether the joiner has what it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    Yes,
    No,
}

fn acks(reader: &FrameReader<Reader>, frame: Frame) -> Result<Vec<ChunkRef>> {
    let Frame::Ack(chunks) = frame else {
        let what = format!("{} sent {} on a lane", reader.peer(), frame.name());
        return Err(Error::new(Code::Protocol, what));
    };
    Ok(chunks)
}

/// Why a lane that is not connected stops trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    /// Others have sent everything.
    Unneeded,
    /// There has been no lane for too long.
    Hopeless,
}

/// How a connection ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// No chunks are left.
    Done,
    /// Lanes shall use another transport.
    Changing,
}

/// What one connection has sent and not seen acknowledged.
#[derive(Debug, Default)]
struct UnderWay {
    ledger: DonorLane,
    /// Bytes of frame and content of each chunk.
    sizes: HashMap<ChunkRef, (u64, u64)>,
    /// No more is sent, and why.
    end: Option<End>,
}

impl UnderWay {
    /// Whether there is no room for the names of another parcel.
    fn is_full(&self) -> bool {
        self.ledger.outstanding() > UNACKED_CHUNKS_PER_LANE_MAX - PARCEL_CHUNKS_MAX
    }

    fn sent(&mut self, chunks: &[Framed]) {
        for chunk in chunks {
            self.ledger.sent(chunk.at);
            self.sizes.insert(chunk.at, (chunk.wire_bytes, chunk.plain_bytes));
        }
    }

    /// Forgets acknowledged chunks; returns how many bytes of frames and of content they were.
    fn acked(&mut self, chunks: &[ChunkRef]) -> Result<(u64, u64), ProtocolError> {
        self.ledger.handle_ack(chunks)?;
        let sizes = chunks.iter().filter_map(|chunk| self.sizes.remove(chunk));
        Ok(sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1)))
    }
}
