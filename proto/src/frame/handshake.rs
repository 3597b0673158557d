//! The frames a peer can send before it has proven anything.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::auth::Scope;
use crate::codec::{Reader, is_printable, put_note, put_u16, put_u64};
use crate::error::WireError;
use crate::frame::body::read_lane;
use crate::limits::{REFUSAL_TEXT_BYTES_MAX, SOFTWARE_BYTES_MAX};
use crate::types::TransferId;
use crate::version::{Features, MAGIC, MAJOR};

/// The donor's first frame on every connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The donor's major version. When it is not ours the other fields are blank: only the magic
    /// and this number have their place for ever.
    pub major: u16,
    /// What the donor offers.
    pub features: Features,
    /// What the connection is for.
    pub scope: Scope,
    /// The donor's proof of the token for this connection and scope.
    pub proof: [u8; 32],
    /// Name and version, printable ASCII, for messages.
    pub software: String,
}

impl Hello {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        put_u16(out, self.major);
        put_u64(out, self.features.0);
        self.scope.encode(out);
        out.extend_from_slice(&self.proof);
        put_software(out, &self.software);
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let major = read_major(&mut reader)?;
        if major != MAJOR {
            return Ok(Self {
                major,
                features: Features::default(),
                scope: Scope::Control,
                proof: [0; 32],
                software: String::new(),
            });
        }
        let features = Features(reader.u64()?);
        let scope = match reader.u8()? {
            0 => Scope::Control,
            1 => {
                Scope::Lane { transfer: TransferId(reader.array()?), lane: read_lane(&mut reader)? }
            }
            _ => return Err(WireError::BadValue { what: "connection scope" }),
        };
        let proof = reader.array()?;
        let software = reader.ascii("software name", SOFTWARE_BYTES_MAX)?;
        reader.finish()?;
        Ok(Self { major, features, scope, proof, software })
    }
}

/// The joiner's answer to a [`Hello`] whose proof is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The joiner's major version; blank fields as in [`Hello::major`].
    pub major: u16,
    /// What is in force: offered by both.
    pub features: Features,
    /// The joiner's proof of the token for this connection and scope.
    pub proof: [u8; 32],
    /// The transfer; lanes name it.
    pub transfer: TransferId,
    /// Name and version, printable ASCII, for messages.
    pub software: String,
}

impl Welcome {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        put_u16(out, self.major);
        put_u64(out, self.features.0);
        out.extend_from_slice(&self.proof);
        out.extend_from_slice(&self.transfer.0);
        put_software(out, &self.software);
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let major = read_major(&mut reader)?;
        if major != MAJOR {
            return Ok(Self {
                major,
                features: Features::default(),
                proof: [0; 32],
                transfer: TransferId::default(),
                software: String::new(),
            });
        }
        let welcome = Self {
            major,
            features: Features(reader.u64()?),
            proof: reader.array()?,
            transfer: TransferId(reader.array()?),
            software: reader.ascii("software name", SOFTWARE_BYTES_MAX)?,
        };
        reader.finish()?;
        Ok(welcome)
    }
}

/// Why an end does not go on. Its bytes have their place for ever, too, so that an end of another
/// major version can show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Error code, as in the operations manual (E07 is 7).
    pub code: u16,
    /// One line for the operator at the other end.
    pub text: String,
}

impl Refusal {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, self.code);
        put_note(out, &self.text, REFUSAL_TEXT_BYTES_MAX, |c| !c.is_control());
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let code = reader.u16()?;
        let text = reader.text("refusal text", REFUSAL_TEXT_BYTES_MAX)?;
        if text.chars().any(char::is_control) {
            return Err(WireError::BadValue { what: "refusal text" });
        }
        Ok(Self { code, text })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E{:02} {}", self.code, self.text)
    }
}

fn put_software(out: &mut Vec<u8>, software: &str) {
    let allowed = |c: char| u8::try_from(c).is_ok_and(is_printable);
    put_note(out, software, SOFTWARE_BYTES_MAX, allowed);
}

fn read_major(reader: &mut Reader<'_>) -> Result<u16, WireError> {
    let magic: [u8; 4] = reader.array()?;
    if magic == MAGIC { reader.u16() } else { Err(WireError::BadMagic) }
}
