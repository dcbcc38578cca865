//! Performs what the state machine says: one request at a time, commit first, tell afterwards. The
//! database is the truth; what is in memory is what was committed last. A commit that fails leaves
//! everything as it was.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use tokio::sync::{Mutex as AsyncMutex, Notify};
use twinlock_protocol::evidence::SignedRequest;
use twinlock_protocol::ids::{GrantId, HostId, PersonId, RequestId, Ticket};
use twinlock_protocol::request::ElevationRequest;
use twinlock_protocol::roster::{RosterEnvelope, VerifiedRoster};
use twinlock_protocol::verify::{self, VerifiedRequest};
use twinlock_protocol::wire::WIRE_VERSION;
use twinlock_protocol::wire::agent::{EndGrant, EndOrder, ForModule, GatewayMessage};
use twinlock_protocol::wire::module::{ModuleEvent, Submit};
use twinlock_protocol::{Bytes, DenyReason, Digest, UnixTime, limits, wire};

use super::hub::{Hub, Outgoing};
use super::metrics::Metrics;
use crate::audit::{self, LimitName};
use crate::clock::Clock;
use crate::issue::Issuer;
use crate::limits::{Limited, Limits, Waiting};
use crate::random::random;
use crate::request::{self, Context, Effect, Event, Reply, ReviveError, Snapshot, State, Step, Stored, Submitted};
use crate::roster::{Chain, Link, Rosters, ended_sign_ins};
use crate::store::{
    Admission, Advance, Change, CrlRow, LifeChange, RequestRow, StateRow, Store, StoreError, Transaction, Work,
};

/// A final request is kept in memory this long, in seconds, for modules and pages that ask late.
const KEEP_S: u64 = 300;
/// How far the number of a revocation list leaps when the database was put back.
const AFTER_RESTORE: u64 = 3600;
/// Envelopes of one message to an agent, in bytes; base64url makes them longer on the wire.
const ROSTERS_BYTES: usize = 4 * 1024 * 1024;

/// A refusal with a hint when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: DenyReason,
    /// When to try again, in seconds.
    pub retry_after_s: Option<u32>,
}

impl From<DenyReason> for Refusal {
    fn from(reason: DenyReason) -> Self {
        Self { reason, retry_after_s: None }
    }
}

impl From<Limited> for Refusal {
    fn from(limited: Limited) -> Self {
        Self { reason: DenyReason::RateLimited, retry_after_s: Some(limited.retry_after_s) }
    }
}

/// One request in memory.
struct Kept {
    host: HostId,
    held: AsyncMutex<Held>,
}

struct Held {
    /// None only inside a step, and after a failure that could not be repaired from the store.
    state: Option<State>,
    revision: u64,
    tickets: Vec<Digest>,
    claims: Vec<Digest>,
    /// When the request must be looked at next.
    due: Option<UnixTime>,
}

/// What must not be forgotten while a request waits, found without its lock.
#[derive(Default)]
struct Indexes {
    tickets: HashMap<Digest, RequestId>,
    claims: HashMap<Digest, RequestId>,
    waiting: HashMap<RequestId, (HostId, Vec<PersonId>)>,
    waiting_of: HashMap<(HostId, PersonId), usize>,
    waiting_on: HashMap<HostId, usize>,
    grants: HashMap<GrantId, RequestId>,
    of_host: HashMap<HostId, HashSet<RequestId>>,
    due: BTreeSet<(UnixTime, RequestId)>,
}

impl Indexes {
    fn begin_waiting(&mut self, id: RequestId, host: &HostId, persons: &[PersonId]) {
        if self.waiting.insert(id, (host.clone(), persons.to_vec())).is_none() {
            *self.waiting_on.entry(host.clone()).or_default() += 1;
            for person in persons {
                *self.waiting_of.entry((host.clone(), person.clone())).or_default() += 1;
            }
        }
    }

    fn end_waiting(&mut self, id: RequestId) {
        let Some((host, persons)) = self.waiting.remove(&id) else { return };
        for person in persons {
            one_less(&mut self.waiting_of, (host.clone(), person));
        }
        one_less(&mut self.waiting_on, host);
    }
}

fn one_less<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() = count.get().saturating_sub(1);
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// The gateway's core.
pub struct Engine {
    /// The roster chain; everything is decided by its head.
    pub rosters: Arc<Rosters>,
    /// The database.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Every limiter.
    pub limits: Limits,
    /// Figures.
    pub metrics: Metrics,
    /// The connected agents.
    pub hub: Hub,
    /// This gateway's own ceiling for a grant's life, in seconds.
    pub max_ttl_s: u32,
    issuer: Issuer,
    crl: RwLock<Arc<CrlRow>>,
    crl_due: Notify,
    entries: Mutex<HashMap<RequestId, Arc<Kept>>>,
    indexes: Mutex<Indexes>,
    last_tick: AtomicU64,
    /// When this run voided what a restored database held as open.
    restored_at: Option<UnixTime>,
    /// Hosts that pin a newer roster than the head, with its version, as they say.
    ahead: Mutex<BTreeMap<HostId, u64>>,
}

/// Verifies a request under the version that it names, then under the head.
fn verify_under(chain: &Chain, signed: &SignedRequest, now: UnixTime) -> Result<VerifiedRequest, DenyReason> {
    let asked = ElevationRequest::from_bytes(&signed.request.0).map_err(|_| DenyReason::RequestMalformed)?;
    let own = chain.find(&asked.roster).ok_or(DenyReason::RosterMismatch)?;
    verify::verify_request(&own.roster, signed, now)?.under(&chain.head().roster)
}

/// What an [`Engine`] is made of.
pub struct Parts {
    /// The verified roster chain.
    pub rosters: Arc<Rosters>,
    /// The database.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Every limiter.
    pub limits: Limits,
    /// The issuer.
    pub issuer: Issuer,
    /// This gateway's own ceiling for a grant's life, in seconds.
    pub max_ttl_s: u32,
    /// The database was put back from a backup: nothing that it holds as open goes on.
    pub restored: bool,
}

/// The engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The database.
    #[error("database")]
    Store(#[from] StoreError),
    /// The CA.
    #[error("revocation list")]
    Crl(#[from] twinlock_certs::issue::IssueError),
    /// What a restored database holds as open could not be made void.
    #[error("a request of before the restore could not be ended: {0}")]
    NotVoid(DenyReason),
}

impl Engine {
    /// Makes the first revocation list of this run and takes up what the database holds: every
    /// request is verified again; waiting ones get the agents' grace to come back.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn start(parts: Parts) -> Result<Arc<Self>, EngineError> {
        let Parts { rosters, store, clock, limits, issuer, max_ttl_s, restored } = parts;
        let newest = store.newest_crl()?.map(|crl| crl.number);
        let now = clock.now();
        // Lists that were made faster than the clock goes may be ahead of it; of those the backup knows
        // nothing, and hosts have seen them.
        let newest = if restored { newest.max(Some(now.0.saturating_add(AFTER_RESTORE))) } else { newest };
        let crl = issuer.crl(newest, now, &store.revocations()?)?;
        let started = audit::Event::GatewayStarted {
            software: env!("CARGO_PKG_VERSION").to_owned(),
            roster_version: rosters.head().version,
            roster_digest: rosters.head().digest(),
        };
        let published = audit::Event::CrlIssued { number: crl.number, entries: store.revocations()?.len() as u64 };
        let transaction = Transaction {
            at_ms: clock.unix_ms(),
            work: Work::PublishCrl(crl.clone()),
            events: vec![started, published],
        };
        store.commit(transaction).await?;
        let rows = store.open_requests(clock.now())?;
        if restored {
            tracing::error!("the database was put back from a backup: what it held as open is void");
            let told =
                audit::Event::DatabaseRestored { requests: rows.len() as u64, roster_version: rosters.head().version };
            store.commit(Transaction { at_ms: clock.unix_ms(), work: Work::Restore, events: vec![told] }).await?;
        }
        let engine = Arc::new(Self {
            rosters,
            store,
            clock,
            limits,
            metrics: Metrics::default(),
            hub: Hub::default(),
            max_ttl_s,
            issuer,
            crl: RwLock::new(Arc::new(crl)),
            crl_due: Notify::new(),
            entries: Mutex::default(),
            indexes: Mutex::default(),
            last_tick: AtomicU64::new(0),
            restored_at: restored.then_some(now),
            ahead: Mutex::default(),
        });
        for row in rows {
            engine.take_up(row);
        }
        if restored {
            engine.void_all().await?;
        }
        // Some may have been decided under an older roster than the head.
        engine.reconsider().await;
        Ok(engine)
    }

    fn take_up(&self, row: RequestRow) {
        let (id, revision) = (row.request, row.revision);
        match self.revive(row.stored) {
            Ok(state) => self.insert(state.with_link_lost_at(self.clock.now()), revision),
            // Left as it is: never a grant, and visible in the log and in the list of requests.
            Err(error) => tracing::error!(request = %id, %error, "a stored request is not believed"),
        }
    }

    fn revive(&self, stored: Stored) -> Result<State, ReviveError> {
        stored.revive(&self.rosters.chain())
    }

    /// Takes a newly sealed roster for the head. Hosts that left are hung up on, every agent hears of
    /// it, and every request that is under way is asked again under it.
    pub async fn adopt(self: &Arc<Self>, next: Link) {
        let (before, envelope) = (self.roster(), Bytes(next.envelope.to_bytes()));
        self.rosters.push(next);
        let head = self.roster();
        for host in &before.hosts {
            if head.host(&host.id).is_none_or(|now| now.agent_key != host.agent_key) {
                self.hub.hang_up(&host.id);
            }
        }
        self.hub.send_all(&GatewayMessage::Rosters(wire::agent::Rosters { envelopes: vec![envelope] }));
        if self.issuer.choose(&head) {
            self.crl_due.notify_one();
        }
        self.reconsider().await;
    }

    /// Whether this host pins a newer roster than the head. Only its word: it is told to people and
    /// refuses nobody anything, or one host could stop all.
    pub fn is_ahead(&self, host: &HostId, roster: u64) -> bool {
        let head = self.roster().version;
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        ahead.remove(host);
        if roster > head {
            ahead.insert(host.clone(), roster);
        }
        roster > head
    }

    /// What a restored database needs of people, in words.
    #[must_use]
    pub fn recovery_warnings(&self) -> Vec<String> {
        let head = self.roster().version;
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        ahead.retain(|_, roster| *roster > head);
        let lines = ahead.iter().map(|(host, roster)| {
            format!("host {host} is ahead of this database: it pins roster {roster}, the newest here is {head}")
        });
        let restored = self.restored_at.map(|_| {
            "the database was put back from a backup; what it held as open is void, and what was granted, revoked or \
             suspended after the backup stands in the hosts' records only"
                .to_owned()
        });
        restored.into_iter().chain(lines).collect()
    }

    /// Takes roster versions over that a host has and this gateway lost. Each must follow from the
    /// head, with the signatures that this takes; the host only carries them.
    pub async fn take_over(self: &Arc<Self>, host: &HostId, rosters: &wire::agent::Rosters) {
        for bytes in &rosters.envelopes {
            let head = self.roster();
            let envelope = match RosterEnvelope::from_bytes(&bytes.0) {
                Ok(envelope) if envelope.version <= head.version => continue,
                Ok(envelope) => envelope,
                Err(error) => {
                    tracing::error!(%host, %error, "a host sent what is no roster");
                    return;
                }
            };
            let next = match head.successor(&envelope) {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(%host, version = envelope.version, %error, "a host's roster does not follow from ours");
                    return;
                }
            };
            let (version, digest) = (next.version, next.digest());
            let mut changes = vec![LifeChange::Seal { version, digest, envelope: bytes.clone() }];
            changes.extend(ended_sign_ins(&head, &next));
            let told = audit::Event::RosterTakenOver { version, digest, host: host.clone() };
            // Refused where another host was faster.
            if let Err(error) = self.commit(Work::Life(changes), vec![told]).await {
                tracing::warn!(%host, version, %error, "a host's roster was not taken over");
                return;
            }
            tracing::warn!(%host, version, "a roster was taken over from a host");
            self.adopt(Link::new(next, envelope)).await;
        }
    }

    /// Ends everything that is under way. The host of a session that still runs hears the order when
    /// its agent is back.
    async fn void_all(self: &Arc<Self>) -> Result<(), EngineError> {
        let ids: Vec<RequestId> = self.entries.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        for id in ids {
            if self.look(id, |state| !state.is_final()).await == Some(true) {
                match self.apply(id, Event::Revoke { by_uid: 0 }).await {
                    Ok(_) | Err(DenyReason::GrantOver) => {}
                    Err(reason) => return Err(EngineError::NotVoid(reason)),
                }
            }
        }
        Ok(())
    }

    /// Takes what the database holds above the head: a commit that seemed to fail may stand.
    ///
    /// # Errors
    /// [`DenyReason::StoreFailed`].
    pub async fn catch_up(self: &Arc<Self>) -> Result<(), DenyReason> {
        loop {
            let next = super::next_kept(&*self.store, &self.roster()).map_err(|error| {
                tracing::error!(%error, "the chain could not be read again");
                DenyReason::StoreFailed
            })?;
            match next {
                Some(next) => self.adopt(next).await,
                None => return Ok(()),
            }
        }
    }

    /// Every request that is under way meets the head.
    async fn reconsider(self: &Arc<Self>) {
        let ids: Vec<RequestId> = self.entries.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        for id in ids {
            if self.look(id, |state| !state.is_final()).await == Some(true) {
                // A refusal here is a failing database, already logged; every later step asks again.
                let _outcome = self.apply(id, Event::Tick).await;
            }
        }
    }

    /// Roster versions above this one, as much as one message carries.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rosters_above(&self, version: u64) -> Result<Vec<Bytes>, StoreError> {
        self.store.rosters_above(version, limits::ROSTER_STEPS, ROSTERS_BYTES)
    }

    /// The head of the roster chain: what decides now.
    #[must_use]
    pub fn roster(&self) -> Arc<VerifiedRoster> {
        self.rosters.head()
    }

    /// The current revocation list.
    #[must_use]
    pub fn crl(&self) -> Arc<CrlRow> {
        Arc::clone(&self.crl.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes audit events that no state change carries.
    pub async fn note(&self, events: Vec<audit::Event>) {
        let transaction = Transaction { at_ms: self.clock.unix_ms(), work: Work::Note, events };
        if let Err(error) = self.store.commit(transaction).await {
            tracing::error!(%error, "an audit event could not be written");
        }
    }

    /// Notes that somebody reached a limit; counts always, writes rarely.
    pub async fn note_limit(&self, limit: LimitName, who: String) {
        self.metrics.limited(limit);
        if !self.limits.is_limit_worth_a_row(limit, &who) {
            return;
        }
        self.note(vec![audit::Event::LimitReached { limit, who }]).await;
    }

    // ---- admission ------------------------------------------------------------------------------

    /// Admits a request that `host`'s agent relays under `id`, and tells the module. Runs to its end
    /// even when the caller stops waiting.
    ///
    /// # Errors
    /// [`Refusal`], for the module.
    pub async fn submit(self: &Arc<Self>, host: &HostId, id: RequestId, submit: Submit) -> Result<(), Refusal> {
        let (engine, host) = (Arc::clone(self), host.clone());
        let task = tokio::spawn(async move { engine.submit_here(&host, id, submit).await });
        task.await.unwrap_or_else(|_| Err(DenyReason::Internal.into()))
    }

    async fn submit_here(&self, host: &HostId, id: RequestId, submit: Submit) -> Result<(), Refusal> {
        let outcome = self.try_submit(host, id, submit).await;
        if let Err(refusal) = outcome {
            self.metrics.refused(refusal.reason);
            if refusal.reason == DenyReason::RateLimited {
                // Noted where the limit was reached.
                return outcome;
            }
            let event =
                audit::Event::RequestRefused { host: host.clone(), request: Some(id.0), reason: refusal.reason };
            self.note(vec![event]).await;
        }
        outcome
    }

    async fn try_submit(&self, host: &HostId, id: RequestId, submit: Submit) -> Result<(), Refusal> {
        let Submit { wire, signed, resume_token } = submit;
        // Before anything that a refusal would be written of.
        if let Err(limited) = self.limits.request_of_host(host) {
            self.note_limit(limited.limit, host.to_string()).await;
            return Err(limited.into());
        }
        if wire != WIRE_VERSION {
            return Err(DenyReason::WireMismatch.into());
        }
        let chain = self.rosters.chain();
        let verified = verify_under(&chain, &signed, self.clock.now())?;
        if verified.id() != id {
            return Err(DenyReason::RequestMalformed.into());
        }
        // A host speaks for itself alone, even with another host's key at hand.
        if verified.request().host != *host {
            return Err(DenyReason::HostUnknown.into());
        }
        let persons = verified.requesters().to_vec();
        self.check_waiting(host, &persons).await?;
        let resume = Digest::of(twinlock_protocol::digest::Domain::ResumeToken, &resume_token.0);
        let fresh = Ticket::from_random(&random().map_err(DenyReason::from)?);
        let cx = self.context(&chain.head().roster, &fresh);
        let step = request::admit(Submitted { request: verified, resume }, cx)?;
        let Plan { changes: _, events, tells } = Plan::of(&step.effects);
        let admission = Admission { request: id, host: host.clone(), signed, state: row_of(&step.state) };
        match self.commit(Work::Admit(Box::new(admission)), events).await {
            Ok(()) => {}
            Err(StoreError::Conflict) => return Err(DenyReason::RequestRepeated.into()),
            Err(_) => return Err(DenyReason::StoreFailed.into()),
        }
        self.metrics.admitted();
        self.insert(step.state, 0);
        self.tell_all(host, id, tells);
        if self.roster().version != chain.head().roster.version {
            // It changed meanwhile; whoever changed it may not have seen this request.
            let _outcome = self.apply_here(id, Event::Tick).await;
        }
        Ok(())
    }

    async fn check_waiting(&self, host: &HostId, persons: &[PersonId]) -> Result<(), Refusal> {
        let waiting = {
            let indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
            let of = |person: &PersonId| indexes.waiting_of.get(&(host.clone(), person.clone())).copied().unwrap_or(0);
            Waiting {
                of_person: persons.iter().map(of).max().unwrap_or(0),
                on_host: indexes.waiting_on.get(host).copied().unwrap_or(0),
                all: indexes.waiting.len(),
            }
        };
        if let Err(limited) = self.limits.request_of_persons(host, persons, waiting) {
            let who: Vec<&str> = persons.iter().map(PersonId::as_str).collect();
            self.note_limit(limited.limit, who.join(",")).await;
            return Err(limited.into());
        }
        Ok(())
    }

    fn insert(&self, state: State, revision: u64) {
        let (id, host) = (state.case().id(), state.case().request.request().host.clone());
        let mut held = Held { state: None, revision, tickets: Vec::new(), claims: Vec::new(), due: None };
        self.index(id, &mut held, &state);
        held.state = Some(state);
        let entry = Arc::new(Kept { host, held: AsyncMutex::new(held) });
        // One that came in meanwhile stays: two entries of one request would be two truths.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_insert(entry);
    }

    // ---- steps ----------------------------------------------------------------------------------

    /// Moves a request by an event: commits, then tells. Runs to its end even when the caller stops
    /// waiting.
    ///
    /// # Errors
    /// [`DenyReason::NotFound`] when it is not in memory, [`DenyReason::StoreFailed`] when nothing
    /// could be committed (and nothing changed), or the refusal of the step itself.
    pub async fn apply(self: &Arc<Self>, id: RequestId, event: Event) -> Result<Reply, DenyReason> {
        let engine = Arc::clone(self);
        let task = tokio::spawn(async move { engine.apply_here(id, event).await });
        task.await.unwrap_or(Err(DenyReason::Internal))
    }

    async fn apply_here(&self, id: RequestId, event: Event) -> Result<Reply, DenyReason> {
        let entry = self.entry(id).ok_or(DenyReason::NotFound)?;
        let mut held = entry.held.lock().await;
        if held.state.is_none() {
            self.restore(id, &mut held)?;
        }
        let state = held.state.take().ok_or(DenyReason::StoreFailed)?;
        let before = state.name();
        let (step, reply) = match self.run(state, event) {
            Ok(done) => done,
            Err(reason) => {
                // Said there already.
                let _restored = self.restore(id, &mut held);
                return Err(reason);
            }
        };
        let mut plan = Plan::of(&step.effects);
        let guessed = |event: &audit::Event| matches!(event, audit::Event::ResumeRefused { .. });
        plan.events.retain(|event| !guessed(event) || self.limits.is_refusal_worth_a_row(&entry.host));
        if plan.must_commit() {
            let advance = Advance {
                request: id,
                replaces: held.revision,
                state: row_of(&step.state),
                changes: plan.changes.clone(),
            };
            if let Err(error) = self.commit(Work::Advance(Box::new(advance)), plan.events.clone()).await {
                tracing::error!(request = %id, %error, "a step was not committed");
                let _restored = self.restore(id, &mut held);
                return Err(DenyReason::StoreFailed);
            }
            held.revision = held.revision.saturating_add(1);
            if before != step.state.name() {
                self.metrics.moved(step.state.name());
            }
        }
        self.index(id, &mut held, &step.state);
        held.state = Some(step.state);
        if plan.changes.iter().any(|change| matches!(change, Change::Revocation { .. })) {
            self.crl_due.notify_one();
        }
        // Still under the request's lock, so that a module hears things in their order.
        self.tell_all(&entry.host, id, plan.tells);
        if let Err(reason) = reply {
            self.metrics.refused(reason);
        }
        reply
    }

    /// One step, and the issue that it may ask for, as one piece.
    fn run(&self, state: State, event: Event) -> Result<(Step, Result<Reply, DenyReason>), DenyReason> {
        let fresh = Ticket::from_random(&random()?);
        let chain = self.rosters.chain();
        let cx = self.context(&chain.head().roster, &fresh);
        let Step { state, mut effects, reply } = request::step(state, event, cx);
        let asked = effects.iter().any(|effect| matches!(effect, Effect::Issue));
        let State::Approved(approved) = state else {
            return Ok((Step { state, effects, reply: Ok(Reply::Done) }, reply));
        };
        if !asked {
            return Ok((Step { state: State::Approved(approved), effects, reply: Ok(Reply::Done) }, reply));
        }
        let started = Instant::now();
        let issued = approved.issue(cx, |request, approval, given| {
            let rosters = chain.above(request.request().roster.version).ok_or(DenyReason::RosterMismatch)?;
            self.issuer.certify(request, approval, given, rosters, cx.now, cx.max_ttl_s)
        });
        self.metrics.issued(started.elapsed());
        effects.extend(issued.effects);
        let reply = reply.and_then(|reply| issued.reply.map(|_| reply));
        Ok((Step { state: issued.state, effects, reply: Ok(Reply::Done) }, reply))
    }

    fn context<'a>(&self, roster: &'a VerifiedRoster, fresh: &'a Ticket) -> Context<'a> {
        Context { roster, now: self.clock.now(), fresh, max_ttl_s: self.max_ttl_s }
    }

    async fn commit(&self, work: Work, events: Vec<audit::Event>) -> Result<(), StoreError> {
        let started = Instant::now();
        let outcome = self.store.commit(Transaction { at_ms: self.clock.unix_ms(), work, events }).await;
        self.metrics.committed(started.elapsed(), outcome.is_ok());
        outcome
    }

    /// After a failed commit: what the database holds is what is.
    ///
    /// # Errors
    /// [`DenyReason::StoreFailed`] when it can't be read now, [`DenyReason::NotFound`] when what it
    /// holds is not believed.
    fn restore(&self, id: RequestId, held: &mut Held) -> Result<(), DenyReason> {
        let stored = self.store.request(id).map_err(|error| {
            tracing::error!(request = %id, %error, "a request cannot be read; nothing happens to it until it can");
            DenyReason::StoreFailed
        })?;
        let revived = stored.and_then(|row| Some((row.revision, self.revive(row.stored).ok()?)));
        let Some((revision, state)) = revived else {
            tracing::error!(request = %id, "a request is lost to a failing database; it will not be granted");
            return Err(DenyReason::NotFound);
        };
        held.revision = revision;
        self.index(id, held, &state);
        held.state = Some(state);
        Ok(())
    }

    fn index(&self, id: RequestId, held: &mut Held, state: &State) {
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        let tickets: Vec<Digest> = state.desk().map(|desk| desk.tickets().collect()).unwrap_or_default();
        for gone in held.tickets.iter().filter(|ticket| !tickets.contains(ticket)) {
            indexes.tickets.remove(gone);
        }
        for ticket in &tickets {
            indexes.tickets.insert(*ticket, id);
        }
        held.tickets = tickets;
        indexes.grants.insert(id.grant(), id);
        let open = state.desk().and_then(|desk| desk.lease());
        let leases = open.into_iter().chain(state.given().iter().map(|given| &given.lease));
        for lease in leases.chain(&state.case().let_go) {
            if indexes.claims.insert(lease.claim, id).is_none() {
                held.claims.push(lease.claim);
            }
        }
        if state.desk().is_some() {
            let case = state.case();
            indexes.begin_waiting(id, &case.request.request().host, case.request.requesters());
        } else {
            indexes.end_waiting(id);
        }
        self.metrics.waiting(indexes.waiting.len());
        indexes.of_host.entry(state.case().request.request().host.clone()).or_default().insert(id);
        let due = if state.is_final() { Some(self.forget_at(state)) } else { state.due() };
        if held.due != due {
            if let Some(before) = held.due {
                indexes.due.remove(&(before, id));
            }
            indexes.due.extend(due.map(|due| (due, id)));
            held.due = due;
        }
    }

    /// When a final request leaves memory: not before its host has heard what it must.
    fn forget_at(&self, state: &State) -> UnixTime {
        let keep = self.clock.now().plus(KEEP_S);
        state.certified().map_or(keep, |certified| keep.max(certified.not_after.plus(KEEP_S)))
    }

    fn entry(&self, id: RequestId) -> Option<Arc<Kept>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    // ---- looking --------------------------------------------------------------------------------

    /// Looks at a request's state.
    pub async fn look<T>(&self, id: RequestId, look: impl FnOnce(&State) -> T) -> Option<T> {
        let entry = self.entry(id)?;
        let held = entry.held.lock().await;
        held.state.as_ref().map(look)
    }

    /// Requests that wait for approvers.
    #[must_use]
    pub fn waiting(&self) -> Vec<RequestId> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner).waiting.keys().copied().collect()
    }

    /// Requests of a host.
    #[must_use]
    pub fn of_host(&self, host: &HostId) -> Vec<RequestId> {
        let indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.of_host.get(host).map(|requests| requests.iter().copied().collect()).unwrap_or_default()
    }

    /// Whether this request is this host's.
    #[must_use]
    pub fn is_of_host(&self, id: RequestId, host: &HostId) -> bool {
        self.entry(id).is_some_and(|entry| entry.host == *host)
    }

    /// The request of a grant; one that was forgotten is taken from the database again.
    ///
    /// # Errors
    /// [`DenyReason::NotFound`], [`DenyReason::StoreFailed`].
    pub fn request_of_grant(&self, grant: GrantId) -> Result<RequestId, DenyReason> {
        let known = self.indexes.lock().unwrap_or_else(PoisonError::into_inner).grants.get(&grant).copied();
        if let Some(id) = known {
            return Ok(id);
        }
        let id = self.store.request_of_grant(grant).map_err(|_| DenyReason::StoreFailed)?;
        let id = id.ok_or(DenyReason::NotFound)?;
        let row = self.store.request(id).map_err(|_| DenyReason::StoreFailed)?.ok_or(DenyReason::NotFound)?;
        let state = self.revive(row.stored).map_err(|_| DenyReason::NotFound)?;
        self.insert(state, row.revision);
        Ok(id)
    }

    /// The request that shows this ticket.
    #[must_use]
    pub fn request_of_ticket(&self, ticket: &Digest) -> Option<RequestId> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner).tickets.get(ticket).copied()
    }

    /// The request under this claim.
    #[must_use]
    pub fn request_of_claim(&self, claim: &Digest) -> Option<RequestId> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner).claims.get(claim).copied()
    }

    // ---- telling --------------------------------------------------------------------------------

    fn tell_all(&self, host: &HostId, id: RequestId, tells: Vec<Tell>) {
        for tell in tells {
            match tell {
                Tell::Module(event) => self.tell(host, id, event),
                Tell::Order(order) => self.order(host, id, order),
            }
        }
    }

    /// Tells a module.
    pub fn tell(&self, host: &HostId, request: RequestId, event: ToModule) {
        let message = match event {
            ToModule::Event(event) => GatewayMessage::Module(ForModule { request, event }).into(),
            ToModule::Granted { certificate, evidence } => {
                Outgoing::Granted { request, certificate, evidence, crl: self.crl() }
            }
        };
        self.hub.send(host, message);
    }

    fn order(&self, host: &HostId, id: RequestId, order: EndOrder) {
        self.hub.send(host, GatewayMessage::EndGrant(EndGrant { grant: id.grant(), order }).into());
    }

    /// Repeats every order that a host must still hear: it has just connected.
    pub async fn repeat_orders(&self, host: &HostId) {
        let now = self.clock.now();
        for id in self.of_host(host) {
            if let Some(Some(order)) = self.look(id, |state| state.open_order(now)).await {
                self.order(host, id, order);
            }
        }
    }

    // ---- time -----------------------------------------------------------------------------------

    /// Lets time pass for every request for which something is due, and forgets what is long over.
    /// A clock that was set back makes everything due: nothing may wait for a moment that was.
    pub async fn tick(self: &Arc<Self>) {
        let now = self.clock.now();
        let last = UnixTime(self.last_tick.swap(now.0, Ordering::SeqCst));
        let due: Vec<(UnixTime, RequestId)> = {
            let indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
            indexes.due.iter().take_while(|(due, _)| now < last || *due <= now).copied().collect()
        };
        for (due, id) in due {
            match self.look(id, State::is_final).await {
                // A refusal here is a failing database, already logged; the next tick tries again.
                Some(false) => drop(self.apply(id, Event::Tick).await),
                Some(true) if due > now => {}
                Some(true) => self.forget(id, due).await,
                // There, but a read failed: taken from the database again, or forgotten when it
                // holds nothing that is believed.
                None if self.entry(id).is_some() => {
                    if self.apply(id, Event::Tick).await == Err(DenyReason::NotFound) {
                        self.forget(id, due).await;
                    }
                }
                None => self.forget(id, due).await,
            }
        }
    }

    async fn forget(&self, id: RequestId, due: UnixTime) {
        let entry = self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let held = match &entry {
            Some(entry) => Some(entry.held.lock().await),
            None => None,
        };
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.due.remove(&(due, id));
        indexes.grants.remove(&id.grant());
        indexes.end_waiting(id);
        let (Some(entry), Some(held)) = (&entry, held) else { return };
        if let Some(due) = held.due {
            indexes.due.remove(&(due, id));
        }
        for ticket in &held.tickets {
            indexes.tickets.remove(ticket);
        }
        for claim in &held.claims {
            indexes.claims.remove(claim);
        }
        if let Some(requests) = indexes.of_host.get_mut(&entry.host) {
            requests.remove(&id);
        }
    }

    /// Done when a new revocation list is due: something was revoked.
    pub async fn crl_due(&self) {
        self.crl_due.notified().await;
    }

    /// When the current list should be replaced even if nothing is revoked: half of its life.
    #[must_use]
    pub fn crl_renewal(&self) -> UnixTime {
        let crl = self.crl();
        crl.this_update.plus(crl.next_update.since(crl.this_update) / 2)
    }

    /// Makes and publishes a new revocation list.
    ///
    /// # Errors
    /// [`EngineError`]; the old list stays.
    pub async fn publish_crl(&self) -> Result<(), EngineError> {
        let revocations = self.store.revocations()?;
        let crl = self.issuer.crl(Some(self.crl().number), self.clock.now(), &revocations)?;
        let published = audit::Event::CrlIssued { number: crl.number, entries: revocations.len() as u64 };
        self.commit(Work::PublishCrl(crl.clone()), vec![published]).await?;
        self.metrics.crl(crl.number, crl.next_update);
        *self.crl.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(crl);
        Ok(())
    }
}

/// Something for a module; a grant gets the revocation list of the moment it is sent.
#[derive(Clone, Debug)]
pub enum ToModule {
    /// As it is.
    Event(ModuleEvent),
    /// A grant.
    Granted {
        /// DER.
        certificate: twinlock_protocol::Bytes,
        /// The evidence's bytes.
        evidence: twinlock_protocol::Bytes,
    },
}

enum Tell {
    Module(ToModule),
    Order(EndOrder),
}

/// Effects, sorted into what is committed and what is told afterwards.
struct Plan {
    changes: Vec<Change>,
    events: Vec<audit::Event>,
    tells: Vec<Tell>,
}

impl Plan {
    fn of(effects: &[Effect]) -> Self {
        let mut plan = Self { changes: Vec::new(), events: Vec::new(), tells: Vec::new() };
        for effect in effects.iter().cloned() {
            match effect {
                Effect::Audit(event) => plan.events.push(event),
                Effect::KeepStatement { person, decision, signed } => {
                    plan.changes.push(Change::Statement { person, decision, signed });
                }
                Effect::VoidStatement(person) => plan.changes.push(Change::Void(person)),
                Effect::KeepCertificate(certified) => plan.changes.push(Change::Certificate(certified)),
                Effect::KeepRecord(record) => plan.changes.push(Change::Record(record)),
                Effect::KeepEnd(note) => plan.changes.push(Change::End(note)),
                Effect::Revoke { serial, because, .. } => {
                    plan.changes.push(Change::Revocation { serial, because });
                }
                Effect::Tell(event) => plan.tells.push(Tell::Module(ToModule::Event(event))),
                Effect::TellGranted(certified) => plan.tells.push(Tell::Module(ToModule::Granted {
                    certificate: certified.certificate,
                    evidence: certified.evidence,
                })),
                Effect::Order(order) => plan.tells.push(Tell::Order(order)),
                Effect::Issue => {}
            }
        }
        plan
    }

    /// Tickets and the time alone are not worth a write: after a restart fresh tickets are shown.
    fn must_commit(&self) -> bool {
        !self.changes.is_empty() || !self.events.is_empty()
    }
}

fn row_of(state: &State) -> StateRow {
    StateRow { name: state.name(), is_final: state.is_final(), snapshot: Snapshot::of(state) }
}
