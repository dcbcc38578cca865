//! Enrolment by invite at a running gateway, and device keys that browsers dropped. Both end in a
//! proposal: what is enrolled here counts for nothing until other people have signed it.

use twinlock_protocol::digest::{Digest, Domain};
use twinlock_protocol::ids::{DeviceId, PersonId, Ticket};
use twinlock_protocol::roster::{ClientClass, Device, Roster};
use twinlock_protocol::signature::{self, PublicKey};
use twinlock_protocol::statement::{PossessionStatement, SignedStatement};
use twinlock_protocol::{Bytes, DenyReason, Fixed, UnixTime, codec, escape, limits};

use super::invite::{INVITE_VALID_S, Invite, Newcomer, Opening, Phase, possession};
use super::keeper::{ChangeError, Changes, Held, Kept, LINGER_S};
use super::op::{Op, apply};
use super::proposal::{self, PROPOSAL_VALID_S, ProposalId, Proposer};
use crate::approval::{SignInFinish, Source};
use crate::audit::Event;
use crate::enrol::passkey::{Creation, DeviceKey, NewPasskey, Pending, Registration, TIMEOUT};
use crate::random::random;
use crate::store::{LifeChange, PaperKind, PaperRow};

/// Registrations of one invite that are under way.
const ATTEMPTS: usize = 8;
/// Restorations that are under way, of everybody.
const RESTORES: usize = 256;
/// Characters of a device id that are random.
const ID_TAIL: usize = 6;

/// A registration under way, in this process only.
pub(super) struct Attempt {
    invite: Fixed<16>,
    pending: Option<Pending>,
    pub(super) until: UnixTime,
}

/// A device whose browser made a new key.
pub(super) struct Restore {
    person: PersonId,
    /// As it will stand in the roster.
    device: Device,
    salt: Fixed<32>,
    proposal: Option<ProposalId>,
    pub(super) until: UnixTime,
}

/// An invite, told once.
#[derive(Clone, Debug)]
pub struct NewInvite {
    /// Its id.
    pub id: Fixed<16>,
    /// The secret of its link; kept only as a hash.
    pub secret: Ticket,
    /// For whom.
    pub person: PersonId,
    /// Their name.
    pub name: String,
    /// Until when.
    pub until: UnixTime,
}

/// How far an enrolment or a restoration is, for its own browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// To register.
    Enrol,
    /// To prove possession.
    Possess,
    /// Others are to sign.
    Wait,
    /// It is in the roster.
    Sealed,
    /// Declined, cancelled or out of time.
    Declined,
}

/// The answer to an opened link.
#[derive(Debug)]
pub struct OpenedInvite {
    /// The registration's id.
    pub enrol: Fixed<16>,
    /// For whom.
    pub person: PersonId,
    /// Their name.
    pub name: String,
    /// What comes next.
    pub state: Progress,
    /// For `navigator.credentials.create`.
    pub creation: Option<Creation>,
}

/// What a browser signs to prove that it holds a device's keys.
#[derive(Clone, Debug)]
pub struct ToProve {
    /// The device.
    pub device: Device,
    /// Its record's bytes, as they will stand in the roster.
    pub record: Bytes,
    /// The statement's fields.
    pub statement: PossessionStatement,
}

/// How far an enrolment is.
#[derive(Clone, Debug)]
pub struct EnrolStatus {
    /// The next step.
    pub state: Progress,
    /// Signatures so far.
    pub signed: usize,
    /// Signatures that it takes.
    pub needs: usize,
    /// The device's record, once there is one.
    pub record: Option<Bytes>,
}

/// A browser that wants its device key restored.
#[derive(Clone, Debug)]
pub struct RestoreStart {
    /// A sign-in's challenge, signed by the passkey.
    pub sign_in: SignInFinish,
    /// The new device key, and its proof.
    pub device_key: DeviceKey,
}

impl Changes {
    // ---- invites --------------------------------------------------------------------------------

    /// Makes an invite. `newcomer` exactly when the roster does not have the person.
    ///
    /// # Errors
    /// [`ChangeError`]; [`DenyReason::BadInput`] for a newcomer who is no newcomer.
    pub async fn invite(
        &self,
        person: PersonId,
        newcomer: Option<Newcomer>,
        by: Proposer,
    ) -> Result<NewInvite, ChangeError> {
        let mut held = self.held().await?;
        let (head, now) = (self.engine.roster(), self.engine.clock.now());
        Self::check_room(held.invites.iter().filter(|one| one.value.is_usable(now)).count())?;
        let name = match (&newcomer, head.person(&person)) {
            (None, Some(known)) => known.name.clone(),
            (Some(new), None) => {
                // Would it be sound? Said now rather than after somebody has enrolled.
                apply(&head, &[Op::AddPerson { person: Box::new(new.person(&person)) }], now)?;
                new.name.clone()
            }
            (None, None) => return Err(DenyReason::NotFound.into()),
            (Some(_), Some(_)) => return Err(DenyReason::BadInput.into()),
        };
        let secret = Ticket::from_random(&random().map_err(DenyReason::from)?);
        let mut kept = Kept::new(Invite {
            id: Fixed(random().map_err(DenyReason::from)?),
            secret: secret.hash(),
            person: person.clone(),
            name: name.clone(),
            newcomer,
            by: by.clone(),
            until: now.plus(INVITE_VALID_S),
            handle: Fixed(random().map_err(DenyReason::from)?),
            contested: false,
            phase: Phase::Open {},
        });
        let made = Event::InviteMade { invite: kept.value.id, person: person.clone(), by: by.to_string() };
        self.commit(vec![paper(&kept, now)], vec![made]).await?;
        kept.revision = Some(0);
        let (id, until) = (kept.value.id, kept.value.until);
        held.invites.push(kept);
        Ok(NewInvite { id, secret, person, name, until })
    }

    /// Invites that are not over.
    ///
    /// # Errors
    /// [`DenyReason::StoreFailed`].
    pub async fn open_invites(&self) -> Result<Vec<Invite>, DenyReason> {
        let held = self.held().await?;
        let now = self.engine.clock.now();
        Ok(held.invites.iter().filter(|one| one.value.is_usable(now)).map(|one| one.value.clone()).collect())
    }

    /// Takes an invite back.
    ///
    /// # Errors
    /// [`DenyReason::NotFound`], [`DenyReason::InviteInvalid`], [`DenyReason::StoreFailed`].
    pub async fn cancel_invite(&self, id: &Fixed<16>, by: &Proposer) -> Result<(), DenyReason> {
        let mut held = self.held().await?;
        let index = held.invites.iter().position(|one| one.value.id == *id).ok_or(DenyReason::NotFound)?;
        self.step(&mut held, index, |invite, _| {
            invite.cancel()?;
            let (invite, person) = (invite.id, invite.person.clone());
            Ok(((), vec![Event::InviteCancelled { invite, person, by: by.to_string() }]))
        })
        .await
    }

    /// Moves one invite: commits, then keeps.
    async fn step<T>(
        &self,
        held: &mut Held,
        index: usize,
        act: impl FnOnce(&mut Invite, UnixTime) -> Result<(T, Vec<Event>), DenyReason>,
    ) -> Result<T, DenyReason> {
        let now = self.engine.clock.now();
        let kept = held.invites.get_mut(index).ok_or(DenyReason::Internal)?;
        let mut next = kept.clone();
        let (outcome, events) = act(&mut next.value, now)?;
        self.commit(vec![paper(&next, now)], events).await?;
        next.revision = Some(next.revision.map_or(0, |revision| revision.saturating_add(1)));
        *kept = next;
        Ok(outcome)
    }

    // ---- enrolment ------------------------------------------------------------------------------

    /// A browser opens a link; gives the cookie that ties the link to it.
    ///
    /// # Errors
    /// [`DenyReason::InviteInvalid`]; [`DenyReason::InviteOpened`] for every browser but the first.
    pub async fn open_invite(
        &self,
        secret: &str,
        cookie: Option<Fixed<32>>,
        from: &Source,
    ) -> Result<(OpenedInvite, Fixed<32>), DenyReason> {
        let secret = Ticket::new(secret).ok_or(DenyReason::InviteInvalid)?;
        let mut held = self.held().await?;
        let index = held.invites.iter().position(|one| one.value.fits(&secret)).ok_or(DenyReason::InviteInvalid)?;
        let cookie = match cookie {
            Some(cookie) => cookie,
            None => Fixed(random()?),
        };
        let opening = self.step(&mut held, index, |invite, now| {
            let first = invite.phase == Phase::Open {};
            let contested = invite.contested;
            let opening = invite.open(Digest::plain(&cookie.0), now)?;
            let (id, person, from) = (invite.id, invite.person.clone(), from.to_string());
            let events = match opening {
                Opening::Here if first => vec![Event::InviteOpened { invite: id, person, from }],
                Opening::Elsewhere if !contested => vec![Event::InviteContested { invite: id, person, from }],
                Opening::Here | Opening::Elsewhere => Vec::new(),
            };
            Ok((opening, events))
        });
        if opening.await? == Opening::Elsewhere {
            self.contest(&mut held, index).await?;
            return Err(DenyReason::InviteOpened);
        }
        let opened = self.begin(&mut held, index)?;
        Ok((opened, cookie))
    }

    /// A proposal that came by this invite shows that its link was opened twice.
    async fn contest(&self, held: &mut Held, index: usize) -> Result<(), DenyReason> {
        let Some(Phase::Proposed { proposal, .. }) = held.invites.get(index).map(|one| one.value.phase.clone()) else {
            return Ok(());
        };
        let found = held.proposals.iter_mut().find(|one| one.value.id == proposal && one.value.is_open());
        let Some(kept) = found.filter(|one| !one.value.contested) else { return Ok(()) };
        let mut next = kept.clone();
        next.value.contested = true;
        self.commit(vec![super::keeper::paper(&next)], Vec::new()).await?;
        next.revision = Some(next.revision.map_or(0, |revision| revision.saturating_add(1)));
        *kept = next;
        Ok(())
    }

    fn begin(&self, held: &mut Held, index: usize) -> Result<OpenedInvite, DenyReason> {
        let now = self.engine.clock.now();
        let invite = held.invites.get(index).map(|one| one.value.clone()).ok_or(DenyReason::Internal)?;
        let state = progress(held, &invite, now);
        if held.attempts.values().filter(|attempt| attempt.invite == invite.id).count() >= ATTEMPTS {
            return Err(DenyReason::RateLimited);
        }
        let (creation, pending) = match state {
            Progress::Enrol => {
                let (creation, pending) =
                    self.registrar.start(&invite.handle.0, invite.person.as_str(), &invite.name)?;
                (Some(creation), Some(pending))
            }
            Progress::Possess | Progress::Wait | Progress::Sealed | Progress::Declined => (None, None),
        };
        let enrol = Fixed(random()?);
        let until = now.plus(TIMEOUT.as_secs());
        held.attempts.insert(enrol, Attempt { invite: invite.id, pending, until });
        Ok(OpenedInvite { enrol, person: invite.person, name: invite.name, state, creation })
    }

    /// A browser made its keys. Each attempt and each invite enrols once.
    ///
    /// # Errors
    /// [`DenyReason::InviteInvalid`], [`DenyReason::EnrolmentRefused`], [`DenyReason::BadInput`] for a
    /// label that is not one plain line; [`DenyReason::AssuranceTooLow`] and
    /// [`DenyReason::ModelNotListed`] for a device that would not count (E4).
    pub async fn enrol(
        &self,
        enrol: &Fixed<16>,
        given: &Registration,
        device_key: Option<&DeviceKey>,
        label: &str,
    ) -> Result<ToProve, DenyReason> {
        let label = label.trim();
        let fits = !label.is_empty() && label.len() <= limits::NAME_BYTES && label.chars().all(escape::is_plain);
        if !fits {
            return Err(DenyReason::BadInput);
        }
        let mut held = self.held().await?;
        let attempt = held.attempts.get_mut(enrol).ok_or(DenyReason::InviteInvalid)?;
        let (invite, pending) = (attempt.invite, attempt.pending.take().ok_or(DenyReason::InviteInvalid)?);
        let index = held.invites.iter().position(|one| one.value.id == invite).ok_or(DenyReason::InviteInvalid)?;
        let person = held.invites.get(index).map(|one| one.value.person.clone()).ok_or(DenyReason::Internal)?;
        let head = self.engine.roster();
        let checked = self.registrar.finish(pending, given, device_key).and_then(|passkey| {
            let device = device_of(&person, passkey, label)?;
            if is_known(&head, &device) {
                return Err(DenyReason::EnrolmentRefused);
            }
            head.rules.check_device(&device)?;
            Ok(device)
        });
        let device = match checked {
            Ok(device) => device,
            Err(reason) => {
                self.engine.note(vec![Event::EnrolmentRefused { person, reason }]).await;
                return Err(reason);
            }
        };
        let salt = Fixed(random()?);
        let record = Bytes(codec::encode(&device));
        let statement = self
            .step(&mut held, index, |invite, now| {
                invite.enrol(device.clone(), salt, now).map(|statement| (statement, Vec::new()))
            })
            .await?;
        Ok(ToProve { device, record, statement })
    }

    /// The browser proves that it holds the keys: a proposal stands.
    ///
    /// # Errors
    /// The verifier's reason; [`ChangeError`].
    pub async fn prove(&self, enrol: &Fixed<16>, signed: SignedStatement) -> Result<ProposalId, ChangeError> {
        let mut held = self.held().await?;
        let invite = held.attempts.get(enrol).ok_or(DenyReason::InviteInvalid)?.invite;
        let index = held.invites.iter().position(|one| one.value.id == invite).ok_or(DenyReason::InviteInvalid)?;
        let (head, now) = (self.engine.roster(), self.engine.clock.now());
        let mut next = held.invites.get(index).cloned().ok_or(DenyReason::Internal)?;
        let (device, expected) = next.value.possession().ok_or(DenyReason::InviteInvalid)?;
        if signed.statement.0 != expected.to_bytes() {
            return Err(DenyReason::EvidenceOtherRequest.into());
        }
        head.verify_possession(&next.value.person, device, &signed)?;
        let contested = next.value.contested;
        // The proposal's id is drawn inside; the invite is told afterwards, in the same lock.
        let ops = next.value.clone().propose(&head, signed.clone(), Fixed([0; 16]), now)?;
        let by = Proposer::Device { person: next.value.person.clone() };
        let id = self.propose_in(&mut held, ops, by, PROPOSAL_VALID_S, Vec::new(), Vec::new()).await?;
        next.value.propose(&head, signed, id, now)?;
        self.commit(vec![paper(&next, now)], Vec::new()).await?;
        next.revision = Some(next.revision.map_or(0, |revision| revision.saturating_add(1)));
        if let Some(kept) = held.invites.get_mut(index) {
            *kept = next;
        }
        if contested {
            self.contest(&mut held, index).await?;
        }
        Ok(id)
    }

    /// How far the enrolment by this link is, for the browser that opened it.
    ///
    /// # Errors
    /// [`DenyReason::InviteInvalid`] for everybody else.
    pub async fn enrol_status(&self, secret: &str, cookie: &Fixed<32>) -> Result<EnrolStatus, DenyReason> {
        let secret = Ticket::new(secret).ok_or(DenyReason::InviteInvalid)?;
        let held = self.held().await?;
        let invite = held.invites.iter().find(|one| one.value.fits(&secret)).ok_or(DenyReason::InviteInvalid)?;
        let invite = &invite.value;
        let (own, device) = match &invite.phase {
            Phase::Open {} | Phase::Cancelled {} => return Err(DenyReason::InviteInvalid),
            Phase::Opened { browser } => (browser, None),
            Phase::Enrolled { browser, device, .. } | Phase::Proposed { browser, device, .. } => {
                (browser, Some(device))
            }
        };
        if *own != Digest::plain(&cookie.0) {
            return Err(DenyReason::InviteInvalid);
        }
        let state = progress(&held, invite, self.engine.clock.now());
        let record = device.map(|device| Bytes(codec::encode(device)));
        let (signed, needs) = match &invite.phase {
            Phase::Proposed { proposal, .. } => signatures(&held, proposal),
            Phase::Open {} | Phase::Opened { .. } | Phase::Enrolled { .. } | Phase::Cancelled {} => {
                (0, limits::MIN_QUORUM as usize)
            }
        };
        Ok(EnrolStatus { state, signed, needs, record })
    }

    // ---- device keys that browsers dropped ------------------------------------------------------

    /// A browser that dropped its device key made another: the passkey says whose it is.
    ///
    /// # Errors
    /// [`DenyReason::SignInNeeded`] for everything that does not verify (W8).
    pub async fn start_restore(
        &self,
        start: &RestoreStart,
        from: &Source,
    ) -> Result<(Fixed<16>, String, ToProve), DenyReason> {
        let mut held = self.held().await?;
        if held.restores.len() >= RESTORES {
            return Err(DenyReason::RateLimited);
        }
        let now = self.engine.clock.now();
        let head = self.engine.roster();
        let (person, device, challenge) = self.approvers.verify_passkey_alone(&start.sign_in, from).await?;
        let DeviceKey { key, proof } = &start.device_key;
        let mine = signature::verify(key, &Domain::Claim.message(challenge.as_bytes()), proof);
        let device = Device { device_key: Some(*key), ..device };
        let known = |one: &PublicKey| head.persons.iter().flat_map(|p| &p.devices).any(|d| d.device_key == Some(*one));
        if !mine || known(key) {
            return Err(DenyReason::SignInNeeded);
        }
        let salt = Fixed(random()?);
        let statement = possession(&person.id, &device, salt);
        let id = Fixed(random()?);
        let until = now.plus(PROPOSAL_VALID_S);
        let asked =
            Event::RestorationAsked { person: person.id.clone(), device: device.id.clone(), from: from.to_string() };
        self.engine.note(vec![asked]).await;
        let prove = ToProve { record: Bytes(codec::encode(&device)), device: device.clone(), statement };
        held.restores.insert(id, Restore { person: person.id, device, salt, proposal: None, until });
        Ok((id, person.name, prove))
    }

    /// Passkey and new key prove possession: a proposal stands, for one other person to sign.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn finish_restore(&self, id: &Fixed<16>, signed: SignedStatement) -> Result<ProposalId, ChangeError> {
        let mut held = self.held().await?;
        let head = self.engine.roster();
        let restore = held.restores.get(id).ok_or(DenyReason::NotFound)?;
        let (person, device) = (restore.person.clone(), restore.device.clone());
        if restore.proposal.is_some() {
            return Err(DenyReason::ProposalOver.into());
        }
        if signed.statement.0 != possession(&person, &device, restore.salt).to_bytes() {
            return Err(DenyReason::EvidenceOtherRequest.into());
        }
        head.verify_possession(&person, &device, &signed)?;
        let device_key = device.device_key.ok_or(DenyReason::Internal)?;
        let ops = vec![Op::RestoreDeviceKey {
            person: person.clone(),
            device: device.id.clone(),
            device_key,
            possession: Box::new(signed),
        }];
        // An earlier key of the same browser is gone with it.
        let (mut papers, mut stale) = (Vec::new(), Vec::new());
        for (index, kept) in held.proposals.iter().enumerate() {
            let same = |op: &Op| matches!(op, Op::RestoreDeviceKey { device: one, .. } if *one == device.id);
            if kept.value.is_open() && kept.value.ops.iter().any(same) {
                let mut over = kept.clone();
                over.value.withdraw()?;
                papers.push(super::keeper::paper(&over));
                over.revision = Some(over.revision.map_or(0, |revision| revision.saturating_add(1)));
                stale.push((index, over));
            }
        }
        let by = Proposer::Device { person };
        let proposal = self.propose_in(&mut held, ops, by, PROPOSAL_VALID_S, papers, Vec::new()).await?;
        for (index, over) in stale {
            if let Some(kept) = held.proposals.get_mut(index) {
                *kept = over;
            }
        }
        if let Some(restore) = held.restores.get_mut(id) {
            restore.proposal = Some(proposal);
        }
        Ok(proposal)
    }

    /// How far a restoration is.
    ///
    /// # Errors
    /// [`DenyReason::NotFound`].
    pub async fn restore_status(&self, id: &Fixed<16>) -> Result<EnrolStatus, DenyReason> {
        let held = self.held().await?;
        let restore = held.restores.get(id).ok_or(DenyReason::NotFound)?;
        let (state, (signed, needs)) = match &restore.proposal {
            None => (Progress::Possess, (0, 1)),
            Some(proposal) => (phase_of(&held, proposal), signatures(&held, proposal)),
        };
        Ok(EnrolStatus { state, signed, needs, record: Some(Bytes(codec::encode(&restore.device))) })
    }
}

fn progress(held: &Held, invite: &Invite, now: UnixTime) -> Progress {
    match &invite.phase {
        Phase::Proposed { proposal, .. } => phase_of(held, proposal),
        Phase::Cancelled {} => Progress::Declined,
        Phase::Open {} | Phase::Opened { .. } | Phase::Enrolled { .. } if !invite.is_usable(now) => Progress::Declined,
        Phase::Open {} | Phase::Opened { .. } => Progress::Enrol,
        Phase::Enrolled { .. } => Progress::Possess,
    }
}

fn phase_of(held: &Held, id: &ProposalId) -> Progress {
    let found = held.proposals.iter().find(|one| one.value.id == *id);
    match found.map(|one| &one.value.phase) {
        Some(proposal::Phase::Open {}) => Progress::Wait,
        Some(proposal::Phase::Sealed { .. }) => Progress::Sealed,
        Some(proposal::Phase::Withdrawn {} | proposal::Phase::Expired {} | proposal::Phase::Void { .. }) | None => {
            Progress::Declined
        }
    }
}

fn signatures(held: &Held, id: &ProposalId) -> (usize, usize) {
    let found = held.proposals.iter().find(|one| one.value.id == *id);
    let draft = found.and_then(|one| one.value.draft.as_ref());
    draft.map_or((0, 0), |draft| (draft.signatures.len(), draft.needs()))
}

fn device_of(person: &PersonId, passkey: NewPasskey, label: &str) -> Result<Device, DenyReason> {
    let tail = Ticket::from_random(&random()?).as_str().to_lowercase();
    let head: String = person.as_str().chars().take(limits::ID_BYTES - ID_TAIL - 1).collect();
    let id = format!("{head}-{}", tail.chars().take(ID_TAIL).collect::<String>());
    Ok(Device {
        id: DeviceId::new(&id).ok_or(DenyReason::Internal)?,
        label: label.to_owned(),
        client_class: ClientClass::Page,
        credential_id: passkey.credential_id,
        credential_key: passkey.credential_key,
        backup_eligible: passkey.backup_eligible,
        aaguid: passkey.aaguid,
        attested: passkey.attested,
        device_key: passkey.device_key,
    })
}

/// One key is one device: what the roster would name twice is refused here already.
fn is_known(roster: &Roster, device: &Device) -> bool {
    let keys = |one: &Device| [Some(one.credential_key), one.device_key];
    let mine = keys(device);
    roster.persons.iter().flat_map(|person| &person.devices).any(|one| {
        one.credential_id == device.credential_id || keys(one).iter().flatten().any(|key| mine.contains(&Some(*key)))
    })
}

fn paper(kept: &Kept<Invite>, now: UnixTime) -> LifeChange {
    let Kept { value, revision } = kept;
    LifeChange::Paper(PaperRow {
        kind: PaperKind::Invite,
        id: value.id,
        replaces: *revision,
        is_over: value.is_over(now),
        until: value.until.plus(LINGER_S),
        body: Bytes(codec::encode(value)),
    })
}
