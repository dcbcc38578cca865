//! Checks a grant again from its signatures alone: the rosters from the pin, the request by its
//! host, each answer by its person, the certificate by its CA, the start by the session key. Times
//! are those of the moment that is told of, not of today. No I/O.

use twinlock_certs::check;
use twinlock_protocol::break_glass;
use twinlock_protocol::evidence::{Authority, EndNote, Evidence, GrantRecord, SignedRequest};
use twinlock_protocol::ids::PersonId;
use twinlock_protocol::request::{ElevationRequest, RosterRef};
use twinlock_protocol::roster::VerifiedRoster;
use twinlock_protocol::statement::{SignedStatement, StartStatement};
use twinlock_protocol::verify::{
    Signer, VerifiedAnswer, VerifiedRequest, verify_evidence, verify_request, verify_start, verify_statement,
};
use twinlock_protocol::words::words;
use twinlock_protocol::{DenyReason, Digest};

use super::chain::{Chain, ChainDoubt};
use super::file::EvidenceFile;

/// Everything that was handed over about one grant.
pub struct Claims<'a> {
    /// The request and its signatures.
    pub request: &'a SignedRequest,
    /// Every statement about it.
    pub statements: &'a [SignedStatement],
    /// The host's GrantRecord, if a session started.
    pub record: Option<&'a GrantRecord>,
    /// How it ended, if it did.
    pub ended: Option<&'a EndNote>,
}

/// One person's answer.
pub struct Answer<'c> {
    /// The roster under which it verifies: the request's, or a later one.
    pub roster: &'c VerifiedRoster,
    /// Who.
    pub signer: Signer,
    /// The longest life that this person allowed, in seconds; none for a denial.
    pub approved: Option<u32>,
    /// Why not, unescaped.
    pub reason: Option<String>,
}

/// A session that started, with everything that allowed it.
pub struct Session<'c> {
    /// The roster under which it was granted: the request's, or a later one.
    pub roster: &'c VerifiedRoster,
    /// What the session key signed.
    pub start: StartStatement,
    /// What it rests on.
    pub by: By,
    /// The life that both approvers granted, in seconds.
    pub ttl_s: u32,
    /// The two whose approvals the evidence holds.
    pub approvers: [PersonId; 2],
}

/// What a session rests on, verified.
pub enum By {
    /// A certificate over two approvals, and the CA that issued it, by its id in the roster.
    Certificate(Box<check::CheckedCertificate>, String),
    /// Two offline answers, and the words of the keys that made them.
    BreakGlass([String; 2]),
}

impl By {
    /// The certificate, where there is one.
    #[must_use]
    pub fn certificate(&self) -> Option<&check::CheckedCertificate> {
        match self {
            Self::Certificate(certificate, _) => Some(certificate),
            Self::BreakGlass(_) => None,
        }
    }
}

/// What holds.
pub struct Findings<'c> {
    /// The roster that the request names.
    pub roster: &'c VerifiedRoster,
    /// The request.
    pub request: VerifiedRequest,
    /// Every answer; each verified.
    pub answers: Vec<Answer<'c>>,
    /// The session, if the host recorded one; verified.
    pub session: Option<Session<'c>>,
    /// How it ended. Signed by nobody: the reaper's word through agent and gateway.
    pub ended: Option<EndNote>,
}

/// What does not hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The rosters.
    #[error("the rosters do not lead from the pin")]
    Roster(#[source] ChainDoubt),
    /// Request or evidence name a roster that is not among them.
    #[error("roster version {0} is named, and not among the rosters")]
    RosterMissing(u64),
    /// The request.
    #[error("the request does not verify")]
    Request(#[source] DenyReason),
    /// The request is another grant's.
    #[error("the request is another grant's")]
    Grant,
    /// An answer.
    #[error("an answer does not verify")]
    Answer(#[source] DenyReason),
    /// The record does not decode, or is about another grant.
    #[error("the host's record is malformed or about another grant")]
    Record,
    /// The record's evidence.
    #[error("the record's evidence does not verify")]
    Evidence(#[source] DenyReason),
    /// The start.
    #[error("the session's start does not verify")]
    Start(#[source] DenyReason),
    /// The certificate.
    #[error("the certificate does not verify")]
    Certificate(#[source] DenyReason),
    /// The gateway's statements and the host's are not the same.
    #[error("the gateway shows other answers than the host recorded")]
    Differs,
}

impl Doubt {
    /// The name of the check that failed; stable.
    #[must_use]
    pub fn check(&self) -> &'static str {
        match self {
            Self::Roster(_) | Self::RosterMissing(_) => "roster",
            Self::Request(_) | Self::Grant => "request",
            Self::Answer(_) | Self::Differs => "answers",
            Self::Record => "record",
            Self::Evidence(_) => "approvals",
            Self::Start(_) => "start",
            Self::Certificate(_) => "certificate",
        }
    }
}

/// Follows a file's rosters from the pin.
///
/// # Errors
/// [`Doubt::Roster`].
pub fn chain_of(file: &EvidenceFile, pin: &Digest) -> Result<Chain, Doubt> {
    Chain::follow(&file.rosters, pin).map_err(Doubt::Roster)
}

/// Verifies a whole file under its chain.
///
/// # Errors
/// [`Doubt`].
pub fn verify_file<'c>(chain: &'c Chain, file: &EvidenceFile) -> Result<Findings<'c>, Doubt> {
    let claims = Claims {
        request: &file.request,
        statements: &file.statements,
        record: file.record.as_ref(),
        ended: file.ended.as_ref(),
    };
    let findings = verify(chain, &claims)?;
    if findings.request.id().grant() == file.grant { Ok(findings) } else { Err(Doubt::Grant) }
}

/// Verifies everything, or names the first thing that does not hold.
///
/// # Errors
/// [`Doubt`].
pub fn verify<'c>(chain: &'c Chain, claims: &Claims<'_>) -> Result<Findings<'c>, Doubt> {
    let asked = ElevationRequest::from_bytes(&claims.request.request.0)
        .map_err(|_| Doubt::Request(DenyReason::RequestMalformed))?;
    let roster = chain.named(&asked.roster).ok_or(Doubt::RosterMissing(asked.roster.version))?;
    let offline = claims.record.is_some_and(|record| record.authority.certificate().is_none());
    // An offline grant stands for a while under a roster that has ended.
    let verify_request = if offline { break_glass::verify_request } else { verify_request };
    let request = verify_request(roster, claims.request, asked.created_at).map_err(Doubt::Request)?;
    let answers = claims.statements.iter().map(|signed| answer(chain, &request, signed));
    let answers = answers.collect::<Result<Vec<_>, _>>().map_err(Doubt::Answer)?;
    let session = match claims.record {
        None => None,
        Some(record) => Some(session(chain, roster, &request, claims, record)?),
    };
    Ok(Findings { roster, request, answers, session, ended: claims.ended.cloned() })
}

/// An answer counts under the head of its moment, which it does not name: the first version from the
/// request's on under which it verifies.
fn answer<'c>(chain: &'c Chain, request: &VerifiedRequest, signed: &SignedStatement) -> Result<Answer<'c>, DenyReason> {
    let mut first = None;
    for roster in chain.from(request.decided_by().version) {
        match answer_under(roster, request, signed) {
            Ok(answer) => return Ok(answer),
            Err(reason) => first = first.or(Some(reason)),
        }
    }
    Err(first.unwrap_or(DenyReason::RosterMismatch))
}

fn answer_under<'c>(
    roster: &'c VerifiedRoster,
    request: &VerifiedRequest,
    signed: &SignedStatement,
) -> Result<Answer<'c>, DenyReason> {
    let request = if request.is_under(roster) { request.clone() } else { request.under(roster)? };
    let (signer, approved, reason) = match verify_statement(roster, &request, signed)? {
        VerifiedAnswer::Approval(approval) => (approval.signer().clone(), Some(approval.ttl_s()), None),
        VerifiedAnswer::Denial(denial) => (denial.signer().clone(), None, denial.reason().map(str::to_owned)),
    };
    Ok(Answer { roster, signer, approved, reason })
}

fn session<'c>(
    chain: &'c Chain,
    own: &'c VerifiedRoster,
    request: &VerifiedRequest,
    claims: &Claims<'_>,
    record: &GrantRecord,
) -> Result<Session<'c>, Doubt> {
    if record.grant != request.id().grant() || record.request != *claims.request {
        return Err(Doubt::Record);
    }
    let asked = request.request();
    let start = verify_start(asked, request.id(), &record.start).map_err(Doubt::Start)?;
    let given = match &record.authority {
        Authority::Certificate(given) => given,
        Authority::BreakGlass(given) => return offline(own, request, &given.evidence.0, start),
    };
    let approval = verify_evidence(own, request, &given.evidence.0, asked.created_at).map_err(Doubt::Evidence)?;
    let evidence = Evidence::from_bytes(&given.evidence.0).map_err(|_| Doubt::Record)?;
    // A denial that came too late to stop the grant is the gateway's to show beside the record.
    if !evidence.statements.iter().all(|statement| claims.statements.contains(statement)) {
        return Err(Doubt::Differs);
    }
    // What the evidence brings along must be what the file shows.
    let head = approval.head().unwrap_or(own);
    let name = RosterRef { version: head.version, digest: head.digest() };
    let roster = chain.named(&name).ok_or(Doubt::RosterMissing(name.version))?;
    let requesters = approval.request_under_head().unwrap_or(request).requesters();
    let expected = check::Expected {
        session_key: &asked.session_key,
        host: &asked.host,
        target_user: &asked.target.user,
        requesters,
        request: request.id(),
        evidence: Evidence::digest_of(&given.evidence.0),
        ttl_s: approval.ttl_s(),
        now: start.started_at,
    };
    let mut outcome = Err(DenyReason::CertificateInvalid);
    for ca in &roster.roster().cas {
        outcome = check::elevation(&given.certificate.0, &ca.certificate.0, &expected).map(|made| (made, &ca.id));
        if outcome.is_ok() {
            break;
        }
    }
    let (certificate, ca) = outcome.map_err(Doubt::Certificate)?;
    if start.serial != Some(certificate.serial()) || start.target_user != asked.target.user {
        return Err(Doubt::Start(DenyReason::CertificateOther));
    }
    let approvers = approval.signers().each_ref().map(|signer| signer.person().clone());
    let by = By::Certificate(Box::new(certificate), ca.to_string());
    Ok(Session { roster, start, by, ttl_s: approval.ttl_s(), approvers })
}

/// A session that two holders of break-glass keys opened, while no gateway could be reached.
fn offline<'c>(
    own: &'c VerifiedRoster,
    request: &VerifiedRequest,
    evidence: &[u8],
    start: StartStatement,
) -> Result<Session<'c>, Doubt> {
    let opened = break_glass::verify_evidence(own, request, evidence).map_err(Doubt::Evidence)?;
    if start.serial.is_some() {
        return Err(Doubt::Start(DenyReason::CertificateOther));
    }
    let approvers = opened.holders().each_ref().map(|holder| holder.person.clone());
    let by = By::BreakGlass(opened.holders().each_ref().map(|holder| words(&holder.key_digest()).join(" ")));
    Ok(Session { roster: own, start, by, ttl_s: opened.ttl_s(), approvers })
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
