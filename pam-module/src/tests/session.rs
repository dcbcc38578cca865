//! Containment against a fake reaper: what it is told, and every answer that must not let `account`
//! pass (the answer that does needs a real cgroup: end to end); and what `open_session` enforces.
use std::os::fd::OwnedFd;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use twinlock_protocol::DenyReason;
use twinlock_protocol::evidence::GrantRecord;
use twinlock_protocol::verify::{verify_evidence, verify_start};
use twinlock_protocol::wire::agent::Ping;
use twinlock_protocol::wire::reaper::{
    Confirmed, Opened as Opening, ReaperRefused, ReaperReply, ReaperRequest, Register, Registered,
};

use super::*;

/// A registration with the descriptors of its first byte.
fn registration(stream: &UnixStream) -> (Register, Vec<OwnedFd>) {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut first = [0];
    recvmsg(stream, &mut [std::io::IoSliceMut::new(&mut first)], &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    use std::io::Read as _;
    let mut stream = stream;
    let mut prefix = [first[0], 0, 0, 0];
    stream.read_exact(&mut prefix[1..]).unwrap();
    let mut body = vec![0; u32::from_be_bytes(prefix) as usize];
    stream.read_exact(&mut body).unwrap();
    match twinlock_protocol::wire::message(&body, limits::FRAME_BYTES).unwrap() {
        ReaperRequest::Register(register) => (*register, descriptors),
        other => panic!("{other:?}"),
    }
}

/// Two people granted, and the reaper answers the registration with these bytes.
fn session(bench: &mut Bench, answer: &[u8]) -> (Result<Outcome, Refusal>, Register, usize) {
    bench.reaper = true;
    let mut script = Bench::script();
    let path = bench.path("reaper.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(path).unwrap();
    std::thread::scope(|scope| {
        let reaper = scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let (register, descriptors) = registration(&stream);
            use std::io::Write as _;
            stream.write_all(answer).unwrap();
            assert!(read_frame(&mut stream).is_none(), "nothing more is said");
            (register, descriptors.len())
        });
        let outcome = bench.grant(&mut script, &Terms::honest());
        let (register, descriptors) = reaper.join().unwrap();
        // Whatever `account` said, the session phase has nothing to start.
        script.user = Some("root".into());
        assert_eq!(bench.open_session(&mut script, &caller(1001)).unwrap_err().reason, DenyReason::NoGrant);
        (outcome, register, descriptors)
    })
}

#[test]
fn the_reaper_is_given_a_record_that_proves_itself() {
    let mut bench = Bench::new();
    let refused = ReaperReply::Refused(ReaperRefused { reason: DenyReason::RecordFailed });
    let (outcome, register, descriptors) = session(&mut bench, &frame(&refused));
    assert_eq!(outcome.unwrap_err().reason, DenyReason::RecordFailed);
    assert_eq!(descriptors, 1, "a pidfd; the bench's terminal is no device");
    let record: GrantRecord = register.record;
    let request = verify_request(&bench.roster, &record.request, wall()).expect("the request");
    let _approval =
        verify_evidence(&bench.roster, &request, &record.authority.certificate().unwrap().evidence.0, wall())
            .expect("the evidence");
    let start = verify_start(request.request(), request.id(), &record.start).expect("the start");
    assert_eq!((start.pid, start.target_user.as_str()), (std::process::id(), "root"));
    assert_eq!(start.deadline_boot_ms, register.deadline_boot_ms);
    assert!(record.end.is_none() && record.grant == request.id().grant());
}

/// Catalogue: P14 (control: the_reaper_is_given_a_record_that_proves_itself)
#[test]
fn no_answer_but_the_right_ones_starts_a_session() {
    let cgroup = |path: &str| frame(&ReaperReply::Registered(Registered { cgroup: path.into() }));
    for (answer, expected) in [
        // Confirmed before anything was joined.
        (frame(&ReaperReply::Confirmed(Confirmed {})), DenyReason::WireMismatch),
        (frame(&Ping {}), DenyReason::WireMismatch),
        (u32::MAX.to_be_bytes().to_vec(), DenyReason::WireMismatch),
        (cgroup("/tmp"), DenyReason::ContainmentFailed),
        (cgroup("/sys/fs/cgroup"), DenyReason::ContainmentFailed),
        (cgroup("relative"), DenyReason::ContainmentFailed),
    ] {
        let mut bench = Bench::new();
        let (outcome, ..) = session(&mut bench, &answer);
        assert_eq!(outcome.unwrap_err().reason, expected);
    }
}

/// One granted handle whose grant is then changed, at `open_session`.
fn opened(bench: &Bench, user: &str, change: impl FnOnce(&mut Grant)) -> Result<Outcome, DenyReason> {
    let mut script = Bench::script();
    assert_eq!(bench.grant(&mut script, &Terms::honest()), Ok(Outcome::Allowed));
    script.user = Some(user.into());
    let Some(Remembered::Granted(grant, leaf)) = script.take() else { panic!("a grant") };
    let mut grant = std::rc::Rc::into_inner(grant).expect("the only one");
    change(&mut grant);
    script.remembered = Some(Remembered::Granted(std::rc::Rc::new(grant), leaf));
    let outcome = bench.open_session(&mut script, &caller(1001)).map_err(|refusal| refusal.reason);
    let again = bench.open_session(&mut script, &caller(1001)).unwrap_err().reason;
    assert_eq!(again, DenyReason::NoGrant, "a grant opens once");
    outcome
}

/// Catalogue: C1 (control: a_grant_opens_one_session_for_its_target_alone)
#[test]
fn a_grant_that_is_over_or_of_another_boot_opens_nothing() {
    // Time is moved, not slept.
    let over = opened(&Bench::new(), "root", |grant| grant.deadline_boot_ms = crate::clock::boot_ms());
    assert_eq!(over, Err(DenyReason::GrantOver));
    let boot = "6d1c1d4e-6c1b-4c7e-9f0a-0d6a2b9b7c11";
    let other_boot = opened(&Bench::new(), "root", |grant| grant.request.boot_id = boot.into());
    assert_eq!(other_boot, Err(DenyReason::GrantOver));
}

/// Catalogue: A12 (control: inline)
///
/// Between `account` and `open_session`, another elevation on this host pins a newer roster: one
/// without an approver, without the host, or only another one. Nothing starts under the older.
#[test]
fn what_was_removed_between_the_phases_opens_nothing() {
    use twinlock_protocol::roster::{Roster, Standing, Suspension};
    type Change = fn(&mut Roster);
    let suspended: Change = |roster| {
        let bob = roster.persons.iter_mut().find(|person| person.id.as_str() == "bob").unwrap();
        bob.standing = Standing::Suspended(Suspension { by: None });
    };
    let removed: Change = |roster| roster.persons.retain(|person| person.id.as_str() != "bob");
    let host: Change = |roster| roster.hosts.retain(|host| host.id.as_str() != "web01");
    let shorter: Change = |roster| roster.rules.max_ttl_s = 600;
    for change in [suspended, removed, host, shorter] {
        let mut bench = Bench::new();
        let (head, directory) = (bench.roster.clone(), bench.path("roster"));
        let (envelope, next) = bench.fixture.step(&head, &["carol", "dave"], change);
        let pinned = |_: &mut Grant| roster_slots::adopt(&directory, owner(), &next, &envelope).unwrap();
        assert_eq!(opened(&bench, "root", pinned), Err(DenyReason::RosterMismatch));
    }
    // Control: the grant was given under that newer roster.
    let mut bench = Bench::new();
    let (head, directory) = (bench.roster.clone(), bench.path("roster"));
    let (envelope, next) = bench.fixture.step(&head, &["carol", "dave"], shorter);
    roster_slots::adopt(&directory, owner(), &next, &envelope).unwrap();
    bench.roster = next;
    let mut script = Bench::script();
    let terms = Terms { certificate_s: 300, ..Terms::honest() };
    assert_eq!(bench.grant(&mut script, &terms), Ok(Outcome::Allowed));
    script.user = Some("root".into());
    assert_eq!(bench.open_session(&mut script, &caller(1001)), Ok(Outcome::Allowed));
}

/// A session starts only once the reaper has noted that it opens; whatever else it says, or nothing.
#[test]
fn nothing_opens_that_the_reaper_has_not_noted() {
    let refused = |reason| Some(frame(&ReaperReply::Refused(ReaperRefused { reason })));
    let registered = frame(&ReaperReply::Registered(Registered { cgroup: "/sys/fs/cgroup".into() }));
    for (answer, expected) in [
        (Some(frame(&ReaperReply::Confirmed(Confirmed {}))), None),
        (refused(DenyReason::RecordFailed), Some(DenyReason::RecordFailed)),
        (refused(DenyReason::GrantOver), Some(DenyReason::GrantOver)),
        (Some(registered), Some(DenyReason::WireMismatch)),
        (Some(frame(&Ping {})), Some(DenyReason::WireMismatch)),
        (Some(Vec::new()), Some(DenyReason::ReaperUnavailable)),
        (None, Some(DenyReason::ReaperUnavailable)),
    ] {
        let mut bench = Bench::new();
        bench.notes = true;
        let mut script = Bench::script();
        assert_eq!(bench.grant(&mut script, &Terms::honest()), Ok(Outcome::Allowed));
        script.user = Some("root".into());
        let Some(Remembered::Granted(grant, _)) = &script.remembered else { panic!("a grant") };
        let id = grant.id.grant();
        let listener = answer.map(|answer| (UnixListener::bind(bench.path("reaper.sock")).unwrap(), answer));
        let outcome = std::thread::scope(|scope| {
            let said = listener.map(|(listener, answer)| {
                scope.spawn(move || {
                    let (mut stream, _) = listener.accept().unwrap();
                    let body = read_frame(&mut stream).expect("a frame");
                    use std::io::Write as _;
                    stream.write_all(&answer).unwrap();
                    twinlock_protocol::wire::message::<ReaperRequest>(&body, limits::SMALL_FRAME_BYTES).unwrap()
                })
            });
            let outcome = bench.open_session(&mut script, &caller(1001));
            if let Some(said) = said {
                assert_eq!(said.join().unwrap(), ReaperRequest::Opened(Opening { wire: 1, grant: id }));
            }
            outcome.map_err(|refusal| refusal.reason)
        });
        assert_eq!(outcome, expected.map_or(Ok(Outcome::Allowed), Err));
    }
}
