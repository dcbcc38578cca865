//! A database that fails: nothing changes, nobody is granted, and it goes on when the disk is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use twinlock_gatewayd::approval::{Approvers, Cookie, SignInFinish, SignInStart, Source};
use twinlock_gatewayd::audit::AuditRow;
use twinlock_gatewayd::clock::TestClock;
use twinlock_gatewayd::config::LimitsConfig;
use twinlock_gatewayd::issue::Issuer;
use twinlock_gatewayd::limits::Limits;
use twinlock_gatewayd::request::{Answer, ClaimBy, Claimant, Event, Reply};
use twinlock_gatewayd::roster::{Link, Rosters};
use twinlock_gatewayd::serve::{Engine, Parts};
use twinlock_gatewayd::store::{
    AuditQuery, Committing, CrlRow, GrantRow, PaperKind, RequestRow, RevocationRow, SessionRow, SignInRow, Sqlite,
    Store, StoreError, Transaction,
};
use twinlock_protocol::digest::Domain;
use twinlock_protocol::ids::{GrantId, HostId, RequestId, TerminalCode};
use twinlock_protocol::softphone::random;
use twinlock_protocol::statement::{APPROVAL_DOMAINS, Decision};
use twinlock_protocol::wire::WIRE_VERSION;
use twinlock_protocol::wire::module::Submit;
use twinlock_protocol::{Bytes, DenyReason, Digest, Fixed, UnixTime, verify};

use crate::support::{Site, Waiting, wall};

/// The real database, with a disk that can be full, or not be read.
struct FullDisk {
    inner: Sqlite,
    full: Arc<AtomicBool>,
    unreadable: Arc<AtomicBool>,
}

impl Store for FullDisk {
    fn commit(&self, transaction: Transaction) -> Committing {
        if self.full.load(Ordering::SeqCst) {
            return Box::pin(async { Err(StoreError::Failed("database or disk is full".into())) });
        }
        self.inner.commit(transaction)
    }
    fn open_requests(&self, now: UnixTime) -> Result<Vec<RequestRow>, StoreError> {
        self.inner.open_requests(now)
    }
    fn request(&self, request: RequestId) -> Result<Option<RequestRow>, StoreError> {
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(StoreError::Failed("disk I/O error".into()));
        }
        self.inner.request(request)
    }
    fn request_of_grant(&self, grant: GrantId) -> Result<Option<RequestId>, StoreError> {
        self.inner.request_of_grant(grant)
    }
    fn grants(&self, limit: u32) -> Result<Vec<GrantRow>, StoreError> {
        self.inner.grants(limit)
    }
    fn session(&self, request: RequestId) -> Result<Option<SessionRow>, StoreError> {
        self.inner.session(request)
    }
    fn revocations(&self) -> Result<Vec<RevocationRow>, StoreError> {
        self.inner.revocations()
    }
    fn newest_crl(&self) -> Result<Option<CrlRow>, StoreError> {
        self.inner.newest_crl()
    }
    fn sign_ins(&self, now: UnixTime) -> Result<Vec<SignInRow>, StoreError> {
        self.inner.sign_ins(now)
    }
    fn roster_pin(&self) -> Result<Option<Digest>, StoreError> {
        self.inner.roster_pin()
    }
    fn run_mark(&self) -> Result<Option<Digest>, StoreError> {
        self.inner.run_mark()
    }
    fn rosters_above(&self, version: u64, count: usize, bytes: usize) -> Result<Vec<Bytes>, StoreError> {
        self.inner.rosters_above(version, count, bytes)
    }
    fn papers(&self, kind: PaperKind, now: UnixTime) -> Result<Vec<(Fixed<16>, u64, Bytes)>, StoreError> {
        self.inner.papers(kind, now)
    }
    fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditRow>, StoreError> {
        self.inner.audit(query)
    }
    fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping()
    }
}

struct Bench {
    site: Site,
    engine: Arc<Engine>,
    full: Arc<AtomicBool>,
    unreadable: Arc<AtomicBool>,
    clock: TestClock,
}

async fn bench() -> Bench {
    let site = Site::new();
    let (full, unreadable): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
    let clock = TestClock::at(wall());
    let inner = Sqlite::open(&site.path().join("faults.db"), None).unwrap();
    let engine = Engine::start(Parts {
        rosters: Arc::new(Rosters::new(Link::new(site.roster.clone(), site.envelope.clone()))),
        store: Arc::new(FullDisk { inner, full: Arc::clone(&full), unreadable: Arc::clone(&unreadable) }),
        clock: Arc::new(clock.clone()),
        limits: Limits::new(&LimitsConfig::default()),
        issuer: Issuer::load(site.path(), &site.roster, &site.origin, 3600).unwrap(),
        max_ttl_s: 3600,
        restored: false,
    })
    .await
    .unwrap();
    Bench { site, engine, full, unreadable, clock }
}

impl Bench {
    async fn submit(&self, waiting: &Waiting) -> Result<(), DenyReason> {
        let submit = Submit { wire: WIRE_VERSION, signed: waiting.signed.clone(), resume_token: waiting.resume_token };
        let host = HostId::new("web01").unwrap();
        self.engine.submit(&host, waiting.id, submit).await.map_err(|refusal| refusal.reason)
    }

    fn claim(&self, person: &str) -> (Event, Digest, Fixed<32>) {
        let phone = self.site.fixture.phone(person);
        let claimant = Claimant {
            person: phone.person.clone(),
            device: phone.device.id.clone(),
            credential: phone.device.credential_id.clone(),
            from: "192.0.2.1".into(),
        };
        let (claim, salt) = (Digest::plain(&random::<16>()), Fixed(random()));
        let code = TerminalCode::from_number(418_302).unwrap();
        (Event::Claim { claimant, by: ClaimBy::Code(code), claim, salt }, claim, salt)
    }

    fn answer(&self, waiting: &Waiting, person: &str, claim: Digest, salt: Fixed<32>, decision: Decision) -> Event {
        let phone = self.site.fixture.phone(person);
        let mut statement = phone.statement(waiting.id, decision);
        statement.gateway_salt = salt;
        let signed = phone.sign(&self.site.roster, APPROVAL_DOMAINS, &statement.to_bytes());
        let request = verify::verify_request(&self.site.roster, &waiting.signed, wall()).unwrap();
        let answer = verify::verify_statement(&self.site.roster, &request, &signed).unwrap();
        let (person, device) = (phone.person.clone(), phone.device.id.clone());
        Event::Answer(Box::new(Answer { claim, person, device, answer, signed }))
    }

    /// What bob's phone makes of a begun sign-in.
    fn sign_in(&self, start: &SignInStart) -> SignInFinish {
        let phone = self.site.fixture.phone("bob");
        let challenge = Digest::of(Domain::SignIn, &start.nonce.0);
        SignInFinish {
            sign_in: start.sign_in,
            credential_id: phone.device.credential_id.clone(),
            assertion: phone.assert(&phone.honest(&self.site.roster, &challenge)),
            device_signature: Some(phone.device_sign(Domain::Claim, challenge.as_bytes())),
        }
    }

    async fn name(&self, waiting: &Waiting) -> &'static str {
        self.engine.look(waiting.id, |state| state.name()).await.unwrap_or("nothing")
    }
}

/// Catalogue: G2 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_every_step_and_the_same_step_is_taken_when_there_is_room() {
    let bench = bench().await;
    let waiting = bench.site.request();
    let full = |on: bool| bench.full.store(on, Ordering::SeqCst);
    full(true);
    assert_eq!(bench.submit(&waiting).await, Err(DenyReason::StoreFailed));
    assert_eq!(bench.name(&waiting).await, "nothing");
    full(false);
    assert_eq!(bench.submit(&waiting).await, Ok(()));
    for (person, name, reply) in
        [("bob", "awaiting_second", Reply::ApprovedFirst), ("carol", "issued", Reply::ApprovedBoth)]
    {
        let before = bench.name(&waiting).await;
        let (claim, id, salt) = bench.claim(person);
        assert!(matches!(bench.engine.apply(waiting.id, claim).await, Ok(Reply::Claimed(_))));
        let answer = || bench.answer(&waiting, person, id, salt, Decision::Approve);
        full(true);
        assert_eq!(bench.engine.apply(waiting.id, answer()).await, Err(DenyReason::StoreFailed));
        assert_eq!(bench.name(&waiting).await, before, "nothing changed");
        full(false);
        assert_eq!(bench.engine.apply(waiting.id, answer()).await, Ok(reply));
        assert_eq!(bench.name(&waiting).await, name);
    }
}

/// Catalogue: G2 (control: a_full_disk_refuses_every_step_and_the_same_step_is_taken_when_there_is_room)
#[tokio::test(flavor = "multi_thread")]
async fn a_denial_on_a_full_disk_is_not_answered_and_can_be_repeated() {
    let bench = bench().await;
    let waiting = bench.site.request();
    bench.submit(&waiting).await.unwrap();
    let (claim, id, salt) = bench.claim("bob");
    bench.engine.apply(waiting.id, claim).await.unwrap();
    let deny = || bench.answer(&waiting, "bob", id, salt, Decision::Deny);
    bench.full.store(true, Ordering::SeqCst);
    assert_eq!(bench.engine.apply(waiting.id, deny()).await, Err(DenyReason::StoreFailed));
    bench.full.store(false, Ordering::SeqCst);
    assert_eq!(bench.engine.apply(waiting.id, deny()).await, Ok(Reply::Denied));
    assert_eq!(bench.name(&waiting).await, "denied");
}

fn from() -> Source {
    Source::new("192.0.2.1".parse().unwrap(), "a browser")
}

/// A sign-out that is not on disk has not happened: it would be undone by the next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_on_a_full_disk_is_refused_and_can_be_repeated() {
    let bench = bench().await;
    let approvers = Approvers::start(Arc::clone(&bench.engine)).unwrap();
    let finish = bench.sign_in(&approvers.start_sign_in().unwrap());
    let (cookie, session): (Cookie, _) = approvers.finish_sign_in(finish, &from()).await.unwrap();
    bench.full.store(true, Ordering::SeqCst);
    assert_eq!(approvers.sign_out(&session).await, Err(DenyReason::StoreFailed));
    assert!(approvers.signed_in(&cookie).is_ok(), "as a restart would find it");
    bench.full.store(false, Ordering::SeqCst);
    assert_eq!(approvers.sign_out(&session).await, Ok(()));
    assert!(approvers.signed_in(&cookie).is_err());
    assert_eq!(bench.engine.store.sign_ins(wall()).unwrap(), []);
}

/// Whoever begins sign-ins without end takes nobody's away; each is good once.
///
/// Catalogue: N6 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_begun_sign_ins_ends_none() {
    let bench = bench().await;
    let approvers = Approvers::start(Arc::clone(&bench.engine)).unwrap();
    let mine = approvers.start_sign_in().unwrap();
    for _ in 0..20_000 {
        let _flood = approvers.start_sign_in().unwrap();
    }
    // A made-up id, a changed one, and one of another gateway process are nothing.
    let elsewhere = Approvers::start(Arc::clone(&bench.engine)).unwrap().start_sign_in().unwrap();
    let mut later = mine.clone();
    later.sign_in.0[7] ^= 1;
    for wrong in [later, elsewhere] {
        let refused = approvers.finish_sign_in(bench.sign_in(&wrong), &from()).await;
        assert_eq!(refused.unwrap_err(), DenyReason::SignInNeeded);
    }
    let finish = bench.sign_in(&mine);
    assert!(approvers.finish_sign_in(finish.clone(), &from()).await.is_ok());
    assert_eq!(approvers.finish_sign_in(finish, &from()).await.unwrap_err(), DenyReason::SignInNeeded);
    // Five minutes are the end of one that was not used.
    let old = approvers.start_sign_in().unwrap();
    bench.clock.advance(300);
    assert_eq!(approvers.finish_sign_in(bench.sign_in(&old), &from()).await.unwrap_err(), DenyReason::SignInNeeded);
}

/// A disk that can neither be written nor read for a while: the request is still there afterwards,
/// with its ticket, and can be granted.
///
/// Catalogue: G2 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_request_outlives_a_disk_that_cannot_be_read_for_a_while() {
    let bench = bench().await;
    let waiting = bench.site.request();
    bench.submit(&waiting).await.unwrap();
    let broken = |broken| [&bench.full, &bench.unreadable].map(|flag| flag.store(broken, Ordering::SeqCst));
    broken(true);
    let (claim, ..) = bench.claim("bob");
    assert_eq!(bench.engine.apply(waiting.id, claim).await, Err(DenyReason::StoreFailed));
    assert_eq!(bench.name(&waiting).await, "nothing", "its state could not be read back");
    for _ in 0..3 {
        bench.clock.advance(31);
        bench.engine.tick().await;
    }
    broken(false);
    bench.engine.tick().await;
    assert_eq!(bench.name(&waiting).await, "pending");
    for (person, reply) in [("bob", Reply::ApprovedFirst), ("carol", Reply::ApprovedBoth)] {
        let (claim, id, salt) = bench.claim(person);
        bench.engine.apply(waiting.id, claim).await.unwrap();
        let answer = bench.answer(&waiting, person, id, salt, Decision::Approve);
        assert_eq!(bench.engine.apply(waiting.id, answer).await, Ok(reply));
    }
    // Control: one that is over is forgotten in time.
    let over = bench.site.request();
    bench.submit(&over).await.unwrap();
    bench.engine.apply(over.id, Event::Cancel).await.unwrap();
    bench.clock.advance(301);
    bench.engine.tick().await;
    assert_eq!(bench.name(&over).await, "nothing");
}
