//! `audit report --since 90d`: who was granted what by whom, what was refused, what looks like an
//! attack, what does not fit, and who has not approved for long. Counts what the gateway's log
//! says; `--records` holds the log against what hosts kept.

mod alarms;
mod case;
mod count;
mod lines;
mod page;
mod records;

use std::io::BufRead as _;
use std::path::{Path, PathBuf};

use clap::Args;
use twinlock_protocol::{Digest, UnixTime, limits};

use self::count::{Window, approvers};
use super::chain::Chain;
use super::{pin, rosters};
use crate::api::admin::AuditPart;
use crate::audit::{AuditRow, ChainError, verify_chain};
use crate::cli::Failure;
use crate::cli::admin::{self, AdminArgs};
use crate::cli::output::{json as print_json, line};
use crate::clock::{Clock, SystemClock};
use crate::enrol::seal::PIN_FILE;

/// Rows of a grant that began just before the window are read along, in seconds before it: the
/// longest wait and the longest life.
const MARGIN_S: u64 = (limits::MAX_APPROVE_BY_S + limits::MAX_TTL_S) as u64;
/// Rows of one call.
const PART: usize = 5000;

/// `twinlock audit report`.
#[derive(Args)]
pub struct ReportArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// How far back: 90d, 12h, 4w
    #[arg(long, default_value = "90d", value_name = "SPAN", value_parser = span)]
    since: u64,
    /// Approvers who have not answered for this long are listed
    #[arg(long, default_value = "90d", value_name = "SPAN", value_parser = span)]
    unused: u64,
    /// GrantRecords as a host keeps them (its /var/lib/twinlock/grants, or a copy): hold the log
    /// against them; may be given for several hosts
    #[arg(long, value_name = "DIR")]
    records: Vec<PathBuf>,
    /// The log's rows from a file of JSON lines (the gateway's json_lines, or audit list --json)
    /// instead of from the gateway
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The roster versions from an evidence file instead of from the gateway
    #[arg(long, value_name = "FILE")]
    rosters: Option<PathBuf>,
    /// The gateway's state, or a copy: the roster and its pin
    #[arg(long, default_value = "/var/lib/twinlock-gateway", value_name = "DIR")]
    state_dir: PathBuf,
    /// The digest of a roster version, from somewhere that is trusted more than this gateway
    #[arg(long, value_name = "DIGEST", allow_hyphen_values = true, value_parser = pin::parse)]
    pin: Option<Digest>,
}

/// A span in seconds.
fn span(text: &str) -> Result<u64, &'static str> {
    const WRONG: &str = "a span is a number and h, d or w: 12h, 90d, 4w";
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(WRONG)?;
    let unit = match unit {
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        _ => return Err(WRONG),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|span| *span > 0).ok_or(WRONG)
}

/// Reports.
///
/// # Errors
/// A [`Failure`]: no gateway, a log that was changed, no roster.
pub fn run(arguments: &ReportArgs) -> Result<(), Failure> {
    let until = SystemClock.now();
    let back = |span: u64| UnixTime(until.0.saturating_sub(span));
    let window = Window { since: back(arguments.since), until, unused_since: back(arguments.unused) };
    let chain =
        chain(arguments).map_err(|failure| failure.hint("run this as root on the gateway, or give its --state-dir"))?;
    let people = approvers(&chain);
    let from = window.since.min(window.unused_since);
    let from = UnixTime(from.0.saturating_sub(MARGIN_S));
    let rows = match &arguments.log {
        Some(path) => rows_of(path, from)?,
        None => rows_since(&arguments.admin.socket, from)?,
    };
    let mut report = count::count(&rows, window, &people);
    for dir in &arguments.records {
        let told = records::compare(dir, &rows, &chain, window)?;
        report.mismatches.extend(told);
    }
    if arguments.admin.json {
        print_json(&report);
    } else {
        page::lines(&report).iter().for_each(|text| line(text));
    }
    Ok(())
}

/// The chain: from a file, from the gateway, or, where the gateway is not asked, version 1 alone.
fn chain(arguments: &ReportArgs) -> Result<Chain, Failure> {
    let ReportArgs { admin, log, rosters: file, state_dir, pin, .. } = arguments;
    let pin = match pin {
        Some(pin) => *pin,
        None => pin::read(&state_dir.join(PIN_FILE))?,
    };
    let envelopes = match (file, log) {
        (Some(file), _) => rosters::of_file(file)?,
        (None, Some(_)) => vec![rosters::first(state_dir)?],
        (None, None) => rosters::all(state_dir, &admin.socket)?,
    };
    Ok(Chain::follow(&envelopes, &pin)?)
}

/// Every row since a moment, oldest first. The first one is found by halving: a log of years is not
/// read for a report of a week. A clock that was set back meanwhile moves that row, not the chain.
fn rows_since(socket: &Path, since: UnixTime) -> Result<Vec<AuditRow>, Failure> {
    let part = |after: u64, limit: usize| -> Result<Vec<AuditRow>, Failure> {
        let part: AuditPart = admin::get(socket, &format!("/v1/audit?after={after}&limit={limit}"))?;
        Ok(part.rows)
    };
    let start = first_since(since, |after| part(after, 1).map(|rows| rows.first().map(|row| row.at_ms)))?;
    let mut rows: Vec<AuditRow> = Vec::new();
    loop {
        let after = rows.last().map_or(start, |row| row.number);
        let more = part(after, PART)?;
        let Some(first) = more.first() else { return Ok(rows) };
        let previous = rows.last().map_or(first.previous, |row| row.hash);
        verify_chain(previous, after.saturating_add(1), &more).map_err(broken)?;
        rows.extend(more);
    }
}

fn broken(error: ChainError) -> Failure {
    Failure::from(error).hint("the log was changed: compare it with the hosts' records and syslog")
}

/// The rows of a file since a moment. All of the file must be one chain.
fn rows_of(path: &Path, since: UnixTime) -> Result<Vec<AuditRow>, Failure> {
    let failure = |error: &dyn std::fmt::Display| Failure::plain(format!("cannot read {}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| failure(&error))?;
    let mut rows = Vec::new();
    for line in std::io::BufReader::new(file).lines() {
        let line = line.map_err(|error| failure(&error))?;
        rows.push(serde_json::from_str::<AuditRow>(&line).map_err(|error| failure(&error))?);
    }
    if let Some(first) = rows.first() {
        verify_chain(first.previous, first.number, &rows).map_err(broken)?;
    }
    let since_ms = since.0.saturating_mul(1000);
    Ok(rows.into_iter().filter(|row| row.at_ms >= since_ms).collect())
}

/// How many rows come before the first one since a moment; `at` tells when row `after + 1` was
/// written, in milliseconds, if there is one.
fn first_since<E>(since: UnixTime, mut at: impl FnMut(u64) -> Result<Option<u64>, E>) -> Result<u64, E> {
    let since_ms = since.0.saturating_mul(1000);
    let mut counts = |after: u64| at(after).map(|at| at.is_none_or(|at_ms| at_ms >= since_ms));
    let (mut low, mut high) = (0, 1);
    if counts(0)? {
        return Ok(0);
    }
    while !counts(high)? {
        low = high;
        high = high.saturating_mul(2);
    }
    // Row low + 1 is too old, row high + 1 counts.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if counts(middle)? {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(high)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
