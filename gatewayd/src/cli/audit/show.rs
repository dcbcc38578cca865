//! `audit show GRANT`: one grant on one page, from what was verified. What nobody signed is marked
//! as such.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use twinlock_protocol::evidence::{EndNote, EndReason, ProcessNote};
use twinlock_protocol::ids::{GrantId, PersonId};
use twinlock_protocol::roster::{RosterEnvelope, VerifiedRoster};
use twinlock_protocol::statement::Channel;
use twinlock_protocol::{Digest, Fixed, escape, limits};

use super::verify::{Answer, Claims, Findings, verify};
use crate::api::admin::GrantFile;
use crate::approval::summary;
use crate::cli::admin::{self, AdminArgs};
use crate::cli::output::{json as print_json, line};
use crate::cli::{Failure, files, time};
use crate::enrol::seal::{PIN_FILE, ROSTER_FILE};

/// `twinlock audit show`.
#[derive(Args)]
pub struct ShowArgs {
    /// The grant
    #[arg(value_parser = admin::grant)]
    grant: GrantId,
    #[command(flatten)]
    admin: AdminArgs,
    /// The gateway's state: the roster and its pin
    #[arg(long, default_value = "/var/lib/twinlock-gateway", value_name = "DIR")]
    state_dir: PathBuf,
    /// The roster's digest, in hexadecimal, from somewhere that is trusted more than this gateway
    #[arg(long, value_name = "DIGEST")]
    pin: Option<String>,
}

/// Shows and verifies.
///
/// # Errors
/// A [`Failure`] that names what does not verify.
pub fn run(arguments: &ShowArgs) -> Result<(), Failure> {
    let roster = roster(&arguments.state_dir, arguments.pin.as_deref()).map_err(|failure| match failure.hint {
        None => failure.hint("run this as root on the gateway, or give its --state-dir"),
        Some(_) => failure,
    })?;
    let path = format!("/v1/grants/{}/record", arguments.grant);
    let file: GrantFile = admin::get(&arguments.admin.socket, &path)?;
    let claims = Claims {
        request: &file.request,
        statements: &file.statements,
        record: file.record.as_ref(),
        ended: file.ended.as_ref(),
    };
    let findings = verify(&roster, &claims).map_err(|doubt| {
        Failure::from(doubt).hint("tell your security team: gateway or database show what they should not")
    })?;
    if findings.request.id().grant() != arguments.grant {
        return Err(Failure::plain("the gateway handed over another grant"));
    }
    if arguments.admin.json {
        print_json(&as_json(&roster, &findings, &file));
    } else {
        words(&roster, &findings).iter().for_each(|text| line(text));
    }
    Ok(())
}

fn roster(state_dir: &Path, pin: Option<&str>) -> Result<VerifiedRoster, Failure> {
    let pin = match pin {
        Some(hex) => hex_digest(hex).ok_or_else(|| Failure::plain("a digest is 64 hexadecimal digits"))?,
        None => {
            let text = files::read(&state_dir.join(PIN_FILE), 100)?;
            let text = String::from_utf8_lossy(&text);
            Digest(Fixed::from_text(text.trim()).ok_or_else(|| Failure::plain("the roster's pin is malformed"))?)
        }
    };
    let envelope = files::read(&state_dir.join(ROSTER_FILE), 2 * limits::ROSTER_BYTES as u64)?;
    Ok(VerifiedRoster::genesis(&RosterEnvelope::from_bytes(&envelope)?, &pin)?)
}

fn hex_digest(text: &str) -> Option<Digest> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(|bytes| Digest(Fixed(bytes)))
}

fn visible(text: &str) -> String {
    escape::visible(text.as_bytes())
}

fn name_of(roster: &VerifiedRoster, id: &PersonId) -> String {
    roster.roster().person(id).map_or_else(|| id.to_string(), |person| visible(&person.name))
}

/// The page, line by line.
fn words(roster: &VerifiedRoster, findings: &Findings) -> Vec<String> {
    let asked = findings.request.request();
    let names: Vec<String> = findings.request.requesters().iter().map(|id| name_of(roster, id)).collect();
    let host = roster.roster().host(&asked.host).map_or_else(|| asked.host.to_string(), |host| visible(&host.name));
    let login = asked.requester.login.as_ref().unwrap_or(&asked.requester.real);
    let mut lines = vec![
        format!("grant      {}", findings.request.id().grant()),
        format!("who        {} ({})", names.join(", "), visible(&login.name)),
        format!("what       {}", summary(asked)),
        format!("as         {} on {host}, by {}", visible(&asked.target.user), visible(&asked.service)),
        format!("asked      {}", time::moment(asked.created_at)),
    ];
    lines.extend(asked.reason.as_ref().map(|reason| format!("why        {}", visible(reason))));
    lines.extend(findings.answers.iter().map(|answer| answer_line(roster, answer)));
    match &findings.session {
        None => lines.push("session    none that the host reported".to_owned()),
        Some(session) => {
            lines.push(format!(
                "session    started {}, process {}",
                time::moment(session.start.started_at),
                session.start.pid
            ));
            lines.push(format!(
                "certificate {}, until {}",
                session.certificate.serial(),
                time::moment(session.certificate.not_after())
            ));
        }
    }
    lines.extend(findings.ended.as_ref().map(end_line));
    lines.push(format!("verified   {}", verified(findings).join("; ")));
    lines
}

fn answer_line(roster: &VerifiedRoster, answer: &Answer) -> String {
    let signer = &answer.signer;
    let found = roster
        .roster()
        .person(signer.person())
        .and_then(|person| person.devices.iter().find(|device| device.id == *signer.device()));
    let device = found.map_or_else(|| signer.device().to_string(), |device| visible(&device.label));
    let way = match signer.channel() {
        Channel::Ticket(_) => "by the terminal's QR",
        Channel::Inbox(_) => "by inbox and code",
    };
    let what = if answer.approved { "approved  " } else { "denied    " };
    let why = answer.reason.as_ref().map(|reason| format!(": {}", visible(reason))).unwrap_or_default();
    format!(
        "{what} {} with {device} ({}, assurance {:?}) {way}{why}",
        name_of(roster, signer.person()),
        signer.device(),
        signer.assurance()
    )
}

fn end_line(end: &EndNote) -> String {
    let why = match end.reason {
        EndReason::Finished => "the command ended",
        EndReason::Expired => "its time was over",
        EndReason::Revoked => "revoked by an administrator",
        EndReason::Dropped => "dropped by the requester",
        EndReason::FoundOver => "found over when the reaper started",
    };
    let processes = |what: &str, notes: &[ProcessNote]| {
        let names: Vec<String> = notes.iter().map(|note| format!("{} ({})", visible(&note.name), note.pid)).collect();
        if names.is_empty() { String::new() } else { format!("; {what} {}", names.join(", ")) }
    };
    format!(
        "ended      {}: {why}, in {} ms{}{}  [the host's word, not signed]",
        time::moment(end.ended_at),
        end.took_ms,
        processes("killed", &end.killed),
        processes("ESCAPED", &end.escaped)
    )
}

/// What was checked, here and now.
fn verified(findings: &Findings) -> Vec<&'static str> {
    let mut checked = vec!["request signed by its host and its session key"];
    if !findings.answers.is_empty() {
        checked.push("every answer signed by passkey and device key");
    }
    if findings.session.is_some() {
        checked.push("two distinct people approved this very request");
        checked.push("certificate by the roster's CA, for this key, host, target and evidence");
        checked.push("start signed by the session key");
    }
    checked
}

fn as_json(roster: &VerifiedRoster, findings: &Findings, file: &GrantFile) -> serde_json::Value {
    let asked = findings.request.request();
    let answer = |answer: &Answer| {
        json!({
            "person": answer.signer.person(),
            "name": name_of(roster, answer.signer.person()),
            "device": answer.signer.device(),
            "assurance": answer.signer.assurance(),
            "approved": answer.approved,
            "reason": answer.reason,
        })
    };
    let session = findings.session.as_ref().map(|session| {
        json!({
            "started_at": session.start.started_at,
            "pid": session.start.pid,
            "serial": session.certificate.serial(),
            "not_after": session.certificate.not_after(),
            "ttl_s": session.ttl_s,
        })
    });
    json!({
        "grant": file.grant,
        "request": findings.request.id(),
        "requesters": findings.request.requesters(),
        "host": asked.host,
        "target": asked.target.user,
        "summary": summary(asked),
        "service": asked.service,
        "asked_at": asked.created_at,
        "reason": asked.reason,
        "answers": findings.answers.iter().map(answer).collect::<Vec<_>>(),
        "session": session,
        "ended": findings.ended,
        "roster": roster.digest(),
        "verified": verified(findings),
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
