//! The audit's own verifier against one changed thing at a time.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use twinlock_certs::issue::{Ca, ElevationTemplate};
use twinlock_protocol::evidence::{Evidence, GrantRecord, GrantRecordFormat, SignedRequest};
use twinlock_protocol::ids::CertSerial;
use twinlock_protocol::roster::VerifiedRoster;
use twinlock_protocol::softphone::{self, Fixture};
use twinlock_protocol::statement::{Decision, SignedStatement};
use twinlock_protocol::{Bytes, DenyReason, UnixTime};

use super::super::verify::{Claims, Doubt, Findings, verify};
use super::*;

const NOW: UnixTime = UnixTime(1_800_000_000);

/// A grant as gateway and host would have it.
struct Granted {
    roster: VerifiedRoster,
    request: SignedRequest,
    statements: Vec<SignedStatement>,
    record: GrantRecord,
    ca: Ca,
    template: ElevationTemplate,
}

impl Granted {
    fn new() -> Self {
        let (ca, _) = Ca::generate("test CA", NOW, 1).unwrap();
        let fixture = Fixture::new(ca.certificate(), NOW);
        let (_, roster) = fixture.seal();
        let (request, session_key) = fixture.verified_request(&roster);
        let answer = |name: &str| fixture.phone(name).answer(&roster, request.id(), Decision::Approve);
        let statements = vec![answer("bob"), answer("carol")];
        let evidence = softphone::evidence(request.id(), statements.clone()).to_bytes();
        let template = ElevationTemplate {
            session_key: request.request().session_key,
            serial: CertSerial::from_random([9; 16]),
            host: request.request().host.clone(),
            target_user: request.request().target.user.clone(),
            requesters: request.requesters().to_vec(),
            not_before: NOW,
            not_after: NOW.plus(60),
            request: request.id(),
            evidence: Evidence::digest_of(&evidence),
            crl_url: "https://tl.example.org/crl.der".into(),
        };
        let mut start = softphone::start(request.request(), request.id(), &session_key, 1);
        let mut said = twinlock_protocol::statement::StartStatement::from_bytes(&start.statement.0).unwrap();
        said.serial = template.serial;
        said.started_at = NOW.plus(5);
        start.statement = Bytes(said.to_bytes());
        let message = twinlock_protocol::digest::Domain::Start.message(&start.statement.0);
        start.signature = session_key.sign(&message).unwrap();
        let record = GrantRecord {
            format: GrantRecordFormat::GrantRecord,
            version: 1,
            grant: request.id().grant(),
            request: request.signed().clone(),
            evidence: Bytes(evidence),
            certificate: Bytes(ca.elevation(&template).unwrap()),
            start,
            end: None,
        };
        Self { roster, request: request.signed().clone(), statements, record, ca, template }
    }

    fn verify(&self) -> Result<Findings, Doubt> {
        let record = Bytes(self.record.to_bytes());
        let claims =
            Claims { request: &self.request, statements: &self.statements, record: Some(&record), ended: None };
        verify(&self.roster, &claims)
    }

    fn doubt(change: impl FnOnce(&mut Self)) -> Doubt {
        let mut granted = Self::new();
        change(&mut granted);
        granted.verify().err().unwrap()
    }
}

#[test]
fn a_grant_verifies_again_and_reads_well() {
    let granted = Granted::new();
    let findings = granted.verify().unwrap();
    let page = words(&granted.roster, &findings).join("\n");
    for part in
        ["who        alice", "as         root on web01", "approved   bob", "approved   carol", "two distinct people"]
    {
        assert!(page.contains(part), "{part} is missing:\n{page}");
    }
    let ended = EndNote {
        reason: EndReason::Expired,
        ended_at: NOW,
        took_ms: 12,
        killed: vec![ProcessNote { pid: 7, name: "sleep\u{1b}[2J".into() }],
        escaped: vec![],
        lingered: true,
    };
    assert!(end_line(&ended).contains("killed sleep\\u{1b}[2J (7)"), "{}", end_line(&ended));
}

#[test]
fn a_denied_request_verifies_without_a_session() {
    let (ca, _) = Ca::generate("test CA", NOW, 1).unwrap();
    let fixture = Fixture::new(ca.certificate(), NOW);
    let (_, roster) = fixture.seal();
    let (request, _) = fixture.verified_request(&roster);
    let statements = [fixture.phone("dave").answer(&roster, request.id(), Decision::Deny)];
    let claims = Claims { request: request.signed(), statements: &statements, record: None, ended: None };
    let findings = verify(&roster, &claims).unwrap();
    let page = words(&roster, &findings).join("\n");
    assert!(page.contains("denied     dave") && page.contains("session    none"), "{page}");
}

/// Catalogue: I6 (control: a_grant_verifies_again_and_reads_well)
#[test]
fn whoever_edits_the_gateways_database_is_found_out() {
    let other = Granted::new();
    assert_eq!(Granted::doubt(|g| g.request.request.0[40] ^= 1), Doubt::Request(DenyReason::RequestMalformed));
    assert_eq!(Granted::doubt(|g| g.request.host_signature.0[3] ^= 1), Doubt::Request(DenyReason::RequestSignature));
    assert_eq!(
        Granted::doubt(|g| g.statements[0] = other.statements[0].clone()),
        Doubt::Answer(DenyReason::EvidenceOtherRequest)
    );
    assert_eq!(
        Granted::doubt(|g| g.statements[0].assertion.signature.0[9] ^= 1),
        Doubt::Answer(DenyReason::AssertionSignature)
    );
    assert_eq!(Granted::doubt(|g| drop(g.statements.remove(0))), Doubt::Differs);
    assert_eq!(Granted::doubt(|g| g.record.grant = other.record.grant), Doubt::Record);
    assert_eq!(Granted::doubt(|g| g.record.request = other.request.clone()), Doubt::Record);
    assert_eq!(Granted::doubt(|g| g.record.start.signature.0[1] ^= 1), Doubt::Start(DenyReason::RequestSignature));
}

/// Catalogue: C5 (control: a_grant_verifies_again_and_reads_well)
#[test]
fn a_record_with_too_few_approvals_or_another_certificate_is_found_out() {
    let doubt = Granted::doubt(|g| {
        let one = softphone::evidence(g.template.request, vec![g.statements[0].clone()]).to_bytes();
        g.template.evidence = Evidence::digest_of(&one);
        g.record.evidence = Bytes(one);
        g.record.certificate = Bytes(g.ca.elevation(&g.template).unwrap());
    });
    assert_eq!(doubt, Doubt::Evidence(DenyReason::TooFewApprovals));
    let doubt = Granted::doubt(|g| {
        g.template.target_user = "postgres".into();
        g.record.certificate = Bytes(g.ca.elevation(&g.template).unwrap());
    });
    assert_eq!(doubt, Doubt::Certificate(DenyReason::CertificateOther));
    let doubt = Granted::doubt(|g| {
        let (stranger, _) = Ca::generate("test CA", NOW, 1).unwrap();
        g.record.certificate = Bytes(stranger.elevation(&g.template).unwrap());
    });
    assert_eq!(doubt, Doubt::Certificate(DenyReason::CertificateInvalid));
    let doubt = Granted::doubt(|g| {
        g.template.serial = CertSerial::from_random([8; 16]);
        g.record.certificate = Bytes(g.ca.elevation(&g.template).unwrap());
    });
    assert_eq!(doubt, Doubt::Start(DenyReason::CertificateOther));
}
