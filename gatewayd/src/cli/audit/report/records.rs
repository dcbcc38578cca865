//! V5: every host is a witness. Holds the log against the GrantRecords that hosts kept: a gateway
//! that granted without a word in its log left its trace there. The records are claims as well and
//! are verified under the pinned roster; nothing outside the directory is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use twinlock_protocol::evidence::{Evidence, GrantRecord};
use twinlock_protocol::ids::{GrantId, HostId};
use twinlock_protocol::request::ElevationRequest;
use twinlock_protocol::statement::StartStatement;
use twinlock_protocol::{Digest, UnixTime, escape, limits};

use super::case::{Case, cases};
use super::count::Window;
use super::lines::{Mismatch, MismatchLine};
use crate::audit::AuditRow;
use crate::cli::audit::chain::Chain;
use crate::cli::audit::verify::{Claims, verify};
use crate::cli::{Failure, chain as causes, files};

/// What log and records do not agree on, for sessions that started in the window.
///
/// # Errors
/// A [`Failure`]: the directory or a file in it cannot be read.
pub fn compare(dir: &Path, rows: &[AuditRow], chain: &Chain, window: Window) -> Result<Vec<MismatchLine>, Failure> {
    let cases = cases(rows);
    let (mut lines, mut hosts, mut seen) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (grant, bytes) in read(dir)? {
        let _new = seen.insert(grant);
        let kept = Kept::read(grant, &bytes, chain);
        hosts.extend(kept.host.clone());
        if kept.started_at.is_some_and(|at| at < window.since || at > window.until) {
            continue;
        }
        lines.extend(kept.mismatch(cases.get(&grant)));
    }
    lines.extend(missing(&cases, &hosts, &seen, window));
    lines.sort_by_key(|line| line.at);
    Ok(lines)
}

/// The log tells of sessions on these hosts; whether each has its record.
fn missing(
    cases: &BTreeMap<GrantId, Case>,
    hosts: &BTreeSet<HostId>,
    seen: &BTreeSet<GrantId>,
    window: Window,
) -> Vec<MismatchLine> {
    let line = |(grant, case): (&GrantId, &Case)| {
        let (at, _) = case.started?;
        let host = case.host.clone().filter(|host| hosts.contains(host))?;
        let lost = (window.since..=window.until).contains(&at) && !seen.contains(grant);
        let detail = case.command.clone();
        lost.then_some(MismatchLine { what: Mismatch::NoRecord, at, grant: *grant, host: Some(host), detail })
    };
    cases.iter().filter_map(line).collect()
}

/// Files named `GRANT.json`.
fn read(dir: &Path) -> Result<Vec<(GrantId, Vec<u8>)>, Failure> {
    let failure = |error| Failure::plain(format!("cannot read {}: {error}", dir.display()));
    let mut records = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failure)? {
        let path = entry.map_err(failure)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(grant) = name.strip_suffix(".json").and_then(GrantId::from_text) else { continue };
        records.push((grant, files::read(&path, limits::GRANT_RECORD_BYTES as u64)?));
    }
    records.sort_by_key(|(grant, _)| *grant);
    Ok(records)
}

/// A record that a host kept.
struct Kept {
    grant: GrantId,
    host: Option<HostId>,
    started_at: Option<UnixTime>,
    /// Of the record as the host reports it at the start.
    digest: Option<Digest>,
    command: String,
    /// Why it does not verify.
    doubt: Option<String>,
}

impl Kept {
    fn read(grant: GrantId, bytes: &[u8], chain: &Chain) -> Self {
        let unread = |why: String| Self {
            grant,
            host: None,
            started_at: None,
            digest: None,
            command: String::new(),
            doubt: Some(why),
        };
        let record = match GrantRecord::from_bytes(bytes) {
            Ok(record) if record.grant == grant => record,
            Ok(_) => return unread("it is another grant's".to_owned()),
            Err(error) => return unread(causes(&error)),
        };
        let asked = ElevationRequest::from_bytes(&record.request.request.0).ok();
        let start = StartStatement::from_bytes(&record.start.statement.0).ok();
        let command =
            |asked: &ElevationRequest| escape::command(asked.argv.iter().map(|argument| argument.0.as_slice()));
        let at_start = GrantRecord { end: None, ..record.clone() };
        Self {
            grant,
            host: asked.as_ref().map(|asked| asked.host.clone()),
            started_at: start.map(|start| start.started_at),
            digest: Some(Digest::plain(&at_start.to_bytes())),
            command: asked.as_ref().map(command).unwrap_or_default(),
            doubt: doubt(&record, chain),
        }
    }

    fn mismatch(&self, case: Option<&Case>) -> Option<MismatchLine> {
        let logged = case.and_then(|case| case.started);
        let (what, detail) = match (&self.doubt, logged) {
            (Some(doubt), _) => (Mismatch::FalseRecord, doubt.clone()),
            (None, None) => (Mismatch::NotInLog, self.command.clone()),
            (None, Some((_, digest))) if Some(digest) != self.digest => (Mismatch::RecordDiffers, self.command.clone()),
            (None, Some(_)) => return None,
        };
        let at = self.started_at.unwrap_or(UnixTime(0));
        Some(MismatchLine { what, at, grant: self.grant, host: self.host.clone(), detail })
    }
}

/// Why a record does not verify, if it does not.
fn doubt(record: &GrantRecord, chain: &Chain) -> Option<String> {
    let statements = match record.authority.certificate().map(|given| Evidence::from_bytes(&given.evidence.0)) {
        Some(Ok(evidence)) => evidence.statements,
        Some(Err(error)) => return Some(causes(&error)),
        None => Vec::new(),
    };
    let claims =
        Claims { request: &record.request, statements: &statements, record: Some(record), ended: record.end.as_ref() };
    verify(chain, &claims).err().map(|doubt| causes(&doubt))
}
