//! What neither end can know, to check both: what each file really holds, and what was to be sent.

use std::collections::{BTreeMap, BTreeSet};

use fastsst_proto::chunk::all_pages;
use fastsst_proto::{ChunkHeader, ChunkIndex, ChunkRef, FileId, FileRef, Generation, PageMask};

use super::content::{Content, Page};

/// A mistake that is built in to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    /// The joiner takes a patched chunk without comparing its hash.
    TrustsPages,
    /// The joiner writes its record before the file is synced.
    RecordBeforeSync,
    /// The joiner goes on with the journal of the attempt before.
    OldJournal,
    /// The joiner describes more than it may.
    IgnoresWindow,
    /// The donor forgets what was under way on a lane that died.
    ForgetsUnacked,
    /// The donor sends all of a chunk of which pages differ.
    SendsEqualPages,
}

/// How often something happened, to see that it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    Again,
    Collision,
    ChunkSame,
    ChunkPatched,
    ChunkWhole,
    ChunkTwice,
    Corruption,
    DeclaredAgain,
    FileLost,
    FileSame,
    FileVouched,
    Gone,
    JournalDamaged,
    LaneLost,
    MachineStopped,
    PagesAfterFile,
    ProcessStopped,
    Twin,
    WindowFull,
}

impl Mistake {
    pub(super) const ALL: [Self; 6] = [
        Self::TrustsPages,
        Self::RecordBeforeSync,
        Self::OldJournal,
        Self::IgnoresWindow,
        Self::ForgetsUnacked,
        Self::SendsEqualPages,
    ];
}

impl Seen {
    pub(super) const ALL: [Self; 19] = [
        Self::Again,
        Self::Collision,
        Self::ChunkSame,
        Self::ChunkPatched,
        Self::ChunkWhole,
        Self::ChunkTwice,
        Self::Corruption,
        Self::DeclaredAgain,
        Self::FileLost,
        Self::FileSame,
        Self::FileVouched,
        Self::Gone,
        Self::JournalDamaged,
        Self::LaneLost,
        Self::MachineStopped,
        Self::PagesAfterFile,
        Self::ProcessStopped,
        Self::Twin,
        Self::WindowFull,
    ];
}

pub(super) type Tallied = BTreeMap<Seen, u64>;

/// Largest file that is described by its hash. Unit: bytes. As in the engine.
pub(super) const SMALL_BYTES: u64 = 128 << 10;

#[derive(Debug)]
pub(super) struct Truth {
    pub(super) mistake: Mistake,
    pub(super) seen: Tallied,
    /// Every declaration of the donor.
    declared: BTreeMap<FileRef, (u8, Content)>,
    /// What the joiner could build on when the attempt began.
    pub(super) before: BTreeMap<u8, Content>,
    /// Files and chunks of which more may be sent than differs, each for a good reason.
    pub(super) excused_files: BTreeSet<FileId>,
    pub(super) excused: BTreeSet<ChunkRef>,
    /// The donor was asked for all of these.
    whole: BTreeSet<ChunkRef>,
    sent: BTreeSet<ChunkRef>,
}

impl Truth {
    pub(super) fn new(mistake: Mistake) -> Self {
        Self {
            mistake,
            seen: Tallied::new(),
            declared: BTreeMap::new(),
            before: BTreeMap::new(),
            excused_files: BTreeSet::new(),
            excused: BTreeSet::new(),
            whole: BTreeSet::new(),
            sent: BTreeSet::new(),
        }
    }

    /// A new attempt begins, of a joiner that has this.
    pub(super) fn begin(&mut self, before: BTreeMap<u8, Content>) {
        let mistake = self.mistake;
        let seen = std::mem::take(&mut self.seen);
        *self = Self { seen, before, ..Self::new(mistake) };
    }

    pub(super) fn saw(&mut self, what: Seen) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub(super) fn declare(&mut self, file: FileRef, path: u8, content: &Content) {
        self.declared.insert(file, (path, content.clone()));
    }

    pub(super) fn content(&self, file: FileRef) -> &Content {
        &self.declared[&file].1
    }

    /// A chunk was written, or left as it is: it must be the donor's.
    pub(super) fn check_chunk(&self, at: ChunkRef, held: &Content) {
        let content = self.content((at.file, at.generation));
        assert_eq!(content.size(), held.size(), "size of {at:?}");
        assert_eq!(content.chunk(at.chunk), held.chunk(at.chunk), "content of {at:?}");
    }

    /// A file is told to be durable: it must be.
    pub(super) fn check_durable(&self, file: FileRef, durable: Option<&Content>) {
        assert_eq!(durable, Some(self.content(file)), "{file:?} was said to be durable");
    }

    /// The donor was asked for all of a chunk.
    pub(super) fn asked_for_all(&mut self, at: ChunkRef) {
        self.whole.insert(at);
    }

    /// A chunk goes out: no page of it may be one that the joiner has, as far as it was compared.
    pub(super) fn check_sent(&mut self, header: &ChunkHeader) {
        let at = header.at;
        if self.whole.contains(&at) {
            assert!(header.is_complete(), "{at:?} was to be sent whole");
        }
        if !self.sent.insert(at) {
            self.saw(Seen::ChunkTwice);
            return;
        }
        let is_whole = header.is_complete();
        self.saw(if is_whole { Seen::ChunkWhole } else { Seen::ChunkPatched });
        if let Some(differs) = self.differs(at) {
            assert_eq!(header.sent | header.zero, differs, "pages sent of {at:?}");
        }
    }

    /// The pages that were to be sent of a chunk; `None`: it is not said which.
    fn differs(&self, at: ChunkRef) -> Option<PageMask> {
        let (path, content) = &self.declared[&(at.file, at.generation)];
        let is_excused = self.excused_files.contains(&at.file) || self.excused.contains(&at);
        if at.generation > Generation(0) || is_excused {
            return None;
        }
        let mut stale = self.before.get(path)?.clone();
        stale.resize(content.size());
        if content.size() <= SMALL_BYTES {
            assert_ne!(stale, *content, "{at:?} was sent, and the file was there");
            return None;
        }
        Some(pages_that_differ(content, &stale, at.chunk))
    }
}

fn pages_that_differ(one: &Content, other: &Content, chunk: ChunkIndex) -> PageMask {
    let pages = one.chunk(chunk).iter().zip(other.chunk(chunk));
    let mask = (0..).zip(pages).fold(PageMask::NONE, |mask, (number, (a, b))| {
        if a == b { mask } else { mask | PageMask::page(number) }
    });
    assert!(!mask.is_empty(), "a chunk was sent, and it was there");
    mask
}

/// A chunk's header when these pages of it are to go, and the pages in the payload.
pub(super) fn chunk_of(
    content: &Content,
    at: ChunkRef,
    pages: PageMask,
) -> (ChunkHeader, Vec<Page>) {
    let plain_len = fastsst_proto::types::chunk_len(content.size(), at.chunk);
    let all: Vec<Page> = content.chunk(at.chunk).to_vec();
    let pages = pages & all_pages(plain_len);
    let is_zero = |page: u32| all[page as usize] == Page::ZERO;
    let of = |wanted: bool| {
        pages
            .pages()
            .filter(|page| is_zero(*page) == wanted)
            .fold(PageMask::NONE, |mask, page| mask | PageMask::page(page))
    };
    let (sent, zero) = (of(false), of(true));
    let mut header = ChunkHeader {
        at,
        encoding: fastsst_proto::Encoding::Raw,
        plain_len,
        payload_len: 0,
        sent,
        zero,
        hash: content.chunk_hash(at.chunk),
    };
    header.payload_len = header.sent_bytes();
    (header, sent.pages().map(|page| all[page as usize]).collect())
}
