//! How a roster comes to be trusted: the makers of [`VerifiedRoster`], and nothing else makes one.

use super::{Roster, RosterEnvelope};
use crate::UnixTime;
use crate::codec::DecodeError;
use crate::digest::Digest;
use crate::ids::PersonId;
use crate::limits;
use crate::refusal::DenyReason;
use crate::statement::{ROSTER_DOMAINS, RosterStatement, SignedStatement};
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
    /// A version above 1: roster changes do not exist yet.
    #[error("roster version {0}: this version of Twinlock knows version 1 only")]
    Version(u64),
}

/// A roster that somebody with the right to say so vouches for: every person with devices signed
/// it, and its digest is the pinned one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRoster {
    roster: Roster,
    digest: Digest,
}

impl VerifiedRoster {
    /// Verifies a version 1 roster against its pinned digest: sound, the very bytes that are
    /// pinned, and signed by every person who has devices (the ceremony's rule).
    ///
    /// # Errors
    /// [`RosterError`], naming what does not hold.
    pub fn genesis(envelope: &RosterEnvelope, pin: &Digest) -> Result<Self, RosterError> {
        if envelope.digest != *pin {
            return Err(RosterError::NotPinned);
        }
        let digest = Roster::digest_of(&envelope.bytes.0);
        if digest != envelope.digest {
            return Err(RosterError::Digest);
        }
        let roster = Roster::from_bytes(&envelope.bytes.0)?;
        if roster.version != 1 || envelope.version != roster.version {
            return Err(RosterError::Version(roster.version.max(envelope.version)));
        }
        // One signature each: nobody makes a verifier check more than it must.
        if envelope.signatures.len() > roster.persons.len() {
            return Err(RosterError::Unsound("there are more signatures than persons"));
        }
        let mut signers = Vec::new();
        for signed in &envelope.signatures {
            let person = verify_roster_signature(&roster, &digest, signed).map_err(RosterError::Signature)?;
            if !signers.contains(&person) {
                signers.push(person);
            }
        }
        let needed = roster.persons.iter().filter(|person| !person.devices.is_empty()).count();
        if signers.len() < needed.max(limits::MIN_QUORUM as usize) {
            return Err(RosterError::TooFewSigners { signed: signers.len(), needed });
        }
        Ok(Self { roster, digest })
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

    /// Whether it still grants at `now`.
    ///
    /// # Errors
    /// [`DenyReason::RosterExpired`].
    pub fn check_time(&self, now: UnixTime) -> Result<(), DenyReason> {
        if now < self.roster.expires_at { Ok(()) } else { Err(DenyReason::RosterExpired) }
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
    let statement = RosterStatement::from_bytes(&signed.statement.0).map_err(|_| DenyReason::EvidenceMalformed)?;
    if statement.roster_digest != *digest || statement.roster_version != roster.version {
        return Err(DenyReason::EvidenceOtherRequest);
    }
    let (person, device) = roster.device_by_credential(&statement.credential_id).ok_or(DenyReason::ApproverUnknown)?;
    if person.id != statement.person || device.id != statement.device_id {
        return Err(DenyReason::ApproverUnknown);
    }
    webauthn::verify_signed_statement(&Expected { roster, device, domains: ROSTER_DOMAINS }, signed)?;
    Ok(person.id.clone())
}
