//! What a person signs: an approval or denial of one request, a roster, or the possession of a new
//! device's keys. The page serialises a statement once; its bytes travel unchanged, and the WebAuthn
//! challenge and the device signature are made from them.

use serde::{Deserialize, Serialize};

use crate::UnixTime;
use crate::bytes::{Bytes, Fixed};
use crate::codec::{DecodeError, decode_canonical, encode};
use crate::digest::{Digest, Domain};
use crate::ids::{CertSerial, CredentialId, DeviceId, GrantId, PersonId, RequestId};
use crate::limits;
use crate::request::Scope;
use crate::signature::{PublicKey, Signature};

/// The only statement version that exists.
pub const VERSION: u32 = 1;

/// Yes or no, signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[must_use]
pub enum Decision {
    /// The person approves exactly this request.
    Approve,
    /// The person refuses it; final.
    Deny,
}

/// How the approver came to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// By a ticket from the terminal's QR; names its hash.
    Ticket(Digest),
    /// By the inbox, with the terminal's code typed.
    Inbox(InboxMark),
}

/// The empty value of [`Channel::Inbox`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InboxMark {}

/// `"approval"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApprovalKind {
    /// The only value.
    #[serde(rename = "approval")]
    Approval,
}

/// One person's answer to one request. Field order is the encoding order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalStatement {
    /// `"approval"`.
    pub kind: ApprovalKind,
    /// [`VERSION`].
    pub version: u32,
    /// The request that is answered.
    pub request_digest: RequestId,
    /// Yes or no.
    pub decision: Decision,
    /// Who answers.
    pub person: PersonId,
    /// With which passkey.
    pub credential_id: CredentialId,
    /// On which device.
    pub device_id: DeviceId,
    /// The longest life that this person grants, in seconds.
    pub ttl_s: u32,
    /// The widest scope that this person grants.
    pub scope: Scope,
    /// How the person came to the request.
    pub channel: Channel,
    /// 256 bits from the gateway's random source, so that no challenge repeats.
    pub gateway_salt: Fixed<32>,
    /// Why not, in the person's words; only with `deny`.
    pub deny_reason: Option<String>,
}

/// `"roster"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RosterKind {
    /// The only value.
    #[serde(rename = "roster")]
    Roster,
}

/// One person's signature to one roster. Field order is the encoding order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterStatement {
    /// `"roster"`.
    pub kind: RosterKind,
    /// [`VERSION`].
    pub version: u32,
    /// The roster's version.
    pub roster_version: u64,
    /// The roster's digest.
    pub roster_digest: Digest,
    /// Who signs.
    pub person: PersonId,
    /// With which passkey.
    pub credential_id: CredentialId,
    /// On which device.
    pub device_id: DeviceId,
    /// 256 bits from the gateway's random source.
    pub gateway_salt: Fixed<32>,
}

/// `"possession"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PossessionKind {
    /// The only value.
    #[serde(rename = "possession")]
    Possession,
}

/// A device's word that it holds the keys under which a roster is about to list it. Field order is
/// the encoding order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PossessionStatement {
    /// `"possession"`.
    pub kind: PossessionKind,
    /// [`VERSION`].
    pub version: u32,
    /// Whose device it is.
    pub person: PersonId,
    /// The device's record, exactly as it will stand in the roster
    /// ([`Device::record_digest`](crate::roster::Device::record_digest)).
    pub device: Digest,
    /// The device key that the roster before has beside this passkey, and this record takes the place
    /// of; none where that roster does not have the passkey, or has it alone. So nobody puts an older
    /// key back with what was signed for it then.
    pub replaces: Option<PublicKey>,
    /// The record's passkey.
    pub credential_id: CredentialId,
    /// The record's id.
    pub device_id: DeviceId,
    /// 256 bits from the gateway's random source.
    pub gateway_salt: Fixed<32>,
}

/// The parts of a WebAuthn assertion that a verifier needs, byte for byte as the browser gave them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// WebAuthn §6.1.
    pub authenticator_data: Bytes,
    /// WebAuthn §5.8.1, UTF-8 JSON.
    pub client_data_json: Bytes,
    /// ES256, DER.
    pub signature: Bytes,
}

/// A statement with the passkey's and the device key's signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedStatement {
    /// The statement's bytes.
    pub statement: Bytes,
    /// The passkey's assertion; its challenge is made from the statement.
    pub assertion: Assertion,
    /// The device key's `r ‖ s` over `tag ‖ SHA-256(statement)`; absent at assurance level D.
    pub device_signature: Option<Signature>,
}

/// Domain tags of one kind of statement.
#[derive(Clone, Copy, Debug)]
pub struct StatementDomains {
    /// For the WebAuthn challenge.
    pub challenge: Domain,
    /// For the device signature.
    pub device: Domain,
}

/// The tags of approvals and denials.
pub const APPROVAL_DOMAINS: StatementDomains = StatementDomains { challenge: Domain::Approval, device: Domain::Device };
/// The tags of roster signatures.
pub const ROSTER_DOMAINS: StatementDomains =
    StatementDomains { challenge: Domain::RosterApproval, device: Domain::RosterDevice };

/// The tags of possession statements.
pub const POSSESSION_DOMAINS: StatementDomains =
    StatementDomains { challenge: Domain::Possession, device: Domain::PossessionDevice };

impl StatementDomains {
    /// The WebAuthn challenge: `SHA-256(tag ‖ statement)`.
    #[must_use]
    pub fn challenge(self, statement: &[u8]) -> Digest {
        Digest::of(self.challenge, statement)
    }

    /// The message that the device key signs: `tag ‖ SHA-256(statement)`.
    #[must_use]
    pub fn device_message(self, statement: &[u8]) -> Vec<u8> {
        self.device.message(Digest::plain(statement).as_bytes())
    }
}

impl ApprovalStatement {
    /// The bytes that are signed and travel.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads and checks a statement.
    ///
    /// # Errors
    /// Over-long, malformed or not canonical input, or a broken rule.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let statement: Self = decode_canonical("statement", limits::STATEMENT_BYTES, bytes)?;
        let invalid = |rule| Err(DecodeError::Invalid { what: "statement", rule });
        if statement.version != VERSION {
            return invalid("version is 1");
        }
        if !(limits::MIN_TTL_S..=limits::MAX_TTL_S).contains(&statement.ttl_s) {
            return invalid("ttl_s is 1 to 3600");
        }
        if statement.deny_reason.as_deref().is_some_and(|reason| reason.len() > limits::REASON_BYTES) {
            return invalid("the reason has at most 400 bytes");
        }
        if statement.deny_reason.is_some() && statement.decision == Decision::Approve {
            return invalid("only a denial carries a deny_reason");
        }
        Ok(statement)
    }
}

impl RosterStatement {
    /// The bytes that are signed and travel.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads and checks a statement.
    ///
    /// # Errors
    /// Over-long, malformed or not canonical input, or another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let statement: Self = decode_canonical("roster statement", limits::STATEMENT_BYTES, bytes)?;
        if statement.version != VERSION {
            return Err(DecodeError::Invalid { what: "roster statement", rule: "version is 1" });
        }
        Ok(statement)
    }
}

impl PossessionStatement {
    /// The bytes that are signed and travel.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads and checks a statement.
    ///
    /// # Errors
    /// Over-long, malformed or not canonical input, or another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let statement: Self = decode_canonical("possession statement", limits::STATEMENT_BYTES, bytes)?;
        if statement.version != VERSION {
            return Err(DecodeError::Invalid { what: "possession statement", rule: "version is 1" });
        }
        Ok(statement)
    }
}

/// `"start"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartKind {
    /// The only value.
    #[serde(rename = "start")]
    Start,
}

/// The session key's word that the session started, once, in this process (T4). The module signs
/// `"twinlock/start/v1\0" ‖ bytes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartStatement {
    /// `"start"`.
    pub kind: StartKind,
    /// [`VERSION`].
    pub version: u32,
    /// The grant.
    pub grant: GrantId,
    /// The certificate under which it runs; none for break-glass.
    pub serial: Option<CertSerial>,
    /// The boot in which it runs.
    pub boot_id: String,
    /// The process of `open_session`: for `sudo -b` another one than the request's.
    pub pid: u32,
    /// Its start time in clock ticks since boot.
    pub start_time: u64,
    /// The target, as `open_session` saw it.
    pub target_user: String,
    /// The host's wall clock.
    pub started_at: UnixTime,
    /// When the session ends, in milliseconds of `CLOCK_BOOTTIME`.
    pub deadline_boot_ms: u64,
}

impl StartStatement {
    /// The bytes that are signed and travel.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a start statement.
    ///
    /// # Errors
    /// Over-long, malformed or not canonical input, or another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let statement: Self = decode_canonical("start statement", limits::STATEMENT_BYTES, bytes)?;
        if statement.version != VERSION {
            return Err(DecodeError::Invalid { what: "start statement", rule: "version is 1" });
        }
        Ok(statement)
    }
}
