//! Reading and writing the fixed-width little-endian fields of a frame body.

use alloc::string::String;
use alloc::vec::Vec;

use crate::error::WireError;

/// A frame body that is read from front to back. Every method fails rather than panic.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, WireError> {
        self.array().map(i64::from_le_bytes)
    }

    /// Bytes behind a 16-bit length.
    pub(crate) fn bytes(&mut self, what: &'static str, max: usize) -> Result<&'a [u8], WireError> {
        let len = usize::from(self.u16()?);
        check_len(what, len, max)?;
        self.take(len)
    }

    /// UTF-8 behind a 16-bit length.
    pub(crate) fn text(&mut self, what: &'static str, max: usize) -> Result<String, WireError> {
        let text = core::str::from_utf8(self.bytes(what, max)?);
        text.ok().map(String::from).ok_or(WireError::BadValue { what })
    }

    /// Printable ASCII behind a 16-bit length: text that is logged before anything is proven.
    pub(crate) fn ascii(&mut self, what: &'static str, max: usize) -> Result<String, WireError> {
        let text = self.text(what, max)?;
        if text.bytes().all(is_printable) { Ok(text) } else { Err(WireError::BadValue { what }) }
    }

    /// A 32-bit count of items of at least `item_bytes` each. What it returns is safe to allocate
    /// for: it is within `max` and the body is long enough to hold that many.
    pub(crate) fn count(
        &mut self,
        what: &'static str,
        max: usize,
        item_bytes: usize,
    ) -> Result<usize, WireError> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        check_len(what, count, max)?;
        if count.saturating_mul(item_bytes) > self.rest.len() {
            return Err(WireError::Truncated);
        }
        Ok(count)
    }

    /// Ends the body.
    pub(crate) fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(WireError::Trailing { bytes: self.rest.len() })
        }
    }
}

pub(crate) fn check_len(what: &'static str, value: usize, limit: usize) -> Result<(), WireError> {
    if value > limit { Err(WireError::TooLong { what, limit, value }) } else { Ok(()) }
}

pub(crate) fn is_printable(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte)
}

pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Bytes behind a 16-bit length. Panics when they do not fit: a bug of the owner, and cutting
/// them silently would send a different value.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len());
    assert!(len.is_ok(), "field of {} bytes does not fit its 16-bit length", bytes.len());
    put_u16(out, len.unwrap_or(0));
    out.extend_from_slice(bytes);
}

/// A 32-bit count. Panics above the limit, as [`put_bytes`].
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize, max: usize) {
    assert!(count <= max, "{count} items in a frame that holds {max}");
    put_u32(out, u32::try_from(count).unwrap_or(0));
}

/// Text for people, made fit for the wire: cut to `max` bytes at a character's end, `replace`d
/// where `allowed` says no.
pub(crate) fn put_note(out: &mut Vec<u8>, text: &str, max: usize, allowed: fn(char) -> bool) {
    let mut note = String::with_capacity(max.min(text.len()));
    for c in text.chars().map(|c| if allowed(c) { c } else { '?' }) {
        if note.len() + c.len_utf8() > max {
            break;
        }
        note.push(c);
    }
    put_bytes(out, note.as_bytes());
}
