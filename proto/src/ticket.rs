//! The ticket: what a donor needs to reach and trust a joiner.
//!
//! Text form: `fastsst://HOST:PORT/1/PIN/TOKEN`, PIN 64 and TOKEN 32 hexadecimal digits; an IPv6
//! address stands in brackets.

use alloc::string::{String, ToString};
use core::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::hex;
use crate::limits::{NAME_BYTES_MAX, TICKET_BYTES_MAX};
use crate::secret::Secret;

const SCHEME: &str = "fastsst://";
const VERSION: &str = "1";

/// Address, key pin and token of a waiting joiner.
///
/// `Debug` hides the token; there is no `Display`, the only way to the text is
/// [`Ticket::to_text`].
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Host name or address, IPv6 without brackets. Invariant: only `[A-Za-z0-9._:%-]`, not empty.
    pub host: String,
    /// Port of the listener. Invariant: not 0.
    pub port: u16,
    /// SHA-256 of the SPKI of the joiner's key.
    pub pin: [u8; 32],
    /// The one-time token.
    pub token: Secret,
}

impl Ticket {
    /// Puts a ticket together.
    ///
    /// Errors: the host holds other characters than a name or an address has, or the port is 0.
    pub fn from_parts(
        host: impl Into<String>,
        port: u16,
        pin: [u8; 32],
        token: Secret,
    ) -> Result<Self, TicketError> {
        let host = host.into();
        if host.is_empty() || host.len() > NAME_BYTES_MAX || !host.bytes().all(is_host_byte) {
            return Err(TicketError::Host);
        }
        if port == 0 {
            return Err(TicketError::Port);
        }
        Ok(Self { host, port, pin, token })
    }

    /// Reads the text form; white space around it is ignored.
    ///
    /// Errors: which part is wrong, without repeating it.
    pub fn parse(text: &str) -> Result<Self, TicketError> {
        let text = text.trim_ascii();
        if text.len() > TICKET_BYTES_MAX {
            return Err(TicketError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(TicketError::Scheme)?;
        let mut parts = rest.split('/');
        let address = parts.next().ok_or(TicketError::Host)?;
        if parts.next() != Some(VERSION) {
            return Err(TicketError::Version);
        }
        let pin = parts.next().ok_or(TicketError::Pin).and_then(Self::pin_from_hex)?;
        let token = parts.next().and_then(|token| Secret::from_hex(token).ok());
        let token = token.ok_or(TicketError::Token)?;
        if parts.next().is_some() {
            return Err(TicketError::Trailing);
        }
        let (host, port) = split_address(address)?;
        Self::from_parts(host, port, pin, token)
    }

    /// The text form, in a string that is overwritten when dropped.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        // The capacity is final, so no reallocation leaves a copy of the token behind.
        let mut text = Zeroizing::new(String::with_capacity(TICKET_BYTES_MAX));
        text.push_str(SCHEME);
        let bracketed = self.host.contains(':');
        text.push_str(if bracketed { "[" } else { "" });
        text.push_str(&self.host);
        text.push_str(if bracketed { "]:" } else { ":" });
        text.push_str(&self.port.to_string());
        text.push('/');
        text.push_str(VERSION);
        text.push('/');
        for byte in self.pin {
            text.extend(hex::digits(byte));
        }
        text.push('/');
        text.push_str(&self.token.to_hex());
        text
    }

    /// The pin as 64 hexadecimal digits.
    #[must_use]
    pub fn pin_hex(&self) -> String {
        self.pin.iter().flat_map(|byte| hex::digits(*byte)).collect()
    }

    /// Reads a pin.
    ///
    /// Errors: not 64 hexadecimal digits.
    pub fn pin_from_hex(text: &str) -> Result<[u8; 32], TicketError> {
        hex::parse(text).ok_or(TicketError::Pin)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("pin", &format_args!("{}", self.pin_hex()))
            .field("token", &self.token)
            .finish()
    }
}

/// Which part of a ticket is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TicketError {
    /// Longer than [`TICKET_BYTES_MAX`].
    #[error("ticket is longer than {TICKET_BYTES_MAX} bytes")]
    TooLong,
    /// Does not begin with `fastsst://`.
    #[error("ticket does not begin with fastsst://")]
    Scheme,
    /// Made for a version this build does not know.
    #[error("ticket has an unknown version; use the same release at both ends")]
    Version,
    /// No host, or characters a host cannot have.
    #[error("ticket has no valid host")]
    Host,
    /// No port, or one out of range.
    #[error("ticket has no valid port")]
    Port,
    /// The key pin is not 64 hexadecimal digits.
    #[error("ticket has no valid key pin (64 hexadecimal digits); was it cut?")]
    Pin,
    /// The token is not 32 hexadecimal digits.
    #[error("ticket has no valid token (32 hexadecimal digits); was it cut?")]
    Token,
    /// Something follows the token.
    #[error("ticket has trailing text")]
    Trailing,
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:%-".contains(&byte)
}

fn split_address(address: &str) -> Result<(&str, u16), TicketError> {
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, port) = rest.split_once("]:").ok_or(TicketError::Host)?;
        if !host.contains(':') {
            return Err(TicketError::Host);
        }
        (host, port)
    } else {
        let (host, port) = address.split_once(':').ok_or(TicketError::Port)?;
        if port.contains(':') {
            return Err(TicketError::Host); // IPv6 without brackets: where the port begins is a guess
        }
        (host, port)
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(TicketError::Port);
    }
    port.parse().ok().map(|port| (host, port)).ok_or(TicketError::Port)
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    fn ticket(host: &str) -> Ticket {
        Ticket::from_parts(host, 4444, [0x5a; 32], Secret::from_bytes([0xc3; 16])).unwrap()
    }

    #[test]
    fn round_trip() {
        for host in ["db1.example.com", "10.0.0.7", "fe80::1%eth0", "::1"] {
            let ticket = ticket(host);
            assert_eq!(Ticket::parse(&ticket.to_text()), Ok(ticket));
        }
        let text = ticket("::1").to_text();
        assert!(text.starts_with("fastsst://[::1]:4444/1/5a5a"));
        assert_eq!(Ticket::parse(&format!(" {}\n", *text)), Ok(ticket("::1")));
    }

    #[test]
    fn debug_hides_the_token() {
        let shown = format!("{:?}", ticket("a"));
        assert!(shown.contains("[secret]") && !shown.contains("c3c3"), "{shown}");
    }

    #[test]
    fn says_which_part_is_wrong() {
        let (pin, token) = ("5a".repeat(32), "c3".repeat(16));
        let cases = [
            (format!("http://a:1/1/{pin}/{token}"), TicketError::Scheme),
            (format!("fastsst://a:1/2/{pin}/{token}"), TicketError::Version),
            (format!("fastsst://:1/1/{pin}/{token}"), TicketError::Host),
            (format!("fastsst://a b:1/1/{pin}/{token}"), TicketError::Host),
            (format!("fastsst://::1:1/1/{pin}/{token}"), TicketError::Host),
            (format!("fastsst://[a]:1/1/{pin}/{token}"), TicketError::Host),
            (format!("fastsst://a/1/{pin}/{token}"), TicketError::Port),
            (format!("fastsst://a:0/1/{pin}/{token}"), TicketError::Port),
            (format!("fastsst://a:+1/1/{pin}/{token}"), TicketError::Port),
            (format!("fastsst://a:65536/1/{pin}/{token}"), TicketError::Port),
            (format!("fastsst://a:1/1/5a/{token}"), TicketError::Pin),
            (format!("fastsst://a:1/1/{pin}"), TicketError::Token),
            (format!("fastsst://a:1/1/{pin}/{token}/x"), TicketError::Trailing),
            ("x".repeat(TICKET_BYTES_MAX + 1), TicketError::TooLong),
        ];
        for (text, error) in cases {
            assert_eq!(Ticket::parse(&text), Err(error), "{text}");
        }
    }
}
