//! The joiner's data path, top to bottom: what [`Receiver::run`] does is what happens.
//!
//! ```text
//! lane → decompress → verify (BLAKE3) → write (O_DIRECT) → sync → commit
//!   ▲ only what differs
//! stale copy → read → hash (BLAKE3) → compare, at the donor
//! ```
//!
//! Small files take the same way, from the lane to the closed file in one thread: `small`.
//!
//! Nothing below the roots is touched before a donor has proven that it knows the token, has
//! declared a full transfer, and has passed the caller's checks and the space check. The order of
//! what is made durable when is `docs/DURABILITY.md`.

mod catalog;
mod claims;
mod compare;
mod control;
mod estimate;
mod greet;
mod lane;
mod pipeline;
mod small;
mod space;
mod targets;
mod verify;
mod worth;
mod write;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastsst_proto::frame::{DeclKind, Declaration, Finish, Refusal};
use fastsst_proto::secret::Secret;
use fastsst_proto::ticket::Ticket;
use fastsst_proto::{Bottleneck, Features, JoinerSide, TransferId};

use self::control::{Control, News, Order};
use self::greet::Secrets;
use self::pipeline::Pipeline;
use self::targets::Layout;
pub use self::targets::{
    AnyDonor, DeclaredNames, JoinerPolicy, OwnFile, OwnPlace, Target, TargetPlace,
};
use crate::cancel::Cancel;
use crate::commit::commit;
use crate::error::{Code, Error, Result};
use crate::net::{Carrier, Identity, Listener, NetOptions, Pin};
use crate::options::Options;
use crate::progress::{Phase, Progress};
use crate::random::random;
use crate::staging::{How, Owner, Place, Staging, sync_all};
use crate::summary::{PhaseSeconds, Summary, ratio, seconds};

/// Where to receive and how.
#[derive(Debug)]
pub struct ReceiveConfig {
    /// The directories to build in. The first one is the leader: its commit record decides about
    /// all of them. At least one.
    pub places: Vec<Place>,
    /// Address to listen on; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// The user's choices.
    pub options: Options,
    /// Who owns the new files.
    pub owner: Owner,
    /// Name and version of the caller.
    pub software: String,
}

/// How a reception ended well.
#[derive(Debug)]
pub enum Received {
    /// Nothing was transferred: the node gets what it lacks by IST.
    Bypass {
        /// As the donor gave it.
        position: Vec<u8>,
    },
    /// The new tree is in place and durable.
    Full {
        /// As the donor gave it.
        position: Vec<u8>,
        /// Figures.
        summary: Box<Summary>,
    },
}

/// A joiner that listens, and has touched nothing but its lock file.
#[derive(Debug)]
pub struct Receiver {
    listener: Listener,
    local: SocketAddr,
    pin: Pin,
    secrets: Secrets,
    stagings: Vec<Arc<Staging>>,
    options: Options,
    how: How,
}

impl Receiver {
    /// Takes the locks, finishes an interrupted commit, binds the port, makes key and token.
    ///
    /// # Errors
    /// E03, E05, E06, ...: whatever can be known before a donor comes.
    pub fn bind(config: ReceiveConfig) -> Result<Self> {
        let ReceiveConfig { places, listen, options, owner, software } = config;
        let identity = Identity::new(&options.tls)?;
        // The port first: it is the cheaper thing to be refused, and leaves no trace.
        let listener = Listener::bind(listen, &identity, &NetOptions::of(&options))?;
        if let Some(advice) = listener.buffers().and_then(|buffers| buffers.advice()) {
            tracing::info!("{advice}");
        }
        let how = How::new(owner, options.io.file_mode());
        let stagings = Staging::begin_all(places, &how)?;
        let side = JoinerSide {
            transfer: TransferId(random()?),
            features: features(&stagings)?,
            software,
        };
        let secrets = Secrets { token: Secret::from_bytes(random()?), side };
        let (local, pin) = (listener.local_addr(), identity.pin());
        Ok(Self { listener, local, pin, secrets, stagings, options, how })
    }

    /// The address and port that are bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The port that is bound.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.local.port()
    }

    /// What a donor needs, with `host` as the name under which it reaches this machine.
    ///
    /// # Errors
    /// E10: `host` cannot be part of a ticket.
    pub fn ticket(&self, host: &str) -> Result<Ticket> {
        Ticket::from_parts(host, self.port(), self.pin, self.secrets.token.clone())
            .map_err(|error| Error::new(Code::Ticket, format!("host {host:?}")).because(error))
    }

    /// Waits for the donor, receives, commits; returns when the result is durable and in place.
    ///
    /// # Errors
    /// Whatever ended the transfer; the donor has been told, as far as it listens.
    pub fn run(
        self,
        policy: &mut dyn JoinerPolicy,
        progress: &Arc<Progress>,
        cancel: &Cancel,
    ) -> Result<Received> {
        let Self { listener, secrets, stagings, options, how, .. } = self;
        let control = Control::start(listener, &secrets, &options, progress, cancel)?;
        let compares = secrets.side.features.contains(Features::DELTA);
        let mut joiner = Joiner {
            secrets,
            stagings,
            options,
            how,
            compares,
            progress,
            cancel,
            control: &control,
            times: PhaseSeconds::default(),
        };
        let received = joiner.run(policy);
        if let Err(error) = &received {
            // Wakes every thread and tells the donor; the first reason stays.
            cancel.cancel_with(error);
        }
        drop(joiner);
        control.join();
        received
    }
}

struct Joiner<'a> {
    secrets: Secrets,
    /// Of the places of the configuration.
    stagings: Vec<Arc<Staging>>,
    options: Options,
    how: How,
    /// Whether there is a stale copy.
    compares: bool,
    progress: &'a Arc<Progress>,
    cancel: &'a Cancel,
    control: &'a Control,
    times: PhaseSeconds,
}

impl Joiner<'_> {
    fn run(&mut self, policy: &mut dyn JoinerPolicy) -> Result<Received> {
        let waiting = Instant::now();
        // 1. A donor that knows the token declares what it would send. Nothing is touched yet.
        let declaration = loop {
            let News::Declared(declaration) = self.control.news()? else {
                return Err(out_of_order());
            };
            if !declaration.is_estimate() {
                break declaration;
            }
            self.estimate(policy, &declaration)?;
        };
        let started = Instant::now();
        let layout = match self.check(policy, &declaration) {
            Ok(layout) => layout,
            Err(error) => {
                let refusal = Refusal { code: error.code().number(), text: error.words() };
                self.control.order(Order::Refuse(refusal))?;
                return Err(error);
            }
        };
        if let DeclKind::Bypass { position } = declaration.kind {
            self.control.order(Order::Accept { lanes: 1, pipeline: None })?;
            let News::Bye = self.control.news()? else { return Err(out_of_order()) };
            return Ok(Received::Bypass { position });
        }
        self.progress.set_totals(declaration.files_estimate, declaration.bytes_estimate);

        // 2. From here on the old content is no more. (receive, verify, write: the pipeline)
        self.progress.enter(Phase::Prepare);
        Staging::prepare_all(layout.stagings(), &mut |_| Ok(()))?;
        self.progress.enter(Phase::Copy);
        let lanes = declaration.lanes.clamp(1, fastsst_proto::limits::LANES_MAX);
        let (pipeline, feed) = Pipeline::start(self, layout)?;
        self.control.order(Order::Accept { lanes, pipeline: Some(feed) })?;
        self.times.connect = seconds(waiting.elapsed());
        let News::Finish(finish, theirs) = self.control.news()? else { return Err(out_of_order()) };
        self.times.copy = seconds(started.elapsed());

        let ours = pipeline.limited_by();

        // 3. Everything has arrived: close it, compare it, make it durable, put it in its place.
        let committing = Instant::now();
        self.finish(policy, &pipeline, &finish)?;
        self.times.commit = seconds(committing.elapsed());
        self.times.total = seconds(started.elapsed());
        self.progress.enter(Phase::Done);
        let summary = Summary {
            limited_by: Bottleneck::of_both(theirs, ours).to_string(),
            ..self.summary(&pipeline, &declaration, &finish)
        };
        drop(pipeline);

        // 4. Tell the donor; whether it hears does not matter any more.
        let told = self.control.order(Order::Committed(finish.root_hash, ours));
        if let Err(error) = told.and_then(|()| self.control.news()) {
            tracing::debug!("the donor left after the commit: {error}");
        }
        Ok(Received::Full { position: finish.position, summary: Box::new(summary) })
    }

    /// Whether the donor's files are wanted and fit; and where they go.
    fn check(&self, policy: &mut dyn JoinerPolicy, declaration: &Declaration) -> Result<Layout> {
        let targets = policy.accept(declaration)?;
        if declaration.is_bypass() {
            return Layout::new(self.stagings.clone(), &[], Vec::new());
        }
        let mut layout = self.lay_out(&declaration.roots, targets)?;
        if !declaration.is_estimate() {
            layout.take_over(&self.how)?;
        }
        space::check(&layout, declaration)?;
        Ok(layout)
    }

    /// Begins the places that are only known from the declaration.
    fn lay_out(&self, names: &[String], targets: Vec<Target>) -> Result<Layout> {
        let mut stagings = self.stagings.clone();
        let mut at = Vec::with_capacity(targets.len());
        for Target { place, prefix } in targets {
            let number = match place {
                TargetPlace::Known(number) if number < self.stagings.len() => number,
                TargetPlace::Known(number) => {
                    let what =
                        format!("a declared root goes to place {number}, which there is not");
                    return Err(Error::bug(what));
                }
                TargetPlace::New(place) => {
                    Staging::join(&mut stagings, self.stagings.len(), place, &self.how)?
                }
            };
            at.push((number, prefix));
        }
        Layout::new(stagings, names, at)
    }

    fn finish(
        &self,
        policy: &mut dyn JoinerPolicy,
        pipeline: &Pipeline,
        finish: &Finish,
    ) -> Result<()> {
        // Everything was acknowledged before the donor said so: this is short, or the watchdog's.
        pipeline.wait_closed(self.cancel)?;
        self.progress.enter(Phase::Sync);
        let ours = pipeline.catalog.root_hash()?;
        if ours != finish.root_hash {
            return Err(Error::new(
                Code::RootHashDiffers,
                format!(
                    "what was written ({ours}) is not what was sent ({}); nothing was put in place, \
                     start the transfer again",
                    finish.root_hash
                ),
            ));
        }
        let catalog = &pipeline.catalog;
        for own in policy.own_files(&DeclaredNames::in_catalog(catalog))? {
            catalog.add_own(&own)?;
        }
        self.cancel.check()?;
        let stagings = catalog.layout().stagings();
        let durable = sync_all(stagings)?;
        self.cancel.check()?;
        self.progress.enter(Phase::Commit);
        self.control.settle();
        commit(stagings, durable)?;
        Ok(())
    }

    fn summary(&self, pipeline: &Pipeline, declaration: &Declaration, finish: &Finish) -> Summary {
        let unused = if self.options.transport.has_quic() { Carrier::Quic } else { Carrier::Tcp };
        Summary {
            role: "receive".to_owned(),
            bytes: finish.bytes,
            wire_bytes: self.progress.wire_bytes(),
            kept_bytes: self.progress.kept_bytes(),
            entries: finish.entries,
            files: pipeline.catalog.files(),
            zero_bytes: pipeline.zero_bytes(),
            ratio: ratio(
                finish.bytes.saturating_sub(pipeline.zero_bytes() + self.progress.kept_bytes()),
                self.progress.lane_bytes(),
            ),
            seconds: self.times,
            transport: pipeline.carried().most().unwrap_or(unused).name().to_owned(),
            transport_reason: pipeline.carried().to_string(),
            lanes: declaration.lanes,
            passes: 1,
            io: pipeline.io(),
            capture: declaration.capture.clone(),
            root_hash: finish.root_hash.to_string(),
            ..Summary::default()
        }
    }
}

/// What this joiner offers: it can compare only if it has something.
fn features(stagings: &[Arc<Staging>]) -> Result<Features> {
    for staging in stagings {
        if staging.has_stale()? || staging.has_forgotten()? {
            return Ok(Features::SUPPORTED);
        }
    }
    Ok(Features::SUPPORTED.without(Features::DELTA))
}

fn out_of_order() -> Error {
    Error::bug("the conversation's news came in an impossible order")
}

/// How often a waiting thread looks at the cancel switch.
const LOOK: Duration = Duration::from_millis(5);
