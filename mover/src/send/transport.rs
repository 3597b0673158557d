//! What carries the lanes: QUIC or TCP, why, and when to change that.
//!
//! ```text
//!  UDP does not get through ─────────────────────────────▶ TCP
//!  QUIC ── it dies, and is not back after 2 s ───────────▶ TCP
//!    │  └─ lanes limit, datagrams are small, much to do ─▶ TCP, on trial
//!    └──────────── not 1.25 times as fast ────────────────────┘  else it stays
//! ```
//!
//! [`Decision`] is told what happens and when, reads no clock and does nothing; [`Switch`] is what
//! the lanes share. Bytes that flow during the trial are useful bytes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastsst_proto::LaneId;
use fastsst_proto::limits::PEER_SILENCE_MS;
use tokio::sync::watch;

use crate::net::Carrier;
use crate::options::Transport;
use crate::summary::mib;

/// Silence after which a QUIC lane is given up when TCP can take over.
///
/// Why: six keep-alives of QUIC; the control conversation is over TCP and notices a dead joiner by
/// itself, so that a lane which is given up too early costs little.
const LANE_SILENCE: Duration = Duration::from_secs(3);

/// How long QUIC is tried again before all lanes go to TCP. Source: design, section 5.
const UDP_COMES_BACK: Duration = Duration::from_secs(2);

/// Time before QUIC is measured. Why: slow start and the search for the datagram size are over.
const QUIC_WARM_UP: Duration = Duration::from_secs(1);

/// The same for TCP, whose slow start is all there is to wait for.
const TCP_WARM_UP: Duration = Duration::from_millis(300);

/// Shortest measurement. Why: longer than the pauses of a disk or a scheduler.
const WINDOW: Duration = Duration::from_millis(400);

/// Fewest bytes of a measurement.
///
/// Why: chunks are acknowledged as a whole; with fewer than 32 of them the rounding is measured.
const WINDOW_BYTES_MIN: u64 = 32 << 20;

/// A trial must be paid for by what is left: as many windows as this, at the rate so far.
const WINDOWS_LEFT: u64 = 4;

/// Datagrams of this size or more make QUIC as cheap as TCP.
///
/// Unit: bytes. Source: measured; at 8952 bytes a core sends 11 to 13 Gbit/s over QUIC and 11 to
/// 16 over TCP, at 1452 bytes 5 to 7 over QUIC.
const LARGE_DATAGRAM: u16 = 8 << 10;

/// How much faster TCP must be. Source: design, section 5.
const FASTER: f64 = 1.25;

/// Longest trial of TCP, connecting included.
const TRIAL_MAX: Duration = Duration::from_secs(5);

/// How the joiner was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    /// What carries the conversation.
    pub(super) control: Carrier,
    /// Why the other transport cannot be used, when both were tried.
    pub(super) other_failed: Option<String>,
}

/// Chunks that were acknowledged, and how things stood then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acked {
    /// What carried them.
    pub(super) carrier: Carrier,
    /// Their frames. Unit: bytes.
    pub(super) wire_bytes: u64,
    /// Their content. Unit: bytes.
    pub(super) plain_bytes: u64,
    /// The lanes' processor time is what the transfer waits for, and not the link: the machine is
    /// busy, or their queue is at least half full and they use a core each.
    pub(super) lanes_limit: bool,
    /// Size of a full datagram, on QUIC. Unit: bytes.
    pub(super) datagram_bytes: Option<u16>,
    /// Content that is still to be sent, as far as known. Unit: bytes.
    pub(super) plain_left: u64,
}

/// What carries the lanes and why.
#[derive(Debug)]
pub(super) struct Decision {
    carrier: Carrier,
    reason: String,
    /// Both get through, and the user left the choice to us.
    is_free: bool,
    began: Instant,
    /// How often carrier or reason have changed.
    changes: u32,
    /// What each lane is connected over.
    lanes: Vec<Option<Carrier>>,
    /// Since when QUIC has been missing.
    missing: Option<Instant>,
    trial: Trial,
}

#[derive(Debug)]
enum Trial {
    /// None, or it is over.
    Off,
    /// QUIC is measured.
    Quic(Window),
    /// TCP is, once all lanes use it.
    Tcp { quic: f64, since: Instant, window: Option<Window> },
}

#[derive(Debug)]
struct Window {
    /// Begins with the first acknowledgement after this, which says nothing itself.
    from: Instant,
    has_begun: bool,
    wire_bytes: u64,
    plain_bytes: u64,
    acks: u32,
    /// Acks that found the lanes' queue full.
    limiting: u32,
}

impl Window {
    fn from(from: Instant) -> Self {
        Self { from, has_begun: false, wire_bytes: 0, plain_bytes: 0, acks: 0, limiting: 0 }
    }

    /// The rate in MiB per second, when there is enough to tell.
    fn add(&mut self, now: Instant, acked: &Acked) -> Option<f64> {
        let time = now.checked_duration_since(self.from)?;
        if !self.has_begun {
            (self.from, self.has_begun) = (now, true);
            return None;
        }
        self.wire_bytes += acked.wire_bytes;
        self.plain_bytes += acked.plain_bytes;
        self.acks += 1;
        self.limiting += u32::from(acked.lanes_limit);
        let is_enough = time >= WINDOW && self.wire_bytes >= WINDOW_BYTES_MIN;
        is_enough.then(|| mib(self.plain_bytes) / time.as_secs_f64())
    }

    /// Whether the lanes were what the transfer waited for, most of the time.
    fn lanes_limit(&self) -> bool {
        self.limiting * 4 >= self.acks * 3
    }
}

impl Decision {
    /// The first choice.
    pub(super) fn new(option: Transport, way: &Way, lanes: u16, now: Instant) -> Self {
        let why = way.other_failed.as_deref();
        let (carrier, reason, is_free) = match (option, way.control, why) {
            (Transport::Quic, _, _) => (Carrier::Quic, "as chosen".to_owned(), false),
            (Transport::Tcp, _, _) => (Carrier::Tcp, "as chosen".to_owned(), false),
            (Transport::Auto, Carrier::Tcp, None) => {
                (Carrier::Quic, "datagrams get through".to_owned(), true)
            }
            (Transport::Auto, Carrier::Tcp, Some(why)) => {
                (Carrier::Tcp, format!("UDP does not get through: {why}"), false)
            }
            (Transport::Auto, Carrier::Quic, why) => {
                let why = why.unwrap_or("not tried");
                (Carrier::Quic, format!("TCP does not get through: {why}"), false)
            }
        };
        let trial =
            if is_free { Trial::Quic(Window::from(now + QUIC_WARM_UP)) } else { Trial::Off };
        let lanes = vec![None; usize::from(lanes)];
        Self { carrier, reason, is_free, began: now, changes: 0, lanes, missing: None, trial }
    }

    /// What a lane that connects now uses, and what the others change to.
    pub(super) fn carrier(&self) -> Carrier {
        self.carrier
    }

    /// Why.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether TCP is on trial: rates say nothing about anything else then.
    pub(super) fn is_on_trial(&self) -> bool {
        matches!(self.trial, Trial::Tcp { .. })
    }

    /// Silence after which a lane is given up.
    pub(super) fn silence(&self, carrier: Carrier) -> Duration {
        if self.is_free && carrier == Carrier::Quic {
            LANE_SILENCE
        } else {
            Duration::from_millis(PEER_SILENCE_MS)
        }
    }

    /// Time for a lane to connect, at most `longest`; less while there is another way.
    pub(super) fn patience(&self, longest: Duration) -> Duration {
        if self.is_free { longest.min(UDP_COMES_BACK) } else { longest }
    }

    /// A lane is connected.
    pub(super) fn lane_up(&mut self, now: Instant, lane: LaneId, carrier: Carrier) {
        self.set(lane, Some(carrier));
        if carrier == Carrier::Quic {
            self.missing = None;
        }
        let all_over_tcp = self.lanes.iter().all(|lane| *lane == Some(Carrier::Tcp));
        if let Trial::Tcp { window: window @ None, .. } = &mut self.trial
            && all_over_tcp
        {
            *window = Some(Window::from(now + TCP_WARM_UP));
        }
    }

    /// A lane has ended its connection, to use another one.
    pub(super) fn lane_left(&mut self, lane: LaneId) {
        self.set(lane, None);
    }

    /// A lane has died, or could not be connected, although it was tried from `since` on.
    pub(super) fn lane_failed(
        &mut self,
        now: Instant,
        lane: LaneId,
        (carrier, since): (Carrier, Instant),
    ) {
        let was_up = self.set(lane, None).is_some();
        match carrier {
            Carrier::Quic if self.is_free && self.carrier == Carrier::Quic => {
                let missing = *self.missing.get_or_insert(if was_up { now } else { since });
                // One bad path is not the end of UDP while other lanes get through.
                let others = self.lanes.contains(&Some(Carrier::Quic));
                if !others && now.duration_since(missing) >= UDP_COMES_BACK {
                    let lived = missing.saturating_duration_since(self.began).as_secs();
                    self.settle(Carrier::Tcp, format!("UDP died after {lived} s, TCP since then"));
                }
            }
            Carrier::Quic => {}
            Carrier::Tcp => self.end_trial("a lane failed over TCP, which was on trial"),
        }
    }

    /// Chunks were acknowledged.
    pub(super) fn acked(&mut self, now: Instant, acked: &Acked) {
        let all = |carrier| self.lanes.iter().all(|lane| *lane == Some(carrier));
        match &mut self.trial {
            Trial::Quic(window) if acked.carrier == Carrier::Quic && all(Carrier::Quic) => {
                let Some(quic) = window.add(now, acked) else { return };
                let can_win = acked.datagram_bytes.is_some_and(|bytes| bytes < LARGE_DATAGRAM);
                let pays = acked.plain_left >= window.plain_bytes * WINDOWS_LEFT;
                if can_win && pays && window.lanes_limit() {
                    self.trial = Trial::Tcp { quic, since: now, window: None };
                    self.change(Carrier::Tcp, format!("on trial, QUIC carried {quic:.0} MiB/s"));
                } else {
                    *window = Window::from(now);
                }
            }
            Trial::Tcp { since, .. } if now.duration_since(*since) >= TRIAL_MAX => {
                self.end_trial("TCP could not be measured in time");
            }
            Trial::Tcp { quic, window: Some(window), .. } if acked.carrier == Carrier::Tcp => {
                let Some(tcp) = window.add(now, acked) else { return };
                let times = tcp / *quic;
                let figures =
                    format!("{times:.2} times as fast ({tcp:.0} against {quic:.0} MiB/s)");
                if times >= FASTER {
                    self.settle(Carrier::Tcp, format!("TCP measured {figures}"));
                } else {
                    self.settle(Carrier::Quic, format!("TCP measured only {figures}"));
                }
            }
            Trial::Quic(_) | Trial::Tcp { .. } | Trial::Off => {}
        }
    }

    /// Back to QUIC, if TCP is on trial.
    fn end_trial(&mut self, why: &str) {
        if let Trial::Tcp { .. } = self.trial {
            self.settle(Carrier::Quic, why.to_owned());
        }
    }

    fn settle(&mut self, carrier: Carrier, reason: String) {
        self.change(carrier, reason);
        // Back on QUIC nothing more is measured, but it may still die.
        (self.is_free, self.missing, self.trial) = (carrier == Carrier::Quic, None, Trial::Off);
    }

    fn change(&mut self, carrier: Carrier, reason: String) {
        (self.carrier, self.reason) = (carrier, reason);
        self.changes += 1;
    }

    fn set(&mut self, lane: LaneId, carrier: Option<Carrier>) -> Option<Carrier> {
        let lane = self.lanes.get_mut(usize::from(lane.0))?;
        std::mem::replace(lane, carrier)
    }
}

/// The decision, shared by all lanes: says what changed, and wakes who has to change.
#[derive(Debug)]
pub(super) struct Switch {
    decision: Mutex<Decision>,
    carrier: watch::Sender<Carrier>,
}

impl Switch {
    /// Says what the choice is.
    pub(super) fn new(decision: Decision) -> Self {
        tracing::info!("lanes over {}: {}", decision.carrier(), decision.reason());
        let (carrier, _) = watch::channel(decision.carrier());
        Self { decision: Mutex::new(decision), carrier }
    }

    /// Looks at the decision.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Decision) -> T) -> T {
        look(&self.lock())
    }

    /// Tells the decision something.
    pub(super) fn tell(&self, tell: impl FnOnce(&mut Decision, Instant)) {
        let mut decision = self.lock();
        let before = decision.changes;
        tell(&mut decision, Instant::now());
        if decision.changes == before {
            return;
        }
        let (carrier, reason) = (decision.carrier(), decision.reason());
        if self.carrier.send_if_modified(|now| std::mem::replace(now, carrier) != carrier) {
            tracing::info!("lanes go over to {carrier}: {reason}");
        } else {
            tracing::info!("lanes stay with {carrier}: {reason}");
        }
    }

    /// Changes when the lanes shall use another transport.
    pub(super) fn watch(&self) -> watch::Receiver<Carrier> {
        self.carrier.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Decision> {
        self.decision.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
