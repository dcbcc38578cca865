//! What the database itself guarantees, whatever the code above thinks.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use twinlock_protocol::evidence::{EndNote, EndReason};
use twinlock_protocol::ids::Ticket;
use twinlock_protocol::softphone::{Fixture, random};
use twinlock_protocol::statement::Decision;
use twinlock_protocol::verify;

use super::*;
use crate::audit::{Event, GENESIS, LimitName, RevokedBecause, verify_chain};
use crate::request::{Certified, Context, Snapshot, State, Submitted, admit};
use crate::store::StateRow;

const NOW: UnixTime = UnixTime(1_900_000_000);

struct Bench {
    dir: tempfile::TempDir,
    fixture: Fixture,
    store: Sqlite,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&dir.path().join("gateway.db"), None).unwrap();
        Self { dir, fixture: Fixture::new(b"ca", NOW), store }
    }

    fn reopen(self) -> Self {
        let Self { dir, fixture, store } = self;
        drop(store);
        let store = Sqlite::open(&dir.path().join("gateway.db"), None).unwrap();
        Self { dir, fixture, store }
    }

    fn pending(&self) -> (Admission, RequestId) {
        let (_, roster) = self.fixture.seal();
        let (request, key) = self.fixture.request();
        let signed = self.fixture.sign_request(&request, &key);
        let verified = verify::verify_request(&roster, &signed, NOW).unwrap();
        let (id, host) = (verified.id(), request.host);
        let fresh = Ticket::from_random(&random());
        let cx = Context { roster: &roster, now: NOW, fresh: &fresh, max_ttl_s: 3600 };
        let step = admit(Submitted { request: verified, resume: Digest::plain(b"token") }, cx).unwrap();
        (Admission { request: id, host, signed, state: row(&step.state) }, id)
    }

    async fn commit(&self, work: Work, events: Vec<Event>) -> Result<(), StoreError> {
        self.store.commit(Transaction { at_ms: NOW.0 * 1000, work, events }).await
    }

    async fn admitted(&self) -> (Admission, RequestId) {
        let (admission, id) = self.pending();
        self.commit(Work::Admit(Box::new(admission.clone())), vec![event(0)]).await.unwrap();
        (admission, id)
    }

    fn advance(admission: &Admission, replaces: u64, changes: Vec<Change>) -> Work {
        let state = admission.state.clone();
        Work::Advance(Box::new(Advance { request: admission.request, replaces, state, changes }))
    }

    fn rows(&self) -> Vec<AuditRow> {
        self.store.audit(&AuditQuery { after: 0, limit: 1000, grant: None }).unwrap()
    }
}

fn row(state: &State) -> StateRow {
    StateRow { name: state.name(), is_final: state.is_final(), snapshot: Snapshot::of(state) }
}

fn event(number: u64) -> Event {
    Event::CrlIssued { number, entries: 0 }
}

fn certified(not_after: UnixTime) -> Certified {
    let serial = CertSerial::from_random(random());
    Certified { serial, not_after, certificate: Bytes(vec![1]), evidence: Bytes(vec![2]) }
}

#[tokio::test]
async fn a_request_comes_back_as_it_was_after_a_restart() {
    let bench = Bench::new();
    let (admission, id) = bench.admitted().await;
    let bench = bench.reopen();
    let row = bench.store.request(id).unwrap().unwrap();
    assert_eq!((row.revision, row.stored.signed), (0, admission.signed));
    assert_eq!(row.stored.snapshot, admission.state.snapshot);
    assert_eq!(bench.store.open_requests(NOW).unwrap().len(), 1);
    assert_eq!(bench.store.request_of_grant(id.grant()).unwrap(), Some(id));
}

#[tokio::test]
async fn the_same_request_is_admitted_once() {
    let bench = Bench::new();
    let (admission, _) = bench.admitted().await;
    let again = bench.commit(Work::Admit(Box::new(admission)), vec![event(1)]).await;
    assert_eq!(again, Err(StoreError::Conflict));
    assert_eq!(bench.rows().len(), 1, "a refused transaction leaves no audit row");
}

#[tokio::test]
async fn a_change_names_the_revision_that_it_replaces() {
    let bench = Bench::new();
    let (admission, id) = bench.admitted().await;
    assert_eq!(bench.commit(Bench::advance(&admission, 0, Vec::new()), vec![event(1)]).await, Ok(()));
    assert_eq!(
        bench.commit(Bench::advance(&admission, 0, Vec::new()), vec![event(2)]).await,
        Err(StoreError::Conflict)
    );
    assert_eq!(bench.store.request(id).unwrap().unwrap().revision, 1);
    assert_eq!(bench.rows().len(), 2);
}

#[tokio::test]
async fn one_certificate_per_request_and_one_approval_per_person() {
    let bench = Bench::new();
    let (admission, id) = bench.admitted().await;
    let phone = bench.fixture.phone("bob");
    let statement = || Change::Statement {
        person: phone.person.clone(),
        decision: Decision::Approve,
        signed: phone.answer(&bench.fixture.roster, id, Decision::Approve),
    };
    let both = vec![statement(), Change::Certificate(certified(NOW.plus(60)))];
    assert_eq!(bench.commit(Bench::advance(&admission, 0, both), Vec::new()).await, Ok(()));
    for change in [statement(), Change::Certificate(certified(NOW.plus(60)))] {
        let again = bench.commit(Bench::advance(&admission, 1, vec![change]), Vec::new()).await;
        assert_eq!(again, Err(StoreError::Conflict));
    }
    assert_eq!(bench.store.request(id).unwrap().unwrap().stored.statements.len(), 1);
}

#[tokio::test]
async fn a_refused_transaction_of_a_group_does_not_touch_the_others() {
    let bench = Bench::new();
    let (admission, _) = bench.admitted().await;
    let mut waiting = Vec::new();
    for number in 0..50 {
        // Every second one names a revision that is not there.
        let replaces = if number % 2 == 0 { number / 2 } else { 9999 };
        waiting.push(bench.commit(Bench::advance(&admission, replaces, Vec::new()), vec![event(number)]));
    }
    let outcomes = futures_util::future::join_all(waiting).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 25);
    let rows = bench.rows();
    assert_eq!(rows.len(), 26);
    verify_chain(GENESIS, 1, &rows).unwrap();
}

#[tokio::test]
async fn revocation_lists_count_up_and_an_entry_stays_until_a_list_a_day_after_its_end_carried_it() {
    let bench = Bench::new();
    let (admission, _) = bench.admitted().await;
    let (one, end) = (certified(NOW.plus(60)), NOW.plus(60));
    let revoke = Change::Revocation { serial: one.serial, because: RevokedBecause::Expired };
    let changes = vec![Change::Certificate(one.clone()), revoke];
    bench.commit(Bench::advance(&admission, 0, changes), Vec::new()).await.unwrap();
    let list = |number: u64, at: UnixTime| {
        Work::PublishCrl(CrlRow { number, this_update: at, next_update: at.plus(60), der: Bytes(vec![3]) })
    };
    assert_eq!(bench.store.revocations().unwrap()[0].serial, one.serial);
    bench.commit(list(7, end.plus(CARRY_S)), Vec::new()).await.unwrap();
    assert_eq!(bench.store.revocations().unwrap().len(), 1, "a day exactly is not after a day");
    for number in [7, 6] {
        assert_eq!(bench.commit(list(number, end), Vec::new()).await, Err(StoreError::Conflict));
    }
    // This list still carries it; the next one need not.
    bench.commit(list(8, end.plus(CARRY_S + 1)), Vec::new()).await.unwrap();
    assert!(bench.store.revocations().unwrap().is_empty());
    assert_eq!(bench.store.newest_crl().unwrap().unwrap().number, 8);
}

#[tokio::test]
async fn reports_are_kept_once_and_sign_ins_are_forgotten_in_time() {
    let bench = Bench::new();
    let (admission, id) = bench.admitted().await;
    let end = |took_ms| {
        let (killed, escaped) = (Vec::new(), Vec::new());
        Change::End(EndNote { reason: EndReason::Finished, ended_at: NOW, took_ms, killed, escaped, lingered: false })
    };
    let changes = vec![Change::Record(Bytes(vec![1])), end(1), Change::Record(Bytes(vec![9])), end(9)];
    bench.commit(Bench::advance(&admission, 0, changes), Vec::new()).await.unwrap();
    let session = bench.store.session(id).unwrap().unwrap();
    assert_eq!((session.record, session.ended.unwrap().took_ms), (Some(Bytes(vec![1])), 1));
    let phone = bench.fixture.phone("bob");
    let sign_in = |cookie: &[u8], expires_at| {
        let (person, device) = (phone.person.clone(), phone.device.id.clone());
        let record = Digest::plain(b"record");
        Work::SignIn(SignInRow { cookie: Digest::plain(cookie), person, device, record, expires_at })
    };
    bench.commit(sign_in(b"old", NOW), Vec::new()).await.unwrap();
    bench.commit(sign_in(b"new", NOW.plus(60)), Vec::new()).await.unwrap();
    assert_eq!(bench.store.sign_ins(NOW).unwrap().len(), 1);
    bench.commit(Work::SignOut(Digest::plain(b"new")), Vec::new()).await.unwrap();
    assert!(bench.store.sign_ins(NOW).unwrap().is_empty());
}

#[tokio::test]
async fn a_roster_is_pinned_once() {
    let bench = Bench::new();
    assert_eq!(bench.store.roster_pin().unwrap(), None);
    bench.commit(Work::PinRoster(Digest::plain(b"one")), Vec::new()).await.unwrap();
    let other = bench.commit(Work::PinRoster(Digest::plain(b"two")), Vec::new()).await;
    assert_eq!(other, Err(StoreError::Conflict));
    assert_eq!(bench.store.roster_pin().unwrap(), Some(Digest::plain(b"one")));
}

#[test]
fn a_database_of_a_later_version_is_refused() {
    let bench = Bench::new();
    let path = bench.dir.path().join("gateway.db");
    drop(bench.store);
    Connection::open(&path).unwrap().execute("UPDATE schema_version SET version = 99", []).unwrap();
    assert_eq!(Sqlite::open(&path, None).err(), Some(StoreError::Schema(99)));
}

/// Catalogue: L1 (control: inline)
#[tokio::test]
async fn a_row_that_was_changed_in_the_database_breaks_the_chain() {
    let bench = Bench::new();
    for number in 0..3 {
        bench.commit(Work::Note, vec![event(number)]).await.unwrap();
    }
    verify_chain(GENESIS, 1, &bench.rows()).unwrap();
    let other = Connection::open(bench.dir.path().join("gateway.db")).unwrap();
    other.execute("UPDATE audit SET event = replace(event, '1', '2') WHERE number = 2", []).unwrap();
    assert!(verify_chain(GENESIS, 1, &bench.rows()).is_err());
}

/// One answer stays readable by the command line, whatever the rows hold.
#[tokio::test]
async fn an_answer_of_the_audit_log_ends_where_it_gets_long_and_goes_on_after_it() {
    let bench = Bench::new();
    let long = |number: usize| Event::LimitReached {
        limit: LimitName::Pending,
        who: format!("{number}{}", "x".repeat(6 << 20)),
    };
    bench.commit(Work::Note, (0..5).map(long).collect()).await.unwrap();
    let ask = |after| bench.store.audit(&AuditQuery { after, limit: 10_000, grant: None }).unwrap();
    let (first, second) = (ask(0), ask(3));
    assert_eq!((first.len(), second.len(), ask(5).len()), (3, 2, 0));
    let all: Vec<AuditRow> = first.into_iter().chain(second).collect();
    assert!(verify_chain(GENESIS, 1, &all).is_ok());
    // Control: short rows come all together.
    bench.commit(Work::Note, (0..2000).map(event).collect()).await.unwrap();
    assert_eq!(ask(5).len(), 2000);
}

/// A database that answers but takes nothing is not well.
#[tokio::test]
async fn a_write_that_failed_is_seen_until_one_succeeds() {
    let bench = Bench::new();
    assert!(bench.store.ping().is_ok());
    let other = Connection::open(bench.dir.path().join("gateway.db")).unwrap();
    other.execute_batch("ALTER TABLE audit RENAME TO hidden").unwrap();
    assert!(matches!(bench.commit(Work::Note, vec![event(0)]).await, Err(StoreError::Failed(_))));
    assert!(bench.store.ping().is_err());
    // A refusal says nothing of the disk.
    other.execute_batch("ALTER TABLE hidden RENAME TO audit").unwrap();
    let (admission, _) = bench.admitted().await;
    assert!(bench.store.ping().is_ok());
    assert_eq!(bench.commit(Work::Admit(Box::new(admission)), Vec::new()).await, Err(StoreError::Conflict));
    assert!(bench.store.ping().is_ok());
}

#[test]
fn the_writer_sees_by_itself_whether_it_could_write() {
    let bench = Bench::new();
    let path = bench.dir.path().join("gateway.db");
    let writing = connect(&path).unwrap();
    assert!(probe(&writing).is_ok());
    writing.pragma_update(None, "query_only", true).unwrap();
    assert!(probe(&writing).is_err());
}

/// Making a revocation list costs what it must carry, not what ever was.
#[tokio::test]
async fn a_revocation_list_is_made_without_a_look_at_the_whole_history() {
    let bench = Bench::new();
    let connection = connect(&bench.dir.path().join("gateway.db")).unwrap();
    let plan = |sql: &str| -> Vec<String> {
        let mut query = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", sql.replace("?1", "1"))).unwrap();
        query.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    for sql in [OPEN_REVOCATIONS, CARRY] {
        let plan = plan(sql);
        assert!(plan[0].contains("INDEX revocations_open"), "{plan:?}");
        assert!(plan.iter().all(|step| !step.contains("certificates")), "{plan:?}");
    }
    assert!(plan(CARRY)[0].starts_with("SEARCH"), "{:?}", plan(CARRY));
    // Control: what is not indexed is scanned, and seen.
    assert!(plan("SELECT * FROM revocations WHERE because = 'revoked'")[0].starts_with("SCAN"));
    // One list is kept.
    let crl = |number| CrlRow { number, this_update: NOW, next_update: NOW, der: Bytes(vec![1]) };
    for number in 1..=3 {
        bench.commit(Work::PublishCrl(crl(number)), Vec::new()).await.unwrap();
    }
    let kept: Vec<u64> = connection
        .prepare("SELECT number FROM crls")
        .unwrap()
        .query_map([], |row| unsigned(row, 0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(kept, [3]);
    assert_eq!(bench.commit(Work::PublishCrl(crl(2)), Vec::new()).await, Err(StoreError::Conflict));
}

/// A database of an earlier version keeps what its next list must carry.
#[test]
fn an_older_database_keeps_its_revocations() {
    let mut connection = Connection::open_in_memory().unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    connection.execute_batch(MIGRATIONS[0]).unwrap();
    connection.execute_batch(MIGRATIONS[1]).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE schema_version (version INTEGER NOT NULL); INSERT INTO schema_version VALUES (2);
             INSERT INTO certificates VALUES (x'00112233445566778899aabbccddeeff', x'01', 77, x'', x'');
             INSERT INTO revocations VALUES (x'00112233445566778899aabbccddeeff', 5, 'revoked', 0);
             INSERT INTO crls VALUES (1, 1, 1, x''), (2, 2, 2, x'07')",
        )
        .unwrap();
    migrate(&mut connection).unwrap();
    let not_after: u64 = connection.query_row(OPEN_REVOCATIONS, [], |row| unsigned(row, 1)).unwrap();
    assert_eq!(not_after, 77);
    assert_eq!(connection.query_row("SELECT max(number) FROM crls", [], |row| unsigned(row, 0)).unwrap(), 2);
}
