//! The papers of the roster's life (proposals, invites, host tokens) in memory and in the database.
//! There is one lock and one commit, and memory is changed in one place: after the commit, in a task
//! that no caller can drop. So memory is never behind the database for long; after a commit that
//! failed, whatever the reason, it is read anew before anything else happens.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedMutexGuard;
use twinlock_protocol::roster::VerifiedRoster;
use twinlock_protocol::{Bytes, DenyReason, Fixed, UnixTime, codec};

use super::enrolment::Attempt;
use super::hosts::HostToken;
use super::invite::Invite;
use super::keeper::Changes;
use super::proposal::{Proposal, ProposalAtRest};
use super::restoration::Restore;
use crate::audit::Event;
use crate::random::random;
use crate::store::{LifeChange, PaperKind, PaperRow, Store, StoreError, Transaction, Work};

/// What is over is still told of for this long, in seconds.
pub(super) const LINGER_S: u64 = 3600;
/// Proposals that are over and still told of.
const OVER: usize = 256;

/// What rests in the database, one row each.
pub(super) trait Paper: Sized {
    const KIND: PaperKind;
    fn id(&self) -> Fixed<16>;
    fn is_over(&self, now: UnixTime) -> bool;
    /// Until when it can matter; it is told of for [`LINGER_S`] more.
    fn until(&self) -> UnixTime;
    fn body(&self) -> Bytes;
    fn read(body: &Bytes, head: &VerifiedRoster) -> Result<Self, StoreError>;
}

fn decode<T: DeserializeOwned>(what: &'static str, body: &Bytes) -> Result<T, StoreError> {
    serde_json::from_slice(&body.0).map_err(|error| {
        tracing::error!(%error, what, "a stored paper");
        StoreError::Corrupt(what)
    })
}

fn encode<T: Serialize>(value: &T) -> Bytes {
    Bytes(codec::encode(value))
}

impl Paper for Proposal {
    const KIND: PaperKind = PaperKind::Proposal;

    fn id(&self) -> Fixed<16> {
        self.id
    }

    fn is_over(&self, _now: UnixTime) -> bool {
        !self.is_open()
    }

    fn until(&self) -> UnixTime {
        self.expires_at
    }

    fn body(&self) -> Bytes {
        encode(&self.at_rest())
    }

    fn read(body: &Bytes, head: &VerifiedRoster) -> Result<Self, StoreError> {
        decode::<ProposalAtRest>("proposal", body).map(|at_rest| at_rest.revive(head))
    }
}

impl Paper for Invite {
    const KIND: PaperKind = PaperKind::Invite;

    fn id(&self) -> Fixed<16> {
        self.id
    }

    fn is_over(&self, now: UnixTime) -> bool {
        Self::is_over(self, now)
    }

    fn until(&self) -> UnixTime {
        self.told_until()
    }

    fn body(&self) -> Bytes {
        encode(self)
    }

    fn read(body: &Bytes, _head: &VerifiedRoster) -> Result<Self, StoreError> {
        decode("invite", body)
    }
}

impl Paper for HostToken {
    const KIND: PaperKind = PaperKind::HostToken;

    fn id(&self) -> Fixed<16> {
        self.id
    }

    /// One that is used still answers its own host.
    fn is_over(&self, now: UnixTime) -> bool {
        now >= self.told_until()
    }

    fn until(&self) -> UnixTime {
        self.told_until()
    }

    fn body(&self) -> Bytes {
        encode(self)
    }

    fn read(body: &Bytes, _head: &VerifiedRoster) -> Result<Self, StoreError> {
        decode("host token", body)
    }
}

struct Kept<T> {
    value: Arc<T>,
    revision: u64,
}

/// Papers of one kind, oldest first.
pub(super) struct Shelf<T>(Vec<Kept<T>>);

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Paper> Shelf<T> {
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<T>> {
        self.0.iter().map(|kept| &kept.value)
    }

    pub(super) fn find(&self, id: &Fixed<16>) -> Option<&Arc<T>> {
        self.iter().find(|one| one.id() == *id)
    }

    fn load(store: &dyn Store, head: &VerifiedRoster, now: UnixTime) -> Result<Self, StoreError> {
        let mut shelf = Vec::new();
        for (_, revision, body) in store.papers(T::KIND, now)? {
            shelf.push(Kept { value: Arc::new(T::read(&body, head)?), revision });
        }
        Ok(Self(shelf))
    }

    fn row(&self, value: &T, now: UnixTime) -> LifeChange {
        let id = value.id();
        LifeChange::Paper(PaperRow {
            kind: T::KIND,
            id,
            replaces: self.0.iter().find(|kept| kept.value.id() == id).map(|kept| kept.revision),
            is_over: value.is_over(now),
            until: value.until().plus(LINGER_S),
            body: value.body(),
        })
    }

    fn put(&mut self, value: T) {
        let id = value.id();
        match self.0.iter_mut().find(|kept| kept.value.id() == id) {
            Some(kept) => *kept = Kept { value: Arc::new(value), revision: kept.revision.saturating_add(1) },
            None => self.0.push(Kept { value: Arc::new(value), revision: 0 }),
        }
    }

    /// Forgets what nobody is told of any more; gives whether there was any.
    fn drop_old(&mut self, now: UnixTime, is_open: impl Fn(&T) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|kept| is_open(&kept.value) || now < kept.value.until().plus(LINGER_S));
        self.0.len() < before
    }
}

/// What goes into one transaction, and into memory after it.
#[derive(Default)]
pub(super) struct Moves {
    pub(super) proposals: Vec<Proposal>,
    pub(super) invites: Vec<Invite>,
    pub(super) tokens: Vec<HostToken>,
    /// What else changes in the database: a sealed version, sign-ins that end.
    pub(super) more: Vec<LifeChange>,
    pub(super) events: Vec<Event>,
}

impl Moves {
    /// One event.
    pub(super) fn telling(event: Event) -> Self {
        Self { events: vec![event], ..Self::default() }
    }
}

/// Everything under the one lock.
#[derive(Default)]
pub(super) struct Held {
    pub(super) proposals: Shelf<Proposal>,
    pub(super) invites: Shelf<Invite>,
    pub(super) tokens: Shelf<HostToken>,
    pub(super) attempts: HashMap<Fixed<16>, Attempt>,
    pub(super) restores: HashMap<Fixed<16>, Restore>,
    /// A commit failed: what the database holds is not known.
    doubtful: bool,
    /// The database may hold what is forgotten here.
    pub(super) has_old: bool,
}

impl Held {
    pub(super) fn load(store: &dyn Store, head: &VerifiedRoster, now: UnixTime) -> Result<Self, StoreError> {
        let mut held = Self { has_old: true, ..Self::default() };
        held.reload(store, head, now)?;
        Ok(held)
    }

    fn reload(&mut self, store: &dyn Store, head: &VerifiedRoster, now: UnixTime) -> Result<(), StoreError> {
        self.proposals = Shelf::load(store, head, now)?;
        self.invites = Shelf::load(store, head, now)?;
        self.tokens = Shelf::load(store, head, now)?;
        self.doubtful = false;
        Ok(())
    }

    fn drop_old(&mut self, now: UnixTime) {
        self.attempts.retain(|_, attempt| now < attempt.until);
        self.restores.retain(|_, restore| now < restore.until);
        self.has_old |= self.proposals.drop_old(now, Proposal::is_open);
        self.has_old |= self.invites.drop_old(now, |_| false);
        self.has_old |= self.tokens.drop_old(now, |_| false);
        let over = self.proposals.iter().filter(|one| !one.is_open()).count();
        let mut surplus = over.saturating_sub(OVER);
        self.proposals.0.retain(|kept| {
            let goes = surplus > 0 && !kept.value.is_open();
            surplus -= usize::from(goes);
            !goes
        });
    }
}

impl Changes {
    /// Does something with everything, once time and the head have made of it what they make of it.
    /// In a task of its own: a caller that hangs up between a commit and what follows it leaves
    /// nothing behind that is half done.
    pub(super) async fn with<T, E, F>(
        self: &Arc<Self>,
        act: impl FnOnce(Arc<Self>, OwnedMutexGuard<Held>) -> F + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DenyReason> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let changes = Arc::clone(self);
        let task = tokio::spawn(async move {
            let mut held = Arc::clone(&changes.held).lock_owned().await;
            if changes.refresh(&mut held).await.is_err() {
                // Once more, from what the database holds.
                changes.refresh(&mut held).await?;
            }
            act(changes, held).await
        });
        task.await.unwrap_or_else(|_| Err(DenyReason::Internal.into()))
    }

    /// Lets time pass, and computes on the head what was computed on an older one.
    pub(super) async fn refresh(&self, held: &mut Held) -> Result<(), DenyReason> {
        let now = self.engine.clock.now();
        if held.doubtful {
            // A version may have been sealed by the commit that seemed to fail.
            self.engine.catch_up().await?;
            self.approvers.end_sign_ins(&self.engine.roster());
            held.reload(&*self.engine.store, &self.engine.roster(), now).map_err(|error| {
                tracing::error!(%error, "papers could not be read again");
                DenyReason::StoreFailed
            })?;
        }
        let head = self.engine.roster();
        held.drop_old(now);
        let mut moves = Moves::default();
        for stale in held.proposals.iter().filter(|one| one.is_stale(&head, now)) {
            let mut value = Proposal::clone(stale);
            if value.pass_time(now) {
                moves.events.push(Event::ProposalExpired { proposal: value.id });
            } else if value.rebase(&head, now, Fixed(random()?))
                && let super::proposal::Phase::Void { why } = &value.phase
            {
                moves.events.push(Event::ProposalVoid { proposal: value.id, why: why.clone() });
            }
            moves.proposals.push(value);
        }
        if moves.proposals.is_empty() { Ok(()) } else { self.commit(held, moves).await }
    }

    /// Commits, then keeps. The only place where memory takes a change.
    pub(super) async fn commit(&self, held: &mut Held, moves: Moves) -> Result<(), DenyReason> {
        let now = self.engine.clock.now();
        let Moves { proposals, invites, tokens, more: mut changes, events } = moves;
        changes.extend(proposals.iter().map(|one| held.proposals.row(one, now)));
        changes.extend(invites.iter().map(|one| held.invites.row(one, now)));
        changes.extend(tokens.iter().map(|one| held.tokens.row(one, now)));
        let transaction = Transaction { at_ms: self.engine.clock.unix_ms(), work: Work::Life(changes), events };
        if let Err(error) = self.engine.store.commit(transaction).await {
            tracing::error!(%error, "a change of the roster was not committed");
            held.doubtful = true;
            return Err(DenyReason::StoreFailed);
        }
        proposals.into_iter().for_each(|one| held.proposals.put(one));
        invites.into_iter().for_each(|one| held.invites.put(one));
        tokens.into_iter().for_each(|one| held.tokens.put(one));
        Ok(())
    }
}
