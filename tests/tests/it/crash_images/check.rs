//! What must be true of every disk that a power failure leaves.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fastsst_tests::recording_disk::{Crash, MountedImage};
use fastsst_tests::transfer::{Listing, Receive, Send, TRANSFER};

use super::stage::{BESIDE, ROOT, Recorded};

/// What the next attempt may send when everything was durable already. Unit: bytes. Why: a list of
/// two dozen names and hashes, and what the transport costs.
const NOTHING_NEW: u64 = 64 << 10;

/// What the root holds when the next start has recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Found {
    /// The old tree, complete.
    Old,
    /// Parts of the old tree of which a server makes nothing, or nothing.
    Staging,
    /// The new tree, complete.
    New,
}

/// Something that a power failure must not lead to.
#[derive(Debug)]
pub(super) enum Violation {
    /// The file system cannot be mounted any more: what `mount` says.
    FileSystem(String),
    /// The root holds what it must not hold.
    Tree(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileSystem(why) => write!(f, "the file system cannot be mounted: {why}"),
            Self::Tree(why) => f.write_str(why),
        }
    }
}

/// One who looks at disks, one after the other.
pub(super) struct Inspector<'a> {
    recorded: &'a Recorded,
    /// A copy of the source for this one alone, since summaries lie beside it.
    source: PathBuf,
    image: PathBuf,
    at: PathBuf,
}

impl<'a> Inspector<'a> {
    pub(super) fn new(recorded: &'a Recorded, name: &str) -> Self {
        let place = &recorded.place;
        let source = place.dir(&format!("{name}-source"));
        let mut copy = Command::new("cp");
        let copied = copy.arg("-a").arg(recorded.source.join(".")).arg(&source).status().unwrap();
        assert!(copied.success());
        let (image, at) = (place.path(&format!("{name}-image")), place.dir(&format!("{name}-at")));
        Self { recorded, source, image, at }
    }

    /// What a server, or an operator, finds after the power failure, before anything of ours runs.
    pub(super) fn look(&self, crash: Crash) -> Result<MountedImage, Violation> {
        let recorded = self.recorded;
        let medium = recorded.history.image(crash);
        let disk = MountedImage::of(&medium, recorded.kind, &self.image, &self.at);
        let disk = disk.map_err(Violation::FileSystem)?;
        let beside = fs::read(disk.outside().join(BESIDE.0)).ok();
        if beside.is_none_or(|it| it != BESIDE.1.as_bytes()) {
            return Err(Violation::Tree("what is beside the root has changed".to_owned()));
        }
        let root = disk.outside().join(ROOT);
        let found = Listing::of(&root);
        if crash.after <= recorded.offered {
            equal(&recorded.old, &found, "nobody was let in, and the old tree has changed")?;
        }
        if crash.after >= recorded.succeeded {
            equal(&recorded.new, &found, "all was well, and the new tree is not there")?;
        }
        let starts = root.join("ibdata1").exists() && root.join("ib_logfile0").exists();
        if starts && found != recorded.old {
            equal(&recorded.new, &found, "a server would start on a tree that is neither")?;
        }
        Ok(disk)
    }

    /// Looks, recovers, and transfers again.
    pub(super) fn check(&self, crash: Crash) -> Result<Found, Violation> {
        let recorded = self.recorded;
        let disk = self.look(crash)?;
        let root = disk.outside().join(ROOT);
        let receive = Receive::into(&disk.inside().join(ROOT)).args(["--replace"]).on(&disk);
        let receiving = receive.start();
        // It has recovered, and waits for a sender now.
        let found = self.recovered(&root)?;
        let (_, sent) = Send::from(&self.source, &receiving.ticket).succeed(TRANSFER);
        receiving.wait(TRANSFER).assert_success();
        equal(&recorded.new, &Listing::of(&root), "the next transfer did not make the new tree")?;
        if root.join(".fastsst").exists() {
            return Err(Violation::Tree("something of ours is left".to_owned()));
        }
        let wire = sent["wire_bytes"].as_u64().expect("a number");
        let is_all_durable = recorded.record.is_some_and(|record| crash.after > record);
        if is_all_durable && wire > NOTHING_NEW {
            let why = format!("everything was durable, and {wire} bytes were sent again");
            return Err(Violation::Tree(why));
        }
        disk.unmount();
        Ok(found)
    }

    fn recovered(&self, root: &Path) -> Result<Found, Violation> {
        let found = Listing::of(root);
        let Recorded { old, new, .. } = self.recorded;
        match () {
            () if found == *new => Ok(Found::New),
            () if found.is_part_of(old) && !root.join("ibdata1").exists() => Ok(Found::Staging),
            () if found == *old => Ok(Found::Old),
            () => {
                let differences = new.differences(&found);
                Err(Violation::Tree(format!("recovered to a tree that is none\n{differences}")))
            }
        }
    }
}

fn equal(wanted: &Listing, found: &Listing, otherwise: &str) -> Result<(), Violation> {
    if wanted == found {
        return Ok(());
    }
    Err(Violation::Tree(format!("{otherwise}\n{}", wanted.differences(found))))
}
