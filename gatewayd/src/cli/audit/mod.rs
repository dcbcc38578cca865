//! What happened, and the evidence checked again, here or anywhere, by the same verifier that the
//! host used. The gateway that hands it over is not believed.

mod chain;
mod check;
mod file;
#[cfg(test)]
pub(crate) mod granted;
mod page;
mod pin;
mod report;
mod rosters;
mod show;
mod verify;

use clap::{Args, Subcommand};
use serde_json::Value;
use twinlock_protocol::UnixTime;
use twinlock_protocol::ids::GrantId;

use super::admin::{self, AdminArgs};
use super::output::{json, line, table};
use super::{Failure, time};
use crate::api::admin::AuditPart;
use crate::audit::{AuditRow, GENESIS, verify_chain};

/// The audit log.
#[derive(Subcommand)]
pub enum AuditCommand {
    /// What happened, oldest first
    List(ListArgs),
    /// One grant: who, what, where, when, with which devices, how it ended; verified again
    Show(show::ShowArgs),
    /// Who was granted what by whom, what was refused, what does not fit, who has not approved for long
    Report(report::ReportArgs),
    /// Check what show --evidence wrote: anywhere, offline, without a gateway or its configuration
    Verify(check::VerifyArgs),
}

/// `twinlock audit list`.
#[derive(Args)]
pub struct ListArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// Only rows of this grant
    #[arg(long, value_parser = admin::grant)]
    grant: Option<GrantId>,
    /// Only rows after this number
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    after: u64,
    /// At most this many
    #[arg(long, default_value_t = 1000)]
    limit: u32,
}

/// Runs one of them.
///
/// # Errors
/// A [`Failure`].
pub fn run(command: &AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::List(arguments) => list(arguments),
        AuditCommand::Show(arguments) => show::run(arguments),
        AuditCommand::Report(arguments) => report::run(arguments),
        AuditCommand::Verify(arguments) => check::run(arguments),
    }
}

fn list(arguments: &ListArgs) -> Result<(), Failure> {
    let ListArgs { admin, grant, after, limit } = arguments;
    let only = grant.map(|grant| format!("&grant={grant}")).unwrap_or_default();
    // The gateway ends an answer where it gets long: asked on from its last row.
    let (mut rows, mut last) = (Vec::new(), *after);
    while let Some(left) = limit.checked_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX)).filter(|left| *left > 0) {
        let path = format!("/v1/audit?after={last}&limit={left}{only}");
        let AuditPart { rows: more } = admin::get(&admin.socket, &path)?;
        let Some(newest) = more.last() else { break };
        last = newest.number;
        rows.extend(more);
    }
    check_chain(&rows, *after, grant.is_some())?;
    if admin.json {
        rows.iter().for_each(json);
    } else {
        line(rows_as_table(&rows).trim_end());
    }
    Ok(())
}

/// Rows that follow each other must be a chain. One grant's rows have gaps, so each is checked alone.
fn check_chain(rows: &[AuditRow], after: u64, has_gaps: bool) -> Result<(), Failure> {
    let broken =
        |error| Failure::from(error).hint("the log was changed: compare it with the hosts' records and syslog");
    if has_gaps {
        return rows.iter().try_for_each(|row| {
            verify_chain(row.previous, row.number, std::slice::from_ref(row)).map(|_| ()).map_err(broken)
        });
    }
    let Some(first) = rows.first() else { return Ok(()) };
    let start = if after == 0 { GENESIS } else { first.previous };
    verify_chain(start, after.saturating_add(1), rows).map(|_| ()).map_err(broken)
}

fn rows_as_table(rows: &[AuditRow]) -> String {
    let row = |row: &AuditRow| {
        let (name, rest) = told(&row.event);
        vec![row.number.to_string(), time::moment(UnixTime(row.at_ms / 1000)), name, rest]
    };
    table(&["ROW", "WHEN", "WHAT", ""], &rows.iter().map(row).collect::<Vec<_>>())
}

/// An event's name, and its fields as `key=value`.
fn told(event: &str) -> (String, String) {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(event) else {
        return ("?".to_owned(), event.to_owned());
    };
    let name = fields.remove("event").and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs = fields.iter().filter(|(_, value)| !value.is_null());
    let rest: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", plain(value))).collect();
    (name.replace('_', " "), rest.join(" "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::audit::{Event, link};

    fn rows() -> Vec<AuditRow> {
        let first = link(GENESIS, 1, 1_800_000_000_000, &Event::GatewayStopped {});
        let second = link(first.hash, 2, 1_800_000_001_000, &Event::CrlIssued { number: 7, entries: 1 });
        let third = link(second.hash, 3, 1_800_000_002_000, &Event::GatewayStopped {});
        vec![first, second, third]
    }

    /// Catalogue: L1 (control: inline)
    #[test]
    fn a_changed_or_missing_row_is_noticed_when_the_log_is_listed() {
        let good = rows();
        assert!(check_chain(&good, 0, false).is_ok());
        assert!(check_chain(&good[1..], 1, false).is_ok());
        assert!(check_chain(&[], 0, false).is_ok());
        assert!(check_chain(&good[1..], 0, false).is_err(), "the first row is missing");
        assert!(check_chain(&[good[0].clone(), good[2].clone()], 0, false).is_err());
        assert!(check_chain(&[good[0].clone(), good[2].clone()], 0, true).is_ok(), "one grant's rows have gaps");
        let mut edited = good;
        edited[1].event = edited[1].event.replace('7', "8");
        assert!(check_chain(&edited, 0, false).is_err() && check_chain(&edited, 0, true).is_err());
    }

    #[test]
    fn a_row_reads_as_a_line() {
        let table = rows_as_table(&rows()[1..2]);
        assert!(table.ends_with("2    2027-01-15 08:00:01Z  crl issued  entries=1 number=7\n"), "{table}");
    }
}
