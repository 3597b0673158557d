//! One attempt: both ends, joined by the network, until it is over or broken.

use std::collections::BTreeMap;

use fastsst_proto::limits::UNDECIDED_MAX;
use fastsst_proto::{LaneId, ProtocolError};

use super::Shared;
use super::content::Content;
use super::disk::{Disk, Stop};
use super::donor::Donor;
use super::joiner::Joiner;
use super::net::{End, Event, Packet, Said, Wire};
use super::truth::Seen;

/// What may happen to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Anything.
    MayBreak,
    /// Nothing but lanes that break.
    LanesBreak,
}

/// How an attempt ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Both ends say so.
    Done,
    /// Something broke that an attempt does not survive.
    Broken,
}

/// What goes wrong, at the event of this number.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Lane,
    /// The donor ends, or the control connection breaks.
    Control,
    Joiner(Stop),
}

/// Longest an attempt may take. Unit: milliseconds of the model. Most take less than 5000; lanes
/// that break one after the other take longer.
const TIME_MAX_MS: u64 = 60_000;
/// Most events of an attempt. Most have a few hundred.
const EVENTS_MAX: u64 = 50_000;

struct Ends<'a> {
    donor: Donor,
    joiner: Joiner,
    disk: &'a mut Disk,
    /// The attempt is over, and not well.
    is_broken: bool,
}

/// Runs an attempt. The donor's tree may change while it is sent.
pub(super) fn attempt(
    tree: &mut BTreeMap<u8, Content>,
    disk: &mut Disk,
    (shared, fate): (&mut Shared, Fate),
) -> Outcome {
    let mut faults = faults(fate, disk, shared);
    let window = shared.chance.pick(&[1, 2, 5, UNDECIDED_MAX]);
    shared.net.connect(Wire::Control);
    let donor = Donor::new(tree, window, shared);
    let joiner = Joiner::new(disk, window, shared);
    let mut ends = Ends { donor, joiner, disk, is_broken: false };
    for number in 0.. {
        while let Some((_, fault)) = faults.pop_if(|(at, _)| *at <= number) {
            ends.break_something(fault, shared);
        }
        ends.flush(shared);
        if ends.disk.is_stopped() || ends.is_broken || ends.joiner.is_spoiled {
            break;
        }
        if ends.donor.session.is_over() && ends.joiner.session.is_over() {
            *tree = ends.donor.tree();
            return Outcome::Done;
        }
        let now = shared.net.now().0;
        assert!(
            number < EVENTS_MAX && now < TIME_MAX_MS,
            "stands still after {now} ms\n{:?}\n\n{:?}",
            ends.donor,
            ends.joiner
        );
        ends.step(shared).unwrap_or_else(|error| panic!("neither end breaks a rule: {error}"));
    }
    *tree = ends.donor.tree();
    Outcome::Broken
}

/// Lanes break in every attempt; what an attempt does not survive only where that is meant.
fn faults(fate: Fate, disk: &mut Disk, shared: &mut Shared) -> Vec<(u64, Fault)> {
    let chance = &mut shared.chance;
    let mut faults = Vec::new();
    for _ in 0..chance.pick(&[0, 0, 1, 2, 6]) {
        faults.push((chance.below(400), Fault::Lane));
    }
    shared.spoils = 0;
    if fate == Fate::MayBreak {
        let stop = chance.pick(&[Stop::Killed, Stop::PowerLoss, Stop::PowerLoss]);
        match chance.below(8) {
            0 => faults.push((chance.below(400), Fault::Control)),
            1 => shared.spoils = 1,
            2..4 => faults.push((chance.below(400), Fault::Joiner(stop))),
            _ => disk.stop_after(chance.below(300), stop),
        }
    }
    faults.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    faults
}

impl Ends<'_> {
    fn step(&mut self, shared: &mut Shared) -> Result<(), ProtocolError> {
        let timers = [self.donor.session.poll_timeout(), self.joiner.session.poll_timeout()];
        let timer = timers.iter().flatten().map(|timer| timer.0).min().unwrap_or(u64::MAX);
        match shared.net.next(timer) {
            Some(event) => self.happen(event, shared)?,
            None => {
                self.donor.session.handle_timeout(shared.net.now())?;
                self.joiner.session.handle_timeout(shared.net.now())?;
            }
        }
        self.donor.events(shared)?;
        self.joiner.events(self.disk, shared)?;
        self.donor.poke(shared);
        self.joiner.poke(shared);
        Ok(())
    }

    fn happen(&mut self, event: Event, shared: &mut Shared) -> Result<(), ProtocolError> {
        match event {
            Event::Arrives { to, wire, life, packet } if shared.net.is_up(wire, life) => {
                self.arrive(to, wire, packet, shared)
            }
            Event::Arrives { .. } => Ok(()),
            Event::Broken { end, wire, life } if shared.net.is_current(wire, life) => {
                match (end, wire) {
                    (_, Wire::Control) => self.is_broken = true,
                    (End::Donor, Wire::Lane(lane)) => self.donor.on_lane_lost(lane, shared),
                    (End::Joiner, Wire::Lane(_)) => {}
                }
                Ok(())
            }
            Event::Broken { .. } => Ok(()),
            Event::Work(End::Donor) => self.donor.work(shared),
            Event::Work(End::Joiner) => self.joiner.work(self.disk, shared),
            Event::Synced { file, ino } => self.joiner.synced((file, ino), self.disk, shared),
            Event::Reconnect(lane) => {
                self.donor.reconnect(lane);
                Ok(())
            }
        }
    }

    fn arrive(
        &mut self,
        to: End,
        wire: Wire,
        packet: Packet,
        shared: &mut Shared,
    ) -> Result<(), ProtocolError> {
        let now = shared.net.now();
        match (to, wire, packet.decode()) {
            (End::Donor, Wire::Control, Said::Frame(frame)) => {
                self.donor.session.handle_frame(now, frame)
            }
            (End::Joiner, Wire::Control, Said::Frame(frame)) => {
                self.joiner.session.handle_frame(now, frame)
            }
            (_, Wire::Control, Said::Chunk(..)) => panic!("a chunk on the control connection"),
            (End::Donor, Wire::Lane(lane), said) => self.donor.on_lane(lane, said, shared),
            (End::Joiner, Wire::Lane(lane), said) => {
                self.joiner.on_lane(lane, said, (self.disk, shared));
                Ok(())
            }
        }
    }

    fn flush(&mut self, shared: &mut Shared) {
        while let Some(frame) = self.donor.session.poll_transmit() {
            let packet = Packet::frame(&frame);
            shared.net.send(End::Joiner, Wire::Control, packet, &mut shared.chance);
        }
        while let Some(frame) = self.joiner.session.poll_transmit() {
            let packet = Packet::frame(&frame);
            shared.net.send(End::Donor, Wire::Control, packet, &mut shared.chance);
        }
    }

    fn break_something(&mut self, fault: Fault, shared: &mut Shared) {
        match fault {
            Fault::Lane => {
                let lane = LaneId(shared.chance.below(3) as u16);
                shared.net.cut(Wire::Lane(lane), &mut shared.chance);
            }
            Fault::Control => shared.net.cut(Wire::Control, &mut shared.chance),
            Fault::Joiner(stop) => {
                shared.truth.saw(match stop {
                    Stop::Killed => Seen::ProcessStopped,
                    Stop::PowerLoss => Seen::MachineStopped,
                });
                self.disk.stop(stop);
            }
        }
    }
}
