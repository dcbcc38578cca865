//! The report as tables. Cells are made visible where the table is made.

use super::lines::{AttackLine, LingeringLine, Mismatch, MismatchLine, PairLine, Report, Totals, UnusedLine};
use crate::cli::output::table;
use crate::cli::time;

/// The whole report, line by line.
pub fn lines(report: &Report) -> Vec<String> {
    let mut out = vec![format!("{} to {}", time::moment(report.since), time::moment(report.until))];
    match report.log_begins {
        None => out.push("the log is empty".to_owned()),
        Some(begins) if begins > report.since => out.push(format!("the log begins at {}", time::moment(begins))),
        Some(_) => {}
    }
    if report.unread_rows > 0 {
        out.push(format!("{} rows are of a later version and were not read", report.unread_rows));
    }
    let Totals { asked, granted, denied, expired, withdrawn, revoked, elevated_s } = report.totals;
    out.push(format!(
        "{asked} asked, {granted} granted, {denied} denied, {expired} unanswered, {withdrawn} withdrawn, \
         {revoked} revoked; {} under grants",
        time::span(elevated_s)
    ));
    let mut section = |title: &str, heading: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            out.push(String::new());
            out.push(title.to_owned());
            out.extend(table(heading, &rows).lines().map(str::to_owned));
        }
    };
    let figures = |first: Vec<String>, totals: &Totals| {
        let Totals { asked, granted, denied, expired, withdrawn, revoked, elevated_s } = *totals;
        let counts = [asked, granted, denied, expired, withdrawn, revoked].map(|count| count.to_string());
        first.into_iter().chain(counts).chain([time::span(elevated_s)]).collect::<Vec<String>>()
    };
    const FIGURES: [&str; 7] = ["ASKED", "GRANTED", "DENIED", "UNANSWERED", "WITHDRAWN", "REVOKED", "TIME"];
    section(
        "By requester",
        &[&["WHO"], &FIGURES[..]].concat(),
        report.requesters.iter().map(|line| figures(vec![line.requester.clone()], &line.totals)).collect(),
    );
    section(
        "By pair of approvers",
        &["APPROVERS", "GRANTED", "REQUESTERS", "LAST"],
        report.pairs.iter().map(pair).collect(),
    );
    section(
        "By target",
        &[&["AS", "ON"], &FIGURES[..]].concat(),
        report.targets.iter().map(|line| figures(vec![line.target.clone(), line.host.clone()], &line.totals)).collect(),
    );
    section(
        "Denied",
        &["WHEN", "BY", "ASKED BY", "GRANT", "WHY", "COMMAND"],
        report
            .denied
            .iter()
            .map(|line| {
                let why = line.reason.clone().unwrap_or_else(|| "-".to_owned());
                let (who, grant) = (line.person.to_string(), line.grant.to_string());
                vec![time::moment(line.at), who, line.requester.clone(), grant, why, line.command.clone()]
            })
            .collect(),
    );
    section(
        "Revoked",
        &["WHEN", "BY", "ASKED BY", "GRANT", "COMMAND"],
        report
            .revoked
            .iter()
            .map(|line| {
                let by = line.by_uid.map_or_else(|| "an order".to_owned(), |uid| format!("uid {uid}"));
                let grant = line.grant.to_string();
                vec![time::moment(line.at), by, line.requester.clone(), grant, line.command.clone()]
            })
            .collect(),
    );
    section(
        "Lingering or escaped",
        &["WHEN", "ON", "GRANT", "PROCESSES", "ESCAPED", "STATE", "COMMAND"],
        report.lingering.iter().map(lingering).collect(),
    );
    section(
        "ATTACKS: refused evidence, and what no honest part does",
        &["FIRST", "LAST", "COUNT", "WHAT", "FROM", "WHY"],
        report.attacks.iter().map(attack).collect(),
    );
    section(
        "MISMATCHES between log, hosts and certificates",
        &["WHEN", "WHAT", "ON", "GRANT", ""],
        report.mismatches.iter().map(mismatch).collect(),
    );
    section(
        "Approvers without an answer for long",
        &["WHO", "NAME", "LAST ANSWER"],
        report.unused.iter().map(unused).collect(),
    );
    out
}

fn pair(line: &PairLine) -> Vec<String> {
    let names: Vec<String> = line.approvers.iter().map(ToString::to_string).collect();
    vec![names.join(" + "), line.granted.to_string(), line.requesters.to_string(), time::moment(line.last)]
}

fn lingering(line: &LingeringLine) -> Vec<String> {
    let escaped: Vec<String> = line.escaped.iter().map(|note| format!("{} ({})", note.name, note.pid)).collect();
    vec![
        time::moment(line.at),
        line.host.clone(),
        line.grant.to_string(),
        line.processes.map_or_else(|| "-".to_owned(), |count| count.to_string()),
        if escaped.is_empty() { "-".to_owned() } else { escaped.join(", ") },
        if line.still { "runs" } else { "ended" }.to_owned(),
        line.command.clone(),
    ]
}

fn attack(line: &AttackLine) -> Vec<String> {
    vec![
        time::moment(line.first),
        time::moment(line.last),
        line.count.to_string(),
        line.event.replace('_', " "),
        line.from.clone(),
        line.reason.map_or("-", |reason| reason.row().line).to_owned(),
    ]
}

fn mismatch(line: &MismatchLine) -> Vec<String> {
    let host = line.host.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let detail = line.detail.clone();
    vec![time::moment(line.at), mismatch_words(line.what).to_owned(), host, line.grant.to_string(), detail]
}

/// A mismatch in words.
fn mismatch_words(what: Mismatch) -> &'static str {
    match what {
        Mismatch::NeverIssued => "the host reports a session that this gateway never granted",
        Mismatch::OtherThanIssued => "the host reports another session than this gateway granted",
        Mismatch::NeverStarted => "granted, and no session was ever reported",
        Mismatch::NoEnd => "started, and no end was ever reported",
        Mismatch::NotInLog => "GRANTED WITHOUT A WORD IN THE LOG: the host's record verifies",
        Mismatch::FalseRecord => "the host holds a record that does not verify",
        Mismatch::RecordDiffers => "the host holds another record than the log",
        Mismatch::NoRecord => "the log tells of a session of which the host holds no record",
    }
}

fn unused(line: &UnusedLine) -> Vec<String> {
    let last = line.last.map_or_else(|| "none in the log".to_owned(), time::moment);
    vec![line.person.to_string(), line.name.clone(), last]
}
