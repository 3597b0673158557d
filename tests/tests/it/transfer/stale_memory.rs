//! Memory does not grow with the old copy.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use fastsst_tests::transfer::{Receive, Sandbox, Send, noise};

/// Hashing 100 GiB of zeros takes both ends half a minute on two idle cores.
const LIMIT: Duration = Duration::from_secs(900);

const SPARSE_BYTES: u64 = 100 << 30;
const DIRECTORIES: u32 = 200;
const FILES_PER_DIRECTORY: u32 = 1000;

#[test]
fn over_an_old_copy_100_gib_and_two_hundred_thousand_files_arrive_in_little_memory() {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    plant(&source, 1);
    plant(&target, 2);
    let receiving = Receive::into(&target).args(["--replace"]).start();
    let (sender, sent) = Send::from(&source, &receiving.ticket).succeed(LIMIT);
    let (receiver, received) = receiving.succeed(LIMIT);
    assert_eq!(sent["files"], DIRECTORIES * FILES_PER_DIRECTORY + 1, "{sent:#}");
    assert_eq!(sent["root_hash"], received["root_hash"], "{received:#}");
    sender.assert_small();
    receiver.assert_small();
    assert!(!target.join(".fastsst").exists(), "nothing of ours is left");
    for number in [0, 1, 99, 100] {
        let name = format!("7/file-{number}");
        assert_eq!(fs::read(source.join(&name)).unwrap(), fs::read(target.join(&name)).unwrap());
    }
}

/// One file in a hundred and a few pages differ from one `version` to another.
fn plant(root: &Path, version: u64) {
    for directory in 0..DIRECTORIES {
        let path = root.join(directory.to_string());
        fs::create_dir(&path).unwrap();
        for file in 0..FILES_PER_DIRECTORY {
            let mut content = file.to_string().repeat(usize::try_from(file % 40).unwrap());
            if file % 100 == 0 {
                content.push_str(&version.to_string());
            }
            fs::write(path.join(format!("file-{file}")), content).unwrap();
        }
    }
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(SPARSE_BYTES).unwrap();
    sparse.write_all_at(&noise(7, 1 << 20), 3 << 30).unwrap();
    sparse.write_all_at(&noise(version, 100_000), SPARSE_BYTES / 2).unwrap();
}
