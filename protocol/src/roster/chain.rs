//! How a roster comes to be trusted: the makers of [`VerifiedRoster`], and nothing else makes one.

use super::step::{self, Step};
use super::{Device, Person, Roster, RosterEnvelope};
use crate::UnixTime;
use crate::codec::DecodeError;
use crate::digest::Digest;
use crate::ids::{DeviceId, PersonId};
use crate::limits;
use crate::refusal::DenyReason;
use crate::request::RosterRef;
use crate::statement::{ROSTER_DOMAINS, SignedStatement};
use crate::webauthn::{self, Expected};

/// Why a roster was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// It does not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It breaks a rule of its content.
    #[error("the roster is not sound: {0}")]
    Unsound(&'static str),
    /// The envelope's digest is not its bytes'.
    #[error("the roster's digest is not that of its bytes")]
    Digest,
    /// The roster is not the one that is pinned.
    #[error("the roster is not the pinned one")]
    NotPinned,
    /// A signature does not verify, or is by nobody who may sign.
    #[error("a signature of the roster does not verify: {0}")]
    Signature(DenyReason),
    /// Too few distinct persons signed.
    #[error("the roster is signed by {signed} of {needed} persons")]
    TooFewSigners {
        /// Distinct persons whose signature verifies.
        signed: usize,
        /// Persons that must sign.
        needed: usize,
    },
    /// Another version than the one that may come here: skipped, rolled back, or envelope and roster
    /// differ.
    #[error("roster version {found} where only version {expected} can stand")]
    Version {
        /// The version that may stand here.
        expected: u64,
        /// The version that does.
        found: u64,
    },
    /// It follows from another roster than the one before it.
    #[error("the roster does not follow from the one before it")]
    Forked,
    /// Its difference to the one before it is not allowed, whoever signed.
    #[error("the roster changes what it may not: {0}")]
    Step(&'static str),
    /// A possession statement does not verify.
    #[error("a possession statement of the roster does not verify: {0}")]
    Possession(DenyReason),
    /// A device is new or changed, and did not prove possession of its keys.
    #[error("device {0} did not prove possession of its keys")]
    PossessionMissing(DeviceId),
}

/// A walk along a chain stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("roster version {at_version}: {error}")]
pub struct ChainError {
    /// The version at which it stopped, as its envelope claims.
    pub at_version: u64,
    /// Why.
    pub error: RosterError,
}

/// A roster that somebody with the right to say so vouches for. It comes from the ceremony
/// ([`Self::genesis`]), from a place that only root writes ([`Self::pinned`]), or from a verified
/// roster and the signatures of its people ([`Self::successor`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRoster {
    roster: Roster,
    digest: Digest,
    /// The versions from which this one was reached step by step, lowest first.
    walked: Vec<RosterRef>,
}

impl VerifiedRoster {
    /// Verifies a version 1 roster against its pinned digest: sound, the very bytes that are
    /// pinned, and signed by every person who has devices (the ceremony's rule).
    ///
    /// # Errors
    /// [`RosterError`], naming what does not hold.
    pub fn genesis(envelope: &RosterEnvelope, pin: &Digest) -> Result<Self, RosterError> {
        let verified = Self::pinned(envelope, pin)?;
        let Self { roster, digest, .. } = &verified;
        if roster.version != 1 {
            return Err(RosterError::Version { expected: 1, found: roster.version });
        }
        if !envelope.possessions.is_empty() {
            return Err(RosterError::Unsound("version 1 has no possession statements"));
        }
        // One signature each: nobody makes a verifier check more than it must.
        if envelope.signatures.len() > roster.persons.len() {
            return Err(RosterError::Unsound("there are more signatures than persons"));
        }
        let mut signers = Vec::new();
        for signed in &envelope.signatures {
            let person = verify_roster_signature(roster, digest, signed).map_err(RosterError::Signature)?;
            if !signers.contains(&person) {
                signers.push(person);
            }
        }
        let needed = roster.persons.iter().filter(|person| !person.devices.is_empty()).count();
        if signers.len() < needed.max(limits::MIN_QUORUM as usize) {
            return Err(RosterError::TooFewSigners { signed: signers.len(), needed });
        }
        Ok(verified)
    }

    /// Takes a roster whose digest somebody vouches for who could as well name another: it rests in a
    /// slot that only root writes, and was verified when it came there; or its digest came with a
    /// token from a machine that pins it. Sound, and the very bytes that are pinned; signatures are
    /// not looked at.
    ///
    /// # Errors
    /// [`RosterError`], naming what does not hold.
    pub fn pinned(envelope: &RosterEnvelope, pin: &Digest) -> Result<Self, RosterError> {
        if envelope.digest != *pin {
            return Err(RosterError::NotPinned);
        }
        Self::sound(envelope)
    }

    /// The next version, when people of this one sealed it by the rules of
    /// [`super::step`]. Says nothing about time: an expired roster verifies its own renewal.
    ///
    /// # Errors
    /// [`RosterError`], naming what does not hold.
    pub fn successor(&self, envelope: &RosterEnvelope) -> Result<Self, RosterError> {
        // Before anything is parsed: most of what comes here and is not next is old.
        let expected = self.roster.version.saturating_add(1);
        if envelope.version != expected {
            return Err(RosterError::Version { expected, found: envelope.version });
        }
        let mut next = Self::sound(envelope)?;
        if next.roster.previous != Some(self.digest) {
            return Err(RosterError::Forked);
        }
        // Whose word it takes comes before what may be long: 16 signatures, 256 new devices.
        let step = step::step(&self.roster, &next.roster)?;
        step::check_signatures(&self.roster, &next, &step, &envelope.signatures)?;
        step::check_possessions(&self.roster, &next.roster, &envelope.possessions)?;
        next.walked.clone_from(&self.walked);
        next.walked.push(self.reference());
        Ok(next)
    }

    /// The last of `envelopes`, each of which must be the successor of the one before, the first of
    /// this one; this one when there are none.
    ///
    /// # Errors
    /// [`ChainError`] at the first that is not, or where there are more than a verifier walks.
    pub fn follow(self, envelopes: &[RosterEnvelope]) -> Result<Self, ChainError> {
        Ok(self.walk(envelopes)?.unwrap_or(self))
    }

    /// As [`Self::follow`]; none where there are no envelopes.
    pub(crate) fn walk(&self, envelopes: &[RosterEnvelope]) -> Result<Option<Self>, ChainError> {
        let mut head: Option<Self> = None;
        for (walked, envelope) in envelopes.iter().enumerate() {
            let next = match walked {
                0..limits::ROSTER_STEPS => head.as_ref().unwrap_or(self).successor(envelope),
                _ => Err(RosterError::Unsound("a chain has at most 64 steps")),
            };
            head = Some(next.map_err(|error| ChainError { at_version: envelope.version, error })?);
        }
        Ok(head)
    }

    /// Version and digest, as requests name it.
    #[must_use]
    pub fn reference(&self) -> RosterRef {
        RosterRef { version: self.roster.version, digest: self.digest }
    }

    /// Whether this is that version, or was reached from it step by step.
    #[must_use]
    pub fn descends_from(&self, older: &RosterRef) -> bool {
        self.reference() == *older || self.walked.contains(older)
    }

    /// What a next roster would change, as the rules count it, and so who must sign it. For whoever
    /// proposes; [`Self::successor`] asks again.
    ///
    /// # Errors
    /// [`RosterError::Step`] where nobody's signatures would make it lawful.
    pub fn step(&self, next: &Roster) -> Result<Step, RosterError> {
        step::step(&self.roster, next)
    }

    /// The devices that are new or changed in a next roster, and must prove possession of their keys
    /// in this order: that in which the roster lists them.
    ///
    /// # Errors
    /// [`RosterError::Step`] where a device would move to another person.
    pub fn new_devices<'a>(&self, next: &'a Roster) -> Result<Vec<(&'a Person, &'a Device)>, RosterError> {
        step::new_devices(&self.roster, next)
    }

    /// Verifies one signature to the next version, by this version's devices and rules.
    ///
    /// # Errors
    /// A [`DenyReason`] that names the check that failed.
    pub fn verify_signature(
        &self,
        version: u64,
        digest: &Digest,
        signed: &SignedStatement,
    ) -> Result<(&Person, &Device), DenyReason> {
        step::verify_signature(&self.roster, version, digest, signed)
    }

    /// Verifies a new device's possession statement, by this version's RP id and origins.
    ///
    /// # Errors
    /// A [`DenyReason`] that names the check that failed.
    pub fn verify_possession(
        &self,
        person: &PersonId,
        device: &Device,
        signed: &SignedStatement,
    ) -> Result<(), DenyReason> {
        step::verify_possession(&self.roster, person, device, signed)
    }

    /// The roster in an envelope that is consistent in itself.
    fn sound(envelope: &RosterEnvelope) -> Result<Self, RosterError> {
        let digest = Roster::digest_of(&envelope.bytes.0);
        if digest != envelope.digest {
            return Err(RosterError::Digest);
        }
        let roster = Roster::from_bytes(&envelope.bytes.0)?;
        if envelope.version != roster.version {
            return Err(RosterError::Version { expected: envelope.version, found: roster.version });
        }
        Ok(Self { roster, digest, walked: Vec::new() })
    }

    /// The roster.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether it grants at `now`: not past its end, and with no end that lies further ahead than any
    /// roster may live, or two people could date it ahead to make it live for longer. Its own date
    /// decides nothing: one signature can move it, no later version may be dated earlier, and so a date
    /// far ahead would end all grants for good.
    ///
    /// # Errors
    /// [`DenyReason::RosterExpired`], [`DenyReason::ClockSkew`].
    pub fn check_time(&self, now: UnixTime) -> Result<(), DenyReason> {
        let latest = now.plus(limits::CLOCK_SKEW_S);
        if now >= self.roster.expires_at {
            return Err(DenyReason::RosterExpired);
        }
        if self.roster.expires_at > latest.plus(limits::MAX_ROSTER_LIFE_S) {
            return Err(DenyReason::ClockSkew);
        }
        Ok(())
    }
}

impl std::ops::Deref for VerifiedRoster {
    type Target = Roster;
    fn deref(&self) -> &Roster {
        &self.roster
    }
}

/// Verifies one person's signature to a roster by the devices that this very roster names (the
/// ceremony's rule: new keys prove possession).
///
/// # Errors
/// A [`DenyReason`] that names the check that failed.
pub fn verify_roster_signature(
    roster: &Roster,
    digest: &Digest,
    signed: &SignedStatement,
) -> Result<PersonId, DenyReason> {
    let (person, device) = step::signer(roster, roster.version, digest, signed)?;
    webauthn::verify_signed_statement(&Expected { roster, device, domains: ROSTER_DOMAINS }, signed)?;
    Ok(person.id.clone())
}
