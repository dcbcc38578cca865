//! The report's figures, from rows of the audit log, a window and the roster's approvers. Pure:
//! time arrives as an argument. A request counts in the window in which it was admitted, with
//! everything that became of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use twinlock_protocol::evidence::{EndReason, ProcessNote};
use twinlock_protocol::ids::{GrantId, HostId, PersonId};
use twinlock_protocol::{DenyReason, Digest, UnixTime};

use crate::audit::{AuditRow, Event, Withdrawal};
use crate::cli::audit::chain::Chain;

/// A host that has reported nothing so long after the certificate's end, in seconds, is told of.
const REPORT_GRACE_S: u64 = 600;

/// What is reported on.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Requests admitted from here on ...
    pub since: UnixTime,
    /// ... to here, which is now.
    pub until: UnixTime,
    /// Approvers whose last answer is before this are listed.
    pub unused_since: UnixTime,
}

/// Somebody who can approve under the newest roster.
#[derive(Clone, Debug)]
pub struct Approver {
    /// Who.
    pub person: PersonId,
    /// As people know them.
    pub name: String,
    /// When a roster first gave them a device.
    pub since: UnixTime,
}

/// A request in the window.
#[derive(Debug)]
pub struct Case {
    pub admitted_at: UnixTime,
    pub requesters: Vec<PersonId>,
    pub host: Option<HostId>,
    pub target: String,
    pub command: String,
    pub approvers: Option<Vec<PersonId>>,
    pub not_after: UnixTime,
    pub started: Option<(UnixTime, Digest)>,
    pub ended: Option<(UnixTime, EndReason)>,
    denied: Option<(UnixTime, PersonId, Option<String>)>,
    revoked: Option<(UnixTime, By)>,
    lingering: Option<(UnixTime, u32)>,
    lingered: bool,
    escaped: Vec<ProcessNote>,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing else was said.
    Open,
    Expired,
    Withdrawn,
}

#[derive(Clone, Copy, Debug)]
enum By {
    Administrator(u32),
    Order,
}

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

/// Everybody who can approve behind some gate of the newest roster.
#[must_use]
pub fn approvers(chain: &Chain) -> Vec<Approver> {
    let head = chain.head().roster();
    let able: BTreeSet<&PersonId> =
        head.rules.gates.iter().flat_map(|gate| head.eligible(gate, &[])).map(|person| &person.id).collect();
    let since = |id: &PersonId| {
        let first = chain
            .links()
            .iter()
            .map(|link| link.roster.roster())
            .find(|roster| roster.person(id).is_some_and(|person| !person.devices.is_empty()));
        first.map_or(head.issued_at, |roster| roster.issued_at)
    };
    let known = head.persons.iter().filter(|person| able.contains(&person.id));
    known
        .map(|person| Approver { person: person.id.clone(), name: person.name.clone(), since: since(&person.id) })
        .collect()
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

/// Counts.
#[must_use]
pub fn count(rows: &[AuditRow], window: Window, people: &[Approver]) -> Report {
    let inside = |at: UnixTime| (window.since..=window.until).contains(&at);
    let mut attacks = Attacks::default();
    let (mut answered, mut reported) = (BTreeMap::new(), BTreeMap::new());
    let mut unread_rows = 0;
    for row in rows {
        let at = at(row);
        match serde_json::from_str::<Event>(&row.event) {
            Ok(event) => {
                if inside(at) {
                    attacks.tell(at, &event);
                    refused_reports(&mut reported, at, &event);
                }
                if let Some(person) = answers(&event) {
                    answered.insert(person.clone(), at);
                }
            }
            Err(_) => unread_rows += 1,
        }
    }
    let mut cases = cases(rows);
    cases.retain(|_, case| inside(case.admitted_at));
    let mut mismatches: Vec<MismatchLine> = reported.into_values().collect();
    mismatches.extend(unfinished(&cases, window.until));
    Report {
        since: window.since,
        until: window.until,
        log_begins: rows.first().map(at),
        unread_rows,
        totals: totals(cases.values()),
        requesters: by(&cases, requester)
            .into_iter()
            .map(|(requester, totals)| RequesterLine { requester, totals })
            .collect(),
        pairs: pairs(&cases),
        targets: by(&cases, |case| (case.target.clone(), host(case)))
            .into_iter()
            .map(|((target, host), totals)| TargetLine { target, host, totals })
            .collect(),
        denied: denied(&cases),
        revoked: revoked(&cases),
        lingering: lingering(&cases),
        attacks: attacks.lines(),
        mismatches,
        unused: unused(people, &answered, window.unused_since),
    }
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

fn grant_of(event: &Event) -> Option<GrantId> {
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

/// Whose answer an event tells of.
fn answers(event: &Event) -> Option<&PersonId> {
    match event {
        Event::ApprovalGiven { person, .. }
        | Event::DenialGiven { person, .. }
        | Event::RosterSigned { person, .. } => Some(person),
        _ => None,
    }
}

fn requester(case: &Case) -> String {
    let names: Vec<&str> = case.requesters.iter().map(PersonId::as_str).collect();
    names.join(",")
}

fn host(case: &Case) -> String {
    case.host.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn totals<'a>(cases: impl IntoIterator<Item = &'a Case>) -> Totals {
    let mut totals = Totals::default();
    for case in cases {
        totals.asked += 1;
        totals.granted += u64::from(case.approvers.is_some());
        totals.denied += u64::from(case.denied.is_some());
        totals.expired += u64::from(case.outcome == Outcome::Expired);
        totals.withdrawn += u64::from(case.outcome == Outcome::Withdrawn);
        totals.revoked += u64::from(case.revoked.is_some());
        if let (Some((started, _)), Some((ended, _))) = (&case.started, &case.ended) {
            totals.elevated_s += ended.since(*started);
        }
    }
    totals
}

/// Figures by some key, most grants first, then most requests, then by key.
fn by<K: Ord + Clone>(cases: &BTreeMap<GrantId, Case>, key: impl Fn(&Case) -> K) -> Vec<(K, Totals)> {
    let mut groups: BTreeMap<K, Vec<&Case>> = BTreeMap::new();
    for case in cases.values() {
        groups.entry(key(case)).or_default().push(case);
    }
    let mut lines: Vec<(K, Totals)> = groups.into_iter().map(|(key, cases)| (key, totals(cases))).collect();
    lines.sort_by_key(|(_, totals)| std::cmp::Reverse((totals.granted, totals.asked)));
    lines
}

fn pairs(cases: &BTreeMap<GrantId, Case>) -> Vec<PairLine> {
    let mut pairs: BTreeMap<Vec<PersonId>, Vec<&Case>> = BTreeMap::new();
    for case in cases.values() {
        if let Some(approvers) = &case.approvers {
            let mut pair = approvers.clone();
            pair.sort();
            pairs.entry(pair).or_default().push(case);
        }
    }
    let line = |(approvers, cases): (Vec<PersonId>, Vec<&Case>)| PairLine {
        approvers,
        granted: cases.len() as u64,
        requesters: cases.iter().map(|case| requester(case)).collect::<BTreeSet<_>>().len() as u64,
        last: cases.iter().map(|case| case.admitted_at).max().unwrap_or(UnixTime(0)),
    };
    let mut lines: Vec<PairLine> = pairs.into_iter().map(line).collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.granted));
    lines
}

fn denied(cases: &BTreeMap<GrantId, Case>) -> Vec<DeniedLine> {
    let line = |(grant, case): (&GrantId, &Case)| {
        let (at, person, reason) = case.denied.clone()?;
        let (requester, command) = (requester(case), case.command.clone());
        Some(DeniedLine { at, grant: *grant, person, requester, command, reason })
    };
    let mut lines: Vec<DeniedLine> = cases.iter().filter_map(line).collect();
    lines.sort_by_key(|line| line.at);
    lines
}

fn revoked(cases: &BTreeMap<GrantId, Case>) -> Vec<RevokedLine> {
    let line = |(grant, case): (&GrantId, &Case)| {
        let (at, by) = case.revoked?;
        let by_uid = match by {
            By::Administrator(uid) => Some(uid),
            By::Order => None,
        };
        Some(RevokedLine { at, grant: *grant, requester: requester(case), command: case.command.clone(), by_uid })
    };
    let mut lines: Vec<RevokedLine> = cases.iter().filter_map(line).collect();
    lines.sort_by_key(|line| line.at);
    lines
}

fn lingering(cases: &BTreeMap<GrantId, Case>) -> Vec<LingeringLine> {
    let line = |(grant, case): (&GrantId, &Case)| {
        if case.lingering.is_none() && !case.lingered && case.escaped.is_empty() {
            return None;
        }
        let ended = case.ended.map(|(at, _)| at);
        Some(LingeringLine {
            at: case.lingering.map(|(at, _)| at).or(ended).unwrap_or(case.admitted_at),
            grant: *grant,
            host: host(case),
            command: case.command.clone(),
            processes: case.lingering.map(|(_, processes)| processes),
            escaped: case.escaped.clone(),
            still: ended.is_none(),
        })
    };
    let mut lines: Vec<LingeringLine> = cases.iter().filter_map(line).collect();
    lines.sort_by_key(|line| line.at);
    lines
}

/// V5: reports of hosts that the gateway refused, one line per host and grant. The host repeats them
/// whenever it connects.
fn refused_reports(lines: &mut BTreeMap<(HostId, GrantId), MismatchLine>, at: UnixTime, event: &Event) {
    if let Event::ReportRefused { host, grant, reason } = event {
        let what = match reason {
            DenyReason::NotFound => Mismatch::NeverIssued,
            _ => Mismatch::OtherThanIssued,
        };
        let detail = reason.row().line.to_owned();
        let line = MismatchLine { what, at, grant: *grant, host: Some(host.clone()), detail };
        lines.entry((host.clone(), *grant)).or_insert(line);
    }
}

/// V5, the other way round: granted, and the host says nothing.
fn unfinished(cases: &BTreeMap<GrantId, Case>, now: UnixTime) -> Vec<MismatchLine> {
    let line = |(grant, case): (&GrantId, &Case)| {
        case.approvers.as_ref()?;
        if now <= case.not_after.plus(REPORT_GRACE_S) {
            return None;
        }
        let stopped = case.denied.is_some() || case.revoked.is_some() || case.outcome != Outcome::Open;
        let what = match (&case.started, &case.ended) {
            (None, None) if !stopped => Mismatch::NeverStarted,
            (Some(_), None) => Mismatch::NoEnd,
            _ => return None,
        };
        let (at, host, detail) = (case.admitted_at, case.host.clone(), case.command.clone());
        Some(MismatchLine { what, at, grant: *grant, host, detail })
    };
    let mut lines: Vec<MismatchLine> = cases.iter().filter_map(line).collect();
    lines.sort_by_key(|line| line.at);
    lines
}

fn unused(people: &[Approver], answered: &BTreeMap<PersonId, UnixTime>, since: UnixTime) -> Vec<UnusedLine> {
    let is_unused = |one: &&Approver| {
        // Who has been an approver for less than that has had no time to be unused.
        answered.get(&one.person).is_none_or(|last| *last < since) && one.since < since
    };
    let line = |one: &Approver| UnusedLine {
        person: one.person.clone(),
        name: one.name.clone(),
        last: answered.get(&one.person).copied(),
    };
    people.iter().filter(is_unused).map(line).collect()
}

/// Alarms, grouped.
#[derive(Default)]
struct Attacks(BTreeMap<(String, String, Option<&'static str>), AttackLine>);

impl Attacks {
    fn tell(&mut self, at: UnixTime, event: &Event) {
        // Those two have sections of their own.
        if !event.is_alarm() || matches!(event, Event::ReportRefused { .. } | Event::SessionEnded { .. }) {
            return;
        }
        let (name, from, reason) = (event.name(), origin(event), reason_of(event));
        let key = (name.clone(), from.clone(), reason.map(|reason| reason.row().name));
        let grant = grant_of(event);
        let line =
            self.0.entry(key).or_insert(AttackLine { event: name, from, reason, count: 0, first: at, last: at, grant });
        line.count += 1;
        line.last = at;
    }

    fn lines(self) -> Vec<AttackLine> {
        let mut lines: Vec<AttackLine> = self.0.into_values().collect();
        lines.sort_by_key(|line| line.first);
        lines
    }
}

/// Where an alarm came from, as far as the log knows.
fn origin(event: &Event) -> String {
    match event {
        Event::AgentRefused { host, address, .. } => match host {
            Some(host) => format!("host {host}"),
            None => format!("address {address}"),
        },
        Event::RequestRefused { host, .. } | Event::EvidenceRefused { host, .. } => format!("host {host}"),
        Event::ClaimRefused { person, .. } | Event::AnswerRefused { person, .. } | Event::CodeWrong { person, .. } => {
            format!("person {person}")
        }
        Event::SignInRefused { from, .. } | Event::CrossSiteRefused { from, .. } => format!("address {from}"),
        _ => "unknown".to_owned(),
    }
}

fn reason_of(event: &Event) -> Option<DenyReason> {
    match event {
        Event::AgentRefused { reason, .. }
        | Event::RequestRefused { reason, .. }
        | Event::ClaimRefused { reason, .. }
        | Event::AnswerRefused { reason, .. }
        | Event::SignInRefused { reason, .. }
        | Event::EvidenceRefused { reason, .. }
        | Event::IssueFailed { reason, .. } => Some(*reason),
        _ => None,
    }
}
