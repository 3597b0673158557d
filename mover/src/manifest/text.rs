//! The file: UTF-8, one line for each entry, fields separated by one tab.
//!
//! ```text
//! fastsst-manifest 1
//! root  data
//! dir   0750  -     -         mysql
//! file  0640  7     5c1f...   mysql/db.opt
//! hardlink 0640 -   -         mysql/second   mysql/db.opt
//! link  0777  -     -         mysql/link     ../else/where
//! root-hash  91b4...
//! ```
//!
//! Fields: kind, permission bits (octal), size (bytes, decimal), BLAKE3 of the content as `b3sum`
//! prints it, path below the root, and what a link leads to. What an entry does not have is `-`.
//! Names are bytes: a backslash is written `\\`; a control character, what cannot be seen, and a
//! byte that is no UTF-8 as `\xHH` for each of its bytes. Any byte may be written like that.
//!
//! Roots and, in each, paths ascend bytewise. The last line is computed from all others.

use std::io::{BufRead, BufWriter, Read, Write};

use fastsst_proto::limits::{
    FILE_BYTES_MAX, LINK_TARGET_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX,
};
use fastsst_proto::manifest::EntryKind;
use fastsst_proto::{FileHash, RelPath, RootHash};

use super::{Line, Manifest, damaged};
use crate::error::{Code, Error, Result};

/// What the first line begins with, in all versions.
const MAGIC: &str = "fastsst-manifest";

/// The version this program reads and writes.
const VERSION: &str = "1";

const ROOT: &str = "root";
const ROOT_HASH: &str = "root-hash";

/// What stands for something that an entry does not have.
const NONE: &str = "-";

/// Longest line. Unit: bytes. Why: two paths with every byte escaped, and the other fields.
const LINE_BYTES_MAX: u64 = 4 * (PATH_BYTES_MAX + LINK_TARGET_BYTES_MAX) as u64 + 256;

/// Largest permission bits.
const MODE_MAX: u16 = 0o7777;

pub(super) fn write(manifest: &Manifest, out: impl Write) -> std::io::Result<()> {
    let mut out = BufWriter::new(out);
    writeln!(out, "{MAGIC} {VERSION}")?;
    let mut lines = manifest.lines.iter().peekable();
    for (number, root) in manifest.roots.iter().enumerate() {
        writeln!(out, "{ROOT}\t{}", escaped(root.as_bytes()))?;
        while let Some(line) = lines.next_if(|line| line.root == number) {
            write_line(line, &mut out)?;
        }
    }
    writeln!(out, "{ROOT_HASH}\t{}", manifest.root_hash)?;
    out.flush()
}

fn write_line(line: &Line, out: &mut impl Write) -> std::io::Result<()> {
    let (kind, mode, path) = (name_of(line.kind), line.mode, escaped(line.path.as_bytes()));
    match line.hash {
        Some(hash) => write!(out, "{kind}\t{mode:04o}\t{}\t{hash}\t{path}", line.size)?,
        None => write!(out, "{kind}\t{mode:04o}\t{NONE}\t{NONE}\t{path}")?,
    }
    match &line.target {
        Some(target) => writeln!(out, "\t{}", escaped(target)),
        None => writeln!(out),
    }
}

/// Reads all of it.
///
/// # Errors
/// E08: it cannot be read. E01: what is wrong, and in which line.
pub(super) fn read(from: impl BufRead) -> Result<Manifest> {
    let mut lines = Lines { from, number: 0, text: Vec::new() };
    check_first(lines.next()?)?;
    let (mut roots, mut entries) = (Vec::<String>::new(), Vec::new());
    let root_hash = loop {
        let text = lines.next()?.ok_or_else(|| {
            damaged("it ends without its last line, which has the root hash: it was cut")
        })?;
        if let Some(name) = field_of(text, ROOT) {
            let name = unescaped(name).and_then(|name| String::from_utf8(name).ok());
            let name = name.filter(|name| name.len() <= NAME_BYTES_MAX);
            let is_next = |name: &String| roots.last().is_none_or(|last| last < name);
            roots.push(name.filter(is_next).ok_or_else(|| lines.wrong())?);
        } else if let Some(hash) = field_of(text, ROOT_HASH) {
            break RootHash(hash_of(hash).ok_or_else(|| lines.wrong())?);
        } else {
            let root = roots.len().checked_sub(1);
            let line = root.and_then(|root| parse_line(root, text));
            entries.push(line.ok_or_else(|| lines.wrong())?);
        }
    };
    if lines.next()?.is_some() {
        return Err(damaged("something follows the last line"));
    }
    let manifest = Manifest { roots, lines: entries, root_hash };
    let ascends = manifest.lines.is_sorted_by(|a, b| (a.root, &a.path) < (b.root, &b.path));
    if !ascends || manifest.computed()? != manifest {
        return Err(damaged("its lines do not have the root hash in its last line"));
    }
    Ok(manifest)
}

fn check_first(line: Option<&str>) -> Result<()> {
    let version = line.and_then(|line| line.strip_prefix(MAGIC)?.strip_prefix(' '));
    match version {
        Some(VERSION) => Ok(()),
        Some(other) => {
            let what = format!("version {other:?} is of another release; this one reads {VERSION}");
            Err(Error::new(Code::Usage, what))
        }
        None => Err(Error::new(Code::Usage, "this is no manifest of fastsst")),
    }
}

fn parse_line(root: usize, text: &str) -> Option<Line> {
    let mut fields = text.split('\t');
    let kind = kind_of(fields.next()?)?;
    let mode = u16::from_str_radix(fields.next()?, 8).ok().filter(|mode| *mode <= MODE_MAX)?;
    let (size, hash) = (fields.next()?, fields.next()?);
    let path = RelPath::parse(&unescaped(fields.next()?)?).ok()?;
    let target = fields.next().map(unescaped);
    let (size, hash) = match kind {
        EntryKind::File => {
            let size = size.parse().ok().filter(|size| *size <= FILE_BYTES_MAX)?;
            (size, Some(FileHash(hash_of(hash)?)))
        }
        _ if size == NONE && hash == NONE => (0, None),
        EntryKind::Directory | EntryKind::Symlink | EntryKind::HardLink => return None,
    };
    let target = match (kind, target) {
        (EntryKind::File | EntryKind::Directory, None) => None,
        (EntryKind::Symlink | EntryKind::HardLink, Some(target)) => {
            Some(target.filter(|it| !it.is_empty() && it.len() <= LINK_TARGET_BYTES_MAX)?)
        }
        _ => return None,
    };
    fields.next().is_none().then_some(Line { root, path, kind, mode, size, hash, target })
}

/// The lines of a file, one in memory at a time.
struct Lines<R> {
    from: R,
    /// Of the line that was read last; the first one is 1.
    number: u64,
    text: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// The next one, without its end; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<&str>> {
        self.text.clear();
        self.number += 1;
        let mut limited = (&mut self.from).take(LINE_BYTES_MAX);
        limited
            .read_until(b'\n', &mut self.text)
            .map_err(|error| Error::new(Code::SourceRead, "cannot read it").because(error))?;
        if self.text.is_empty() {
            return Ok(None);
        }
        let line = self.text.strip_suffix(b"\n").and_then(|line| str::from_utf8(line).ok());
        line.map(Some).ok_or_else(|| {
            damaged(format!("line {} was cut, is too long or is no UTF-8", self.number))
        })
    }

    fn wrong(&self) -> Error {
        damaged(format!("line {} cannot be understood", self.number))
    }
}

fn field_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.strip_prefix(name)?.strip_prefix('\t')
}

fn hash_of(text: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(text).ok().map(|hash| *hash.as_bytes())
}

const fn name_of(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "dir",
        EntryKind::Symlink => "link",
        EntryKind::HardLink => "hardlink",
    }
}

fn kind_of(name: &str) -> Option<EntryKind> {
    let kinds = [EntryKind::File, EntryKind::Directory, EntryKind::Symlink, EntryKind::HardLink];
    kinds.into_iter().find(|kind| name_of(*kind) == name)
}

fn escaped(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for part in name.utf8_chunks() {
        for c in part.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                _ if is_plain(c) => text.push(c),
                _ => escape_bytes(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        escape_bytes(&mut text, part.invalid());
    }
    text
}

fn escape_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push_str("\\x");
        text.extend(
            [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16)).iter().flatten(),
        );
    }
}

/// Whether a character can be seen, so that two names which look equal are equal.
fn is_plain(c: char) -> bool {
    // Quotes are escaped there because of what stands around them in a program.
    matches!(c, ' ' | '\'' | '"')
        || !c.is_whitespace() && !c.is_control() && c.escape_debug().len() == 1
}

/// The bytes of a name; `None` when it is not written as [`escaped`] writes.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next()? {
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let value = digit()? << 4 | digit()?;
                bytes.push(u8::try_from(value).ok()?);
            }
            _ => return None,
        }
    }
    Some(bytes)
}
