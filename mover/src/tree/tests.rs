use std::fs;
use std::os::unix::fs::symlink;

use super::*;

struct Place {
    tree: tempfile::TempDir,
    dir: Dir,
    outside: tempfile::TempDir,
}

/// A root with `dir/f`, and `out`, a link to a directory outside that holds `f` as well.
fn place() -> Place {
    let tree = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("dir")).unwrap();
    fs::write(tree.path().join("dir/f"), "inside").unwrap();
    fs::write(outside.path().join("f"), "outside").unwrap();
    symlink(outside.path(), tree.path().join("out")).unwrap();
    let dir = Dir::open_target(tree.path()).unwrap();
    Place { tree, dir, outside }
}

fn rel(path: &str) -> RelPath {
    RelPath::parse(path.as_bytes()).unwrap()
}

#[track_caller]
fn is_unsafe<T: fmt::Debug>(result: Result<T>) {
    assert_eq!(result.unwrap_err().code(), Code::UnsafePath);
}

#[test]
fn no_access_leads_through_a_link() {
    let Place { tree: _tree, dir, outside } = place();
    let meta = Meta { mode: 0o777, owner: None, mtime: FileTime::default() };
    is_unsafe(dir.open_file_read(&rel("out/f"), FileMode::Direct));
    is_unsafe(dir.open_file_write(&rel("out/f"), FileMode::Direct));
    is_unsafe(dir.create_file(&rel("out/new"), FileMode::Direct));
    is_unsafe(dir.mkdir(&rel("out/new")));
    is_unsafe(dir.symlink(&rel("out/new"), b"x"));
    is_unsafe(dir.hardlink(&rel("dir/f"), &rel("out/new")));
    is_unsafe(dir.hardlink(&rel("out/f"), &rel("new")));
    is_unsafe(dir.stat(&rel("out/f")));
    is_unsafe(dir.read_link(&rel("out/f")));
    is_unsafe(dir.set_meta(&rel("out/f"), &meta));
    is_unsafe(dir.unlink(&rel("out/f")));
    is_unsafe(dir.rmdir(&rel("out/f")));
    is_unsafe(dir.remove_tree(&rel("out/f")));
    is_unsafe(dir.open_dir(&rel("out")));
    is_unsafe(dir.open_dir_if_there(&rel("out")));
    is_unsafe(dir.open_file_read(&rel("out"), FileMode::Direct));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read(outside.path().join("f")).unwrap(), b"outside");
}

#[test]
fn dots_and_absolute_paths_would_fail_even_without_rel_path() {
    let Place { tree: _tree, dir, outside } = place();
    for path in [b"..".as_slice(), b"dir/../..", outside.path().as_os_str().as_bytes()] {
        assert_eq!(dir.open_at(path, OFlags::PATH).unwrap_err(), Errno::XDEV);
    }
}

#[test]
fn a_swapped_directory_is_refused() {
    let Place { tree, dir, outside } = place();
    let path = rel("dir/f");
    assert!(dir.open_file_read(&path, FileMode::Direct).unwrap().is_some());
    let held = dir.open_dir(&rel("dir")).unwrap();
    fs::rename(tree.path().join("dir"), tree.path().join("moved")).unwrap();
    symlink(outside.path(), tree.path().join("dir")).unwrap();
    is_unsafe(dir.open_file_read(&path, FileMode::Direct));
    let (file, _) = held.open_file_read(&rel("f"), FileMode::Direct).unwrap().unwrap();
    assert_eq!(file.stat().unwrap().size, 6, "a held directory stays the one it was");
}

#[test]
fn magic_links_are_refused() {
    let dir = Dir::open_source(Path::new("/proc/self")).unwrap();
    is_unsafe(dir.open_dir(&rel("cwd")));
    is_unsafe(dir.open_dir(&rel("root")));
}

#[test]
fn what_is_not_there_is_no_error() {
    let Place { tree: _tree, dir, outside: _outside } = place();
    for path in ["none", "none/f", "dir/f/g"] {
        let path = rel(path);
        assert_eq!(dir.stat(&path).unwrap(), None);
        assert!(dir.open_file_read(&path, FileMode::Buffered).unwrap().is_none());
        assert_eq!(dir.read_link(&path).unwrap(), None);
        assert!(!dir.unlink(&path).unwrap());
        assert!(!dir.remove_tree(&path).unwrap());
    }
    assert!(dir.open_file_read(&rel("dir"), FileMode::Buffered).unwrap().is_none());
    assert!(dir.open_file_write(&rel("dir"), FileMode::Buffered).unwrap().is_none());
}

#[test]
fn a_tree_is_built_and_examined() {
    let Place { tree, dir, outside: _outside } = place();
    dir.mkdir(&rel("dir/new")).unwrap();
    dir.create_file(&rel("dir/new/file"), FileMode::Direct).unwrap();
    dir.hardlink(&rel("dir/new/file"), &rel("dir/new/same")).unwrap();
    dir.symlink(&rel("dir/new/link"), b"\xff/..").unwrap();
    let file = dir.stat(&rel("dir/new/file")).unwrap().unwrap();
    assert_eq!((file.kind, file.mode, file.size, file.nlink), (FileKind::File, 0o600, 0, 2));
    let folder = dir.stat(&rel("dir/new")).unwrap().unwrap();
    assert_eq!((folder.kind, folder.mode), (FileKind::Directory, 0o700));
    let link = dir.stat(&rel("dir/new/link")).unwrap().unwrap();
    assert_eq!(link.kind, FileKind::Symlink);
    assert_eq!(dir.read_link(&rel("dir/new/link")).unwrap().unwrap(), b"\xff/..");
    let names = dir.open_dir(&rel("dir/new")).unwrap().names().unwrap();
    assert_eq!(names, [b"file".as_slice(), b"link", b"same"]);
    assert_eq!(dir.mkdir(&rel("dir")).unwrap_err().code(), Code::TargetWrite);
    let again = dir.create_file(&rel("dir/new/link"), FileMode::Direct);
    assert_eq!(again.unwrap_err().code(), Code::TargetWrite, "neither followed nor replaced");
    dir.sync().unwrap();
    dir.sync_fs().unwrap();
    assert!(dir.free_bytes().unwrap() > 0);
    assert!(tree.path().join("dir/new/same").exists());
}

#[test]
fn metadata_are_set_on_files_directories_and_links() {
    let Place { tree: _tree, dir, outside: _outside } = place();
    let meta = Meta {
        mode: 0o2751,
        owner: Some((u32::MAX, u32::MAX)),
        mtime: FileTime { s: 1_000_000_000, ns: 999_999_999 },
    };
    for path in ["dir", "dir/f"] {
        dir.set_meta(&rel(path), &meta).unwrap();
        let stat = dir.stat(&rel(path)).unwrap().unwrap();
        assert_eq!((stat.mode, stat.mtime), (0o2751, meta.mtime), "{path}");
    }
    dir.set_meta(&rel("out"), &meta).unwrap();
    let link = dir.stat(&rel("out")).unwrap().unwrap();
    assert_eq!((link.kind, link.mtime), (FileKind::Symlink, meta.mtime));
}

#[test]
fn a_tree_is_removed_without_following_links() {
    let Place { tree, dir, outside } = place();
    fs::create_dir_all(tree.path().join("dir/a/b/c")).unwrap();
    fs::write(tree.path().join("dir/a/b/f"), "").unwrap();
    symlink(outside.path(), tree.path().join("dir/a/b/link")).unwrap();
    assert!(dir.remove_tree(&rel("dir")).unwrap());
    assert!(dir.remove_tree(&rel("out")).unwrap(), "a link itself is removed");
    assert!(dir.names().unwrap().is_empty());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn a_change_is_noticed() {
    let Place { tree, dir, outside: _outside } = place();
    let before = dir.stat(&rel("dir/f")).unwrap().unwrap();
    assert!(!dir.stat(&rel("dir/f")).unwrap().unwrap().differs_from(&before));
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(tree.path().join("dir/f"), "INSIDE").unwrap();
    assert!(dir.stat(&rel("dir/f")).unwrap().unwrap().differs_from(&before));
}
