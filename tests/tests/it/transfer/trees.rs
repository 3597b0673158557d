//! What a transfer must keep.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use fastsst_tests::transfer::{
    Listing, Sandbox, Transfer, assert_same_tree, b3sum, fill, noise, root_hash,
};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use rustix::process::getuid;

#[test]
fn a_hundred_thousand_small_files_arrive_in_little_memory() {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    for outer in 0..10_u32 {
        for inner in 0..10_u32 {
            let directory = source.join(format!("{outer}/{inner}"));
            fs::create_dir_all(&directory).unwrap();
            for file in 0..1000_u32 {
                let number = (outer * 10 + inner) * 1000 + file;
                let content = number.to_string().repeat(usize::try_from(number % 40).unwrap());
                fs::write(directory.join(format!("file-{file}")), content).unwrap();
            }
        }
    }
    let done = Transfer::new(&source, &target).run();
    for summary in [&done.sent, &done.received] {
        assert_eq!(summary["files"], 100_000, "{summary:#}");
        assert_eq!(summary["entries"], 100_000 + 110, "{summary:#}");
    }
    assert_same_tree(&source, &target, &done);
    done.sender.assert_small();
    done.receiver.assert_small();
}

/// More empty files at once than may wait to be closed, and files that are synced while they come.
#[test]
fn many_empty_files_among_large_ones_do_not_stop_the_joiner() {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    for outer in 0..20_u32 {
        let directory = source.join(outer.to_string());
        fs::create_dir(&directory).unwrap();
        for inner in 0..1000_u32 {
            let file = File::create(directory.join(inner.to_string())).unwrap();
            if inner % 20 == 0 {
                file.set_len(2 << 20).unwrap();
            }
        }
    }
    let done = Transfer::new(&source, &target).run();
    assert_eq!(done.received["files"], 20_000, "{:#}", done.received);
    assert_same_tree(&source, &target, &done);
}

#[test]
fn a_sparse_file_of_4_gib_keeps_its_holes() {
    const GIB: u64 = 1 << 30;
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    let file = File::create(source.join("sparse")).unwrap();
    file.set_len(4 * GIB).unwrap();
    file.write_all_at(&noise(1, 3 << 20), 0).unwrap();
    // Not on a chunk's boundary, in the middle of nothing.
    file.write_all_at(b"island", GIB + 12_345).unwrap();
    file.write_all_at(&noise(2, 5 << 20), 4 * GIB - (5 << 20)).unwrap();
    drop(file);
    let done = Transfer::new(&source, &target).run();
    let found = fs::metadata(target.join("sparse")).unwrap();
    assert_eq!(found.size(), 4 * GIB);
    let allocated = found.blocks() * 512;
    assert!(allocated < 12 << 20, "{allocated} bytes are on disk for 8 MiB of data");
    assert_eq!(done.sent["bytes"], 4 * GIB, "{:#}", done.sent);
    let wire = done.sent["wire_bytes"].as_u64().unwrap();
    assert!((8 << 20..12 << 20).contains(&wire), "{wire} bytes on the wire for 8 MiB of data");
    assert_eq!(b3sum(&source.join("sparse")), b3sum(&target.join("sparse")));
    assert_same_tree(&source, &target, &done);
    done.sender.assert_small();
    done.receiver.assert_small();
}

#[test]
fn a_file_that_ends_with_a_hole_and_one_of_nothing_but_a_hole_arrive() {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    for (name, data, size) in
        [("tail", 1_u64 << 20, (5 << 20) + 7), ("hole", 0, (3 << 20) + 1), ("small", 0, 100_000)]
    {
        let file = File::create(source.join(name)).unwrap();
        file.write_all_at(&noise(1, usize::try_from(data).unwrap()), 0).unwrap();
        file.set_len(size).unwrap();
    }
    let done = Transfer::new(&source, &target).run();
    assert_same_tree(&source, &target, &done);
    assert_eq!(fs::metadata(target.join("hole")).unwrap().blocks(), 0);
}

#[test]
fn sizes_around_pages_and_chunks_arrive() {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    for base in [0, 512, 4096, 16 << 10, 128 << 10, 1 << 20, 3 << 20] {
        for size in [base, base + 1, usize::saturating_sub(base, 1)] {
            fs::write(source.join(size.to_string()), noise(base as u64, size)).unwrap();
        }
    }
    // What compresses well, what not at all, and zeros that are no holes.
    fs::write(source.join("text"), "the same again\n".repeat(300_000)).unwrap();
    fs::write(source.join("zeros"), vec![0; (2 << 20) + 5]).unwrap();
    // The same in files that share a buffer with others.
    fs::write(source.join("small-text"), "the same again\n".repeat(3000)).unwrap();
    fs::write(source.join("small-zeros"), vec![0; 40_005]).unwrap();
    let mixed = [noise(1, 20_000), vec![0; 40_000], noise(2, 10)].concat();
    fs::write(source.join("small-mixed"), mixed).unwrap();
    File::create(source.join("small-hole")).unwrap().set_len(100_001).unwrap();
    for compress in ["auto", "none", "zstd:5"] {
        let done = Transfer::new(&source, &target)
            .receive(["--replace"])
            .send(["--compress", compress])
            .run();
        assert_same_tree(&source, &target, &done);
        let (wire, plain) = (&done.sent["wire_bytes"], &done.sent["bytes"]);
        assert!(wire.as_u64() < plain.as_u64(), "{compress}: {wire} for {plain}");
    }
}

#[test]
fn empty_files_empty_directories_and_an_empty_tree_arrive() {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    let done = Transfer::new(&source, &target).run();
    assert_same_tree(&source, &target, &done);
    fs::create_dir_all(source.join("a/b/c")).unwrap();
    File::create(source.join("a/b/empty")).unwrap();
    File::create(source.join("empty")).unwrap();
    let done = Transfer::new(&source, &target).run();
    assert_same_tree(&source, &target, &done);
    assert_eq!(Listing::of(&target).len(), 5);
}

#[test]
fn names_are_bytes() {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    let longest = "n".repeat(255);
    let names: [&[u8]; 12] = [
        b" ",
        b"two words",
        b"line\nbreak",
        b"tab\tand\rreturn",
        b"not \xff\xfe utf-8 \x80",
        b"-rf",
        b"*?[a]$HOME`'\"\\",
        b"...",
        b"\x01\x7f\x1b[31m",
        "größe-雪-🦀".as_bytes(),
        "a\u{202e}gpj.exe".as_bytes(),
        longest.as_bytes(),
    ];
    for name in names {
        let name = OsStr::from_bytes(name);
        fs::create_dir(source.join(name)).unwrap();
        fs::write(source.join(name).join(name), name.as_bytes()).unwrap();
        symlink(name, source.join(name).join("link")).unwrap();
    }
    // As deep as the protocol goes.
    let deep = vec!["d"; 127].join("/");
    fs::create_dir_all(source.join(&deep)).unwrap();
    fs::write(source.join(&deep).join("f"), "deep").unwrap();
    let done = Transfer::new(&source, &target).run();
    assert_same_tree(&source, &target, &done);
}

#[test]
fn symbolic_links_are_kept_and_never_followed() {
    let place = Sandbox::new();
    let (source, target, outside) =
        (place.dir("source"), place.dir("target"), place.dir("outside"));
    fill(&outside.join("secret"), 1, 1);
    fs::create_dir(source.join("directory")).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    symlink("file", source.join("relative")).unwrap();
    symlink("directory", source.join("to-directory")).unwrap();
    symlink(&outside, source.join("to-outside")).unwrap();
    symlink(outside.join("secret"), source.join("to-secret")).unwrap();
    symlink("/no/such/place", source.join("dangling")).unwrap();
    symlink("itself", source.join("itself")).unwrap();
    symlink("..", source.join("directory/up")).unwrap();
    symlink("x".repeat(4095), source.join("long")).unwrap();
    let done = Transfer::new(&source, &target).run();
    assert_same_tree(&source, &target, &done);
    for name in ["relative", "to-directory", "to-outside", "to-secret", "dangling", "itself"] {
        assert!(fs::symlink_metadata(target.join(name)).unwrap().is_symlink(), "{name}");
    }
    assert!(done.sent["bytes"].as_u64().unwrap() < 1000, "nothing from outside: {:#}", done.sent);
}

#[test]
fn hard_links_stay_one_file() {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    fs::create_dir(source.join("directory")).unwrap();
    fill(&source.join("original"), 1, 2);
    fs::hard_link(source.join("original"), source.join("second")).unwrap();
    fs::hard_link(source.join("original"), source.join("directory/a-third")).unwrap();
    File::create(source.join("empty")).unwrap();
    fs::hard_link(source.join("empty"), source.join("also-empty")).unwrap();
    // A file with a further name outside of the tree is a plain file here.
    fs::hard_link(source.join("directory/a-third"), place.path("outside")).unwrap();
    let done = Transfer::new(&source, &target).run();
    let inode = |name: &str| fs::metadata(target.join(name)).unwrap().ino();
    assert_eq!(inode("original"), inode("second"));
    assert_eq!(inode("original"), inode("directory/a-third"));
    assert_eq!(inode("empty"), inode("also-empty"));
    assert_ne!(inode("original"), inode("empty"));
    assert_eq!(fs::metadata(target.join("original")).unwrap().nlink(), 3);
    assert_eq!(done.sent["bytes"], 2 << 20, "sent once: {:#}", done.sent);
    assert_eq!(root_hash(&source), root_hash(&target));
    fs::remove_file(place.path("outside")).unwrap();
    assert_same_tree(&source, &target, &done);
}

#[test]
fn modes_owners_and_times_are_kept() {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    for mode in [0o000, 0o400, 0o444, 0o600, 0o640, 0o755, 0o777, 0o4755, 0o2755] {
        let readable = if getuid().is_root() { 0 } else { 0o400 };
        let path = source.join(format!("file-{mode:o}"));
        fs::write(&path, "content").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode | readable)).unwrap();
    }
    let directories = [0o500, 0o555, 0o700, 0o755, 0o1777, 0o2775];
    for mode in directories {
        let path = source.join(format!("directory-{mode:o}"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), "content").unwrap();
        fs::create_dir(path.join("inner")).unwrap();
        fs::set_permissions(path.join("inner"), Permissions::from_mode(0o555)).unwrap();
    }
    symlink("file-600", source.join("link")).unwrap();
    if getuid().is_root() {
        chown(source.join("file-4755"), Some(65_534), Some(7)).unwrap();
        // Giving a file away takes these bits from it.
        fs::set_permissions(source.join("file-4755"), Permissions::from_mode(0o4755)).unwrap();
        chown(source.join("directory-755"), Some(1234), Some(4_000_000_000)).unwrap();
        lchown(source.join("link"), Some(4321), Some(5)).unwrap();
    }
    set_mtime(&source.join("file-600"), 1_111_111_111, 123_456_789);
    set_mtime(&source.join("file-640"), -1_000_000, 1);
    set_mtime(&source.join("file-777"), 4_102_444_800, 999_999_999);
    set_mtime(&source.join("link"), 1_000_000_000, 5);
    for mode in directories {
        let path = source.join(format!("directory-{mode:o}"));
        set_mtime(&path.join("inner"), 1_234_567_890, 987_654_321);
        set_mtime(&path, 1_500_000_000, u32::from(mode == 0o700) + 42);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    let done = Transfer::new(&source, &target).run();
    assert_same_tree(&source, &target, &done);
}

#[test]
fn a_hash_of_a_tree_tells_what_differs() {
    let place = Sandbox::new();
    let source = place.dir("source");
    fs::write(source.join("file"), "content").unwrap();
    symlink("file", source.join("link")).unwrap();
    let before = root_hash(&source);
    assert_eq!(before, root_hash(&source), "twice the same");
    let times = fs::FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1));
    File::options().write(true).open(source.join("file")).unwrap().set_times(times).unwrap();
    assert_eq!(before, root_hash(&source), "times may rightly differ between two machines");
    let changes: [(&str, &dyn Fn()); 4] = [
        ("content", &|| fs::write(source.join("file"), "c0ntent").unwrap()),
        ("name", &|| fs::rename(source.join("file"), source.join("elif")).unwrap()),
        ("mode", &|| {
            fs::set_permissions(source.join("elif"), Permissions::from_mode(0o600)).unwrap();
        }),
        ("link", &|| {
            fs::remove_file(source.join("link")).unwrap();
            symlink("elif", source.join("link")).unwrap();
        }),
    ];
    let mut last = before;
    for (what, change) in changes {
        change();
        let now = root_hash(&source);
        assert_ne!(now, last, "{what}");
        last = now;
    }
}

#[test]
fn the_summaries_say_what_was_done() {
    let place = Sandbox::new();
    let (source, target) = super::small_source(&place);
    let done = Transfer::new(&source, &target).send(["--lanes", "3"]).run();
    for (summary, role) in [(&done.sent, "send"), (&done.received, "receive")] {
        assert_eq!(summary["role"], role, "{summary:#}");
        assert_eq!(summary["bytes"], (2 << 20) + 7, "{summary:#}");
        assert!(summary["wire_bytes"].as_u64().unwrap() > 2 << 20, "{summary:#}");
        assert_eq!(summary["files"], 2, "{summary:#}");
        assert_eq!(summary["entries"], 3, "{summary:#}");
        for phase in ["connect", "freeze", "copy", "commit", "total"] {
            let seconds = summary["seconds"][phase].as_f64();
            assert!(seconds.is_some_and(|it| (0.0..60.0).contains(&it)), "{phase}: {summary:#}");
        }
        assert_eq!(summary["freeze_seconds"].as_f64().unwrap().round(), 0.0, "{summary:#}");
        assert_eq!(summary["transport"], "quic", "{summary:#}");
        assert_eq!(summary["lanes"], 3, "{summary:#}");
        assert_eq!(summary["lanes_replaced"], 0, "{summary:#}");
        assert_eq!(summary["capture"], "none", "{summary:#}");
        assert!(!summary["io"].as_str().unwrap().is_empty(), "{summary:#}");
        assert!(!summary["limited_by"].as_str().unwrap().is_empty(), "{summary:#}");
        assert_eq!(summary["root_hash"].as_str().unwrap().len(), 64, "{summary:#}");
    }
    assert_same_tree(&source, &target, &done);
}

fn set_mtime(path: &Path, s: i64, ns: u32) {
    let time = Timespec { tv_sec: s, tv_nsec: ns.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
