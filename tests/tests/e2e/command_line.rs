//! `twinlock` beside a running installation: what waits, what runs, ending it, and the evidence
//! checked again.

use std::time::Duration;

use serde_json::Value;
use twinlock_tests::installation::{Installation, Plan, scan_ticket};
use twinlock_tests::ns::in_namespace;
use twinlock_tests::proc::{Finished, Snapshot, eventually};
use twinlock_tests::{Bed, Tail, here};

const LIMIT: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);

fn ready(bed: &Bed) -> Installation<'_> {
    bed.wire(&Tail::Twinlock);
    bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
    Plan::new().start(bed)
}

fn twinlock(bed: &Bed, user: &str, arguments: &[&str]) -> Finished {
    let words: Vec<&str> = std::iter::once("twinlock").chain(arguments.iter().copied()).collect();
    bed.run(user, &words)
}

#[track_caller]
fn said(bed: &Bed, user: &str, arguments: &[&str]) -> String {
    let done = twinlock(bed, user, arguments);
    assert!(done.ok(), "{arguments:?}: {done:?}");
    done.stdout
}

fn json(bed: &Bed, user: &str, arguments: &[&str]) -> Value {
    let words: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&said(bed, user, &words)).unwrap()
}

fn sleepers(word: &str) -> usize {
    Snapshot::take()
        .with_word(word)
        .iter()
        .filter(|one| one.cmdline.first().is_some_and(|c| c.ends_with("sleep")))
        .count()
}

#[test]
fn a_grant_is_seen_dropped_by_its_owner_and_verified_again() {
    in_namespace(here!(), |bed| {
        let installation = ready(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "sleep", "7101"]);
        let ticket = scan_ticket(&terminal, None);
        let waiting = said(bed, "root", &["requests"]);
        assert!(waiting.contains("alice") && waiting.contains("sleep 7101"), "{waiting}");
        assert_eq!(installation.approver("bob").approve(&ticket), "approved_first");
        assert_eq!(json(bed, "root", &["requests"])[0]["approved"][0], "bob");
        let ticket = scan_ticket(&terminal, Some(&ticket));
        assert_eq!(installation.approver("carol").approve(&ticket), "granted");
        eventually("it runs", LIMIT, || sleepers("7101") == 1);
        assert_eq!(said(bed, "root", &["requests"]), "nothing waits\n");

        let mine = json(bed, "alice", &["grants", "--mine"]);
        let grant = mine[0]["grant"].as_str().unwrap().to_owned();
        assert_eq!((&mine[0]["target_user"], mine.as_array().map(Vec::len)), (&Value::from("root"), Some(1)));
        let all = said(bed, "root", &["grants"]);
        assert!(all.contains(&grant) && all.contains("active"), "{all}");
        eventually("the record has arrived", LIMIT, || {
            !json(bed, "root", &["audit", "show", &grant])["session"].is_null()
        });
        let page = said(bed, "root", &["audit", "show", &grant]);
        for part in
            ["approved   bob", "approved   carol", "sleep 7101", "two distinct people approved this very request"]
        {
            assert!(page.contains(part), "{part}: {page}");
        }

        // Others neither see nor drop it.
        assert_eq!(json(bed, "bob", &["grants", "--mine"]), Value::Array(Vec::new()));
        assert!(!twinlock(bed, "bob", &["drop", &grant]).ok());
        assert_eq!(sleepers("7101"), 1);
        let dropped = said(bed, "alice", &["drop"]);
        assert!(dropped.contains(&grant), "{dropped}");
        eventually("nobody is left", SECOND, || sleepers("7101") == 0);
        terminal.wait(LIMIT);
        eventually("the end is told", LIMIT, || {
            said(bed, "root", &["audit", "show", &grant]).contains("dropped by the requester")
        });
        let log = said(bed, "root", &["audit", "list", "--grant", &grant]);
        for event in ["request admitted", "approval given", "certificate issued", "session started", "session ended"] {
            assert!(log.contains(event), "{event}: {log}");
        }
    });
}

#[test]
fn an_administrator_revokes_and_nobody_else_does() {
    in_namespace(here!(), |bed| {
        let installation = ready(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "sleep", "7102"]);
        installation.approve_by_two(&terminal, "bob", "carol");
        eventually("it runs", LIMIT, || sleepers("7102") == 1);
        let grant = json(bed, "root", &["grants"])[0]["grant"].as_str().unwrap().to_owned();
        for arguments in [&["revoke", &grant][..], &["grants"], &["requests"], &["audit", "show", &grant]] {
            let done = twinlock(bed, "alice", arguments);
            assert!(!done.ok() && done.stderr.contains("twinlock: hint:"), "{done:?}");
        }
        assert_eq!(sleepers("7102"), 1);
        let revoked = said(bed, "root", &["revoke", &grant]);
        assert!(revoked.contains(&grant), "{revoked}");
        eventually("nobody is left", SECOND, || sleepers("7102") == 0);
        terminal.wait(LIMIT);
        let again = twinlock(bed, "root", &["revoke", &grant]);
        assert!(!again.ok() && again.stderr.contains("twinlock: error:"), "{again:?}");
        let log = said(bed, "root", &["audit", "list", "--grant", &grant]);
        assert!(log.contains("admin revoked") && log.contains("certificate revoked"), "{log}");
    });
}
