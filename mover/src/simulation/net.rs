//! The network and the clock: connections that keep their order, are slow at random, and break.

use std::collections::BTreeMap;

use fastsst_proto::frame::{FRAME_HEADER_BYTES, decode_body, decode_header, encode};
use fastsst_proto::{ChunkHeader, Frame, LaneId, Millis};

use super::chance::Chance;
use super::content::Page;

/// One of the connections of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wire {
    Control,
    Lane(LaneId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Donor,
    Joiner,
}

/// The bytes of a frame; the pages of a chunk go beside them, by name.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    bytes: Vec<u8>,
    pages: Vec<Page>,
}

/// What a packet says.
#[derive(Debug)]
pub(super) enum Said {
    Frame(Frame),
    Chunk(ChunkHeader, Vec<Page>),
}

impl Packet {
    pub(super) fn frame(frame: &Frame) -> Self {
        let mut bytes = Vec::new();
        encode(frame, &mut bytes);
        Self { bytes, pages: Vec::new() }
    }

    pub(super) fn chunk(header: &ChunkHeader, pages: Vec<Page>) -> Self {
        let mut bytes = Vec::new();
        header.encode_frame(&mut bytes);
        Self { bytes, pages }
    }

    /// Changes a page under way; false when there is none.
    pub(super) fn spoil(&mut self, chance: &mut Chance) -> bool {
        let at = chance.index(self.pages.len());
        let Some(page) = self.pages.get_mut(at) else { return false };
        *page = Page::torn(chance);
        true
    }

    pub(super) fn decode(self) -> Said {
        let head = self.bytes.first_chunk().expect("a header");
        let header = decode_header(head).expect("a header that was encoded");
        let body = &self.bytes[FRAME_HEADER_BYTES..];
        if header.is_chunk() {
            let chunk = ChunkHeader::decode(body).expect("a chunk that was encoded");
            chunk.validate_frame(header).expect("its length");
            assert_eq!(chunk.sent.count() as usize, self.pages.len());
            return Said::Chunk(chunk, self.pages);
        }
        let frame = decode_body(header.ty, body).expect("a frame that was encoded");
        Said::Frame(frame.expect("a frame that is known"))
    }
}

/// What happens next.
#[derive(Debug)]
pub(super) enum Event {
    Arrives {
        to: End,
        wire: Wire,
        life: u64,
        packet: Packet,
    },
    /// This end learns that a connection is gone.
    Broken {
        end: End,
        wire: Wire,
        life: u64,
    },
    /// This end goes on with what it has to do.
    Work(End),
    /// A file was given to the disk to be synced.
    Synced {
        file: fastsst_proto::FileRef,
        ino: u64,
    },
    /// A lane that is down is tried again.
    Reconnect(LaneId),
}

#[derive(Debug, Default)]
struct Connection {
    /// Counts how often it was made; what was under way before is lost.
    life: u64,
    is_up: bool,
    /// When the last packet arrives, for each direction.
    last: [u64; 2],
}

#[derive(Debug)]
pub(super) struct Net {
    now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    connections: BTreeMap<Wire, Connection>,
    /// Once in so many packets the network stalls.
    stalls: u64,
}

impl Net {
    pub(super) fn new(chance: &mut Chance) -> Self {
        let stalls = chance.pick(&[5, 50, 1000]);
        Self { now: 0, sequence: 0, events: BTreeMap::new(), connections: BTreeMap::new(), stalls }
    }

    pub(super) fn now(&self) -> Millis {
        Millis(self.now)
    }

    /// The next event; it is its time now. Timers of the sessions at `timer` come first.
    pub(super) fn next(&mut self, timer: u64) -> Option<Event> {
        match self.events.first_key_value() {
            Some(((time, _), _)) if *time <= timer => {
                let ((time, _), event) = self.events.pop_first()?;
                self.now = self.now.max(time);
                Some(event)
            }
            Some(_) | None => {
                self.now = self.now.max(timer);
                None
            }
        }
    }

    pub(super) fn after(&mut self, ms: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + ms, self.sequence), event);
    }

    pub(super) fn connect(&mut self, wire: Wire) {
        let connection = self.connections.entry(wire).or_default();
        connection.life += 1;
        connection.is_up = true;
        connection.last = [self.now; 2];
    }

    pub(super) fn is_current(&self, wire: Wire, life: u64) -> bool {
        self.connections.get(&wire).is_some_and(|known| known.life == life)
    }

    pub(super) fn send(&mut self, to: End, wire: Wire, packet: Packet, chance: &mut Chance) {
        let delay = if chance.one_in(self.stalls) { chance.below(900) } else { chance.below(12) };
        let Some(connection) = self.connections.get_mut(&wire).filter(|known| known.is_up) else {
            return;
        };
        let last = &mut connection.last[usize::from(to == End::Donor)];
        *last = (*last).max(self.now + delay);
        let (time, life) = (*last, connection.life);
        self.sequence += 1;
        let event = Event::Arrives { to, wire, life, packet };
        self.events.insert((time, self.sequence), event);
    }

    /// Whether what arrives still belongs to a connection.
    pub(super) fn is_up(&self, wire: Wire, life: u64) -> bool {
        self.connections.get(&wire).is_some_and(|known| known.is_up && known.life == life)
    }

    /// Breaks a connection; what is under way is lost, and the ends learn of it some time later.
    pub(super) fn cut(&mut self, wire: Wire, chance: &mut Chance) {
        let Some(connection) = self.connections.get_mut(&wire).filter(|known| known.is_up) else {
            return;
        };
        connection.is_up = false;
        let life = connection.life;
        for end in [End::Donor, End::Joiner] {
            self.after(chance.below(300), Event::Broken { end, wire, life });
        }
    }
}
