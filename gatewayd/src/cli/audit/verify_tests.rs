//! The audit's own verifier against one changed thing at a time.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use twinlock_certs::issue::Ca;
use twinlock_protocol::Bytes;
use twinlock_protocol::evidence::{EndReason, ProcessNote};
use twinlock_protocol::ids::CertSerial;
use twinlock_protocol::softphone::{self, Fixture};
use twinlock_protocol::statement::Decision;

use super::*;
use crate::cli::audit::granted::{Granted, NOW};
use crate::cli::audit::page;

#[test]
fn a_grant_verifies_again_and_reads_well() {
    let granted = Granted::new();
    let findings = granted.verify().unwrap();
    let page = page::story(&findings).join("\n");
    for part in ["who        alice", "as         root on web01", "approved   bob", "approved   carol"] {
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
    let line = page::end_line(&ended);
    assert!(line.contains("killed sleep\\u{1b}[2J (7)"), "{line}");
}

#[test]
fn a_denied_request_verifies_without_a_session() {
    let (ca, _) = Ca::generate("test CA", NOW, 1).unwrap();
    let fixture = Fixture::new(ca.certificate(), NOW);
    let (envelope, roster) = fixture.seal();
    let (request, _) = fixture.verified_request(&roster);
    let chain = Chain::follow(std::slice::from_ref(&envelope), &envelope.digest).unwrap();
    let statements = [fixture.phone("dave").answer(&roster, request.id(), Decision::Deny)];
    let claims = Claims { request: request.signed(), statements: &statements, record: None, ended: None };
    let findings = verify(&chain, &claims).unwrap();
    let page = page::story(&findings).join("\n");
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
        g.record.authority.certified().evidence = Bytes(one);
        g.record.authority.certified().certificate = Bytes(g.ca.elevation(&g.template).unwrap());
    });
    assert_eq!(doubt, Doubt::Evidence(DenyReason::TooFewApprovals));
    let doubt = Granted::doubt(|g| {
        g.template.target_user = "postgres".into();
        g.record.authority.certified().certificate = Bytes(g.ca.elevation(&g.template).unwrap());
    });
    assert_eq!(doubt, Doubt::Certificate(DenyReason::CertificateOther));
    let doubt = Granted::doubt(|g| {
        let (stranger, _) = Ca::generate("test CA", NOW, 1).unwrap();
        g.record.authority.certified().certificate = Bytes(stranger.elevation(&g.template).unwrap());
    });
    assert_eq!(doubt, Doubt::Certificate(DenyReason::CertificateInvalid));
    let doubt = Granted::doubt(|g| {
        g.template.serial = CertSerial::from_random([8; 16]);
        g.record.authority.certified().certificate = Bytes(g.ca.elevation(&g.template).unwrap());
    });
    assert_eq!(doubt, Doubt::Start(DenyReason::CertificateOther));
}

/// The checks in their order, and the words of one of them.
fn told(said: &[page::Said]) -> Vec<&str> {
    said.iter().map(|said| said.about).collect()
}

fn words<'a>(said: &'a [page::Said], about: &str) -> &'a str {
    said.iter().find(|said| said.about == about).map_or("", |said| &said.words)
}

/// Catalogue: L7 (control: inline)
#[test]
fn an_evidence_file_says_what_it_proved_and_what_it_did_not() {
    let granted = Granted::new();
    let mut file = granted.file();
    file.ended = Some(EndNote {
        reason: EndReason::Finished,
        ended_at: NOW.plus(8),
        took_ms: 3,
        killed: vec![],
        escaped: vec![],
        lingered: false,
    });
    let read = EvidenceFile::from_bytes(&file.to_bytes()).unwrap();
    assert_eq!(read, file);
    let chain = chain_of(&read, &granted.rosters[0].digest).unwrap();
    let findings = verify_file(&chain, &read).unwrap();
    let proved = page::proved(&chain, &findings);
    assert_eq!(
        told(&proved),
        ["roster", "request", "answers", "answers", "approvals", "certificate", "start"],
        "every check is told"
    );
    assert!(words(&proved, "roster").contains("signed by bob, carol and dave"));
    assert!(words(&proved, "request").contains("alice asked for systemctl restart nginx as root on web01"));
    assert!(words(&proved, "answers").contains("bob approved exactly this request, for at most 15:00"));
    assert!(words(&proved, "answers").contains("bob's phone (assurance C"));
    assert!(words(&proved, "approvals").contains("bob and carol are two people"));
    let open = page::not_proved(&findings);
    assert!(words(&open, "host").starts_with("claimed, not proven"));
    for about in ["times", "screen", "people", "device", "others", "revoked", "effect", "end", "pin"] {
        assert!(told(&open).contains(&about), "{about}");
    }
    assert!(page::remarks(&findings).is_empty());
    let json = page::as_json(&chain, &findings);
    assert_eq!(
        (&json["verified"], &json["proved"][0]["about"], &json["session"]["approvers"][1]),
        (&true.into(), &"roster".into(), &"carol".into())
    );

    // One thing wrong each: the check is named.
    let check = |change: &dyn Fn(&mut EvidenceFile)| {
        let mut file = file.clone();
        change(&mut file);
        verify_file(&chain, &file).err().map(|doubt| doubt.check())
    };
    let other = Granted::new();
    assert_eq!(check(&|_| ()), None);
    assert_eq!(check(&|file| file.grant = other.record.grant), Some("request"));
    assert_eq!(check(&|file| file.request.session_signature.0[0] ^= 1), Some("request"));
    assert_eq!(check(&|file| file.statements[1].assertion.authenticator_data.0[33] ^= 1), Some("answers"));
    assert_eq!(
        check(&|file| file.record.as_mut().unwrap().authority.certified().evidence.0[99] ^= 1),
        Some("approvals")
    );
    assert_eq!(
        check(&|file| file.record.as_mut().unwrap().authority.certified().certificate.0[99] ^= 1),
        Some("certificate")
    );
    assert_eq!(check(&|file| file.record.as_mut().unwrap().start.signature.0[9] ^= 1), Some("start"));
    let doubt = chain_of(&file, &other.rosters[0].digest).unwrap_err();
    assert_eq!(doubt.check(), "roster");
    let mut foreign = file.clone();
    foreign.rosters.clone_from(&other.rosters);
    let chain = chain_of(&foreign, &other.rosters[0].digest).unwrap();
    assert_eq!(verify_file(&chain, &foreign).err().unwrap().check(), "roster");
    foreign.rosters.clear();
    assert_eq!(chain_of(&foreign, &file.rosters[0].digest).unwrap_err(), Doubt::Roster(ChainDoubt::Empty));
}

#[test]
fn a_file_that_is_not_quite_one_is_refused() {
    let text = String::from_utf8(Granted::new().file().to_bytes()).unwrap();
    assert!(EvidenceFile::from_bytes(text.as_bytes()).is_ok());
    for wrong in [
        text.replacen(r#""version":1"#, r#""version":2"#, 1),
        text.replacen(r#""version":1"#, r#""version":1,"more":1"#, 1),
        text.replacen("twinlock-evidence-file", "twinlock-evidence", 1),
        format!("{text}{{}}"),
    ] {
        assert!(EvidenceFile::from_bytes(wrong.as_bytes()).is_err());
    }
}

#[test]
fn what_does_not_fit_together_is_remarked() {
    let mut granted = Granted::new();
    let roster = granted.chain.head();
    let denial = granted.fixture.phone("dave").answer(roster, granted.template.request, Decision::Deny);
    granted.statements.push(denial);
    let mut file = granted.file();
    file.ended = Some(EndNote {
        reason: EndReason::Expired,
        ended_at: NOW.plus(5 + 900 + 60),
        took_ms: 3,
        killed: vec![],
        escaped: vec![ProcessNote { pid: 9, name: "nc".into() }],
        lingered: false,
    });
    let findings = verify_file(&granted.chain, &file).unwrap();
    assert_eq!(told(&page::remarks(&findings)), ["denied", "overrun", "escaped"]);
    file.ended.as_mut().unwrap().ended_at = NOW.plus(5 + 900);
    let findings = verify_file(&granted.chain, &file).unwrap();
    assert_eq!(told(&page::remarks(&findings)), ["denied", "escaped"]);
    let third = granted.fixture.phone("dave").answer(granted.chain.head(), granted.template.request, Decision::Approve);
    file.statements[2] = third;
    file.ended = None;
    let findings = verify_file(&granted.chain, &file).unwrap();
    let remarks = page::remarks(&findings);
    assert_eq!(told(&remarks), ["uncounted"]);
    assert!(words(&remarks, "uncounted").starts_with("dave approved too"));
}
