//! Module ↔ agent (`agent.sock`, 0600 root), and, relayed unchanged inside
//! [`super::agent`] envelopes, module ↔ gateway. One connection is one request. Closing it cancels
//! the request; after a lost link the module reconnects and resumes. Before it makes a request, the
//! module may ask for rosters; the agent answers that itself.

use serde::{Deserialize, Serialize};

use crate::bytes::{Bytes, Fixed};
use crate::evidence::SignedRequest;
use crate::ids::{PersonId, RequestId, Ticket};
use crate::refusal::DenyReason;
use crate::statement::SignedStatement;

/// What the module says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleMessage {
    /// Before any request: which rosters are there above the pinned one? Answered by
    /// [`ModuleEvent::Rosters`]; never relayed.
    Rosters(AskRosters),
    /// The first frame: a new request.
    Submit(Submit),
    /// The first frame after a lost link: the same request goes on.
    Resume(Resume),
    /// The requester gave up. Closing the connection says the same.
    Cancel(Cancel),
    /// The first and only frame of a connection: what came back did not verify.
    Alarm(Alarm),
}

/// Asks for newer rosters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskRosters {
    /// [`super::WIRE_VERSION`].
    pub wire: u32,
    /// The version that the host pins.
    pub above: u64,
}

/// A new request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submit {
    /// [`super::WIRE_VERSION`].
    pub wire: u32,
    /// The request with its two signatures.
    pub signed: SignedRequest,
    /// 256 random bits that alone let somebody resume it.
    pub resume_token: Fixed<32>,
}

/// Picks a request up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// [`super::WIRE_VERSION`].
    pub wire: u32,
    /// The request.
    pub request: RequestId,
    /// Its token.
    pub resume_token: Fixed<32>,
}

/// Gives a request up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {}

/// What came back for a request did not verify: for the gateway's audit. The host's own system log
/// has it already; it is not kept for a gateway that cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    /// [`super::WIRE_VERSION`].
    pub wire: u32,
    /// The request.
    pub request: RequestId,
    /// The check that failed.
    pub reason: DenyReason,
}

/// What the module hears. Everything in it is a claim: only [`ModuleEvent::Granted`] and
/// [`ModuleEvent::Denied`] carry signatures, and the module verifies them itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleEvent {
    /// The request is stored and waits. Also the answer to a resume.
    Accepted(Accepted),
    /// Show this ticket, in place of the one before.
    Ticket(ShowTicket),
    /// Somebody scanned; no name is told before they answer.
    Claimed(Slot),
    /// Somebody approved. For display only.
    Approved(Approved),
    /// Somebody denied; signed. Final.
    Denied(Denied),
    /// The gateway or the agent refuses. Final.
    Refused(Refused),
    /// Two approved. Final: the module verifies and decides.
    Granted(Granted),
    /// The agent lost its gateway, or has it back. For display only.
    Link(Link),
    /// The answer to [`ModuleMessage::Rosters`].
    Rosters(Rosters),
}

/// The request waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// The request.
    pub request: RequestId,
    /// Persons who may approve.
    pub eligible: Vec<PersonId>,
    /// Persons who have approved.
    pub approved: Vec<PersonId>,
}

/// A ticket to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShowTicket {
    /// The approver that it is for: 1 or 2.
    pub slot: u8,
    /// The ticket.
    pub ticket: Ticket,
    /// For how long it can be scanned, in seconds.
    pub valid_s: u32,
}

/// One of the two approvals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// 1 or 2.
    pub slot: u8,
}

/// Who approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approved {
    /// 1 or 2.
    pub slot: u8,
    /// Who.
    pub person: PersonId,
}

/// A signed denial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denied {
    /// The denial.
    pub statement: SignedStatement,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Why.
    pub reason: DenyReason,
    /// When to try again, in seconds from now.
    pub retry_after_s: Option<u32>,
}

/// A grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Granted {
    /// The elevation certificate, DER.
    pub certificate: Bytes,
    /// The evidence's bytes.
    pub evidence: Bytes,
    /// The CA's current revocation list, DER.
    pub crl: Bytes,
}

/// Roster versions that the host may not have yet. Claims: whoever takes them follows the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rosters {
    /// The bytes of envelopes, lowest version first; at most
    /// [`ROSTER_STEPS`](crate::limits::ROSTER_STEPS) and together
    /// [`ROSTERS_BYTES`](crate::limits::ROSTERS_BYTES). Whoever took them all may ask for more.
    pub envelopes: Vec<Bytes>,
}

/// The agent's link to its gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Whether it stands.
    pub up: bool,
}
