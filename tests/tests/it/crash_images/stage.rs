//! A transfer onto a disk that records, and what each end was when.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use fastsst_tests::recording_disk::{
    Crash, FileSystem, History, Medium, MountedImage, RecordingDisk, format,
};
use fastsst_tests::transfer::{
    Listing, Receive, Receiving, Sandbox, Send, TRANSFER, change_pages, noise,
};

/// The root, on its disk.
pub(super) const ROOT: &str = "data";

/// A file on the same disk that is none of our business, and its content.
pub(super) const BESIDE: (&str, &str) = ("beside", "somebody else's");

/// What a record of the commit begins with. Source: `mover/src/commit/record.rs`.
const RECORD: &[u8] = b"FSSTCMT1";

/// Where images lie. Why: hundreds of disks are written for one test; memory is fast.
const MEMORY: &str = "/dev/shm";

/// What happened on a disk during one transfer.
pub(super) struct Recorded {
    pub(super) place: Sandbox,
    pub(super) kind: FileSystem,
    pub(super) source: PathBuf,
    /// What was in the root before: a member's data, or what an interrupted transfer left of it.
    pub(super) old: Listing,
    /// What is in the source.
    pub(super) new: Listing,
    pub(super) history: History,
    /// So many commands came before anybody was let in.
    pub(super) offered: usize,
    /// Number of the command that wrote the record of the commit, if it reached the disk.
    pub(super) record: Option<usize>,
    /// So many commands came before the sender was told that all is well.
    pub(super) succeeded: usize,
}

impl Recorded {
    /// Records a transfer over a member's old data; `start` starts its receiver.
    pub(super) fn transfer(kind: FileSystem, start: impl FnOnce(Receive) -> Receiving) -> Self {
        let place = Sandbox::below(Path::new(MEMORY));
        let source = place.dir("source");
        plant(&source);
        renew(&source);
        let medium = old_disk(&place, kind);
        Self::onto(medium, Source { place, kind, source }, start)
    }

    /// Records a transfer over what power failure has left of this one.
    pub(super) fn next_attempt(self, crash: Crash) -> Self {
        let Self { place, kind, source, history, .. } = self;
        for used in ["disk", "recording"] {
            fs::rename(place.path(used), place.path(&format!("first-{used}"))).unwrap();
        }
        Self::onto(history.image(crash), Source { place, kind, source }, Receive::start)
    }

    fn onto(
        medium: Medium,
        Source { place, kind, source }: Source,
        start: impl FnOnce(Receive) -> Receiving,
    ) -> Self {
        let new = Listing::of(&source);
        let disk = RecordingDisk::mount(medium, kind, &place.path("disk"), &place.dir("recording"));
        let root = disk.outside().join(ROOT);
        let old = Listing::of(&root);

        let receive = Receive::into(&disk.inside().join(ROOT)).args(["--replace"]).on(&disk);
        let receiving = start(receive);
        disk.sync();
        let offered = disk.commands();
        Send::from(&source, &receiving.ticket).run(TRANSFER).assert_success();
        let succeeded = disk.commands();
        receiving.wait(TRANSFER).assert_success();
        new.assert_eq(&Listing::of(&root), "source and target differ");
        disk.sync();
        let history = disk.finish();
        let record = history.last_write_of(RECORD);
        Self { place, kind, source, old, new, history, offered, record, succeeded }
    }
}

/// Where a transfer comes from, and onto what file system it goes.
struct Source {
    place: Sandbox,
    kind: FileSystem,
    source: PathBuf,
}

/// A disk with what a member had yesterday.
fn old_disk(place: &Sandbox, kind: FileSystem) -> Medium {
    let file = place.path("old-disk");
    format(&file, kind);
    let disk = MountedImage::mount(&file, kind, &place.dir("old")).unwrap();
    let root = disk.outside().join(ROOT);
    fs::create_dir(&root).unwrap();
    plant(&root);
    fs::write(disk.outside().join(BESIDE.0), BESIDE.1).unwrap();
    disk.unmount();
    let medium = Medium::load(&file);
    fs::remove_file(&file).unwrap();
    medium
}

/// The files of a small server.
fn plant(root: &Path) {
    for directory in ["mysql", "shop", "shop/deep", "vanishing"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    let large = (1 << 20) + 4096;
    let files: [(&str, usize); 12] = [
        ("ibdata1", large),
        ("ib_logfile0", 256 << 10),
        ("undo001", 128 << 10),
        ("aria_log_control", 52),
        ("shop/orders.ibd", large + (256 << 10)),
        ("shop/items.ibd", 192 << 10),
        ("shop/old-name.ibd", 320 << 10),
        ("shop/gone.ibd", 64 << 10),
        ("shop/deep/x", 0),
        ("vanishing/x", 5000),
        ("mysql/user.frm", 1700),
        ("mysql/user.MAD", 9000),
    ];
    for (number, (name, size)) in files.into_iter().enumerate() {
        fs::write(root.join(name), noise(number as u64, size)).unwrap();
    }
    for number in 0..8_u64 {
        let content = noise(100 + number, usize::try_from(number * number * 900).unwrap());
        fs::write(root.join("mysql").join(format!("small-{number}")), content).unwrap();
    }
}

/// What became of it at the donor since yesterday.
fn renew(root: &Path) {
    for (name, pages) in
        [("ibdata1", 3), ("ib_logfile0", 8), ("undo001", 2), ("shop/orders.ibd", 9)]
    {
        change_pages(&root.join(name), 7, pages);
    }
    fs::rename(root.join("shop/old-name.ibd"), root.join("shop/new-name.ibd")).unwrap();
    fs::remove_file(root.join("shop/gone.ibd")).unwrap();
    fs::remove_dir_all(root.join("vanishing")).unwrap();
    fs::write(root.join("mysql/small-3"), "other content").unwrap();
    fs::write(root.join("aria_log_control"), noise(300, 52)).unwrap();
    fs::create_dir(root.join("fresh")).unwrap();
    fs::write(root.join("fresh/table.ibd"), noise(301, (1 << 20) + (64 << 10))).unwrap();
    fs::write(root.join("fresh/db.opt"), noise(302, 65)).unwrap();
    symlink("shop", root.join("link")).unwrap();
}
