//! A database from yesterday under hosts of today: what was used, denied, revoked or suspended since
//! stays so, and people hear of it.

use std::path::{Path, PathBuf};

use serde_json::json;
use twinlock_gatewayd::audit::Event;
use twinlock_gatewayd::session;
use twinlock_gatewayd::store::AuditQuery;
use twinlock_protocol::statement::Decision;
use twinlock_protocol::wire::agent::{AgentMessage, GatewayMessage};
use twinlock_protocol::wire::module::Rosters;
use twinlock_protocol::{Bytes, DenyReason};

use crate::life::{five, try_sign_in};
use crate::support::{Agent, Gateway, Site, Waiting};

/// The ways by which a database gets into a backup.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Command,
    FileCopy,
}

fn back_up(site: &Site, by: By) -> PathBuf {
    let file = site.path().join("yesterday.db");
    match by {
        By::Command => {
            let done = std::process::Command::new(env!("CARGO_BIN_EXE_twinlock"))
                .arg("backup")
                .arg(&file)
                .arg("--state-dir")
                .arg(site.path())
                .output()
                .unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            let said = String::from_utf8_lossy(&done.stdout).into_owned();
            assert!(said.contains("ca.key") && said.contains("gateway.key"), "{said}");
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        // What a tool that knows nothing of Twinlock would keep.
        By::FileCopy => {
            let database = rusqlite::Connection::open(site.path().join("gateway.db")).unwrap();
            database.execute("VACUUM INTO ?1", [file.to_str().unwrap()]).unwrap();
        }
    }
    file
}

fn put_back(site: &Site, file: &Path) {
    for name in ["gateway.db", "gateway.db-wal", "gateway.db-shm"] {
        let _absent = std::fs::remove_file(site.path().join(name));
    }
    std::fs::copy(file, site.path().join("gateway.db")).unwrap();
}

fn events(gateway: &Gateway, name: &str) -> Vec<Event> {
    let rows = gateway.running.engine.store.audit(&AuditQuery { limit: 10_000, ..AuditQuery::default() }).unwrap();
    let told = rows.iter().map(|row| serde_json::from_str::<Event>(&row.event).unwrap());
    told.filter(|event| event.name() == name).collect()
}

/// A list after everything that was revoked; the gateway may be making one by itself just now.
async fn publish(gateway: &Gateway) {
    while gateway.running.engine.publish_crl().await.is_err() {
        tokio::task::yield_now().await;
    }
}

async fn submitted(site: &Site, agent: &mut Agent) -> (Waiting, String) {
    let waiting = site.request();
    agent.submit(&waiting).await;
    let (_, ticket) = agent.ticket(waiting.id).await;
    (waiting, ticket)
}

async fn resumed(agent: &mut Agent, waiting: &Waiting) -> Option<DenyReason> {
    agent.resume(waiting).await;
    agent.refused(waiting.id).await
}

/// Catalogue: G3 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_denied_or_revoked_after_the_backup_never_comes_back_to_life() {
    for by in [By::Command, By::FileCopy] {
        let site = Site::new();
        let gateway = Gateway::start(&site).await;
        let mut agent = gateway.agent(&site).await;
        let (denied, denied_ticket) = submitted(&site, &mut agent).await;
        let (used, ticket) = submitted(&site, &mut agent).await;
        let mut bob = gateway.approver(&site, "bob");
        assert_eq!(bob.answer(&ticket, Decision::Approve).await, "approved_first");
        let (_, used_ticket) = agent.ticket(used.id).await;
        let revoked = gateway.approved_by_two(&site, &mut agent, "bob", "carol").await;
        let waiting = submitted(&site, &mut agent).await.0;
        let cookie = bob.cookie.clone();

        let yesterday = back_up(&site, by);

        assert_eq!(gateway.approver(&site, "carol").answer(&denied_ticket, Decision::Deny).await, "denied");
        assert_eq!(gateway.approver(&site, "carol").answer(&used_ticket, Decision::Approve).await, "granted");
        let granted = agent.granted(used.id).await;
        agent.started(&used, &granted).await;
        assert!(!agent.noted(used.id.grant()).await);
        session::revoke(&gateway.running.engine, revoked.id.grant(), 0).await.unwrap();
        publish(&gateway).await;
        gateway.running.stop().await;

        // Control: the database that ran here last goes on where it was.
        let gateway = Gateway::start(&site).await;
        let mut agent = gateway.agent(&site).await;
        assert_eq!(resumed(&mut agent, &waiting).await, None, "{by:?}: a restart voids nothing");
        let web = gateway.approver(&site, "bob").web;
        assert_eq!(web.get("/api/v1/inbox", cookie.as_deref()).await.status, 200);
        assert_eq!(events(&gateway, "database_restored"), []);
        let seen_by_hosts = gateway.running.engine.crl().number;
        gateway.running.stop().await;

        put_back(&site, &yesterday);
        let gateway = Gateway::start(&site).await;
        let mut agent = gateway.agent(&site).await;
        let told = events(&gateway, "database_restored");
        assert!(matches!(told.as_slice(), [Event::DatabaseRestored { requests: 4, .. }]), "{by:?}: {told:?}");
        assert!(told[0].is_alarm());
        assert!(!gateway.running.engine.recovery_warnings().is_empty());
        for (what, one) in [("denied", &denied), ("used", &used), ("revoked", &revoked), ("waiting", &waiting)] {
            assert!(resumed(&mut agent, one).await.is_some(), "{by:?}: {what} is resumed");
            let state = gateway.state(one.id).await;
            assert!(["withdrawn", "ended"].contains(&state), "{by:?}: {what} is {state}");
            // Sent anew, it is the same request.
            agent.submit(one).await;
            assert!(agent.refused(one.id).await.is_some(), "{by:?}: {what} is taken anew");
        }
        let web = gateway.approver(&site, "bob").web;
        let inbox = web.get("/api/v1/inbox", cookie.as_deref()).await;
        assert_eq!(inbox.problem(), "sign-in-needed", "{by:?}: a sign-in of before");
        for ticket in [&denied_ticket, &used_ticket] {
            let claim = gateway.approver(&site, "carol").try_claim(ticket).await;
            assert_ne!(claim.status, 200, "{by:?}: a ticket of before");
        }
        // Hosts refuse a list whose number is below one that they have seen.
        publish(&gateway).await;
        assert!(gateway.running.engine.crl().number > seen_by_hosts, "{by:?}");
        let serials = gateway.running.engine.store.revocations().unwrap();
        assert_eq!(serials.len(), 1, "{by:?}: the certificate that the backup knew as good");
        // Control: new requests are granted as ever, and the next start is an ordinary one.
        let new = gateway.approved_by_two(&site, &mut agent, "bob", "carol").await;
        gateway.running.stop().await;
        let gateway = Gateway::start(&site).await;
        assert_eq!(events(&gateway, "database_restored").len(), 1);
        assert_eq!(gateway.state(new.id).await, "issued");
        gateway.running.stop().await;
    }
}

/// Catalogue: G3 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_ahead_raises_an_alarm_and_brings_the_suspension_back_with_its_signatures() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let yesterday = back_up(&site, By::Command);
    let mut dave = gateway.approver(&site, "dave");
    let proposal = dave.call("/api/v1/roster/suspend", json!({ "person": "bob" })).await.ok();
    dave.try_sign(&proposal).await.ok();
    let suspension = gateway.running.engine.rosters_above(1).unwrap();
    assert_eq!((suspension.len(), gateway.running.engine.roster().version), (1, 2));
    // Control: no alarm while both have the same.
    let connect = |gateway: &Gateway, roster| {
        let (address, key) = (gateway.running.agents, site.fixture.agent_key_pkcs8.clone());
        async move { Agent::connect_at(address, &key, "web01", roster).await.unwrap() }
    };
    let _agent = connect(&gateway, 2).await;
    assert_eq!(events(&gateway, "host_ahead"), []);
    gateway.running.stop().await;

    put_back(&site, &yesterday);
    let gateway = Gateway::start(&site).await;
    assert_eq!(gateway.running.engine.roster().version, 1);
    let mut agent = connect(&gateway, 2).await;
    let alarms = events(&gateway, "host_ahead");
    assert!(matches!(alarms.as_slice(), [Event::HostAhead { roster: 2, head: 1, .. }]), "{alarms:?}");
    assert!(alarms[0].is_alarm());
    let warns = |gateway: &Gateway| {
        gateway.running.engine.recovery_warnings().iter().any(|line| line.contains("host web01 is ahead"))
    };
    assert!(warns(&gateway));
    let socket = site.path().join("admin.sock");
    let asking = move || {
        std::process::Command::new(env!("CARGO_BIN_EXE_twinlock")).args(["status", "--socket"]).arg(socket).output()
    };
    let status = tokio::task::spawn_blocking(asking).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains("put back from a backup") && said.contains("host web01 is ahead"), "{said}");
    // What the host asks under its newer roster is refused: this gateway does not know who may approve.
    let newer = site.request_with(|request| {
        let next = twinlock_protocol::roster::RosterEnvelope::from_bytes(&suspension[0].0).unwrap();
        request.roster = twinlock_protocol::request::RosterRef { version: next.version, digest: next.digest };
    });
    agent.submit(&newer).await;
    assert_eq!(agent.refused(newer.id).await, Some(DenyReason::RosterMismatch));

    // Control: to this gateway bob is nobody special yet.
    gateway.approver(&site, "bob").sign_in().await;

    // A host cannot make rosters: one that two people did not sign, and one that does not follow.
    let head = gateway.running.engine.roster();
    let next = twinlock_protocol::softphone::Fixture::next(&head, |roster| roster.rules.max_ttl_s = 60);
    let alone = Bytes(site.fixture.envelope(&head, &next, &["bob"]).to_bytes());
    let foreign = Bytes(five().envelope.to_bytes());
    for bad in [alone, foreign, Bytes(b"{}".to_vec())] {
        agent.say(&AgentMessage::Rosters(Rosters { envelopes: vec![bad] })).await;
    }
    let (waiting, _) = submitted(&site, &mut agent).await;
    agent.gone(waiting.id).await;
    assert_eq!(gateway.running.engine.roster().version, 1);

    agent.say(&AgentMessage::Rosters(Rosters { envelopes: suspension.clone() })).await;
    loop {
        if let GatewayMessage::Rosters(rosters) = agent.hear().await.unwrap() {
            assert_eq!(rosters.envelopes, suspension);
            break;
        }
    }
    assert_eq!((gateway.running.engine.roster().version, warns(&gateway)), (2, false));
    assert_eq!(events(&gateway, "roster_taken_over").len(), 1);
    // bob is suspended again, for good.
    let mut bob = gateway.approver(&site, "bob");
    let start = bob.web.post("/api/v1/sign-in/start", None, &json!({})).await.ok();
    assert_eq!(try_sign_in(&mut bob, &start).await, "sign-in-needed");
    let (_, ticket) = submitted(&site, &mut agent).await;
    let mut carol = gateway.approver(&site, "carol");
    assert_eq!(carol.answer(&ticket, Decision::Approve).await, "approved_first");
    gateway.running.stop().await;
    let gateway = Gateway::start(&site).await;
    assert_eq!(gateway.running.engine.roster().version, 2, "it is in the database");
    gateway.running.stop().await;
}
