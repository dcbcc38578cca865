//! Parts that are down, killed or full: a refusal in bounded time with a line that says so, never a
//! grant, never a hanging terminal.

use std::fs;
use std::time::Duration;

use twinlock_tests::installation::{Installation, Plan, scan_ticket};
use twinlock_tests::ns::in_namespace;
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
