//! How much would be sent: everything is read and compared as in a transfer, and what would go to
//! the lanes is counted and dropped. The joiner compares with its files where they are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastsst_proto::frame::DeclKind;
use serde::Serialize;

use super::control::{Control, News, Order};
use super::lane::Shared;
use super::pipeline::Pipeline;
use super::plan::Plan;
use super::{Donor, SendConfig, Survey, out_of_order};
use crate::cancel::Cancel;
use crate::error::Result;
use crate::polite;
use crate::progress::{Phase, Progress};
use crate::summary::seconds;

/// What the threads work for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// To send.
    Transfer,
    /// To know how much that would be. The joiner is told of every decision, whatever it is, since
    /// no chunk ever tells it.
    Estimate,
}

/// What a transfer would do now. Sizes in bytes, times in seconds.
#[derive(Debug, Clone, Serialize)]
pub struct Estimate {
    /// Plain bytes of all files, holes included.
    pub bytes: u64,
    /// Entries: files, directories, links.
    pub entries: u64,
    /// Bytes the joiner has already.
    pub kept_bytes: u64,
    /// Bytes that are holes or zero pages and need not be sent.
    pub zero_bytes: u64,
    /// Bytes of frames that would be sent, and of what is said about them, in both directions.
    pub wire_bytes: u64,
    /// How long reading and comparing took, which a transfer does while it sends.
    pub compare_seconds: f64,
}

impl Estimate {
    /// About how long a transfer takes over a link that carries so many bytes per second: sending
    /// and comparing go on at the same time.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    pub fn seconds_at(&self, rate: u64) -> f64 {
        let sending = self.wire_bytes as f64 / rate.max(1) as f64;
        sending.max(self.compare_seconds)
    }
}

/// Finds out how much [`super::send`] would send now. Nothing is sent, and at the joiner nothing is
/// changed; it goes on waiting for a donor with the same ticket.
///
/// # Errors
/// As [`super::send`]; E15 or E17 when the joiner does not know how to.
pub fn estimate(config: SendConfig, progress: &Arc<Progress>, cancel: &Cancel) -> Result<Estimate> {
    let SendConfig { roots, ticket, options, properties, capture, software } = config;
    if options.polite {
        polite::go_last()?;
    }
    let survey = Survey::of(&roots, cancel)?;
    progress.set_totals(survey.entries, survey.bytes());
    let plan = Arc::<Plan>::default();
    let control = Control::start(&ticket, &options, (&software, &plan), progress, cancel)?;
    let donor =
        Donor { roots, ticket, options, software, capture, progress, cancel, plan, control };
    let estimated = donor.estimate(&survey, properties);
    if let Err(error) = &estimated {
        cancel.cancel_with(error);
    }
    donor.control.join();
    estimated
}

impl Donor<'_> {
    fn estimate(&self, survey: &Survey, properties: Vec<(String, String)>) -> Result<Estimate> {
        let News::Welcomed { transfer, features, peer, way } = self.control.news()? else {
            return Err(out_of_order());
        };
        self.begin_comparing(features);
        let mut declaration = self.declaration(survey, properties);
        declaration.kind = DeclKind::Estimate;
        self.control.order(Order::Declare(declaration))?;
        let News::Accepted { .. } = self.control.news()? else { return Err(out_of_order()) };

        self.progress.enter(Phase::Copy);
        let comparing = Instant::now();
        let ends = (transfer, peer, &way);
        let mut pipeline = Pipeline::start(self, ends, (0, Duration::ZERO), Aim::Estimate)?;
        // Once: what changes meanwhile would be sent again, and nobody knows what that is.
        self.pass(&pipeline)?;
        self.plan.wait_read(self.cancel)?;
        self.plan.wait_stored(self.cancel)?;
        let compare_seconds = seconds(comparing.elapsed());
        let ended = pipeline.end(self.cancel)?;
        let (entries, bytes) = pipeline.catalog().totals();
        self.control.order(Order::Bye)?;
        self.progress.enter(Phase::Done);
        Ok(Estimate {
            bytes,
            entries,
            kept_bytes: self.progress.kept_bytes(),
            zero_bytes: ended.zero_bytes,
            wire_bytes: self.progress.wire_bytes(),
            compare_seconds,
        })
    }
}

/// Takes what lanes would send, as if the joiner had stored it.
///
/// # Errors
/// E99: more was acknowledged than planned.
pub(super) fn swallow(lanes: &Shared) -> Result<()> {
    while let Ok(parcel) = lanes.parcels.recv() {
        let wire = parcel.chunks.iter().map(|chunk| chunk.wire_bytes).sum();
        lanes.progress.add_wire(wire);
        lanes.progress.add_bytes(parcel.plain_bytes);
        lanes.zero_bytes.fetch_add(parcel.zero_bytes, std::sync::atomic::Ordering::Relaxed);
        let chunks: Vec<_> = parcel.chunks.iter().map(|chunk| chunk.at).collect();
        lanes.plan.acknowledged(&chunks)?;
    }
    Ok(())
}
