//! Manifests: what was sent, entry by entry, and what differs from it later.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fastsst_tests::transfer::{
    Receive, Sandbox, Send, Transfer, assert_same_tree, b3sum, fill, root_hash, tool,
};
use fastsst_tests::wait::{Finished, run};

use super::{NOTICE, assert_empty, small_source};

/// Reading a few MiB.
const LIMIT: Duration = Duration::from_secs(60);

const DIFFERS: i32 = 74;
const INVALID: i32 = 22;

/// What is done to a tree.
type Change = fn(&Path);

/// Everything there can be, with names that need care.
fn odd_source(place: &Sandbox) -> (PathBuf, PathBuf) {
    let (source, target) = small_source(place);
    let names: [&[u8]; 6] = [
        b"line\nbreak",
        b"not \xff\xfe utf-8",
        b"back\\slash",
        b"tab\tand space",
        b"\x01\x1b[31m",
        "größe-🦀".as_bytes(),
    ];
    for name in names.map(OsStr::from_bytes) {
        fs::create_dir(source.join(name)).unwrap();
        fs::write(source.join(name).join(name), name.as_bytes()).unwrap();
        symlink(name, source.join(name).join("link")).unwrap();
    }
    fs::hard_link(source.join("noise"), source.join("a-second-name")).unwrap();
    File::create(source.join("empty")).unwrap();
    File::create(source.join("hole")).unwrap().set_len(3 << 20).unwrap();
    (source, target)
}

#[test]
fn a_manifest_of_what_was_sent_is_what_arrived_whatever_the_names_are() {
    let place = Sandbox::new();
    let (source, target) = odd_source(&place);
    let file = place.path("manifest");
    let done = Transfer::new(&source, &target).send(["--manifest", text(&file)]).run();
    assert_same_tree(&source, &target, &done);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "readable by its owner only");
    assert!(!place.path("manifest.part").exists());
    let manifest = fs::read_to_string(&file).expect("UTF-8");
    let first_and_last = [manifest.lines().next(), manifest.lines().next_back()];
    let hash = done.sent["root_hash"].as_str().unwrap();
    let last = format!("root-hash\t{hash}");
    assert_eq!(first_and_last, [Some("fastsst-manifest 1"), Some(last.as_str())]);
    let noise = format!("\t2097152\t{}\ta-second-name\n", b3sum(&source.join("noise")));
    for words in [&noise, "\tnoise\ta-second-name\n", "\tline\\x0abreak/link\tline\\x0abreak\n"] {
        assert!(manifest.contains(words), "no {words:?} in\n{manifest}");
    }

    // On both sides, and again from what is there.
    for tree in [&source, &target] {
        let same = verify(tree, &["--against", text(&file)]);
        assert!(same.status.success(), "{same:?}");
        assert_eq!(same.stdout, format!("{hash}\n"));
        assert!(!same.stderr.contains("WARN"), "{same:?}");
        let again = place.path("again");
        fs::write(&again, "something older").unwrap();
        assert!(verify(tree, &["--manifest", text(&again)]).status.success());
        assert_eq!(fs::read_to_string(&again).unwrap(), manifest);
    }
}

#[test]
fn every_kind_of_difference_is_found_and_named() {
    let cases: [(&str, Change); 9] = [
        ("missing: noise", |tree| fs::remove_file(tree.join("noise")).unwrap()),
        ("extra: line\\nbreak", |tree| {
            fs::write(tree.join("line\nbreak"), "new").unwrap();
        }),
        ("kind directory, not file: noise", |tree| {
            fs::remove_file(tree.join("noise")).unwrap();
            fs::create_dir(tree.join("noise")).unwrap();
        }),
        ("mode 0711, not 0755: directory", |tree| chmod(&tree.join("directory"), 0o711)),
        ("size 8, not 7: directory/file", |tree| {
            fs::write(tree.join("directory/file"), "content!").unwrap();
        }),
        ("content differs: directory/file", |tree| {
            fs::write(tree.join("directory/file"), "c0ntent").unwrap();
        }),
        ("content differs: noise", |tree| fill(&tree.join("noise"), 2, 2)),
        ("link differs: link", |tree| {
            fs::remove_file(tree.join("link")).unwrap();
            symlink("noise", tree.join("link")).unwrap();
        }),
        ("kind file, not hard link: twin", |tree| {
            fs::remove_file(tree.join("twin")).unwrap();
            fs::copy(tree.join("directory/file"), tree.join("twin")).unwrap();
        }),
    ];
    for (named, change) in cases {
        let place = Sandbox::new();
        let (source, _) = small_source(&place);
        chmod(&source.join("directory"), 0o755);
        symlink("directory", source.join("link")).unwrap();
        fs::hard_link(source.join("directory/file"), source.join("twin")).unwrap();
        let manifest = place.path("manifest");
        assert!(verify(&source, &["--manifest", text(&manifest)]).status.success());
        change(&source);
        let differs = verify(&source, &["--against", text(&manifest)]);
        assert_eq!(differs.status.code(), Some(DIFFERS), "{named}: {differs:?}");
        let lines: Vec<_> = differs.stderr.lines().filter(|it| it.contains("WARN")).collect();
        assert!(lines.iter().any(|line| line.ends_with(named)), "no {named:?}: {differs:?}");
        assert!(differs.stderr.contains("E22 "), "{differs:?}");
        assert_eq!(differs.stdout.trim_end(), root_hash(&source), "what is there, as always");
    }
}

#[test]
fn many_differences_are_counted_after_the_first_hundred() {
    let place = Sandbox::new();
    let (source, _) = small_source(&place);
    let manifest = place.path("manifest");
    assert!(verify(&source, &["--manifest", text(&manifest)]).status.success());
    for number in 0..150 {
        File::create(source.join(format!("new-{number}"))).unwrap();
    }
    let differs = verify(&source, &["--against", text(&manifest)]);
    assert_eq!(differs.status.code(), Some(DIFFERS), "{differs:?}");
    assert_eq!(differs.stderr.matches("extra: new-").count(), 100, "{differs:?}");
    assert!(differs.stderr.contains("and 50 more"), "{differs:?}");
    assert!(differs.stderr.contains("in 150 places"), "{differs:?}");
}

#[test]
fn a_manifest_that_is_damaged_or_not_there_is_refused_before_anything_is_read() {
    let place = Sandbox::new();
    let (source, _) = odd_source(&place);
    let file = place.path("manifest");
    assert!(verify(&source, &["--manifest", text(&file)]).status.success());
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    let place_of_bit = whole.len() / 2;
    flipped[place_of_bit] ^= 1;
    let last_line = whole.iter().rposition(|byte| *byte == b'\t').unwrap();
    let cases: [(&[u8], &str); 6] = [
        (b"", "no manifest"),
        (b"fastsst-manifest 9\n", "another release"),
        (&whole[..whole.len() - 1], "cut"),
        (&whole[..last_line - "root-hash".len()], "cut"),
        (&whole[..whole.len() / 3], "cut"),
        (&flipped, "damaged"),
    ];
    for (bytes, words) in cases {
        fs::write(&file, bytes).unwrap();
        let refused = verify(&source, &["--against", text(&file)]);
        assert_eq!(refused.status.code(), Some(INVALID), "{words}: {refused:?}");
        assert!(refused.stderr.contains("E01 manifest"), "{refused:?}");
        assert!(refused.stderr.contains(words), "no {words:?}: {refused:?}");
        assert_eq!(refused.stdout, "", "{refused:?}");
    }
    let missing = verify(&source, &["--against", text(&place.path("missing"))]);
    assert_eq!(missing.status.code(), Some(5), "{missing:?}");
    assert!(missing.stderr.contains("E08 cannot read manifest"), "{missing:?}");
}

#[test]
fn a_place_for_a_manifest_that_cannot_be_used_is_refused_before_anything_is_sent() {
    let place = Sandbox::new();
    let (source, target) = small_source(&place);
    let nowhere = place.path("no/such/place");
    let inside = source.join("directory/manifest");
    let cases = [
        ("-", INVALID, "E01 manifest -"),
        (text(&inside), INVALID, "lie in the directory itself"),
        (text(&nowhere), 5, "E09 cannot write manifest"),
    ];
    for (file, exit, words) in cases {
        let receiving = Receive::into(&target).start();
        let refused = Send::from(&source, &receiving.ticket).args(["--manifest", file]).run(NOTICE);
        assert_eq!(refused.status.code(), Some(exit), "{refused}");
        assert!(refused.stderr.contains(words), "no {words:?}: {refused}");
        assert_empty(&target);
        let refused = verify(&source, &["--manifest", file]);
        assert_eq!(refused.status.code(), Some(exit), "{refused:?}");
        assert!(!inside.exists() && !source.join("directory/manifest.part").exists());
    }
}

#[test]
fn a_transfer_that_fails_leaves_no_manifest_and_an_older_one_alone() {
    let place = Sandbox::new();
    let (source, target) = small_source(&place);
    let file = place.path("manifest");
    fs::write(&file, "older").unwrap();
    let mut receiving = Receive::into(&target).start();
    receiving.running.kill9();
    let arguments = ["--connect-timeout", "1", "--manifest", text(&file)];
    Send::from(&source, &receiving.ticket).args(arguments).run(NOTICE).assert_failed("E11", 113);
    assert_eq!(fs::read_to_string(&file).unwrap(), "older");
    assert!(!place.path("manifest.part").exists());
}

fn verify(tree: &Path, arguments: &[&str]) -> Finished {
    run(Command::new(tool()).arg("verify").arg(tree).args(arguments), LIMIT)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
