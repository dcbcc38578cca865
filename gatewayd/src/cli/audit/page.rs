//! One verified grant in words: what happened, what the signatures prove of it, and what they do
//! not. What nobody signed is marked as such; everything that came from elsewhere is escaped.

use serde_json::{Value, json};
use twinlock_protocol::escape;
use twinlock_protocol::evidence::{EndNote, EndReason, ProcessNote};
use twinlock_protocol::ids::{DeviceId, PersonId};
use twinlock_protocol::roster::change::{Change, changes};
use twinlock_protocol::roster::{Assurance, Device, Roster};
use twinlock_protocol::statement::Channel;

use super::chain::{Chain, Link, Vouched};
use super::verify::{Answer, By, Findings};
use crate::approval::summary;
use crate::cli::time;

/// One thing that holds, or that does not follow.
pub struct Said {
    /// What it is about; stable.
    pub about: &'static str,
    /// In words.
    pub words: String,
}

fn said(about: &'static str, words: impl Into<String>) -> Said {
    Said { about, words: words.into() }
}

fn visible(text: &str) -> String {
    escape::visible(text.as_bytes())
}

/// A digest as people compare it.
pub fn fingerprint(digest: &twinlock_protocol::Digest) -> String {
    let hex = digest.to_hex();
    let groups: Vec<&str> = hex.as_bytes().chunks(8).filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(" ")
}

fn name_of(roster: &Roster, id: &PersonId) -> String {
    roster.person(id).map_or_else(|| id.to_string(), |person| visible(&person.name))
}

fn names_of<'a>(roster: &Roster, ids: impl IntoIterator<Item = &'a PersonId>) -> Vec<String> {
    ids.into_iter().map(|id| name_of(roster, id)).collect()
}

/// `bob, carol and dave`.
fn listed(names: &[String]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

fn device_of<'a>(roster: &'a Roster, person: &PersonId, device: &DeviceId) -> Option<&'a Device> {
    roster.person(person)?.devices.iter().find(|one| one.id == *device)
}

fn device_name(answer: &Answer<'_>) -> String {
    let signer = &answer.signer;
    let found = device_of(answer.roster.roster(), signer.person(), signer.device());
    found.map_or_else(|| signer.device().to_string(), |device| visible(&device.label))
}

/// What an assurance level says of the key that signed.
fn assurance_words(level: Assurance) -> &'static str {
    match level {
        Assurance::A => "a passkey whose maker attested that it cannot leave its device, and a device key",
        Assurance::B => "a passkey that says it cannot leave its device, and a device key",
        Assurance::C => "a passkey that may be synced between devices, and one browser's device key",
        Assurance::D => "a synced passkey alone",
    }
}

fn way(answer: &Answer<'_>) -> &'static str {
    match answer.signer.channel() {
        Channel::Ticket(_) => "by the terminal's QR",
        Channel::Inbox(_) => "by inbox and code",
    }
}

// ---- what happened ------------------------------------------------------------------------------

/// What happened, line by line.
pub fn story(findings: &Findings<'_>) -> Vec<String> {
    let roster = findings.roster.roster();
    let asked = findings.request.request();
    let names = names_of(roster, findings.request.requesters());
    let host = host_name(findings);
    let login = asked.requester.login.as_ref().unwrap_or(&asked.requester.real);
    let mut lines = vec![
        format!("grant      {}", findings.request.id().grant()),
        format!("who        {} ({})", names.join(", "), visible(&login.name)),
        format!("what       {}", summary(asked)),
        format!("as         {} on {host}, by {}", visible(&asked.target.user), visible(&asked.service)),
        format!("asked      {}", time::moment(asked.created_at)),
    ];
    lines.extend(asked.reason.as_ref().map(|reason| format!("why        {}", visible(reason))));
    lines.extend(findings.answers.iter().map(answer_line));
    match &findings.session {
        None => lines.push("session    none that the host reported".to_owned()),
        Some(session) => {
            let at = session.start.started_at;
            lines.push(format!("session    started {}, process {}", time::moment(at), session.start.pid));
            lines.push(format!("for        at most {}", time::span(session.ttl_s.into())));
            lines.push(match &session.by {
                By::Certificate(certificate, _) => {
                    format!("certificate {}, until {}", certificate.serial(), time::moment(certificate.not_after()))
                }
                By::BreakGlass(_) => {
                    let pair = names_of(session.roster.roster(), &session.approvers);
                    format!("BREAK-GLASS {} answered offline; no gateway took part", listed(&pair))
                }
            });
        }
    }
    lines.extend(findings.ended.as_ref().map(end_line));
    lines
}

fn host_name(findings: &Findings<'_>) -> String {
    let id = &findings.request.request().host;
    findings.roster.roster().host(id).map_or_else(|| id.to_string(), |host| visible(&host.name))
}

fn answer_line(answer: &Answer<'_>) -> String {
    let (roster, signer) = (answer.roster.roster(), &answer.signer);
    let what = if answer.approved.is_some() { "approved  " } else { "denied    " };
    let why = answer.reason.as_ref().map(|reason| format!(": {}", visible(reason))).unwrap_or_default();
    format!(
        "{what} {} with {} ({}, assurance {:?}) {}{why}",
        name_of(roster, signer.person()),
        device_name(answer),
        signer.device(),
        signer.assurance(),
        way(answer),
    )
}

/// How it ended, as the host says.
pub fn end_line(end: &EndNote) -> String {
    let processes = |what: &str, notes: &[ProcessNote]| {
        let names: Vec<String> = notes.iter().map(|note| format!("{} ({})", visible(&note.name), note.pid)).collect();
        if names.is_empty() { String::new() } else { format!("; {what} {}", names.join(", ")) }
    };
    format!(
        "ended      {}: {}, in {} ms{}{}  [the host's word, not signed]",
        time::moment(end.ended_at),
        end_words(end.reason),
        end.took_ms,
        processes("killed", &end.killed),
        processes("ESCAPED", &end.escaped)
    )
}

fn end_words(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Finished => "the command ended",
        EndReason::Expired => "its time was over",
        EndReason::Revoked => "revoked by an administrator",
        EndReason::Dropped => "dropped by the requester",
        EndReason::FoundOver => "found over when the reaper started",
    }
}

// ---- what it proves -----------------------------------------------------------------------------

/// What the signatures prove to whoever trusts the pin.
pub fn proved(chain: &Chain, findings: &Findings<'_>) -> Vec<Said> {
    let roster = findings.roster.roster();
    let asked = findings.request.request();
    let mut proved: Vec<Said> = rosters(chain);
    let host = host_name(findings);
    proved.push(said(
        "request",
        format!(
            "the key of {host} and the key made for this one request signed it: {} asked for {} as {} on {host}; \
             not a byte of it has changed since",
            listed(&names_of(roster, findings.request.requesters())),
            summary(asked),
            visible(&asked.target.user),
        ),
    ));
    proved.extend(findings.answers.iter().map(|answer| said("answers", answer_words(answer))));
    if let Some(session) = &findings.session {
        let pair = names_of(session.roster.roster(), &session.approvers);
        proved.push(said(
            "approvals",
            format!(
                "{} are two people of the roster with different keys, both allowed to approve this, \
                 and neither of them asked; nothing else was approved, and for at most {}",
                listed(&pair),
                time::span(session.ttl_s.into())
            ),
        ));
        proved.push(match &session.by {
            By::Certificate(certificate, ca) => said(
                "certificate",
                format!(
                    "{ca}, a CA of the roster, certified the request's key for this host, target, requester and these \
                     very approvals (serial {})",
                    certificate.serial()
                ),
            ),
            By::BreakGlass(keys) => said(
                "break_glass",
                format!(
                    "each of the two signed this very request with a break-glass key of that roster ({}), for nothing \
                     else and for no other request",
                    keys.join("; ")
                ),
            ),
        });
        proved.push(said(
            "start",
            format!(
                "the request's own key signed that the session started, as process {} of boot {}",
                session.start.pid,
                visible(&session.start.boot_id)
            ),
        ));
    }
    proved
}

/// Every version: why it counts, and what it changed.
fn rosters(chain: &Chain) -> Vec<Said> {
    let mut former: Option<&Roster> = None;
    let mut told = Vec::new();
    for link in chain.links() {
        let roster = link.roster.roster();
        let changes = former.map(|former| changes(former, roster)).unwrap_or_default();
        let lines: Vec<String> = changes.iter().map(Change::to_line).collect();
        let changed = if lines.is_empty() { String::new() } else { format!("; it changed: {}", lines.join("; ")) };
        told.push(said("roster", format!("{}{changed}", roster_words(link, former))));
        former = Some(roster);
    }
    told
}

fn roster_words(link: &Link, former: Option<&Roster>) -> String {
    let (roster, digest) = (link.roster.roster(), link.roster.digest());
    // Names are those of the version whose keys signed.
    let signers = listed(&names_of(former.unwrap_or(roster), &link.signers));
    let version = roster.version;
    match link.vouched {
        Vouched::Pinned if link.signers.is_empty() => format!("version {version} has the digest that you gave"),
        Vouched::Pinned => format!("version {version} has the digest that you gave, and is signed by {signers}"),
        Vouched::Signed => format!("version {version} ({}) follows from it, signed by {signers}", fingerprint(&digest)),
        Vouched::Named => {
            format!("version {version} ({}) is the one that the next version names as its former", fingerprint(&digest))
        }
    }
}

fn answer_words(answer: &Answer<'_>) -> String {
    let signer = &answer.signer;
    let who = name_of(answer.roster.roster(), signer.person());
    let with = format!(
        "with {} (assurance {:?}: {}), {}",
        device_name(answer),
        signer.assurance(),
        assurance_words(signer.assurance()),
        way(answer)
    );
    match answer.approved {
        Some(ttl_s) => {
            format!(
                "{who} approved exactly this request, for at most {}, by a gesture {with}",
                time::span(ttl_s.into())
            )
        }
        None => format!("{who} denied exactly this request, by a gesture {with}"),
    }
}

/// What does not follow, whatever the signatures say.
pub fn not_proved(findings: &Findings<'_>) -> Vec<Said> {
    let asked = findings.request.request();
    let host = host_name(findings);
    let mut open = vec![
        said(
            "host",
            format!(
                "claimed, not proven. Whoever has {host}'s host key, root there for one, can sign any request \
                 in its name: who was logged in, the command line, the directory and that the command ran are its word"
            ),
        ),
        said(
            "times",
            format!(
                "claims. When it was asked{} is {host}'s wall clock, the certificate's window the \
                 gateway's; no third party stamped either",
                if findings.session.is_some() { " and started" } else { "" }
            ),
        ),
    ];
    if !findings.answers.is_empty() {
        open.push(said(
            "screen",
            "not known. The approvers signed this request's digest; the gateway served the page that showed it to them",
        ));
        open.push(said(
            "people",
            "claimed. The roster says which key is whose, and each phone says that it verified its owner",
        ));
    }
    if findings.answers.iter().any(|answer| answer.signer.assurance() < Assurance::B) {
        open.push(said("device", "not known. Below assurance B a passkey may be on several devices of its owner"));
    }
    open.push(said("others", "not known. A denial or an answer that gateway and host left out does not show here"));
    if findings.session.is_some() {
        open.push(said("revoked", "not known. The host checks the revocation list at the start and does not keep it"));
        open.push(said(
            "effect",
            if asked.view.open_ended {
                "not known. A shell, an editor or piped input runs what nobody approved by name"
            } else {
                "not known. Name and arguments were approved, not the content of the files that it ran, and not what it did"
            },
        ));
        open.push(said(
            "end",
            match findings.ended {
                Some(_) => "claimed, not proven: the host's word, signed by nobody",
                None => "not known: none was reported",
            },
        ));
    }
    open.push(said(
        "pin",
        "yours to know. Everything above follows from the digest that you gave; it must come from somewhere you trust",
    ));
    open
}

/// What does not fit together although every signature verifies.
pub fn remarks(findings: &Findings<'_>) -> Vec<Said> {
    let mut remarks = Vec::new();
    let denied = findings.answers.iter().any(|answer| answer.approved.is_none());
    if denied && findings.session.is_some() {
        remarks.push(said("denied", "somebody denied it too, and the session started all the same"));
    }
    if let Some(session) = &findings.session {
        let counts = |answer: &&Answer<'_>| session.approvers.contains(answer.signer.person());
        let uncounted = findings.answers.iter().filter(|answer| answer.approved.is_some() && !counts(answer));
        let names: Vec<String> =
            uncounted.map(|answer| name_of(answer.roster.roster(), answer.signer.person())).collect();
        if !names.is_empty() {
            let words = format!("{} approved too, and it did not count for this grant", listed(&names));
            remarks.push(said("uncounted", words));
        }
    }
    if let (Some(session), Some(end)) = (&findings.session, &findings.ended) {
        let until = session.start.started_at.plus(session.ttl_s.into());
        // The clock may have been set meanwhile; the deadline itself counts in boot time.
        if end.ended_at > until.plus(SLACK_S) {
            remarks.push(said(
                "overrun",
                format!("by the host's clock it ended {} after its time", time::span(end.ended_at.since(until))),
            ));
        }
        if !end.escaped.is_empty() {
            remarks.push(said("escaped", "processes left the session's cgroup and were not ended"));
        }
    }
    remarks
}

/// Between a session's deadline and its last process.
const SLACK_S: u64 = 10;

// ---- for programs -------------------------------------------------------------------------------

/// The findings as JSON.
pub fn as_json(chain: &Chain, findings: &Findings<'_>) -> Value {
    let asked = findings.request.request();
    let answer = |answer: &Answer<'_>| {
        json!({
            "person": answer.signer.person(),
            "name": name_of(answer.roster.roster(), answer.signer.person()),
            "device": answer.signer.device(),
            "assurance": answer.signer.assurance(),
            "approved": answer.approved.is_some(),
            "ttl_s": answer.approved,
            "roster_version": answer.roster.version,
            "reason": answer.reason,
        })
    };
    let session = findings.session.as_ref().map(|session| {
        json!({
            "started_at": session.start.started_at,
            "pid": session.start.pid,
            "serial": session.by.certificate().map(|certificate| certificate.serial()),
            "not_after": session.by.certificate().map(|certificate| certificate.not_after()),
            "break_glass": session.by.certificate().is_none(),
            "ttl_s": session.ttl_s,
            "roster_version": session.roster.version,
            "approvers": session.approvers,
        })
    });
    let all = |what: Vec<Said>| -> Vec<Value> {
        what.into_iter().map(|said| json!({ "about": said.about, "words": said.words })).collect()
    };
    json!({
        "verified": true,
        "grant": findings.request.id().grant(),
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
        "roster": findings.roster.digest(),
        "roster_version": findings.roster.version,
        "head_version": chain.head().version,
        "proved": all(proved(chain, findings)),
        "not_proved": all(not_proved(findings)),
        "remarks": all(remarks(findings)),
    })
}
