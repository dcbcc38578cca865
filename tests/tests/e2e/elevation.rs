//! Elevations by real sudo and su: granted by two people, refused without them.

use std::time::Duration;

use twinlock_tests::approver::ticket_of;
use twinlock_tests::installation::{Plan, scan_ticket};
use twinlock_tests::ns::in_namespace;
use twinlock_tests::{Tail, here};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn two_approvals_run_the_command_as_root() {
    in_namespace(here!(), |bed| {
        bed.wire(&Tail::Twinlock);
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let installation = Plan::new().start(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "sh", "-c", "id -un; cat /proc/self/cgroup"]);
        installation.approve_by_two(&terminal, "bob", "carol");
        assert_eq!(terminal.exit_code(LIMIT), 0);
        let screen = terminal.screen();
        assert!(screen.contains("root"), "{screen}");
    });
}

/// Catalogue: P5 (control: two_approvals_run_the_command_as_root)
#[test]
fn a_denial_is_final_and_shows_its_reason() {
    in_namespace(here!(), |bed| {
        bed.wire(&Tail::Twinlock);
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let installation = Plan::new().start(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        let ticket = scan_ticket(&terminal, None);
        assert_eq!(installation.approver("bob").deny(&ticket, "not now\u{1b}[31m"), "denied");
        assert_ne!(terminal.exit_code(LIMIT), 0);
        let screen = terminal.screen();
        assert!(screen.contains("denied") && screen.contains("not now\\u{1b}[31m"), "{screen}");
        assert_eq!(screen.matches("error: denied").count(), 1, "one request, one answer: {screen}");
    });
}

/// Catalogue: Q10 (control: two_approvals_run_the_command_as_root)
#[test]
fn a_qr_holds_origin_and_ticket_and_nothing_else() {
    in_namespace(here!(), |bed| {
        bed.wire(&Tail::Twinlock);
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let installation = Plan::new().start(bed);
        let terminal = bed.terminal("alice", &["sudo", "id"]);
        let ticket = scan_ticket(&terminal, None);
        let scanned = terminal.picture().scan();
        assert_eq!(scanned, [format!("HTTPS://TL.EXAMPLE.ORG/S/{ticket}")]);
        // Whoever holds every QR and no device gets the page and nothing else.
        let page = installation.site.get(&format!("/S/{ticket}"), None);
        assert_eq!(page.status, 200);
        let claim = serde_json::json!({"ticket": ticket_of(&scanned[0]), "claim_nonce": "", "device_signature": null});
        assert_ne!(installation.site.post("/api/v1/claim", None, &claim).status, 200);
    });
}
