//! Both sessions, joined by queues of encoded frames and a clock.

use std::collections::VecDeque;

use fastsst_proto::limits::HEARTBEAT_INTERVAL_MS;
use fastsst_proto::*;

use crate::wire::{decode, encoded};

pub(crate) const TRANSFER: TransferId = TransferId([0x33; 16]);

pub(crate) fn token() -> Secret {
    Secret::from_bytes([0x11; 16])
}

pub(crate) fn exporter() -> Exporter {
    Exporter([0x22; 32])
}

pub(crate) fn declaration(lanes: u16) -> Declaration {
    Declaration {
        kind: DeclKind::Full,
        roots: vec!["datadir".into(), "redo".into()],
        properties: vec![("version".into(), "11.8".into())],
        bytes_estimate: 0,
        files_estimate: 0,
        lanes,
        capture: "locked".into(),
    }
}

pub(crate) fn entry(id: u32, generation: u16, size: u64) -> Entry {
    Entry {
        id: FileId(id),
        generation: Generation(generation),
        root: RootIndex(0),
        path: RelPath::parse(format!("db/t{id}").as_bytes()).unwrap(),
        kind: EntryKind::File,
        size,
        mode: 0o660,
        uid: 27,
        gid: 27,
        mtime_s: 1,
        mtime_ns: 2,
        sparse: false,
        link_target: None,
    }
}

/// A joiner that offers this.
pub(crate) fn side(features: Features) -> JoinerSide {
    JoinerSide { transfer: TRANSFER, features, software: "joiner 1".into() }
}

/// What a joiner without a stale copy offers.
pub(crate) fn plain() -> Features {
    Features::SUPPORTED.without(Features::DELTA)
}

/// A donor and a joiner on one clock.
pub(crate) struct Pair {
    pub(crate) now: Millis,
    pub(crate) donor: DonorSession,
    pub(crate) joiner: JoinerSession,
    pub(crate) to_joiner: VecDeque<Vec<u8>>,
    pub(crate) to_donor: VecDeque<Vec<u8>>,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::offering(plain())
    }

    /// A pair of which the joiner offers this.
    pub(crate) fn offering(features: Features) -> Self {
        let now = Millis(1_000_000);
        Self {
            now,
            donor: DonorSession::new(now, &token(), exporter(), "donor 1".into()),
            joiner: JoinerSession::new(now, &token(), exporter(), side(features)),
            to_joiner: VecDeque::new(),
            to_donor: VecDeque::new(),
        }
    }

    /// A pair in the middle of a full transfer over two lanes, all events taken.
    pub(crate) fn streaming() -> Self {
        Self::new().started()
    }

    /// The same with a stale copy at the joiner.
    pub(crate) fn comparing() -> Self {
        Self::offering(Features::SUPPORTED).started()
    }

    fn started(self) -> Self {
        let mut pair = self;
        pair.exchange().unwrap();
        pair.donor.declare(declaration(4)).unwrap();
        pair.exchange().unwrap();
        pair.joiner.accept(Accept { lanes: 2 }).unwrap();
        pair.exchange().unwrap();
        pair.donor_events();
        pair.joiner_events();
        pair
    }

    /// Moves what the sessions want to send into the queues.
    pub(crate) fn transmit(&mut self) {
        while let Some(frame) = self.donor.poll_transmit() {
            self.to_joiner.push_back(encoded(&frame));
        }
        while let Some(frame) = self.joiner.poll_transmit() {
            self.to_donor.push_back(encoded(&frame));
        }
    }

    pub(crate) fn deliver_to_joiner(&mut self) -> Result<(), ProtocolError> {
        match self.to_joiner.pop_front() {
            Some(bytes) => self.joiner.handle_frame(self.now, decode(&bytes).unwrap().0.unwrap()),
            None => Ok(()),
        }
    }

    pub(crate) fn deliver_to_donor(&mut self) -> Result<(), ProtocolError> {
        match self.to_donor.pop_front() {
            Some(bytes) => self.donor.handle_frame(self.now, decode(&bytes).unwrap().0.unwrap()),
            None => Ok(()),
        }
    }

    /// Delivers until nothing is under way.
    pub(crate) fn exchange(&mut self) -> Result<(), ProtocolError> {
        loop {
            self.transmit();
            if self.to_joiner.is_empty() && self.to_donor.is_empty() {
                return Ok(());
            }
            self.deliver_to_joiner()?;
            self.transmit();
            self.deliver_to_donor()?;
        }
    }

    /// Lets one heartbeat interval pass.
    pub(crate) fn pass_time(&mut self) -> Result<(), ProtocolError> {
        self.now = self.now.plus(HEARTBEAT_INTERVAL_MS);
        self.donor.handle_timeout(self.now)?;
        self.joiner.handle_timeout(self.now)
    }

    pub(crate) fn donor_events(&mut self) -> Vec<DonorEvent> {
        std::iter::from_fn(|| self.donor.poll_event()).collect()
    }

    pub(crate) fn joiner_events(&mut self) -> Vec<JoinerEvent> {
        std::iter::from_fn(|| self.joiner.poll_event()).collect()
    }
}
