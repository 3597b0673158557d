use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::*;
use crate::tree::as_path;

fn tree() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn all(root: &Path) -> Result<(Vec<Found>, WalkTotals)> {
    filtered(root, &AllFiles)
}

fn filtered(root: &Path, filter: &dyn Filter) -> Result<(Vec<Found>, WalkTotals)> {
    let mut found = Vec::new();
    let totals = walk(&Dir::open_source(root)?, filter, &mut |entry| {
        found.push(entry);
        Ok(())
    })?;
    Ok((found, totals))
}

fn paths(found: &[Found]) -> Vec<String> {
    found.iter().map(|entry| entry.path.to_string()).collect()
}

#[test]
fn order_is_by_name_and_a_directory_comes_before_its_content() {
    let tree = tree();
    for dir in ["b", "a", "a/z", "a-b"] {
        fs::create_dir(tree.path().join(dir)).unwrap();
    }
    for file in ["c", "a/y", "a/z/1", "b/x", "B"] {
        fs::write(tree.path().join(file), file).unwrap();
    }
    let (found, totals) = all(tree.path()).unwrap();
    let expected = ["B", "a", "a/y", "a/z", "a/z/1", "a-b", "b", "b/x", "c"];
    assert_eq!(paths(&found), expected);
    assert_eq!((totals.files, totals.directories, totals.bytes), (5, 4, 13));
    assert_eq!(found[0].stat.size, 1);
    assert!(found.iter().all(|entry| entry.class == Class::Send));
}

#[test]
fn links_are_reported_and_not_followed() {
    let outside = tree();
    fs::write(outside.path().join("secret"), "x").unwrap();
    let tree = tree();
    symlink(outside.path(), tree.path().join("dir")).unwrap();
    symlink("/no/where", tree.path().join("dangling")).unwrap();
    let (found, totals) = all(tree.path()).unwrap();
    assert_eq!(paths(&found), ["dangling", "dir"]);
    assert!(found.iter().all(|entry| entry.stat.kind == FileKind::Symlink));
    assert_eq!(found[0].link_target.as_deref(), Some(b"/no/where".as_slice()));
    assert_eq!(found[1].link_target.as_deref(), Some(outside.path().as_os_str().as_bytes()));
    assert_eq!(totals.symlinks, 2);
}

#[test]
fn a_root_that_is_itself_a_link_is_walked() {
    let tree = tree();
    fs::create_dir(tree.path().join("real")).unwrap();
    fs::write(tree.path().join("real/f"), "x").unwrap();
    symlink("real", tree.path().join("root")).unwrap();
    let (found, _) = all(&tree.path().join("root")).unwrap();
    assert_eq!(paths(&found), ["f"]);
}

#[test]
fn pipes_and_sockets_are_left_out() {
    let tree = tree();
    let _socket = UnixListener::bind(tree.path().join("mysql.sock")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, tree.path().join("pipe"), fifo, mode, 0).unwrap();
    fs::write(tree.path().join("f"), "x").unwrap();
    let (found, totals) = all(tree.path()).unwrap();
    assert_eq!(paths(&found), ["f"]);
    assert_eq!(totals.specials, 2);
    let dir = Dir::open_source(tree.path()).unwrap();
    let pipe = RelPath::parse(b"pipe").unwrap();
    let opened = dir.open_file_read(&pipe, crate::disk::FileMode::Direct).unwrap();
    assert!(opened.is_none(), "and opening one does not wait for a writer");
}

#[test]
fn names_are_bytes() {
    let tree = tree();
    let names: [&[u8]; 4] = [b"\n", b"\xff\xfe", b"a\nb", b"sp ace"];
    for name in names {
        fs::write(tree.path().join(as_path(name)), "x").unwrap();
    }
    let (found, _) = all(tree.path()).unwrap();
    let mut sorted = names;
    sorted.sort_unstable();
    assert!(found.iter().map(|entry| entry.path.as_bytes()).eq(sorted));
}

#[test]
fn names_of_one_file_have_one_inode() {
    let tree = tree();
    fs::write(tree.path().join("a"), "x").unwrap();
    fs::hard_link(tree.path().join("a"), tree.path().join("b")).unwrap();
    fs::write(tree.path().join("c"), "x").unwrap();
    let (found, _) = all(tree.path()).unwrap();
    let [a, b, c] = [found[0].stat, found[1].stat, found[2].stat];
    assert_eq!((a.ino, a.dev, a.nlink), (b.ino, b.dev, 2));
    assert_ne!(a.ino, c.ino);
    assert_eq!(c.nlink, 1);
}

#[test]
fn the_joiners_directory_is_skipped_at_the_top_only() {
    let tree = tree();
    for dir in [".fastsst", "db", "db/.fastsst"] {
        fs::create_dir(tree.path().join(dir)).unwrap();
    }
    fs::write(tree.path().join(".fastsst/lock"), "").unwrap();
    let (found, _) = all(tree.path()).unwrap();
    assert_eq!(paths(&found), ["db", "db/.fastsst"]);
}

#[test]
fn a_skipped_directory_is_not_entered() {
    #[derive(Debug)]
    struct NoLogs;
    impl Filter for NoLogs {
        fn class(&self, path: &RelPath, kind: FileKind) -> Class {
            match (path.name(), kind) {
                (b"log", FileKind::Directory) => Class::Skip,
                (b"last", _) => Class::Last(1),
                _ => Class::Send,
            }
        }
    }
    let tree = tree();
    fs::create_dir(tree.path().join("log")).unwrap();
    fs::write(tree.path().join("log/f"), "x").unwrap();
    fs::write(tree.path().join("last"), "x").unwrap();
    fs::set_permissions(tree.path().join("log"), fs::Permissions::from_mode(0o000)).unwrap();
    let (found, _) = filtered(tree.path(), &NoLogs).unwrap();
    assert_eq!(paths(&found), ["last"]);
    assert_eq!(found[0].class, Class::Last(1));
}

#[test]
fn a_tree_that_is_too_deep_is_an_error() {
    let tree = tree();
    let mut path = tree.path().to_path_buf();
    for _ in 0..PATH_DEPTH_MAX {
        path.push("d");
    }
    fs::create_dir_all(&path).unwrap();
    assert_eq!(all(tree.path()).unwrap().1.directories, PATH_DEPTH_MAX as u64);
    fs::write(path.join("f"), "").unwrap();
    assert_eq!(all(tree.path()).unwrap_err().code(), Code::Unsupported);
}

#[test]
fn an_error_of_the_sink_ends_the_walk() {
    let tree = tree();
    fs::write(tree.path().join("a"), "").unwrap();
    fs::write(tree.path().join("b"), "").unwrap();
    let dir = Dir::open_source(tree.path()).unwrap();
    let mut seen = 0;
    let result = walk(&dir, &AllFiles, &mut |_| {
        seen += 1;
        Err(Error::new(Code::Cancelled, "stop"))
    });
    assert_eq!((result.unwrap_err().code(), seen), (Code::Cancelled, 1));
}

#[test]
fn a_directory_that_vanishes_during_the_walk_is_left_out() {
    let tree = tree();
    fs::write(tree.path().join("a"), "").unwrap();
    fs::create_dir(tree.path().join("b")).unwrap();
    fs::write(tree.path().join("c"), "").unwrap();
    let dir = Dir::open_source(tree.path()).unwrap();
    let totals = walk(&dir, &AllFiles, &mut |found| {
        if found.path.as_bytes() == b"a" {
            fs::remove_dir(tree.path().join("b")).unwrap();
            fs::remove_file(tree.path().join("c")).unwrap();
        }
        Ok(())
    })
    .unwrap();
    assert_eq!((totals.files, totals.directories, totals.vanished), (1, 0, 2));
}

#[test]
fn an_unreadable_directory_is_an_error() {
    let tree = tree();
    fs::create_dir(tree.path().join("closed")).unwrap();
    fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(tree.path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let root = tree.path().to_path_buf();
    let result = std::thread::spawn(move || {
        // Root may read everything, so this thread alone becomes somebody else.
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        all(&root).map(|_| ())
    })
    .join()
    .unwrap();
    assert_eq!(result.unwrap_err().code(), Code::SourceRead);
}

#[test]
fn a_root_that_is_missing_or_no_directory_says_so() {
    let tree = tree();
    fs::write(tree.path().join("f"), "").unwrap();
    assert_eq!(all(&tree.path().join("none")).unwrap_err().code(), Code::Missing);
    assert_eq!(all(&tree.path().join("f")).unwrap_err().code(), Code::Access);
}
