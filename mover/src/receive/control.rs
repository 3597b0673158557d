//! The joiner's control thread: who may come in, the conversation, lanes, heartbeats.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fastsst_proto::frame::{Accept, Declaration, Finish, Refusal};
use fastsst_proto::joiner::{JoinerEvent, JoinerSession};
use fastsst_proto::limits::LANES_MAX;
use fastsst_proto::manifest::Entry;
use fastsst_proto::{
    Asked, Bottleneck, ChunkRef, FileId, FileRef, Have, HaveFile, LaneId, ProtocolError, RootHash,
    Scope,
};
use flume::{Receiver, Sender, TrySendError};

use super::greet::{HANDSHAKE, Secrets, Visitor, greet};
use super::lane::Lanes;
use crate::bottleneck::Samples;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::net::{Acceptor, Incoming, Link, Listener};
use crate::options::Options;
use crate::progress::{Phase, Progress};
use crate::runtime::{block_on, spawn};
use crate::talk::{Clock, Talk, protocol_error};
use crate::watchdog::Watchdog;

/// How long a donor may take to say good-bye after everything is committed.
const GOOD_BYE: Duration = Duration::from_secs(2);

/// Proven visitors that wait to be looked at.
const VISITORS: usize = 16;

/// Orders that may wait.
const ORDERS: usize = 64;

/// What the joiner's threads ask of the conversation.
#[derive(Debug)]
pub(super) enum Order {
    /// The declaration is fine; chunks go where the pipeline says.
    Accept { lanes: u16, pipeline: Option<Feed> },
    /// The declaration is not wanted.
    Refuse(Refusal),
    /// These files survive power loss.
    Durable(Vec<FileRef>),
    /// What the stale copy holds.
    Answer(Answer),
    /// Everything up to the donor's `Finish` has been declared.
    AllDeclared(Finish),
    /// The new tree is in its place.
    Committed(RootHash, Bottleneck),
    /// What follows from an estimate has ended: let the next donor in.
    Next,
}

/// What the stale copy holds of files the donor has asked about.
#[derive(Debug)]
pub(super) enum Answer {
    Lacks(Vec<FileRef>),
    Seek(Vec<FileRef>),
    HaveFiles(Vec<HaveFile>),
    Have(Have),
    HaveEnd(FileRef),
}

/// What changes the catalog, in the donor's order; done by a thread of its own, because creating
/// files may wait for the disk and the conversation must not.
#[derive(Debug)]
pub(super) enum Change {
    Entries(Vec<Entry>),
    Gone(Vec<FileId>),
    ManifestEnd,
    Compare(Vec<Asked>),
    Same(Vec<ChunkRef>),
    SameFiles(Vec<FileRef>),
    Finish(Finish),
}

/// Where the conversation's findings go.
#[derive(Debug)]
pub(super) struct Feed {
    /// Absent when nothing is going to come.
    pub(super) data: Option<(Arc<Lanes>, Arc<Samples>)>,
    pub(super) changes: Sender<Change>,
    /// Changes the thread has no room for yet. No bound of its own: the catalog keeps all of it
    /// in the end, and what it may hold is bounded by the protocol.
    pub(super) backlog: VecDeque<Change>,
}

impl Feed {
    /// Gives the declaring thread what it has room for.
    fn pass_on(&mut self, cancel: &Cancel) -> Result<()> {
        while let Some(change) = self.backlog.pop_front() {
            match self.changes.try_send(change) {
                Ok(()) => {}
                Err(TrySendError::Full(change)) => {
                    self.backlog.push_front(change);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => return Err(cancel.reason()),
            }
        }
        Ok(())
    }
}

/// What the main thread learns.
#[derive(Debug)]
pub(super) enum News {
    Declared(Declaration),
    Finish(Finish, Bottleneck),
    Bye,
    /// Whoever only wanted an estimate is gone.
    EstimateOver,
}

/// A handle to the control thread.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) orders: Sender<Order>,
    news: Receiver<News>,
    settled: Arc<AtomicBool>,
    cancel: Cancel,
    thread: JoinHandle<()>,
}

impl Control {
    /// Starts to serve the port.
    pub(super) fn start(
        listener: Listener,
        secrets: &Secrets,
        options: &Options,
        progress: &Arc<Progress>,
        cancel: &Cancel,
    ) -> Result<Self> {
        let settled = Arc::new(AtomicBool::new(false));
        let (orders, orders_rx) = flume::bounded(ORDERS);
        let (news_tx, news) = flume::bounded(4);
        let loop_ = Loop {
            secrets: secrets.clone(),
            options: options.clone(),
            orders: orders_rx,
            news: news_tx,
            progress: Arc::clone(progress),
            settled: Arc::clone(&settled),
            donor_limited_by: Cell::default(),
            limited_by: Cell::default(),
            is_estimate: Cell::default(),
            cancel: cancel.clone(),
        };
        let thread = spawn("fastsst-control", cancel, move || loop_.run(listener))?;
        Ok(Self { orders, news, settled, cancel: cancel.clone(), thread })
    }

    /// From here on the transfer succeeds whatever becomes of the donor.
    pub(super) fn settle(&self) {
        self.settled.store(true, Ordering::Release);
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
    secrets: Secrets,
    options: Options,
    orders: Receiver<Order>,
    news: Sender<News>,
    progress: Arc<Progress>,
    /// The commit has begun: what happens to the conversation does not matter any more.
    settled: Arc<AtomicBool>,
    /// What the donor said last.
    donor_limited_by: Cell<Bottleneck>,
    /// What the donor was told last.
    limited_by: Cell<Bottleneck>,
    /// The donor only wants to know how much it would send.
    is_estimate: Cell<bool>,
    cancel: Cancel,
}

impl Loop {
    fn run(self, listener: Listener) -> Result<()> {
        match self.talk(listener) {
            Err(error) if self.settled.load(Ordering::Acquire) => {
                tracing::info!("the donor left while the new tree was put in place: {error}");
                Ok(())
            }
            // The reason must be known before the news end, which is what the main thread waits
            // for.
            Err(error) => {
                self.cancel.cancel_with(&error);
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    fn talk(&self, listener: Listener) -> Result<()> {
        block_on(async {
            let acceptor = listener.start()?;
            let (visitors_tx, visitors) = flume::bounded(VISITORS);
            let door = tokio::spawn(open_door(acceptor.clone(), self.secrets.clone(), visitors_tx));
            let ended = self.serve(&acceptor, &visitors).await;
            door.abort();
            ended
        })
    }

    /// Serves one donor to its end, and before it anybody who only wants to know how much he would
    /// send: whatever becomes of him, the joiner goes on waiting.
    async fn serve(&self, acceptor: &Acceptor, visitors: &Receiver<Visitor>) -> Result<()> {
        loop {
            let ended = self.serve_one(acceptor, visitors).await;
            self.cancel.check()?;
            if !self.is_estimate.take() {
                return ended;
            }
            if let Err(error) = ended {
                tracing::info!("an estimate was given up: {error}");
            }
            self.tell(News::EstimateOver)?;
            // Answers to somebody who has left.
            while !matches!(self.orders.recv_async().await, Ok(Order::Next) | Err(_)) {}
        }
    }

    async fn serve_one(&self, acceptor: &Acceptor, visitors: &Receiver<Visitor>) -> Result<()> {
        let mut talk = tokio::select! {
            talk = self.first_donor_in_time(acceptor, visitors) => talk?,
            () = self.cancel.cancelled() => return Err(self.cancel.reason()),
        };
        let ended = tokio::select! {
            // First: a main thread that fails says why and then leaves.
            biased;
            () = self.cancel.cancelled() => Err(self.cancel.reason()),
            ended = self.converse(&mut talk, acceptor, visitors) => ended,
        };
        match &ended {
            Ok(()) => talk.close().await,
            Err(error) => talk.farewell(error).await,
        }
        ended
    }

    async fn first_donor_in_time(
        &self,
        acceptor: &Acceptor,
        visitors: &Receiver<Visitor>,
    ) -> Result<Talk<JoinerSession>> {
        let donor = self.first_donor(visitors, Clock::start());
        let Some(limit) = self.options.initial_timeout else { return donor.await };
        tokio::time::timeout(limit, donor).await.map_err(|error| {
            let what = format!(
                "no donor came within {} s; is {} port {} open on the way, and does the initial \
                 timeout fit?",
                limit.as_secs(),
                self.options.transport.protocols(),
                acceptor.local_addr().port()
            );
            Error::new(Code::NoDonor, what).because(error)
        })?
    }

    /// Waits for the first control connection of somebody who knows the token.
    async fn first_donor(
        &self,
        visitors: &Receiver<Visitor>,
        clock: Clock,
    ) -> Result<Talk<JoinerSession>> {
        loop {
            let visitor = visitors.recv_async().await.map_err(|_closed| no_door())?;
            match visitor.accepted.scope {
                Scope::Control => return self.begin(visitor, clock),
                Scope::Lane { .. } => {
                    visitor.turn_away(Code::Protocol, "a lane before its donor").await;
                }
            }
        }
    }

    fn begin(&self, visitor: Visitor, clock: Clock) -> Result<Talk<JoinerSession>> {
        let Visitor { mut reader, writer, link, exporter, hello, accepted } = visitor;
        let Secrets { token, side } = &self.secrets;
        tracing::info!("donor {} ({}) has proven itself", link.peer(), accepted.software);
        reader.peer_is_proven();
        let mut session = JoinerSession::new(clock.now(), token, exporter, side.clone());
        session
            .handle_frame(clock.now(), hello)
            .map_err(|error| protocol_error(link.peer(), error))?;
        Ok(Talk::with_reader(session, (reader, writer, link), clock))
    }

    async fn converse(
        &self,
        talk: &mut Talk<JoinerSession>,
        acceptor: &Acceptor,
        visitors: &Receiver<Visitor>,
    ) -> Result<()> {
        let mut watchdog = Watchdog::new(self.options.idle_timeout);
        let (mut feed, mut committed): (Option<Feed>, Option<Instant>) = (None, None);
        loop {
            if let Some(feed) = &mut feed {
                feed.pass_on(&self.cancel)?;
                if let Some((_, samples)) = &feed.data
                    && committed.is_none()
                    && !talk.is_congested()
                {
                    self.tell_bottleneck(talk, samples.recent())?;
                }
            }
            tokio::select! {
                event = talk.event(&self.progress) => {
                    let event = match event {
                        // What is committed stays committed, whatever becomes of the donor.
                        Err(error) if committed.is_some() => {
                            tracing::debug!("after the commit: {error}");
                            JoinerEvent::Bye
                        }
                        event => event?,
                    };
                    if self.take_event(talk, acceptor, &mut watchdog, (event, &mut feed))? {
                        return Ok(());
                    }
                }
                order = self.orders.recv_async(), if !talk.is_congested() => {
                    let order = order.map_err(|_closed| Error::bug("the joiner's main thread left"))?;
                    self.take_order(talk, order, &mut feed, &mut committed)?;
                }
                visitor = visitors.recv_async() => {
                    self.take_visitor(visitor.map_err(|_closed| no_door())?, feed.as_ref());
                }
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
            if committed.is_some_and(|since| since.elapsed() > GOOD_BYE) {
                tracing::debug!("the donor did not say good-bye");
                return self.tell(News::Bye);
            }
            if committed.is_none() {
                watchdog.look(&self.progress)?;
            }
        }
    }

    /// The donor compresses harder only while the network is what we wait for.
    fn tell_bottleneck(&self, talk: &mut Talk<JoinerSession>, now: Bottleneck) -> Result<()> {
        if now == self.limited_by.replace(now) {
            return Ok(());
        }
        let told = talk.session.limited_by(now);
        told.map_err(|error| protocol_error(talk.link().peer(), error))
    }

    /// True when the conversation has ended well.
    fn take_event(
        &self,
        talk: &mut Talk<JoinerSession>,
        acceptor: &Acceptor,
        watchdog: &mut Watchdog,
        (event, feed): (JoinerEvent, &mut Option<Feed>),
    ) -> Result<bool> {
        let receiving = feed.as_mut().ok_or_else(|| Error::bug("entries before Accept"));
        match event {
            JoinerEvent::Authenticated(_) => {}
            JoinerEvent::Declared(declaration) => {
                self.is_estimate.set(declaration.is_estimate());
                self.tell(News::Declared(declaration))?;
            }
            JoinerEvent::LaneOffered { lane, source_port } => {
                let lanes = receiving?.data.as_ref().map(|(lanes, _)| lanes);
                let lanes = lanes.ok_or_else(|| Error::bug("a lane without a transfer"))?;
                let own = self.open_lane(acceptor, talk.link(), (lane, source_port), lanes);
                let ready = talk.session.lane_ready(lane, own);
                ready.map_err(|error| protocol_error(talk.link().peer(), error))?;
            }
            JoinerEvent::Entries(entries) => {
                receiving?.backlog.push_back(Change::Entries(entries));
            }
            JoinerEvent::Gone(files) => receiving?.backlog.push_back(Change::Gone(files)),
            JoinerEvent::ManifestEnd { entries, bytes } => {
                self.progress.set_totals(entries, bytes);
                receiving?.backlog.push_back(Change::ManifestEnd);
            }
            JoinerEvent::Compare(asked) => receiving?.backlog.push_back(Change::Compare(asked)),
            JoinerEvent::Same(chunks) => receiving?.backlog.push_back(Change::Same(chunks)),
            JoinerEvent::SameFiles(files) => receiving?.backlog.push_back(Change::SameFiles(files)),
            JoinerEvent::Finish(finish) => receiving?.backlog.push_back(Change::Finish(finish)),
            JoinerEvent::Bye if self.is_estimate.get() => return Ok(true),
            JoinerEvent::Bye => {
                self.tell(News::Bye)?;
                return Ok(true);
            }
            JoinerEvent::PeerLimitedBy(bottleneck) => self.donor_limited_by.set(bottleneck),
            JoinerEvent::PeerProgress { bytes, files, phase } => {
                watchdog.peer(bytes, files, Phase::from_number(phase));
            }
        }
        Ok(false)
    }

    fn take_order(
        &self,
        talk: &mut Talk<JoinerSession>,
        order: Order,
        feed: &mut Option<Feed>,
        committed: &mut Option<Instant>,
    ) -> Result<()> {
        let session = &mut talk.session;
        let done = match order {
            Order::Accept { lanes, pipeline } => {
                *feed = pipeline;
                session.accept(Accept { lanes })
            }
            Order::Refuse(refusal) => {
                session.refuse(refusal);
                Ok(())
            }
            Order::Durable(files) => session.durable(files),
            Order::Answer(answer) => say(session, answer),
            Order::AllDeclared(finish) => {
                self.tell(News::Finish(finish, self.donor_limited_by.get()))?;
                Ok(())
            }
            Order::Next => Ok(()),
            Order::Committed(root_hash, limited_by) => {
                *committed = Some(Instant::now());
                session.limited_by(limited_by).and_then(|()| session.committed(root_hash))
            }
        };
        done.map_err(|error| protocol_error(talk.link().peer(), error))
    }

    /// Opens a socket and a thread for a lane; false when the lane must use the listener's.
    fn open_lane(
        &self,
        acceptor: &Acceptor,
        link: &Link,
        (lane, source_port): (LaneId, u16),
        lanes: &Arc<Lanes>,
    ) -> bool {
        acceptor.expect_lane(lane);
        if source_port == 0 {
            return false;
        }
        match acceptor.lane_socket(link, source_port) {
            Ok(socket) => self.start_lane(lane, lanes, |lanes| lanes.serve_socket(socket)),
            Err(error) => {
                tracing::warn!("lane {} has no socket of its own: {error}", lane.0);
                false
            }
        }
    }

    /// A lane over TCP, one whose source port was rewritten on the way, or a second donor.
    fn take_visitor(&self, visitor: Visitor, feed: Option<&Feed>) {
        let lanes = feed.and_then(|feed| feed.data.as_ref()).map(|(lanes, _)| lanes);
        match (visitor.accepted.scope, lanes) {
            (Scope::Lane { lane, .. }, Some(lanes)) if visitor.link.can_move() => {
                self.start_lane(lane, lanes, |lanes| lanes.serve_visitor(visitor));
            }
            (Scope::Lane { .. }, Some(lanes)) => {
                let lanes = Arc::clone(lanes);
                tokio::spawn(async move {
                    if let Err(error) = lanes.serve_visitor(visitor).await {
                        tracing::debug!("lane over the listener ended: {error}");
                    }
                });
            }
            (Scope::Control | Scope::Lane { .. }, _) => {
                tracing::warn!("refused a second donor, {}", visitor.link.peer());
                tokio::spawn(visitor.turn_away(
                    Code::Busy,
                    "this joiner already has a donor, its ticket is used up",
                ));
            }
        }
    }

    /// Serves a lane on a thread of its own; false when there is none for it.
    fn start_lane<F: Future<Output = Result<()>>>(
        &self,
        lane: LaneId,
        lanes: &Arc<Lanes>,
        serve: impl FnOnce(Arc<Lanes>) -> F + Send + 'static,
    ) -> bool {
        // A donor may open a lane again and again; each waits for its end on a thread.
        if Arc::strong_count(lanes) > 2 * usize::from(LANES_MAX) {
            tracing::warn!("too many lanes at once");
            return false;
        }
        let lanes = Arc::clone(lanes);
        let name = format!("fastsst-lane-{}", lane.0);
        let started = spawn(&name, &self.cancel, move || {
            if let Err(error) = block_on(serve(lanes)) {
                tracing::debug!("lane {} ended: {error}", lane.0);
            }
            Ok(())
        });
        started.is_ok()
    }

    fn tell(&self, news: News) -> Result<()> {
        self.news.try_send(news).map_err(|_closed| Error::bug("nobody listens to the conversation"))
    }
}

fn say(session: &mut JoinerSession, answer: Answer) -> Result<(), ProtocolError> {
    match answer {
        Answer::Lacks(files) => session.lacks(&files),
        Answer::Seek(files) => session.seek(&files),
        Answer::HaveFiles(files) => session.have_files(&files),
        Answer::Have(have) => session.have(have),
        Answer::HaveEnd(file) => session.have_end(file),
    }
}

/// Takes connections at the port; whoever proves that he knows the token becomes a visitor.
async fn open_door(acceptor: Acceptor, secrets: Secrets, visitors: Sender<Visitor>) -> Result<()> {
    let quiet = Arc::new(Quiet::default());
    loop {
        let incoming = acceptor.accept().await?;
        let (secrets, visitors) = (secrets.clone(), visitors.clone());
        let quiet = Arc::clone(&quiet);
        tokio::spawn(async move {
            let (peer, evicted) = (incoming.peer(), incoming.evicted());
            let met = tokio::select! {
                met = meet(incoming, &secrets) => met,
                () = evicted => return tracing::debug!("{peer} made room for others"),
            };
            match met {
                Ok(Some(visitor)) => {
                    if visitors.send_async(visitor).await.is_err() {
                        tracing::debug!("{peer} came too late");
                    }
                }
                // A donor's spare connection, or somebody who looked whether the port is open.
                Ok(None) => tracing::debug!("{peer} left without a word"),
                // Also a donor whose datagrams arrive here while ours do not arrive there.
                Err(error) if error.code() == Code::Unreachable => tracing::info!("{error}"),
                Err(error) if quiet.may_warn() => tracing::warn!("turned away {peer}: {error}"),
                Err(error) => tracing::debug!("turned away {peer}: {error}"),
            }
        });
    }
}

/// Keeps strangers from filling the log: one warning a second; the others are for debugging.
#[derive(Debug, Default)]
struct Quiet(Mutex<Option<Instant>>);

impl Quiet {
    fn may_warn(&self) -> bool {
        const BETWEEN: Duration = Duration::from_secs(1);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|last| last.elapsed() >= BETWEEN);
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}

async fn meet(incoming: Incoming, secrets: &Secrets) -> Result<Option<Visitor>> {
    match incoming.complete(HANDSHAKE).await {
        Ok(connection) => greet(connection, secrets).await,
        Err(error) if error.code() == Code::PeerGone => Ok(None),
        Err(error) => Err(error),
    }
}

fn no_door() -> Error {
    Error::new(Code::Address, "the listening socket is broken")
}
