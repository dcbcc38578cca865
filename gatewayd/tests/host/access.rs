//! Who may say what to the reaper, by the kernel's credentials; and what a grant is addressed by.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use twinlock_protocol::DenyReason;
use twinlock_protocol::evidence::EndReason;
use twinlock_protocol::ids::GrantId;
use twinlock_protocol::wire::agent::{EndGrant, EndOrder};
use twinlock_protocol::wire::reaper::{
    DropGrant, Joined, Opened, ReaperRefused, ReaperReply, ReaperRequest, Register, Watch,
};

use crate::bench::{AGENT, Bench, alive, as_uid, root, within};
use crate::player::{SAY_OPENED, register, registration};
use crate::wire;

const SOON: Duration = Duration::from_secs(15);

fn refused(reply: Option<ReaperReply>) -> DenyReason {
    match reply {
        Some(ReaperReply::Refused(ReaperRefused { reason })) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

/// One frame to `reaper.sock` by this uid, and the answer; none when the reaper just closes.
fn say(bench: &Bench, uid: u32, message: ReaperRequest) -> Option<ReaperReply> {
    let path = bench.socket();
    as_uid(uid, move || {
        let stream = wire::connect(&path);
        // The reaper may have closed before it read anything.
        let _ = std::io::Write::write_all(&mut &stream, &twinlock_protocol::wire::frame(&message));
        wire::receive(&stream)
    })
}

fn end_order(grant: GrantId) -> ReaperRequest {
    ReaperRequest::EndGrant(EndGrant { grant, order: EndOrder::Revoked })
}

/// Catalogue: S1 (control: the_agents_uid_watches_and_ends_grants)
#[test]
fn a_uid_that_is_neither_root_nor_the_agent_gets_no_answer() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    assert_eq!(say(&bench, 1001, ReaperRequest::Watch(Watch { wire: 1 })), None);
    let register = registration(60_000, 1001, |_| {});
    assert_eq!(say(&bench, 1001, ReaperRequest::Register(Box::new(register))), None);
    assert!(bench.log().contains("a client that may say nothing was refused"));
}

/// Catalogue: S5 (control: a_session_that_finishes_is_recorded_and_its_leaf_is_gone)
#[test]
fn the_agents_uid_cannot_register_and_root_cannot_watch() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let register = registration(60_000, 1001, |_| {});
    let grant = register.record.grant.to_string();
    assert_eq!(refused(say(&bench, AGENT, ReaperRequest::Register(Box::new(register)))), DenyReason::NotFound);
    assert!(!bench.path("grants").join(format!("{grant}.json")).exists());
    assert_eq!(refused(say(&bench, 0, ReaperRequest::Watch(Watch { wire: 1 }))), DenyReason::NotFound);
    assert_eq!(refused(say(&bench, 0, end_order(GrantId::from_text(&grant).unwrap()))), DenyReason::NotFound);
}

#[test]
fn the_agents_uid_watches_and_ends_grants() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let mut front = bench.front_end(60_000, "sleep 600");
    let grant = front.grant();
    let (path, id) = (bench.socket(), GrantId::from_text(&grant).unwrap());
    let replies = as_uid(AGENT, move || {
        let stream = wire::connect(&path);
        wire::send(&stream, &ReaperRequest::Watch(Watch { wire: 1 }));
        let started = wire::receive::<ReaperReply>(&stream).unwrap();
        wire::send(&stream, &end_order(id));
        (started, wire::receive::<ReaperReply>(&stream).unwrap())
    });
    let (ReaperReply::Started(started), ReaperReply::Ended(ended)) = replies else { panic!("{replies:?}") };
    assert_eq!((started.grant, ended.grant), (id, id));
    assert_eq!(ended.end.reason, EndReason::Revoked);
    assert_eq!(bench.end_of(&grant, SOON), ended.end);
}

/// A hostile agent can name grants, nothing else: there is no message that carries a pid, and a
/// frame that tries is no message.
///
/// Catalogue: S5 (control: the_agents_uid_watches_and_ends_grants)
#[test]
fn an_agent_cannot_have_anything_killed_that_is_not_a_grant() {
    if !root() {
        return;
    }
    let mut bench = Bench::new();
    let mut bystander = Command::new("sleep").arg("600").spawn().unwrap();
    let path = bench.socket();
    let pid = bystander.id();
    as_uid(AGENT, move || {
        for grant in ["1".to_owned(), pid.to_string(), "../../..".into(), "a".repeat(26)] {
            let stream = wire::connect(&path);
            wire::send(&stream, &ReaperRequest::Watch(Watch { wire: 1 }));
            let text = format!("{{\"end_grant\":{{\"grant\":\"{grant}\",\"order\":\"revoked\"}}}}");
            let mut frame = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
            frame.extend(text.as_bytes());
            std::io::Write::write_all(&mut &stream, &frame).unwrap();
            if GrantId::from_text(&grant).is_none() {
                assert_eq!(wire::receive::<ReaperReply>(&stream), None, "{grant}: dropped");
            }
        }
    });
    std::thread::sleep(Duration::from_millis(200));
    assert!(alive(1) && alive(bystander.id()) && bench.reaper_runs());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// Catalogue: A23 (control: a_session_that_finishes_is_recorded_and_its_leaf_is_gone)
#[test]
fn a_registration_for_another_process_is_refused() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let mut other = Command::new("sleep").arg("600").spawn().unwrap();
    // The pidfd of another process.
    let stream = wire::connect(&bench.socket());
    let pidfd = pidfd_open(Pid::from_raw(other.id().cast_signed()).unwrap(), PidfdFlags::empty()).unwrap();
    let request = registration(60_000, 1001, |_| {});
    wire::send_with(&stream, &ReaperRequest::Register(Box::new(request)), &[pidfd.as_fd()]);
    assert_eq!(refused(wire::receive(&stream)), DenyReason::EvidenceOtherRequest);
    // A start statement that names another process.
    let named = registration(60_000, 1001, |request| request.process.pid = other.id());
    let reply = register(&wire::connect(&bench.socket()), &named, None);
    assert_eq!(refused(Some(reply)), DenyReason::EvidenceOtherRequest);
    // The right pid at another time: a reused one.
    let reused = registration(60_000, 1001, |request| request.process.start_time += 1);
    let reply = register(&wire::connect(&bench.socket()), &reused, None);
    assert_eq!(refused(Some(reply)), DenyReason::EvidenceOtherRequest);
    // Something that is no pidfd at all.
    let stream = wire::connect(&bench.socket());
    let file = std::fs::File::open("/dev/null").unwrap();
    let request = registration(60_000, 1001, |_| {});
    wire::send_with(&stream, &ReaperRequest::Register(Box::new(request)), &[file.as_fd()]);
    assert_eq!(refused(wire::receive(&stream)), DenyReason::EvidenceOtherRequest);
    assert!(std::fs::read_dir(bench.path("grants")).unwrap().next().is_none(), "no record of any of them");
    other.kill().unwrap();
    other.wait().unwrap();
}

/// Catalogue: S5 (control: inline)
#[test]
fn only_root_in_the_leaf_of_a_live_grant_has_it_noted_as_opened() {
    if !root() {
        return;
    }
    let mut bench = Bench::new();
    let (go, again) = (bench.path("go"), bench.path("again"));
    let wait = |path: &PathBuf| format!("until [ -e {} ]; do sleep 0.05; done", path.display());
    let script = format!("{}; {SAY_OPENED}; {}; {SAY_OPENED}", wait(&go), wait(&again));
    let mut front = bench.front_end(60_000, &script);
    let grant = front.grant();
    let mark = bench.path("grants").join(format!("{grant}.opened"));
    let opened = |grant: &str| ReaperRequest::Opened(Opened { wire: 1, grant: GrantId::from_text(grant).unwrap() });
    assert_eq!(say(&bench, 1001, opened(&grant)), None);
    assert_eq!(refused(say(&bench, AGENT, opened(&grant))), DenyReason::NotFound);
    assert_eq!(refused(say(&bench, 0, opened(&grant))), DenyReason::ContainmentFailed, "root, outside the leaf");
    assert_eq!(refused(say(&bench, 0, opened(&"a".repeat(26)))), DenyReason::GrantOver);
    let other = ReaperRequest::Opened(Opened { wire: 2, grant: GrantId::from_text(&grant).unwrap() });
    assert_eq!(refused(say(&bench, 0, other)), DenyReason::WireMismatch);
    assert!(!mark.exists());
    std::fs::write(&go, "").unwrap();
    assert_eq!(front.hear("said"), "Confirmed(Confirmed)");
    assert!(mark.exists());
    // A later reaper takes it as well: the registration was another's.
    std::fs::remove_file(&mark).unwrap();
    bench.kill_reaper();
    bench.start();
    std::fs::write(&again, "").unwrap();
    assert_eq!(front.hear("said"), "Confirmed(Confirmed)");
    assert!(mark.exists());
    assert_eq!(bench.end_of(&grant, SOON).reason, EndReason::Finished);
    assert!(within(SOON, || refused(say(&bench, 0, opened(&grant))) == DenyReason::GrantOver), "after its end");
}

// (control: only_root_in_the_leaf_of_a_live_grant_has_it_noted_as_opened)
#[test]
fn a_disk_that_refuses_the_mark_refuses_the_opening() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let go = bench.path("go");
    let mut front =
        bench.front_end(60_000, &format!("until [ -e {} ]; do sleep 0.05; done; {SAY_OPENED}", go.display()));
    let grant = front.grant();
    // Where the mark belongs lies something that is no file.
    std::fs::create_dir(bench.path("grants").join(format!("{grant}.opened"))).unwrap();
    std::fs::write(&go, "").unwrap();
    assert!(front.hear("said").contains("RecordFailed"));
}

/// Registers this very process, which is allowed as often as there are grants.
fn register_here(bench: &Bench, request: &Register) -> (std::os::unix::net::UnixStream, ReaperReply) {
    let stream = wire::connect(&bench.socket());
    let reply = register(&stream, request, None);
    (stream, reply)
}

/// Catalogue: S5 (control: inline)
#[test]
fn a_grant_is_registered_once_and_never_again() {
    if !root() {
        return;
    }
    let mut bench = Bench::new();
    let request = registration(600_000, 1001, |_| {});
    let grant = request.record.grant.to_string();
    let (lease, reply) = register_here(&bench, &request);
    assert!(matches!(reply, ReaperReply::Registered(_)), "{reply:?}");
    assert_eq!(refused(Some(register_here(&bench, &request).1)), DenyReason::RequestRepeated, "while it lives");
    drop(lease);
    let end = bench.end_of(&grant, SOON);
    assert_eq!(end.reason, EndReason::Finished);
    assert_eq!(refused(Some(register_here(&bench, &request).1)), DenyReason::RequestRepeated, "after its end");
    bench.kill_reaper();
    bench.start();
    assert_eq!(refused(Some(register_here(&bench, &request).1)), DenyReason::RequestRepeated, "after a restart");
}

/// Catalogue: P14 (control: a_session_that_finishes_is_recorded_and_its_leaf_is_gone)
#[test]
fn a_process_that_did_not_move_into_its_leaf_is_not_confirmed() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let request = registration(60_000, 1001, |_| {});
    let (lease, reply) = register_here(&bench, &request);
    assert!(matches!(reply, ReaperReply::Registered(_)), "{reply:?}");
    wire::send(&lease, &Joined {});
    assert_eq!(refused(wire::receive(&lease)), DenyReason::ContainmentFailed);
    assert_eq!(bench.end_of(&request.record.grant.to_string(), SOON).reason, EndReason::Finished);
}

/// An order to end that comes before the session is final (T3).
#[test]
fn a_grant_that_was_revoked_before_it_began_cannot_begin() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let request = registration(60_000, 1001, |_| {});
    let (path, id): (PathBuf, _) = (bench.socket(), request.record.grant);
    let watch = as_uid(AGENT, move || {
        let stream = wire::connect(&path);
        wire::send(&stream, &ReaperRequest::Watch(Watch { wire: 1 }));
        wire::send(&stream, &end_order(id));
        stream
    });
    assert!(crate::bench::within(SOON, || bench.log().contains("has not begun here")));
    assert_eq!(refused(Some(register_here(&bench, &request).1)), DenyReason::Revoked);
    drop(watch);
    let other = registration(60_000, 1001, |_| {});
    assert!(matches!(register_here(&bench, &other).1, ReaperReply::Registered(_)), "another grant can");
}

#[test]
fn people_list_and_drop_their_own_grants_only() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let mut front = bench.front_end(60_000, "sleep 600");
    let grant = front.grant();
    let id = GrantId::from_text(&grant).unwrap();
    let mine = wire::list(&bench, 1001);
    assert_eq!(mine.len(), 1);
    assert_eq!((mine[0].grant, mine[0].command.as_str()), (id, "systemctl restart nginx"));
    assert_eq!((mine[0].target_user.as_str(), mine[0].lingering), ("root", false));
    assert!((50..=60).contains(&mine[0].left_s), "{:?}", mine[0]);
    assert_eq!(wire::list(&bench, 1002), []);
    assert_eq!(wire::list(&bench, 0), []);
    let drop_it = || ReaperRequest::Drop(DropGrant { wire: 1, grant: id });
    // Another's grant and none at all look the same.
    assert_eq!(refused(wire::user(&bench, 1002, drop_it())), DenyReason::NotFound);
    let none = ReaperRequest::Drop(DropGrant { wire: 1, grant: GrantId::from_text(&"a".repeat(26)).unwrap() });
    assert_eq!(refused(wire::user(&bench, 1002, none)), DenyReason::NotFound);
    assert_eq!(refused(wire::user(&bench, 1001, ReaperRequest::Watch(Watch { wire: 1 }))), DenyReason::NotFound);
    assert!(!bench.members(&grant).is_empty());
    let reply = wire::user(&bench, 1001, drop_it());
    assert!(matches!(reply, Some(ReaperReply::Dropped(dropped)) if dropped.grant == id), "{reply:?}");
    assert_eq!(bench.end_of(&grant, SOON).reason, EndReason::Dropped);
    assert_eq!(wire::list(&bench, 1001), []);
}

#[test]
fn a_user_who_holds_connections_open_does_not_shut_out_another() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let path = bench.path("user.sock");
    let held = as_uid(1002, move || (0..50).map(|_| wire::connect(&path)).collect::<Vec<_>>());
    assert_eq!(wire::list(&bench, 1001), []);
    drop(held);
}

/// Catalogue: S5 (control: the_agents_uid_watches_and_ends_grants)
#[test]
fn an_agent_that_holds_connections_open_does_not_shut_out_the_module() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let path = bench.socket();
    let held = as_uid(AGENT, move || (0..200).map(|_| wire::connect(&path)).collect::<Vec<_>>());
    let grant = bench.front_end(60_000, "true").grant();
    assert!(bench.path("grants").join(format!("{grant}.json")).exists());
    drop(held);
}

/// Catalogue: S3 (control: a_session_that_finishes_is_recorded_and_its_leaf_is_gone)
#[test]
fn a_flood_of_strangers_fills_neither_the_log_nor_the_reaper() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let path = bench.socket();
    as_uid(1001, move || {
        for _ in 0..10_000 {
            drop(std::os::unix::net::UnixStream::connect(&path));
        }
    });
    let grant = bench.front_end(60_000, "true").grant();
    assert!(bench.path("grants").join(format!("{grant}.json")).exists());
    assert!(bench.log().lines().count() < 50, "{}", bench.log().lines().count());
}

#[test]
fn frames_that_are_too_long_malformed_or_carry_descriptors_end_the_connection() {
    if !root() {
        return;
    }
    let mut bench = Bench::new();
    let frames: [&[u8]; 4] = [b"\xff\xff\xff\xff", b"\0\0\0\x02{}", b"\0\0\0\x09{\"list\":}", b"\0\0\0\x01["];
    for frame in frames {
        for socket in ["reaper.sock", "user.sock"] {
            let stream = wire::connect(&bench.path(socket));
            std::io::Write::write_all(&mut &stream, frame).unwrap();
            assert_eq!(wire::receive::<ReaperReply>(&stream), None, "{socket} {frame:?}");
        }
    }
    let file = std::fs::File::open("/dev/null").unwrap();
    let stream = wire::connect(&bench.socket());
    let many = [file.as_fd(); 5];
    let request = registration(60_000, 1001, |_| {});
    wire::send_with(&stream, &ReaperRequest::Register(Box::new(request)), &many);
    assert_eq!(wire::receive::<ReaperReply>(&stream), None);
    assert!(bench.reaper_runs());
}
