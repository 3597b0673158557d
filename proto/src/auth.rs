//! Proof that both ends know the token, bound to this very TLS connection.
//!
//! The TLS exporter differs for every connection, so a proof cannot be replayed on another one,
//! and a man in the middle (two connections, two exporters) cannot pass one on. The role is part
//! of the input, so a proof cannot be reflected to its sender.

use alloc::vec::Vec;
use core::fmt;

use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::codec;
use crate::secret::Secret;
use crate::types::{LaneId, TransferId};
use crate::version::{MAGIC, MAJOR};

/// Label of the TLS exporter whose output goes into the proofs.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-fastsst-1";

const KEY_CONTEXT: &str = "fastsst 1 token proof";

/// Output of the TLS exporter of one connection; the same at both ends.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Exporter(pub [u8; 32]);

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter([secret])")
    }
}

/// Which end made a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The end that sends the data directory; it opens the connections.
    Donor,
    /// The end that receives it.
    Joiner,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The control conversation, the first connection of a transfer.
    Control,
    /// A lane of a transfer that has begun.
    Lane {
        /// The transfer, as named in the control connection's `Welcome`.
        transfer: TransferId,
        /// Which lane.
        lane: LaneId,
    },
}

impl Scope {
    /// Appends the canonical bytes, which are those of the wire.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Control => out.push(0),
            Self::Lane { transfer, lane } => {
                out.push(1);
                out.extend_from_slice(&transfer.0);
                codec::put_u16(out, lane.0);
            }
        }
    }
}

/// Proof that the peer knows the token; only [`verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenPeer {
    role: Role,
    scope: Scope,
}

impl ProvenPeer {
    /// The role the peer proved.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// What the connection is for.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}

/// The peer does not know the token, or another connection lies in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the peer's token proof is wrong")]
pub struct WrongProof;

/// The proof one end sends to the other.
#[must_use]
pub fn proof(token: &Secret, exporter: &Exporter, role: Role, scope: &Scope) -> [u8; 32] {
    *keyed(token, exporter, role, scope).as_bytes()
}

/// Compares the proof of the peer, whose role is `role`, in constant time.
///
/// Errors: [`WrongProof`].
pub fn verify(
    token: &Secret,
    exporter: &Exporter,
    role: Role,
    scope: &Scope,
    given: &[u8; 32],
) -> Result<ProvenPeer, WrongProof> {
    let expected = keyed(token, exporter, role, scope);
    if bool::from(expected.as_bytes().ct_eq(given)) {
        Ok(ProvenPeer { role, scope: *scope })
    } else {
        Err(WrongProof)
    }
}

fn keyed(token: &Secret, exporter: &Exporter, role: Role, scope: &Scope) -> blake3::Hash {
    let mut key = blake3::derive_key(KEY_CONTEXT, token.expose());
    let mut input = Vec::with_capacity(64);
    input.extend_from_slice(&MAGIC);
    codec::put_u16(&mut input, MAJOR);
    input.push(match role {
        Role::Donor => 0,
        Role::Joiner => 1,
    });
    input.extend_from_slice(&exporter.0);
    scope.encode(&mut input);
    let hash = blake3::keyed_hash(&key, &input);
    key.zeroize();
    input.zeroize();
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_changes_the_proof() {
        let token = Secret::from_bytes([1; 16]);
        let exporter = Exporter([2; 32]);
        let lane = Scope::Lane { transfer: TransferId([3; 16]), lane: LaneId(0) };
        let next = Scope::Lane { transfer: TransferId([3; 16]), lane: LaneId(1) };
        let good = proof(&token, &exporter, Role::Donor, &lane);
        assert!(verify(&token, &exporter, Role::Donor, &lane, &good).is_ok());
        let others = [
            proof(&Secret::from_bytes([9; 16]), &exporter, Role::Donor, &lane),
            proof(&token, &Exporter([9; 32]), Role::Donor, &lane),
            proof(&token, &exporter, Role::Joiner, &lane),
            proof(&token, &exporter, Role::Donor, &Scope::Control),
            proof(&token, &exporter, Role::Donor, &next),
        ];
        for other in others {
            assert_eq!(verify(&token, &exporter, Role::Donor, &lane, &other), Err(WrongProof));
        }
    }
}
