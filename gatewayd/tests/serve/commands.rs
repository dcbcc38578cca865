//! The command line over a running gateway: roster, people, devices, and a host that joins.

use std::process::{Output, Stdio};

use serde_json::{Value, json};
use twinlock_protocol::slots::Slot;

use crate::people::Guest;
use crate::support::{Agent, Gateway, Site, Web};

fn twinlock(site: &Site, arguments: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_twinlock"))
        .args(arguments)
        .arg("--socket")
        .arg(site.path().join("admin.sock"))
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn done(output: Output) -> String {
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

fn json_of(output: Output) -> Value {
    serde_json::from_str(&done(output)).unwrap()
}

async fn sealed(gateway: &Gateway, site: &Site, id: &Value) {
    assert_eq!(gateway.approver(site, "carol").sign_change(id).await, "open");
    assert_eq!(gateway.approver(site, "dave").sign_change(id).await, "sealed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_proposes_and_two_people_seal() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let shown = done(twinlock(&site, &["roster", "show"]));
    assert!(shown.contains("version 1") && shown.contains("bob") && shown.contains("web01"), "{shown}");
    assert!(done(twinlock(&site, &["roster", "proposals"])).contains("nothing is proposed"));
    let devices = done(twinlock(&site, &["device", "list"]));
    assert!(devices.contains("bob-phone"), "{devices}");

    // People who only ask, from a file: in one proposal.
    let people = site.path().join("people.toml");
    let entry =
        |id: &str| format!("[[person]]\nid = \"{id}\"\nname = \"{id}\"\nlogins = [\"{id}\"]\nrole = \"requester\"\n");
    std::fs::write(&people, [entry("alice"), entry("heidi"), entry("ivan")].concat()).unwrap();
    let imported = done(twinlock(&site, &["person", "import", people.to_str().unwrap()]));
    assert!(imported.contains("unchanged: alice") && imported.contains("2 people must sign"), "{imported}");
    let open = json_of(twinlock(&site, &["roster", "proposals", "--json"]));
    let id = open[0]["id"].clone();
    let changes = done(twinlock(&site, &["roster", "changes", id.as_str().unwrap()]));
    assert!(changes.contains("heidi") && changes.contains("ivan") && !changes.contains("alice"), "{changes}");
    sealed(&gateway, &site, &id).await;
    assert!(done(twinlock(&site, &["roster", "show"])).contains("ivan"));

    // An edited roster; the one that it was made from must be the head.
    let file = site.path().join("edit.json");
    let file = file.to_str().unwrap();
    done(twinlock(&site, &["roster", "export", file]));
    let edited = std::fs::read_to_string(file).unwrap().replace("\"max_ttl_s\": 3600", "\"max_ttl_s\": 600");
    std::fs::write(file, edited).unwrap();
    let proposed = done(twinlock(&site, &["roster", "propose", file]));
    assert!(proposed.contains("max_ttl_s") || proposed.contains("600"), "{proposed}");
    let id = json_of(twinlock(&site, &["roster", "proposals", "--json"]))[0]["id"].clone();
    sealed(&gateway, &site, &id).await;
    assert_eq!(gateway.running.engine.roster().rules.max_ttl_s, 600);
    let stale = twinlock(&site, &["roster", "propose", file]);
    assert!(!stale.status.success() && text(&stale).contains("made from version 2"), "{}", text(&stale));

    // What does not fit is refused in words; what was proposed can be taken back.
    let nobody = twinlock(&site, &["person", "remove", "nobody"]);
    assert!(!nobody.status.success() && text(&nobody).contains("no person nobody"), "{}", text(&nobody));
    done(twinlock(&site, &["device", "remove", "bob-phone"]));
    let id = json_of(twinlock(&site, &["roster", "proposals", "--json"]))[0]["id"].as_str().unwrap().to_owned();
    done(twinlock(&site, &["roster", "withdraw", &id]));
    assert!(done(twinlock(&site, &["roster", "proposals"])).contains("nothing is proposed"));

    // A link from the command line; `approver invite` is the same.
    let invited = json_of(twinlock(&site, &["approver", "invite", "bob", "--json"]));
    let secret = invited["link"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let mut guest = Guest::new(Web { site: &site, address: gateway.running.approver }, "bob", &secret);
    guest.enrol().await;
    let open = json_of(twinlock(&site, &["roster", "proposals", "--json"]));
    assert_eq!((open[0]["by"].as_str(), open[0]["needs"].as_u64()), (Some("a device of bob"), Some(2)));
}

/// Catalogue: E7 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_host_joins_by_a_token_that_is_good_for_its_own_keys_alone() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let at = gateway.running.agents.to_string();
    let made = json_of(twinlock(&site, &["host", "token", "Web02", "--gateway", &at, "--json"]));
    let token = made["token"].as_str().unwrap().to_owned();
    // A token for a name that is taken is not made.
    let taken = twinlock(&site, &["host", "token", "web01", "--gateway", &at]);
    assert!(!taken.status.success() && text(&taken).contains("has a host web01 already"), "{}", text(&taken));
    let join = |place: &str, token: &str| {
        let (etc, state) = (site.path().join(place).join("etc"), site.path().join(place).join("state"));
        std::fs::create_dir_all(&state).unwrap();
        std::process::Command::new(env!("CARGO_BIN_EXE_twinlock"))
            .args(["host", "join", token, "--agent-user", "root", "--reaper-user", "root", "--group", "root"])
            .arg("--etc-dir")
            .arg(etc)
            .arg("--state-dir")
            .arg(state)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let waits = join("one", &token);
    let id = loop {
        let open = json_of(twinlock(&site, &["roster", "proposals", "--json"]));
        if let Some(one) = open.get(0) {
            break one["id"].clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    // Used again from another machine, with other keys: refused, and no second proposal.
    let second = join("two", &token).wait_with_output().unwrap();
    assert!(!second.status.success() && text(&second).contains("this link is not valid"), "{}", text(&second));
    let log = std::fs::read_to_string(site.path().join("audit.jsonl")).unwrap();
    assert!(log.contains("host_join_refused"), "{log}");
    assert_eq!(json_of(twinlock(&site, &["roster", "proposals", "--json"])).as_array().unwrap().len(), 1);
    // Control: the first one waits for two signatures, and then pins the version that has it.
    sealed(&gateway, &site, &id).await;
    let joined = tokio::task::spawn_blocking(move || waits.wait_with_output().unwrap()).await.unwrap();
    let said = text(&joined);
    assert!(joined.status.success() && said.contains("web02 pins roster version 2"), "{said}");
    let host = gateway.running.engine.roster().hosts[1].clone();
    let words = twinlock_protocol::words::words(&host.keys_digest()).join(" ");
    assert!(said.contains(&words) && host.name == "Web02", "{said}");
    let slot = Slot::decode(&std::fs::read(site.path().join("one/state/roster/slot0")).unwrap()).unwrap();
    assert_eq!((slot.version, slot.pin), (2, gateway.running.engine.roster().digest()));
    let key = std::fs::read(site.path().join("one/etc/agent.key")).unwrap();
    assert!(Agent::connect(gateway.running.agents, &key, "web02").await.is_some());
    assert!(Agent::connect(gateway.running.agents, &key, "web01").await.is_none(), "it is no other host");
}

/// A new elevation CA by roster change: issued with as soon as two people have signed it.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_ca_issues_as_soon_as_the_roster_names_it() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let dir = site.path().to_str().unwrap();
    done(twinlock(&site, &["roster", "add-ca", "elevation-2", "--state-dir", dir, "--user", "root"]));
    let id = json_of(twinlock(&site, &["roster", "proposals", "--json"]))[0]["id"].clone();
    sealed(&gateway, &site, &id).await;
    let head = gateway.running.engine.roster();
    assert_eq!(head.cas[0].id.as_str(), "elevation-2");
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    for (person, state) in [("bob", "approved_first"), ("carol", "granted")] {
        let (_, ticket) = agent.ticket(waiting.id).await;
        let approve = twinlock_protocol::statement::Decision::Approve;
        assert_eq!(gateway.approver(&site, person).answer(&ticket, approve).await, state);
    }
    let granted = agent.granted(waiting.id).await;
    let issuer = |der: &[u8]| {
        let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
        parsed.issuer().to_string()
    };
    assert_eq!(issuer(&granted.certificate.0), issuer(&head.cas[0].certificate.0));
    // Control: the old one had another name.
    assert_ne!(issuer(&granted.certificate.0), issuer(&site.roster.cas[0].certificate.0));
}

/// Catalogue: A11 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_changes_between_two_approvals_decides_at_issue() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    let (_, ticket) = agent.ticket(waiting.id).await;
    let approve = twinlock_protocol::statement::Decision::Approve;
    assert_eq!(gateway.approver(&site, "bob").answer(&ticket, approve).await, "approved_first");
    let (_, second) = agent.ticket(waiting.id).await;
    // Meanwhile grants are cut to a minute.
    let mut rules = gateway.running.engine.roster().rules.clone();
    rules.max_ttl_s = 60;
    let ops = vec![twinlock_gatewayd::roster::op::Op::SetRules { rules: Box::new(rules) }];
    let by = twinlock_gatewayd::roster::proposal::Proposer::Admin { uid: 0 };
    let id = json!(gateway.running.changes.propose(ops, by).await.unwrap());
    sealed(&gateway, &site, &id).await;
    // The first approval stands: nothing about its person changed. The grant is what the rule says now.
    assert_eq!(gateway.approver(&site, "dave").answer(&second, approve).await, "granted");
    let granted = agent.granted(waiting.id).await;
    let lives = |der: &[u8]| {
        let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
        parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp()
    };
    assert!(lives(&granted.certificate.0) <= 60 + 120, "{}", lives(&granted.certificate.0));
    // Control: without the change it lives as long as was asked.
    let other = Site::new();
    let gateway = Gateway::start(&other).await;
    let mut agent = gateway.agent(&other).await;
    let waiting = other.request();
    agent.submit(&waiting).await;
    for person in ["bob", "carol"] {
        let (_, ticket) = agent.ticket(waiting.id).await;
        gateway.approver(&other, person).answer(&ticket, approve).await;
    }
    assert!(lives(&agent.granted(waiting.id).await.certificate.0) >= 900);
}
