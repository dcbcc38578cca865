//! From the request to the end of the session.

use twinlock_protocol::evidence::EndReason;
use twinlock_protocol::statement::Decision;
use twinlock_protocol::verify;
use twinlock_protocol::wire::agent::GatewayMessage;
use twinlock_protocol::wire::module::ModuleEvent;

use crate::support::{Gateway, Site, serial_of, wall};

#[tokio::test(flavor = "multi_thread")]
async fn two_persons_are_granted_and_the_certificate_is_revoked_after_the_session() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    let ModuleEvent::Accepted(accepted) = agent.event(waiting.id).await else { panic!("not accepted") };
    assert_eq!(accepted.eligible.len(), 3);

    let (slot, first) = agent.ticket(waiting.id).await;
    assert_eq!(slot, 1);
    assert_eq!(gateway.approver(&site, "bob").answer(&first, Decision::Approve).await, "approved_first");
    let (slot, second) = agent.ticket(waiting.id).await;
    assert_eq!(slot, 2);
    assert_eq!(gateway.approver(&site, "carol").answer(&second, Decision::Approve).await, "granted");
    let granted = agent.granted(waiting.id).await;

    let request = verify::verify_request(&site.roster, &waiting.signed, wall()).unwrap();
    let proof = verify::verify_evidence(&site.roster, &request, &granted.evidence.0, wall()).unwrap();
    assert_eq!(proof.ttl_s(), 900);

    agent.started(&waiting, &granted).await;
    assert!(!agent.noted(waiting.id.grant()).await);
    assert_eq!(gateway.state(waiting.id).await, "active");
    let before = gateway.running.engine.crl();
    agent.ended(waiting.id.grant(), EndReason::Finished).await;
    assert!(agent.noted(waiting.id.grant()).await);
    assert_eq!(gateway.state(waiting.id).await, "ended");

    let web = gateway.approver(&site, "bob").web;
    let mut crl = web.get("/crl.der", None).await;
    for _ in 0..100 {
        if gateway.running.engine.crl().number > before.number {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        crl = web.get("/crl.der", None).await;
    }
    assert_eq!(crl.status, 200);
    let crl = gateway.running.engine.crl();
    assert!(crl.number > before.number);
    let serial = serial_of(&granted.certificate.0);
    assert!(crl.der.0.windows(16).any(|window| window == serial), "the serial is on the list");
    assert!(!before.der.0.windows(16).any(|window| window == serial));
    gateway.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_session_is_ordered_to_end() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request_with(|request| request.ttl_s = 60);
    agent.submit(&waiting).await;
    for person in ["bob", "carol"] {
        let (_, ticket) = agent.ticket(waiting.id).await;
        gateway.approver(&site, person).answer(&ticket, Decision::Approve).await;
    }
    let granted = agent.granted(waiting.id).await;
    agent.started(&waiting, &granted).await;
    agent.noted(waiting.id.grant()).await;
    gateway.pass(63).await;
    let Some(GatewayMessage::EndGrant(order)) = agent.hear().await else { panic!("no order") };
    assert_eq!(order.grant, waiting.id.grant());
    gateway.running.stop().await;
}
