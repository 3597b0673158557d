//! One flow: what becomes of each thing that passes.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::Way;
use super::dice::Dice;
use super::faults::{End, Ending, Faults};
use super::network::{Conditions, Network};
use super::tally::{Counter, Tally};

/// How much later something comes that is overtaken. Why: hundreds of datagrams pass in this time.
const HELD_BACK: Duration = Duration::from_millis(10);

/// How much later a lost segment of TCP comes. Source: Linux, `TCP_RTO_MIN`.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// One flow.
#[derive(Debug)]
pub(super) struct Flow {
    number: u64,
    state: Mutex<State>,
    /// Towards the joiner, as far as it passed.
    pub(super) bytes: Counter,
}

#[derive(Debug)]
struct State {
    /// They are not those of everybody.
    has_own: bool,
    conditions: Arc<Conditions>,
    /// Bytes since these conditions began.
    passed: u64,
    ways: [Direction; 2],
}

#[derive(Debug)]
struct Direction {
    dice: Dice,
    /// When the last thing is due that nothing may overtake.
    last: Instant,
}

/// Whether a flow goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// So many bytes may pass before it ends.
    Open(u64),
    Silent,
    Reset,
}

/// What becomes of something that is not lost.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passage {
    pub(super) due: Instant,
    /// When it comes a second time.
    pub(super) again: Option<Instant>,
}

impl Flow {
    /// The flow with this number, of those that something carries.
    pub(super) fn new(network: &Network, number: usize) -> Self {
        let (number, conditions) = (number as u64, network.everybody());
        let ways = [Way::ToJoiner, Way::ToDonor].map(|way| Direction {
            dice: Dice::new(conditions.faults.chances(), [number, way as u64]),
            last: Instant::now(),
        });
        let state = Mutex::new(State { has_own: false, conditions, passed: 0, ways });
        Self { number, state, bytes: Counter::default() }
    }

    /// From now on it has faults of its own.
    pub(super) fn set(&self, faults: Faults) {
        let mut state = self.lock();
        state.has_own = true;
        state.change(self.number, Conditions::new(faults));
    }

    /// Whether anything passes in this direction.
    pub(super) fn fate(&self, network: &Network, way: Way) -> Fate {
        self.state(network).fate(way)
    }

    /// Whether, and when, a datagram arrives; a bit of it may be wrong afterwards.
    pub(super) fn datagram(
        &self,
        network: &Network,
        way: Way,
        datagram: &mut [u8],
    ) -> Option<Passage> {
        let (now, tally) = (Instant::now(), &network.tally);
        let mut state = self.state(network);
        let conditions = Arc::clone(&state.conditions);
        let faults = &conditions.faults;
        if !matches!(state.fate(way), Fate::Open(1..)) {
            tally.swallowed.add(1);
            return None;
        }
        if datagram.len() > faults.datagram_bytes_max {
            tally.too_long.add(1);
            return None;
        }
        let dice = &mut state.ways[way as usize].dice;
        if happens(dice, faults.lost, &tally.lost) {
            return None;
        }
        let passed = match conditions.link(way) {
            None => now,
            Some((rate, mut link)) => {
                let passed = link.pass(rate, datagram.len(), now);
                if passed.is_none() {
                    tally.overflowed.add(1);
                }
                passed?
            }
        };
        flip_a_bit(dice, faults, datagram, tally);
        let is_held_back = happens(dice, faults.held_back, &tally.held_back);
        let again = happens(dice, faults.doubled, &tally.doubled);
        let mut due = state.ways[way as usize].in_order(faults, passed);
        if is_held_back {
            due += HELD_BACK;
        }
        state.passed += datagram.len() as u64;
        if way == Way::ToJoiner {
            self.bytes.add(datagram.len() as u64);
        }
        Some(Passage { due, again: again.then_some(due + HELD_BACK / 2) })
    }

    /// When a piece of a stream arrives; a bit of it may be wrong afterwards.
    pub(super) fn piece(&self, network: &Network, way: Way, piece: &mut [u8]) -> Instant {
        let (now, tally) = (Instant::now(), &network.tally);
        let mut state = self.state(network);
        let conditions = Arc::clone(&state.conditions);
        let faults = &conditions.faults;
        let mut passed = match conditions.link(way) {
            None => now,
            Some((rate, mut link)) => link.pass_always(rate, piece.len(), now),
        };
        let dice = &mut state.ways[way as usize].dice;
        if happens(dice, faults.lost, &tally.lost) {
            passed += RETRANSMISSION;
        }
        flip_a_bit(dice, faults, piece, tally);
        state.ways[way as usize].in_order(faults, passed)
    }

    /// Counts bytes of a stream that have passed.
    pub(super) fn passed(&self, network: &Network, way: Way, bytes: usize) {
        self.state(network).passed += bytes as u64;
        if way == Way::ToJoiner {
            self.bytes.add(bytes as u64);
        }
    }

    /// When the end of a stream arrives.
    pub(super) fn end(&self, network: &Network, way: Way) -> Instant {
        let mut state = self.state(network);
        let conditions = Arc::clone(&state.conditions);
        state.ways[way as usize].in_order(&conditions.faults, Instant::now())
    }

    /// The longest piece of a stream, and how long its sender has to wait before the next one.
    pub(super) fn next_piece(&self, network: &Network, way: Way) -> (usize, Duration) {
        let conditions = Arc::clone(&self.state(network).conditions);
        let link = conditions.link(way);
        let wait = link.map(|(rate, link)| link.wait(rate, Instant::now()));
        (conditions.faults.piece_bytes_max, wait.unwrap_or_default())
    }

    /// The state under the conditions of now.
    fn state(&self, network: &Network) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if !state.has_own {
            let everybody = network.everybody();
            if !Arc::ptr_eq(&state.conditions, &everybody) {
                state.change(self.number, everybody);
            }
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl State {
    /// Begins with other conditions; a stream keeps its order.
    fn change(&mut self, number: u64, conditions: Arc<Conditions>) {
        for way in [Way::ToJoiner, Way::ToDonor] {
            self.ways[way as usize].dice =
                Dice::new(conditions.faults.chances(), [number, way as u64]);
        }
        (self.conditions, self.passed) = (conditions, 0);
    }

    fn fate(&self, way: Way) -> Fate {
        let Some(End { after_bytes, how }) = self.conditions.faults.end else {
            return Fate::Open(u64::MAX);
        };
        match (after_bytes.saturating_sub(self.passed), how) {
            (0, Ending::Reset) => Fate::Reset,
            (0, Ending::Silence(dead)) if dead.is_none_or(|dead| dead == way) => Fate::Silent,
            (0, Ending::Silence(_)) => Fate::Open(u64::MAX),
            (left, _) => Fate::Open(left),
        }
    }
}

impl Direction {
    /// When something arrives that has passed the link then, behind everything before it.
    fn in_order(&mut self, faults: &Faults, passed: Instant) -> Instant {
        let jitter = u64::try_from(faults.jitter.as_nanos()).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(self.dice.below(jitter));
        self.last = self.last.max(passed + faults.delay + jitter);
        self.last
    }
}

fn happens(dice: &mut Dice, per_mille: u16, counter: &Counter) -> bool {
    let happens = dice.happens(per_mille);
    counter.add(u64::from(happens));
    happens
}

fn flip_a_bit(dice: &mut Dice, faults: &Faults, bytes: &mut [u8], tally: &Tally) {
    if happens(dice, faults.flipped, &tally.flipped) {
        let which = usize::try_from(dice.below(bytes.len() as u64)).expect("an index");
        if let Some(byte) = bytes.get_mut(which) {
            *byte ^= 1 << dice.below(8);
        }
    }
}
