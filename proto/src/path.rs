//! Relative paths that cannot leave their root.

use alloc::vec::Vec;
use core::fmt;

use thiserror::Error;

use crate::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};

/// A path below a root: raw bytes, checked once.
///
/// Invariant: not empty, relative, no empty component, no `.` or `..`, no NUL, within the limits.
/// So joining it to a directory cannot name anything outside (symbolic links are the opener's
/// business). Order is bytewise, which is also the order of the root hash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Vec<u8>);

impl RelPath {
    /// Checks and takes over a path.
    ///
    /// Errors: what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Err(PathError::Empty);
        }
        if bytes.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        if bytes.first() == Some(&b'/') {
            return Err(PathError::Absolute);
        }
        for (depth, component) in bytes.split(|byte| *byte == b'/').enumerate() {
            if depth >= PATH_DEPTH_MAX {
                return Err(PathError::TooDeep);
            }
            check_component(component)?;
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The whole path.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components, outermost first; at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The path without its last component; `None` when it has only one.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(Self(self.0[..slash].to_vec()))
    }

    /// The last component.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.components().next_back().unwrap_or(&self.0)
    }

    /// The path of `name` in this directory.
    ///
    /// Errors: `name` is not one component, or the result passes a limit.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        check_component(name)?;
        if name.contains(&b'/') {
            return Err(PathError::Separator);
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Self::parse(&bytes)
    }
}

impl AsRef<[u8]> for RelPath {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// For people: invalid UTF-8 and control characters appear escaped, so that a file name can
/// neither break a log line nor steer a terminal.
impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.utf8_chunks() {
            for c in part.valid().chars() {
                if c.is_control() || c == '\\' || is_invisible(c) {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            for byte in part.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelPath({self})")
    }
}

/// Why bytes are not a relative path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathError {
    /// No bytes.
    #[error("path is empty")]
    Empty,
    /// Begins with a slash.
    #[error("path is absolute")]
    Absolute,
    /// Two slashes in a row, or one at the end.
    #[error("path has an empty component")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("path has a component . or ..")]
    Dots,
    /// Holds a NUL byte.
    #[error("path holds a NUL byte")]
    Nul,
    /// A single component was expected.
    #[error("name holds a slash")]
    Separator,
    /// Longer than [`PATH_BYTES_MAX`].
    #[error("path is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    /// A component longer than [`NAME_BYTES_MAX`].
    #[error("path has a component longer than {NAME_BYTES_MAX} bytes")]
    NameTooLong,
    /// More than [`PATH_DEPTH_MAX`] components.
    #[error("path has more than {PATH_DEPTH_MAX} components")]
    TooDeep,
}

fn check_component(component: &[u8]) -> Result<(), PathError> {
    if component.is_empty() {
        return Err(PathError::EmptyComponent);
    }
    if component == b"." || component == b".." {
        return Err(PathError::Dots);
    }
    if component.contains(&0) {
        return Err(PathError::Nul);
    }
    if component.len() > NAME_BYTES_MAX {
        return Err(PathError::NameTooLong);
    }
    Ok(())
}

/// Characters that are not controls by Unicode's category and still change how text is shown:
/// line separators, zero-width characters and the direction overrides.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    #[test]
    fn refuses_what_could_leave_the_root() {
        let cases: [(&[u8], PathError); 9] = [
            (b"", PathError::Empty),
            (b"/etc", PathError::Absolute),
            (b"a//b", PathError::EmptyComponent),
            (b"a/", PathError::EmptyComponent),
            (b".", PathError::Dots),
            (b"a/../b", PathError::Dots),
            (b"a\0b", PathError::Nul),
            (&[b'x'; NAME_BYTES_MAX + 1], PathError::NameTooLong),
            (&[b'x'; PATH_BYTES_MAX + 1], PathError::TooLong),
        ];
        for (bytes, error) in cases {
            assert_eq!(RelPath::parse(bytes), Err(error));
        }
        let deep = vec!["d"; PATH_DEPTH_MAX + 1].join("/");
        assert_eq!(RelPath::parse(deep.as_bytes()), Err(PathError::TooDeep));
    }

    #[test]
    fn parts() {
        let path = RelPath::parse(b"mysql/user.ibd").unwrap();
        assert_eq!(path.name(), b"user.ibd");
        let parent = path.parent().unwrap();
        assert_eq!(parent.as_bytes(), b"mysql");
        assert_eq!(parent.parent(), None);
        assert_eq!(parent.join(b"user.ibd"), Ok(path));
        assert_eq!(parent.join(b"../x"), Err(PathError::Separator));
        assert_eq!(parent.join(b".."), Err(PathError::Dots));
        assert_eq!(parent.components().count(), 1);
    }

    #[test]
    fn display_never_breaks_a_line() {
        let path = RelPath::parse(b"a\nb\x1b[2Jc\xff\\d").unwrap();
        assert_eq!(path.to_string(), "a\\nb\\u{1b}[2Jc\\xff\\\\d");
    }
}
