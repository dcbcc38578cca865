//! How sessions begin and end.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use twinlock_protocol::evidence::EndReason;

use crate::bench::{Bench, alive, root, within};
use crate::wire;

const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_session_that_finishes_is_recorded_and_its_leaf_is_gone() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let mut front = bench.front_end(60_000, "true");
    eprintln!("MEASURED registration until confirmed, with its record on disk: {}", front.hear("took"));
    let grant = front.grant();
    let end = bench.end_of(&grant, SOON);
    assert_eq!(end.reason, EndReason::Finished);
    assert!(end.killed.is_empty() && end.escaped.is_empty() && !end.lingered, "{end:?}");
    assert!(within(SOON, || !bench.leaf(&grant).exists()));
}

/// Catalogue: X1 (control: a_session_that_finishes_is_recorded_and_its_leaf_is_gone)
#[test]
fn setsid_nohup_and_double_forked_children_are_gone_at_the_deadline() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let script = "sleep 600 & setsid sleep 600 & nohup sleep 600 >/dev/null 2>&1 & \
                  setsid sh -c '(setsid sleep 600 &)'; sleep 600";
    let begun = Instant::now();
    let mut front = bench.front_end(3_000, script);
    let grant = front.grant();
    assert!(within(SOON, || bench.members(&grant).len() >= 7), "{:?}", bench.members(&grant));
    let members = bench.members(&grant);
    let end = bench.end_of(&grant, SOON);
    assert!(begun.elapsed() >= Duration::from_millis(3_000), "ended too early");
    assert_eq!(end.reason, EndReason::Expired);
    assert!(end.took_ms < 1_000, "took {} ms", end.took_ms);
    assert!(members.iter().all(|pid| *pid == front.pid() || !alive(*pid)), "{end:?}");
    assert!(end.escaped.is_empty(), "{end:?}");
    assert!(end.killed.len() >= 5, "{end:?}");
    eprintln!("MEASURED expiry to last process dead: {} ms, {} killed", end.took_ms, end.killed.len());
    assert!(within(SOON, || !bench.leaf(&grant).exists()));
}

/// Catalogue: X6 (control: a_session_that_finishes_is_recorded_and_its_leaf_is_gone)
#[test]
fn a_front_end_that_is_killed_closes_its_session_and_what_is_left_lingers_until_the_deadline() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let mut front = bench.front_end(60_000, "exec sleep 600");
    let grant = front.grant();
    assert!(within(SOON, || bench.members(&grant).len() >= 2));
    front.child.kill().unwrap();
    front.child.wait().unwrap();
    // The command lives on: lingering, and listed so.
    let listed = || wire::list(&bench, 1001).into_iter().any(|live| live.lingering);
    assert!(within(SOON, listed), "{}", bench.log());
    for pid in bench.members(&grant) {
        rustix::process::kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    }
    let end = bench.end_of(&grant, SOON);
    assert_eq!((end.reason, end.lingered), (EndReason::Finished, true));

    let mut front = bench.front_end(2_000, "setsid sleep 600 >/dev/null 2>&1 & exit 0");
    let grant = front.grant();
    let end = bench.end_of(&grant, SOON);
    assert_eq!((end.reason, end.lingered), (EndReason::Expired, true), "{end:?}");
    assert_eq!(end.killed.len(), 1, "{end:?}");
}

/// Catalogue: X2 (control: setsid_nohup_and_double_forked_children_are_gone_at_the_deadline)
#[test]
fn processes_that_left_the_cgroup_are_listed_as_escaped() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let outside = bench.cgroup.join("cgroup.procs");
    // A shell that leaves and stays; one that leaves, starts a daemon and is gone; both from a
    // session of their own, so that neither parent nor terminal leads back. They take their time:
    // whoever is quicker than a look, and has no audit session, is not seen.
    let stays = format!("setsid sh -c 'echo 0 >{0}; exec sleep 601' & ", outside.display());
    let daemon = "setsid sleep 602 >/dev/null 2>&1 & sleep 0.2";
    let leaves = format!("setsid sh -c 'sleep 0.2; echo 0 >{0}; {daemon}' & ", outside.display());
    let mut front = bench.front_end(4_000, &format!("{stays}{leaves}sleep 603"));
    let grant = front.grant();
    let end = bench.end_of(&grant, SOON);
    assert_eq!(end.reason, EndReason::Expired);
    let escaped: Vec<u32> = end.escaped.iter().map(|note| note.pid).collect();
    let outside: Vec<u32> =
        std::fs::read_to_string(&outside).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    let missed: Vec<_> = outside.iter().filter(|pid| !escaped.contains(pid)).collect();
    for pid in &outside {
        rustix::process::kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    }
    assert_eq!(outside.len(), 2, "{end:?}");
    assert!(missed.is_empty(), "{missed:?} missed in {end:?}");
    assert!(end.escaped.iter().all(|note| note.name == "sleep"), "{end:?}");
    assert!(bench.log().contains("containment_escaped"));
}

/// Catalogue: X2 (control: a_session_that_finishes_is_recorded_and_its_leaf_is_gone)
#[test]
fn a_command_that_finishes_after_leaving_something_outside_says_so() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let outside = bench.cgroup.join("cgroup.procs");
    let script = format!("(echo 0 >{}; exec sleep 600) & sleep 0.5", outside.display());
    let mut front = bench.front_end(60_000, &script);
    let grant = front.grant();
    let end = bench.end_of(&grant, SOON);
    for note in &end.escaped {
        rustix::process::kill_process(Pid::from_raw(note.pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    }
    assert_eq!(end.reason, EndReason::Finished);
    assert_eq!(end.escaped.len(), 1, "{end:?}");
}

/// Whoever leaves between two looks still carries the login's audit session.
///
/// Catalogue: X2 (control: a_session_that_finishes_is_recorded_and_its_leaf_is_gone)
#[test]
fn a_daemon_that_left_at_once_is_known_by_its_audit_session() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let outside = bench.cgroup.join("cgroup.procs");
    let script = format!("sh -c 'echo 0 >{}; (setsid sleep 602 >/dev/null 2>&1 &)'; sleep 0.3", outside.display());
    let login = "echo 1001 >/proc/self/loginuid; exec \"$0\" \"$@\"";
    let mut front = bench.front_end_of(60_000, &script, &["sh", "-c", login]);
    if front.hear("login") != "true" {
        eprintln!("SKIPPED: this test needs CAP_AUDIT_CONTROL and a kernel with audit");
        return;
    }
    let grant = front.grant();
    let end = bench.end_of(&grant, SOON);
    for pid in std::fs::read_to_string(&outside).unwrap().lines() {
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }
    assert_eq!(end.escaped.iter().map(|note| note.name.as_str()).collect::<Vec<_>>(), ["sleep"], "{end:?}");
}

/// Catalogue: X9 (control: setsid_nohup_and_double_forked_children_are_gone_at_the_deadline)
#[test]
fn stopped_children_and_a_fork_storm_are_gone_at_the_deadline() {
    if !root() {
        return;
    }
    let mut bench = Bench::new();
    let script = "sleep 600 & kill -STOP $!; sh -c 'kill -STOP $$' & \
                  storm() { while :; do (sleep 600 & sleep 600 &); done; }; storm & storm & sleep 600";
    let mut front = bench.front_end(2_500, script);
    let grant = front.grant();
    let end = bench.end_of(&grant, Duration::from_secs(30));
    assert_eq!(end.reason, EndReason::Expired);
    assert!(end.took_ms < 5_000, "took {} ms", end.took_ms);
    assert_eq!(end.killed.len(), 64, "the record names the first 64");
    assert!(end.escaped.is_empty(), "{end:?}");
    eprintln!("MEASURED fork storm to last process dead: {} ms", end.took_ms);
    assert!(within(SOON, || !bench.leaf(&grant).exists()));
    assert!(bench.reaper_runs());
    let mut other = bench.front_end(60_000, "true");
    assert_eq!(bench.end_of(&other.grant(), SOON).reason, EndReason::Finished, "and it goes on working");
}

/// A frozen process of the version 1 freezer cannot be killed until it is thawed, like one in
/// uninterruptible sleep.
///
/// Catalogue: X9 (control: stopped_children_and_a_fork_storm_are_gone_at_the_deadline)
#[test]
fn what_cannot_be_killed_is_reported_and_killed_later() {
    let freezer = Path::new("/sys/fs/cgroup/freezer");
    if !root() || !freezer.join("cgroup.procs").exists() {
        eprintln!("SKIPPED: this test needs a version 1 freezer");
        return;
    }
    let mut bench = Bench::new();
    let frozen = freezer.join(format!("twinlock-test-{}", std::process::id()));
    std::fs::create_dir(&frozen).unwrap();
    let mut front = bench.front_end(3_000, "sleep 600 & echo stuck $!; wait");
    let grant = front.grant();
    let stuck: u32 = front.hear("stuck").parse().unwrap();
    std::fs::write(frozen.join("cgroup.procs"), stuck.to_string()).unwrap();
    std::fs::write(frozen.join("freezer.state"), "FROZEN").unwrap();
    let end = bench.end_of(&grant, Duration::from_secs(30));
    let (runs, stands) = (bench.reaper_runs(), alive(stuck));
    // Other sessions are not held up meanwhile.
    let mut other = bench.front_end(60_000, "true");
    let other = bench.end_of(&other.grant(), SOON);
    std::fs::write(frozen.join("freezer.state"), "THAWED").unwrap();
    assert!(within(SOON, || !alive(stuck)), "its kill waits for it");
    assert!(within(SOON, || std::fs::remove_dir(&frozen).is_ok()));
    assert_eq!(end.reason, EndReason::Expired);
    assert!(end.escaped.iter().any(|note| note.pid == stuck), "{end:?}");
    assert!(runs && stands);
    assert_eq!(other.reason, EndReason::Finished);
}

#[test]
fn a_deadline_is_met_within_a_tenth_of_a_second() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let mut front = bench.front_end(1_200, "sleep 600");
    let grant = front.grant();
    let deadline = bench.deadline_of(&grant);
    assert!(within(SOON, || bench.members(&grant).is_empty()));
    let late = crate::player::boot_ms().cast_signed() - deadline.cast_signed();
    eprintln!("MEASURED deadline to empty cgroup: {late} ms");
    assert!((0..500).contains(&late), "{late} ms");
    assert_eq!(bench.end_of(&grant, SOON).reason, EndReason::Expired);
}

/// The front end is given its moment: it waits for its child, and ends by itself.
#[test]
fn the_front_end_outlives_its_command_and_cleans_up() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let mut front = bench.front_end(1_200, "sleep 600");
    let grant = front.grant();
    assert!(front.hear("done").contains("signal: 9"), "it saw its command die");
    assert_eq!(front.child.wait().unwrap().code(), Some(0), "and was not killed itself");
    let end = bench.end_of(&grant, SOON);
    assert!(end.killed.iter().all(|note| note.pid != front.pid()), "{end:?}");
}

/// A nested cgroup, which root inside may make, is emptied and removed with the leaf.
#[test]
fn cgroups_made_inside_the_leaf_do_not_hide_processes() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let script = "mkdir -p $LEAF/a/b; setsid sh -c 'echo 0 >$LEAF/a/b/cgroup.procs; exec sleep 600' & sleep 600";
    let mut front = bench.front_end(3_000, script);
    let grant = front.grant();
    let nested = bench.leaf(&grant).join("a/b/cgroup.procs");
    assert!(within(SOON, || std::fs::read_to_string(&nested).is_ok_and(|list| !list.is_empty())));
    let pid: u32 = std::fs::read_to_string(&nested).unwrap().trim().parse().unwrap();
    let end = bench.end_of(&grant, SOON);
    assert!(end.killed.iter().any(|note| note.pid == pid) && end.escaped.is_empty(), "{end:?}");
    assert!(!alive(pid));
    assert!(within(SOON, || !bench.leaf(&grant).exists()));
}
