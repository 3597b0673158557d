//! What a transfer is: its declaration, the joiner's answer, and its end.

use alloc::string::String;
use alloc::vec::Vec;

use crate::codec::{Reader, check_len, is_printable, put_bytes, put_count, put_u16, put_u64};
use crate::error::WireError;
use crate::limits::{
    CAPTURE_BYTES_MAX, LANES_MAX, NAME_BYTES_MAX, POSITION_BYTES_MAX, PROPERTIES_MAX,
    PROPERTY_KEY_BYTES_MAX, PROPERTY_VALUE_BYTES_MAX, ROOTS_MAX,
};
use crate::root::RootHash;

/// Whether data follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeclKind {
    /// A whole data directory.
    Full,
    /// No data: the joiner's is good enough, and only the position is handed over.
    Bypass {
        /// Replication position, as the server printed it.
        position: Vec<u8>,
    },
    /// A whole data directory is compared with what the joiner has, and nothing is sent.
    Estimate,
}

/// The donor's declaration of what it is about to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// Whether data follows.
    pub kind: DeclKind,
    /// Names of the roots; a [`crate::RootIndex`] counts in this list. Invariant: unique, not
    /// empty, no slash and no control character.
    pub roots: Vec<String>,
    /// Facts about the server that the joiner compares with its own. Keys are printable ASCII and
    /// unique; values are any UTF-8 and must be escaped before they are shown.
    pub properties: Vec<(String, String)>,
    /// About how many bytes; 0 when unknown. For the space check and the progress bar.
    pub bytes_estimate: u64,
    /// About how many files; 0 when unknown.
    pub files_estimate: u64,
    /// Most lanes the donor wants; at least 1 unless a bypass.
    pub lanes: u16,
    /// Name of the capture, printable ASCII, for messages.
    pub capture: String,
}

impl Declaration {
    /// Whether only a position is handed over.
    #[must_use]
    pub fn is_bypass(&self) -> bool {
        matches!(self.kind, DeclKind::Bypass { .. })
    }

    /// Whether nothing is going to be sent.
    #[must_use]
    pub fn is_estimate(&self) -> bool {
        self.kind == DeclKind::Estimate
    }

    /// Checks limits and rules.
    ///
    /// Errors: the first rule that is broken.
    pub fn validate(&self) -> Result<(), WireError> {
        match &self.kind {
            DeclKind::Full | DeclKind::Estimate => check_lanes(self.lanes)?,
            DeclKind::Bypass { position } => {
                check_len("position", position.len(), POSITION_BYTES_MAX)?;
                check_len("lanes", usize::from(self.lanes), usize::from(LANES_MAX))?;
            }
        }
        check_len("roots", self.roots.len(), ROOTS_MAX)?;
        for (index, root) in self.roots.iter().enumerate() {
            check_len("root name", root.len(), NAME_BYTES_MAX)?;
            let plain = !root.is_empty() && !root.chars().any(|c| c == '/' || c.is_control());
            if !plain || self.roots.iter().take(index).any(|earlier| earlier == root) {
                return Err(WireError::BadValue { what: "root name" });
            }
        }
        check_len("properties", self.properties.len(), PROPERTIES_MAX)?;
        for (index, (key, value)) in self.properties.iter().enumerate() {
            check_len("property key", key.len(), PROPERTY_KEY_BYTES_MAX)?;
            check_len("property value", value.len(), PROPERTY_VALUE_BYTES_MAX)?;
            let plain = !key.is_empty() && key.bytes().all(is_printable);
            if !plain || self.properties.iter().take(index).any(|(earlier, _)| earlier == key) {
                return Err(WireError::BadValue { what: "property key" });
            }
        }
        check_len("capture name", self.capture.len(), CAPTURE_BYTES_MAX)?;
        if !self.capture.bytes().all(is_printable) {
            return Err(WireError::BadValue { what: "capture name" });
        }
        Ok(())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match &self.kind {
            DeclKind::Full => out.push(0),
            DeclKind::Bypass { position } => {
                out.push(1);
                put_bytes(out, position);
            }
            DeclKind::Estimate => out.push(2),
        }
        put_count(out, self.roots.len(), ROOTS_MAX);
        for root in &self.roots {
            put_bytes(out, root.as_bytes());
        }
        put_count(out, self.properties.len(), PROPERTIES_MAX);
        for (key, value) in &self.properties {
            put_bytes(out, key.as_bytes());
            put_bytes(out, value.as_bytes());
        }
        put_u64(out, self.bytes_estimate);
        put_u64(out, self.files_estimate);
        put_u16(out, self.lanes);
        put_bytes(out, self.capture.as_bytes());
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let kind = match reader.u8()? {
            0 => DeclKind::Full,
            1 => DeclKind::Bypass { position: read_position(reader)? },
            2 => DeclKind::Estimate,
            _ => return Err(WireError::BadValue { what: "declaration kind" }),
        };
        let count = reader.count("roots", ROOTS_MAX, 2)?;
        let mut roots = Vec::with_capacity(count);
        for _ in 0..count {
            roots.push(reader.text("root name", NAME_BYTES_MAX)?);
        }
        let count = reader.count("properties", PROPERTIES_MAX, 4)?;
        let mut properties = Vec::with_capacity(count);
        for _ in 0..count {
            let key = reader.text("property key", PROPERTY_KEY_BYTES_MAX)?;
            properties.push((key, reader.text("property value", PROPERTY_VALUE_BYTES_MAX)?));
        }
        let declaration = Self {
            kind,
            roots,
            properties,
            bytes_estimate: reader.u64()?,
            files_estimate: reader.u64()?,
            lanes: reader.u16()?,
            capture: reader.text("capture name", CAPTURE_BYTES_MAX)?,
        };
        declaration.validate()?;
        Ok(declaration)
    }
}

/// The joiner's consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// How many lanes there will be; 1 up to what the donor wants, 0 for a bypass or an estimate.
    pub lanes: u16,
}

impl Accept {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let lanes = reader.u16()?;
        check_len("lanes", usize::from(lanes), usize::from(LANES_MAX))?;
        Ok(Self { lanes })
    }
}

/// The donor has said everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// Hash of what the donor read.
    pub root_hash: RootHash,
    /// Replication position of the data, as the server printed it; empty outside a cluster.
    pub position: Vec<u8>,
    /// Entries that are not gone; as in the last `ManifestEnd`.
    pub entries: u64,
    /// Sum of their sizes; as in the last `ManifestEnd`. Unit: bytes.
    pub bytes: u64,
}

impl Finish {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.root_hash.0);
        put_bytes(out, &self.position);
        put_u64(out, self.entries);
        put_u64(out, self.bytes);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            root_hash: RootHash(reader.array()?),
            position: read_position(reader)?,
            entries: reader.u64()?,
            bytes: reader.u64()?,
        })
    }
}

fn read_position(reader: &mut Reader<'_>) -> Result<Vec<u8>, WireError> {
    reader.bytes("position", POSITION_BYTES_MAX).map(<[u8]>::to_vec)
}

fn check_lanes(lanes: u16) -> Result<(), WireError> {
    check_len("lanes", usize::from(lanes), usize::from(LANES_MAX))?;
    if lanes == 0 { Err(WireError::BadValue { what: "lanes" }) } else { Ok(()) }
}
