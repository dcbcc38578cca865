//! Parts that are down, killed or full: a refusal in bounded time with a line that says so, never a
//! grant, never a hanging terminal.

use std::fs;
use std::time::Duration;

use twinlock_tests::installation::{Installation, MONITOR_PORT, Plan, now, scan_ticket};
use twinlock_tests::ns::in_namespace;
use twinlock_tests::proc::eventually;
use twinlock_tests::term::SANE;
use twinlock_tests::{Bed, Tail, here, world};

const LIMIT: Duration = Duration::from_secs(25);

fn ready(bed: &Bed) -> Installation<'_> {
    bed.wire(&Tail::Twinlock);
    bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
    Plan::new().start(bed)
}

/// Runs `sudo id -un` and expects it refused, without a command, within the limit.
fn refused(bed: &Bed, words: &[&str]) {
    let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
    assert_ne!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
    let screen = terminal.screen();
    assert!(!screen.contains("\nroot"), "{screen}");
    for word in words {
        assert!(screen.contains(word), "{word} is not in\n{screen}");
    }
    assert_eq!(terminal.modes(), SANE);
}

fn granted(bed: &Bed, installation: &Installation<'_>) {
    let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
    installation.approve_by_two(&terminal, "bob", "carol");
    assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
}

/// Catalogue: P3 (control: inline)
#[test]
fn each_part_that_is_down_refuses_with_a_hint_and_its_return_heals() {
    in_namespace(here!(), |bed| {
        let mut installation = ready(bed);
        granted(bed, &installation);
        installation.agent.kill();
        refused(bed, &["twinlock: error:", "agent", "twinlock: hint:"]);
        installation.restart_agent();
        installation.gateway.kill();
        refused(bed, &["twinlock: error:", "gateway", "twinlock: hint:"]);
        installation.restart_gateway();
        granted(bed, &installation);
    });
}

/// Catalogue: P14 (control: inline)
#[test]
fn without_a_reaper_an_approved_command_does_not_run() {
    in_namespace(here!(), |bed| {
        let mut installation = ready(bed);
        installation.reaper.kill();
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        installation.approve_by_two(&terminal, "bob", "carol");
        assert_ne!(terminal.exit_code(LIMIT), 0);
        let screen = terminal.screen();
        assert!(screen.contains("reaper") && !screen.contains("\nroot"), "{screen}");
        installation.restart_reaper();
        granted(bed, &installation);
    });
}

/// Catalogue: G1 (control: inline)
#[test]
fn a_gateway_killed_between_two_approvals_loses_nothing_and_grants_nothing() {
    in_namespace(here!(), |bed| {
        let mut installation = ready(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        let first = scan_ticket(&terminal, None);
        assert_eq!(installation.approver("bob").approve(&first), "approved_first");
        installation.gateway.kill();
        assert!(terminal.is_running(), "the request waits: {}", terminal.screen());
        terminal.wait_for("the gateway is away", LIMIT);
        installation.restart_gateway();
        terminal.wait_until("the gateway is back", LIMIT, |screen| !screen.contains("is away"));
        installation.approve_scanned(&terminal, Some(&first), "carol", "granted");
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
    });
}

/// Catalogue: S4 (control: inline)
#[test]
fn an_agent_killed_while_a_request_waits_is_resumed() {
    in_namespace(here!(), |bed| {
        let mut installation = ready(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        let first = scan_ticket(&terminal, None);
        assert_eq!(installation.approver("bob").approve(&first), "approved_first");
        installation.agent.kill();
        terminal.wait_for("the twinlock agent is away", LIMIT);
        installation.restart_agent();
        // Approved before the module is back, the page would say "approved": nothing is issued until then.
        terminal.wait_until("the agent is back", LIMIT, |screen| !screen.contains("is away"));
        installation.approve_scanned(&terminal, Some(&first), "carol", "granted");
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
    });
}

#[test]
fn a_full_disk_grants_nothing_and_keeps_the_roster() {
    in_namespace(here!(), |bed| {
        let installation = ready(bed);
        granted(bed, &installation);
        let slots = || ["slot0", "slot1"].map(|slot| fs::read(format!("{}/{slot}", world::ROSTER_DIR)).unwrap());
        let before = slots();
        bed.shrink_disk(world::GRANTS_DIR, 256 * 1024);
        let filler = format!("{}/filler", world::GRANTS_DIR);
        let _ = fs::write(&filler, vec![0; 1 << 20]);
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        installation.approve_by_two(&terminal, "bob", "carol");
        assert_ne!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
        let screen = terminal.screen();
        assert!(screen.contains("record") && !screen.contains("\nroot"), "{screen}");
        assert_eq!(slots(), before, "the roster stands");
        fs::remove_file(filler).unwrap();
        granted(bed, &installation);
    });
}

/// Catalogue: S2 (control: inline)
#[test]
fn a_socket_that_somebody_else_made_is_not_believed() {
    in_namespace(here!(), |bed| {
        let mut installation = ready(bed);
        installation.agent.kill();
        // mallory gets the directory and binds the path while the agent is away.
        use std::os::unix::fs::chown;
        chown("/run/twinlock", Some(1005), Some(1005)).unwrap();
        let _ = fs::remove_file(world::AGENT_SOCK);
        let script = format!(
            "import socket,time\ns=socket.socket(socket.AF_UNIX)\ns.bind('{}')\ns.listen(9)\nprint('bound',flush=True)\ntime.sleep(60)",
            world::AGENT_SOCK
        );
        let launch = bed.person("mallory");
        let mut fake = twinlock_tests::proc::Daemon::start("mallory", &launch, &["python3", "-c", &script]);
        fake.wait_for_log("bound", LIMIT);
        refused(bed, &["twinlock: error:", "agent"]);
        fake.kill();
        chown("/run/twinlock", Some(0), Some(0)).unwrap();
        let _ = fs::remove_file(world::AGENT_SOCK);
        fs::set_permissions("/run/twinlock", std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
        refused(bed, &["twinlock: error:", "agent"]);
    });
}

/// What `/healthz` answers: the status line, and the body.
fn health() -> (String, serde_json::Value) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", MONITOR_PORT)).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {text}")))
}

/// One state of an installation made by this plan: 200 without problems, 503 with them in words.
fn answers(bed: &Bed, plan: Plan, problems: &[&str]) {
    bed.wire(&Tail::Twinlock);
    let installation = plan.start(bed);
    eventually("the agent is linked", LIMIT, || health().1["agents"] == 1);
    let (status, told) = health();
    let failing = !problems.is_empty();
    assert_eq!(status, if failing { "HTTP/1.1 503 Service Unavailable" } else { "HTTP/1.1 200 OK" });
    assert_eq!(told["status"], if failing { "failing" } else { "ok" });
    assert_eq!(told["problems"], serde_json::json!(problems));
    drop(installation);
}

/// Catalogue: I3 (control: the_health_of_a_sound_gateway_is_ok)
#[test]
fn the_health_of_a_gateway_whose_roster_ends_soon_says_so() {
    in_namespace(here!(), |bed| {
        let mut plan = Plan::new();
        plan.fixture.roster.expires_at = now().plus(6 * 24 * 3600);
        answers(bed, plan, &["the roster ends within seven days: two people must renew it"]);
    });
}

/// Catalogue: I4 (control: the_health_of_a_sound_gateway_is_ok)
#[test]
fn the_health_of_a_gateway_whose_roster_has_expired_says_so() {
    in_namespace(here!(), |bed| {
        let mut plan = Plan::new();
        plan.fixture.roster.expires_at = now().plus(3);
        bed.wire(&Tail::Twinlock);
        let _installation = plan.start(bed);
        eventually("it has expired", LIMIT, || health().1["problems"] == serde_json::json!(["the roster has expired"]));
        assert_eq!(health().0, "HTTP/1.1 503 Service Unavailable");
    });
}

#[test]
fn the_health_of_a_gateway_that_loses_copies_of_its_audit_says_so() {
    in_namespace(here!(), |bed| {
        let mut plan = Plan::new();
        plan.gateway.push_str("[audit]\njson_lines = \"/dev/full\"\n");
        answers(bed, plan, &["copies of audit rows are lost"]);
    });
}

#[test]
fn the_health_of_a_sound_gateway_is_ok() {
    in_namespace(here!(), |bed| {
        let mut plan = Plan::new();
        plan.gateway.push_str("[audit]\njson_lines = \"/dev/null\"\n");
        answers(bed, plan, &[]);
    });
}
