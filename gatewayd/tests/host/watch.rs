//! What a watcher hears, and what it hears again.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use twinlock_protocol::evidence::{EndReason, GrantRecord};
use twinlock_protocol::ids::GrantId;
use twinlock_protocol::wire::agent::Noted;
use twinlock_protocol::wire::reaper::{ReaperReply, ReaperRequest, Watch};

use crate::bench::{AGENT, Bench, as_uid, root, within};
use crate::wire;

const SOON: Duration = Duration::from_secs(15);

fn watch(bench: &Bench) -> UnixStream {
    let path = bench.socket();
    as_uid(AGENT, move || {
        let stream = wire::connect(&path);
        wire::send(&stream, &ReaperRequest::Watch(Watch { wire: 1 }));
        stream
    })
}

fn hear(stream: &UnixStream) -> ReaperReply {
    wire::receive(stream).expect("a report")
}

fn note(stream: &UnixStream, grant: GrantId, ended: bool) {
    wire::send(stream, &ReaperRequest::Noted(Noted { grant, ended }));
}

#[test]
fn starts_lingering_and_ends_are_told_as_they_happen() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let stream = watch(&bench);
    let mut front = bench.front_end(2_000, "setsid sleep 600 & exit");
    let grant = GrantId::from_text(&front.grant()).unwrap();
    let ReaperReply::Started(started) = hear(&stream) else { panic!("not started") };
    assert_eq!(started.grant, grant);
    let record = GrantRecord::from_bytes(&started.record.0).unwrap();
    assert_eq!((record.grant, record.end), (grant, None));
    let ReaperReply::Lingering(lingering) = hear(&stream) else { panic!("not lingering") };
    assert_eq!((lingering.grant, lingering.processes), (grant, 1));
    let ReaperReply::Ended(ended) = hear(&stream) else { panic!("not ended") };
    assert_eq!((ended.grant, ended.end.reason, ended.end.lingered), (grant, EndReason::Expired, true));
}

/// Catalogue: S5 (control: reports_come_again_until_they_are_noted_even_after_a_restart)
#[test]
fn an_end_that_has_not_come_cannot_be_noted() {
    if !root() {
        return;
    }
    let mut bench = Bench::new();
    let mut front = bench.front_end(4_000, "sleep 600");
    let text = front.grant();
    let grant = GrantId::from_text(&text).unwrap();
    let stream = watch(&bench);
    note(&stream, grant, true);
    assert!(within(SOON, || bench.log().contains("has no end")), "{}", bench.log());
    assert!(!bench.path("grants").join(format!("{text}.ended")).exists());
    // Neither this reaper nor the next one forgets it.
    bench.kill_reaper();
    bench.start();
    let stream = watch(&bench);
    loop {
        if let ReaperReply::Ended(ended) = hear(&stream) {
            assert_eq!((ended.grant, ended.end.reason), (grant, EndReason::Expired));
            break;
        }
    }
    note(&stream, grant, true);
    assert!(within(SOON, || bench.path("grants").join(format!("{text}.ended")).exists()), "control: now it can");
}

#[test]
fn reports_come_again_until_they_are_noted_even_after_a_restart() {
    if !root() {
        return;
    }
    let mut bench = Bench::new();
    let mut front = bench.front_end(60_000, "true");
    let text = front.grant();
    let grant = GrantId::from_text(&text).unwrap();
    bench.end_of(&text, SOON);
    for _ in 0..2 {
        let stream = watch(&bench);
        assert!(matches!(hear(&stream), ReaperReply::Started(started) if started.grant == grant));
        assert!(matches!(hear(&stream), ReaperReply::Ended(ended) if ended.grant == grant));
        bench.kill_reaper();
        bench.start();
    }
    let stream = watch(&bench);
    assert!(matches!(hear(&stream), ReaperReply::Started(_)));
    assert!(matches!(hear(&stream), ReaperReply::Ended(_)));
    note(&stream, grant, false);
    assert!(within(SOON, || bench.path("grants").join(format!("{grant}.started")).exists()));
    drop(stream);
    let stream = watch(&bench);
    assert!(matches!(hear(&stream), ReaperReply::Ended(_)), "the start was noted");
    note(&stream, grant, true);
    assert!(within(SOON, || bench.path("grants").join(format!("{grant}.ended")).exists()));
    drop(stream);
    bench.kill_reaper();
    bench.start();
    // Nothing of it is told again: the first thing heard is the next session.
    let stream = watch(&bench);
    let mut front = bench.front_end(60_000, "true");
    let next = GrantId::from_text(&front.grant()).unwrap();
    assert!(matches!(hear(&stream), ReaperReply::Started(started) if started.grant == next));
}
