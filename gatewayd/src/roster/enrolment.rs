//! Enrolment by invite at a running gateway. It ends in a proposal: what is enrolled here counts for
//! nothing until other people have signed it. An invite is good as long as whoever made it may invite.

use std::sync::Arc;

use twinlock_protocol::digest::Digest;
use twinlock_protocol::ids::{DeviceId, PersonId, Ticket};
use twinlock_protocol::roster::{ClientClass, Device, Roster};
use twinlock_protocol::signature;
use twinlock_protocol::statement::{PossessionStatement, SignedStatement};
use twinlock_protocol::{Bytes, DenyReason, Fixed, UnixTime, codec, escape, limits};

use super::invite::{INVITE_VALID_S, Invite, Newcomer, Opening, Phase};
use super::keeper::{ChangeError, Changes, check_room};
use super::op::{Op, apply};
use super::papers::{Held, Moves};
use super::proposal::{self, PROPOSAL_VALID_S, Proposal, ProposalId, Proposer};
use crate::approval::Source;
use crate::audit::Event;
use crate::enrol::passkey::{Creation, DeviceKey, NewPasskey, Pending, Registration, TIMEOUT};
use crate::random::random;

/// Registrations of one invite that are under way.
const ATTEMPTS: usize = 8;
/// Characters of a device id that are random.
const ID_TAIL: usize = 6;

/// A registration under way, in this process only.
pub(super) struct Attempt {
    invite: Fixed<16>,
    pending: Option<Pending>,
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
    /// What is to be signed, in state `possess`.
    pub possession: Option<PossessionStatement>,
}

/// An invite for a list, with the proposal that it became.
#[derive(Clone, Debug)]
pub struct ListedInvite {
    /// The invite.
    pub invite: Arc<Invite>,
    /// The open proposal.
    pub proposal: Option<ProposalId>,
}

impl Changes {
    // ---- invites --------------------------------------------------------------------------------

    /// Makes an invite. `newcomer` exactly when the roster does not have the person.
    ///
    /// # Errors
    /// [`ChangeError`]; [`DenyReason::BadInput`] for a newcomer who is no newcomer.
    pub async fn invite(
        self: &Arc<Self>,
        person: PersonId,
        newcomer: Option<Newcomer>,
        by: Proposer,
    ) -> Result<NewInvite, ChangeError> {
        self.with(|changes, mut held| async move {
            let (head, now) = (changes.engine.roster(), changes.engine.clock.now());
            check_room(&by, held.invites.iter().filter(|one| one.is_usable(now)).map(|one| &one.by))?;
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
            let (id, until) = (Fixed(random().map_err(DenyReason::from)?), now.plus(INVITE_VALID_S));
            let made = Event::InviteMade { invite: id, person: person.clone(), by: by.to_string() };
            let mut moves = Moves::telling(made);
            moves.invites.push(Invite {
                id,
                secret: secret.hash(),
                person: person.clone(),
                name: name.clone(),
                newcomer,
                by,
                until,
                handle: Fixed(random().map_err(DenyReason::from)?),
                contested: false,
                phase: Phase::Open {},
            });
            changes.commit(&mut held, moves).await?;
            Ok(NewInvite { id, secret, person, name, until })
        })
        .await
    }

    /// Invites that are not over, and those whose proposal is open.
    ///
    /// # Errors
    /// [`DenyReason::StoreFailed`].
    pub async fn open_invites(self: &Arc<Self>) -> Result<Vec<ListedInvite>, DenyReason> {
        self.with(|changes, held| async move {
            let now = changes.engine.clock.now();
            let listed = |invite: &Arc<Invite>| {
                let proposal = match &invite.phase {
                    Phase::Proposed { proposal, .. } => held.proposals.find(proposal).filter(|one| one.is_open()),
                    Phase::Open {} | Phase::Opened { .. } | Phase::Enrolled { .. } | Phase::Cancelled {} => None,
                };
                let is_listed = proposal.is_some() || invite.is_usable(now);
                let proposal = proposal.map(|one| one.id);
                is_listed.then(|| ListedInvite { invite: Arc::clone(invite), proposal })
            };
            Ok(held.invites.iter().filter_map(listed).collect())
        })
        .await
    }

    /// Takes an invite back.
    ///
    /// # Errors
    /// [`DenyReason::NotFound`], [`DenyReason::InviteInvalid`], [`DenyReason::StoreFailed`].
    pub async fn cancel_invite(self: &Arc<Self>, id: &Fixed<16>, by: &Proposer) -> Result<(), DenyReason> {
        let (id, by) = (*id, by.to_string());
        self.with(move |changes, mut held| async move {
            let mut invite = Invite::clone(held.invites.find(&id).ok_or(DenyReason::NotFound)?);
            invite.cancel()?;
            let person = invite.person.clone();
            let mut moves = Moves::telling(Event::InviteCancelled { invite: id, person, by });
            moves.invites.push(invite);
            changes.commit(&mut held, moves).await
        })
        .await
    }

    /// Whoever made the invite may still do so: it is worth no more than they are.
    fn check_inviter(&self, invite: &Invite) -> Result<(), DenyReason> {
        let Some(by) = invite.by.person() else { return Ok(()) };
        let may = self.engine.roster().approvers().iter().any(|one| one.id == *by);
        if may { Ok(()) } else { Err(DenyReason::InviteInvalid) }
    }

    // ---- enrolment ------------------------------------------------------------------------------

    /// A browser opens a link; gives the cookie that ties the link to it.
    ///
    /// # Errors
    /// [`DenyReason::InviteInvalid`]; [`DenyReason::InviteOpened`] for every browser but the first.
    pub async fn open_invite(
        self: &Arc<Self>,
        secret: &str,
        cookie: Option<Fixed<32>>,
        from: &Source,
    ) -> Result<(OpenedInvite, Fixed<32>), DenyReason> {
        let secret = Ticket::new(secret).ok_or(DenyReason::InviteInvalid)?;
        let cookie = match cookie {
            Some(cookie) => cookie,
            None => Fixed(random()?),
        };
        let from = from.to_string();
        self.with(move |changes, mut held| async move {
            let now = changes.engine.clock.now();
            let found = held.invites.iter().find(|one| one.fits(&secret)).ok_or(DenyReason::InviteInvalid)?;
            let before = Arc::clone(found);
            let mut invite = Invite::clone(found);
            if invite.is_usable(now) {
                changes.check_inviter(&invite)?;
            }
            let opening = invite.open(Digest::plain(&cookie.0), now)?;
            if invite != *before {
                let (id, person) = (invite.id, invite.person.clone());
                let mut moves = Moves::telling(match opening {
                    Opening::Here => Event::InviteOpened { invite: id, person, from },
                    Opening::Elsewhere => Event::InviteContested { invite: id, person, from },
                });
                if opening == Opening::Elsewhere {
                    moves.proposals.extend(contested(&held, &invite));
                }
                moves.invites.push(invite.clone());
                changes.commit(&mut held, moves).await?;
            }
            match opening {
                Opening::Elsewhere => Err(DenyReason::InviteOpened),
                Opening::Here => Ok((changes.begin(&mut held, invite)?, cookie)),
            }
        })
        .await
    }

    fn begin(&self, held: &mut Held, invite: Invite) -> Result<OpenedInvite, DenyReason> {
        let now = self.engine.clock.now();
        let state = progress(held, &invite, &self.engine.roster(), now);
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

    /// The invite of an attempt that may go on.
    fn attempted(&self, held: &Held, enrol: &Fixed<16>) -> Result<Invite, DenyReason> {
        let id = held.attempts.get(enrol).ok_or(DenyReason::InviteInvalid)?.invite;
        let invite = held.invites.find(&id).ok_or(DenyReason::InviteInvalid)?;
        self.check_inviter(invite)?;
        Ok(Invite::clone(invite))
    }

    /// A browser made its keys. Each attempt and each invite enrols once.
    ///
    /// # Errors
    /// [`DenyReason::InviteInvalid`], [`DenyReason::EnrolmentRefused`], [`DenyReason::BadInput`] for a
    /// label that is not one plain line; [`DenyReason::AssuranceTooLow`] and
    /// [`DenyReason::ModelNotListed`] for a device that would not count (E4).
    pub async fn enrol(
        self: &Arc<Self>,
        enrol: &Fixed<16>,
        given: Registration,
        device_key: Option<DeviceKey>,
        label: &str,
    ) -> Result<ToProve, DenyReason> {
        let label = label.trim().to_owned();
        let fits = !label.is_empty() && label.len() <= limits::NAME_BYTES && label.chars().all(escape::is_plain);
        if !fits {
            return Err(DenyReason::BadInput);
        }
        let enrol = *enrol;
        self.with(move |changes, mut held| async move {
            let mut invite = changes.attempted(&held, &enrol)?;
            let pending = held.attempts.get_mut(&enrol).and_then(|attempt| attempt.pending.take());
            let pending = pending.ok_or(DenyReason::InviteInvalid)?;
            let head = changes.engine.roster();
            let checked = changes.registrar.finish(pending, &given, device_key.as_ref()).and_then(|passkey| {
                let device = device_of(&invite.person, passkey, &label)?;
                if is_known(&head, &device) {
                    return Err(DenyReason::EnrolmentRefused);
                }
                head.rules.check_device(&device)?;
                Ok(device)
            });
            let device = match checked {
                Ok(device) => device,
                Err(reason) => {
                    let person = invite.person;
                    changes.engine.note(vec![Event::EnrolmentRefused { person, reason }]).await;
                    return Err(reason);
                }
            };
            let record = Bytes(codec::encode(&device));
            let statement = invite.enrol(device.clone(), Fixed(random()?), changes.engine.clock.now())?;
            changes.commit(&mut held, Moves { invites: vec![invite], ..Moves::default() }).await?;
            Ok(ToProve { device, record, statement })
        })
        .await
    }

    /// The browser proves that it holds the keys: a proposal stands, in one transaction with the end
    /// of the invite.
    ///
    /// # Errors
    /// The verifier's reason; [`ChangeError`].
    pub async fn prove(
        self: &Arc<Self>,
        enrol: &Fixed<16>,
        signed: SignedStatement,
    ) -> Result<ProposalId, ChangeError> {
        let enrol = *enrol;
        self.with(move |changes, mut held| async move {
            let mut invite = changes.attempted(&held, &enrol)?;
            let (head, now) = (changes.engine.roster(), changes.engine.clock.now());
            let (device, expected) = invite.possession().ok_or(DenyReason::InviteInvalid)?;
            if signed.statement.0 != expected.to_bytes() {
                return Err(DenyReason::EvidenceOtherRequest.into());
            }
            head.verify_possession(&invite.person, device, &signed)?;
            let ops = invite.to_propose(&head, signed, now)?;
            let by = Proposer::Device { person: invite.person.clone() };
            let mut moves = Moves::default();
            let came = Some(&invite);
            let id = changes.draw_up(&held, ops, by, came, PROPOSAL_VALID_S, &mut moves)?;
            invite.proposed(id)?;
            moves.invites.push(invite);
            changes.commit(&mut held, moves).await?;
            Ok(id)
        })
        .await
    }

    /// How far the enrolment by this link is, for the browser that opened it.
    ///
    /// # Errors
    /// [`DenyReason::InviteInvalid`] for everybody else.
    pub async fn enrol_status(self: &Arc<Self>, secret: &str, cookie: &Fixed<32>) -> Result<EnrolStatus, DenyReason> {
        let secret = Ticket::new(secret).ok_or(DenyReason::InviteInvalid)?;
        let cookie = Digest::plain(&cookie.0);
        self.with(move |changes, held| async move {
            let invite = held.invites.iter().find(|one| one.fits(&secret)).ok_or(DenyReason::InviteInvalid)?;
            let (own, device) = match &invite.phase {
                Phase::Open {} | Phase::Cancelled {} => return Err(DenyReason::InviteInvalid),
                Phase::Opened { browser } => (browser, None),
                Phase::Enrolled { browser, device, .. } | Phase::Proposed { browser, device, .. } => {
                    (browser, Some(device))
                }
            };
            if *own != cookie {
                return Err(DenyReason::InviteInvalid);
            }
            let state = progress(&held, invite, &changes.engine.roster(), changes.engine.clock.now());
            let record = device.map(|device| Bytes(codec::encode(device)));
            let (signed, needs) = match &invite.phase {
                Phase::Proposed { proposal, .. } => signatures(&held, proposal),
                Phase::Open {} | Phase::Opened { .. } | Phase::Enrolled { .. } | Phase::Cancelled {} => {
                    (0, limits::MIN_QUORUM as usize)
                }
            };
            let possession = invite.possession().filter(|_| state == Progress::Possess).map(|(_, statement)| statement);
            Ok(EnrolStatus { state, signed, needs, record, possession })
        })
        .await
    }
}

/// The open proposal that came by this invite, showing that its link was opened twice.
fn contested(held: &Held, invite: &Invite) -> Option<Proposal> {
    let Phase::Proposed { proposal, .. } = &invite.phase else { return None };
    let found = held.proposals.find(proposal).filter(|one| one.is_open() && !one.contested)?;
    Some(Proposal { contested: true, ..Proposal::clone(found) })
}

fn progress(held: &Held, invite: &Invite, head: &Roster, now: UnixTime) -> Progress {
    match &invite.phase {
        Phase::Proposed { proposal, device, .. } => phase_of(held, proposal, head, device),
        Phase::Cancelled {} => Progress::Declined,
        Phase::Open {} | Phase::Opened { .. } | Phase::Enrolled { .. } if !invite.is_usable(now) => Progress::Declined,
        Phase::Open {} | Phase::Opened { .. } => Progress::Enrol,
        Phase::Enrolled { .. } => Progress::Possess,
    }
}

/// How far the proposal of a device is; what nobody is told of any more shows in the roster.
pub(super) fn phase_of(held: &Held, id: &ProposalId, head: &Roster, device: &Device) -> Progress {
    match held.proposals.find(id).map(|one| &one.phase) {
        None if head.device_by_credential(&device.credential_id).is_some_and(|(_, one)| one == device) => {
            Progress::Sealed
        }
        Some(proposal::Phase::Open {}) => Progress::Wait,
        Some(proposal::Phase::Sealed { .. }) => Progress::Sealed,
        Some(proposal::Phase::Withdrawn {} | proposal::Phase::Expired {} | proposal::Phase::Void { .. }) | None => {
            Progress::Declined
        }
    }
}

pub(super) fn signatures(held: &Held, id: &ProposalId) -> (usize, usize) {
    let draft = held.proposals.find(id).and_then(|one| one.draft.as_ref());
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
    roster
        .persons
        .iter()
        .flat_map(|person| &person.devices)
        .any(|one| one.credential_id == device.credential_id || signature::any_in_common(&keys(one), &mine))
}
