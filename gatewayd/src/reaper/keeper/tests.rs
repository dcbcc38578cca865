//! What is kept of sessions, without any: orders against registrations, bars, a session that is stuck.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use tokio::net::UnixStream;
use twinlock_protocol::limits::FRAME_BYTES;
use twinlock_protocol::softphone::{self, Fixture};
use twinlock_protocol::wire::agent::{EndGrant, EndOrder};
use twinlock_protocol::{Bytes, UnixTime};

use super::super::clients::end_grant;
use super::super::conn::Conn;
use super::*;

/// A keeper with the record of one grant on disk, and the grant's driver's inbox.
fn keeper() -> (tempfile::TempDir, Arc<Keeper>, GrantId, Live, mpsc::Receiver<Command>) {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path()).unwrap();
    let fixture = Fixture::new(b"ca", UnixTime(1_800_000_000));
    let (request, key) = fixture.request();
    let signed = fixture.sign_request(&request, &key);
    let id = twinlock_protocol::request::ElevationRequest::id_of(&signed.request.0);
    let record = twinlock_protocol::evidence::GrantRecord {
        format: twinlock_protocol::evidence::GrantRecordFormat::GrantRecord,
        version: 1,
        grant: id.grant(),
        start: softphone::start(&request, id, &key, 900_000),
        request: signed,
        authority: twinlock_protocol::evidence::Authority::Certificate(twinlock_protocol::evidence::Certified {
            evidence: Bytes(Vec::new()),
            certificate: Bytes(Vec::new()),
        }),
        end: None,
    };
    records.create(&record).unwrap();
    let checked = register::read(&record).unwrap();
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let keeper = Keeper::new(records, Glass::new(dir.path().join("break-glass")), dir.path().to_owned(), String::new());
    (dir, keeper, id.grant(), Live::new(&checked, commands), inbox)
}

/// The record is on disk, the session does not stand yet: the order must not fall between.
///
/// Catalogue: S5 (control: inline)
#[tokio::test]
async fn an_order_that_comes_while_a_session_is_registered_ends_it() {
    let ordered = |order: bool| async move {
        let (_dir, keeper, grant, live, _inbox) = keeper();
        keeper.state().begin(grant).unwrap();
        if order {
            let (ours, _theirs) = UnixStream::pair().unwrap();
            let mut conn = Conn::new(ours, FRAME_BYTES).unwrap();
            let end = EndGrant { grant, order: EndOrder::Revoked };
            end_grant(&keeper, &mut conn, end, &mut Complaints::default()).await.unwrap();
        }
        keeper.state().stand(grant, live)
    };
    assert_eq!(ordered(true).await, Some(EndReason::Revoked));
    assert_eq!(ordered(false).await, None, "control");
}

#[test]
fn an_order_never_waits_for_a_session_that_is_stuck() {
    let (_dir, keeper, grant, live, mut inbox) = keeper();
    keeper.state().begin(grant).unwrap();
    assert_eq!(keeper.state().stand(grant, live), None);
    for _ in 0..3 * COMMANDS {
        assert!(keeper.end(grant, EndReason::Revoked), "it is live");
    }
    assert!(matches!(inbox.try_recv(), Ok(Command::Order(EndReason::Revoked, None))), "control: orders arrive");
    drop(inbox);
    assert!(!keeper.end(grant, EndReason::Revoked), "control: a driver that is gone");
}

#[test]
fn bars_are_kept_as_long_as_a_grant_could_begin_and_no_longer() {
    let grant = |number: usize| {
        let digits = format!("{number:05}").replace('0', "a").replace('1', "b").replace('8', "c").replace('9', "d");
        GrantId::from_text(&format!("{digits}{}", "a".repeat(21))).unwrap()
    };
    let mut state = State::default();
    for number in 0..BARRED {
        state.bar(grant(number), EndReason::Revoked, BootMs(0));
    }
    assert_eq!(state.barred.len(), BARRED);
    assert_eq!(state.begin(grant(0)), Err(DenyReason::Revoked));
    let late = BootMs(BARRED_MS - 1);
    state.bar(grant(BARRED), EndReason::Revoked, late);
    assert_eq!(state.begin(grant(BARRED)), Ok(()), "full: this one was not kept");
    state.bar(grant(BARRED + 1), EndReason::Revoked, BootMs(BARRED_MS));
    assert_eq!(state.barred.len(), 1, "the others' time is over");
    assert_eq!(state.begin(grant(BARRED + 1)), Err(DenyReason::Revoked));
    assert_eq!(state.begin(grant(0)), Ok(()));
}
