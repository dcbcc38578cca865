//! The real binary, killed at every step: nothing is lost, nothing is granted that was not.

use std::time::Duration;

use twinlock_protocol::statement::Decision;
use twinlock_protocol::wire::module::ModuleEvent;

use crate::support::{Agent, Binary, Site, Waiting};

async fn agent(site: &Site, binary: &Binary) -> Agent {
    Agent::connect(binary.agents, &site.fixture.agent_key_pkcs8, "web01").await.unwrap()
}

async fn resumed(site: &Site, binary: &Binary, waiting: &Waiting) -> (Agent, ModuleEvent) {
    let mut agent = agent(site, binary).await;
    agent.resume(waiting).await;
    let event = agent.event(waiting.id).await;
    (agent, event)
}

fn count(site: &Site, table: &str) -> i64 {
    let database = rusqlite::Connection::open(site.path().join("gateway.db")).unwrap();
    database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// Catalogue: G1 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_goes_on_where_it_was() {
    let site = Site::new();
    let waiting = site.request();
    let binary = Binary::start(&site);
    let mut link = agent(&site, &binary).await;
    link.submit(&waiting).await;
    link.ticket(waiting.id).await;
    binary.kill();

    let binary = Binary::start(&site);
    let (mut link, event) = resumed(&site, &binary, &waiting).await;
    assert!(matches!(event, ModuleEvent::Accepted(accepted) if accepted.approved.is_empty()));
    let (_, ticket) = link.ticket(waiting.id).await;
    assert_eq!(site.approver(binary.approver, "bob").answer(&ticket, Decision::Approve).await, "approved_first");
    binary.kill();

    let binary = Binary::start(&site);
    let (mut link, event) = resumed(&site, &binary, &waiting).await;
    assert!(matches!(event, ModuleEvent::Accepted(accepted) if accepted.approved.len() == 1));
    let (slot, ticket) = link.ticket(waiting.id).await;
    assert_eq!(slot, 2);
    assert_eq!(site.approver(binary.approver, "carol").answer(&ticket, Decision::Approve).await, "granted");
    binary.kill();

    let binary = Binary::start(&site);
    let (mut link, event) = resumed(&site, &binary, &waiting).await;
    let ModuleEvent::Granted(granted) = event else { panic!("{event:?}") };
    link.started(&waiting, &granted).await;
    assert!(!link.noted(waiting.id.grant()).await);
    binary.kill();
    assert_eq!((count(&site, "certificates"), count(&site, "sessions")), (1, 1));

    let binary = Binary::start(&site);
    let (_, event) = resumed(&site, &binary, &waiting).await;
    assert!(matches!(event, ModuleEvent::Refused(_)), "a grant that runs is not granted again");
    binary.kill();
}

/// Catalogue: G1 (control: a_killed_gateway_goes_on_where_it_was)
#[tokio::test(flavor = "multi_thread")]
async fn a_denial_that_was_answered_survives_the_kill() {
    let site = Site::new();
    let waiting = site.request();
    let binary = Binary::start(&site);
    let mut link = agent(&site, &binary).await;
    link.submit(&waiting).await;
    let (_, ticket) = link.ticket(waiting.id).await;
    assert_eq!(site.approver(binary.approver, "bob").answer(&ticket, Decision::Deny).await, "denied");
    binary.kill();
    let binary = Binary::start(&site);
    // The request is final: it is found in the database, not in memory.
    let (_, event) = resumed(&site, &binary, &waiting).await;
    assert!(matches!(event, ModuleEvent::Denied(_)), "{event:?}");
    binary.kill();
}

/// Catalogue: G1 (control: a_killed_gateway_goes_on_where_it_was)
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_during_the_second_approval_leaves_either_state_and_one_certificate() {
    for delay_us in [0, 200, 500, 1_000, 2_000, 4_000, 8_000] {
        let site = Site::new();
        let waiting = site.request();
        let binary = Binary::start(&site);
        let mut link = agent(&site, &binary).await;
        link.submit(&waiting).await;
        let (_, ticket) = link.ticket(waiting.id).await;
        site.approver(binary.approver, "bob").answer(&ticket, Decision::Approve).await;
        let (_, ticket) = link.ticket(waiting.id).await;
        let mut carol = site.approver(binary.approver, "carol");
        let claim = carol.claim(&ticket).await;
        let statement = carol.sign(&carol.statement(&claim, Decision::Approve));
        // The raw bytes of the answer, so that the kill comes between the write and the read.
        let killer = tokio::task::spawn_blocking(move || {
            std::thread::sleep(Duration::from_micros(delay_us));
            binary.kill();
        });
        let answer = tokio::time::timeout(Duration::from_secs(5), carol.try_send(&claim, &statement)).await;
        killer.await.unwrap();
        let answered = matches!(answer, Ok(Some(answer)) if answer.status == 200);

        let binary = Binary::start(&site);
        let (mut link, event) = resumed(&site, &binary, &waiting).await;
        match event {
            ModuleEvent::Granted(_) => {}
            ModuleEvent::Accepted(accepted) => {
                assert!(!answered, "an approval that was answered is lost");
                assert_eq!(accepted.approved.len(), 1);
                // The claim survived too: the terminal shows it, and its holder answers again.
                let mut again = site.approver(binary.approver, "carol");
                again.cookie = carol.cookie.clone();
                assert_eq!(again.send(&claim, &statement).await.ok()["state"], "granted");
                link.granted(waiting.id).await;
            }
            other => panic!("{other:?}"),
        }
        binary.kill();
        assert_eq!((count(&site, "certificates"), count(&site, "statements")), (1, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_does_not_start_twice_nor_with_another_roster_nor_with_unknown_keys() {
    let site = Site::new();
    let run = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_twinlock-gatewayd"))
            .args(["serve", "--config"])
            .arg(&site.config)
            .output()
            .unwrap()
    };
    let binary = Binary::start(&site);
    let second = run();
    assert!(!second.status.success() && String::from_utf8_lossy(&second.stderr).contains("in use"));
    binary.kill();
    // A roster that is not the pinned one: the database remembers the pin.
    let other = Site::new();
    for name in ["roster.json", "roster.pin"] {
        std::fs::copy(other.path().join(name), site.path().join(name)).unwrap();
    }
    let swapped = run();
    assert!(!swapped.status.success() && String::from_utf8_lossy(&swapped.stderr).contains("roster.pin"));
    std::fs::write(site.path().join("roster.json"), site.envelope.to_bytes()).unwrap();
    std::fs::write(site.path().join("roster.pin"), site.envelope.digest.0.to_text()).unwrap();
    let text = std::fs::read_to_string(&site.config).unwrap();
    std::fs::write(&site.config, format!("fail_open = true\n{text}")).unwrap();
    let unknown = run();
    assert!(!unknown.status.success() && String::from_utf8_lossy(&unknown.stderr).contains("fail_open"));
    std::fs::write(&site.config, text).unwrap();
    Binary::start(&site).kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_signal_reads_the_tls_certificate_again_and_keeps_the_old_one_when_it_is_broken() {
    let site = Site::new();
    let binary = Binary::start(&site);
    let hang_up = || {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(binary.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    };
    let web = site.approver(binary.approver, "bob").web;
    assert_eq!(web.get("/", None).await.status, 200);
    std::fs::write(site.path().join("web.crt"), "no certificate").unwrap();
    hang_up();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(web.get("/", None).await.status, 200);
    // A certificate of another CA, which this phone does not trust.
    let other = Site::new();
    for name in ["web.crt", "web.key"] {
        std::fs::copy(other.path().join(name), site.path().join(name)).unwrap();
    }
    hang_up();
    for _ in 0..100 {
        if web.try_send(hyper::Method::GET, "/", &[], Vec::new()).await.is_none() {
            binary.kill();
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the new certificate is not served");
}
