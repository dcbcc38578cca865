//! `twinlock doctor`: the findings, worst first, in words or as JSON, and the exit status by the worst
//! of them. Changes nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::survey::{self, Survey};
use super::{Finding, Severity};
use crate::cli::output::{json, line, visible};

/// `twinlock doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// JSON instead of words: one object with all findings
    #[arg(long)]
    json: bool,
    /// Another system's files, below this directory; sockets and programs are left alone then
    #[arg(long, default_value = "/", value_name = "DIR")]
    root: PathBuf,
}

/// Runs it. The status is 0 when there is nothing worse than notes, 1 with warnings, 2 with failures;
/// 2 as well where the root can't be read.
#[must_use]
pub fn run(arguments: &DoctorArgs) -> ExitCode {
    if let Err(error) = std::fs::read_dir(&arguments.root) {
        crate::cli::Failure::plain(format!("{}: {error}", arguments.root.display())).print();
        return ExitCode::from(2);
    }
    let mut findings = survey::judge(&Survey::gather(&arguments.root));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    if arguments.json {
        json(&serde_json::json!({ "version": 1, "worst": worst(&findings), "findings": findings }));
    } else {
        lines(&findings).iter().for_each(|text| line(text));
    }
    ExitCode::from(status(&findings))
}

fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}

fn status(findings: &[Finding]) -> u8 {
    match worst(findings) {
        Severity::Ok | Severity::Note => 0,
        Severity::Warning => 1,
        Severity::Failure => 2,
    }
}

fn lines(findings: &[Finding]) -> Vec<String> {
    let mut out = Vec::new();
    for finding in findings {
        let word = match finding.severity {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "WARNING",
            Severity::Failure => "FAILURE",
        };
        out.push(visible(&format!("{word:<8} {}: {}", finding.id, finding.to_line())));
        out.extend(finding.remedy.as_ref().map(|remedy| visible(&format!("         do: {remedy}"))));
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    out.push(format!(
        "{} failures, {} warnings, {} notes, {} in order",
        count(Severity::Failure),
        count(Severity::Warning),
        count(Severity::Note),
        count(Severity::Ok)
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_follows_the_worst_and_each_line_says_what_to_do() {
        let ok = Finding::ok("a", "fine");
        let note = Finding::note("b", "so so", "look");
        let warning = Finding::warning("c", "bad\u{1b}[2J", "mend it").at("/etc/x", Some(3));
        let failure = Finding::failure("d", "worse", "mend it now");
        assert_eq!(status(&[]), 0);
        assert_eq!(status(&[ok.clone(), note.clone()]), 0);
        assert_eq!(status(&[note.clone(), warning.clone(), ok.clone()]), 1);
        assert_eq!(status(&[failure.clone(), warning.clone()]), 2);
        assert_eq!(
            lines(&[failure, warning, note, ok]),
            [
                "FAILURE  d: worse",
                "         do: mend it now",
                "WARNING  c: /etc/x:3: bad\\u{1b}[2J",
                "         do: mend it",
                "note     b: so so",
                "         do: look",
                "ok       a: fine",
                "1 failures, 1 warnings, 1 notes, 1 in order",
            ]
        );
    }
}
