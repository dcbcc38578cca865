//! SQLite: WAL, synchronous=FULL, one writer thread with group commit, one connection for reading.
//! Transactions that wait together are committed together, each in a savepoint of its own, so one
//! that is refused does not touch the others; nobody is answered before the commit is on disk.

mod life;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use twinlock_protocol::codec::encode;
use twinlock_protocol::ids::{CertSerial, DeviceId, GrantId, HostId, PersonId, RequestId};
use twinlock_protocol::statement::Decision;
use twinlock_protocol::{Bytes, Digest, Fixed, UnixTime};

use super::{
    Admission, Advance, AuditQuery, Change, Committing, CrlRow, GrantRow, PaperKind, RequestRow, RevocationRow,
    SessionRow, SignInRow, Store, StoreError, Transaction, Work,
};
use crate::audit::{self, AuditRow, Sinks};
use crate::request::Stored;

const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
];
/// What the next revocation list must carry.
const OPEN_REVOCATIONS: &str = "SELECT serial, not_after, revoked_at, because FROM revocations \
     INDEXED BY revocations_open WHERE carried = 0 ORDER BY revoked_at, serial";
/// What this list was the last to have to carry: ended before ?1.
const CARRY: &str =
    "UPDATE revocations INDEXED BY revocations_open SET carried = 1 WHERE carried = 0 AND not_after < ?1";
/// Transactions of one commit.
const GROUP: usize = 256;
/// An entry stays on revocation lists until one issued this long after the certificate's end has
/// carried it, in seconds.
const CARRY_S: u64 = 24 * 3600;

/// Without work, the writer tries this often whether it could write; sooner when it could not.
const PROBE: Duration = Duration::from_secs(30);
const PROBE_AGAIN: Duration = Duration::from_secs(2);
/// An answer of the audit log ends with the row that passes so many bytes; as JSON within JSON it can
/// become twice as long.
const AUDIT_BYTES: usize = 16 * 1024 * 1024;

struct Job {
    transaction: Transaction,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

/// A SQLite database.
pub struct Sqlite {
    jobs: Option<Sender<Job>>,
    reader: Mutex<Connection>,
    failing: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => Self::Conflict,
            Some(_) | None => Self::Failed(error.to_string()),
        }
    }
}

impl Sqlite {
    /// Opens or makes the database, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Schema`] when a later version made it; [`StoreError::Failed`].
    pub fn open(path: &Path, sinks: Option<Arc<Sinks>>) -> Result<Self, StoreError> {
        make_private(path)?;
        let mut writing = connect(path)?;
        writing.pragma_update(None, "journal_mode", "wal")?;
        writing.pragma_update(None, "synchronous", "full")?;
        writing.pragma_update(None, "foreign_keys", true)?;
        migrate(&mut writing)?;
        let reading = connect(path)?;
        reading.pragma_update(None, "query_only", true)?;
        let (jobs, queue) = channel();
        let failing = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&failing);
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_all(writing, &queue, sinks.as_deref(), &flag))
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Self { jobs: Some(jobs), reader: Mutex::new(reading), failing, writer: Some(writer) })
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        query(&self.reader.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Sqlite {
    /// Finishes what waits.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            let _ended = writer.join();
        }
    }
}

fn make_private(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    opened.map(drop).map_err(|error| StoreError::Failed(format!("{}: {error}", path.display())))
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    transaction.execute_batch("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")?;
    let version: Option<u32> =
        transaction.query_row("SELECT version FROM schema_version", [], |row| row.get(0)).optional()?;
    let done = version.unwrap_or(0);
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if done > known {
        return Err(StoreError::Schema(done));
    }
    for migration in MIGRATIONS.iter().skip(done as usize) {
        transaction.execute_batch(migration)?;
    }
    if done < known {
        transaction.execute("DELETE FROM schema_version", [])?;
        transaction.execute("INSERT INTO schema_version (version) VALUES (?1)", [known])?;
    }
    Ok(transaction.commit()?)
}

// ---- writing ------------------------------------------------------------------------------------

fn write_all(mut connection: Connection, queue: &Receiver<Job>, sinks: Option<&Sinks>, failing: &AtomicBool) {
    loop {
        let idle = if failing.load(Ordering::SeqCst) { PROBE_AGAIN } else { PROBE };
        let first = match queue.recv_timeout(idle) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => {
                // Nobody writes: whether somebody could is seen by trying.
                let outcome = probe(&connection);
                failing.store(outcome.is_err(), Ordering::SeqCst);
                if let Err(error) = outcome {
                    tracing::error!(%error, "the database cannot be written");
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut jobs = vec![first];
        while jobs.len() < GROUP
            && let Ok(job) = queue.try_recv()
        {
            jobs.push(job);
        }
        write_group(&mut connection, jobs, sinks, failing);
    }
}

/// A write that changes nothing, down to the disk.
fn probe(connection: &Connection) -> Result<(), StoreError> {
    connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('probe', x'00')", [])?;
    Ok(())
}

fn write_group(connection: &mut Connection, jobs: Vec<Job>, sinks: Option<&Sinks>, failing: &AtomicBool) {
    let (transactions, answers): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.transaction, job.answer)).unzip();
    let outcome = commit_group(connection, &transactions);
    // Before anybody is answered: whoever hears of it finds the database's health as it is.
    failing.store(outcome.is_err(), Ordering::SeqCst);
    match outcome {
        Ok((outcomes, rows)) => {
            for row in rows {
                if let Some(sinks) = sinks {
                    sinks.push(row);
                }
            }
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // Whoever asked may have gone; the commit stands.
                let _asker_gone = answer.send(outcome);
            }
        }
        Err(error) => {
            tracing::error!(%error, "the database did not commit");
            for answer in answers {
                let _asker_gone = answer.send(Err(error.clone()));
            }
        }
    }
}

type Group = (Vec<Result<(), StoreError>>, Vec<AuditRow>);

fn commit_group(connection: &mut Connection, transactions: &[Transaction]) -> Result<Group, StoreError> {
    let mut group = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let mut head = audit_head(&group)?;
    let (mut outcomes, mut rows) = (Vec::new(), Vec::new());
    for transaction in transactions {
        let point = group.savepoint()?;
        match apply(&point, transaction, head) {
            Ok((next, written)) => {
                point.commit()?;
                head = next;
                rows.extend(written);
                outcomes.push(Ok(()));
            }
            // Refused; dropping the savepoint rolls it back.
            Err(StoreError::Conflict) => outcomes.push(Err(StoreError::Conflict)),
            // A failing database may have rolled everything back by itself: nobody is told "done".
            Err(error @ (StoreError::Failed(_) | StoreError::Schema(_) | StoreError::Corrupt(_))) => return Err(error),
        }
    }
    group.commit()?;
    Ok((outcomes, rows))
}

/// Number and hash of the last audit row.
type Head = (u64, Digest);

fn audit_head(connection: &Connection) -> Result<Head, StoreError> {
    let last = connection
        .prepare_cached("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")?
        .query_row([], |row| Ok((unsigned(row, 0)?, digest(row, 1)?)))
        .optional()?;
    Ok(last.unwrap_or((0, audit::GENESIS)))
}

fn apply(connection: &Connection, transaction: &Transaction, head: Head) -> Result<(Head, Vec<AuditRow>), StoreError> {
    let at = transaction.at_ms / 1000;
    match &transaction.work {
        Work::Admit(admission) => admit(connection, admission, at)?,
        Work::Advance(advance) => self::advance(connection, advance, at)?,
        Work::PublishCrl(crl) => publish_crl(connection, crl)?,
        Work::SignIn(sign_in) => {
            connection.prepare_cached("DELETE FROM sign_ins WHERE expires_at <= ?1")?.execute([signed(at)])?;
            connection
                .prepare_cached(
                    "INSERT INTO sign_ins (cookie, person, device, record, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    sign_in.cookie.as_bytes(),
                    sign_in.person.as_str(),
                    sign_in.device.as_str(),
                    sign_in.record.as_bytes(),
                    signed(sign_in.expires_at.0)
                ])?;
        }
        Work::SignOut(cookie) => {
            let gone =
                connection.prepare_cached("DELETE FROM sign_ins WHERE cookie = ?1")?.execute([cookie.as_bytes()])?;
            expect_one(gone)?;
        }
        Work::PinRoster(pin) => {
            connection
                .prepare_cached("INSERT INTO meta (key, value) VALUES ('roster.pin', ?1)")?
                .execute([pin.as_bytes()])?;
        }
        Work::Life(changes) => changes.iter().try_for_each(|change| life::apply(connection, change, at))?,
        Work::RunMark(mark) => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES ('run.mark', ?1)")?
                .execute([mark.as_bytes()])?;
        }
        Work::Restore => {
            connection.execute("DELETE FROM sign_ins", [])?;
            // A break-glass review stays: one that was closed since is asked for again.
            connection.execute("DELETE FROM papers WHERE kind != 'break_glass'", [])?;
        }
        Work::Note => {}
    }
    append_audit(connection, transaction, head)
}

fn append_audit(
    connection: &Connection,
    transaction: &Transaction,
    (mut number, mut previous): Head,
) -> Result<(Head, Vec<AuditRow>), StoreError> {
    let mut rows = Vec::with_capacity(transaction.events.len());
    for event in &transaction.events {
        number = number.saturating_add(1);
        let row = audit::link(previous, number, transaction.at_ms, event);
        connection
            .prepare_cached("INSERT INTO audit (number, at_ms, previous, event, hash) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                signed(row.number),
                signed(row.at_ms),
                row.previous.as_bytes(),
                row.event,
                row.hash.as_bytes()
            ])?;
        previous = row.hash;
        rows.push(row);
    }
    Ok(((number, previous), rows))
}

fn admit(connection: &Connection, admission: &Admission, at: u64) -> Result<(), StoreError> {
    let Admission { request, host, signed: bytes, state } = admission;
    connection
        .prepare_cached(
            "INSERT INTO requests (id, grant_id, host, state, is_final, revision, admitted_at, changed_at, signed,
             snapshot) VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?6, ?7, ?8)",
        )?
        .execute(params![
            request.0.as_bytes(),
            request.grant().to_string(),
            host.as_str(),
            state.name,
            state.is_final,
            signed(at),
            encode(bytes),
            encode(&state.snapshot)
        ])?;
    Ok(())
}

fn advance(connection: &Connection, advance: &Advance, at: u64) -> Result<(), StoreError> {
    let Advance { request, replaces, state, changes } = advance;
    let changed = connection
        .prepare_cached(
            "UPDATE requests SET state = ?3, is_final = ?4, revision = revision + 1, changed_at = ?5, snapshot = ?6
             WHERE id = ?1 AND revision = ?2",
        )?
        .execute(params![
            request.0.as_bytes(),
            signed(*replaces),
            state.name,
            state.is_final,
            signed(at),
            encode(&state.snapshot)
        ])?;
    expect_one(changed)?;
    for change in changes {
        apply_change(connection, *request, change, at)?;
    }
    Ok(())
}

fn apply_change(connection: &Connection, request: RequestId, change: &Change, at: u64) -> Result<(), StoreError> {
    let id = request.0;
    match change {
        Change::Statement { person, decision, signed } => {
            connection
                .prepare_cached(
                    "INSERT INTO statements (request, number, person, decision, signed) VALUES (?1,
                     (SELECT count(*) FROM statements WHERE request = ?1), ?2, ?3, ?4)",
                )?
                .execute(params![id.as_bytes(), person.as_str(), word(decision)?, encode(signed)])?;
        }
        Change::Void(person) => {
            // Under a word of its own, so that the person may approve again.
            let changed = connection
                .prepare_cached(
                    "UPDATE statements SET decision = 'void ' || number
                     WHERE request = ?1 AND person = ?2 AND decision = ?3",
                )?
                .execute(params![id.as_bytes(), person.as_str(), word(&Decision::Approve)?])?;
            expect_one(changed)?;
        }
        Change::Certificate(certified) => {
            connection
                .prepare_cached(
                    "INSERT INTO certificates (serial, request, not_after, der, evidence) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    certified.serial.0.0.as_slice(),
                    id.as_bytes(),
                    self::signed(certified.not_after.0),
                    certified.certificate.0,
                    certified.evidence.0
                ])?;
        }
        Change::Record(record) => {
            connection
                .prepare_cached(
                    "INSERT INTO sessions (request, record) VALUES (?1, ?2)
                     ON CONFLICT (request) DO UPDATE SET record = coalesce(record, excluded.record)",
                )?
                .execute(params![id.as_bytes(), record.0])?;
        }
        Change::End(note) => {
            connection
                .prepare_cached(
                    "INSERT INTO sessions (request, ended) VALUES (?1, ?2)
                     ON CONFLICT (request) DO UPDATE SET ended = coalesce(ended, excluded.ended)",
                )?
                .execute(params![id.as_bytes(), encode(note)])?;
        }
        Change::Revocation { serial, because } => {
            connection
                .prepare_cached(
                    "INSERT INTO revocations (serial, revoked_at, because, not_after) VALUES (?1, ?2, ?3,
                     (SELECT not_after FROM certificates WHERE serial = ?1)) ON CONFLICT (serial) DO NOTHING",
                )?
                .execute(params![serial.0.0.as_slice(), self::signed(at), word(because)?])?;
        }
    }
    Ok(())
}

fn publish_crl(connection: &Connection, crl: &CrlRow) -> Result<(), StoreError> {
    let CrlRow { number, this_update, next_update, der } = crl;
    let newest: Option<u64> = connection
        .prepare_cached("SELECT max(number) FROM crls")?
        .query_row([], |row| row.get::<_, Option<i64>>(0))?
        .and_then(|number| u64::try_from(number).ok());
    if newest.is_some_and(|newest| newest >= *number) {
        return Err(StoreError::Conflict);
    }
    connection
        .prepare_cached("INSERT INTO crls (number, this_update, next_update, der) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![signed(*number), signed(this_update.0), signed(next_update.0), der.0])?;
    // Only the newest list is served; it also says which numbers are taken.
    connection.prepare_cached("DELETE FROM crls WHERE number < ?1")?.execute([signed(*number)])?;
    connection.prepare_cached(CARRY)?.execute([signed(this_update.0.saturating_sub(CARRY_S))])?;
    Ok(())
}

fn expect_one(changed: usize) -> Result<(), StoreError> {
    if changed == 1 { Ok(()) } else { Err(StoreError::Conflict) }
}

// ---- reading ------------------------------------------------------------------------------------

impl Store for Sqlite {
    fn commit(&self, transaction: Transaction) -> Committing {
        let (answer, outcome) = oneshot::channel();
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(Job { transaction, answer }).is_ok());
        Box::pin(async move {
            let gone = || StoreError::Failed("the writer thread is gone".to_owned());
            if sent { outcome.await.unwrap_or_else(|_| Err(gone())) } else { Err(gone()) }
        })
    }

    fn open_requests(&self, now: UnixTime) -> Result<Vec<RequestRow>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT id, revision, signed, snapshot FROM requests WHERE is_final = 0 OR id IN
                 (SELECT request FROM certificates WHERE not_after + 120 > ?1) ORDER BY admitted_at",
            )?;
            let rows = query.query_map([signed(now.0)], request_columns)?.collect::<Result<Vec<_>, _>>()?;
            rows.into_iter().map(|columns| with_statements(connection, columns)).collect()
        })
    }

    fn request(&self, request: RequestId) -> Result<Option<RequestRow>, StoreError> {
        self.read(|connection| {
            let columns = connection
                .prepare_cached("SELECT id, revision, signed, snapshot FROM requests WHERE id = ?1")?
                .query_row([request.0.as_bytes()], request_columns)
                .optional()?;
            columns.map(|columns| with_statements(connection, columns)).transpose()
        })
    }

    fn request_of_grant(&self, grant: GrantId) -> Result<Option<RequestId>, StoreError> {
        self.read(|connection| {
            let found = connection
                .prepare_cached("SELECT id FROM requests WHERE grant_id = ?1")?
                .query_row([grant.to_string()], |row| digest(row, 0))
                .optional()?;
            Ok(found.map(RequestId))
        })
    }

    fn grants(&self, limit: u32) -> Result<Vec<GrantRow>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT r.id, r.host, r.state, r.admitted_at, r.signed, c.serial, c.not_after FROM requests r
                 LEFT JOIN certificates c ON c.request = r.id ORDER BY r.admitted_at DESC, r.id LIMIT ?1",
            )?;
            let rows = query.query_map([limit], |row| {
                let serial: Option<[u8; 16]> = row.get(5)?;
                let not_after: Option<i64> = row.get(6)?;
                let certificate = serial.zip(not_after);
                Ok((
                    digest(row, 0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                    unsigned(row, 3)?,
                    row.get::<_, Vec<u8>>(4)?,
                    certificate,
                ))
            })?;
            let mut grants = Vec::new();
            for row in rows {
                let (id, host, state, admitted_at, bytes, certificate) = row?;
                grants.push(GrantRow {
                    request: RequestId(id),
                    host: HostId::new(&host).ok_or(StoreError::Corrupt("host"))?,
                    state,
                    admitted_at: UnixTime(admitted_at),
                    signed: decode("request", &bytes)?,
                    certificate: certificate.map(|(serial, not_after)| {
                        (CertSerial(Fixed(serial)), UnixTime(u64::try_from(not_after).unwrap_or(0)))
                    }),
                });
            }
            Ok(grants)
        })
    }

    fn session(&self, request: RequestId) -> Result<Option<SessionRow>, StoreError> {
        self.read(|connection| {
            let found = connection
                .prepare_cached("SELECT record, ended FROM sessions WHERE request = ?1")?
                .query_row([request.0.as_bytes()], |row| {
                    Ok((row.get::<_, Option<Vec<u8>>>(0)?, row.get::<_, Option<Vec<u8>>>(1)?))
                })
                .optional()?;
            let Some((record, ended)) = found else { return Ok(None) };
            let ended = ended.map(|bytes| decode("end", &bytes)).transpose()?;
            Ok(Some(SessionRow { record: record.map(Bytes), ended }))
        })
    }

    fn revocations(&self) -> Result<Vec<RevocationRow>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(OPEN_REVOCATIONS)?;
            let rows = query.query_map([], |row| {
                Ok((row.get::<_, [u8; 16]>(0)?, unsigned(row, 1)?, unsigned(row, 2)?, row.get::<_, String>(3)?))
            })?;
            let mut revocations = Vec::new();
            for row in rows {
                let (serial, not_after, revoked_at, because) = row?;
                revocations.push(RevocationRow {
                    serial: CertSerial(Fixed(serial)),
                    not_after: UnixTime(not_after),
                    revoked_at: UnixTime(revoked_at),
                    because: decode("reason", format!("\"{because}\"").as_bytes())?,
                });
            }
            Ok(revocations)
        })
    }

    fn newest_crl(&self) -> Result<Option<CrlRow>, StoreError> {
        self.read(|connection| {
            let found = connection
                .prepare_cached("SELECT number, this_update, next_update, der FROM crls ORDER BY number DESC LIMIT 1")?
                .query_row([], |row| {
                    Ok(CrlRow {
                        number: unsigned(row, 0)?,
                        this_update: UnixTime(unsigned(row, 1)?),
                        next_update: UnixTime(unsigned(row, 2)?),
                        der: Bytes(row.get(3)?),
                    })
                })
                .optional()?;
            Ok(found)
        })
    }

    fn sign_ins(&self, now: UnixTime) -> Result<Vec<SignInRow>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT cookie, person, device, record, expires_at FROM sign_ins WHERE expires_at > ?1",
            )?;
            let rows = query.query_map([signed(now.0)], |row| {
                let (person, device) = (row.get::<_, String>(1)?, row.get::<_, String>(2)?);
                Ok((digest(row, 0)?, person, device, digest(row, 3)?, unsigned(row, 4)?))
            })?;
            let mut sign_ins = Vec::new();
            for row in rows {
                let (cookie, person, device, record, expires_at) = row?;
                sign_ins.push(SignInRow {
                    cookie,
                    person: PersonId::new(&person).ok_or(StoreError::Corrupt("person"))?,
                    device: DeviceId::new(&device).ok_or(StoreError::Corrupt("device"))?,
                    record,
                    expires_at: UnixTime(expires_at),
                });
            }
            Ok(sign_ins)
        })
    }

    fn roster_pin(&self) -> Result<Option<Digest>, StoreError> {
        self.read(|connection| meta(connection, "roster.pin"))
    }

    fn run_mark(&self) -> Result<Option<Digest>, StoreError> {
        self.read(|connection| meta(connection, "run.mark"))
    }

    fn rosters_above(&self, version: u64, count: usize, bytes: usize) -> Result<Vec<Bytes>, StoreError> {
        self.read(|connection| life::rosters_above(connection, version, count, bytes))
    }

    fn papers(&self, kind: PaperKind, now: UnixTime) -> Result<Vec<(Fixed<16>, u64, Bytes)>, StoreError> {
        self.read(|connection| life::papers(connection, kind, now))
    }

    fn audit(&self, question: &AuditQuery) -> Result<Vec<AuditRow>, StoreError> {
        let row = |row: &Row<'_>| {
            Ok(AuditRow {
                number: unsigned(row, 0)?,
                at_ms: unsigned(row, 1)?,
                previous: digest(row, 2)?,
                event: row.get(3)?,
                hash: digest(row, 4)?,
            })
        };
        // A grant's id is 26 characters that JSON never escapes: a text search finds exactly its rows.
        let like = question.grant.map_or_else(|| "%".to_owned(), |grant| format!("%\"grant\":\"{grant}\"%"));
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT number, at_ms, previous, event, hash FROM audit WHERE number > ?1 AND event LIKE ?2
                 ORDER BY number LIMIT ?3",
            )?;
            let (mut rows, mut bytes) = (Vec::new(), 0);
            for row in query.query_map(params![signed(question.after), like, question.limit], row)? {
                let row = row?;
                bytes += row.event.len();
                rows.push(row);
                if bytes >= AUDIT_BYTES {
                    break;
                }
            }
            Ok(rows)
        })
    }

    fn ping(&self) -> Result<(), StoreError> {
        if self.failing.load(Ordering::SeqCst) {
            return Err(StoreError::Failed("the last write did not reach the disk".to_owned()));
        }
        self.read(|connection| Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?))
    }
}

fn meta(connection: &Connection, key: &str) -> Result<Option<Digest>, StoreError> {
    let value = connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| digest(row, 0))
        .optional()?;
    Ok(value)
}

type RequestColumns = (Digest, u64, Vec<u8>, Vec<u8>);

fn request_columns(row: &Row<'_>) -> rusqlite::Result<RequestColumns> {
    Ok((digest(row, 0)?, unsigned(row, 1)?, row.get(2)?, row.get(3)?))
}

fn with_statements(
    connection: &Connection,
    (id, revision, bytes, snapshot): RequestColumns,
) -> Result<RequestRow, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT signed FROM statements WHERE request = ?1 AND decision NOT LIKE 'void %' ORDER BY number",
    )?;
    let rows = query.query_map([id.as_bytes()], |row| row.get::<_, Vec<u8>>(0))?;
    let mut statements = Vec::new();
    for row in rows {
        statements.push(decode("statement", &row?)?);
    }
    let stored = Stored { signed: decode("request", &bytes)?, snapshot: decode("snapshot", &snapshot)?, statements };
    Ok(RequestRow { request: RequestId(id), revision, stored })
}

fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|_| StoreError::Corrupt(what))
}

/// A unit variant as its bare name.
fn word<T: Serialize>(value: &T) -> Result<String, StoreError> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => Ok(text),
        Ok(_) | Err(_) => Err(StoreError::Corrupt("a word")),
    }
}

/// SQLite has signed integers; ours stay far below their end.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get::<_, [u8; 32]>(column).map(|bytes| Digest(Fixed(bytes)))
}

#[cfg(test)]
mod tests;
