//! Sessions, orders and the administrator's socket.

use std::path::Path;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use twinlock_protocol::DenyReason;
use twinlock_protocol::evidence::EndReason;
use twinlock_protocol::statement::Decision;
use twinlock_protocol::wire::agent::{AgentMessage, EndOrder, GatewayMessage, Started};
use twinlock_protocol::wire::module::{Granted, ModuleEvent};
use twinlock_protocol::{Bytes, Fixed};

use crate::support::{Agent, Gateway, Site, Waiting, record};

/// A request that two people approved.
async fn granted(site: &Site, gateway: &Gateway, agent: &mut Agent) -> (Waiting, Granted) {
    let waiting = site.request();
    agent.submit(&waiting).await;
    for person in ["bob", "carol"] {
        let (_, ticket) = agent.ticket(waiting.id).await;
        gateway.approver(site, person).answer(&ticket, Decision::Approve).await;
    }
    let granted = agent.granted(waiting.id).await;
    (waiting, granted)
}

async fn admin(site: &Site, method: &str, path: &str) -> (u16, Value) {
    let stream = tokio::net::UnixStream::connect(site.path().join("admin.sock")).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "admin");
    let request = request.body(Empty::<hyper::body::Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    driver.abort();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn order(agent: &mut Agent) -> EndOrder {
    loop {
        if let Some(GatewayMessage::EndGrant(end)) = agent.hear().await {
            return end.order;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_is_ordered_to_end_until_its_end_is_reported() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let (waiting, granted) = granted(&site, &gateway, &mut agent).await;
    agent.started(&waiting, &granted).await;
    agent.noted(waiting.id.grant()).await;
    let grant = waiting.id.grant();

    let (status, _) = admin(&site, "POST", &format!("/v1/grants/{grant}/revoke")).await;
    assert_eq!(status, 200);
    assert_eq!(order(&mut agent).await, EndOrder::Revoked);
    // The link breaks before the host can say that it is done; the order comes again.
    drop(agent);
    let mut agent = gateway.agent(&site).await;
    assert_eq!(order(&mut agent).await, EndOrder::Revoked);
    agent.ended(grant, EndReason::Revoked).await;
    assert!(agent.noted(grant).await);
    assert_eq!(gateway.state(waiting.id).await, "ended");

    let (_, file) = admin(&site, "GET", &format!("/v1/grants/{grant}/record")).await;
    assert_eq!(file["ended"]["reason"], "revoked");
    let (_, audit) = admin(&site, "GET", &format!("/v1/audit?grant={grant}")).await;
    let events: Vec<String> = audit["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| serde_json::from_str::<Value>(row["event"].as_str().unwrap()).unwrap()["event"].to_string())
        .collect();
    for name in [
        "request_admitted",
        "approval_given",
        "certificate_issued",
        "session_started",
        "admin_revoked",
        "certificate_revoked",
        "session_ended",
    ] {
        assert!(events.contains(&format!("\"{name}\"")), "{name} in {events:?}");
    }
    let (status, problem) = admin(&site, "POST", &format!("/v1/grants/{grant}/revoke")).await;
    assert_eq!((status, problem["type"].as_str().unwrap()), (410, "urn:twinlock:problem:grant-over"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_starts_after_a_denial_is_recorded_and_ended_at_once() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    let mut bob = gateway.approver(&site, "bob");
    let claim = bob.claim(&agent.ticket(waiting.id).await.1).await;
    bob.give(&claim, Decision::Approve).await.ok();
    let (_, ticket) = agent.ticket(waiting.id).await;
    gateway.approver(&site, "carol").answer(&ticket, Decision::Approve).await;
    let granted = agent.granted(waiting.id).await;
    assert_eq!(bob.give(&claim, Decision::Deny).await.ok()["state"], "denied");
    assert_eq!(order(&mut agent).await, EndOrder::Revoked);
    agent.started(&waiting, &granted).await;
    assert_eq!(order(&mut agent).await, EndOrder::Revoked);
    assert_eq!(gateway.state(waiting.id).await, "denied");
    let session = gateway.running.engine.store.session(waiting.id).unwrap().unwrap();
    assert!(session.record.is_some());
}

/// Catalogue: S5 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_not_exactly_our_grant_is_refused() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let (waiting, granted) = granted(&site, &gateway, &mut agent).await;
    let grant = waiting.id.grant();
    let mut wrong = Vec::new();
    let mut changed = |change: &dyn Fn(&mut twinlock_protocol::evidence::GrantRecord)| {
        let mut record = record(&waiting, &granted);
        change(&mut record);
        wrong.push(record);
    };
    changed(&|record| record.authority.certified().certificate = Bytes(vec![1]));
    changed(&|record| record.authority.certified().evidence = Bytes(vec![1]));
    changed(&|record| record.start.signature = Fixed([1; 64]));
    changed(&|record| record.request.host_signature = Fixed([1; 64]));
    changed(&|record| record.grant = site.request().id.grant());
    for record in wrong {
        agent.say(&AgentMessage::Started(Started { grant, record: Bytes(record.to_bytes()) })).await;
    }
    // The next word about this grant is for the true record: nothing before it was noted.
    agent.started(&waiting, &granted).await;
    assert!(!agent.noted(grant).await);
    let (_, audit) = admin(&site, "GET", &format!("/v1/audit?grant={grant}&limit=1000")).await;
    assert_eq!(audit.to_string().matches("report_refused").count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_agent_link_has_fifteen_seconds_also_across_a_restart_of_the_gateway() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let (kept, lost) = (site.request(), site.request());
    for waiting in [&kept, &lost] {
        agent.submit(waiting).await;
        agent.ticket(waiting.id).await;
    }
    drop(agent);
    gateway.running.stop().await;
    // However long it was away, the grace begins with the start.
    let gateway = Gateway::start(&site).await;
    gateway.clock.advance(14);
    gateway.running.engine.tick().await;
    let mut agent = gateway.agent(&site).await;
    agent.resume(&kept).await;
    assert!(matches!(agent.event(kept.id).await, ModuleEvent::Accepted(_)));
    gateway.pass(16).await;
    assert_eq!((gateway.state(kept.id).await, gateway.state(lost.id).await), ("pending", "withdrawn"));
    let mut wrong = site.request();
    wrong.id = kept.id;
    agent.resume(&wrong).await;
    loop {
        if let ModuleEvent::Refused(refused) = agent.event(kept.id).await {
            break assert_eq!(refused.reason, DenyReason::NotFound);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_administrator_sees_what_waits_and_how_the_gateway_is() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    agent.ticket(waiting.id).await;
    let (_, requests) = admin(&site, "GET", "/v1/requests").await;
    assert_eq!(requests[0]["summary"], "systemctl restart nginx");
    assert_eq!(requests[0]["grant"], waiting.id.grant().to_string());
    let (_, health) = admin(&site, "GET", "/v1/health").await;
    assert_eq!((health["status"].as_str(), health["agents"].as_u64()), (Some("ok"), Some(1)));
    let (status, _) = admin(&site, "POST", &format!("/v1/grants/{}/revoke", waiting.id.grant())).await;
    assert_eq!(status, 200);
    assert_eq!(gateway.state(waiting.id).await, "withdrawn");
    let (_, grants) = admin(&site, "GET", "/v1/grants?limit=5").await;
    assert_eq!(grants[0]["state"], "withdrawn");
    assert_eq!(admin(&site, "GET", "/v1/grants?limits=5").await.0, 400);
    let mode =
        std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(Path::new(&site.path().join("admin.sock"))).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

/// Catalogue: S6 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_of_a_host_replaces_the_first_and_is_in_the_audit_log() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut first = gateway.agent(&site).await;
    let waiting = site.request();
    first.submit(&waiting).await;
    first.ticket(waiting.id).await;
    let mut second = gateway.agent(&site).await;
    while first.hear().await.is_some() {}
    // A stolen key without the resume token gets no ticket: the request is not its to show.
    let mut stolen = site.request();
    stolen.id = waiting.id;
    second.resume(&stolen).await;
    assert!(matches!(second.event(waiting.id).await, ModuleEvent::Refused(_)));
    let mut own = gateway.agent(&site).await;
    own.resume(&waiting).await;
    own.ticket(waiting.id).await;
    let (_, audit) = admin(&site, "GET", "/v1/audit?limit=1000").await;
    assert_eq!(audit.to_string().matches("agent_connected").count(), 3);
    // A host that connects over and over is left outside for a while.
    let mut refused = 0;
    for _ in 0..70 {
        let agent = Agent::connect(gateway.running.agents, &site.fixture.agent_key_pkcs8, "web01").await;
        refused += usize::from(agent.is_none());
    }
    assert!((5..=15).contains(&refused), "{refused}");
}
