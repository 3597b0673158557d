//! What was written to a disk, and what a power failure at a moment may leave of it.

use blake3::OutputReader;

use super::Medium;

/// What a disk writes as a whole or not at all. Unit: bytes. Source: the physical sector of today's
/// disks. ext4 relies on it: half of a new superblock has no checksum that fits.
const SECTOR: usize = 4096;

/// Of the writes that survive a power failure, one in so many survives in parts.
const TORN: u8 = 4;

/// One thing that a disk was told to do.
#[derive(Debug, Clone)]
pub(super) enum Command {
    /// Write; until the next flush it may be in a cache that loses it.
    Write { offset: u64, data: Vec<u8> },
    /// Make durable what was written before.
    Flush,
}

/// Everything that happened to a disk, in order.
#[derive(Debug)]
pub struct History {
    pub(super) start: Medium,
    pub(super) commands: Vec<Command>,
}

/// A power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crash {
    /// So many commands had reached the disk.
    pub after: usize,
    /// What the disk made of them.
    pub survivors: Survivors,
}

/// Which writes survive a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Survivors {
    /// All that reached the disk.
    All,
    /// All up to the last flush, and of the later ones a choice under this seed; some of them in
    /// parts.
    Chosen(u64),
    /// One write is lost, chosen under this seed among *all*: a disk that lies about flushes.
    AllButOne(u64),
}

impl History {
    /// How many commands there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// The number of the last write that contains these bytes.
    #[must_use]
    pub fn last_write_of(&self, bytes: &[u8]) -> Option<usize> {
        self.commands.iter().rposition(|command| match command {
            Command::Write { data, .. } => data.windows(bytes.len()).any(|it| it == bytes),
            Command::Flush => false,
        })
    }

    /// Whether this command was a flush.
    #[must_use]
    pub fn is_flush(&self, number: usize) -> bool {
        matches!(self.commands.get(number), Some(Command::Flush))
    }

    /// How many commands are at risk when power fails at this moment.
    #[must_use]
    pub fn at_risk(&self, after: usize) -> usize {
        after - self.last_flush(after)
    }

    /// The disk after a power failure.
    #[must_use]
    pub fn image(&self, crash: Crash) -> Medium {
        let mut image = self.start.clone();
        let commands = &self.commands[..crash.after];
        match crash.survivors {
            Survivors::All => commands.iter().for_each(|it| apply(&mut image, it)),
            Survivors::Chosen(seed) => {
                let (durable, rest) = commands.split_at(self.last_flush(crash.after));
                durable.iter().for_each(|it| apply(&mut image, it));
                let mut dice = Dice::new(seed);
                rest.iter().for_each(|it| apply_chosen(&mut image, it, &mut dice));
            }
            Survivors::AllButOne(seed) => {
                let writes = commands.iter().filter(|it| matches!(it, Command::Write { .. }));
                let lost = Dice::new(seed).below(writes.clone().count());
                let others = writes.enumerate().filter(|(number, _)| *number != lost);
                others.for_each(|(_, write)| apply(&mut image, write));
            }
        }
        image
    }

    /// Where what is not durable begins.
    fn last_flush(&self, after: usize) -> usize {
        let flush = self.commands[..after].iter().rposition(|it| matches!(it, Command::Flush));
        flush.map_or(0, |number| number + 1)
    }
}

fn apply(image: &mut Medium, command: &Command) {
    if let Command::Write { offset, data } = command {
        image.write(*offset, data);
    }
}

fn apply_chosen(image: &mut Medium, command: &Command, dice: &mut Dice) {
    let Command::Write { offset, data } = command else { return };
    if !dice.is_heads() {
        return;
    }
    let is_torn = dice.byte().is_multiple_of(TORN);
    let (mut at, mut rest) = (*offset, data.as_slice());
    while !rest.is_empty() {
        let within = usize::try_from(at % SECTOR as u64).expect("smaller than a sector");
        let (sector, later) = rest.split_at(rest.len().min(SECTOR - within));
        if !is_torn || dice.is_heads() {
            image.write(at, sector);
        }
        (at, rest) = (at + sector.len() as u64, later);
    }
}

/// Random numbers under a seed.
#[derive(Debug)]
pub struct Dice(OutputReader);

impl Dice {
    /// The same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % (end.max(1) as u64)).expect("smaller than a usize")
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.0.fill(&mut byte);
        byte[0]
    }

    fn is_heads(&mut self) -> bool {
        self.byte().is_multiple_of(2)
    }
}
