//! The donor's control thread: the conversation, heartbeats, deadlines.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fastsst_proto::donor::{DonorEvent, DonorSession};
use fastsst_proto::frame::{Declaration, Finish};
use fastsst_proto::manifest::Entry;
use fastsst_proto::ticket::Ticket;
use fastsst_proto::{
    Asked, Bottleneck, ChunkRef, Features, FileId, FileRef, LaneId, RootHash, TransferId,
};
use flume::{Receiver, Sender};

use super::plan::Plan;
use super::transport::Way;
use crate::bottleneck::PeerView;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::net::{self, NetOptions};
use crate::options::Options;
use crate::progress::{Phase, Progress};
use crate::talk::{Clock, Talk, protocol_error};
use crate::watchdog::Watchdog;

/// Orders that may wait. Why: a few batches of entries; more would only be memory.
const ORDERS: usize = 8;

/// News that may wait: at most one of each kind is ever sent.
const NEWS: usize = 8;

/// What the donor's threads ask of the conversation.
#[derive(Debug)]
pub(super) enum Order {
    Declare(Declaration),
    OfferLane { lane: LaneId, source_port: u16 },
    Entries(Vec<Entry>),
    Gone(Vec<FileId>),
    ManifestEnd { entries: u64, bytes: u64 },
    Compare(Vec<Asked>),
    Same(Vec<ChunkRef>),
    SameFiles(Vec<FileRef>),
    Finish(Finish, Bottleneck),
    Bye,
}

/// What the main thread learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    Welcomed { transfer: TransferId, features: Features, peer: std::net::SocketAddr, way: Way },
    Accepted { lanes: u16 },
    Committed { root_hash: RootHash, limited_by: Bottleneck },
    BypassDone,
}

/// A handle to the control thread.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) orders: Sender<Order>,
    news: Receiver<News>,
    /// Where a lane learns that the joiner waits for it; by lane.
    pub(super) ready: Arc<Vec<(Sender<()>, Receiver<()>)>>,
    deadline: Arc<Mutex<Option<Instant>>>,
    /// What limits the transfer, as the joiner sees it now.
    pub(super) joiner_limited_by: Arc<PeerView>,
    cancel: Cancel,
    thread: JoinHandle<()>,
}

impl Control {
    /// Starts to reach the joiner.
    pub(super) fn start(
        ticket: &Ticket,
        options: &Options,
        (software, plan): (&str, &Arc<Plan>),
        progress: &Arc<Progress>,
        cancel: &Cancel,
    ) -> Result<Self> {
        let (orders, orders_rx) = flume::bounded(ORDERS);
        let (news_tx, news) = flume::bounded(NEWS);
        let lanes = usize::from(options.lane_count());
        let ready = Arc::new((0..lanes).map(|_| flume::bounded(1)).collect::<Vec<_>>());
        let deadline = Arc::new(Mutex::new(None));
        let joiner_limited_by = Arc::new(PeerView::default());
        let loop_ = Loop {
            ticket: ticket.clone(),
            options: options.clone(),
            software: software.to_owned(),
            plan: Arc::clone(plan),
            orders: orders_rx,
            news: news_tx,
            ready: Arc::clone(&ready),
            deadline: Arc::clone(&deadline),
            progress: Arc::clone(progress),
            other_failed: RefCell::new(None),
            finished: Cell::new(false),
            joiner_limited_by: Arc::clone(&joiner_limited_by),
            cancel: cancel.clone(),
        };
        let thread = crate::runtime::spawn("fastsst-control", cancel, move || loop_.run())?;
        let cancel = cancel.clone();
        Ok(Self { orders, news, ready, deadline, joiner_limited_by, cancel, thread })
    }

    /// Gives an order; fails with the reason when the conversation is over.
    pub(super) fn order(&self, order: Order) -> Result<()> {
        self.orders.send(order).map_err(|_closed| self.cancel.reason())
    }

    /// Waits for news.
    ///
    /// # Errors
    /// Why the conversation ended.
    pub(super) fn news(&self) -> Result<News> {
        self.news.recv().map_err(|_closed| self.cancel.reason())
    }

    /// From `time` on the transfer fails with E26, unless the deadline is lifted before.
    pub(super) fn set_deadline(&self, time: Option<Instant>) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }

    /// Waits until the peer has been told how it ended.
    pub(super) fn join(self) {
        let Self { orders, thread, .. } = self;
        drop(orders);
        // A panic has been turned into the cancel reason by the thread itself.
        if thread.join().is_err() {
            tracing::debug!("the control thread panicked");
        }
    }
}

struct Loop {
    ticket: Ticket,
    options: Options,
    software: String,
    /// Where the joiner's answers go.
    plan: Arc<Plan>,
    orders: Receiver<Order>,
    news: Sender<News>,
    ready: Arc<Vec<(Sender<()>, Receiver<()>)>>,
    deadline: Arc<Mutex<Option<Instant>>>,
    progress: Arc<Progress>,
    /// Why the transport that does not carry the conversation cannot be used.
    other_failed: RefCell<Option<String>>,
    /// Everything has been said; lanes have nothing more to do.
    finished: Cell<bool>,
    /// What the joiner said last.
    joiner_limited_by: Arc<PeerView>,
    cancel: Cancel,
}

impl Loop {
    fn run(self) -> Result<()> {
        // The reason must be known before the news end, which is what the main thread waits for.
        self.talk().inspect_err(|error| {
            self.cancel.cancel_with(error);
        })
    }

    fn talk(&self) -> Result<()> {
        crate::runtime::block_on(async {
            let mut talk = tokio::select! {
                talk = self.connect() => talk?,
                () = self.cancel.cancelled() => return Err(self.cancel.reason()),
            };
            let ended = tokio::select! {
                // First: a main thread that fails says why and then leaves.
                biased;
                () = self.cancel.cancelled() => Err(self.cancel.reason()),
                ended = self.converse(&mut talk) => ended,
            };
            match ended {
                Ok(()) => talk.close().await,
                Err(error) => {
                    talk.farewell(&error).await;
                    return Err(error);
                }
            }
            Ok(())
        })
    }

    async fn connect(&self) -> Result<Talk<DonorSession>> {
        let net = NetOptions::of(&self.options);
        let Ticket { host, port, pin, token } = &self.ticket;
        let reached = net::connect(host, *port, *pin, &net).await?;
        let net::Reached { connection, other_failed } = reached;
        if let Some(error) = &other_failed {
            tracing::debug!("the other transport: {error}");
        }
        self.other_failed.replace(other_failed.map(|error| error.what().to_owned()));
        let clock = Clock::start();
        let exporter = connection.exporter.clone();
        let session = DonorSession::new(clock.now(), token, exporter, self.software.clone());
        Ok(Talk::new(session, connection, clock))
    }

    async fn converse(&self, talk: &mut Talk<DonorSession>) -> Result<()> {
        let mut watchdog = Watchdog::new(self.options.idle_timeout);
        let mut bye = false;
        loop {
            if bye && talk.session.is_over() {
                return talk.flush().await;
            }
            tokio::select! {
                event = talk.event(&self.progress) => {
                    bye |= self.take_event(talk, &mut watchdog, event?)?;
                }
                order = self.orders.recv_async(), if !talk.is_congested() => match order {
                    Ok(order) => {
                        bye |= matches!(order, Order::Bye);
                        self.take_order(talk, order)?;
                    }
                    Err(flume::RecvError::Disconnected) => {
                        return Err(Error::bug("the donor's main thread left without a word"));
                    }
                },
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
            watchdog.look(&self.progress)?;
            self.check_deadline()?;
        }
    }

    /// True when the conversation is about to end well.
    fn take_event(
        &self,
        talk: &mut Talk<DonorSession>,
        watchdog: &mut Watchdog,
        event: DonorEvent,
    ) -> Result<bool> {
        let peer = talk.link().peer();
        let wrong = |error| protocol_error(peer, error);
        match event {
            DonorEvent::Welcomed { transfer, features } => {
                talk.peer_is_proven();
                tracing::debug!("the joiner runs {}", talk.session.peer_software());
                let (control, other_failed) = (talk.link().carrier(), self.other_failed.take());
                let way = Way { control, other_failed };
                self.tell(News::Welcomed { transfer, features, peer, way })?;
            }
            DonorEvent::Accepted { lanes } => self.tell(News::Accepted { lanes })?,
            DonorEvent::LaneReady { lane, .. } => {
                if let Some((ready, _)) = self.ready.get(usize::from(lane.0)) {
                    // Full: the lane has not taken the last word yet, which says the same.
                    if ready.try_send(()).is_err() {
                        tracing::debug!("lane {} was ready already", lane.0);
                    }
                }
            }
            DonorEvent::Durable(files) => tracing::trace!("{} files are durable", files.len()),
            DonorEvent::PeerLimitedBy(bottleneck) => self.joiner_limited_by.set(bottleneck),
            DonorEvent::Lacks(files) => self.plan.lacks(&files).map_err(wrong)?,
            DonorEvent::HaveFiles(files) => self.plan.have_files(&files).map_err(wrong)?,
            DonorEvent::Seek(files) => self.plan.seek(&files).map_err(wrong)?,
            DonorEvent::Have(have) => self.plan.have(have).map_err(wrong)?,
            DonorEvent::HaveEnd(file) => self.plan.have_end(file).map_err(wrong)?,
            DonorEvent::Committed { root_hash } => {
                let limited_by = self.joiner_limited_by.get();
                self.tell(News::Committed { root_hash, limited_by })?;
            }
            DonorEvent::BypassDone => {
                self.tell(News::BypassDone)?;
                return Ok(true);
            }
            DonorEvent::PeerProgress { bytes, files, phase } => {
                watchdog.peer(bytes, files, Phase::from_number(phase));
            }
        }
        Ok(false)
    }

    fn take_order(&self, talk: &mut Talk<DonorSession>, order: Order) -> Result<()> {
        let session = &mut talk.session;
        let done = match order {
            Order::Declare(declaration) => session.declare(declaration),
            // A lane that died after its last chunk is not needed any more.
            Order::OfferLane { .. } if self.finished.get() => Ok(()),
            Order::OfferLane { lane, source_port } => session.offer_lane(lane, source_port),
            Order::Entries(entries) => session.entries(entries),
            Order::Gone(files) => session.gone(files),
            Order::ManifestEnd { entries, bytes } => session.manifest_end(entries, bytes),
            Order::Compare(asked) => session.compare(&asked),
            Order::Same(chunks) => session.same(&chunks),
            Order::SameFiles(files) => session.same_files(&files),
            Order::Finish(finish, limited_by) => {
                self.finished.set(true);
                session.limited_by(limited_by).and_then(|()| session.finish(finish))
            }
            Order::Bye => session.bye(),
        };
        done.map_err(|error| protocol_error(talk.link().peer(), error))
    }

    fn tell(&self, news: News) -> Result<()> {
        self.news.try_send(news).map_err(|_closed| Error::bug("nobody listens to the conversation"))
    }

    fn check_deadline(&self) -> Result<()> {
        let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Error::new(
                Code::FreezeTimeout,
                format!(
                    "the server was locked for longer than {} s and is released; raise the lock \
                     timeout, or make the copy faster",
                    self.options.freeze_timeout.as_secs()
                ),
            ));
        }
        Ok(())
    }
}
