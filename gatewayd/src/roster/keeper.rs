//! Keeps proposals, invites and host tokens, and performs what their state machines say: one thing
//! at a time, commit first, tell afterwards. A seal is one transaction: the envelope, the proposal's
//! end and the audit events; only then is the new version the head. Decides nothing about who may
//! sign what: that is `protocol::roster`.

use std::collections::HashMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, MutexGuard};
use twinlock_protocol::ids::{DeviceId, PersonId};
use twinlock_protocol::roster::change::changes;
use twinlock_protocol::roster::{Roster, Standing, VerifiedRoster};
use twinlock_protocol::statement::SignedStatement;
use twinlock_protocol::{Bytes, DenyReason, Fixed, UnixTime, codec};

use super::Link;
use super::enrolment::{Attempt, Restore};
use super::invite::Invite;
use super::op::{Op, OpError};
use super::proposal::{Proposal, ProposalAtRest, ProposalId, Proposer, Signed, TAP_VALID_S};
use crate::approval::{Approvers, SignedIn};
use crate::audit::Event;
use crate::enrol::passkey::Registrar;
use crate::random::random;
use crate::serve::Engine;
use crate::store::{LifeChange, PaperKind, PaperRow, StoreError, Transaction, Work};

/// Open proposals, and open invites, at the same time.
const OPEN: usize = 64;
/// What is over is still told of for this long, in seconds.
pub(super) const LINGER_S: u64 = 3600;

/// A value with the revision at which it rests; none when it does not rest yet.
#[derive(Clone, Debug)]
pub(super) struct Kept<T> {
    pub(super) value: T,
    pub(super) revision: Option<u64>,
}

impl<T> Kept<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value, revision: None }
    }
}

/// Everything under the one lock.
#[derive(Default)]
pub(super) struct Held {
    pub(super) proposals: Vec<Kept<Proposal>>,
    pub(super) invites: Vec<Kept<Invite>>,
    pub(super) tokens: Vec<Kept<super::hosts::HostToken>>,
    pub(super) attempts: HashMap<Fixed<16>, Attempt>,
    pub(super) restores: HashMap<Fixed<16>, Restore>,
}

/// Why a change was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A refusal.
    #[error(transparent)]
    Refused(#[from] DenyReason),
    /// The operations do not fit the roster.
    #[error(transparent)]
    Op(#[from] OpError),
}

impl ChangeError {
    /// As the page hears it.
    pub fn reason(&self) -> DenyReason {
        match self {
            Self::Refused(reason) => *reason,
            Self::Op(_) => DenyReason::ProposalUnsound,
        }
    }
}

/// What a signature led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignOutcome {
    /// The version that it sealed, or is about to.
    pub version: u64,
    /// It is sealed.
    pub sealed: bool,
    /// Signatures so far.
    pub signatures: usize,
    /// Signatures that it takes.
    pub needs: usize,
}

/// A proposal with the head that it is to follow.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The proposal.
    pub proposal: Proposal,
    /// The head.
    pub head: Arc<VerifiedRoster>,
}

/// The changes of the roster.
pub struct Changes {
    pub(super) engine: Arc<Engine>,
    pub(super) approvers: Arc<Approvers>,
    pub(super) registrar: Registrar,
    held: Mutex<Held>,
}

impl Changes {
    /// With what the database holds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn start(
        engine: Arc<Engine>,
        approvers: Arc<Approvers>,
        registrar: Registrar,
    ) -> Result<Arc<Self>, StoreError> {
        let (now, head) = (engine.clock.now(), engine.roster());
        let mut held = Held::default();
        for (_, revision, body) in engine.store.papers(PaperKind::Proposal, now)? {
            let at_rest: ProposalAtRest = read("proposal", &body)?;
            held.proposals.push(Kept { value: at_rest.revive(&head), revision: Some(revision) });
        }
        for (_, revision, body) in engine.store.papers(PaperKind::Invite, now)? {
            held.invites.push(Kept { value: read("invite", &body)?, revision: Some(revision) });
        }
        for (_, revision, body) in engine.store.papers(PaperKind::HostToken, now)? {
            held.tokens.push(Kept { value: read("host token", &body)?, revision: Some(revision) });
        }
        Ok(Arc::new(Self { engine, approvers, registrar, held: Mutex::new(held) }))
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Everything, with what time and the head make of it.
    pub(super) async fn held(&self) -> Result<MutexGuard<'_, Held>, DenyReason> {
        let mut held = self.held.lock().await;
        self.refresh(&mut held).await?;
        Ok(held)
    }

    /// Lets time pass, and computes on the head what was computed on an older one.
    async fn refresh(&self, held: &mut Held) -> Result<(), DenyReason> {
        let (now, head) = (self.engine.clock.now(), self.engine.roster());
        held.attempts.retain(|_, attempt| now < attempt.until);
        held.restores.retain(|_, restore| now < restore.until);
        let linger = |until: UnixTime| now < until.plus(LINGER_S);
        held.proposals.retain(|one| one.value.is_open() || linger(one.value.expires_at));
        held.invites.retain(|one| linger(one.value.until));
        held.tokens.retain(|one| linger(one.value.until));
        for kept in &mut held.proposals {
            let mut value = kept.value.clone();
            let mut events = Vec::new();
            if value.pass_time(now) {
                events.push(Event::ProposalExpired { proposal: value.id });
            } else if value.rebase(&head, now, Fixed(random()?)) {
                if let super::proposal::Phase::Void { why } = &value.phase {
                    events.push(Event::ProposalVoid { proposal: value.id, why: why.clone() });
                }
            } else {
                continue;
            }
            self.commit(vec![paper(&Kept { value: value.clone(), revision: kept.revision })], events).await?;
            kept.revision = Some(kept.revision.map_or(0, |revision| revision.saturating_add(1)));
            kept.value = value;
        }
        Ok(())
    }

    /// Lets time pass.
    pub async fn tidy(&self) {
        if let Err(reason) = self.held().await.map(drop) {
            tracing::error!(%reason, "proposals could not be looked through");
        }
    }

    pub(super) async fn commit(&self, changes: Vec<LifeChange>, events: Vec<Event>) -> Result<(), DenyReason> {
        let transaction = Transaction { at_ms: self.engine.clock.unix_ms(), work: Work::Life(changes), events };
        self.engine.store.commit(transaction).await.map_err(|error| {
            tracing::error!(%error, "a change of the roster was not committed");
            DenyReason::StoreFailed
        })
    }

    // ---- proposing ------------------------------------------------------------------------------

    /// Proposes operations.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn propose(&self, ops: Vec<Op>, by: Proposer) -> Result<ProposalId, ChangeError> {
        let mut held = self.held().await?;
        self.propose_in(&mut held, ops, by, super::proposal::PROPOSAL_VALID_S, Vec::new(), Vec::new()).await
    }

    /// The same, under the lock, with other papers and events that go into the same transaction.
    pub(super) async fn propose_in(
        &self,
        held: &mut Held,
        ops: Vec<Op>,
        by: Proposer,
        valid_s: u64,
        mut papers: Vec<LifeChange>,
        mut events: Vec<Event>,
    ) -> Result<ProposalId, ChangeError> {
        if held.proposals.iter().filter(|one| one.value.is_open()).count() >= OPEN {
            return Err(DenyReason::RateLimited.into());
        }
        let (head, now) = (self.engine.roster(), self.engine.clock.now());
        let id = Fixed(random().map_err(DenyReason::from)?);
        let salt = Fixed(random().map_err(DenyReason::from)?);
        let value = Proposal::new(id, ops, by, &head, salt, now, valid_s)?;
        events.push(Event::RosterProposed {
            proposal: id,
            by: value.by.to_string(),
            title: value.title(),
            version: head.version.saturating_add(1),
        });
        let mut kept = Kept::new(value);
        papers.push(paper(&kept));
        self.commit(papers, events).await?;
        kept.revision = Some(0);
        held.proposals.push(kept);
        Ok(id)
    }

    /// Suspends somebody: alone where the rules allow it, else with a second person.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn suspend(&self, person: PersonId, by: Proposer) -> Result<ProposalId, ChangeError> {
        let mut held = self.held().await?;
        let alone = by.person().cloned().filter(|own| *own != person);
        // Asked for twice, it is the same.
        let open = held.proposals.iter().find(|one| {
            let same = |op: &Op| matches!(op, Op::Suspend { person: whom, by } if *whom == person && *by == alone);
            one.value.is_open() && one.value.ops.len() == 1 && one.value.ops.iter().all(same)
        });
        if let (Some(open), Some(_)) = (open, &alone) {
            return Ok(open.value.id);
        }
        if let Some(own) = alone {
            let ops = vec![Op::Suspend { person: person.clone(), by: Some(own) }];
            match self.propose_in(&mut held, ops, by.clone(), TAP_VALID_S, Vec::new(), Vec::new()).await {
                // Where one is not enough, two may do it.
                Err(ChangeError::Op(OpError::Unsound(_))) => {}
                outcome => return outcome,
            }
        }
        let ops = vec![Op::Suspend { person, by: None }];
        self.propose_in(&mut held, ops, by, super::proposal::PROPOSAL_VALID_S, Vec::new(), Vec::new()).await
    }

    // ---- looking --------------------------------------------------------------------------------

    /// Open proposals, oldest first, with the head.
    ///
    /// # Errors
    /// [`DenyReason::StoreFailed`].
    pub async fn open_proposals(&self) -> Result<(Vec<Proposal>, Arc<VerifiedRoster>), DenyReason> {
        let held = self.held().await?;
        let open = held.proposals.iter().filter(|one| one.value.is_open()).map(|one| one.value.clone());
        Ok((open.collect(), self.engine.roster()))
    }

    /// One proposal, open or just over.
    ///
    /// # Errors
    /// [`DenyReason::NotFound`], [`DenyReason::StoreFailed`].
    pub async fn proposal(&self, id: &ProposalId) -> Result<Seen, DenyReason> {
        let held = self.held().await?;
        let found = held.proposals.iter().find(|one| one.value.id == *id).ok_or(DenyReason::NotFound)?;
        Ok(Seen { proposal: found.value.clone(), head: self.engine.roster() })
    }

    // ---- signing --------------------------------------------------------------------------------

    /// Takes a person's signature; with the last one the next version is sealed, committed and told
    /// to every host before this returns. Runs to its end even when the caller stops waiting.
    ///
    /// # Errors
    /// The verifier's reason, [`DenyReason::ProposalOver`], [`DenyReason::ProposalChanged`],
    /// [`DenyReason::AlreadyApproved`], [`DenyReason::StoreFailed`].
    pub async fn sign(
        self: &Arc<Self>,
        signed_in: &SignedIn,
        id: &ProposalId,
        signed: SignedStatement,
    ) -> Result<SignOutcome, DenyReason> {
        let (changes, signed_in, id) = (Arc::clone(self), signed_in.clone(), *id);
        let task = tokio::spawn(async move {
            let outcome = changes.sign_here(&signed_in, &id, signed).await;
            if let Err(reason) = outcome {
                let person = signed_in.person.clone();
                changes.engine.metrics.refused(reason);
                changes.engine.note(vec![Event::SignatureRefused { proposal: id, person, reason }]).await;
            }
            outcome
        });
        task.await.unwrap_or(Err(DenyReason::Internal))
    }

    async fn sign_here(
        &self,
        signed_in: &SignedIn,
        id: &ProposalId,
        signed: SignedStatement,
    ) -> Result<SignOutcome, DenyReason> {
        let (person, device) = self.approvers.who(signed_in)?;
        let mut held = self.held().await?;
        let (now, head) = (self.engine.clock.now(), self.engine.roster());
        let kept = held.proposals.iter_mut().find(|one| one.value.id == *id).ok_or(DenyReason::NotFound)?;
        let mut value = kept.value.clone();
        let counted = Event::RosterSigned {
            person: person.id.clone(),
            digest: value.draft.as_ref().ok_or(DenyReason::ProposalOver)?.digest,
        };
        let outcome = value.sign(&head, &person, &device, signed, now)?;
        let draft = value.draft.as_ref().ok_or(DenyReason::Internal)?;
        let (version, needs, signatures) = (draft.next.version, draft.needs(), draft.signatures.len());
        let sealed = match outcome {
            Signed::Counted => {
                self.commit(vec![paper(&Kept { value: value.clone(), revision: kept.revision })], vec![counted])
                    .await?;
                false
            }
            Signed::Complete { envelope, next } => {
                let signers: Vec<PersonId> = draft.signatures.iter().map(|one| one.person.clone()).collect();
                value.sealed(version);
                let mut events = vec![counted];
                events.extend(told(&head, &next, &signers));
                let mut work = vec![
                    LifeChange::Seal { version, digest: next.digest(), envelope: Bytes(envelope.to_bytes()) },
                    paper(&Kept { value: value.clone(), revision: kept.revision }),
                ];
                work.extend(ended_sign_ins(&head, &next));
                self.commit(work, events).await?;
                tracing::info!(version, "a roster was sealed");
                self.approvers.end_sign_ins(&head, &next);
                self.engine.adopt(Link::new(*next, *envelope)).await;
                true
            }
        };
        kept.revision = Some(kept.revision.map_or(0, |revision| revision.saturating_add(1)));
        kept.value = value;
        if sealed {
            self.refresh(&mut held).await?;
        }
        Ok(SignOutcome { version, sealed, signatures, needs })
    }

    /// Declines a proposal, or takes it back.
    ///
    /// # Errors
    /// [`DenyReason::NotFound`], [`DenyReason::ProposalOver`], [`DenyReason::StoreFailed`].
    pub async fn withdraw(&self, id: &ProposalId, by: &Proposer) -> Result<(), DenyReason> {
        let mut held = self.held().await?;
        let kept = held.proposals.iter_mut().find(|one| one.value.id == *id).ok_or(DenyReason::NotFound)?;
        let mut value = kept.value.clone();
        value.withdraw()?;
        let event = Event::ProposalWithdrawn { proposal: *id, by: by.to_string() };
        self.commit(vec![paper(&Kept { value: value.clone(), revision: kept.revision })], vec![event]).await?;
        kept.revision = Some(kept.revision.map_or(0, |revision| revision.saturating_add(1)));
        kept.value = value;
        Ok(())
    }

    /// Whether this person may sign rosters at all, with this device; the same people may propose,
    /// invite and decline.
    ///
    /// # Errors
    /// [`DenyReason::ApproverNotEligible`], [`DenyReason::AssuranceTooLow`],
    /// [`DenyReason::ModelNotListed`], [`DenyReason::SignInNeeded`].
    pub fn check_may_change(&self, signed_in: &SignedIn) -> Result<(), DenyReason> {
        let (person, device) = self.approvers.who(signed_in)?;
        let head = self.engine.roster();
        if !head.approvers().iter().any(|one| one.id == person.id) {
            return Err(DenyReason::ApproverNotEligible);
        }
        head.rules.check_device(&device)
    }

    /// Room for one more of these.
    pub(super) fn check_room(open: usize) -> Result<(), DenyReason> {
        if open < OPEN { Ok(()) } else { Err(DenyReason::RateLimited) }
    }
}

fn read<T: DeserializeOwned>(what: &'static str, body: &Bytes) -> Result<T, StoreError> {
    serde_json::from_slice(&body.0).map_err(|error| {
        tracing::error!(%error, what, "a stored paper");
        StoreError::Corrupt(what)
    })
}

/// A proposal for the database.
pub(super) fn paper(kept: &Kept<Proposal>) -> LifeChange {
    let Kept { value, revision } = kept;
    LifeChange::Paper(PaperRow {
        kind: PaperKind::Proposal,
        id: value.id,
        replaces: *revision,
        is_over: !value.is_open(),
        until: value.expires_at.plus(LINGER_S),
        body: Bytes(codec::encode(&value.at_rest())),
    })
}

/// What the audit log says of a sealed version.
fn told(before: &VerifiedRoster, next: &VerifiedRoster, signers: &[PersonId]) -> Vec<Event> {
    let sealed = Event::RosterSealed {
        version: next.version,
        digest: next.digest(),
        previous: before.digest(),
        signers: signers.to_vec(),
        changes: changes(before, next).iter().map(twinlock_protocol::roster::change::Change::to_line).collect(),
    };
    let mut events = vec![sealed];
    for person in &next.persons {
        let was = before.person(&person.id).map_or(&Standing::Active, |was| &was.standing);
        let (person_id, by) = (person.id.clone(), signers.to_vec());
        match (was, &person.standing) {
            (Standing::Active, Standing::Suspended(_)) => events.push(Event::PersonSuspended { person: person_id, by }),
            (Standing::Suspended(_), Standing::Active) => events.push(Event::PersonLifted { person: person_id, by }),
            (Standing::Active, Standing::Active) | (Standing::Suspended(_), Standing::Suspended(_)) => {}
        }
    }
    let is_known = |device: &DeviceId| before.persons.iter().flat_map(|one| &one.devices).any(|one| one.id == *device);
    for person in &next.persons {
        for device in person.devices.iter().filter(|device| !is_known(&device.id)) {
            let (person, device, assurance) = (person.id.clone(), device.id.clone(), device.assurance());
            events.push(Event::DeviceEnrolled { person, device, assurance });
        }
    }
    events
}

/// Sign-ins that the next version ends: of persons who left or were suspended, on devices that left.
fn ended_sign_ins(before: &Roster, next: &Roster) -> Vec<LifeChange> {
    let mut ended = Vec::new();
    for person in &before.persons {
        let now = next.person(&person.id).filter(|now| now.standing == Standing::Active);
        match now {
            None => ended.push(LifeChange::EndSignIns { person: person.id.clone(), device: None }),
            Some(now) => {
                ended.extend(person.devices.iter().filter(|device| !now.devices.iter().any(|one| one == *device)).map(
                    |device| LifeChange::EndSignIns { person: person.id.clone(), device: Some(device.id.clone()) },
                ))
            }
        }
    }
    ended
}
