//! What became of each request, gathered from the rows of the log.

use std::collections::BTreeMap;

use twinlock_protocol::evidence::{EndReason, ProcessNote};
use twinlock_protocol::ids::{GrantId, HostId, PersonId};
use twinlock_protocol::{Digest, UnixTime};

use crate::audit::{AuditRow, Event, Withdrawal};

/// A request in the window.
#[derive(Debug)]
pub struct Case {
    /// When it was admitted.
    pub admitted_at: UnixTime,
    /// Who asked.
    pub requesters: Vec<PersonId>,
    /// Where.
    pub host: Option<HostId>,
    /// As whom.
    pub target: String,
    /// For what, escaped.
    pub command: String,
    /// The two, once a certificate was issued.
    pub approvers: Option<Vec<PersonId>>,
    /// The certificate's end.
    pub not_after: UnixTime,
    /// When its session started, by the host's clock, and the digest of the host's record.
    pub started: Option<(UnixTime, Digest)>,
    /// When it ended, by the host's clock, and how.
    pub ended: Option<(UnixTime, EndReason)>,
    /// When, by whom and why it was denied.
    pub denied: Option<(UnixTime, PersonId, Option<String>)>,
    /// When and by whom it was revoked.
    pub revoked: Option<(UnixTime, By)>,
    /// Since when something outlives the command, and how many processes, as last told.
    pub lingering: Option<(UnixTime, u32)>,
    /// Something had outlived the command when it ended.
    pub lingered: bool,
    /// What had left its cgroup.
    pub escaped: Vec<ProcessNote>,
    /// How it went, if not by an answer.
    pub outcome: Outcome,
}

/// How a request went that nobody denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing else was said.
    Open,
    /// Nobody answered in time.
    Expired,
    /// Given up, or lost.
    Withdrawn,
}

/// Who revoked.
#[derive(Clone, Copy, Debug)]
pub enum By {
    /// With this uid, on the gateway.
    Administrator(u32),
    /// Of the gateway's own.
    Order,
}

/// When a row was written.
pub fn at(row: &AuditRow) -> UnixTime {
    UnixTime(row.at_ms / 1000)
}

/// Every request among the rows, by its grant.
pub fn cases(rows: &[AuditRow]) -> BTreeMap<GrantId, Case> {
    let mut cases = BTreeMap::new();
    for row in rows {
        if let Ok(event) = serde_json::from_str(&row.event) {
            tell(&mut cases, at(row), event);
        }
    }
    cases
}

fn tell(cases: &mut BTreeMap<GrantId, Case>, at: UnixTime, event: Event) {
    if let Event::RequestAdmitted { grant, host, requesters, target_user, command, .. } = event {
        let case = Case {
            admitted_at: at,
            requesters,
            host: Some(host),
            target: target_user,
            command,
            approvers: None,
            not_after: at,
            started: None,
            ended: None,
            denied: None,
            revoked: None,
            lingering: None,
            lingered: false,
            escaped: Vec::new(),
            outcome: Outcome::Open,
        };
        cases.insert(grant, case);
        return;
    }
    if let Event::BreakGlassUsed { grant, host, requesters, holders, target_user, command, ttl_s, started_at, record } =
        event
    {
        let case = Case {
            admitted_at: started_at,
            requesters,
            host: Some(host),
            target: target_user,
            command,
            approvers: Some(holders),
            not_after: started_at.plus(ttl_s.into()),
            started: Some((started_at, record)),
            ended: None,
            denied: None,
            revoked: None,
            lingering: None,
            lingered: false,
            escaped: Vec::new(),
            outcome: Outcome::Open,
        };
        cases.insert(grant, case);
        return;
    }
    let Some(case) = grant_of(&event).and_then(|grant| cases.get_mut(&grant)) else { return };
    match event {
        Event::CertificateIssued { approvers, not_after, .. } => {
            case.approvers = Some(approvers);
            case.not_after = not_after;
        }
        Event::DenialGiven { person, reason, .. } => case.denied = Some((at, person, reason)),
        Event::RequestExpired { .. } => case.outcome = Outcome::Expired,
        Event::RequestWithdrawn { why, .. } => {
            case.outcome = Outcome::Withdrawn;
            if why == Withdrawal::Revoked && case.revoked.is_none() {
                case.revoked = Some((at, By::Order));
            }
        }
        Event::AdminRevoked { by_uid, .. } => case.revoked = Some((at, By::Administrator(by_uid))),
        Event::SessionStarted { started_at, record, .. } => case.started = Some((started_at, record)),
        Event::SessionLingering { processes, .. } => {
            case.lingering = Some((case.lingering.map_or(at, |(first, _)| first), processes));
        }
        Event::SessionEnded { reason, ended_at, escaped, lingered, .. } => {
            case.ended = Some((ended_at, reason));
            case.lingered = lingered;
            case.escaped = escaped;
            if reason == EndReason::Revoked && case.revoked.is_none() {
                case.revoked = Some((at, By::Order));
            }
        }
        // What says nothing about how a request went.
        _ => {}
    }
}

/// The grant that an event is about, where it is about one.
pub fn grant_of(event: &Event) -> Option<GrantId> {
    match event {
        Event::CertificateIssued { grant, .. }
        | Event::DenialGiven { grant, .. }
        | Event::RequestExpired { grant }
        | Event::RequestWithdrawn { grant, .. }
        | Event::AdminRevoked { grant, .. }
        | Event::SessionStarted { grant, .. }
        | Event::SessionLingering { grant, .. }
        | Event::SessionEnded { grant, .. }
        | Event::ResumeRefused { grant }
        | Event::CodeWrong { grant, .. }
        | Event::IssueFailed { grant, .. }
        | Event::EvidenceRefused { grant, .. }
        | Event::ReportRefused { grant, .. } => Some(*grant),
        Event::ClaimRefused { grant, .. } | Event::AnswerRefused { grant, .. } => *grant,
        _ => None,
    }
}
