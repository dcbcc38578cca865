//! The papers behind the roster's changes: calls that are broken off, places that somebody fills, who
//! may decline what, and that memory is what the database has.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use serde_json::json;
use twinlock_gatewayd::approval::Source;
use twinlock_gatewayd::clock::Clock;
use twinlock_gatewayd::roster::Changes;
use twinlock_gatewayd::roster::op::Op;
use twinlock_gatewayd::roster::proposal::Proposer;
use twinlock_gatewayd::store::{LifeChange, PaperKind, PaperRow, Transaction, Work};
use twinlock_protocol::codec::encode;
use twinlock_protocol::ids::PersonId;
use twinlock_protocol::softphone::Fixture;
use twinlock_protocol::{Bytes, DenyReason, Fixed, UnixTime};

use crate::life::{five, sealed_by, try_sign_in, web};
use crate::people::{Guest, field, possession, start_restore};
use crate::support::{Approver, Gateway, Site};

const ADMIN: Proposer = Proposer::Admin { uid: 0 };

fn person(name: &str) -> PersonId {
    PersonId::new(name).unwrap()
}

fn by(name: &str) -> Proposer {
    Proposer::Person { person: person(name) }
}

/// Polls a call so many times, whenever it asks for it, and then hangs up; its answer, if it was done.
async fn hang_up_after<F: Future>(polls: usize, call: F) -> Option<F::Output> {
    let mut call = pin!(call);
    let mut left = polls;
    std::future::poll_fn(|cx| {
        let Some(less) = left.checked_sub(1) else { return Poll::Ready(None) };
        left = less;
        match call.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// What waits, in memory and in the database, between two changes: a call that was hung up on may not
/// have come to the lock yet, so memory is read again, behind whoever held it meanwhile.
async fn both(gateway: &Gateway) -> [BTreeMap<Fixed<16>, String>; 2] {
    let engine = &gateway.running.engine;
    loop {
        // Behind whatever still waits for the writer.
        engine.note(Vec::new()).await;
        let before = in_memory(&gateway.running.changes).await;
        let mut database = BTreeMap::new();
        for kind in [PaperKind::Proposal, PaperKind::Invite] {
            let rows = engine.store.papers(kind, UnixTime(u64::MAX >> 2)).unwrap();
            database.extend(rows.into_iter().map(|(id, _, body)| (id, text(&body.0))));
        }
        if in_memory(&gateway.running.changes).await == before {
            return [before, database];
        }
    }
}

async fn in_memory(changes: &Arc<Changes>) -> BTreeMap<Fixed<16>, String> {
    let (proposals, _) = changes.open_proposals().await.unwrap();
    let mut memory: BTreeMap<_, _> = proposals.iter().map(|one| (one.id, text(&encode(&one.at_rest())))).collect();
    let invites = changes.open_invites().await.unwrap();
    memory.extend(invites.iter().map(|one| (one.invite.id, text(&encode(&*one.invite)))));
    memory
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Hangs up on a call after each number of polls, until it is done in time.
async fn at_every_moment<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
    gateway: &Gateway,
    what: &str,
    call: impl Fn(usize) -> F,
) {
    for polls in 1..64 {
        let answer = hang_up_after(polls, call(polls)).await;
        let [memory, database] = both(gateway).await;
        assert_eq!(memory, database, "{what}, hung up on after {polls} polls");
        if let Some(answer) = answer {
            answer.unwrap();
            assert!(polls > 1, "{what} never waited: nothing was tried");
            return;
        }
    }
    panic!("{what} is never done");
}

async fn open_proposal(changes: &Arc<Changes>) -> Fixed<16> {
    let expires_at = changes.engine().clock.now().plus(180 * 24 * 3600);
    changes.propose(vec![Op::Renew { expires_at }], ADMIN).await.unwrap()
}

/// A phone hangs up whenever it likes; axum drops the call where it stands.
///
/// Catalogue: I6 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_broken_off_at_any_moment_leaves_memory_as_the_database_has_it() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let changes = &gateway.running.changes;
    let expires_at = gateway.clock.now().plus(180 * 24 * 3600);
    at_every_moment(&gateway, "propose", |_| changes.propose(vec![Op::Renew { expires_at }], ADMIN)).await;
    at_every_moment(&gateway, "suspend", |polls| {
        // One each, for what is proposed already is not proposed again.
        let whom = ["bob", "carol", "dave", "erin", "frank"][polls % 5];
        let accuser = ["bob", "carol", "dave", "erin", "frank"][(polls + 1 + polls / 5) % 5];
        changes.suspend(person(whom), by(accuser))
    })
    .await;
    at_every_moment(&gateway, "invite", |_| changes.invite(person("bob"), None, ADMIN)).await;

    // The last one that is open may be gone already, when the call was broken off late enough.
    at_every_moment(&gateway, "withdraw", |_| async {
        let id = open_proposal(changes).await;
        hang_up_after(1, changes.withdraw(&id, &ADMIN)).await;
        let id = open_proposal(changes).await;
        changes.withdraw(&id, &ADMIN).await
    })
    .await;
    at_every_moment(&gateway, "cancel", |_| async {
        let id = changes.invite(person("bob"), None, by("carol")).await.unwrap().id;
        hang_up_after(1, changes.cancel_invite(&id, &ADMIN)).await;
        let id = changes.invite(person("bob"), None, by("carol")).await.unwrap().id;
        changes.cancel_invite(&id, &ADMIN).await
    })
    .await;
    let from = Source::new([127, 0, 0, 1].into(), "a browser");
    at_every_moment(&gateway, "open", |_| async {
        let secret = changes.invite(person("bob"), None, by("dave")).await.unwrap().secret;
        let cookie = Some(Fixed([7; 32]));
        hang_up_after(1, changes.open_invite(secret.as_str(), cookie, &from)).await;
        let opened = changes.open_invite(secret.as_str(), cookie, &from).await;
        changes.cancel_invite(&changes.open_invites().await.unwrap().last().unwrap().invite.id, &ADMIN).await.unwrap();
        opened
    })
    .await;
    // Nothing is stuck: a change is sealed, and what was open follows it.
    let id = json!(open_proposal(changes).await);
    sealed_by(&gateway, &site, &id, &["carol", "dave"]).await;
    let [memory, database] = both(&gateway).await;
    assert_eq!(memory, database);
}

/// A gateway that finds another revision than it knows reads the papers again instead of refusing
/// every change until it is started anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_paper_that_is_ahead_in_the_database_is_read_again() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let (changes, engine) = (&gateway.running.changes, &gateway.running.engine);
    let id = open_proposal(changes).await;
    let (_, revision, body) = engine.store.papers(PaperKind::Proposal, gateway.clock.now()).unwrap().remove(0);
    let until = gateway.clock.now().plus(8 * 24 * 3600);
    let ahead = PaperRow { kind: PaperKind::Proposal, id, replaces: Some(revision), is_over: false, until, body };
    let work = Work::Life(vec![LifeChange::Paper(ahead)]);
    engine.store.commit(Transaction { at_ms: gateway.clock.unix_ms(), work, events: Vec::new() }).await.unwrap();
    // The first call finds out; everything after it stands on what the database has.
    assert_eq!(changes.withdraw(&id, &ADMIN).await, Err(DenyReason::StoreFailed));
    assert_eq!(changes.withdraw(&id, &ADMIN).await, Ok(()));
    // The same where time, and nobody, moves it: the call that finds out goes through.
    let id = open_proposal(changes).await;
    let rows = engine.store.papers(PaperKind::Proposal, gateway.clock.now()).unwrap();
    let (_, revision, body) = rows.into_iter().find(|(one, ..)| *one == id).unwrap();
    let ahead = PaperRow { kind: PaperKind::Proposal, id, replaces: Some(revision), is_over: false, until, body };
    let work = Work::Life(vec![LifeChange::Paper(ahead)]);
    engine.store.commit(Transaction { at_ms: gateway.clock.unix_ms(), work, events: Vec::new() }).await.unwrap();
    gateway.clock.advance(7 * 24 * 3600);
    assert!(changes.open_proposals().await.unwrap().0.is_empty(), "it is out of time");
}

/// A commit that seemed to fail may stand: the version that it sealed is the head all the same, or every
/// later one would collide with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_sealed_unheard_becomes_the_head() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let (changes, engine) = (&gateway.running.changes, &gateway.running.engine);
    let id = open_proposal(changes).await;
    let head = engine.roster();
    let next = Fixture::next(&head, |roster| roster.rules.max_ttl_s = 600);
    let envelope = site.fixture.envelope(&head, &next, &["carol", "dave"]);
    let sealed = head.successor(&envelope).unwrap();
    let (_, revision, body) = engine.store.papers(PaperKind::Proposal, gateway.clock.now()).unwrap().remove(0);
    let until = gateway.clock.now().plus(8 * 24 * 3600);
    let ahead = PaperRow { kind: PaperKind::Proposal, id, replaces: Some(revision), is_over: false, until, body };
    let seal = LifeChange::Seal { version: 2, digest: sealed.digest(), envelope: Bytes(envelope.to_bytes()) };
    let work = Work::Life(vec![LifeChange::Paper(ahead), seal]);
    engine.store.commit(Transaction { at_ms: gateway.clock.unix_ms(), work, events: Vec::new() }).await.unwrap();
    assert_eq!(engine.roster().version, 1, "control: nobody was told");
    assert_eq!(changes.withdraw(&id, &ADMIN).await, Err(DenyReason::StoreFailed));
    assert_eq!(changes.withdraw(&id, &ADMIN).await, Ok(()));
    assert_eq!(engine.roster().digest(), sealed.digest());
    let id = json!(open_proposal(changes).await);
    sealed_by(&gateway, &site, &id, &["carol", "dave"]).await;
    assert_eq!(engine.roster().version, 3);
}

fn withdraw_of(id: &serde_json::Value) -> String {
    format!("/api/v1/roster/proposals/{}/withdraw", id.as_str().unwrap())
}

/// Catalogue: A12 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn the_accused_does_not_decline_their_own_suspension_nor_others_one_persons() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let (mut bob, mut carol) = (gateway.approver(&site, "bob"), gateway.approver(&site, "carol"));
    let mut dave = gateway.approver(&site, "dave");
    // By one alone: that person's, and nobody else's.
    let alone = dave.call("/api/v1/roster/suspend", json!({ "person": "bob" })).await.ok();
    for other in [&mut bob, &mut carol] {
        assert_eq!(other.read(&alone["id"]).await["may_withdraw"], false);
        let refused = other.call(&withdraw_of(&alone["id"]), json!({})).await;
        assert_eq!((refused.status, refused.problem().as_str()), (403, "approver-not-eligible"));
    }
    // By two: whoever it is about has no say.
    let two = carol.call("/api/v1/roster/remove", json!({ "person": "bob", "device": null })).await.ok();
    assert_eq!(bob.call(&withdraw_of(&two["id"]), json!({})).await.problem(), "approver-not-eligible");
    assert_eq!(carol.proposals().await.len(), 2);
    // Control: the one who is alone, another approver, somebody about themselves, and root.
    assert_eq!(dave.read(&alone["id"]).await["may_withdraw"], true);
    dave.call(&withdraw_of(&alone["id"]), json!({})).await.ok();
    dave.call(&withdraw_of(&two["id"]), json!({})).await.ok();
    let own = bob.call("/api/v1/roster/remove", json!({ "person": "bob", "device": null })).await.ok();
    bob.call(&withdraw_of(&own["id"]), json!({})).await.ok();
    let again = carol.call("/api/v1/roster/remove", json!({ "person": "bob", "device": null })).await.ok();
    gateway.running.changes.withdraw(&field(&again, "id"), &ADMIN).await.unwrap();
    assert!(carol.proposals().await.is_empty());
}

/// Catalogue: N4 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn nobody_fills_the_places_of_others_and_suspending_and_restoring_always_have_one() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let mut bob = gateway.approver(&site, "bob");
    for _ in 0..16 {
        bob.call("/api/v1/roster/renew", json!({})).await.ok();
        bob.invite(json!({ "person": "bob", "new": null })).await;
    }
    assert_eq!(bob.call("/api/v1/roster/renew", json!({})).await.problem(), "rate-limited");
    let more = bob.call("/api/v1/invites", json!({ "person": "bob", "new": null })).await;
    assert_eq!(more.problem(), "rate-limited");
    // Others have theirs, and bob himself still suspends and is suspended.
    let mut carol = gateway.approver(&site, "carol");
    carol.call("/api/v1/roster/renew", json!({})).await.ok();
    carol.invite(json!({ "person": "bob", "new": null })).await;
    let first = bob.call("/api/v1/roster/suspend", json!({ "person": "erin" })).await.ok();
    let again = bob.call("/api/v1/roster/suspend", json!({ "person": "erin" })).await.ok();
    assert_eq!(first["id"], again["id"], "one of each");
    let before = carol.proposals().await.len();
    // Restorations: one of each device, however often it is asked for.
    let mut last = json!(null);
    for _ in 0..3 {
        let mut phone = site.fixture.phone("frank").forgetful();
        let begun = start_restore(web(&gateway, &site), &phone).await.ok();
        let start = start_restore(web(&gateway, &site), &phone).await.ok();
        let stale = json!({ "restore": begun["restore"] });
        assert_eq!(web(&gateway, &site).post("/api/v1/restore/status", None, &stale).await.problem(), "not-found");
        phone.device = serde_json::from_slice(&field::<twinlock_protocol::Bytes>(&start, "record").0).unwrap();
        let signed = possession(&phone, web(&gateway, &site), &start["possession"]);
        last = json!({ "restore": start["restore"], "signed": signed });
        web(&gateway, &site).post("/api/v1/restore/finish", None, &last).await.ok();
    }
    assert_eq!(carol.proposals().await.len(), before + 1);
    // Left alone it is over after a day, and its place in memory with it.
    let status = json!({ "restore": last["restore"] });
    assert_eq!(web(&gateway, &site).post("/api/v1/restore/status", None, &status).await.ok()["state"], "wait");
    gateway.clock.advance(24 * 3600);
    assert_eq!(web(&gateway, &site).post("/api/v1/restore/status", None, &status).await.problem(), "not-found");
    carol.cookie = None;
    assert!(carol.proposals().await.iter().all(|one| one["kind"] != "restoration"));
}

/// What comes by somebody's invites takes that person's places, whoever the invites were for.
///
/// Catalogue: N4 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn nobody_fills_the_places_of_others_by_inviting() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let mut frank = gateway.approver(&site, "frank");
    for round in 0..17 {
        let secret = frank.invite(json!({ "person": "bob", "new": null })).await;
        let mut guest = Guest::new(web(&gateway, &site), "bob", &secret);
        let start = guest.open().await.ok();
        let finished = guest.register(&start).await.ok();
        let proved = guest.prove(&start, &finished).await;
        if round < 16 { assert_eq!(proved.ok()["state"], "wait") } else { assert_eq!(proved.problem(), "rate-limited") }
    }
    assert_eq!(frank.call("/api/v1/roster/renew", json!({})).await.problem(), "rate-limited");
    // Control: neither bob, whom they are for, nor anybody else is kept from anything.
    for name in ["bob", "carol"] {
        gateway.approver(&site, name).call("/api/v1/roster/renew", json!({})).await.ok();
    }
}

fn rows(site: &Site, query: &str) -> i64 {
    let database = rusqlite::Connection::open(site.path().join("gateway.db")).unwrap();
    database.query_row(query, [], |row| row.get(0)).unwrap()
}

/// Catalogue: N6 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_is_forgotten_and_bad_signatures_do_not_fill_the_log() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let changes = &gateway.running.changes;
    let mut carol = gateway.approver(&site, "carol");
    let kept = carol.call("/api/v1/roster/renew", json!({})).await.ok();
    let mut over = Vec::new();
    for _ in 0..3 {
        let proposal = carol.call("/api/v1/roster/renew", json!({})).await.ok();
        carol.call(&withdraw_of(&proposal["id"]), json!({})).await.ok();
        over.push(field::<Fixed<16>>(&proposal, "id"));
        changes.invite(person("bob"), None, ADMIN).await.unwrap();
    }
    // Told of for a while; then neither memory nor the database knows them.
    changes.tidy().await;
    assert!(changes.proposal(&over[0]).await.is_ok());
    assert_eq!(rows(&site, "SELECT count(*) FROM papers"), 7);
    gateway.clock.advance(3600 + 1800 + 1);
    changes.tidy().await;
    assert_eq!(changes.proposal(&over[0]).await.map(drop), Err(DenyReason::NotFound));
    assert_eq!(rows(&site, "SELECT count(*) FROM papers"), 1);
    assert!(changes.proposal(&field(&kept, "id")).await.is_ok(), "control: what is open stays");

    // Garbage under a signature: refused always, counted always, written rarely, and then not read.
    let mut proposal = carol.read(&kept["id"]).await;
    let honest = carol.signature_to(&proposal);
    proposal["statement"]["gateway_salt"] = json!(Fixed([9; 32]));
    let mut bad = Vec::new();
    for _ in 0..80 {
        bad.push(carol.try_sign(&proposal).await.problem());
    }
    assert_eq!(bad[0], "evidence-other-request");
    assert!(bad.iter().any(|one| one == "rate-limited"), "{bad:?}");
    let written = std::fs::read_to_string(site.path().join("audit.jsonl")).unwrap();
    let refusals = written.lines().filter(|line| line.contains("signature_refused")).count();
    assert!((1..=22).contains(&refusals), "{refusals} rows");
    // Control: from another sign-in, the honest signature counts.
    carol.cookie = None;
    carol.sign_in().await;
    let path = format!("/api/v1/roster/proposals/{}/sign", kept["id"].as_str().unwrap());
    assert_eq!(carol.call(&path, json!({ "signed": honest })).await.ok()["state"], "open");
}

/// The end of an invite and the proposal that it became are one transaction, or nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_that_is_not_kept_leaves_no_proposal_behind() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let mut carol = gateway.approver(&site, "carol");
    let secret = carol.invite(json!({ "person": "bob", "new": null })).await;
    let mut guest = Guest::new(web(&gateway, &site), "bob", &secret);
    let start = guest.open().await.ok();
    let finished = guest.register(&start).await.ok();
    let database = rusqlite::Connection::open(site.path().join("gateway.db")).unwrap();
    let trigger = "CREATE TRIGGER broken BEFORE UPDATE ON papers WHEN NEW.kind = 'invite' \
                   BEGIN SELECT RAISE(ABORT, 'broken'); END";
    database.execute(trigger, []).unwrap();
    assert_eq!(guest.prove(&start, &finished).await.problem(), "store-failed");
    assert!(carol.proposals().await.is_empty());
    assert_eq!(rows(&site, "SELECT count(*) FROM papers WHERE kind = 'proposal'"), 0);
    // Control: the database is whole again, and the same signature makes the proposal.
    database.execute("DROP TRIGGER broken", []).unwrap();
    assert_eq!(guest.prove(&start, &finished).await.ok()["state"], "wait");
    assert_eq!(carol.proposals().await.len(), 1);
}

/// Catalogue: E3 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn an_invite_is_worth_no_more_than_whoever_made_it() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let (mut carol, mut erin) = (gateway.approver(&site, "carol"), gateway.approver(&site, "erin"));
    let mut guests = Vec::new();
    for step in 0..3 {
        let secret = erin.invite(json!({ "person": "bob", "new": null })).await;
        let mut guest = Guest::new(web(&gateway, &site), "bob", &secret);
        let start = if step > 0 { Some(guest.open().await.ok()) } else { None };
        let finished = if step > 1 { Some(guest.register(start.as_ref().unwrap()).await.ok()) } else { None };
        guests.push((guest, start, finished));
    }
    // One of them is enrolled already and waits for signatures.
    let secret = erin.invite(json!({ "person": "bob", "new": null })).await;
    Guest::new(web(&gateway, &site), "bob", &secret).enrol().await;
    assert_eq!(carol.proposals().await.len(), 1);
    let kept = carol.invite(json!({ "person": "bob", "new": null })).await;
    let proposal = carol.call("/api/v1/roster/suspend", json!({ "person": "erin" })).await.ok();
    carol.try_sign(&proposal).await.ok();
    assert!(carol.proposals().await.is_empty(), "the suspension is sealed, and erin's invite led nowhere");
    // At every step of an enrolment.
    let (mut guest, ..) = guests.remove(0);
    assert_eq!(guest.open().await.problem(), "invite-invalid");
    let (mut guest, start, _) = guests.remove(0);
    assert_eq!(guest.register(&start.unwrap()).await.problem(), "invite-invalid");
    let (mut guest, start, finished) = guests.remove(0);
    assert_eq!(guest.prove(&start.unwrap(), &finished.unwrap()).await.problem(), "invite-invalid");
    // Control: carol's is good, and whoever signs sees whose it was.
    Guest::new(web(&gateway, &site), "bob", &kept).enrol().await;
    let proposal = carol.proposals().await.remove(0);
    assert_eq!(proposal["invited_by"]["name"], "carol");
    assert_eq!(carol.read(&proposal["id"]).await["invited_by"]["name"], "carol");
    // The list of invites leads to it.
    let invites = carol.get("/api/v1/invites").await.ok();
    let listed = invites["invites"].as_array().unwrap().iter().find(|one| one["by"] == "carol").unwrap().clone();
    assert_eq!((listed["state"].as_str(), &listed["proposal"]), (Some("proposed"), &proposal["id"]));
}

/// Between the two gestures the page was loaded anew: the same browser goes on, another does not.
#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_goes_on_after_the_page_was_loaded_anew() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let mut carol = gateway.approver(&site, "carol");
    let secret = carol.invite(json!({ "person": "bob", "new": null })).await;
    let mut guest = Guest::new(web(&gateway, &site), "bob", &secret);
    let start = guest.open().await.ok();
    guest.register(&start).await.ok();
    let again = guest.open().await.ok();
    assert_eq!((again["state"].as_str(), again["creation"].is_null()), (Some("possess"), true));
    let status = guest.status().await.ok();
    assert_eq!(status["state"], "possess");
    let elsewhere = Guest::new(web(&gateway, &site), "bob", &secret);
    assert_eq!(elsewhere.status().await.problem(), "invite-invalid");
    assert_eq!(guest.prove(&again, &status).await.ok()["state"], "wait");
    assert!(guest.status().await.ok()["possession"].is_null(), "nothing more is to be signed");
}

/// A sign-in is of one record of a device: with the key of before it does not outlive a restoration,
/// whatever else remembers it.
///
/// Catalogue: W7 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_of_another_record_of_the_device_is_over() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let (mut bob, mut carol) = (gateway.approver(&site, "bob"), gateway.approver(&site, "carol"));
    bob.get("/api/v1/roster").await.ok();
    carol.get("/api/v1/roster").await.ok();
    gateway.running.stop().await;
    let database = rusqlite::Connection::open(site.path().join("gateway.db")).unwrap();
    let changed = database.execute("UPDATE sign_ins SET record = zeroblob(32) WHERE person = 'bob'", []).unwrap();
    assert_eq!(changed, 1);
    drop(database);
    let gateway = Gateway::start(&site).await;
    bob.web.address = gateway.running.approver;
    carol.web.address = gateway.running.approver;
    assert_eq!(bob.get("/api/v1/roster").await.problem(), "sign-in-needed");
    carol.get("/api/v1/roster").await.ok();
    // After a restoration the old key's own sign-in is over too, and the old key signs nobody in.
    bob.cookie = None;
    bob.sign_in().await;
    let mut phone = site.fixture.phone("bob").forgetful();
    let start = start_restore(web(&gateway, &site), &phone).await.ok();
    phone.device = serde_json::from_slice(&field::<twinlock_protocol::Bytes>(&start, "record").0).unwrap();
    let signed = possession(&phone, web(&gateway, &site), &start["possession"]);
    let body = json!({ "restore": start["restore"], "signed": signed });
    web(&gateway, &site).post("/api/v1/restore/finish", None, &body).await.ok();
    let proposal = carol.proposals().await.remove(0);
    assert_eq!(carol.sign_change(&proposal["id"]).await, "sealed");
    assert_eq!(bob.get("/api/v1/roster").await.problem(), "sign-in-needed");
    assert_eq!(rows(&site, "SELECT count(*) FROM sign_ins WHERE person = 'bob'"), 0);
    let start = web(&gateway, &site).post("/api/v1/sign-in/start", None, &json!({})).await.ok();
    assert_eq!(try_sign_in(&mut bob, &start).await, "sign-in-needed");
    let mut restored = Approver { web: bob.web, phone: &phone, cookie: None };
    restored.get("/api/v1/roster").await.ok();
}
