//! Attacks on claims and answers, over the real wires.

use std::sync::Arc;

use serde_json::json;
use twinlock_gatewayd::request::{ClaimBy, Claimant, Event, Reply};
use twinlock_protocol::ids::{GroupName, RequestId, Ticket};
use twinlock_protocol::softphone::{Phone, random};
use twinlock_protocol::statement::Decision;
use twinlock_protocol::wire::WIRE_VERSION;
use twinlock_protocol::wire::module::{Alarm, ModuleEvent, ModuleMessage};
use twinlock_protocol::{DenyReason, Digest, Fixed};

use crate::support::{Claim, Gateway, Site};

/// Catalogue: A3 (control: two_persons_are_granted_and_the_certificate_is_revoked_after_the_session)
#[tokio::test(flavor = "multi_thread")]
async fn one_person_with_two_devices_is_refused() {
    let site = Site::with(
        |fixture| {
            let second = Phone::new("bob", "bob-tablet");
            fixture.roster.persons[1].devices.push(second.device.clone());
            fixture.phones.push(second);
        },
        "",
    );
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    let (_, ticket) = agent.ticket(waiting.id).await;
    gateway.approver(&site, "bob").answer(&ticket, Decision::Approve).await;
    let (_, ticket) = agent.ticket(waiting.id).await;
    let mut tablet = gateway.approver(&site, "bob");
    tablet.phone = site.fixture.phones.iter().find(|phone| phone.device.id.as_str() == "bob-tablet").unwrap();
    assert_eq!(tablet.try_claim(&ticket).await.problem(), "already-approved");
    // Control: another person is taken with the very same ticket.
    assert_eq!(gateway.approver(&site, "carol").answer(&ticket, Decision::Approve).await, "granted");
}

/// Catalogue: A5 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn the_requester_cannot_approve_nor_see_or_consume_anything() {
    let site = Site::with(
        |fixture| {
            let own = Phone::new("alice", "alice-phone");
            fixture.roster.persons[0].devices.push(own.device.clone());
            fixture.roster.persons[0].groups.push(GroupName::new("approvers").unwrap());
            fixture.phones.push(own);
        },
        "",
    );
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    let (_, ticket) = agent.ticket(waiting.id).await;
    let mut alice = gateway.approver(&site, "alice");
    let refused = alice.try_claim(&ticket).await;
    assert_eq!(refused.problem(), "approver-is-requester");
    assert!(!refused.text.contains("nginx"));
    let inbox = alice.web.get("/api/v1/inbox", alice.cookie.as_deref()).await.ok();
    assert_eq!(inbox["requests"], json!([]));
    assert_eq!(alice.try_code(waiting.id, "418302").await.problem(), "approver-is-requester");
    assert_eq!(gateway.approver(&site, "bob").answer(&ticket, Decision::Approve).await, "approved_first");
}

/// Catalogue: A1 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_answer_counts_once_and_never_for_another_request() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let (one, two) = (site.request(), site.request());
    agent.submit(&one).await;
    let (_, ticket) = agent.ticket(one.id).await;
    let mut bob = gateway.approver(&site, "bob");
    let claim = bob.claim(&ticket).await;
    let signed = bob.sign(&bob.statement(&claim, Decision::Approve));
    assert_eq!(bob.send(&claim, &signed).await.ok()["state"], "approved_first");
    assert_eq!(bob.send(&claim, &signed).await.problem(), "already-approved");
    // The same argv in a new request: another nonce, another digest.
    agent.submit(&two).await;
    let (_, ticket) = agent.ticket(two.id).await;
    let other = bob.claim(&ticket).await;
    assert_eq!(bob.send(&other, &signed).await.problem(), "evidence-other-request");
    assert_eq!(gateway.state(two.id).await, "pending");
    assert_eq!(bob.give(&other, Decision::Approve).await.ok()["state"], "approved_first");
}

/// Catalogue: A4 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_signed_on_somebody_elses_phone_or_sent_by_somebody_else_is_refused() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    let (_, ticket) = agent.ticket(waiting.id).await;
    let (mut bob, mut carol) = (gateway.approver(&site, "bob"), gateway.approver(&site, "carol"));
    let claim = bob.claim(&ticket).await;
    carol.sign_in().await;
    let statement = bob.statement(&claim, Decision::Approve);
    // Bob's statement with carol's keys; bob's answer in carol's session; carol's name in bob's.
    let forged = carol.sign(&statement);
    assert_eq!(bob.send(&claim, &forged).await.problem(), "assertion-signature");
    let signed = bob.sign(&statement);
    assert_eq!(carol.send(&claim, &signed).await.problem(), "not-found");
    let mut named = statement.clone();
    named.person = carol.phone.person.clone();
    assert_eq!(bob.send(&claim, &bob.sign(&named)).await.problem(), "evidence-other-request");
    // A cookie without the device: the claim's silent signature by another key.
    let nonce = bob.nonce().await;
    let by_carol = carol.signature(&[&nonce.0, ticket.as_bytes()]);
    let body = json!({ "ticket": ticket, "claim_nonce": nonce, "device_signature": by_carol });
    assert_eq!(bob.post("/api/v1/claim", &body).await.problem(), "device-signature");
    assert_eq!(bob.send(&claim, &signed).await.ok()["state"], "approved_first");
}

/// Catalogue: A7 (control: two_persons_are_granted_and_the_certificate_is_revoked_after_the_session)
#[tokio::test(flavor = "multi_thread")]
async fn a_denial_is_final_and_reaches_the_terminal_signed() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    let (_, ticket) = agent.ticket(waiting.id).await;
    let mut bob = gateway.approver(&site, "bob");
    let claim = bob.claim(&ticket).await;
    bob.give(&claim, Decision::Approve).await.ok();
    let (_, ticket) = agent.ticket(waiting.id).await;
    let mut carol = gateway.approver(&site, "carol");
    let second = carol.claim(&ticket).await;
    let mut statement = carol.statement(&second, Decision::Deny);
    statement.deny_reason = Some("not today\u{1b}[2J".into());
    assert_eq!(carol.send(&second, &carol.sign(&statement)).await.ok()["state"], "denied");
    let denied = loop {
        if let ModuleEvent::Denied(denied) = agent.event(waiting.id).await {
            break denied;
        }
    };
    let request = twinlock_protocol::verify::verify_request(&site.roster, &waiting.signed, crate::support::wall());
    let answer = twinlock_protocol::verify::verify_statement(&site.roster, &request.unwrap(), &denied.statement);
    assert!(matches!(answer, Ok(twinlock_protocol::verify::VerifiedAnswer::Denial(_))));
    assert_eq!(carol.give(&second, Decision::Approve).await.problem(), "denied");
    assert_eq!(bob.give(&claim, Decision::Approve).await.problem(), "denied");
    assert_eq!(gateway.state(waiting.id).await, "denied");
}

/// Catalogue: A8 (control: two_persons_are_granted_and_the_certificate_is_revoked_after_the_session)
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_after_expiry_or_hang_up_is_refused() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let mut bob = gateway.approver(&site, "bob");
    let waiting = site.request();
    agent.submit(&waiting).await;
    let claim = bob.claim(&agent.ticket(waiting.id).await.1).await;
    agent.gone(waiting.id).await;
    while gateway.state(waiting.id).await != "withdrawn" {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(bob.give(&claim, Decision::Approve).await.problem(), "cancelled");
    let waiting = site.request_with(|request| request.approve_by_s = 30);
    agent.submit(&waiting).await;
    let claim = bob.claim(&agent.ticket(waiting.id).await.1).await;
    gateway.pass(31).await;
    assert_eq!(bob.give(&claim, Decision::Approve).await.problem(), "expired");
    loop {
        match agent.event(waiting.id).await {
            ModuleEvent::Refused(refused) => break assert_eq!(refused.reason, DenyReason::Expired),
            ModuleEvent::Granted(_) => panic!("granted"),
            _ => {}
        }
    }
}

/// Catalogue: Q3 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_claims_of_one_ticket_make_exactly_one_lease() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    let (_, ticket) = agent.ticket(waiting.id).await;
    let hash = Ticket::new(&ticket).unwrap().hash();
    let mut claims = Vec::new();
    for number in 0..1000 {
        let phone = &site.fixture.phones[number % 3];
        let claimant = Claimant {
            person: phone.person.clone(),
            device: phone.device.id.clone(),
            credential: phone.device.credential_id.clone(),
            from: "192.0.2.1".into(),
        };
        let claim = Digest::plain(&random::<16>());
        let event = Event::Claim { claimant, by: ClaimBy::Ticket(hash), claim, salt: Fixed(random()) };
        let engine = Arc::clone(&gateway.running.engine);
        claims.push(tokio::spawn(async move { engine.apply(waiting.id, event).await }));
    }
    let mut taken = 0;
    for claim in claims {
        match claim.await.unwrap() {
            Ok(Reply::Claimed(_)) => taken += 1,
            Ok(other) => panic!("{other:?}"),
            Err(reason) => assert!(matches!(reason, DenyReason::TicketOver | DenyReason::SlotTaken), "{reason:?}"),
        }
    }
    assert_eq!(taken, 1);
}

/// Catalogue: Q3 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn two_phones_that_scan_at_once_get_one_claim() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    let (_, ticket) = agent.ticket(waiting.id).await;
    let (mut bob, mut carol) = (gateway.approver(&site, "bob"), gateway.approver(&site, "carol"));
    tokio::join!(bob.sign_in(), carol.sign_in());
    let (one, two) = tokio::join!(bob.try_claim(&ticket), carol.try_claim(&ticket));
    let statuses = [one.status, two.status];
    assert!(statuses == [200, 410] || statuses == [410, 200] || statuses == [409, 200] || statuses == [200, 409]);
}

/// Catalogue: Q1 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn the_inbox_needs_the_terminals_code_and_counts_five_tries_across_a_restart() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let (waiting, control) = (site.request(), site.request());
    agent.submit(&waiting).await;
    agent.submit(&control).await;
    agent.ticket(control.id).await;
    let mut bob = gateway.approver(&site, "bob");
    assert_eq!(bob.try_code(waiting.id, "000000").await.problem(), "code-wrong");
    let inbox = bob.web.get("/api/v1/inbox", bob.cookie.as_deref()).await.ok();
    assert_eq!(inbox["requests"].as_array().unwrap().len(), 2);
    let claim = Claim::read(bob.try_code(control.id, "418 302").await.ok());
    assert_eq!(bob.give(&claim, Decision::Approve).await.ok()["state"], "approved_first");
    for _ in 0..2 {
        assert_eq!(bob.try_code(waiting.id, "000001").await.problem(), "code-wrong");
    }
    let cookie = bob.cookie.clone();
    drop(agent);
    gateway.running.stop().await;
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    agent.resume(&waiting).await;
    agent.ticket(waiting.id).await;
    let mut bob = gateway.approver(&site, "bob");
    bob.cookie = cookie;
    assert_eq!(bob.try_code(waiting.id, "000002").await.problem(), "code-wrong");
    assert_eq!(bob.try_code(waiting.id, "000003").await.problem(), "code-exhausted");
    assert_eq!(bob.try_code(waiting.id, "418302").await.problem(), "code-exhausted");
}

/// Catalogue: V1 (control: two_persons_are_granted_and_the_certificate_is_revoked_after_the_session)
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_handed_what_does_not_verify_is_heard_and_audited() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    let alarm = Alarm { wire: WIRE_VERSION, request: waiting.id, reason: DenyReason::SamePerson };
    let question = twinlock_gatewayd::store::AuditQuery { after: 0, limit: 1000, grant: Some(waiting.id.grant()) };
    let rows = || {
        let rows = gateway.running.engine.store.audit(&question).unwrap();
        rows.into_iter().map(|row| row.event).filter(|event| event.contains("evidence_refused")).collect::<Vec<_>>()
    };
    assert!(rows().is_empty());
    agent.module(waiting.id, ModuleMessage::Alarm(alarm)).await;
    // One connection keeps its order: when this one waits, that one is in.
    agent.submit(&waiting).await;
    agent.ticket(waiting.id).await;
    let rows = rows();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].contains("same-person") && rows[0].contains(&waiting.id.grant().to_string()), "{rows:?}");
}

/// Catalogue: S1 (control: two_persons_are_granted_and_the_certificate_is_revoked_after_the_session)
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_speaks_for_its_own_host_alone() {
    use crate::support::Agent;
    use twinlock_protocol::signature::SigningKey;
    let (_, other_key) = SigningKey::generate().unwrap();
    let (other_host_key, _) = SigningKey::generate().unwrap();
    let public = SigningKey::from_pkcs8(&other_key).unwrap().public();
    let site = Site::with(
        |fixture| {
            let mut other = fixture.roster.hosts[0].clone();
            other.id = twinlock_protocol::ids::HostId::new("web02").unwrap();
            other.name = "web02".into();
            other.host_key = other_host_key.public();
            other.agent_key = public;
            fixture.roster.hosts.push(other);
        },
        "",
    );
    let gateway = Gateway::start(&site).await;
    let address = gateway.running.agents;
    let (_, stranger) = SigningKey::generate().unwrap();
    assert!(Agent::connect(address, &stranger, "web01").await.is_none(), "a key that the roster does not name");
    assert!(Agent::connect(address, &other_key, "web01").await.is_none(), "another host's name");
    let mut other = Agent::connect(address, &other_key, "web02").await.unwrap();
    let waiting = site.request();
    // web01's own signed request through web02's agent.
    other.submit(&waiting).await;
    let refused = |event| matches!(event, ModuleEvent::Refused(refused) if refused.reason == DenyReason::HostUnknown);
    assert!(refused(other.event(waiting.id).await));
    let mut own = gateway.agent(&site).await;
    own.submit(&waiting).await;
    own.ticket(waiting.id).await;
    // web02's agent knows id and token, and still cannot resume or cancel it.
    other.resume(&waiting).await;
    assert!(matches!(other.event(waiting.id).await, ModuleEvent::Refused(_)));
    other.gone(waiting.id).await;
    other.resume(&waiting).await;
    other.event(waiting.id).await;
    assert_eq!(gateway.state(waiting.id).await, "pending");
}

/// Catalogue: A18 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_frames_that_are_not_exactly_so_are_refused() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let web = gateway.approver(&site, "bob").web;
    let headers = [("origin", site.origin.as_str()), ("content-type", "application/json"), ("x-twinlock", "1")];
    let path = "/api/v1/sign-in/start";
    let long = format!("{{{}}}", " ".repeat(70_000));
    let deep = "[".repeat(10_000);
    for body in ["", "{", "{}x", "{\"a\":1}", "[]", "null", &deep, &long] {
        let answer = web.send(hyper::Method::POST, path, &headers, body.as_bytes().to_vec()).await;
        assert!((400..500).contains(&answer.status), "{} {:.40}", answer.status, body);
    }
    let answer = web.send(hyper::Method::POST, path, &headers, b"{}".to_vec()).await;
    assert_eq!(answer.status, 200);
    let twice = br#"{"claim":"AAAAAAAAAAAAAAAAAAAAAA","claim":"AAAAAAAAAAAAAAAAAAAAAA"}"#.to_vec();
    assert_eq!(web.send(hyper::Method::POST, "/api/v1/release", &headers, twice).await.problem(), "bad-input");
    // Frames: the same request with a space in it, and one field too many.
    let waiting = site.request();
    for (from, to) in [("\"reason\"", " \"reason\""), ("{\"format\"", "{\"x\":1,\"format\"")] {
        let mut agent = gateway.agent(&site).await;
        let mut changed = site.request();
        let text = String::from_utf8(waiting.signed.request.0.clone()).unwrap().replacen(from, to, 1);
        changed.signed.request.0 = text.into_bytes();
        changed.id = twinlock_protocol::request::ElevationRequest::id_of(&changed.signed.request.0);
        agent.submit(&changed).await;
        let event = agent.event(changed.id).await;
        assert!(matches!(&event, ModuleEvent::Refused(r) if r.reason == DenyReason::RequestMalformed), "{event:?}");
    }
    let mut agent = gateway.agent(&site).await;
    agent.say_raw(br#"{"ping":{},"ping":{}}"#.to_vec()).await;
    assert!(agent.hear().await.is_none(), "a malformed frame ends the connection");
    let mut agent = gateway.agent(&site).await;
    agent.submit(&waiting).await;
    agent.ticket(waiting.id).await;
    agent.submit(&waiting).await;
    loop {
        if let ModuleEvent::Refused(refused) = agent.event(waiting.id).await {
            break assert_eq!(refused.reason, DenyReason::RequestRepeated);
        }
    }
}

/// Catalogue: A2 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_with_any_field_changed_is_refused() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    let mut bob = gateway.approver(&site, "bob");
    let claim = bob.claim(&agent.ticket(waiting.id).await.1).await;
    let good = bob.statement(&claim, Decision::Approve);
    let mut bad = Vec::new();
    let mut change = |make: &dyn Fn(&mut twinlock_protocol::statement::ApprovalStatement)| {
        let mut statement = good.clone();
        make(&mut statement);
        bad.push(statement);
    };
    change(&|s| s.request_digest = RequestId(Digest::plain(b"another")));
    change(&|s| s.gateway_salt = Fixed([0; 32]));
    change(&|s| s.channel = twinlock_protocol::statement::Channel::Inbox(twinlock_protocol::statement::InboxMark {}));
    change(&|s| s.ttl_s = 0);
    change(&|s| s.ttl_s = 3601);
    change(&|s| s.scope = twinlock_protocol::request::Scope::Session);
    change(&|s| s.version = 2);
    change(&|s| s.deny_reason = Some("x".into()));
    for statement in bad {
        let answer = bob.send(&claim, &bob.sign(&statement)).await;
        assert!((400..500).contains(&answer.status), "{statement:?}");
    }
    assert_eq!(gateway.state(waiting.id).await, "pending");
    assert_eq!(bob.give(&claim, Decision::Approve).await.ok()["state"], "approved_first");
}

/// What a host says at random is counted always and written rarely.
///
/// Catalogue: N6 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_host_cannot_fill_the_audit_log_with_refusals() {
    use twinlock_protocol::evidence::EndReason;
    use twinlock_protocol::wire::module::{ModuleMessage, Submit};
    let site = Site::with(|_| {}, "[limits]\nrequests_per_host = 10\n");
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let mut waiting = site.request();
    agent.submit(&waiting).await;
    agent.ticket(waiting.id).await;
    for _ in 0..100 {
        agent.ended(site.request().id.grant(), EndReason::Finished).await;
        let other = site.request();
        let submit = Submit { wire: 99, signed: other.signed.clone(), resume_token: other.resume_token };
        agent.module(other.id, ModuleMessage::Submit(submit)).await;
    }
    let right = waiting.resume_token;
    waiting.resume_token = twinlock_protocol::Fixed([0; 32]);
    for _ in 0..100 {
        agent.resume(&waiting).await;
    }
    // Control: the host is still heard.
    agent.module(waiting.id, ModuleMessage::Cancel(twinlock_protocol::wire::module::Cancel {})).await;
    while gateway.state(waiting.id).await != "withdrawn" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let question = twinlock_gatewayd::store::AuditQuery { after: 0, limit: 10_000, grant: None };
    let rows = gateway.running.engine.store.audit(&question).unwrap();
    let count = |name: &str| rows.iter().filter(|row| row.event.contains(&format!("\"event\":\"{name}\""))).count();
    let written = count("report_refused") + count("resume_refused");
    assert!((1..=20).contains(&written), "{written}");
    assert!((1..=10).contains(&count("request_refused")), "{}", count("request_refused"));
    assert_eq!(count("request_withdrawn"), 1);
    let _kept = right;
}

/// Catalogue: Q8 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn guessed_tickets_hit_nothing_look_alike_and_are_limited() {
    let site = Site::with(|_fixture| {}, "[limits]\ncalls_per_approver = 20\n");
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    let (_, ticket) = agent.ticket(waiting.id).await;
    let engine = &gateway.running.engine;
    // A million guesses where there is no limit at all: none of 2^128 is hit.
    let hits =
        (0..1_000_000_u32).filter(|_| engine.request_of_ticket(&Ticket::from_random(&random()).hash()).is_some());
    assert_eq!(hits.count(), 0);
    assert!(engine.request_of_ticket(&Ticket::new(&ticket).unwrap().hash()).is_some());
    // Over the wire each looks like the other, and soon there are no more.
    let mut carol = gateway.approver(&site, "carol");
    let (mut answers, mut limited) = (Vec::new(), false);
    for _ in 0..40 {
        let refused = carol.try_claim(Ticket::from_random(&random()).as_str()).await;
        match refused.problem().as_str() {
            "rate-limited" => limited = true,
            _ => answers.push(refused.text),
        }
    }
    answers.dedup();
    assert!(limited && answers.len() == 1, "{answers:?}");
    // Control: another person with the ticket itself is let in.
    assert_eq!(gateway.approver(&site, "bob").try_claim(&ticket).await.status, 200);
}
