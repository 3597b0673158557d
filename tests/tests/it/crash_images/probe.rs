//! The recording disk itself.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use fastsst_tests::recording_disk::{
    Crash, FileSystem, Medium, MountedImage, RecordingDisk, Survivors, format,
};
use fastsst_tests::transfer::{Sandbox, noise};

/// A disk in memory with an empty file system.
fn recording(place: &Sandbox, kind: FileSystem) -> RecordingDisk {
    let file = place.path("disk");
    format(&file, kind);
    let medium = Medium::load(&file);
    fs::remove_file(&file).unwrap();
    RecordingDisk::mount(medium, kind, &file, &place.dir("recording"))
}

fn crash(place: &Sandbox, name: &str) -> (PathBuf, PathBuf) {
    (place.path(&format!("{name}.image")), place.dir(name))
}

#[test]
fn a_sync_reaches_the_disk_as_a_flush_after_the_data() {
    for kind in [FileSystem::Ext4, FileSystem::Xfs] {
        let place = Sandbox::new();
        let disk = recording(&place, kind);
        let content = noise(1, 100_000);
        let mut file = File::create(disk.outside().join("file")).unwrap();
        file.write_all(&content).unwrap();
        file.sync_all().unwrap();
        drop(file);
        let synced = disk.commands();
        let history = disk.finish();
        let written = history.last_write_of(&content[..512]).expect("it is on the disk");
        let flushed = (written..synced).rfind(|number| history.is_flush(*number));
        let flushed = flushed.expect("a flush after the data");
        // What is not durable may be lost, and what is durable may not.
        for (after, survives) in [(0, false), (synced, true)] {
            for survivors in [Survivors::All, Survivors::Chosen(7), Survivors::Chosen(8)] {
                let (image, at) = crash(&place, &format!("{after}-{survivors:?}"));
                let medium = history.image(Crash { after, survivors });
                let mounted = MountedImage::of(&medium, kind, &image, &at).unwrap();
                let found = fs::read(mounted.outside().join("file")).ok();
                assert_eq!(found.is_some_and(|it| it == content), survives, "{flushed} {after}");
                mounted.unmount();
            }
        }
    }
}
