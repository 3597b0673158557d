//! The version of MariaDB that stands in a server's program file.
//!
//! The script contract has no place for it, and asking the server would need an account. The
//! program has two strings of its own that say it: what `mariadbd --version` prints
//! (`10.11.19-MariaDB`), and what it writes into the head of a redo log (`MariaDB 10.11.19`). All
//! that are found must agree.

use std::io::{self, Read};

use memchr::memmem;

use super::ServerVersion;

/// Largest program that is searched. Unit: bytes. Why: a debug build has 300 MiB.
const PROGRAM_BYTES_MAX: u64 = 1 << 30;

/// Read at a time. Unit: bytes.
const PIECE: usize = 1 << 20;

/// What a string may have before or behind the name, and what is kept of one piece for the next.
const REACH: usize = 64;

const NAME: &[u8] = b"MariaDB";

/// The one version that all strings of a program agree on; `None` when there is none, or two.
pub(super) fn version_of_program(program: impl Read) -> io::Result<Option<ServerVersion>> {
    let mut program = program.take(PROGRAM_BYTES_MAX);
    let finder = memmem::Finder::new(NAME);
    let (mut bytes, mut found) = (Vec::with_capacity(PIECE + 2 * REACH), None);
    loop {
        let got = (&mut program).take(PIECE as u64).read_to_end(&mut bytes)?;
        // What has its surroundings here; at the end, everything.
        let usable = if got == 0 { bytes.len() } else { bytes.len().saturating_sub(REACH) };
        for at in finder.find_iter(&bytes[..usable]) {
            match (string_around(&bytes, at).and_then(version_of_string), &found) {
                (Some(version), None) => found = Some(version),
                (Some(version), Some(other)) if version != *other => return Ok(None),
                (Some(_) | None, _) => {}
            }
        }
        if got == 0 {
            return Ok(found.as_deref().and_then(ServerVersion::parse));
        }
        bytes.drain(..usable.saturating_sub(REACH));
    }
}

/// The string with a NUL at each end that has the name at this place.
fn string_around(bytes: &[u8], at: usize) -> Option<&str> {
    let first = at.saturating_sub(REACH);
    let start = first + bytes[first..at].iter().rposition(|byte| *byte == 0)? + 1;
    let end = at + bytes[at..].iter().take(REACH).position(|byte| *byte == 0)?;
    std::str::from_utf8(&bytes[start..end]).ok()
}

/// `10.11.19-MariaDB`, `10.6.14-9-MariaDB-enterprise` or `MariaDB 10.11.19`, in the first form.
fn version_of_string(text: &str) -> Option<String> {
    let is_number = |text: &str| {
        let mut parts = text.split(['.', '-']);
        text.matches('.').count() == 2
            && parts.all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    let number = match text.strip_prefix("MariaDB ") {
        Some(number) => number,
        None => {
            let (number, rest) = text.split_once("-MariaDB")?;
            let is_suffix = |c: char| c.is_ascii_alphanumeric() || "-.+~".contains(c);
            (rest.is_empty() || rest.starts_with('-') && rest.chars().all(is_suffix))
                .then_some(number)?
        }
    };
    let plain = number.split('-').next().filter(|_| is_number(number))?;
    Some(format!("{plain}-MariaDB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(program: &[u8]) -> Option<String> {
        version_of_program(program).unwrap().map(|version| version.to_string())
    }

    #[test]
    fn both_strings_of_the_program_count_and_must_agree() {
        assert_eq!(found(b"x\x0010.11.19-MariaDB\0y").as_deref(), Some("MariaDB 10.11.19"));
        assert_eq!(found(b"x\0MariaDB 10.11.19\0y").as_deref(), Some("MariaDB 10.11.19"));
        let both = b"\x0010.6.1-9-MariaDB-enterprise\0..\0MariaDB 10.6.1\0";
        assert_eq!(found(both).as_deref(), Some("MariaDB 10.6.1"));
        assert_eq!(found(b"\x0010.11.19-MariaDB\0..\0MariaDB 10.11.18\0"), None);
        // What the manual in the program says, and other words.
        assert_eq!(found(b"\0for example 10.1.1-MariaDB-mariadb1precise-log.\0"), None);
        assert_eq!(found(b"\0MariaDB Server\0MariaDB 10.11\0-MariaDB\0MariaDB\0"), None);
        assert_eq!(found(b""), None);
    }

    #[test]
    fn a_string_across_two_pieces_is_found_wherever_it_lies() {
        for place in (PIECE - 40..PIECE + 3).chain([0, 5, 2 * PIECE - 20, 2 * PIECE + 700]) {
            let mut program = vec![b'.'; place];
            program.extend_from_slice(b"\x0010.11.19-MariaDB\0");
            program.resize(program.len() + 500, b'.');
            assert_eq!(found(&program).as_deref(), Some("MariaDB 10.11.19"), "{place}");
        }
    }
}
