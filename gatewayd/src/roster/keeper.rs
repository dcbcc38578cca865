//! Keeps proposals, invites and host tokens, and performs what their state machines say: one thing
//! at a time, commit first, tell afterwards. A seal is one transaction: the envelope, the proposal's
//! end and the audit events; only then is the new version the head. Decides nothing about who may
//! sign what: that is `protocol::roster`.

use std::sync::Arc;

use tokio::sync::Mutex;
use twinlock_protocol::ids::{DeviceId, PersonId};
use twinlock_protocol::roster::change::changes;
use twinlock_protocol::roster::{Roster, Standing, Step, VerifiedRoster};
use twinlock_protocol::statement::SignedStatement;
use twinlock_protocol::{Bytes, DenyReason, Fixed};

use super::Link;
use super::invite::Invite;
use super::op::{Op, OpError};
use super::papers::{Held, Moves};
use super::proposal::{PROPOSAL_VALID_S, Proposal, ProposalId, Proposer, Signed, TAP_VALID_S};
use crate::approval::{Approvers, SignedIn};
use crate::audit::Event;
use crate::enrol::passkey::Registrar;
use crate::random::random;
use crate::serve::Engine;
use crate::store::{LifeChange, StoreError};

/// Of each kind (proposals, invites) open at the same time: of everybody but the administrator.
const OPEN: usize = 256;
/// The same of one person, so that nobody fills the places of all.
const OPEN_OF_ONE: usize = 16;
/// The same of the gateway's administrator.
const OPEN_OF_ADMIN: usize = 64;

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
    pub proposal: Arc<Proposal>,
    /// The head.
    pub head: Arc<VerifiedRoster>,
}

/// The changes of the roster.
pub struct Changes {
    pub(super) engine: Arc<Engine>,
    pub(super) approvers: Arc<Approvers>,
    pub(super) registrar: Registrar,
    pub(super) held: Arc<Mutex<Held>>,
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
        let held = Held::load(&*engine.store, &engine.roster(), engine.clock.now())?;
        Ok(Arc::new(Self { engine, approvers, registrar, held: Arc::new(Mutex::new(held)) }))
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Lets time pass, and forgets what nobody is told of any more.
    pub async fn tidy(self: &Arc<Self>) {
        let outcome = self.with(|changes, mut held| async move {
            if held.has_old {
                let forget = LifeChange::ForgetPapers { before: changes.engine.clock.now() };
                changes.commit(&mut held, Moves { more: vec![forget], ..Moves::default() }).await?;
                held.has_old = false;
            }
            Ok::<_, DenyReason>(())
        });
        if let Err(reason) = outcome.await {
            tracing::error!(%reason, "proposals could not be looked through");
        }
    }

    // ---- proposing ------------------------------------------------------------------------------

    /// Proposes operations. What is proposed already, by anybody, is not proposed twice where it
    /// suspends somebody.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn propose(self: &Arc<Self>, ops: Vec<Op>, by: Proposer) -> Result<ProposalId, ChangeError> {
        self.with(|changes, mut held| async move {
            changes.propose_in(&mut held, ops, by, PROPOSAL_VALID_S, Moves::default()).await
        })
        .await
    }

    /// A proposal, computed on the head, that is in `moves` now and nowhere else. One that an invite led
    /// to takes a place of whoever made the invite.
    pub(super) fn draw_up(
        &self,
        held: &Held,
        ops: Vec<Op>,
        by: Proposer,
        came_by: Option<&Invite>,
        valid_s: u64,
        moves: &mut Moves,
    ) -> Result<ProposalId, ChangeError> {
        let (head, now) = (self.engine.roster(), self.engine.clock.now());
        let id = Fixed(random().map_err(DenyReason::from)?);
        let salt = Fixed(random().map_err(DenyReason::from)?);
        let mut value = Proposal::new(id, ops, by, &head, salt, now, valid_s)?;
        value.contested = came_by.is_some_and(|invite| invite.contested);
        value.invited_by = came_by.map(|invite| invite.by.clone());
        let queue = queue_of(&value);
        let open = held.proposals.iter().filter(|one| one.is_open() && queue_of(one) == queue);
        match queue {
            Queue::Everything => check_room(value.on_behalf_of(), open.map(|one| one.on_behalf_of()))?,
            Queue::Suspensions if open.filter(|one| one.by == value.by).count() >= OPEN_OF_ONE => {
                return Err(DenyReason::RateLimited.into());
            }
            // One of each device: `finish_restore` sees to it.
            Queue::Suspensions | Queue::Restorations => {}
        }
        moves.events.push(Event::RosterProposed {
            proposal: id,
            by: value.by.to_string(),
            title: value.title(),
            version: head.version.saturating_add(1),
        });
        moves.proposals.push(value);
        Ok(id)
    }

    /// The same, committed with whatever else is in `moves`.
    pub(super) async fn propose_in(
        &self,
        held: &mut Held,
        ops: Vec<Op>,
        by: Proposer,
        valid_s: u64,
        mut moves: Moves,
    ) -> Result<ProposalId, ChangeError> {
        if let Some(same) = held.proposals.iter().find(|one| one.is_open() && is_suspension(&ops) && one.ops == ops) {
            return Ok(same.id);
        }
        let id = self.draw_up(held, ops, by, None, valid_s, &mut moves)?;
        self.commit(held, moves).await?;
        Ok(id)
    }

    /// Suspends somebody: alone where the rules allow it, else with a second person.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn suspend(self: &Arc<Self>, person: PersonId, by: Proposer) -> Result<ProposalId, ChangeError> {
        self.with(|changes, mut held| async move {
            if let Some(own) = by.person().cloned().filter(|own| *own != person) {
                let ops = vec![Op::Suspend { person: person.clone(), by: Some(own) }];
                match changes.propose_in(&mut held, ops, by.clone(), TAP_VALID_S, Moves::default()).await {
                    // Where one is not enough, two may do it.
                    Err(ChangeError::Op(OpError::Unsound(_))) => {}
                    outcome => return outcome,
                }
            }
            let ops = vec![Op::Suspend { person, by: None }];
            changes.propose_in(&mut held, ops, by, PROPOSAL_VALID_S, Moves::default()).await
        })
        .await
    }

    // ---- looking --------------------------------------------------------------------------------

    /// Open proposals, oldest first, with the head.
    ///
    /// # Errors
    /// [`DenyReason::StoreFailed`].
    pub async fn open_proposals(self: &Arc<Self>) -> Result<(Vec<Arc<Proposal>>, Arc<VerifiedRoster>), DenyReason> {
        self.with(|changes, held| async move {
            let open = held.proposals.iter().filter(|one| one.is_open()).map(Arc::clone);
            Ok((open.collect(), changes.engine.roster()))
        })
        .await
    }

    /// One proposal, open or just over.
    ///
    /// # Errors
    /// [`DenyReason::NotFound`], [`DenyReason::StoreFailed`].
    pub async fn proposal(self: &Arc<Self>, id: &ProposalId) -> Result<Seen, DenyReason> {
        let id = *id;
        self.with(move |changes, held| async move {
            let found = held.proposals.find(&id).ok_or(DenyReason::NotFound)?;
            Ok(Seen { proposal: Arc::clone(found), head: changes.engine.roster() })
        })
        .await
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
        let (signed_in, id) = (signed_in.clone(), *id);
        self.with(move |changes, mut held| async move {
            let outcome = changes.sign_here(&mut held, &signed_in, &id, signed).await;
            drop(held);
            if let Err(reason) = outcome {
                let person = signed_in.person.clone();
                changes.engine.metrics.refused(reason);
                // Counted always, written rarely: whoever is signed in could fill the log.
                if changes.engine.limits.is_signature_worth_a_row(&person) {
                    changes.engine.note(vec![Event::SignatureRefused { proposal: id, person, reason }]).await;
                }
            }
            outcome
        })
        .await
    }

    async fn sign_here(
        &self,
        held: &mut Held,
        signed_in: &SignedIn,
        id: &ProposalId,
        signed: SignedStatement,
    ) -> Result<SignOutcome, DenyReason> {
        let (person, device) = self.approvers.who(signed_in)?;
        let (now, head) = (self.engine.clock.now(), self.engine.roster());
        let mut value = Proposal::clone(held.proposals.find(id).ok_or(DenyReason::NotFound)?);
        let counted = Event::RosterSigned {
            person: person.id.clone(),
            digest: value.draft.as_ref().ok_or(DenyReason::ProposalOver)?.digest,
        };
        let outcome = value.sign(&head, &person, &device, signed, now)?;
        let draft = value.draft.as_ref().ok_or(DenyReason::Internal)?;
        let (version, needs, signatures) = (draft.next.version, draft.needs(), draft.signatures.len());
        let mut moves = Moves::telling(counted);
        let sealed = match outcome {
            Signed::Counted => {
                moves.proposals.push(value);
                self.commit(held, moves).await?;
                false
            }
            Signed::Complete { envelope, next } => {
                let signers: Vec<PersonId> = draft.signatures.iter().map(|one| one.person.clone()).collect();
                value.sealed(version, now);
                moves.events.extend(told(&head, &next, &signers));
                let envelope_bytes = Bytes(envelope.to_bytes());
                moves.more.push(LifeChange::Seal { version, digest: next.digest(), envelope: envelope_bytes });
                moves.more.extend(ended_sign_ins(&head, &next));
                moves.proposals.push(value);
                self.commit(held, moves).await?;
                tracing::info!(version, "a roster was sealed");
                self.approvers.end_sign_ins(&next);
                self.engine.adopt(Link::new(*next, *envelope)).await;
                true
            }
        };
        if sealed {
            // What is still open is computed on the new head now rather than when it is next asked for.
            // A failing database, already logged, leaves it to the next who asks.
            let _outcome = self.refresh(held).await;
        }
        Ok(SignOutcome { version, sealed, signatures, needs })
    }

    /// Declines a proposal, or takes it back.
    ///
    /// # Errors
    /// [`DenyReason::NotFound`], [`DenyReason::ProposalOver`], [`DenyReason::StoreFailed`];
    /// [`DenyReason::ApproverNotEligible`] as [`Proposal::check_withdraw`] says.
    pub async fn withdraw(self: &Arc<Self>, id: &ProposalId, by: &Proposer) -> Result<(), DenyReason> {
        let (id, by) = (*id, by.clone());
        self.with(move |changes, mut held| async move {
            let mut value = Proposal::clone(held.proposals.find(&id).ok_or(DenyReason::NotFound)?);
            value.withdraw(&changes.engine.roster(), &by, changes.engine.clock.now())?;
            let mut moves = Moves::telling(Event::ProposalWithdrawn { proposal: id, by: by.to_string() });
            moves.proposals.push(value);
            changes.commit(&mut held, moves).await
        })
        .await
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
}

/// Room for one more of these, beside those that are open.
pub(super) fn check_room<'a>(by: &Proposer, open: impl Iterator<Item = &'a Proposer>) -> Result<(), DenyReason> {
    let is_admin = |one: &Proposer| matches!(one, Proposer::Admin { .. });
    let is_mine = |one: &Proposer| match (one.person(), by.person()) {
        (Some(one), Some(own)) => one == own,
        _ => one == by,
    };
    let (mut mine, mut all) = (0_usize, 0_usize);
    for one in open.filter(|one| is_admin(one) == is_admin(by)) {
        all += 1;
        mine += usize::from(is_mine(one));
    }
    let has_room = if is_admin(by) { all < OPEN_OF_ADMIN } else { mine < OPEN_OF_ONE && all < OPEN };
    if has_room { Ok(()) } else { Err(DenyReason::RateLimited) }
}

/// What competes for places with what: nobody keeps others from suspending or being restored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Queue {
    Everything,
    Suspensions,
    Restorations,
}

fn queue_of(proposal: &Proposal) -> Queue {
    match proposal.draft.as_ref().map(|draft| &draft.step) {
        Some(Step::Restoration { .. }) => Queue::Restorations,
        _ if is_suspension(&proposal.ops) => Queue::Suspensions,
        Some(Step::Ordinary | Step::Suspension { .. }) | None => Queue::Everything,
    }
}

/// One person's suspension and nothing else.
fn is_suspension(ops: &[Op]) -> bool {
    matches!(ops, [Op::Suspend { .. }])
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
pub(crate) fn ended_sign_ins(before: &Roster, next: &Roster) -> Vec<LifeChange> {
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
