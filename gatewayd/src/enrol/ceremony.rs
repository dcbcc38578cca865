//! The ceremony that makes roster version 1, as a state machine without I/O and without a clock:
//! people enrol by one-time invites, the administrator closes the list, everybody signs the
//! roster's digest, and only then does an envelope exist that can be sealed.
//!
//! An invite names one person, is kept as a hash, and enrols one device, once, within its time. It
//! is no proof of anything later: a signature counts only by the keys that the roster names.

use std::collections::HashMap;

use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;
use twinlock_protocol::digest::Digest;
use twinlock_protocol::ids::{CredentialId, DeviceId, PersonId, Ticket};
use twinlock_protocol::roster::{
    Assurance, ClientClass, Device, Roster, RosterEnvelope, VerifiedRoster, verify_roster_signature,
};
use twinlock_protocol::statement::{RosterStatement, SignedStatement};
use twinlock_protocol::{Bytes, DenyReason, Fixed, UnixTime, escape, limits};

use super::compose::{Participant, Plan};
use super::passkey::{Creation, DeviceKey, NewPasskey, Pending, Registrar, Registration, TIMEOUT};

/// An invite enrols a device within this long, in seconds.
pub const INVITE_VALID_S: u64 = 30 * 60;
/// Registrations that one person can have under way (a page opened again and again).
const PENDING_PER_PERSON: usize = 8;

/// What a person does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Enrol a device.
    Enrol,
    /// Wait for the others.
    Wait,
    /// Read and sign the roster.
    Sign,
    /// Nothing: it is sealed.
    Sealed,
}

/// Who is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PersonInfo {
    /// The id.
    pub id: PersonId,
    /// The name.
    pub name: String,
}

/// An enrolled device, as its owner and the administrator see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// The id.
    pub id: DeviceId,
    /// What its owner calls it.
    pub label: String,
    /// The level.
    pub assurance: Assurance,
}

/// The answer to an opened link.
#[derive(Debug, Serialize)]
pub struct Opened {
    /// The registration's id; empty in other steps.
    pub enrol: String,
    /// Who is meant.
    pub person: PersonInfo,
    /// What comes next.
    pub state: Step,
    /// For `navigator.credentials.create`.
    pub creation: Option<Creation>,
}

/// One line of the waiting room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Presence {
    /// The name.
    pub name: String,
    /// Has a device.
    pub enrolled: bool,
    /// Has signed.
    pub signed: bool,
}

/// A roster as the page gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RosterView {
    /// Its bytes.
    pub bytes: Bytes,
    /// Their digest, for display; the page computes it itself.
    pub digest: Digest,
}

/// The fields of the statement that a person signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatementView {
    /// 1.
    pub roster_version: u64,
    /// The digest.
    pub roster_digest: Digest,
    /// Who signs.
    pub person: PersonId,
    /// With which passkey.
    pub credential_id: CredentialId,
    /// On which device.
    pub device_id: DeviceId,
    /// Random, so that no challenge repeats.
    pub gateway_salt: Fixed<32>,
}

/// The waiting room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// What this person does next.
    pub state: Step,
    /// Everybody with a device to enrol.
    pub people: Vec<Presence>,
    /// The roster, once there is one.
    pub roster: Option<RosterView>,
    /// What this person signs.
    pub statement: Option<StatementView>,
}

/// An invite, told once.
#[derive(Clone, Debug)]
pub struct Invite {
    /// For whom.
    pub person: PersonInfo,
    /// The secret; stored only as its hash.
    pub secret: Ticket,
}

/// Somebody with a device to enrol.
struct Seat {
    participant: Participant,
    invite: Digest,
    invite_until: UnixTime,
    handle: [u8; 16],
    device: Option<Device>,
    salt: Fixed<32>,
    signature: Option<SignedStatement>,
}

impl Seat {
    fn info(&self) -> PersonInfo {
        PersonInfo { id: self.participant.id.clone(), name: self.participant.name.clone() }
    }
}

struct Attempt {
    seat: usize,
    pending: Pending,
    until: UnixTime,
}

/// How far the ceremony is.
enum Phase {
    /// People enrol; ends when the administrator closes the list.
    Enrolling,
    /// The roster stands; people sign it.
    Signing {
        /// It.
        roster: Box<Roster>,
        /// Its digest.
        digest: Digest,
    },
    /// Sealed; final.
    Sealed,
}

/// A ceremony could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// Fewer than two people enrol devices.
    #[error("fewer than two people would approve")]
    TooFewApprovers,
    /// Somebody has not enrolled.
    #[error("not everybody has enrolled")]
    NotEverybody,
    /// The list is closed already.
    #[error("the roster stands already")]
    Closed,
    /// The roster that would come out is not sound.
    #[error(transparent)]
    Roster(#[from] twinlock_protocol::roster::RosterError),
    /// The system's random source failed.
    #[error("the system's random source failed")]
    Random,
}

/// The ceremony.
pub struct Ceremony {
    plan: Plan,
    registrar: Registrar,
    seats: Vec<Seat>,
    attempts: HashMap<String, Attempt>,
    phase: Phase,
}

impl Ceremony {
    /// Begins: everybody with a device to enrol gets an invite.
    ///
    /// # Errors
    /// [`CeremonyError::TooFewApprovers`], [`CeremonyError::Random`], or the rule of the roster
    /// that the plan breaks whoever enrols.
    pub fn begin(plan: Plan, registrar: Registrar, now: UnixTime) -> Result<(Self, Vec<Invite>), CeremonyError> {
        let mut seats = Vec::new();
        let mut invites = Vec::new();
        for participant in plan.participants.iter().filter(|one| one.approves()) {
            let secret = Ticket::from_random(&random()?);
            let seat = Seat {
                participant: participant.clone(),
                invite: secret.hash(),
                invite_until: now.plus(INVITE_VALID_S),
                handle: random()?,
                device: None,
                salt: Fixed(random()?),
                signature: None,
            };
            invites.push(Invite { person: seat.info(), secret });
            seats.push(seat);
        }
        if seats.len() < limits::MIN_QUORUM as usize {
            return Err(CeremonyError::TooFewApprovers);
        }
        Ok((Self { plan, registrar, seats, attempts: HashMap::new(), phase: Phase::Enrolling }, invites))
    }

    /// Somebody opened a link.
    ///
    /// # Errors
    /// [`DenyReason::InviteInvalid`]: unknown or over.
    pub fn open(&mut self, invite: &str, now: UnixTime) -> Result<Opened, DenyReason> {
        let seat_index = self.seat_of(invite, now)?;
        let step = self.step(seat_index);
        let Some(seat) = self.seats.get(seat_index) else { return Err(DenyReason::Internal) };
        let person = seat.info();
        if step != Step::Enrol {
            return Ok(Opened { enrol: String::new(), person, state: step, creation: None });
        }
        let (creation, pending) = self.registrar.start(&seat.handle, person.id.as_str(), &person.name)?;
        self.attempts.retain(|_, attempt| now < attempt.until);
        if self.attempts.values().filter(|attempt| attempt.seat == seat_index).count() >= PENDING_PER_PERSON {
            return Err(DenyReason::RateLimited);
        }
        let id = Bytes(random::<16>().map_err(|_| DenyReason::Internal)?.to_vec()).to_text();
        let until = now.plus(TIMEOUT.as_secs());
        self.attempts.insert(id.clone(), Attempt { seat: seat_index, pending, until });
        Ok(Opened { enrol: id, person, state: step, creation: Some(creation) })
    }

    /// A browser made its keys. Each attempt and each invite enrols once.
    ///
    /// # Errors
    /// [`DenyReason::InviteInvalid`] for an attempt that is unknown, over, or beaten by another
    /// one; [`DenyReason::EnrolmentRefused`]; [`DenyReason::BadInput`] for a label that is not one
    /// plain line.
    pub fn enrol(
        &mut self,
        attempt: &str,
        given: &Registration,
        device_key: Option<&DeviceKey>,
        label: &str,
        now: UnixTime,
    ) -> Result<(PersonInfo, DeviceInfo), DenyReason> {
        let label = label.trim();
        let label_fits = !label.is_empty() && label.len() <= limits::NAME_BYTES && label.chars().all(escape::is_plain);
        if !label_fits {
            return Err(DenyReason::BadInput);
        }
        let attempt = self.attempts.remove(attempt).ok_or(DenyReason::InviteInvalid)?;
        let open = matches!(self.phase, Phase::Enrolling);
        let seat = self.seats.get(attempt.seat).ok_or(DenyReason::Internal)?;
        if !open || now >= attempt.until || now >= seat.invite_until || seat.device.is_some() {
            return Err(DenyReason::InviteInvalid);
        }
        let passkey = self.registrar.finish(attempt.pending, given, device_key)?;
        if self.is_known(&passkey) {
            tracing::warn!(person = %seat.participant.id, "a registration repeats a key of somebody else");
            return Err(DenyReason::EnrolmentRefused);
        }
        let device = Device {
            id: device_id(&seat.participant.id).ok_or(DenyReason::Internal)?,
            label: label.to_owned(),
            client_class: ClientClass::Page,
            credential_id: passkey.credential_id,
            credential_key: passkey.credential_key,
            backup_eligible: passkey.backup_eligible,
            aaguid: passkey.aaguid,
            attested: passkey.attested,
            device_key: passkey.device_key,
        };
        if device.assurance() < self.plan.floor {
            tracing::info!(person = %seat.participant.id, assurance = ?device.assurance(), "below the floor");
            return Err(DenyReason::EnrolmentRefused);
        }
        let told = DeviceInfo { id: device.id.clone(), label: device.label.clone(), assurance: device.assurance() };
        let person = seat.info();
        if let Some(seat) = self.seats.get_mut(attempt.seat) {
            seat.device = Some(device);
        }
        Ok((person, told))
    }

    /// The waiting room, as one person sees it.
    ///
    /// # Errors
    /// [`DenyReason::InviteInvalid`].
    pub fn status(&self, invite: &str, now: UnixTime) -> Result<Status, DenyReason> {
        let seat_index = self.seat_of(invite, now)?;
        let seat = self.seats.get(seat_index).ok_or(DenyReason::Internal)?;
        let people = self.presence();
        let (roster, statement) = match (&self.phase, &seat.device) {
            (Phase::Signing { roster, digest }, Some(device)) => (
                Some(RosterView { bytes: Bytes(roster.to_bytes()), digest: *digest }),
                Some(StatementView {
                    roster_version: roster.version,
                    roster_digest: *digest,
                    person: seat.participant.id.clone(),
                    credential_id: device.credential_id.clone(),
                    device_id: device.id.clone(),
                    gateway_salt: seat.salt,
                }),
            ),
            (Phase::Enrolling | Phase::Sealed, _) | (Phase::Signing { .. }, None) => (None, None),
        };
        Ok(Status { state: self.step(seat_index), people, roster, statement })
    }

    /// Everybody with a device to enrol, and how far they are.
    #[must_use]
    pub fn presence(&self) -> Vec<Presence> {
        let one = |seat: &Seat| Presence {
            name: seat.participant.name.clone(),
            enrolled: seat.device.is_some(),
            signed: seat.signature.is_some(),
        };
        self.seats.iter().map(one).collect()
    }

    /// Whether everybody has enrolled.
    #[must_use]
    pub fn everybody_enrolled(&self) -> bool {
        self.seats.iter().all(|seat| seat.device.is_some())
    }

    /// Closes the list and composes the roster; from now on people sign. Returns its digest.
    ///
    /// # Errors
    /// [`CeremonyError`]; the list stays open.
    pub fn close(&mut self, now: UnixTime) -> Result<Digest, CeremonyError> {
        if !matches!(self.phase, Phase::Enrolling) {
            return Err(CeremonyError::Closed);
        }
        if !self.everybody_enrolled() {
            return Err(CeremonyError::NotEverybody);
        }
        let devices = |id: &PersonId| {
            let seat = self.seats.iter().find(|seat| seat.participant.id == *id);
            seat.and_then(|seat| seat.device.clone()).into_iter().collect()
        };
        let roster = self.plan.roster(now, devices);
        roster.check()?;
        let digest = Roster::digest_of(&roster.to_bytes());
        self.phase = Phase::Signing { roster: Box::new(roster), digest };
        Ok(digest)
    }

    /// Somebody signed. With the last signature comes the envelope, verified against its own pin;
    /// the caller writes it and then says [`Self::sealed`], or takes the signature back.
    ///
    /// # Errors
    /// The [`DenyReason`] of the verifier; [`DenyReason::InviteInvalid`]; [`DenyReason::NotPending`]
    /// when there is nothing to sign.
    pub fn sign(
        &mut self,
        invite: &str,
        signed: SignedStatement,
        now: UnixTime,
    ) -> Result<(PersonInfo, Option<RosterEnvelope>), DenyReason> {
        let seat_index = self.seat_of(invite, now)?;
        let Phase::Signing { roster, digest } = &self.phase else { return Err(DenyReason::NotPending) };
        let statement = RosterStatement::from_bytes(&signed.statement.0).map_err(|_| DenyReason::EvidenceMalformed)?;
        let signer = verify_roster_signature(roster, digest, &signed)?;
        let seat = self.seats.get_mut(seat_index).ok_or(DenyReason::Internal)?;
        // Signed by somebody, but not by the one whom this link names, or not for this ceremony.
        if signer != seat.participant.id || statement.gateway_salt != seat.salt {
            return Err(DenyReason::ApproverUnknown);
        }
        seat.signature = Some(signed);
        let person = seat.info();
        let signatures: Option<Vec<_>> = self.seats.iter().map(|seat| seat.signature.clone()).collect();
        let Some(signatures) = signatures else { return Ok((person, None)) };
        let envelope = RosterEnvelope::new(roster, signatures);
        VerifiedRoster::genesis(&envelope, digest).map_err(|error| {
            tracing::error!(%error, "the ceremony's own roster does not verify");
            DenyReason::Internal
        })?;
        Ok((person, Some(envelope)))
    }

    /// The envelope is on disk.
    pub fn sealed(&mut self) {
        self.phase = Phase::Sealed;
    }

    /// The envelope could not be written: the last signature does not count, and can be given again.
    pub fn take_back(&mut self, person: &PersonId) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.participant.id == *person) {
            seat.signature = None;
        }
    }

    /// The seat that an invite names. Before enrolment it ends; after, it is the way back into the
    /// room, where nothing counts but signatures.
    fn seat_of(&self, invite: &str, now: UnixTime) -> Result<usize, DenyReason> {
        let hash = Ticket::new(invite).ok_or(DenyReason::InviteInvalid)?.hash();
        let index = self.seats.iter().position(|seat| seat.invite == hash).ok_or(DenyReason::InviteInvalid)?;
        match self.seats.get(index) {
            Some(seat) if seat.device.is_some() || now < seat.invite_until => Ok(index),
            Some(_) | None => Err(DenyReason::InviteInvalid),
        }
    }

    fn step(&self, seat: usize) -> Step {
        let seat = self.seats.get(seat);
        match (&self.phase, seat.is_some_and(|seat| seat.device.is_some())) {
            (Phase::Sealed, _) => Step::Sealed,
            (Phase::Enrolling, false) => Step::Enrol,
            (Phase::Signing { .. }, true) if seat.is_some_and(|seat| seat.signature.is_none()) => Step::Sign,
            (Phase::Enrolling | Phase::Signing { .. }, _) => Step::Wait,
        }
    }

    /// One key is one device: a key that the roster would name twice is refused here already.
    fn is_known(&self, passkey: &NewPasskey) -> bool {
        let hosts = self.plan.hosts.iter().flat_map(|host| [host.host_key, host.agent_key]);
        let devices = self.seats.iter().filter_map(|seat| seat.device.as_ref());
        let keys: Vec<_> = devices
            .clone()
            .flat_map(|device| [Some(device.credential_key), device.device_key])
            .flatten()
            .chain(hosts)
            .collect();
        let same_id = devices.clone().any(|device| device.credential_id == passkey.credential_id);
        let same_key =
            [Some(passkey.credential_key), passkey.device_key].iter().flatten().any(|key| keys.contains(key));
        same_id || same_key
    }
}

/// `bob-1`, cut to what an id may have.
fn device_id(person: &PersonId) -> Option<DeviceId> {
    let head: String = person.as_str().chars().take(limits::ID_BYTES - 2).collect();
    DeviceId::new(&format!("{head}-1"))
}

fn random<const N: usize>() -> Result<[u8; N], CeremonyError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| CeremonyError::Random)?;
    Ok(bytes)
}
