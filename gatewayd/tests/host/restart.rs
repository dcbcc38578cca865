//! A reaper that was killed, and its successor; records that the disk refuses.

use std::time::Duration;

use twinlock_protocol::DenyReason;
use twinlock_protocol::evidence::EndReason;
use twinlock_protocol::wire::reaper::{ReaperRefused, ReaperReply};

use crate::bench::{Bench, alive, root, within};
use crate::player::{boot_ms, register, registration};
use crate::wire;

const SOON: Duration = Duration::from_secs(15);

/// Catalogue: S4 (control: setsid_nohup_and_double_forked_children_are_gone_at_the_deadline)
#[test]
fn a_session_outlives_its_reaper_and_the_next_one_ends_it_in_time() {
    if !root() {
        return;
    }
    let mut bench = Bench::new();
    let mut front = bench.front_end(5_000, "setsid sleep 600 & sleep 600");
    let grant = front.grant();
    let deadline = bench.deadline_of(&grant);
    assert!(within(SOON, || bench.members(&grant).len() >= 4));
    bench.kill_reaper();
    std::thread::sleep(Duration::from_millis(300));
    assert!(bench.members(&grant).iter().all(|pid| alive(*pid)), "nothing ended with the reaper");
    bench.start();
    assert_eq!(wire::list(&bench, 1001).len(), 1, "the next one knows it");
    let end = bench.end_of(&grant, SOON);
    assert!(boot_ms() >= deadline);
    assert_eq!(end.reason, EndReason::Expired);
    assert!(end.took_ms < 1_000, "{end:?}");
    assert_eq!(end.killed.len(), 3, "the shell and two sleeps, but not the front end: {end:?}");
}

/// A reaper that dies in the middle of a kill leaves the leaf frozen.
#[test]
fn a_session_that_an_earlier_reaper_left_frozen_goes_on() {
    if !root() {
        return;
    }
    let mut bench = Bench::new();
    let mut front = bench.front_end(60_000, "sleep 1; echo went on");
    let grant = front.grant();
    bench.kill_reaper();
    std::fs::write(bench.leaf(&grant).join("cgroup.freeze"), "1").unwrap();
    bench.start();
    assert_eq!(front.hear("went"), "on");
    assert_eq!(bench.end_of(&grant, SOON).reason, EndReason::Finished);
}

/// Catalogue: S4 (control: a_session_outlives_its_reaper_and_the_next_one_ends_it_in_time)
#[test]
fn a_session_that_expired_while_no_reaper_ran_is_ended_at_its_start() {
    if !root() {
        return;
    }
    let mut bench = Bench::new();
    let mut front = bench.front_end(3_000, "sleep 600");
    let grant = front.grant();
    assert!(within(SOON, || bench.members(&grant).len() >= 2));
    let members = bench.members(&grant);
    bench.kill_reaper();
    let deadline = bench.deadline_of(&grant);
    assert!(within(SOON, || boot_ms() > deadline + 500));
    assert!(members.iter().all(|pid| alive(*pid)));
    bench.start();
    let end = bench.end_of(&grant, SOON);
    assert_eq!(end.reason, EndReason::Expired);
    assert!(end.took_ms >= 300, "counted from the deadline: {end:?}");
    assert!(within(SOON, || members.iter().all(|pid| !alive(*pid))));
}

/// Catalogue: S4 (control: a_session_outlives_its_reaper_and_the_next_one_ends_it_in_time)
#[test]
fn a_session_that_ended_while_no_reaper_ran_is_found_over() {
    if !root() {
        return;
    }
    let mut bench = Bench::new();
    let mut front = bench.front_end(60_000, "sleep 1");
    let grant = front.grant();
    bench.kill_reaper();
    front.child.wait().unwrap();
    bench.start();
    assert_eq!(bench.end_of(&grant, SOON).reason, EndReason::FoundOver);
    assert!(within(SOON, || !bench.leaf(&grant).exists()));
}

/// Catalogue: X6 (control: inline)
#[test]
fn what_a_front_end_left_behind_lingers_under_the_next_reaper_too() {
    if !root() {
        return;
    }
    let mut bench = Bench::new();
    let mut front = bench.front_end(60_000, "setsid sleep 600 &");
    let grant = front.grant();
    let lingers = |bench: &Bench| wire::list(bench, 1001).iter().any(|grant| grant.lingering);
    assert!(within(SOON, || lingers(&bench)), "control: under the first");
    front.child.wait().unwrap();
    bench.kill_reaper();
    bench.start();
    assert!(within(SOON, || lingers(&bench)), "nobody noticed that its front end is gone");
    let sleeper = bench.members(&grant)[0];
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(sleeper.cast_signed()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let end = bench.end_of(&grant, SOON);
    assert_eq!((end.reason, end.lingered), (EndReason::Finished, true));
}

/// Marks are the agent's word. They must not hide a session, neither from the next reaper nor from
/// the gateway.
///
/// Catalogue: S5 (control: a_session_outlives_its_reaper_and_the_next_one_ends_it_in_time)
#[test]
fn a_live_session_that_is_marked_as_ended_still_ends_in_time() {
    if !root() {
        return;
    }
    let mut bench = Bench::new();
    let mut front = bench.front_end(4_000, "sleep 600");
    let grant = front.grant();
    bench.kill_reaper();
    std::fs::write(bench.path("grants").join(format!("{grant}.ended")), "").unwrap();
    bench.start();
    assert_eq!(wire::list(&bench, 1001).len(), 1, "it is known");
    assert_eq!(bench.end_of(&grant, SOON).reason, EndReason::Expired);
}

/// The reaper dies between the record and the confirmation: the module hears no word, and the grant
/// is spent.
///
/// Catalogue: P14 (control: a_session_that_finishes_is_recorded_and_its_leaf_is_gone)
#[test]
fn a_reaper_that_dies_during_registration_leaves_no_session() {
    if !root() {
        return;
    }
    let mut bench = Bench::new();
    let request = registration(60_000, 1001, |_| {});
    let stream = wire::connect(&bench.socket());
    assert!(matches!(register(&stream, &request, None), ReaperReply::Registered(_)));
    bench.kill_reaper();
    assert_eq!(wire::receive::<ReaperReply>(&stream), None, "no confirmation");
    bench.start();
    assert_eq!(bench.end_of(&request.record.grant.to_string(), SOON).reason, EndReason::FoundOver);
    let again = register(&wire::connect(&bench.socket()), &request, None);
    assert_eq!(again, ReaperReply::Refused(ReaperRefused { reason: DenyReason::RequestRepeated }));
}

#[test]
fn a_record_of_another_boot_is_closed() {
    if !root() {
        return;
    }
    let mut bench = Bench::stopped(&[]);
    let old = registration(60_000, 1001, |request| request.boot_id = "0".repeat(8) + "-0000-0000-0000-000000000000");
    let grant = old.record.grant.to_string();
    std::fs::write(bench.path("grants").join(format!("{grant}.json")), old.record.to_bytes()).unwrap();
    // What a crash cut short is removed.
    std::fs::write(bench.path("grants").join("x.new"), "{").unwrap();
    bench.start();
    assert_eq!(bench.end_of(&grant, SOON).reason, EndReason::FoundOver);
    assert!(!bench.path("grants").join("x.new").exists());
}

#[test]
fn processes_in_a_leaf_without_a_sound_record_are_ended_at_start() {
    if !root() {
        return;
    }
    let mut bench = Bench::new();
    let mut front = bench.front_end(60_000, "sleep 600");
    let grant = front.grant();
    assert!(within(SOON, || bench.members(&grant).len() >= 2));
    let members = bench.members(&grant);
    bench.kill_reaper();
    std::fs::write(bench.path("grants").join(format!("{grant}.json")), "{}").unwrap();
    bench.start();
    assert!(within(SOON, || members.iter().all(|pid| !alive(*pid))));
    assert!(bench.log().contains("cannot be read"));
}

/// RLIMIT_FSIZE: the record does not fit, nothing is left behind, the session is refused (T5).
#[test]
fn without_room_for_its_record_a_session_is_refused() {
    if !root() {
        return;
    }
    let mut bench = Bench::stopped(&[]);
    bench.start_with(&["prlimit", "--fsize=2000"]);
    let refused = ReaperReply::Refused(ReaperRefused { reason: DenyReason::RecordFailed });
    let large = registration(60_000, 1001, |request| request.reason = Some("x".repeat(400)));
    assert!(large.record.to_bytes().len() > 2_000);
    assert_eq!(register(&wire::connect(&bench.socket()), &large, None), refused);
    assert!(std::fs::read_dir(bench.path("grants")).unwrap().next().is_none(), "nothing is left behind");
    assert!(std::fs::read_dir(&bench.cgroup).unwrap().all(|entry| !entry.unwrap().file_type().unwrap().is_dir()));
    assert!(bench.reaper_runs(), "and it lives");
    // With room, the very same registration passes.
    bench.kill_reaper();
    bench.start();
    let reply = register(&wire::connect(&bench.socket()), &large, None);
    assert!(matches!(reply, ReaperReply::Registered(_)), "{reply:?}");
}

/// A full file system: refused before, and a session that runs when it fills up ends on time all the
/// same; its end is written as soon as there is room.
#[test]
fn on_a_full_disk_sessions_are_refused_and_running_ones_still_end() {
    if !root() {
        return;
    }
    let mut bench = Bench::stopped(&[]);
    let grants = bench.path("grants");
    let mount = format!("mount -t tmpfs -o size=64k,mode=700 grants {}; exec \"$0\" \"$@\"", grants.display());
    bench.start_with(&["unshare", "--mount", "--propagation", "private", "sh", "-c", &mount]);
    let inside = bench.inside(&grants);
    let mut front = bench.front_end(1_500, "sleep 600");
    let grant = front.grant();
    let record = inside.join(format!("{grant}.json"));
    assert!(record.exists());
    let fill = inside.join("fill");
    while std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&fill)
        .and_then(|mut file| std::io::Write::write_all(&mut file, &[0; 4096]))
        .is_ok()
    {}
    let more = registration(60_000, 1001, |_| {});
    let reply = register(&wire::connect(&bench.socket()), &more, None);
    assert_eq!(reply, ReaperReply::Refused(ReaperRefused { reason: DenyReason::RecordFailed }));
    assert!(!inside.join(format!("{}.json", more.record.grant)).exists());
    assert!(within(SOON, || bench.members(&grant).is_empty()), "it ends in time");
    assert!(within(SOON, || bench.log().contains("an end could not be written")));
    let ended = || {
        let bytes = std::fs::read(&record).unwrap();
        twinlock_protocol::evidence::GrantRecord::from_bytes(&bytes).expect("never half a record").end.is_some()
    };
    assert!(!ended());
    std::fs::remove_file(&fill).unwrap();
    assert!(within(SOON, ended), "{}", bench.log());
}

/// systemd is told when the sockets are open, and again and again that the reaper is alive.
#[test]
fn systemd_is_told_that_it_is_ready_and_alive() {
    if !root() {
        return;
    }
    let mut bench = Bench::stopped(&[]);
    let path = bench.path("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let notify = format!("NOTIFY_SOCKET={}", path.display());
    // WATCHDOG_PID must be the daemon's own, which the shell becomes.
    let start = "WATCHDOG_PID=$$ exec \"$0\" \"$@\"";
    bench.start_with(&["env", &notify, "WATCHDOG_USEC=200000", "sh", "-c", start]);
    let hear = || loop {
        let mut text = [0; 256];
        let length = socket.recv(&mut text).expect("a word to systemd");
        let text = String::from_utf8_lossy(&text[..length]).trim().to_owned();
        if !text.starts_with("STATUS=") {
            return text;
        }
    };
    assert_eq!(hear(), "READY=1");
    let begun = std::time::Instant::now();
    assert_eq!([hear(), hear(), hear()], ["WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}
