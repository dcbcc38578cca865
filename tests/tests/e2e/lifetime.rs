//! The end of a grant: everything that ran under it is gone in time, the terminal is sane, the
//! certificate is revoked, and what escaped is told.

use std::time::Duration;

use serde_json::Value;
use twinlock_protocol::statement::{ApprovalStatement, Decision};
use twinlock_tests::approver::Approver;
use twinlock_tests::installation::{Installation, Plan, scan_ticket};
use twinlock_tests::ns::in_namespace;
use twinlock_tests::proc::{Snapshot, eventually};
use twinlock_tests::term::{SANE, Terminal};
use twinlock_tests::{Bed, Tail, here, world};

const LIMIT: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);

fn ready(bed: &Bed) -> Installation<'_> {
    bed.wire(&Tail::Twinlock);
    bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
    Plan::new().start(bed)
}

/// Both approve for `ttl_s` seconds.
fn approve_for(installation: &Installation<'_>, terminal: &Terminal, ttl_s: u32) {
    let mut ticket = None;
    for person in ["bob", "carol"] {
        let scanned = scan_ticket(terminal, ticket.as_deref());
        let mut approver: Approver<'_> = installation.approver(person);
        let claim = approver.claim(&scanned);
        let statement = ApprovalStatement { ttl_s, ..approver.statement(&claim, Decision::Approve) };
        let _ = approver.send(&claim, &statement).ok();
        ticket = Some(scanned);
    }
}

fn sleepers(word: &str) -> usize {
    Snapshot::take()
        .with_word(word)
        .iter()
        .filter(|process| process.cmdline.first().is_some_and(|c| c.ends_with("sleep")))
        .count()
}

fn the_record(bed: &Bed) -> Value {
    let done = bed.run("root", &["sh", "-c", &format!("cat {}/*.json", world::GRANTS_DIR)]);
    if done.stdout.is_empty() {
        return Value::Null; // not there yet
    }
    serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"))
}

/// Catalogue: X1 (control: a_command_that_ends_by_itself_is_finished_at_once)
#[test]
fn at_expiry_every_kind_of_child_is_gone_within_a_second_and_the_terminal_is_sane() {
    in_namespace(here!(), |bed| {
        let installation = ready(bed);
        let script = "sleep 7001 & setsid sleep 7001 & nohup sleep 7001 >/dev/null 2>&1 & setsid sh -c '(setsid sleep 7001 &)'; \
                      stty -echo raw; sleep 7001";
        let mut terminal = bed.terminal(
            "alice",
            &["bash", "-c", &format!("sudo sh -c \"{script}\"; echo back; stty -a | grep -c ' echo '")],
        );
        approve_for(&installation, &terminal, 3);
        eventually("five sleepers run", LIMIT, || sleepers("7001") >= 5);
        let started = std::time::Instant::now();
        eventually("nobody is left", Duration::from_secs(3) + SECOND, || sleepers("7001") == 0);
        assert!(started.elapsed() < Duration::from_secs(3) + SECOND);
        terminal.wait_for("back", LIMIT);
        terminal.wait(LIMIT);
        assert_eq!(terminal.modes(), SANE);
        eventually("the end is recorded", LIMIT, || the_record(bed)["end"]["reason"] == "expired");
    });
}

/// Catalogue: X1 (control: a_command_that_ends_by_itself_is_finished_at_once)
#[test]
fn a_background_sudo_ends_at_expiry_too() {
    in_namespace(here!(), |bed| {
        let installation = ready(bed);
        let terminal = bed.terminal("alice", &["bash", "-c", "sudo -b sleep 7002; read x"]);
        approve_for(&installation, &terminal, 3);
        eventually("it runs", LIMIT, || sleepers("7002") == 1);
        eventually("it is gone", Duration::from_secs(3) + SECOND, || sleepers("7002") == 0);
    });
}

#[test]
fn a_command_that_ends_by_itself_is_finished_at_once() {
    in_namespace(here!(), |bed| {
        let installation = ready(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "true"]);
        installation.approve_by_two(&terminal, "bob", "carol");
        assert_eq!(terminal.exit_code(LIMIT), 0);
        eventually("the end is recorded", SECOND * 3, || the_record(bed)["end"]["reason"] == "finished");
        // X8: the grant is used up; the same command asks anew.
        let again = bed.terminal("alice", &["sudo", "true"]);
        let _ = scan_ticket(&again, None);
    });
}

#[test]
fn a_daemon_left_behind_lingers_until_its_end() {
    in_namespace(here!(), |bed| {
        let installation = ready(bed);
        let mut terminal =
            bed.terminal("alice", &["sudo", "sh", "-c", "setsid sleep 7003 >/dev/null 2>&1 </dev/null & sleep 0.2"]);
        approve_for(&installation, &terminal, 4);
        assert_eq!(terminal.exit_code(LIMIT), 0);
        assert_eq!(sleepers("7003"), 1, "left behind");
        assert_eq!(the_record(bed)["end"], Value::Null);
        eventually("it is ended", Duration::from_secs(4) + SECOND, || sleepers("7003") == 0);
        eventually("and recorded as lingering", LIMIT, || the_record(bed)["end"]["lingered"] == true);
    });
}

/// Catalogue: X2 (control: a_command_that_ends_by_itself_is_finished_at_once)
#[test]
fn a_process_that_left_the_cgroup_is_told_as_escaped() {
    in_namespace(here!(), |bed| {
        let installation = ready(bed);
        let script = "sleep 7004 & sleep 1.5; echo $! > /sys/fs/cgroup/cgroup.procs; sleep 60";
        let terminal = bed.terminal("alice", &["sudo", "sh", "-c", script]);
        approve_for(&installation, &terminal, 4);
        eventually("the end is recorded", Duration::from_secs(10), || the_record(bed)["end"]["reason"] == "expired");
        assert_eq!(sleepers("7004"), 1, "it escaped, as documented");
        let escaped = &the_record(bed)["end"]["escaped"];
        assert!(escaped.as_array().is_some_and(|list| list.iter().any(|p| p["name"] == "sleep")), "{escaped}");
        for process in Snapshot::take().with_word("7004") {
            twinlock_tests::ns::signal(process.pid, nix::sys::signal::Signal::SIGKILL);
        }
    });
}

/// Catalogue: X6 (control: a_command_that_ends_by_itself_is_finished_at_once)
#[test]
fn a_front_end_that_was_killed_ends_its_grant() {
    in_namespace(here!(), |bed| {
        let installation = ready(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "sleep", "7005"]);
        approve_for(&installation, &terminal, 4);
        eventually("it runs", LIMIT, || sleepers("7005") == 1);
        twinlock_tests::ns::signal(terminal.pid(), nix::sys::signal::Signal::SIGKILL);
        terminal.wait(LIMIT);
        eventually("nothing is left at the latest at its end", Duration::from_secs(4) + SECOND, || {
            sleepers("7005") == 0
        });
        eventually("the end is recorded", LIMIT, || the_record(bed)["end"] != Value::Null);
    });
}

/// Catalogue: X9 (control: a_command_that_ends_by_itself_is_finished_at_once)
#[test]
fn stopped_and_forking_children_end_and_the_reaper_lives() {
    in_namespace(here!(), |bed| {
        let mut installation = ready(bed);
        let script =
            "sleep 7006 & kill -STOP $!; sh -c 'i=0; while [ $i -lt 300 ]; do sleep 7006 & i=$((i+1)); done; wait'";
        let terminal = bed.terminal("alice", &["sudo", "sh", "-c", script]);
        approve_for(&installation, &terminal, 4);
        eventually("many run", LIMIT, || sleepers("7006") > 100);
        eventually("nobody is left", Duration::from_secs(5) + SECOND, || sleepers("7006") == 0);
        assert!(installation.reaper.is_running());
    });
}

/// Catalogue: S4 (control: at_expiry_every_kind_of_child_is_gone_within_a_second_and_the_terminal_is_sane)
#[test]
fn a_reaper_that_was_killed_adopts_live_grants_and_ends_overdue_ones() {
    in_namespace(here!(), |bed| {
        let mut installation = ready(bed);
        let terminal = bed.terminal("alice", &["sudo", "sleep", "7007"]);
        approve_for(&installation, &terminal, 6);
        eventually("it runs", LIMIT, || sleepers("7007") == 1);
        installation.reaper.kill();
        assert_eq!(sleepers("7007"), 1, "sessions survive their reaper");
        installation.restart_reaper();
        eventually("it ends on time", Duration::from_secs(8), || sleepers("7007") == 0);
        let terminal2 = bed.terminal("alice", &["sudo", "sleep", "7008"]);
        approve_for(&installation, &terminal2, 2);
        eventually("it runs", LIMIT, || sleepers("7008") == 1);
        installation.reaper.kill();
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(sleepers("7008"), 1, "nobody ends it meanwhile");
        installation.restart_reaper();
        eventually("an overdue one ends at once", SECOND * 2, || sleepers("7008") == 0);
        drop(terminal);
    });
}

/// `Defaults !pam_session` leaves the session phase out. The record, the leaf and the end at the
/// deadline are made before it, so they stand (T4, T5).
///
/// Catalogue: P11 (control: inline)
#[test]
fn without_a_session_phase_too_a_command_has_its_record_its_leaf_and_its_end() {
    in_namespace(here!(), |bed| {
        let installation = ready(bed);
        let session = "/var/lib/session-ran";
        bed.wire(&Tail::Lines(format!(
            "account required pam_twinlock.so\nsession required pam_twinlock.so\n\
             session required pam_exec.so quiet /bin/touch {session}\n"
        )));
        for (defaults, word, phase) in [("", "7011", true), ("Defaults !pam_session\n", "7012", false)] {
            bed.sudoers(&format!("{defaults}alice ALL=(ALL:ALL) NOPASSWD: ALL"));
            bed.run("root", &["sh", "-c", &format!("rm -f {}/*.* {session}", world::GRANTS_DIR)]);
            let terminal = bed.terminal("alice", &["sudo", "sleep", word]);
            approve_for(&installation, &terminal, 5);
            eventually("it runs", LIMIT, || sleepers(word) == 1);
            assert_eq!(std::path::Path::new(session).exists(), phase, "control: the phase ran, or did not");
            let record = the_record(bed);
            assert!(record["start"].is_object() && record["end"].is_null(), "on disk while it runs: {record}");
            let (running, grant) = (Snapshot::take(), record["grant"].as_str().unwrap());
            let process = running.with_word(word).into_iter().find(|p| p.cmdline[0].ends_with("sleep")).unwrap();
            assert!(process.cgroup.ends_with(&format!("/{grant}")), "in its leaf: {process:?}");
            eventually("it ends on time", Duration::from_secs(7), || sleepers(word) == 0);
            eventually("its end is on record", LIMIT, || the_record(bed)["end"]["reason"] == "expired");
        }
    });
}
