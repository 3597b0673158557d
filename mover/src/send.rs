//! The donor's data path, top to bottom: what [`send`] does is what happens.
//!
//! ```text
//! walk → plan → read (O_DIRECT) → hash (BLAKE3) → compare → compress (zstd) → lane
//! ```
//!
//! Threads: the caller's (walks, decides), control, reader, I/O, one per core that hashes and
//! compresses, one per lane; and some that do all of it, up to the lane, for small files. Between
//! them only bounded channels; the buffer pool bounds memory.

mod catalog;
mod control;
mod encode;
mod estimate;
mod lane;
mod notices;
mod open;
mod pace;
mod parcel;
mod pipeline;
mod plan;
mod questions;
mod read;
mod small;
mod transport;

pub use self::estimate::{Estimate, estimate};

pub(crate) use self::plan::SMALL_BYTES_MAX;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastsst_proto::frame::{DeclKind, Declaration, Finish};
use fastsst_proto::limits::{ENTRIES_PER_FRAME_MAX, PROPERTIES_MAX, PROPERTY_KEY_BYTES_MAX};
use fastsst_proto::manifest::EntryKind;
use fastsst_proto::ticket::Ticket;
use fastsst_proto::{Bottleneck, Features, RelPath, RootIndex};

use self::catalog::Change;
use self::control::{Control, News, Order};
use self::estimate::Aim;
use self::pipeline::{Batch, Pipeline};
use self::plan::{Plan, Planned};
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::freeze::{Freeze, Frozen};
use crate::manifest::Manifest;
use crate::options::Options;
use crate::polite;
use crate::progress::{Phase, Progress};
use crate::summary::{PhaseSeconds, Summary, ratio, seconds};
use crate::walk::{SourceRoot, walk};

/// Passes over the files before a source that keeps changing is given up.
///
/// Why: one to copy, one to see that nothing changed; a writer that stops gets a few more.
const PASSES_MAX: u32 = 6;

/// What to send and to whom.
#[derive(Debug)]
pub struct SendConfig {
    /// The trees.
    pub roots: Vec<SourceRoot>,
    /// How to reach and trust the joiner.
    pub ticket: Ticket,
    /// The user's choices.
    pub options: Options,
    /// Facts about the donor that the joiner checks before it accepts.
    pub properties: Vec<(String, String)>,
    /// How the image is made consistent, for the joiner's log.
    pub capture: String,
    /// Name and version of the caller.
    pub software: String,
}

/// A finished transfer.
#[derive(Debug)]
pub struct Sent {
    /// Figures.
    pub summary: Summary,
    /// The position of the image that was sent.
    pub position: Vec<u8>,
    /// What was sent, when [`Options::manifest`] asked for it.
    pub manifest: Option<Manifest>,
}

/// What to tell a joiner that gets what it lacks by IST.
#[derive(Debug)]
pub struct BypassConfig {
    /// How to reach and trust the joiner.
    pub ticket: Ticket,
    /// The user's choices.
    pub options: Options,
    /// The position the joiner continues from.
    pub position: Vec<u8>,
    /// Facts about the donor that the joiner checks before it accepts.
    pub properties: Vec<(String, String)>,
    /// Name and version of the caller.
    pub software: String,
}

/// Sends the trees; returns when the joiner has them durably in place.
///
/// `freeze` is called once, when the joiner is proven and has agreed; `thaw` as soon as the joiner
/// holds every byte, and in any case before this returns.
///
/// # Errors
/// Whatever ended the transfer; the joiner has been told, as far as it listens.
pub fn send(
    config: SendConfig,
    freeze: &mut dyn Freeze,
    progress: &Arc<Progress>,
    cancel: &Cancel,
) -> Result<Sent> {
    let SendConfig { roots, ticket, options, properties, capture, software } = config;
    let started = Instant::now();
    if options.polite {
        polite::go_last()?;
    }
    let survey = Survey::of(&roots, cancel)?;
    progress.set_totals(survey.entries, survey.bytes());
    let plan = Arc::<Plan>::default();
    let control = Control::start(&ticket, &options, (&software, &plan), progress, cancel)?;
    let donor =
        Donor { roots, ticket, options, software, capture, progress, cancel, plan, control };
    let sent = donor.run(&survey, properties, freeze, started);
    if let Err(error) = &sent {
        // Wakes every thread and tells the joiner; the first reason stays.
        cancel.cancel_with(error);
    }
    donor.control.join();
    sent
}

/// Tells the joiner that nothing will be transferred.
///
/// # Errors
/// The joiner cannot be reached or refuses.
pub fn send_bypass(config: BypassConfig, cancel: &Cancel) -> Result<()> {
    let BypassConfig { ticket, options, position, properties, software } = config;
    let progress = Arc::new(Progress::default());
    let plan = Arc::<Plan>::default();
    let control = Control::start(&ticket, &options, (&software, &plan), &progress, cancel)?;
    let told = (|| {
        let News::Welcomed { .. } = control.news()? else { return Err(out_of_order()) };
        control.order(Order::Declare(Declaration {
            kind: DeclKind::Bypass { position },
            roots: Vec::new(),
            properties,
            bytes_estimate: 0,
            files_estimate: 0,
            lanes: 1,
            capture: "bypass".to_owned(),
        }))?;
        loop {
            match control.news()? {
                News::Accepted { .. } => {}
                News::BypassDone => return Ok(()),
                News::Welcomed { .. } | News::Committed { .. } => return Err(out_of_order()),
            }
        }
    })();
    if let Err(error) = &told {
        cancel.cancel_with(error);
    }
    control.join();
    told
}

struct Donor<'a> {
    roots: Vec<SourceRoot>,
    ticket: Ticket,
    options: Options,
    software: String,
    capture: String,
    progress: &'a Arc<Progress>,
    cancel: &'a Cancel,
    plan: Arc<Plan>,
    control: Control,
}

impl Donor<'_> {
    fn run(
        &self,
        survey: &Survey,
        properties: Vec<(String, String)>,
        freeze: &mut dyn Freeze,
        started: Instant,
    ) -> Result<Sent> {
        let mut times = PhaseSeconds::default();

        // 1. Reach the joiner, prove both ends, let it check what we are about to send.
        let News::Welcomed { transfer, features, peer, way } = self.control.news()? else {
            return Err(out_of_order());
        };
        self.begin_comparing(features);
        self.control.order(Order::Declare(self.declaration(survey, properties)))?;
        let News::Accepted { lanes } = self.control.news()? else { return Err(out_of_order()) };
        times.connect = seconds(started.elapsed());

        // 2. Stop the server.
        self.progress.enter(Phase::Freeze);
        let freezing = Instant::now();
        if freeze.is_felt() {
            self.control.set_deadline(Some(freezing + self.options.freeze_timeout));
        }
        let settle = if freeze.is_felt() { SETTLE_FROZEN } else { SETTLE_FREE };
        let mut lock = Lock::freeze(freeze, self.cancel)?;
        times.freeze = seconds(freezing.elapsed());

        // 3. Copy until a walk finds nothing new and the joiner holds every chunk.
        self.progress.enter(Phase::Copy);
        let copying = Instant::now();
        let ends = (transfer, peer, &way);
        let mut pipeline = Pipeline::start(self, ends, (lanes, settle), Aim::Transfer)?;
        let passes = self.copy(&pipeline)?;
        times.copy = seconds(copying.elapsed());

        // 4. Let the server go on.
        let freeze_seconds = lock.thaw()?;
        self.control.set_deadline(None);

        // 5. End the lanes, say what the result must be, and wait until it is in its place.
        self.progress.enter(Phase::Commit);
        let committing = Instant::now();
        let ended = pipeline.end(self.cancel)?;
        let (entries, bytes, files, root_hash) = pipeline.result()?;
        let ours = pipeline.limited_by();
        let finish = Finish { root_hash, position: lock.position.clone(), entries, bytes };
        self.control.order(Order::Finish(finish, ours))?;
        let News::Committed { root_hash: theirs, limited_by } = self.control.news()? else {
            return Err(out_of_order());
        };
        assert!(theirs == root_hash, "the session compares the hashes before it tells us");
        self.control.order(Order::Bye)?;
        times.commit = seconds(committing.elapsed());
        times.total = seconds(started.elapsed());
        self.progress.enter(Phase::Done);

        let summary = Summary {
            role: "send".to_owned(),
            bytes,
            wire_bytes: self.progress.wire_bytes(),
            kept_bytes: self.progress.kept_bytes(),
            zero_bytes: ended.zero_bytes,
            ratio: ratio(
                bytes.saturating_sub(ended.zero_bytes + self.progress.kept_bytes()),
                self.progress.lane_bytes(),
            ),
            chunks: ended.chunks,
            entries,
            files,
            seconds: times,
            freeze_seconds,
            transport: ended.transport.name().to_owned(),
            transport_reason: ended.transport_reason,
            lanes,
            lanes_replaced: ended.lanes_replaced,
            passes,
            io: ended.io,
            capture: self.capture.clone(),
            root_hash: root_hash.to_string(),
            limited_by: Bottleneck::of_both(ours, limited_by).to_string(),
        };
        let manifest = self.options.manifest.then(|| pipeline.manifest()).transpose()?;
        Ok(Sent { summary, position: std::mem::take(&mut lock.position), manifest })
    }

    fn begin_comparing(&self, features: Features) {
        if features.contains(Features::DELTA) {
            tracing::info!("the joiner has an earlier copy: only what differs is sent");
            self.plan.compare();
        }
    }

    fn declaration(&self, survey: &Survey, mut properties: Vec<(String, String)>) -> Declaration {
        let sizes = self.roots.iter().zip(&survey.bytes_of_roots);
        let sizes = sizes.map(|(root, bytes)| (bytes_property(&root.name), bytes.to_string()));
        // Without them the joiner goes by the sum.
        let sizes = sizes.filter(|(key, _)| is_key(key));
        properties.extend(sizes.take(PROPERTIES_MAX.saturating_sub(properties.len())));
        Declaration {
            kind: DeclKind::Full,
            roots: self.roots.iter().map(|root| root.name.clone()).collect(),
            properties,
            bytes_estimate: survey.bytes(),
            files_estimate: survey.entries,
            lanes: self.options.lane_count(),
            capture: self.capture.clone(),
        }
    }

    /// Passes over the files until one finds nothing changed; returns how many it took.
    fn copy(&self, pipeline: &Pipeline) -> Result<u32> {
        let mut example = None;
        for pass in 1..=PASSES_MAX {
            let (declared, changed) = self.pass(pipeline)?;
            example = changed.or(example);
            if declared == 0 && pass > 1 {
                return Ok(pass);
            }
            pipeline.plan.wait_read(self.cancel)?;
            pipeline.plan.wait_stored(self.cancel)?;
            if pass > 1 {
                tracing::info!("pass {pass}: {declared} entries had changed and were sent again");
            }
        }
        let example = example.map_or_else(|| "the source".to_owned(), |path| path.to_string());
        Err(Error::new(
            Code::SourceChanged,
            format!(
                "{example} still changed in pass {PASSES_MAX}; stop what writes to the source, or \
                 use a capture that freezes"
            ),
        ))
    }

    /// One walk: declares what is new or changed and plans its reading; returns how many entries,
    /// and the path of one of them.
    fn pass(&self, pipeline: &Pipeline) -> Result<(u64, Option<RelPath>)> {
        pipeline.plan.begin_pass();
        pipeline.catalog().begin_pass();
        let (mut batch, mut declared, mut example) = (Batch::default(), 0, None);
        for (number, root) in self.roots.iter().enumerate() {
            let index = RootIndex(
                u8::try_from(number)
                    .map_err(|error| Error::new(Code::Limit, "too many roots").because(error))?,
            );
            walk(&root.open()?, root.filter.as_ref(), &mut |found| {
                self.cancel.check()?;
                let class = found.class;
                let change = pipeline.catalog().meet(index, found, &pipeline.changed)?;
                if let Change::Declare(entry) = change {
                    declared += 1;
                    example.get_or_insert_with(|| entry.path.clone());
                    if entry.kind == EntryKind::File {
                        let (file, generation, size) = (entry.id, entry.generation, entry.size);
                        batch.files.push(Planned { file, generation, size, class });
                    }
                    pipeline.declare(entry, &mut batch)?;
                }
                Ok(())
            })?;
        }
        pipeline.flush(&mut batch)?;
        let gone = pipeline.catalog().end_pass();
        declared += gone.len() as u64;
        if !gone.is_empty() {
            self.control.order(Order::Gone(gone))?;
        }
        let (entries, bytes) = pipeline.catalog().totals();
        self.progress.set_totals(entries, bytes);
        self.control.order(Order::ManifestEnd { entries, bytes })?;
        pipeline.plan.end_walk();
        Ok((declared, example))
    }
}

/// The server's lock: released by [`Lock::thaw`], or when it is dropped.
struct Lock<'a> {
    freeze: &'a mut dyn Freeze,
    frozen_at: Option<Instant>,
    position: Vec<u8>,
}

impl<'a> Lock<'a> {
    fn freeze(freeze: &'a mut dyn Freeze, cancel: &Cancel) -> Result<Self> {
        let Frozen { position } = freeze.freeze(cancel)?;
        Ok(Self { freeze, frozen_at: Some(Instant::now()), position })
    }

    /// Releases the server; returns for how long it was locked, in seconds.
    fn thaw(&mut self) -> Result<f64> {
        let Some(frozen_at) = self.frozen_at.take() else { return Ok(0.0) };
        self.freeze.thaw()?;
        Ok(if self.freeze.is_felt() { seconds(frozen_at.elapsed()) } else { 0.0 })
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.thaw() {
            tracing::warn!("the server could not be released: {error}");
        }
    }
}

/// The trees as they are now, for the joiner's space check.
#[derive(Debug)]
struct Survey {
    entries: u64,
    /// Allocated space, by root. Unit: bytes.
    bytes_of_roots: Vec<u64>,
}

impl Survey {
    fn of(roots: &[SourceRoot], cancel: &Cancel) -> Result<Self> {
        let mut survey = Self { entries: 0, bytes_of_roots: Vec::with_capacity(roots.len()) };
        for root in roots {
            let mut bytes = 0_u64;
            walk(&root.open()?, root.filter.as_ref(), &mut |found| {
                cancel.check()?;
                survey.entries += 1;
                bytes = bytes.saturating_add(found.stat.blocks.saturating_mul(512));
                Ok(())
            })?;
            survey.bytes_of_roots.push(bytes);
        }
        Ok(survey)
    }

    /// Of all roots. Unit: bytes.
    fn bytes(&self) -> u64 {
        self.bytes_of_roots.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }
}

/// Name of the property that says how large a root is.
pub(crate) fn bytes_property(root: &str) -> String {
    format!("bytes:{root}")
}

fn is_key(text: &str) -> bool {
    text.len() <= PROPERTY_KEY_BYTES_MAX && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn out_of_order() -> Error {
    Error::bug("the conversation's news came in an impossible order")
}

/// How long ago the last change of a file must be before it is read, so that a later change is
/// seen in its timestamps; see `read`.
///
/// Why: kernel timestamps advance with the timer tick, at most 10 ms (`CONFIG_HZ=100`). A server
/// that was told to stand still has no writes under way any more.
const SETTLE_FROZEN: Duration = Duration::from_millis(20);

/// The same where nobody was told to stand still: a write sets the time when it begins, and may be
/// under way for as long as a slow disk takes (contract, section 7.3: 1 to 2 s).
const SETTLE_FREE: Duration = Duration::from_secs(1);

/// Entries that are declared together. Why: one frame.
const BATCH: usize = ENTRIES_PER_FRAME_MAX;

/// How long the lanes get to end when the joiner holds every chunk.
const LANES_END: Duration = Duration::from_secs(5);
