//! Evidence: what two people signed, as the gateway hands it over; and the GrantRecord that a host
//! keeps of every grant. Both can be checked again by anybody who pins the roster.

use serde::{Deserialize, Serialize};

use crate::UnixTime;
use crate::bytes::Bytes;
use crate::codec::{DecodeError, decode, decode_canonical, encode};
use crate::digest::{Digest, Domain};
use crate::ids::{GrantId, RequestId};
use crate::limits;
use crate::roster::RosterEnvelope;
use crate::signature::Signature;
use crate::statement::SignedStatement;

/// The only version of evidence and GrantRecord that exists.
pub const VERSION: u32 = 1;

/// The constant `"twinlock-evidence"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EvidenceFormat {
    /// The only value.
    #[serde(rename = "twinlock-evidence")]
    Evidence,
}

/// Everything that people said about one request. Field order is the encoding order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// `"twinlock-evidence"`.
    pub format: EvidenceFormat,
    /// [`VERSION`].
    pub version: u32,
    /// The request.
    pub request_digest: RequestId,
    /// Statements in the order in which they were given; every one is checked, and one denial
    /// refuses.
    pub statements: Vec<SignedStatement>,
    /// Roster versions above the request's, lowest first: the statements count under the last.
    pub rosters: Vec<RosterEnvelope>,
}

impl Evidence {
    /// The bytes that are digested and travel.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads evidence; verifies nothing.
    ///
    /// # Errors
    /// Over-long, malformed or not canonical input, another version, or too many statements.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let evidence: Self = decode_canonical("evidence", limits::EVIDENCE_BYTES, bytes)?;
        let invalid = |rule| Err(DecodeError::Invalid { what: "evidence", rule });
        if evidence.version != VERSION {
            return invalid("version is 1");
        }
        if evidence.statements.len() > limits::EVIDENCE_STATEMENTS {
            return invalid("there are at most 16 statements");
        }
        if evidence.rosters.len() > limits::ROSTER_STEPS {
            return invalid("there are at most 64 rosters");
        }
        Ok(evidence)
    }

    /// The digest of evidence bytes; the certificate carries it.
    #[must_use]
    pub fn digest_of(bytes: &[u8]) -> Digest {
        Digest::of(Domain::Evidence, bytes)
    }
}

/// A request with the two signatures that vouch for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRequest {
    /// The request's bytes.
    pub request: Bytes,
    /// The host key's signature over `"twinlock/request-host/v1\0" ‖ digest`.
    pub host_signature: Signature,
    /// The session key's signature over `"twinlock/request-session/v1\0" ‖ digest`.
    pub session_signature: Signature,
}

/// A start statement with the session key's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedStart {
    /// The statement's bytes.
    pub statement: Bytes,
    /// The session key's signature over `"twinlock/start/v1\0" ‖ statement`.
    pub signature: Signature,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The command ended by itself, and nothing of it was left.
    Finished,
    /// Its deadline came.
    Expired,
    /// An administrator revoked it.
    Revoked,
    /// The requester dropped it.
    Dropped,
    /// The reaper found it over when it started.
    FoundOver,
}

/// A process that was ended, or that had left its cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessNote {
    /// Its pid.
    pub pid: u32,
    /// Its name (`/proc/pid/comm`), control characters escaped.
    pub name: String,
}

/// How a session ended: the revocation evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndNote {
    /// Why.
    pub reason: EndReason,
    /// The host's wall clock when the last process of the cgroup was gone.
    pub ended_at: UnixTime,
    /// From the order or deadline to the last process gone, in milliseconds.
    pub took_ms: u64,
    /// Processes that were killed; at most [`limits::PROCESS_NOTES`].
    #[serde(deserialize_with = "few")]
    pub killed: Vec<ProcessNote>,
    /// Processes that had left the cgroup, as far as the reaper can tell (`containment_escaped`);
    /// as many.
    #[serde(deserialize_with = "few")]
    pub escaped: Vec<ProcessNote>,
    /// The command itself had ended before, and something of it lingered until now.
    pub lingered: bool,
}

/// A host names what it ended; it does not fill the gateway's disk with it.
fn few<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<ProcessNote>, D::Error> {
    let notes = Vec::<ProcessNote>::deserialize(deserializer)?;
    let fits =
        notes.len() <= limits::PROCESS_NOTES && notes.iter().all(|note| note.name.len() <= limits::PROCESS_NAME_BYTES);
    if fits { Ok(notes) } else { Err(serde::de::Error::custom("too many processes")) }
}

/// The constant `"twinlock-grant-record"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrantRecordFormat {
    /// The only value.
    #[serde(rename = "twinlock-grant-record")]
    GrantRecord,
}

/// What a grant rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authority {
    /// A gateway's certificate over two people's approvals.
    Certificate(Certified),
    /// Two people's offline answers.
    BreakGlass(BreakGlassGiven),
}

/// A certificate with the evidence that it binds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certified {
    /// The evidence's bytes.
    pub evidence: Bytes,
    /// The elevation certificate, DER.
    pub certificate: Bytes,
}

/// Offline answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassGiven {
    /// The bytes of [`BreakGlassEvidence`](crate::break_glass::BreakGlassEvidence).
    pub evidence: Bytes,
}

impl Authority {
    /// The bytes of a certificate's evidence and of the certificate.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certified> {
        match self {
            Self::Certificate(certified) => Some(certified),
            Self::BreakGlass(_) => None,
        }
    }

    /// Whether its parts are no longer than a verifier reads.
    #[must_use]
    pub fn fits(&self) -> bool {
        match self {
            Self::Certificate(Certified { evidence, certificate }) => {
                evidence.0.len() <= limits::EVIDENCE_BYTES && certificate.0.len() <= limits::CERTIFICATE_BYTES
            }
            Self::BreakGlass(given) => given.evidence.0.len() <= limits::STATEMENT_BYTES,
        }
    }
}

/// What the host keeps of a grant, on disk before the command runs (T5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantRecord {
    /// `"twinlock-grant-record"`.
    pub format: GrantRecordFormat,
    /// [`VERSION`].
    pub version: u32,
    /// The grant.
    pub grant: GrantId,
    /// The request, signed.
    pub request: SignedRequest,
    /// What allowed it.
    pub authority: Authority,
    /// The start, signed.
    pub start: SignedStart,
    /// How it ended; none while it runs.
    pub end: Option<EndNote>,
}

impl GrantRecord {
    /// The bytes that rest on disk.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a record; verifies nothing.
    ///
    /// # Errors
    /// Over-long or malformed input, or another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let record: Self = decode("grant record", limits::GRANT_RECORD_BYTES, bytes)?;
        if record.version != VERSION {
            return Err(DecodeError::Invalid { what: "grant record", rule: "version is 1" });
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_end_names_sixty_four_processes_and_short_names_at_most() {
        let end = |count: u32, name: &str| {
            let killed = (0..count).map(|pid| ProcessNote { pid, name: name.to_owned() }).collect();
            let (reason, ended_at) = (EndReason::Expired, UnixTime(1));
            encode(&EndNote { reason, ended_at, took_ms: 1, killed, escaped: Vec::new(), lingered: false })
        };
        let read = |bytes: Vec<u8>| decode::<EndNote>("end", limits::GRANT_RECORD_BYTES, &bytes);
        assert_eq!(read(end(64, "sleep")).unwrap().killed.len(), 64);
        assert!(read(end(65, "sleep")).is_err());
        assert!(read(end(1, &"x".repeat(512))).is_ok());
        assert!(read(end(1, &"x".repeat(513))).is_err());
    }
}
