//! What a report says, line by line; serialised as it is for programs.

use serde::Serialize;
use twinlock_protocol::evidence::ProcessNote;
use twinlock_protocol::ids::{GrantId, HostId, PersonId};
use twinlock_protocol::{DenyReason, UnixTime};

/// The report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// From.
    pub since: UnixTime,
    /// To.
    pub until: UnixTime,
    /// The first row that was read; a log that begins later than the window cannot tell of before.
    pub log_begins: Option<UnixTime>,
    /// Rows that this version cannot read.
    pub unread_rows: u64,
    /// All requests together.
    pub totals: Totals,
    /// By requester, most grants first.
    pub requesters: Vec<RequesterLine>,
    /// By pair of approvers, most grants first.
    pub pairs: Vec<PairLine>,
    /// By target, most grants first.
    pub targets: Vec<TargetLine>,
    /// Denials.
    pub denied: Vec<DeniedLine>,
    /// Revocations.
    pub revoked: Vec<RevokedLine>,
    /// Sessions of which something outlived the command.
    pub lingering: Vec<LingeringLine>,
    /// Refused evidence and what else no honest part does, one line per kind and origin.
    pub attacks: Vec<AttackLine>,
    /// What log, hosts and certificates do not agree on.
    pub mismatches: Vec<MismatchLine>,
    /// Approvers who have not answered for long.
    pub unused: Vec<UnusedLine>,
}

/// Figures of some requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Requests that were admitted.
    pub asked: u64,
    /// That two people approved, and a certificate was issued for.
    pub granted: u64,
    /// Denied by an approver.
    pub denied: u64,
    /// That nobody answered in time.
    pub expired: u64,
    /// That the requester gave up, or lost.
    pub withdrawn: u64,
    /// Grants that an administrator ended.
    pub revoked: u64,
    /// Seconds under grants, by the hosts' clocks, of sessions that ended.
    pub elevated_s: u64,
}

/// One requester.
#[derive(Debug, Serialize)]
pub struct RequesterLine {
    /// Who; several when one request stood for several persons of the roster.
    pub requester: String,
    /// Their figures.
    #[serde(flatten)]
    pub totals: Totals,
}

/// One pair.
#[derive(Debug, Serialize)]
pub struct PairLine {
    /// The two, in the order of the alphabet.
    pub approvers: Vec<PersonId>,
    /// Grants of theirs.
    pub granted: u64,
    /// For how many different requesters.
    pub requesters: u64,
    /// The last one.
    pub last: UnixTime,
}

/// One target.
#[derive(Debug, Serialize)]
pub struct TargetLine {
    /// As whom.
    pub target: String,
    /// Where.
    pub host: String,
    /// Its figures.
    #[serde(flatten)]
    pub totals: Totals,
}

/// One denial.
#[derive(Debug, Serialize)]
pub struct DeniedLine {
    /// When.
    pub at: UnixTime,
    /// The grant that it did not become.
    pub grant: GrantId,
    /// By whom.
    pub person: PersonId,
    /// Who had asked.
    pub requester: String,
    /// For what, escaped.
    pub command: String,
    /// Why, escaped.
    pub reason: Option<String>,
}

/// One revocation.
#[derive(Debug, Serialize)]
pub struct RevokedLine {
    /// When.
    pub at: UnixTime,
    /// The grant.
    pub grant: GrantId,
    /// Whose.
    pub requester: String,
    /// For what, escaped.
    pub command: String,
    /// The administrator's uid on the gateway, when it was one.
    pub by_uid: Option<u32>,
}

/// One session that lingered.
#[derive(Debug, Serialize)]
pub struct LingeringLine {
    /// When it was first told.
    pub at: UnixTime,
    /// The grant.
    pub grant: GrantId,
    /// Where.
    pub host: String,
    /// For what, escaped.
    pub command: String,
    /// Processes that outlived the command, as last told.
    pub processes: Option<u32>,
    /// Processes that left the cgroup, by name and pid.
    pub escaped: Vec<ProcessNote>,
    /// It has not ended.
    pub still: bool,
}

/// One kind of attack from one origin.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct AttackLine {
    /// The event.
    pub event: String,
    /// From where: a host, a person, an address.
    pub from: String,
    /// Why it was refused.
    pub reason: Option<DenyReason>,
    /// How often.
    pub count: u64,
    /// First.
    pub first: UnixTime,
    /// Last.
    pub last: UnixTime,
    /// A grant that it was about.
    pub grant: Option<GrantId>,
}

/// What does not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mismatch {
    /// A host reports a session that this gateway never granted.
    NeverIssued,
    /// A host reports a session that differs from what this gateway granted.
    OtherThanIssued,
    /// A certificate was issued, and no session was ever reported.
    NeverStarted,
    /// A session is past its end, and no end was ever reported.
    NoEnd,
    /// A host holds a record that verifies, by two people, and the log has no word of it.
    NotInLog,
    /// A host holds a record that does not verify.
    FalseRecord,
    /// The log has another record than the host.
    RecordDiffers,
    /// The log tells of a session of which the host holds no record.
    NoRecord,
}

/// One mismatch.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct MismatchLine {
    /// What.
    pub what: Mismatch,
    /// When: of the event, the issue, or the session's start.
    pub at: UnixTime,
    /// The grant.
    pub grant: GrantId,
    /// The host, where it is known.
    pub host: Option<HostId>,
    /// More words, escaped.
    pub detail: String,
}

/// One approver.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct UnusedLine {
    /// Who.
    pub person: PersonId,
    /// As people know them.
    pub name: String,
    /// The last answer that the log was read for; none in all of it.
    pub last: Option<UnixTime>,
}
