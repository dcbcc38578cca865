//! Every way into sudo and su that the measured facts name: each is asked for, runs after two
//! approvals, and does not run after a denial. One bed serves a whole table; every row is its own
//! request.

use std::fs;
use std::path::Path;
use std::time::Duration;

use twinlock_tests::installation::{Installation, Plan, scan_ticket};
use twinlock_tests::ns::in_namespace;
use twinlock_tests::term::Terminal;
use twinlock_tests::{Bed, Tail, here};

const LIMIT: Duration = Duration::from_secs(20);
const MARK: &str = "/tmp/mark";
/// Writes who runs it, so that a row can show whose rights it had.
const WHO: &str = "id -un >/tmp/mark.new; id -gn >>/tmp/mark.new; chmod 666 /tmp/mark.new; mv /tmp/mark.new /tmp/mark";

struct Row {
    argv: &'static [&'static str],
    user: &'static str,
    group: &'static str,
}

const fn row(argv: &'static [&'static str], user: &'static str, group: &'static str) -> Row {
    Row { argv, user, group }
}

fn ready(bed: &Bed, sudoers: &str) {
    bed.wire(&Tail::Twinlock);
    bed.sudoers(sudoers);
    bed.write("/usr/local/bin/who-runs", format!("#!/bin/sh\n{WHO}\n"));
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions("/usr/local/bin/who-runs", fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions("/tmp", fs::Permissions::from_mode(0o777)).unwrap();
}

fn mark() -> Option<String> {
    let text = fs::read_to_string(MARK).ok();
    let _ = fs::remove_file(MARK);
    text.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn wait_for_mark() -> Option<String> {
    for _ in 0..400 {
        if Path::new(MARK).exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    mark()
}

/// Denied first: nothing runs. Then approved by two: it runs, as the row says.
fn check(bed: &Bed, installation: &Installation<'_>, row: &Row, prepare: impl Fn(&mut Terminal)) {
    let mut terminal = bed.terminal("alice", row.argv);
    prepare(&mut terminal);
    let ticket = scan_ticket(&terminal, None);
    assert_eq!(installation.approver("carol").deny(&ticket, "no"), "denied");
    assert_ne!(terminal.exit_code(LIMIT), 0, "{:?}\n{}", row.argv, terminal.screen());
    assert_eq!(mark(), None, "{:?} ran although it was denied", row.argv);

    let mut terminal = bed.terminal("alice", row.argv);
    prepare(&mut terminal);
    installation.approve_by_two(&terminal, "bob", "carol");
    let ran = wait_for_mark();
    assert_eq!(ran, Some(format!("{} {}", row.user, row.group)), "{:?}\n{}", row.argv, terminal.screen());
    terminal.wait(LIMIT);
}

const COMMON: &[Row] = &[
    row(&["sudo", "who-runs"], "root", "root"),
    row(&["sudo", "-i", "who-runs"], "root", "root"),
    row(&["sudo", "-s", "who-runs"], "root", "root"),
    row(&["sudo", "-u", "bob", "who-runs"], "bob", "bob"),
    row(&["sudo", "-g", "disk", "who-runs"], "alice", "disk"),
    row(&["sudo", "-u", "alice", "-g", "shadow", "who-runs"], "alice", "shadow"),
    row(&["sudo", "-u", "alice", "who-runs"], "alice", "alice"),
];

#[test]
fn every_form_of_sudo_asks_and_runs_only_after_two_approvals() {
    in_namespace(here!(), |bed| {
        ready(bed, "alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let installation = Plan::new().start(bed);
        for row in COMMON {
            check(bed, &installation, row, |_| {});
        }
        for row in [
            // The shell stays, so that the terminal is not hung up under the background sudo.
            row(&["bash", "-c", "sudo -b who-runs || exit 1; sleep 2"], "root", "root"),
            row(&["sudo", "--gro=disk", "who-runs"], "alice", "disk"),
            row(&["sudo", "-unobody", "-Hs", "who-runs"], "nobody", "nogroup"),
            row(&["sudo", "X=1", "--", "who-runs"], "root", "root"),
        ] {
            check(bed, &installation, &row, |_| {});
        }
    });
}

#[test]
fn every_form_of_sudo_rs_asks_and_runs_only_after_two_approvals() {
    in_namespace(here!(), |bed| {
        ready(bed, "alice ALL=(ALL:ALL) NOPASSWD: ALL");
        bed.replace_sudo_by_sudo_rs();
        let installation = Plan::new().start(bed);
        for row in COMMON {
            check(bed, &installation, row, |_| {});
        }
        // sudo-rs passes over a lone `-` and reads on for options, which people would see as words
        // of a command named `-`.
        for argv in [&["sudo", "-u", "alice", "-", "-g", "disk", "who-runs"][..], &["sudo", "-", "-s", "who-runs"]] {
            let mut terminal = bed.terminal("alice", argv);
            assert_ne!(terminal.exit_code(LIMIT), 0, "{argv:?}\n{}", terminal.screen());
            assert!(terminal.screen().contains("not understood"), "{argv:?}\n{}", terminal.screen());
            assert_eq!(mark(), None, "{argv:?}");
        }
    });
}

/// Catalogue: P6 (control: inline)
#[test]
fn a_password_a_cached_timestamp_and_nopasswd_are_all_asked() {
    in_namespace(here!(), |bed| {
        ready(bed, "");
        let installation = Plan::new().start(bed);
        let row = row(&["sudo", "who-runs"], "root", "root");
        // The first sudo of a terminal asks for the password, then for two approvals.
        let script = "sudo who-runs; sudo who-runs";
        let mut terminal = bed.terminal("alice", &["bash", "-c", script]);
        terminal.wait_for("password for alice", LIMIT);
        terminal.send_line(twinlock_tests::bed::PASSWORD);
        installation.approve_by_two(&terminal, "bob", "carol");
        assert_eq!(wait_for_mark().as_deref(), Some("root root"));
        // The second has a cached timestamp: no password, but two approvals all the same.
        let ticket = scan_ticket(&terminal, None);
        assert!(!terminal.screen().contains("Sorry"));
        assert_eq!(installation.approver("carol").deny(&ticket, "no"), "denied");
        assert_ne!(terminal.exit_code(LIMIT), 0);
        assert_eq!(mark(), None);
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        check(bed, &installation, &row, |_| {});
    });
}

/// Catalogue: M11 (control: inline)
#[test]
fn root_passes_unasked_in_sudo_and_su() {
    in_namespace(here!(), |bed| {
        ready(bed, "");
        let _installation = Plan::new().start(bed);
        for argv in [&["sudo", "who-runs"][..], &["su", "-c", "who-runs"], &["su", "-c", "who-runs", "bob"]] {
            let mut terminal = bed.terminal("root", argv);
            assert_eq!(terminal.exit_code(LIMIT), 0, "{argv:?}\n{}", terminal.screen());
            assert!(wait_for_mark().is_some(), "{argv:?}");
        }
    });
}

#[test]
fn su_asks_and_runs_only_after_two_approvals() {
    in_namespace(here!(), |bed| {
        ready(bed, "");
        let installation = Plan::new().start(bed);
        let password = |terminal: &mut Terminal| {
            terminal.wait_for("Password:", LIMIT);
            terminal.send_line(twinlock_tests::bed::PASSWORD);
        };
        for row in [
            row(&["su", "-c", "who-runs"], "root", "root"),
            row(&["su", "-", "-c", "who-runs"], "root", "root"),
            row(&["su", "bob", "-c", "who-runs"], "bob", "bob"),
        ] {
            check(bed, &installation, &row, password);
        }
        // The same user gains nothing, and is not asked.
        let mut terminal = bed.terminal("alice", &["su", "alice", "-c", "who-runs"]);
        password(&mut terminal);
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
        assert_eq!(wait_for_mark().as_deref(), Some("alice alice"));
    });
}

/// `-l`, `-v` and `-K` run no command: they pass when the whole line says so, and only then.
fn check_queries(bed: &Bed, options: &str) {
    ready(bed, &format!("{options}alice ALL=(ALL:ALL) NOPASSWD: ALL"));
    let installation = Plan::new().start(bed);
    for argv in [&["sudo", "-l"][..], &["sudo", "-v"], &["sudo", "-K"], &["sudo", "-k"], &["sudo", "-n", "-l"]] {
        let mut terminal = bed.terminal("alice", argv);
        if argv == ["sudo", "-v"] {
            // sudo itself wants the password here; the module must not add anything to it.
            terminal.wait_for("password for alice", LIMIT);
            terminal.send_line(twinlock_tests::bed::PASSWORD);
        }
        assert_eq!(terminal.exit_code(LIMIT), 0, "{argv:?}\n{}", terminal.screen());
        assert!(!terminal.screen().contains("twinlock"), "{argv:?}\n{}", terminal.screen());
    }
    for argv in [
        &["sudo", "-p", "-l", "who-runs"][..],
        &["sudo", "-p", "-v", "who-runs"],
        &["sudo", "-nu", "root", "-p", "-l", "who-runs"],
        &["sudo", "-C", "3", "-p-l", "who-runs"],
        &["sudo", "-pl", "who-runs"],
        &["sudo", "--prompt", "-l", "who-runs"],
    ] {
        let mut terminal = bed.terminal("alice", argv);
        let refused_or_asked = terminal
            .wait_until("twinlock speaks", LIMIT, |screen| screen.contains("twinlock:") || screen.contains("usage"));
        assert!(refused_or_asked < LIMIT);
        terminal.send("\u{3}");
        assert_ne!(terminal.exit_code(LIMIT), 0, "{argv:?}\n{}", terminal.screen());
        assert_eq!(mark(), None, "{argv:?} ran unasked");
    }
    drop(installation);
}

#[test]
fn queries_pass_and_commands_dressed_as_queries_are_asked() {
    in_namespace(here!(), |bed| check_queries(bed, ""));
}

#[test]
fn queries_are_told_from_commands_without_a_session_phase_too() {
    in_namespace(here!(), |bed| check_queries(bed, "Defaults !pam_session\n"));
}

/// Catalogue: D7 (control: every_form_of_sudo_asks_and_runs_only_after_two_approvals)
#[test]
fn without_a_terminal_nothing_is_asked_and_nothing_runs() {
    in_namespace(here!(), |bed| {
        ready(bed, "alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let installation = Plan::new().start(bed);
        for argv in [&["sudo", "who-runs"][..], &["sudo", "-n", "who-runs"], &["sh", "-c", "echo who-runs | sudo sh"]] {
            let done = bed.run("alice", argv);
            assert!(!done.ok(), "{argv:?} {done:?}");
            assert!(done.stderr.contains("twinlock: error:") && done.stderr.contains("twinlock: hint:"), "{done:?}");
            assert!(!done.stdout.contains("twinlock"), "pipes stay clean: {done:?}");
            assert_eq!(mark(), None, "{argv:?}");
        }
        let inbox = installation.approver("bob");
        let mut inbox = inbox;
        inbox.sign_in();
        assert_eq!(inbox.get("/api/v1/inbox").ok()["requests"], serde_json::json!([]), "no request was made");
    });
}
