//! The one-time token, which cannot be printed.

use alloc::string::String;
use core::fmt;

use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::hex;

/// The 128-bit one-time token of a ticket.
///
/// `Debug` and `Display` show a placeholder, comparison takes constant time, and the bytes are
/// overwritten when the value is dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 16]);

impl Secret {
    /// Takes over random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads 32 hexadecimal digits.
    ///
    /// Errors: anything else; the error does not repeat the text.
    pub fn from_hex(text: &str) -> Result<Self, SecretError> {
        hex::parse(text).map(Self).ok_or(SecretError)
    }

    /// The bytes, for key derivation only.
    #[must_use]
    pub fn expose(&self) -> &[u8; 16] {
        &self.0
    }

    /// 32 hexadecimal digits, in a string that is overwritten when dropped.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        // The capacity is final, so no reallocation leaves a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(32));
        for byte in self.0 {
            text.extend(hex::digits(byte));
        }
        text
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The text is not 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a token has 32 hexadecimal digits")]
pub struct SecretError;

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn is_never_printed() {
        let secret = Secret::from_bytes([0xab; 16]);
        assert_eq!(format!("{secret} {secret:?}"), "[secret] [secret]");
    }

    #[test]
    fn hex_round_trip() {
        let secret = Secret::from_bytes(core::array::from_fn(|i| u8::try_from(i * 16).unwrap()));
        let text = secret.to_hex();
        assert_eq!(text.as_str(), "00102030405060708090a0b0c0d0e0f0");
        assert_eq!(Secret::from_hex(&text), Ok(secret));
        assert_eq!(Secret::from_hex("00"), Err(SecretError));
        assert_eq!(Secret::from_hex(&"zz".repeat(16)), Err(SecretError));
    }
}
