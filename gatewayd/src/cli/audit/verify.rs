//! Checks a grant again from its signatures alone: the request by its host, each answer by its
//! person, the certificate by its CA, the start by the session key, all under a roster that the
//! caller pins. Times are those of the moment that is told of, not of today.

use twinlock_certs::check;
use twinlock_protocol::evidence::{EndNote, Evidence, GrantRecord, SignedRequest};
use twinlock_protocol::ids::PersonId;
use twinlock_protocol::request::ElevationRequest;
use twinlock_protocol::roster::VerifiedRoster;
use twinlock_protocol::statement::{SignedStatement, StartStatement};
use twinlock_protocol::verify::{
    Signer, VerifiedAnswer, VerifiedRequest, verify_evidence, verify_request, verify_start, verify_statement,
};
use twinlock_protocol::{Bytes, DenyReason};

/// Everything that was handed over about one grant.
pub struct Claims<'a> {
    /// The request and its signatures.
    pub request: &'a SignedRequest,
    /// Every statement about it.
    pub statements: &'a [SignedStatement],
    /// The host's GrantRecord, if a session started.
    pub record: Option<&'a Bytes>,
    /// How it ended, if it did.
    pub ended: Option<&'a EndNote>,
}

/// One person's answer.
pub struct Answer {
    /// Who.
    pub signer: Signer,
    /// Yes.
    pub approved: bool,
    /// Why not, unescaped.
    pub reason: Option<String>,
}

/// A session that started, with everything that allowed it.
pub struct Session {
    /// What the session key signed.
    pub start: StartStatement,
    /// The certificate.
    pub certificate: check::CheckedCertificate,
    /// The life that both approvers granted, in seconds.
    pub ttl_s: u32,
}

/// What holds.
pub struct Findings {
    /// The request.
    pub request: VerifiedRequest,
    /// Every answer; each verified.
    pub answers: Vec<Answer>,
    /// The session, if the host recorded one; verified.
    pub session: Option<Session>,
    /// How it ended. Signed by nobody: the reaper's word through agent and gateway.
    pub ended: Option<EndNote>,
}

/// What does not hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The request.
    #[error("the request does not verify")]
    Request(#[source] DenyReason),
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

/// Verifies everything, or names the first thing that does not hold.
///
/// # Errors
/// [`Doubt`].
pub fn verify(roster: &VerifiedRoster, claims: &Claims<'_>) -> Result<Findings, Doubt> {
    let asked = ElevationRequest::from_bytes(&claims.request.request.0)
        .map_err(|_| Doubt::Request(DenyReason::RequestMalformed))?;
    let request = verify_request(roster, claims.request, asked.created_at).map_err(Doubt::Request)?;
    let answers = claims.statements.iter().map(|signed| answer(roster, &request, signed));
    let answers = answers.collect::<Result<Vec<_>, _>>().map_err(Doubt::Answer)?;
    let session = match claims.record {
        None => None,
        Some(record) => Some(session(roster, &request, claims, record)?),
    };
    Ok(Findings { request, answers, session, ended: claims.ended.cloned() })
}

fn answer(roster: &VerifiedRoster, request: &VerifiedRequest, signed: &SignedStatement) -> Result<Answer, DenyReason> {
    Ok(match verify_statement(roster, request, signed)? {
        VerifiedAnswer::Approval(approval) => {
            Answer { signer: approval.signer().clone(), approved: true, reason: None }
        }
        VerifiedAnswer::Denial(denial) => {
            Answer { signer: denial.signer().clone(), approved: false, reason: denial.reason().map(str::to_owned) }
        }
    })
}

fn session(
    roster: &VerifiedRoster,
    request: &VerifiedRequest,
    claims: &Claims<'_>,
    record: &Bytes,
) -> Result<Session, Doubt> {
    let record = GrantRecord::from_bytes(&record.0).map_err(|_| Doubt::Record)?;
    if record.grant != request.id().grant() || record.request != *claims.request {
        return Err(Doubt::Record);
    }
    let asked = request.request();
    let start = verify_start(asked, request.id(), &record.start).map_err(Doubt::Start)?;
    let approval = verify_evidence(roster, request, &record.evidence.0, asked.created_at).map_err(Doubt::Evidence)?;
    let evidence = Evidence::from_bytes(&record.evidence.0).map_err(|_| Doubt::Record)?;
    // A denial that came too late to stop the grant is the gateway's to show beside the record.
    if !evidence.statements.iter().all(|statement| claims.statements.contains(statement)) {
        return Err(Doubt::Differs);
    }
    let requesters: Vec<PersonId> = request.requesters().to_vec();
    let expected = check::Expected {
        session_key: &asked.session_key,
        host: &asked.host,
        target_user: &asked.target.user,
        requesters: &requesters,
        request: request.id(),
        evidence: Evidence::digest_of(&record.evidence.0),
        ttl_s: approval.ttl_s(),
        now: start.started_at,
    };
    let mut outcome = Err(DenyReason::CertificateInvalid);
    for ca in &roster.roster().cas {
        outcome = check::elevation(&record.certificate.0, &ca.certificate.0, &expected);
        if outcome.is_ok() {
            break;
        }
    }
    let certificate = outcome.map_err(Doubt::Certificate)?;
    if certificate.serial() != start.serial || start.target_user != asked.target.user {
        return Err(Doubt::Start(DenyReason::CertificateOther));
    }
    Ok(Session { start, certificate, ttl_s: approval.ttl_s() })
}
