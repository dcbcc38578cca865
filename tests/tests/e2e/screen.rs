//! What the terminal shows: codes that a camera reads at every length of the page's name, and the
//! prompt for a reason.

use std::time::Duration;

use twinlock_protocol::statement::Decision;
use twinlock_tests::installation::{Plan, scan_ticket};
use twinlock_tests::ns::in_namespace_within;
use twinlock_tests::term::Size;
use twinlock_tests::{Bed, Tail, here};

const LIMIT: Duration = Duration::from_secs(20);

/// A host name of exactly this many characters.
fn name_of(length: usize) -> String {
    let tail = ".tl.example.org";
    match length.checked_sub(tail.len()) {
        None => "tl.example.org".to_owned(),
        Some(rest) => {
            // Labels have at most 63 characters.
            let head = "gateway-of-a-company-with-a-long-name".chars().cycle();
            let mut name: String = head.take(rest).collect();
            if rest > 63 {
                name.replace_range(40..41, ".");
            }
            name.replace("-.", "x.").replace(".-", ".x").trim_end_matches('-').to_owned()
                + &"x".repeat(usize::from(name.ends_with('-')))
                + tail
        }
    }
}

fn scanned_at(bed: &Bed, length: usize, size: Size) {
    bed.wire(&Tail::Twinlock);
    bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
    let mut plan = Plan::new();
    plan.host = name_of(length);
    assert_eq!(plan.host.len(), length);
    let host = plan.host.clone();
    let installation = plan.start(bed);
    let mut terminal = bed.terminal_sized("alice", &["sudo", "id", "-un"], size);
    let ticket = scan_ticket(&terminal, None);
    let scanned = terminal.picture().scan();
    assert_eq!(scanned, [format!("HTTPS://{}/S/{ticket}", host.to_uppercase())]);
    assert!(terminal.screen().contains("waiting for approver 1 of 2"), "{}", terminal.screen());
    // What was scanned is good: the first of two approves by it.
    assert_eq!(installation.approver("bob").approve(&ticket), "approved_first");
    let second = scan_ticket(&terminal, Some(&ticket));
    assert_ne!(second, ticket);
    terminal.send("\u{3}");
    assert_ne!(terminal.exit_code(LIMIT), 0);
}

#[test]
fn a_code_for_a_name_of_14_characters_is_read_from_the_picture() {
    in_namespace_within(here!(), Duration::from_secs(100), |bed| scanned_at(bed, 14, (24, 80)));
}

#[test]
fn a_code_for_a_name_of_29_characters_is_read_from_the_picture() {
    in_namespace_within(here!(), Duration::from_secs(100), |bed| scanned_at(bed, 29, (24, 80)));
}

#[test]
fn a_code_for_a_name_of_53_characters_is_read_from_the_picture() {
    in_namespace_within(here!(), Duration::from_secs(100), |bed| scanned_at(bed, 53, (30, 100)));
}

#[test]
fn a_code_for_a_name_of_90_characters_is_read_from_the_picture() {
    in_namespace_within(here!(), Duration::from_secs(100), |bed| scanned_at(bed, 90, (40, 140)));
}

/// Where a reason is required, one prompt asks for it; what follows the last slash is a wish for time.
#[test]
fn a_required_reason_is_asked_once_and_shown_as_the_requesters_words() {
    in_namespace_within(here!(), Duration::from_secs(100), |bed| {
        bed.wire(&Tail::Twinlock);
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let mut plan = Plan::new();
        plan.module = "reason = \"required\"\n".into();
        let installation = plan.start(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        terminal.wait_for("eason", LIMIT);
        terminal.send_line("nginx hangs, ticket 4711 /5m");
        let ticket = scan_ticket(&terminal, None);
        let mut bob = installation.approver("bob");
        let claim = bob.claim(&ticket);
        assert_eq!(claim.request.reason.as_deref(), Some("nginx hangs, ticket 4711"));
        assert_eq!(claim.request.ttl_s, 300);
        let statement = bob.statement(&claim, Decision::Approve);
        let _ = bob.send(&claim, &statement).ok();
        let second = scan_ticket(&terminal, Some(&ticket));
        assert_eq!(installation.approver("carol").approve(&second), "granted");
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
        // Nobody to ask: refused with a hint, before anybody is bothered.
        let done = bed.run("alice", &["sudo", "id", "-un"]);
        assert!(!done.ok() && done.stderr.contains("twinlock: hint:"), "{done:?}");
    });
}
