//! What no honest part of Twinlock does, grouped by kind, origin and reason.

use std::collections::BTreeMap;

use twinlock_protocol::{DenyReason, UnixTime};

use super::case::grant_of;
use super::lines::AttackLine;
use crate::audit::Event;

/// Alarms, grouped.
#[derive(Default)]
pub struct Attacks(BTreeMap<(String, String, Option<&'static str>), AttackLine>);

impl Attacks {
    /// Counts an event in, if it is an alarm.
    pub fn tell(&mut self, at: UnixTime, event: &Event) {
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

    /// One line per kind, origin and reason, in their order.
    pub fn lines(self) -> Vec<AttackLine> {
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
        Event::DatabaseRestored { .. } => "this gateway".to_owned(),
        Event::RequestRefused { host, .. } | Event::EvidenceRefused { host, .. } | Event::HostAhead { host, .. } => {
            format!("host {host}")
        }
        Event::ClaimRefused { person, .. }
        | Event::AnswerRefused { person, .. }
        | Event::CodeWrong { person, .. }
        | Event::SignatureRefused { person, .. }
        | Event::EnrolmentRefused { person, .. } => format!("person {person}"),
        Event::InviteContested { person, from, .. } => format!("invite of {person}, from {from}"),
        Event::HostJoinRefused { address, .. } => format!("address {address}"),
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
        | Event::IssueFailed { reason, .. }
        | Event::EvidenceRefused { reason, .. }
        | Event::SignatureRefused { reason, .. }
        | Event::EnrolmentRefused { reason, .. }
        | Event::HostJoinRefused { reason, .. } => Some(*reason),
        _ => None,
    }
}
