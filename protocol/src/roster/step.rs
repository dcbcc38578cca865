//! The rules of one step from a roster to the next: what may differ, who must sign, which devices
//! must prove possession. What kind of step it is follows from the difference; nothing that is sent
//! says so.
//!
//! - *Suspension*: one person, and nothing else, becomes suspended by one other, who signs. At least
//!   one more than the quorum must still be able to approve.
//! - *Restoration*: one device of one person, and nothing else, has a new device key. Its passkey and
//!   the new key prove possession, and one other person signs.
//! - *Ordinary*: everything else. Two persons sign.
//!
//! Signatures are by persons of the older roster who can approve somewhere, with its devices, under
//! its rules.

use super::{Device, Gate, Person, Roster, RosterError, Standing, VerifiedRoster, insert_once};
use crate::codec::encode;
use crate::digest::Digest;
use crate::ids::{DeviceId, PersonId};
use crate::limits;
use crate::refusal::DenyReason;
use crate::signature;
use crate::statement::{POSSESSION_DOMAINS, PossessionStatement, ROSTER_DOMAINS, RosterStatement, SignedStatement};
use crate::webauthn::{self, Expected};

/// The kind of a step, and so who must sign it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// Two persons sign.
    Ordinary,
    /// `by` signs.
    Suspension {
        /// Who is suspended.
        person: PersonId,
        /// Who suspends.
        by: PersonId,
    },
    /// One person other than `person` signs.
    Restoration {
        /// Whose device it is.
        person: PersonId,
        /// The device with a new key.
        device: DeviceId,
    },
}

impl Step {
    /// How many distinct persons must sign.
    #[must_use]
    pub fn signatures(&self) -> usize {
        match self {
            Self::Ordinary => limits::MIN_QUORUM as usize,
            Self::Suspension { .. } | Self::Restoration { .. } => 1,
        }
    }
}

/// Derives the kind of a step, and refuses what nobody may change.
pub(super) fn step(own: &Roster, next: &Roster) -> Result<Step, RosterError> {
    if next.rp_id != own.rp_id {
        return Err(RosterError::Step("rp_id is permanent"));
    }
    if next.issued_at < own.issued_at {
        return Err(RosterError::Step("issued_at is not earlier than that of the version before"));
    }
    let lone = |person: &&Person| {
        let standing = own.person(&person.id).map(|was| &was.standing);
        person.standing.suspended_alone_by().is_some() && standing != Some(&person.standing)
    };
    // T2 is switched on only where it leaves something that can be granted. Later a gate may run dry,
    // as it may without T2: two people must be able to put anybody out at once.
    let dries = |gate: &Gate| next.is_dry(gate) && next.eligible(gate, &[]).len() >= own.rules.quorum as usize;
    if next.rules.distinct_client_class && !own.rules.distinct_client_class && next.rules.gates.iter().any(dries) {
        return Err(RosterError::Step("where two client classes are asked for, every gate has people of both"));
    }
    match next.persons.iter().find(lone) {
        Some(person) => suspension(own, next, person),
        None => Ok(restoration(own, next).unwrap_or(Step::Ordinary)),
    }
}

fn suspension(own: &Roster, next: &Roster, person: &Person) -> Result<Step, RosterError> {
    let refused = |rule| Err(RosterError::Step(rule));
    let mut undone = with_head_of(next, own);
    for one in undone.persons.iter_mut().filter(|one| one.id == person.id) {
        one.standing = Standing::Active;
    }
    if encode(&undone) != encode(own) {
        return refused("a suspension by one person stands alone in its version");
    }
    let Some(by) = person.standing.suspended_alone_by() else { return Ok(Step::Ordinary) };
    if own.persons.iter().any(|one| one.standing.suspended_alone_by() == Some(by)) {
        return refused("one person suspends one other at a time");
    }
    let quorum = own.rules.quorum as usize;
    let mut left = next.approvers();
    if left.len() <= quorum {
        return refused("a suspension by one person leaves one more who can approve than the quorum");
    }
    // Or whoever suspends would hold the key to every next version.
    left.retain(|one| one.id != *by);
    if !next.rules.holds_two_for_a_yes(&left) {
        return refused("a suspension by one person leaves two others who can lift it");
    }
    if own.rules.gates.iter().any(|gate| next.is_dry(gate) && !own.is_dry(gate)) {
        return refused("a suspension by one person leaves every gate its quorum");
    }
    Ok(Step::Suspension { person: person.id.clone(), by: by.clone() })
}

fn restoration(own: &Roster, next: &Roster) -> Option<Step> {
    let mut undone = with_head_of(next, own);
    let mut restored = None;
    for (person, back) in own.persons.iter().zip(&mut undone.persons) {
        for (was, is) in person.devices.iter().zip(&mut back.devices) {
            if was.device_key != is.device_key && restored.is_none() {
                // A first device key would make a device stronger, and none weaker: two sign that.
                if was.device_key.is_none() || is.device_key.is_none() || person.standing != Standing::Active {
                    return None;
                }
                is.device_key = was.device_key;
                restored = Some(Step::Restoration { person: person.id.clone(), device: was.id.clone() });
            }
        }
    }
    restored.filter(|_| encode(&undone) == encode(own))
}

/// `next` under the version, predecessor and date of `own`: equal to it when nothing else differs.
fn with_head_of(next: &Roster, own: &Roster) -> Roster {
    Roster { version: own.version, previous: own.previous, issued_at: own.issued_at, ..next.clone() }
}

/// Whether the right people signed.
pub(super) fn check_signatures(
    own: &Roster,
    next: &VerifiedRoster,
    step: &Step,
    signatures: &[SignedStatement],
) -> Result<(), RosterError> {
    if signatures.len() > limits::ROSTER_SIGNATURES {
        return Err(RosterError::Unsound("there are at most 16 signatures"));
    }
    let mut signers: Vec<(&Person, &Device)> = Vec::new();
    for signed in signatures {
        let (person, device) =
            verify_signature(own, next.version, &next.digest(), signed).map_err(RosterError::Signature)?;
        signers.push((person, device));
    }
    // Distinct persons have distinct keys, because no key stands twice in a sound roster.
    let apart = |one: &PersonId, class, (other, device): &(&Person, &Device)| {
        *one != other.id && (!own.rules.distinct_client_class || class != device.client_class)
    };
    let sealed = match step {
        Step::Ordinary => {
            signers.iter().any(|(one, device)| signers.iter().any(|two| apart(&one.id, device.client_class, two)))
        }
        Step::Suspension { by, .. } => signers.iter().any(|(one, _)| one.id == *by),
        Step::Restoration { person, device } => {
            let class = own.person(person).and_then(|one| one.devices.iter().find(|one| one.id == *device));
            class.is_some_and(|device| signers.iter().any(|two| apart(person, device.client_class, two)))
        }
    };
    if sealed {
        return Ok(());
    }
    let mut persons = Vec::new();
    signers.into_iter().for_each(|(person, _)| insert_once(&mut persons, person));
    Err(match (persons.len(), step) {
        (2.., Step::Ordinary) => RosterError::Signature(DenyReason::SameClientClass),
        (1.., Step::Suspension { .. }) => RosterError::Signature(DenyReason::ApproverNotEligible),
        (1.., Step::Restoration { .. }) => RosterError::Signature(DenyReason::SamePerson),
        (signed, _) => RosterError::TooFewSigners { signed, needed: step.signatures() },
    })
}

/// Verifies one signature to the next version, by `own`'s people, devices and rules.
pub(super) fn verify_signature<'a>(
    own: &'a Roster,
    version: u64,
    digest: &Digest,
    signed: &SignedStatement,
) -> Result<(&'a Person, &'a Device), DenyReason> {
    let (person, device) = signer(own, version, digest, signed)?;
    own.rules.check_device(device)?;
    if !own.approvers().iter().any(|one| one.id == person.id) {
        return Err(DenyReason::ApproverNotEligible);
    }
    webauthn::verify_signed_statement(&Expected { roster: own, device, domains: ROSTER_DOMAINS }, signed)?;
    Ok((person, device))
}

/// Whom a roster statement names, and with which device; verifies no signature.
pub(super) fn signer<'a>(
    own: &'a Roster,
    version: u64,
    digest: &Digest,
    signed: &SignedStatement,
) -> Result<(&'a Person, &'a Device), DenyReason> {
    let statement = RosterStatement::from_bytes(&signed.statement.0).map_err(|_| DenyReason::EvidenceMalformed)?;
    if statement.roster_digest != *digest || statement.roster_version != version {
        return Err(DenyReason::EvidenceOtherRequest);
    }
    let (person, device) = own.device_by_credential(&statement.credential_id).ok_or(DenyReason::ApproverUnknown)?;
    if person.id != statement.person || device.id != statement.device_id {
        return Err(DenyReason::ApproverUnknown);
    }
    Ok((person, device))
}

/// Whether every device that is new or changed proves possession of its keys, in the roster's order,
/// and nothing else is proved.
pub(super) fn check_possessions(
    own: &Roster,
    next: &Roster,
    possessions: &[SignedStatement],
) -> Result<(), RosterError> {
    if possessions.len() > limits::ROSTER_POSSESSIONS {
        return Err(RosterError::Unsound("there are at most 256 possession statements"));
    }
    let mut given = possessions.iter();
    for (person, device) in new_devices(own, next)? {
        let signed = given.next().ok_or_else(|| RosterError::PossessionMissing(device.id.clone()))?;
        verify_possession(own, &person.id, device, signed).map_err(RosterError::Possession)?;
    }
    match given.next() {
        None => Ok(()),
        Some(_) => Err(RosterError::Unsound("a possession statement is for no new device")),
    }
}

/// The devices that must prove possession, in the roster's order.
pub(super) fn new_devices<'a>(own: &Roster, next: &'a Roster) -> Result<Vec<(&'a Person, &'a Device)>, RosterError> {
    let mut new = Vec::new();
    for person in &next.persons {
        for device in &person.devices {
            if !is_known(own, person, device)? {
                new.push((person, device));
            }
        }
    }
    Ok(new)
}

/// Whether a device stands unchanged, but for its label, in the older roster. None moves to another
/// person, under whatever name.
fn is_known(own: &Roster, person: &Person, device: &Device) -> Result<bool, RosterError> {
    let keys = |device: &Device| [Some(device.credential_key), device.device_key];
    let mut known = false;
    for (owner, was) in own.persons.iter().flat_map(|owner| owner.devices.iter().map(move |one| (owner, one))) {
        let shares = was.id == device.id
            || was.credential_id == device.credential_id
            || signature::any_in_common(&keys(was), &keys(device));
        if shares && owner.id != person.id {
            return Err(RosterError::Step("a device stays with its person"));
        }
        known |= shares && *device == Device { label: device.label.clone(), ..was.clone() };
    }
    Ok(known)
}

/// Verifies a new device's possession statement by its own keys, under `own`'s RP id and origins, and
/// that it was made to replace what `own` has: an older statement would bring an older key back.
pub(super) fn verify_possession(
    own: &Roster,
    person: &PersonId,
    device: &Device,
    signed: &SignedStatement,
) -> Result<(), DenyReason> {
    let statement = PossessionStatement::from_bytes(&signed.statement.0).map_err(|_| DenyReason::EvidenceMalformed)?;
    if statement.person != *person
        || statement.device != device.record_digest()
        || statement.replaces != own.device_key_beside(&device.credential_id)
        || statement.credential_id != device.credential_id
        || statement.device_id != device.id
    {
        return Err(DenyReason::EvidenceOtherRequest);
    }
    webauthn::verify_signed_statement(&Expected { roster: own, device, domains: POSSESSION_DOMAINS }, signed)
}
