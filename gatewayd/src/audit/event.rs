//! What the audit log can say: a closed enum. No variant holds a token, cookie, key or signature;
//! what people typed is escaped before it comes here.

use serde::{Deserialize, Serialize};
use twinlock_protocol::evidence::{EndReason, ProcessNote};
use twinlock_protocol::ids::{CertSerial, DeviceId, GrantId, HostId, PersonId};
use twinlock_protocol::roster::Assurance;
use twinlock_protocol::wire::agent::EndOrder;
use twinlock_protocol::{DenyReason, Digest, Fixed, UnixTime};

/// By which way an approver came to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The terminal's QR.
    Ticket,
    /// The inbox and the terminal's code.
    Inbox,
}

/// Why a request was withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Withdrawal {
    /// The requester gave up.
    Cancelled,
    /// The module closed its connection.
    HungUp,
    /// The agent's link was away for longer than the grace.
    LinkLost,
    /// The gateway could not issue the certificate.
    IssueFailed,
    /// An administrator.
    Revoked,
    /// Under the newer roster it cannot be approved, or not by these.
    RosterChanged,
}

/// One thing that happened. The tag is the name in the log, in syslog and in queries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The gateway started.
    GatewayStarted { software: String, roster_version: u64, roster_digest: Digest },
    /// The database is not the one that ran here last: it was put back from a backup. What it held as
    /// open is void.
    DatabaseRestored { requests: u64, roster_version: u64 },
    /// A host pins a newer roster than this gateway has: the database is older than the host.
    HostAhead { host: HostId, roster: u64, head: u64 },
    /// A roster version that this gateway did not have, taken over from a host.
    RosterTakenOver { version: u64, digest: Digest, host: HostId },
    /// The gateway stopped in order.
    GatewayStopped {},
    /// A roster was pinned at init.
    RosterPinned { version: u64, digest: Digest },
    /// A person enrolled a device during the ceremony.
    DeviceEnrolled { person: PersonId, device: DeviceId, assurance: Assurance },
    /// A person signed the roster.
    RosterSigned { person: PersonId, digest: Digest },
    /// Somebody wants the roster changed.
    RosterProposed { proposal: Fixed<16>, by: String, title: String, version: u64 },
    /// A proposal was declined, or taken back.
    ProposalWithdrawn { proposal: Fixed<16>, by: String },
    /// Nobody signed a proposal in time.
    ProposalExpired { proposal: Fixed<16> },
    /// A proposal does not fit the roster any more.
    ProposalVoid { proposal: Fixed<16>, why: String },
    /// A signature to a proposal that did not verify or came out of turn.
    SignatureRefused { proposal: Fixed<16>, person: PersonId, reason: DenyReason },
    /// A new roster version: signed by these, with these differences to the one before.
    RosterSealed { version: u64, digest: Digest, previous: Digest, signers: Vec<PersonId>, changes: Vec<String> },
    /// A person was suspended.
    PersonSuspended { person: PersonId, by: Vec<PersonId> },
    /// A suspension was lifted.
    PersonLifted { person: PersonId, by: Vec<PersonId> },
    /// A link for somebody to enrol a device.
    InviteMade { invite: Fixed<16>, person: PersonId, by: String },
    /// Somebody opened it.
    InviteOpened { invite: Fixed<16>, person: PersonId, from: String },
    /// Somebody else opened it as well: one of the two is not who should have it.
    InviteContested { invite: Fixed<16>, person: PersonId, from: String },
    /// Somebody took it back.
    InviteCancelled { invite: Fixed<16>, person: PersonId, by: String },
    /// An enrolment was refused.
    EnrolmentRefused { person: PersonId, reason: DenyReason },
    /// A browser dropped its device key, made another and asks to have it restored.
    RestorationAsked { person: PersonId, device: DeviceId, from: String },
    /// A token for a host to join.
    HostTokenMade { token: Fixed<16>, host: HostId, by_uid: u32 },
    /// A host asks to join.
    HostJoining { token: Fixed<16>, host: HostId, address: String },
    /// Somebody who would join was refused.
    HostJoinRefused { address: String, reason: DenyReason },
    /// An approval does not count any more: its person, device or group is out.
    ApprovalVoided { grant: GrantId, person: PersonId, reason: DenyReason },
    /// A host's agent connected.
    AgentConnected { host: HostId, software: String, address: String },
    /// Its connection ended.
    AgentLost { host: HostId },
    /// Something on the agent listener was refused.
    AgentRefused { host: Option<HostId>, address: String, reason: DenyReason },
    /// A request was stored and waits.
    RequestAdmitted {
        request: Digest,
        grant: GrantId,
        host: HostId,
        requesters: Vec<PersonId>,
        target_user: String,
        service: String,
        command: String,
        reason: Option<String>,
        ttl_s: u32,
        approve_by: UnixTime,
    },
    /// A request was refused before it was stored.
    RequestRefused { host: HostId, request: Option<Digest>, reason: DenyReason },
    /// The link to a request's module is lost.
    RequestLinkLost { grant: GrantId },
    /// It is back.
    RequestResumed { grant: GrantId },
    /// A resume with a wrong token.
    ResumeRefused { grant: GrantId },
    /// An approver took a slot.
    Claimed { grant: GrantId, slot: u8, person: PersonId, device: DeviceId, way: Way, from: String },
    /// An approver was refused a slot.
    ClaimRefused { grant: Option<GrantId>, person: PersonId, reason: DenyReason, from: String },
    /// A wrong terminal code.
    CodeWrong { grant: GrantId, person: PersonId, tries_left: u32 },
    /// An approver gave a slot back.
    ClaimReleased { grant: GrantId, slot: u8, person: PersonId },
    /// A claim's time ran out.
    ClaimLapsed { grant: GrantId, slot: u8, person: PersonId },
    /// A verified approval.
    ApprovalGiven {
        grant: GrantId,
        slot: u8,
        person: PersonId,
        device: DeviceId,
        assurance: Assurance,
        way: Way,
        ttl_s: u32,
        statement: Digest,
    },
    /// A verified denial.
    DenialGiven { grant: GrantId, person: PersonId, device: DeviceId, reason: Option<String>, statement: Digest },
    /// An answer that did not verify or came out of turn.
    AnswerRefused { grant: Option<GrantId>, person: PersonId, reason: DenyReason },
    /// A request was given up.
    RequestWithdrawn { grant: GrantId, why: Withdrawal },
    /// Approve-by passed.
    RequestExpired { grant: GrantId },
    /// A certificate was issued.
    CertificateIssued {
        grant: GrantId,
        serial: CertSerial,
        not_after: UnixTime,
        ttl_s: u32,
        approvers: Vec<PersonId>,
        evidence: Digest,
    },
    /// A certificate could not be issued.
    IssueFailed { grant: GrantId, reason: DenyReason },
    /// A certificate went onto the revocation list.
    CertificateRevoked { grant: GrantId, serial: CertSerial, why: RevokedBecause },
    /// A new revocation list.
    CrlIssued { number: u64, entries: u64 },
    /// A host reported a session's start.
    SessionStarted { grant: GrantId, serial: CertSerial, pid: u32, started_at: UnixTime, record: Digest },
    /// A host reported a session that two people opened offline, while no gateway could be reached.
    BreakGlassUsed {
        grant: GrantId,
        host: HostId,
        requesters: Vec<PersonId>,
        holders: Vec<PersonId>,
        target_user: String,
        command: String,
        ttl_s: u32,
        started_at: UnixTime,
        record: Digest,
    },
    /// Somebody who took no part looked into it.
    BreakGlassReviewed { grant: GrantId, person: PersonId },
    /// A review that was not taken.
    BreakGlassReviewRefused { grant: GrantId, reason: DenyReason },
    /// A host reported something that is not ours.
    ReportRefused { host: HostId, grant: GrantId, reason: DenyReason },
    /// A host was handed a grant or a denial that does not verify, by us or in our name.
    EvidenceRefused { host: HostId, grant: GrantId, reason: DenyReason },
    /// The command ended, something of it runs.
    SessionLingering { grant: GrantId, processes: u32 },
    /// The gateway orders a session's end.
    EndOrdered { grant: GrantId, order: EndOrder },
    /// A host reported a session's end: the revocation evidence.
    SessionEnded {
        grant: GrantId,
        reason: EndReason,
        ended_at: UnixTime,
        took_ms: u64,
        killed: u64,
        escaped: Vec<ProcessNote>,
        /// Processes that left it, beyond those named.
        #[serde(default, skip_serializing_if = "is_none")]
        escaped_more: u64,
        lingered: bool,
    },
    /// A host never reported a session's end: a day after the certificate's, it counts as over.
    SessionUnreported { grant: GrantId },
    /// A grant that no session used is over.
    GrantUnused { grant: GrantId },
    /// An administrator's order over the admin socket.
    AdminRevoked { grant: GrantId, by_uid: u32 },
    /// An approver signed in.
    SignedIn { person: PersonId, device: DeviceId, assurance: Assurance, from: String },
    /// A sign-in did not verify.
    SignInRefused { reason: DenyReason, from: String },
    /// An approver signed out.
    SignedOut { person: PersonId, device: DeviceId },
    /// Somebody reached a limit.
    LimitReached { limit: LimitName, who: String },
    /// A call that our page did not make.
    CrossSiteRefused { path: String, from: String },
}

/// Why a certificate was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokedBecause {
    /// Its session ended.
    SessionEnded,
    /// It is past its end.
    Expired,
    /// An administrator.
    Revoked,
    /// An approver denied after the issue.
    Denied,
    /// The requester gave up after the issue.
    Withdrawn,
    /// Under the newer roster it would not have been granted.
    RosterChanged,
}

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitName {
    /// New requests of a person on a host.
    RequestsPerPerson,
    /// New requests of a host.
    RequestsPerHost,
    /// Connections of a host's agent.
    ConnectsPerHost,
    /// Calls of a source address.
    CallsPerAddress,
    /// Claims and answers of an approver.
    CallsPerApprover,
    /// Waiting requests of a person on a host.
    PendingPerPerson,
    /// Waiting requests of a host.
    PendingPerHost,
    /// Resumes of a request.
    ResumesPerRequest,
    /// Waiting requests.
    Pending,
}

fn is_none(more: &u64) -> bool {
    *more == 0
}

impl Event {
    /// The event's name: its tag.
    #[must_use]
    pub fn name(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        value.get("event").and_then(|name| name.as_str()).unwrap_or("unknown").to_owned()
    }

    /// Whether it tells of what no honest part of Twinlock does: evidence that does not verify, a
    /// host's report that does not fit ours, a process that left its session.
    #[must_use]
    pub fn is_alarm(&self) -> bool {
        match self {
            Self::AgentRefused { reason, .. }
            | Self::RequestRefused { reason, .. }
            | Self::ClaimRefused { reason, .. }
            | Self::AnswerRefused { reason, .. }
            | Self::SignInRefused { reason, .. }
            | Self::IssueFailed { reason, .. }
            | Self::SignatureRefused { reason, .. }
            | Self::EnrolmentRefused { reason, .. }
            | Self::HostJoinRefused { reason, .. } => reason.row().attack,
            // E1: two people opened one person's link.
            Self::InviteContested { .. } => true,
            // V5: a session that this gateway did not grant, or not like this.
            Self::ReportRefused { .. } | Self::ResumeRefused { .. } | Self::CrossSiteRefused { .. } => true,
            // B5: everybody should know.
            Self::BreakGlassUsed { .. } => true,
            // G3: the log goes on from yesterday, whoever did that; hosts remember more than this gateway.
            Self::DatabaseRestored { .. } | Self::HostAhead { .. } => true,
            // V1: two people did not sign this, and somebody said they did.
            Self::EvidenceRefused { .. } => true,
            Self::CodeWrong { tries_left, .. } => *tries_left == 0,
            Self::SessionEnded { escaped, .. } => !escaped.is_empty(),
            // The ordinary course of things.
            _ => false,
        }
    }
}
