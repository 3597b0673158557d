use super::*;

/// Names as they come in trees, ascending.
const NAMES: [&[u8]; 9] = [
    b"-",
    b"back\\slash \\x41",
    b"dir",
    b"dir/line\nbreak",
    b"not \xff\xfe utf-8 \x80",
    b"tab\tand\rreturn",
    b"two words 'and' \"quotes\"",
    "a\u{202e}gpj.exe-größe-🦀".as_bytes(),
    b"root",
];

fn path(name: &[u8]) -> RelPath {
    RelPath::parse(name).unwrap()
}

fn file<'a>(path: &'a RelPath, hash: u8) -> TreeLine<'a> {
    TreeLine {
        root: "data",
        path,
        kind: EntryKind::File,
        mode: 0o640,
        size: 7,
        link_target: None,
        file_hash: Some(FileHash([hash; 32])),
    }
}

fn dir<'a>(path: &'a RelPath) -> TreeLine<'a> {
    TreeLine { kind: EntryKind::Directory, mode: 0o4755, size: 0, file_hash: None, ..file(path, 0) }
}

fn link<'a>(path: &'a RelPath, kind: EntryKind, target: &'a [u8]) -> TreeLine<'a> {
    TreeLine { kind, size: 0, file_hash: None, link_target: Some(target), ..file(path, 0) }
}

fn manifest(lines: Vec<TreeLine<'_>>) -> Manifest {
    Manifest::of(vec!["data".to_owned()], lines).unwrap()
}

/// Every name as a file, but for one directory; and links to odd places.
fn sample() -> Manifest {
    let paths: Vec<RelPath> = NAMES.into_iter().map(path).collect();
    let (first, second, soft) = (path(b"a-second"), path(b"b-second"), path(b"soft"));
    let mut lines: Vec<_> = paths.iter().map(|path| file(path, 9)).collect();
    lines[2] = dir(&paths[2]);
    // Of two names the one that was seen last is the smaller.
    lines.push(file(&second, 1));
    lines.push(link(&first, EntryKind::HardLink, second.as_bytes()));
    lines.push(link(&soft, EntryKind::Symlink, b"../\n\xff/-"));
    manifest(lines)
}

fn text_of(manifest: &Manifest) -> Vec<u8> {
    let mut text = Vec::new();
    manifest.write(&mut text).unwrap();
    text
}

fn read(text: &[u8]) -> Result<Manifest> {
    text::read(text)
}

#[test]
fn what_is_written_is_read_again_whatever_the_names_are() {
    let sample = sample();
    let text = text_of(&sample);
    assert_eq!(read(&text).unwrap(), sample);
    let text = String::from_utf8(text).expect("UTF-8");
    assert_eq!(text.lines().count(), 12 + 3, "a line for each entry:\n{text}");
    assert!(text.lines().all(|line| !line.contains(char::is_control) || line.contains('\t')));
    for line in [
        "fastsst-manifest 1",
        "root\tdata",
        "dir\t4755\t-\t-\tdir",
        "hardlink\t0640\t-\t-\tb-second\ta-second",
        "link\t0640\t-\t-\tsoft\t../\\x0a\\xff/-",
        &format!("file\t0640\t7\t{}\tback\\\\slash \\\\x41", FileHash([9; 32])),
        &format!("file\t0640\t7\t{}\ta\\xe2\\x80\\xaegpj.exe-größe-🦀", FileHash([9; 32])),
        &format!("root-hash\t{}", sample.root_hash()),
    ] {
        assert!(text.lines().any(|it| it == line), "no {line:?} in\n{text}");
    }
}

#[test]
fn several_roots_and_empty_ones_are_kept_apart() {
    let same = path(b"same");
    let lines = vec![TreeLine { root: "undo", ..file(&same, 1) }, file(&same, 2)];
    let roots = ["undo", "data", "empty"].map(str::to_owned).to_vec();
    let manifest = Manifest::of(roots, lines).unwrap();
    assert_eq!(manifest.roots(), ["data", "empty", "undo"]);
    assert_eq!(read(&text_of(&manifest)).unwrap(), manifest);
    let empty = self::manifest(Vec::new());
    assert_eq!(read(&text_of(&empty)).unwrap(), empty);
}

#[test]
fn a_manifest_that_was_cut_anywhere_is_refused() {
    let text = text_of(&sample());
    for length in 0..text.len() {
        let error = read(&text[..length]).unwrap_err();
        assert_eq!(error.code(), Code::Usage, "{length}: {error}");
    }
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    for missing in 0..lines.len() {
        let mut left = lines.clone();
        left.remove(missing);
        assert!(read(&left.concat()).is_err(), "without line {missing}");
    }
    let error = read(&[&text[..], b"more\n"].concat()).unwrap_err();
    assert!(error.to_string().contains("follows the last line"), "{error}");
}

#[test]
fn a_manifest_with_any_bit_flipped_is_never_taken_for_another_tree() {
    let sample = sample();
    let text = text_of(&sample);
    for place in 0..text.len() {
        for bit in 0..8 {
            let mut flipped = text.clone();
            flipped[place] ^= 1 << bit;
            // A digit of the other case, and the name of a root that is not hashed, say the same.
            if let Ok(read) = read(&flipped) {
                assert_eq!(read.lines, sample.lines, "byte {place}, bit {bit}");
                assert_eq!(read.root_hash, sample.root_hash, "byte {place}, bit {bit}");
            }
        }
    }
}

#[test]
fn what_is_no_manifest_of_this_version_is_named() {
    for (text, words) in [
        ("", "no manifest of fastsst"),
        ("hello\n", "no manifest of fastsst"),
        ("fastsst-manifest 2\nnews\n", "another release"),
        ("fastsst-manifest 1\nfile\t0640\t-\t-\ta\n", "line 2 cannot be understood"),
        ("fastsst-manifest 1\nroot\tdata\nroot\tdata\n", "line 3 cannot be understood"),
        ("fastsst-manifest 1\nroot\tdata\ndir\t0750\t-\t-\t../up\n", "line 3 cannot"),
        ("fastsst-manifest 1\nroot\tdata\ndir\t17777\t-\t-\ta\n", "line 3 cannot"),
        ("fastsst-manifest 1\nroot\tdata\ndir\t0750\t-\t-\ta\\q\n", "line 3 cannot"),
        ("fastsst-manifest 1\nroot\tdata\ndir\t0750\t-\t-\ta\tb\n", "line 3 cannot"),
        ("fastsst-manifest 1\nroot\tdata\n", "it was cut"),
    ] {
        let error = read(text.as_bytes()).unwrap_err();
        assert_eq!(error.code(), Code::Usage, "{text:?}");
        assert!(error.to_string().contains(words), "{text:?}: {error}");
    }
    let long = format!("fastsst-manifest 1\n{}\n", "x".repeat(1 << 20));
    assert!(read(long.as_bytes()).unwrap_err().to_string().contains("line 2 was cut"));
    let hash = RootHash([7; 32]);
    let error = read(format!("fastsst-manifest 1\nroot-hash\t{hash}\n").as_bytes()).unwrap_err();
    assert!(error.to_string().contains("do not have the root hash"), "{error}");
}

#[test]
fn equal_trees_have_no_differences_and_each_difference_is_named_once() {
    let (a, b) = (path(b"a"), path(b"b"));
    let expected = manifest(vec![file(&a, 1), file(&b, 1)]);
    assert_eq!(expected.differences(&expected.clone()).count(), 0);
    let (c, shorter) = (path(b"c"), TreeLine { size: 6, ..file(&b, 2) });
    let soft = |target| link(&b, EntryKind::Symlink, target);
    let cases: [(Vec<TreeLine<'_>>, &[&str]); 8] = [
        (vec![file(&a, 1)], &["missing: b"]),
        (vec![file(&a, 1), file(&b, 1), file(&c, 1)], &["extra: c"]),
        (vec![file(&a, 1), file(&b, 2)], &["content differs: b"]),
        (vec![file(&a, 1), shorter], &["size 6, not 7: b"]),
        (vec![file(&a, 1), TreeLine { mode: 0o600, ..file(&b, 1) }], &["mode 0600, not 0640: b"]),
        (vec![dir(&a), file(&b, 1)], &["kind directory, not file: a", "mode 4755, not 0640: a"]),
        (vec![file(&a, 1), soft(b"x")], &["kind symbolic link, not file: b"]),
        (vec![file(&c, 1)], &["missing: a", "missing: b", "extra: c"]),
    ];
    for (lines, named) in cases {
        let found = manifest(lines);
        let said: Vec<_> = expected.differences(&found).map(|it| it.to_string()).collect();
        assert_eq!(said, named);
    }
    let (one, other) = (manifest(vec![soft(b"x")]), manifest(vec![soft(b"y")]));
    let said: Vec<_> = one.differences(&other).map(|it| it.to_string()).collect();
    assert_eq!(said, ["link differs: b"]);
}
