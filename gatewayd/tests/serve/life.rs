//! The life of people, devices and hosts at a running gateway: what takes one, what takes two, what
//! nobody can do alone, and what follows at once.

use serde_json::json;
use twinlock_protocol::roster::{Assurance, Standing};
use twinlock_protocol::softphone::{self, Fixture, Phone};
use twinlock_protocol::statement::Decision;
use twinlock_protocol::wire::agent::GatewayMessage;
use twinlock_protocol::wire::module::ModuleEvent;
use twinlock_protocol::{DenyReason, Fixed};

use crate::people::{Guest, field, possession, start_restore};
use crate::support::{Agent, Approver, Gateway, Site, Web};

pub async fn sealed_by(gateway: &Gateway, site: &Site, id: &serde_json::Value, persons: &[&str]) {
    for (at, person) in persons.iter().enumerate() {
        let state = gateway.approver(site, person).sign_change(id).await;
        assert_eq!(state, if at + 1 == persons.len() { "sealed" } else { "open" });
    }
}

/// bob, carol, dave, erin and frank approve: enough for one to be suspended by one.
pub fn five() -> Site {
    five_and(|_fixture| {})
}

fn five_and(change: impl FnOnce(&mut Fixture)) -> Site {
    Site::with(
        |fixture| {
            for name in ["erin", "frank"] {
                let phone = Phone::new(name, &format!("{name}-phone"));
                fixture.roster.persons.push(softphone::person(name, &["approvers"], vec![phone.device.clone()]));
                fixture.phones.push(phone);
            }
            fixture.roster.expires_at = fixture.now.plus(90 * 24 * 3600);
            change(fixture);
        },
        "",
    )
}

pub fn web<'a>(gateway: &Gateway, site: &'a Site) -> Web<'a> {
    Web { site, address: gateway.running.approver }
}

/// Catalogue: A12 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn one_person_suspends_another_and_their_approval_is_void_at_once() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    // Control: bob's approval counts, as long as he does.
    let waiting = site.request();
    agent.submit(&waiting).await;
    let (slot, ticket) = agent.ticket(waiting.id).await;
    let mut bob = gateway.approver(&site, "bob");
    assert_eq!((slot, bob.answer(&ticket, Decision::Approve).await.as_str()), (1, "approved_first"));
    let (slot, ticket) = agent.ticket(waiting.id).await;
    assert_eq!(slot, 2);

    let mut dave = gateway.approver(&site, "dave");
    let proposal = dave.call("/api/v1/roster/suspend", json!({ "person": "bob" })).await.ok();
    assert_eq!((proposal["kind"].as_str(), proposal["needs"].as_u64()), (Some("suspension"), Some(1)));
    // Only dave's own word does it: carol may not sign in his place.
    let carol_sees = gateway.approver(&site, "carol").read(&proposal["id"]).await;
    assert_eq!((carol_sees["may_sign"].as_bool(), carol_sees["statement"].is_null()), (Some(false), true));
    let signed = dave.try_sign(&proposal).await.ok();
    assert_eq!((signed["state"].as_str(), signed["version"].as_u64()), (Some("sealed"), Some(2)));

    // Every agent hears of it at once; the approval is void, and slot 1 is open again.
    let mut rosters = 0;
    let (slot, fresh) = loop {
        match agent.hear().await.unwrap() {
            GatewayMessage::Rosters(pushed) => rosters += pushed.envelopes.len(),
            GatewayMessage::Module(module) => {
                if let ModuleEvent::Ticket(show) = module.event {
                    break (show.slot, show.ticket.as_str().to_owned());
                }
            }
            _ => {}
        }
    };
    assert_eq!((rosters, slot), (1, 1));
    assert_ne!(fresh, ticket);
    // His sign-in ended with it, and a new one is refused.
    assert_eq!(bob.get("/api/v1/inbox").await.problem(), "sign-in-needed");
    // Two others grant.
    assert_eq!(gateway.approver(&site, "carol").answer(&fresh, Decision::Approve).await, "approved_first");
    let (_, second) = agent.ticket(waiting.id).await;
    assert_eq!(gateway.approver(&site, "dave").answer(&second, Decision::Approve).await, "granted");
    let granted = agent.granted(waiting.id).await;
    let evidence = twinlock_protocol::evidence::Evidence::from_bytes(&granted.evidence.0).unwrap();
    assert_eq!(
        (evidence.statements.len(), evidence.rosters.len()),
        (2, 1),
        "the version above the request's goes along"
    );

    // Two lift it; one is not enough.
    let lift = gateway.approver(&site, "carol").call("/api/v1/roster/lift", json!({ "person": "bob" })).await.ok();
    assert_eq!((lift["kind"].as_str(), lift["needs"].as_u64()), (Some("ordinary"), Some(2)));
    sealed_by(&gateway, &site, &lift["id"], &["carol", "dave"]).await;
    bob.cookie = None;
    assert_eq!(bob.get("/api/v1/roster").await.ok()["version"], 3);
}

/// A request that only its own approvers' fall makes impossible is refused; the certificate that was
/// out already is revoked.
///
/// Catalogue: A12 (control: one_person_suspends_another_and_their_approval_is_void_at_once)
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_whose_approver_is_suspended_before_the_session_starts_is_revoked() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = gateway.approved_by_two(&site, &mut agent, "bob", "carol").await;
    let mut dave = gateway.approver(&site, "dave");
    let proposal = dave.call("/api/v1/roster/suspend", json!({ "person": "bob" })).await.ok();
    dave.try_sign(&proposal).await.ok();
    let mut ended = false;
    loop {
        match agent.hear().await.unwrap() {
            GatewayMessage::EndGrant(order) => ended = order.grant == waiting.id.grant(),
            GatewayMessage::Module(module) => {
                if let ModuleEvent::Refused(refused) = module.event {
                    assert_eq!(refused.reason, DenyReason::ApproverNotEligible);
                    break;
                }
            }
            _ => {}
        }
    }
    assert!(ended, "the host is told to end what may have started");
}

/// Catalogue: I5 (control: one_person_suspends_another_and_their_approval_is_void_at_once)
#[tokio::test(flavor = "multi_thread")]
async fn nobody_suspends_everybody_and_nobody_shrinks_the_roster_below_the_quorum() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let suspend = async |by: &str, whom: &str| {
        let mut by = gateway.approver(&site, by);
        let proposal = by.call("/api/v1/roster/suspend", json!({ "person": whom })).await;
        if proposal.status != 200 {
            return proposal.problem();
        }
        let state = by.try_sign(&proposal.body).await.ok()["state"].as_str().unwrap().to_owned();
        format!("{} {state}", proposal.body["needs"])
    };
    assert_eq!(suspend("dave", "bob").await, "1 sealed");
    // A second one by the same person takes two, and so does one that would leave no more than three.
    assert_eq!(suspend("dave", "erin").await, "2 open");
    assert_eq!(suspend("carol", "erin").await, "1 sealed");
    assert_eq!(suspend("frank", "carol").await, "2 open");
    let mut carol = gateway.approver(&site, "carol");
    let open = carol.proposals().await;
    let frank = open.iter().find(|one| one["title"] == "suspend carol").unwrap()["id"].clone();
    // With two signatures it may go down to the quorum, and no further.
    sealed_by(&gateway, &site, &frank, &["dave"]).await;
    assert_eq!(suspend("frank", "dave").await, "proposal-unsound");
    let mut frank = gateway.approver(&site, "frank");
    let remove = frank.call("/api/v1/roster/remove", json!({ "person": "dave", "device": null })).await;
    assert_eq!(remove.problem(), "proposal-unsound");
    // The two who are left recover from it; the suspended ones take no part.
    let start = carol.web.post("/api/v1/sign-in/start", None, &json!({})).await.ok();
    assert_eq!(try_sign_in(&mut carol, &start).await, "sign-in-needed");
    let lift = frank.call("/api/v1/roster/lift", json!({ "person": "carol" })).await.ok();
    sealed_by(&gateway, &site, &lift["id"], &["dave", "frank"]).await;
    carol.sign_in().await;
}

/// Catalogue: E6 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_phone_leaves_with_two_signatures_and_a_new_one_comes_with_two_more() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let mut carol = gateway.approver(&site, "carol");
    let gone = carol.call("/api/v1/roster/remove", json!({ "person": "bob", "device": "bob-phone" })).await.ok();
    // "Lost phone" to one helper: carol alone signs twice, and nothing happens.
    assert_eq!(carol.sign_change(&gone["id"]).await, "open");
    let again = carol.get(&format!("/api/v1/roster/proposals/{}", gone["id"].as_str().unwrap())).await.ok();
    assert_eq!(again["why_not"], "already-approved");
    assert_eq!(carol.get("/api/v1/roster").await.ok()["version"], 1);
    // The old phone works until two have signed, and no longer.
    let mut bob = gateway.approver(&site, "bob");
    bob.sign_in().await;
    sealed_by(&gateway, &site, &gone["id"], &["dave"]).await;
    assert_eq!(bob.get("/api/v1/roster").await.problem(), "sign-in-needed");

    let secret = carol.invite(json!({ "person": "bob", "new": null })).await;
    let mut guest = Guest::new(web(&gateway, &site), "bob", &secret);
    guest.enrol().await;
    assert_eq!(guest.status().await.ok()["state"], "wait");
    // Enrolled is not in the roster: the new phone can do nothing yet.
    let mut new_bob = Approver { web: guest.web, phone: &guest.phone, cookie: None };
    let proposal = carol.proposals().await.remove(0);
    assert_eq!((proposal["contested"].as_bool(), proposal["needs"].as_u64()), (Some(false), Some(2)));
    sealed_by(&gateway, &site, &proposal["id"], &["carol", "dave"]).await;
    assert_eq!(guest.status().await.ok()["state"], "sealed");
    new_bob.sign_in().await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    assert_eq!(agent.refused(waiting.id).await, None, "made under version 1, decided by version 3");
    let (_, ticket) = agent.ticket(waiting.id).await;
    assert_eq!(new_bob.answer(&ticket, Decision::Approve).await, "approved_first");
}

/// Catalogue: E1 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_link_is_useless_without_two_who_compare_the_words_and_its_owner_is_alerted() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let mut carol = gateway.approver(&site, "carol");
    let person = json!({ "person": "grace", "new": {
        "name": "Grace", "logins": ["grace"], "groups": [], "approver": true, "requester": false,
    }});
    let secret = carol.invite(person.clone()).await;
    // The thief is first, with a phone of his own.
    let mut thief = Guest::new(web(&gateway, &site), "grace", &secret);
    thief.enrol().await;
    // The owner comes second: refused, and told what it means; the log has it.
    let mut owner = Guest::new(web(&gateway, &site), "grace", &secret);
    assert_eq!(owner.open().await.problem(), "invite-opened");
    let proposal = carol.proposals().await.remove(0);
    assert_eq!(proposal["contested"], true);
    let log = std::fs::read_to_string(site.path().join("audit.jsonl")).unwrap();
    assert!(log.contains("invite_contested"), "{log}");
    // What was enrolled counts for nothing: no sign-in, until two have signed, which they decline.
    let mut impostor = Approver { web: thief.web, phone: &thief.phone, cookie: None };
    let start = impostor.web.post("/api/v1/sign-in/start", None, &json!({})).await.ok();
    assert_eq!(try_sign_in(&mut impostor, &start).await, "sign-in-needed");
    let path = format!("/api/v1/roster/proposals/{}/withdraw", proposal["id"].as_str().unwrap());
    carol.call(&path, json!({})).await.ok();
    assert_eq!(thief.status().await.ok()["state"], "declined");
    // Control: a link that reaches its owner alone is not contested, and two signatures make it count.
    let secret = carol.invite(person).await;
    let mut owner = Guest::new(web(&gateway, &site), "grace", &secret);
    owner.enrol().await;
    let proposal = carol.proposals().await.remove(0);
    assert_eq!(proposal["contested"], false);
    sealed_by(&gateway, &site, &proposal["id"], &["carol", "dave"]).await;
    Approver { web: owner.web, phone: &owner.phone, cookie: None }.sign_in().await;
}

pub async fn try_sign_in(who: &mut Approver<'_>, start: &serde_json::Value) -> String {
    let challenge = crate::support::sign_in_challenge(start);
    let body = json!({
        "sign_in": start["sign_in"], "credential_id": who.phone.device.credential_id,
        "assertion": who.phone.assert(&who.phone.honest(&who.web.site.roster, &challenge)),
        "device_signature": who.signature(&[challenge.as_bytes()]),
    });
    who.web.post("/api/v1/sign-in/finish", None, &body).await.problem()
}

/// Catalogue: E2 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn links_are_not_replayed_nor_used_late_nor_for_somebody_else_nor_in_parallel() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let mut carol = gateway.approver(&site, "carol");
    let secret = carol.invite(json!({ "person": "bob", "new": null })).await;
    // In parallel: eight browsers, one of which is taken.
    let browsers = (0..8).map(|_| async {
        let mut guest = Guest::new(web(&gateway, &site), "bob", &secret);
        let answer = guest.open().await;
        (answer.status == 200).then_some((guest, answer.body))
    });
    let opened: Vec<_> = futures_util::future::join_all(browsers).await.into_iter().flatten().collect();
    assert_eq!(opened.len(), 1);
    let (mut guest, start) = opened.into_iter().next().unwrap();
    let finished = guest.register(&start).await.ok();
    // Replay of a registration.
    assert_eq!(guest.register(&start).await.problem(), "invite-invalid");
    // For another person: the statement says whose device it is.
    let mut other = finished["possession"].clone();
    other["person"] = json!("dave");
    guest.phone.device = serde_json::from_slice(&field::<twinlock_protocol::Bytes>(&finished, "record").0).unwrap();
    let signed = possession(&guest.phone, guest.web, &other);
    let body = json!({ "enrol": start["enrol"], "signed": signed });
    let refused = guest.web.post("/api/v1/enrol/possession", guest.cookie.as_deref(), &body).await;
    assert_eq!(refused.problem(), "evidence-other-request");
    // Control, and its replay.
    assert_eq!(guest.prove(&start, &finished).await.ok()["state"], "wait");
    assert_eq!(guest.prove(&start, &finished).await.problem(), "invite-invalid");
    assert_eq!(carol.proposals().await.len(), 1);
    // Late.
    let late = carol.invite(json!({ "person": "bob", "new": null })).await;
    gateway.pass(1800).await;
    assert_eq!(Guest::new(web(&gateway, &site), "bob", &late).open().await.problem(), "invite-invalid");
    let unknown = "A".repeat(26);
    assert_eq!(Guest::new(web(&gateway, &site), "bob", &unknown).open().await.problem(), "invite-invalid");
}

/// Catalogue: E3 (control: a_lost_phone_leaves_with_two_signatures_and_a_new_one_comes_with_two_more)
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_or_suspended_person_does_not_come_back_by_themselves() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let (mut carol, mut erin) = (gateway.approver(&site, "carol"), gateway.approver(&site, "erin"));
    // Invited before, removed after: the link is dead, whoever holds it.
    let kept = carol.invite(json!({ "person": "erin", "new": null })).await;
    let own = erin.invite(json!({ "person": "erin", "new": null })).await;
    let gone = carol.call("/api/v1/roster/remove", json!({ "person": "erin", "device": null })).await.ok();
    sealed_by(&gateway, &site, &gone["id"], &["carol", "dave"]).await;
    let mut guest = Guest::new(web(&gateway, &site), "erin", &kept);
    let start = guest.open().await.ok();
    let finished = guest.register(&start).await.ok();
    assert_eq!(guest.prove(&start, &finished).await.problem(), "invite-invalid");
    assert_eq!(Guest::new(web(&gateway, &site), "erin", &own).open().await.problem(), "invite-invalid");
    // No sign-in, no invite, no proposal, no restoration.
    for path in ["/api/v1/invites", "/api/v1/roster/suspend", "/api/v1/roster/lift"] {
        let body = if path.ends_with("invites") {
            json!({ "person": "erin", "new": null })
        } else {
            json!({ "person": "erin" })
        };
        assert_eq!(erin.post(path, &body).await.problem(), "sign-in-needed");
    }
    let restore = start_restore(web(&gateway, &site), site.fixture.phone("erin")).await;
    assert_eq!(restore.problem(), "sign-in-needed");
    // Suspended: the same.
    let proposal = carol.call("/api/v1/roster/suspend", json!({ "person": "bob" })).await.ok();
    carol.try_sign(&proposal).await.ok();
    assert_eq!(start_restore(web(&gateway, &site), site.fixture.phone("bob")).await.problem(), "sign-in-needed");
}

/// Catalogue: E4 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_device_below_the_floor_or_of_an_unlisted_model_is_not_enrolled() {
    let listed = Fixed([7; 16]);
    let site = Site::with(
        |fixture| {
            fixture.roster.rules.floor = Assurance::B;
            fixture.roster.rules.aaguids = vec![listed];
            for phone in &mut fixture.phones {
                phone.device.backup_eligible = false;
                phone.device.aaguid = listed;
            }
            for person in &mut fixture.roster.persons {
                for device in &mut person.devices {
                    device.backup_eligible = false;
                    device.aaguid = listed;
                }
            }
        },
        "",
    );
    let gateway = Gateway::start(&site).await;
    let mut carol = gateway.approver(&site, "carol");
    let outcome = async |carol: &mut Approver<'_>, synced: bool, model: Fixed<16>| {
        let secret = carol.invite(json!({ "person": "bob", "new": null })).await;
        let mut guest = Guest::new(web(&gateway, &site), "bob", &secret);
        guest.phone.device.backup_eligible = synced;
        guest.phone.device.aaguid = model;
        let start = guest.open().await.ok();
        let answer = guest.register(&start).await;
        if answer.status == 200 { answer.body["state"].as_str().unwrap().to_owned() } else { answer.problem() }
    };
    assert_eq!(outcome(&mut carol, true, listed).await, "assurance-too-low");
    assert_eq!(outcome(&mut carol, false, Fixed([0; 16])).await, "model-not-listed");
    assert_eq!(outcome(&mut carol, false, listed).await, "possess");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_device_key_is_restored_by_the_passkey_and_one_other_person() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    // The browser forgot its key and made another; the passkey is what it was.
    let mut phone = site.fixture.phone("bob").forgetful();
    let start = start_restore(web(&gateway, &site), &phone).await.ok();
    let record: twinlock_protocol::Bytes = field(&start, "record");
    phone.device = serde_json::from_slice(&record.0).unwrap();
    let signed = possession(&phone, web(&gateway, &site), &start["possession"]);
    let body = json!({ "restore": start["restore"], "signed": signed });
    let web = web(&gateway, &site);
    assert_eq!(web.post("/api/v1/restore/finish", None, &body).await.ok()["state"], "wait");
    assert_eq!(web.post("/api/v1/restore/finish", None, &body).await.problem(), "proposal-over");
    // bob cannot sign it himself, even with another device of his; carol alone does.
    let mut carol = gateway.approver(&site, "carol");
    let proposal = carol.proposals().await.remove(0);
    assert_eq!((proposal["kind"].as_str(), proposal["needs"].as_u64()), (Some("restoration"), Some(1)));
    let mut bob = gateway.approver(&site, "bob");
    let seen = bob.read(&proposal["id"]).await;
    assert_eq!((seen["may_sign"].as_bool(), seen["why_not"].as_str()), (Some(false), Some("approver-not-eligible")));
    assert_eq!(carol.sign_change(&proposal["id"]).await, "sealed");
    let status = web.post("/api/v1/restore/status", None, &json!({ "restore": start["restore"] })).await.ok();
    assert_eq!(status["state"], "sealed");
    // The new key signs in, the old one does not, and the old one's sign-in is over.
    assert_eq!(bob.get("/api/v1/roster").await.problem(), "sign-in-needed");
    Approver { web, phone: &phone, cookie: None }.sign_in().await;
    let start = web.post("/api/v1/sign-in/start", None, &json!({})).await.ok();
    assert_eq!(try_sign_in(&mut gateway.approver(&site, "bob"), &start).await, "sign-in-needed");
}

/// A signature is to one draft: when the roster moves, the proposal is computed anew and nobody has
/// signed it yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_follows_the_head_without_its_signatures() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let mut carol = gateway.approver(&site, "carol");
    let renew = carol.call("/api/v1/roster/renew", json!({})).await.ok();
    assert_eq!(carol.try_sign(&renew).await.ok()["state"], "open");
    let mut dave = gateway.approver(&site, "dave");
    let stale = dave.read(&renew["id"]).await;
    let suspend = dave.call("/api/v1/roster/suspend", json!({ "person": "bob" })).await.ok();
    dave.try_sign(&suspend).await.ok();
    assert_eq!(dave.try_sign(&stale).await.problem(), "proposal-changed");
    let moved = dave.read(&renew["id"]).await;
    assert_eq!((moved["base_version"].as_u64(), moved["signatures"].as_array().unwrap().len()), (Some(2), 0));
    sealed_by(&gateway, &site, &renew["id"], &["dave", "carol"]).await;
    assert_eq!(carol.get("/api/v1/roster").await.ok()["version"], 3);
    // Over is over.
    assert_eq!(dave.try_sign(&moved).await.problem(), "proposal-over");
}

/// Catalogue: I6 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_roster_that_was_changed_in_the_database_stops_the_gateway() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let mut carol = gateway.approver(&site, "carol");
    let renew = carol.call("/api/v1/roster/renew", json!({})).await.ok();
    sealed_by(&gateway, &site, &renew["id"], &["carol", "dave"]).await;
    let open = carol.call("/api/v1/roster/lift", json!({ "person": "bob" })).await;
    assert_eq!(open.problem(), "proposal-unsound", "he is not suspended");
    gateway.running.stop().await;
    // Control: it comes back with what was sealed.
    let gateway = Gateway::start(&site).await;
    assert_eq!(gateway.approver(&site, "bob").get("/api/v1/roster").await.ok()["version"], 2);
    gateway.running.stop().await;
    let database = rusqlite::Connection::open(site.path().join("gateway.db")).unwrap();
    let envelope: Vec<u8> =
        database.query_row("SELECT envelope FROM rosters WHERE version = 2", [], |row| row.get(0)).unwrap();
    let mut roster = twinlock_protocol::roster::RosterEnvelope::from_bytes(&envelope).unwrap();
    // An approver of the attacker's own, under the same signatures, with a digest that fits.
    let mut content = twinlock_protocol::roster::Roster::from_bytes(&roster.bytes.0).unwrap();
    content.persons[0].standing = Standing::Active;
    content.persons[0].groups = content.persons[1].groups.clone();
    content.persons[0].devices = vec![twinlock_protocol::softphone::Phone::new("alice", "evil").device];
    roster = twinlock_protocol::roster::RosterEnvelope::new(&content, roster.signatures);
    database.execute("UPDATE rosters SET envelope = ?1 WHERE version = 2", [roster.to_bytes()]).unwrap();
    drop(database);
    let config = twinlock_gatewayd::config::GatewayConfig::load(&site.config).unwrap();
    let clock = std::sync::Arc::new(twinlock_gatewayd::clock::TestClock::at(crate::support::wall()));
    let refused = twinlock_gatewayd::serve::start(config, clock).await.err().unwrap();
    assert!(refused.to_string().contains("roster version 2 in the database is refused"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_leaves_the_roster_is_hung_up_on_and_does_not_come_back() {
    let site = Site::with(
        |fixture| {
            let mut other = fixture.roster.hosts[0].clone();
            other.id = twinlock_protocol::ids::HostId::new("web02").unwrap();
            other.name = "web02".into();
            other.host_key = twinlock_protocol::signature::SigningKey::generate().unwrap().0.public();
            other.agent_key = twinlock_protocol::signature::SigningKey::generate().unwrap().0.public();
            fixture.roster.hosts.push(other);
        },
        "",
    );
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    agent.ticket(waiting.id).await;
    let ops = vec![twinlock_gatewayd::roster::op::Op::RemoveHost {
        host: twinlock_protocol::ids::HostId::new("web01").unwrap(),
    }];
    let by = twinlock_gatewayd::roster::proposal::Proposer::Admin { uid: 0 };
    let id = json!(gateway.running.changes.propose(ops, by).await.unwrap());
    sealed_by(&gateway, &site, &id, &["carol", "dave"]).await;
    while agent.hear().await.is_some() {}
    let key = &site.fixture.agent_key_pkcs8;
    assert!(Agent::connect(gateway.running.agents, key, "web01").await.is_none(), "its key is nobody's now");
    assert!(gateway.running.engine.waiting().is_empty(), "what it asked is over");
}

/// Catalogue: I3 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_roster_whose_renewal_is_kept_back_raises_an_alarm_before_it_ends() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let health = || twinlock_gatewayd::api::monitor::health(&gateway.running.engine);
    assert_eq!(health().problems, Vec::<&str>::new());
    gateway.clock.advance(84 * 24 * 3600);
    assert!(health().problems.iter().any(|problem| problem.contains("ends within seven days")), "{:?}", health());
    // Renewed by two, it is quiet again.
    let by = twinlock_gatewayd::roster::proposal::Proposer::Admin { uid: 0 };
    let expires_at = twinlock_gatewayd::clock::Clock::now(&gateway.clock).plus(180 * 24 * 3600);
    let ops = vec![twinlock_gatewayd::roster::op::Op::Renew { expires_at }];
    let id = json!(gateway.running.changes.propose(ops, by).await.unwrap());
    sealed_by(&gateway, &site, &id, &["carol", "dave"]).await;
    assert!(!health().problems.iter().any(|problem| problem.contains("the roster")), "{:?}", health());
}
