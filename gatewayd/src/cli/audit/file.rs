//! The evidence file: everything that shows one grant, in one JSON document that needs nothing else
//! but a roster digest from a trusted place. Reading it verifies nothing.

use serde::{Deserialize, Serialize};
use twinlock_protocol::codec::{DecodeError, decode};
use twinlock_protocol::evidence::{EndNote, GrantRecord, SignedRequest};
use twinlock_protocol::ids::GrantId;
use twinlock_protocol::limits;
use twinlock_protocol::roster::RosterEnvelope;
use twinlock_protocol::statement::SignedStatement;

/// The only version that exists.
pub const VERSION: u32 = 1;
/// The longest file, in bytes: a whole chain of the largest rosters, and a record.
pub const FILE_BYTES: usize =
    (limits::ROSTER_STEPS + 1) * limits::ROSTER_ENVELOPE_BYTES + 2 * limits::GRANT_RECORD_BYTES;

/// The constant `"twinlock-evidence-file"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EvidenceFileFormat {
    /// The only value.
    #[serde(rename = "twinlock-evidence-file")]
    EvidenceFile,
}

/// One grant, or a request that became none, with every signature about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceFile {
    /// `"twinlock-evidence-file"`.
    pub format: EvidenceFileFormat,
    /// [`VERSION`].
    pub version: u32,
    /// The grant.
    pub grant: GrantId,
    /// Roster versions from 1 to the newest that anything here was decided under.
    pub rosters: Vec<RosterEnvelope>,
    /// The request and its signatures.
    pub request: SignedRequest,
    /// Every statement that the gateway holds about it, oldest first.
    pub statements: Vec<SignedStatement>,
    /// The host's GrantRecord, when a session started.
    pub record: Option<GrantRecord>,
    /// How the session ended; signed by nobody.
    pub ended: Option<EndNote>,
}

impl EvidenceFile {
    /// The file's bytes: JSON, one line.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = twinlock_protocol::codec::encode(self);
        bytes.push(b'\n');
        bytes
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Over-long or malformed input, or another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let file: Self = decode("evidence file", FILE_BYTES, bytes)?;
        if file.version != VERSION {
            return Err(DecodeError::Invalid { what: "evidence file", rule: "version is 1" });
        }
        Ok(file)
    }
}
