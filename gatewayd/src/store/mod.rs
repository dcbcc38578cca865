//! Named transactions over a database. A state change and its audit events commit together, or
//! neither does; a change names the state that it replaces, and replacing nothing is a refusal.
//! Nothing above this module knows SQL; nothing in it decides.

mod sqlite;

use std::future::Future;
use std::pin::Pin;

use twinlock_protocol::evidence::{EndNote, SignedRequest};
use twinlock_protocol::ids::{CertSerial, DeviceId, GrantId, HostId, PersonId, RequestId};
use twinlock_protocol::statement::{Decision, SignedStatement};
use twinlock_protocol::{Bytes, Digest, Fixed, UnixTime};

use crate::audit::{AuditRow, Event, RevokedBecause};
use crate::request::{Certified, Snapshot, Stored};

pub use sqlite::Sqlite;

/// Why the store did not do it. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The row is not in the expected state, or exists already.
    #[error("another state than the expected one")]
    Conflict,
    /// The database failed: disk full, read-only, broken.
    #[error("the database failed: {0}")]
    Failed(String),
    /// The database was made by a later version.
    #[error("the database has schema version {0}, which this version does not know")]
    Schema(u32),
    /// A stored value does not decode.
    #[error("a stored value does not decode: {0}")]
    Corrupt(&'static str),
}

/// A request's state for the store.
#[derive(Clone, Debug)]
pub struct StateRow {
    /// Its name, for people and queries.
    pub name: &'static str,
    /// Nothing moves it any more.
    pub is_final: bool,
    /// All of it.
    pub snapshot: Snapshot,
}

/// What changes along with a state.
#[derive(Clone, Debug)]
pub enum Change {
    /// A verified statement; one approval and one denial per person.
    Statement { person: PersonId, decision: Decision, signed: SignedStatement },
    /// This person's approval does not count any more; it stays in the database, apart.
    Void(PersonId),
    /// The certificate; one per request.
    Certificate(Certified),
    /// The host's record of the session.
    Record(Bytes),
    /// The revocation evidence.
    End(EndNote),
    /// The certificate is revoked; repeated, it stays as it was.
    Revocation { serial: CertSerial, because: RevokedBecause },
}

/// A new request.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Its id.
    pub request: RequestId,
    /// Its host.
    pub host: HostId,
    /// Its bytes and signatures.
    pub signed: SignedRequest,
    /// Its first state.
    pub state: StateRow,
}

/// A step of a request.
#[derive(Clone, Debug)]
pub struct Advance {
    /// The request.
    pub request: RequestId,
    /// The revision that this step replaces.
    pub replaces: u64,
    /// The new state.
    pub state: StateRow,
    /// What else changes.
    pub changes: Vec<Change>,
}

/// A new revocation list.
#[derive(Clone, Debug)]
pub struct CrlRow {
    /// Strictly above all before.
    pub number: u64,
    /// When it was made.
    pub this_update: UnixTime,
    /// Until when it is to be believed.
    pub next_update: UnixTime,
    /// DER.
    pub der: Bytes,
}

/// An approver's sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInRow {
    /// SHA-256 of the cookie.
    pub cookie: Digest,
    /// Who.
    pub person: PersonId,
    /// On which device.
    pub device: DeviceId,
    /// The digest of the device's record in the roster: another record is another device.
    pub record: Digest,
    /// Until when.
    pub expires_at: UnixTime,
}

/// What is done in one piece.
#[derive(Clone, Debug)]
pub enum Work {
    /// Stores a new request.
    Admit(Box<Admission>),
    /// Moves a request.
    Advance(Box<Advance>),
    /// Publishes a revocation list; marks what it was the last to have to carry.
    PublishCrl(CrlRow),
    /// Keeps a sign-in, and forgets those that are over.
    SignIn(SignInRow),
    /// Forgets a sign-in.
    SignOut(Digest),
    /// Pins the roster; refused when another one is pinned.
    PinRoster(Digest),
    /// Changes the roster chain or the papers that lead to it, in one piece.
    Life(Vec<LifeChange>),
    /// Marks the run: see `serve::run_mark`.
    RunMark(Digest),
    /// Forgets what a backup brings back to life: sign-ins, proposals, invites, host tokens.
    Restore,
    /// Only writes the audit log.
    Note,
}

/// What a [`Work::Life`] changes.
#[derive(Clone, Debug)]
pub enum LifeChange {
    /// The next roster version; refused when there is one of this number, or a gap below it.
    Seal {
        /// Its version, above 1.
        version: u64,
        /// Its digest.
        digest: Digest,
        /// The envelope's bytes.
        envelope: Bytes,
    },
    /// A paper, new or in place of a known revision.
    Paper(PaperRow),
    /// Forgets papers that nobody is told of any more: the audit log is their record.
    ForgetPapers {
        /// Looked at until before this, and not a proposal that still waits.
        before: UnixTime,
    },
    /// Ends a person's sign-ins: on one device, or on all.
    EndSignIns {
        /// Who.
        person: PersonId,
        /// Where; everywhere when none.
        device: Option<DeviceId>,
    },
}

/// Which papers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaperKind {
    /// A proposal to change the roster.
    Proposal,
    /// An invite for a person.
    Invite,
    /// A token for a host.
    HostToken,
    /// A break-glass grant that a host reported, and its review.
    BreakGlass,
}

/// A paper at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaperRow {
    /// Which kind.
    pub kind: PaperKind,
    /// Its id.
    pub id: Fixed<16>,
    /// The revision that this replaces; none for a new one.
    pub replaces: Option<u64>,
    /// Nothing moves it any more.
    pub is_over: bool,
    /// Until when it is looked at.
    pub until: UnixTime,
    /// All of it, JSON.
    pub body: Bytes,
}

/// Work with the audit events that tell of it.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// What is done.
    pub work: Work,
    /// What the audit log says about it.
    pub events: Vec<Event>,
}

/// A certificate on the revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationRow {
    /// The certificate.
    pub serial: CertSerial,
    /// Its end.
    pub not_after: UnixTime,
    /// Since when.
    pub revoked_at: UnixTime,
    /// Why.
    pub because: RevokedBecause,
}

/// A request as it rests.
#[derive(Clone, Debug)]
pub struct RequestRow {
    /// Its id.
    pub request: RequestId,
    /// Its revision.
    pub revision: u64,
    /// Its content.
    pub stored: Stored,
}

/// A grant's session as the host told it.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// The GrantRecord's bytes, as the host sent them.
    pub record: Option<Bytes>,
    /// How it ended.
    pub ended: Option<EndNote>,
}

/// A line of the list of grants.
#[derive(Clone, Debug)]
pub struct GrantRow {
    /// The request.
    pub request: RequestId,
    /// Its host.
    pub host: HostId,
    /// The state's name.
    pub state: String,
    /// When it was admitted.
    pub admitted_at: UnixTime,
    /// The request's bytes and signatures.
    pub signed: SignedRequest,
    /// Serial and end of its certificate.
    pub certificate: Option<(CertSerial, UnixTime)>,
}

/// A question to the audit log: newest last.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Rows above this number.
    pub after: u64,
    /// At most so many.
    pub limit: u32,
    /// Rows that name this grant.
    pub grant: Option<GrantId>,
}

/// The end of a commit.
pub type Committing = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// A database.
pub trait Store: Send + Sync {
    /// Commits a transaction; done when it is on disk.
    fn commit(&self, transaction: Transaction) -> Committing;

    /// Requests that are not final, and final ones whose host may still have to hear of it
    /// (certificate not past its end by more than two minutes at `now`).
    ///
    /// # Errors
    /// [`StoreError`].
    fn open_requests(&self, now: UnixTime) -> Result<Vec<RequestRow>, StoreError>;

    /// One request, whatever its state.
    ///
    /// # Errors
    /// [`StoreError`].
    fn request(&self, request: RequestId) -> Result<Option<RequestRow>, StoreError>;

    /// The request of a grant.
    ///
    /// # Errors
    /// [`StoreError`].
    fn request_of_grant(&self, grant: GrantId) -> Result<Option<RequestId>, StoreError>;

    /// Grants and requests, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    fn grants(&self, limit: u32) -> Result<Vec<GrantRow>, StoreError>;

    /// A grant's session.
    ///
    /// # Errors
    /// [`StoreError`].
    fn session(&self, request: RequestId) -> Result<Option<SessionRow>, StoreError>;

    /// What the next revocation list must carry.
    ///
    /// # Errors
    /// [`StoreError`].
    fn revocations(&self) -> Result<Vec<RevocationRow>, StoreError>;

    /// The newest revocation list.
    ///
    /// # Errors
    /// [`StoreError`].
    fn newest_crl(&self) -> Result<Option<CrlRow>, StoreError>;

    /// Sign-ins that are not over.
    ///
    /// # Errors
    /// [`StoreError`].
    fn sign_ins(&self, now: UnixTime) -> Result<Vec<SignInRow>, StoreError>;

    /// The pinned roster's digest.
    ///
    /// # Errors
    /// [`StoreError`].
    fn roster_pin(&self) -> Result<Option<Digest>, StoreError>;

    /// The mark of the last run.
    ///
    /// # Errors
    /// [`StoreError`].
    fn run_mark(&self) -> Result<Option<Digest>, StoreError>;

    /// Envelopes of roster versions above this one, lowest first: at most `count`, and no more than
    /// fit into `bytes` (but one at least).
    ///
    /// # Errors
    /// [`StoreError`].
    fn rosters_above(&self, version: u64, count: usize, bytes: usize) -> Result<Vec<Bytes>, StoreError>;

    /// Papers that are not over, or that are looked at beyond `now`: id, revision, body.
    ///
    /// # Errors
    /// [`StoreError`].
    fn papers(&self, kind: PaperKind, now: UnixTime) -> Result<Vec<(Fixed<16>, u64, Bytes)>, StoreError>;

    /// Rows of the audit log: fewer than asked for when they are long; whoever wants more asks on.
    ///
    /// # Errors
    /// [`StoreError`].
    fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditRow>, StoreError>;

    /// Whether the database answers, and the last write reached the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    fn ping(&self) -> Result<(), StoreError>;
}
