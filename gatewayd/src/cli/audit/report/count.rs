//! The report's figures, from rows of the audit log, a window and the roster's approvers. Pure:
//! time arrives as an argument. A request counts in the window in which it was admitted, with
//! everything that became of it.

use std::collections::{BTreeMap, BTreeSet};

use twinlock_protocol::ids::{GrantId, HostId, PersonId};
use twinlock_protocol::{DenyReason, UnixTime};

use super::alarms::Attacks;
use super::case::{By, Case, Outcome, at, cases};
use super::lines::{
    DeniedLine, LingeringLine, Mismatch, MismatchLine, PairLine, Report, RequesterLine, RevokedLine, TargetLine,
    Totals, UnusedLine,
};
use crate::audit::{AuditRow, Event};
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
