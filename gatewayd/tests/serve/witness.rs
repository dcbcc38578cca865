//! The evidence of a running gateway, taken by the real command line: over more than one roster, and
//! where hosts and log do not agree.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use twinlock_protocol::ids::RequestId;
use twinlock_protocol::statement::Decision;
use twinlock_protocol::wire::agent::{AgentMessage, GatewayMessage, Started};
use twinlock_protocol::wire::module::ModuleEvent;
use twinlock_protocol::{Bytes, Digest};

use crate::life::five;
use crate::support::{Agent, Gateway, Site, record};

/// `twinlock audit …` beside this gateway.
fn audit(site: &Site, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinlock"));
    command.arg("audit").args(arguments).arg("--socket").arg(site.path().join("admin.sock"));
    if arguments.first() != Some(&"list") {
        command.arg("--state-dir").arg(site.path());
    }
    command.output().unwrap()
}

fn as_json(done: &Output) -> Value {
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

fn verify(file: &Path, pin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinlock"));
    command.args(["audit", "verify"]).arg(file).args(["--pin", pin, "--json"]).env_clear().output().unwrap()
}

/// The next ticket of a request, other than one that was seen.
async fn fresh(agent: &mut Agent, id: RequestId, seen: &str) -> String {
    loop {
        if let Some(GatewayMessage::Module(message)) = agent.hear().await
            && message.request == id
            && let ModuleEvent::Ticket(show) = message.event
            && show.ticket.as_str() != seen
        {
            return show.ticket.as_str().to_owned();
        }
    }
}

/// Catalogue: L7, A12 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn evidence_over_two_rosters_says_under_which_each_answer_was_given() {
    let site = five();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    let (_, ticket) = agent.ticket(waiting.id).await;
    assert_eq!(gateway.approver(&site, "bob").answer(&ticket, Decision::Approve).await, "approved_first");
    let (_, seen) = agent.ticket(waiting.id).await;
    // Bob is suspended while the request waits: his approval is void, two others grant.
    let mut dave = gateway.approver(&site, "dave");
    let proposal = dave.call("/api/v1/roster/suspend", json!({ "person": "bob" })).await.ok();
    assert_eq!(dave.try_sign(&proposal).await.ok()["state"], "sealed");
    let first = fresh(&mut agent, waiting.id, &seen).await;
    assert_eq!(gateway.approver(&site, "carol").answer(&first, Decision::Approve).await, "approved_first");
    let second = fresh(&mut agent, waiting.id, &first).await;
    assert_eq!(gateway.approver(&site, "erin").answer(&second, Decision::Approve).await, "granted");
    let granted = agent.granted(waiting.id).await;
    agent.started(&waiting, &granted).await;
    agent.noted(waiting.id.grant()).await;
    // Bob is back before anybody asks: version 3 is not part of this story.
    let lift = gateway.approver(&site, "carol").call("/api/v1/roster/lift", json!({ "person": "bob" })).await.ok();
    for person in ["carol", "dave"] {
        let _state = gateway.approver(&site, person).sign_change(&lift["id"]).await;
    }
    assert_eq!(gateway.running.engine.roster().version, 3);

    let grant = waiting.id.grant().to_string();
    let file = site.path().join("grant.json");
    let shown = as_json(&audit(&site, &["show", &grant, "--evidence", file.to_str().unwrap(), "--json"]));
    assert_eq!((&shown["roster_version"], &shown["session"]["roster_version"]), (&1.into(), &2.into()));
    let answers: Vec<(&str, u64)> = shown["answers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| (answer["person"].as_str().unwrap(), answer["roster_version"].as_u64().unwrap()))
        .collect();
    assert_eq!(answers, [("carol", 1), ("erin", 1)], "each under the first version where it verifies");
    assert_eq!(shown["session"]["approvers"], json!(["carol", "erin"]));
    assert_eq!(shown["remarks"], json!([]));

    let pin = site.envelope.digest.to_hex();
    let proved = as_json(&verify(&file, &pin));
    assert_eq!((&proved["verified"], &proved["head_version"]), (&true.into(), &2.into()));
    let suspended = proved["proved"][1]["words"].as_str().unwrap();
    assert!(suspended.contains("signed by dave") && suspended.contains("suspended by dave"), "{suspended}");
    // The pin may be any version of the chain; another organisation's is none.
    let second_pin = gateway.running.engine.rosters_above(1).unwrap();
    let second_pin: Value = serde_json::from_slice(&second_pin[0].0).unwrap();
    assert!(verify(&file, second_pin["digest"].as_str().unwrap()).status.success());
    assert!(!verify(&file, &Digest::plain(b"foreign").to_hex()).status.success());

    let report = as_json(&audit(&site, &["report", "--since", "1h", "--json"]));
    assert_eq!(report["pairs"][0]["approvers"], json!(["carol", "erin"]));
    assert_eq!((&report["totals"]["granted"], &report["attacks"]), (&1.into(), &json!([])));
    gateway.running.stop().await;
}

/// Catalogue: V5 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_a_grant_that_was_never_issued_is_refused_and_told() {
    let (site, other) = (Site::new(), Site::new());
    let (gateway, elsewhere) = (Gateway::start(&site).await, Gateway::start(&other).await);
    let mismatches = || as_json(&audit(&site, &["report", "--since", "1h", "--json"]))["mismatches"].clone();
    // Another gateway's grant, whole and sound.
    let mut agent = elsewhere.agent(&other).await;
    let foreign = other.request();
    agent.submit(&foreign).await;
    for person in ["bob", "carol"] {
        let (_, ticket) = agent.ticket(foreign.id).await;
        let _state = elsewhere.approver(&other, person).answer(&ticket, Decision::Approve).await;
    }
    let granted = agent.granted(foreign.id).await;
    agent.started(&foreign, &granted).await;
    // Control: where it was granted, it is noted and nobody complains.
    let _ended = agent.noted(foreign.id.grant()).await;
    assert_eq!(as_json(&audit(&other, &["report", "--json"]))["mismatches"], json!([]));

    assert_eq!(mismatches(), json!([]));
    let mut agent = gateway.agent(&site).await;
    let grant = foreign.id.grant();
    let record = Bytes(record(&foreign, &granted).to_bytes());
    for _ in 0..2 {
        agent.say(&AgentMessage::Started(Started { grant, record: record.clone() })).await;
    }
    for _ in 0..100 {
        if mismatches() != json!([]) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let told = mismatches();
    assert_eq!(told.as_array().map(Vec::len), Some(1), "told once: {told}");
    assert_eq!((&told[0]["what"], &told[0]["grant"]), (&"never_issued".into(), &json!(grant)));
    assert_eq!(told[0]["host"], "web01");
    gateway.running.stop().await;
    elsewhere.running.stop().await;
}
