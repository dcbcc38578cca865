//! A roster as it travels and rests. An envelope is a claim; the chain verifies it.

use serde::{Deserialize, Serialize};

use super::{Roster, RosterFormat};
use crate::bytes::Bytes;
use crate::codec::{DecodeError, encode};
use crate::digest::Digest;
use crate::limits;
use crate::statement::SignedStatement;

/// A roster as it travels and rests: its bytes, their digest, and who signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterEnvelope {
    /// `"twinlock-roster"`.
    pub format: RosterFormat,
    /// The roster's version, again, so that a reader can refuse before parsing.
    pub version: u64,
    /// `SHA-256("twinlock/roster/v1\0" ‖ bytes)`.
    pub digest: Digest,
    /// The roster's bytes.
    pub bytes: Bytes,
    /// Roster statements over `digest`.
    pub signatures: Vec<SignedStatement>,
    /// Possession statements of the devices that are new in this version; none in version 1, where
    /// every device signs the roster itself.
    pub possessions: Vec<SignedStatement>,
}

impl RosterEnvelope {
    /// Wraps a roster with its signatures; version 1 has no possession statements.
    #[must_use]
    pub fn new(roster: &Roster, signatures: Vec<SignedStatement>) -> Self {
        Self::with_possessions(roster, signatures, Vec::new())
    }

    /// Wraps a roster with its signatures and the possession statements of its new devices.
    #[must_use]
    pub fn with_possessions(
        roster: &Roster,
        signatures: Vec<SignedStatement>,
        possessions: Vec<SignedStatement>,
    ) -> Self {
        let bytes = roster.to_bytes();
        Self {
            format: RosterFormat::Roster,
            version: roster.version,
            digest: Roster::digest_of(&bytes),
            bytes: Bytes(bytes),
            signatures,
            possessions,
        }
    }

    /// The bytes that travel and rest.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads an envelope; verifies nothing.
    ///
    /// # Errors
    /// Over-long or malformed input.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        crate::codec::decode("roster envelope", limits::ROSTER_ENVELOPE_BYTES, bytes)
    }
}
