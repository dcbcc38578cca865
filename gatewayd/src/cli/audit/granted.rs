//! A grant by bob and carol for alice, with everything that gateway and host would keep of it; for
//! tests.

#![allow(clippy::unwrap_used)]

use twinlock_certs::issue::{Ca, ElevationTemplate};
use twinlock_protocol::evidence::{Authority, Certified, Evidence, GrantRecord, GrantRecordFormat, SignedRequest};
use twinlock_protocol::ids::CertSerial;
use twinlock_protocol::roster::RosterEnvelope;
use twinlock_protocol::softphone::{self, Fixture};
use twinlock_protocol::statement::{Decision, SignedStatement};
use twinlock_protocol::{Bytes, UnixTime};

use super::chain::Chain;
use super::file::{EvidenceFile, EvidenceFileFormat, VERSION};
use super::verify::{Claims, Doubt, Findings, verify};

/// When it was asked for.
pub const NOW: UnixTime = UnixTime(1_800_000_000);

/// A grant as gateway and host would have it.
pub struct Granted {
    pub fixture: Fixture,
    pub rosters: Vec<RosterEnvelope>,
    pub chain: Chain,
    pub request: SignedRequest,
    pub statements: Vec<SignedStatement>,
    pub record: GrantRecord,
    pub ca: Ca,
    pub template: ElevationTemplate,
}

impl Granted {
    pub fn new() -> Self {
        let (ca, _) = Ca::generate("test CA", NOW, 1).unwrap();
        let fixture = Fixture::new(ca.certificate(), NOW);
        let (envelope, roster) = fixture.seal();
        let chain = Chain::follow(std::slice::from_ref(&envelope), &envelope.digest).unwrap();
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
        said.serial = Some(template.serial);
        said.started_at = NOW.plus(5);
        start.statement = Bytes(said.to_bytes());
        let message = twinlock_protocol::digest::Domain::Start.message(&start.statement.0);
        start.signature = session_key.sign(&message).unwrap();
        let record = GrantRecord {
            format: GrantRecordFormat::GrantRecord,
            version: 1,
            grant: request.id().grant(),
            request: request.signed().clone(),
            authority: Authority::Certificate(Certified {
                evidence: Bytes(evidence),
                certificate: Bytes(ca.elevation(&template).unwrap()),
            }),
            start,
            end: None,
        };
        Self {
            fixture,
            rosters: vec![envelope],
            chain,
            request: request.signed().clone(),
            statements,
            record,
            ca,
            template,
        }
    }

    pub fn file(&self) -> EvidenceFile {
        EvidenceFile {
            format: EvidenceFileFormat::EvidenceFile,
            version: VERSION,
            grant: self.record.grant,
            rosters: self.rosters.clone(),
            request: self.request.clone(),
            statements: self.statements.clone(),
            record: Some(self.record.clone()),
            ended: None,
        }
    }

    pub fn verify(&self) -> Result<Findings<'_>, Doubt> {
        let record = Some(&self.record);
        let claims = Claims { request: &self.request, statements: &self.statements, record, ended: None };
        verify(&self.chain, &claims)
    }

    pub fn doubt(change: impl FnOnce(&mut Self)) -> Doubt {
        let mut granted = Self::new();
        change(&mut granted);
        let doubt = granted.verify().err();
        doubt.unwrap()
    }
}
