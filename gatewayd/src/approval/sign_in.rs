//! Sign-in by passkey and device key. The cookie is 256 random bits, kept as a hash, at most twelve
//! hours old; it alone approves nothing (W7). Every failure looks the same (W8). Beginning a sign-in
//! keeps nothing, so that no stranger can crowd another's out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ring::hmac;
use twinlock_protocol::digest::Domain;
use twinlock_protocol::ids::{CredentialId, DeviceId, PersonId};
use twinlock_protocol::roster::{Device, Person, Roster, Standing};
use twinlock_protocol::signature::{self, Signature};
use twinlock_protocol::statement::Assertion;
use twinlock_protocol::{DenyReason, Digest, Fixed, UnixTime, webauthn};

use super::{Approvers, Source};
use crate::audit;
use crate::random::random;
use crate::store::{SignInRow, Transaction, Work};

/// Bytes of a session cookie.
pub const COOKIE_BYTES: usize = 32;
/// The longest life of a sign-in, in seconds.
const LIFE_S: u64 = 12 * 3600;
/// How long a challenge is good, in seconds.
const CHALLENGE_S: u64 = 300;

/// A session cookie's value.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie(pub Fixed<COOKIE_BYTES>);

impl Cookie {
    fn hash(&self) -> Digest {
        Digest::plain(&self.0.0)
    }
}

impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a cookie")
    }
}

/// The beginning of a sign-in.
#[derive(Clone, Debug)]
pub struct SignInStart {
    /// Its id.
    pub sign_in: Fixed<16>,
    /// Random; the page makes the challenge of it, so that no sign-in can be an approval.
    pub nonce: Fixed<32>,
}

/// The page's answer.
#[derive(Clone, Debug)]
pub struct SignInFinish {
    /// Which sign-in.
    pub sign_in: Fixed<16>,
    /// The passkey that the person chose.
    pub credential_id: CredentialId,
    /// Its assertion.
    pub assertion: Assertion,
    /// The device key's signature over `"twinlock/claim/v1\0" ‖ challenge`.
    pub device_signature: Option<Signature>,
}

/// Somebody who is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// The hash of the cookie.
    pub(super) cookie: Digest,
    /// Who.
    pub person: PersonId,
    /// On which device.
    pub device: DeviceId,
    /// The digest of its record in the roster.
    pub(super) record: Digest,
    /// Until when.
    pub expires_at: UnixTime,
}

pub(super) struct SignIns {
    /// Of this process: a sign-in that was begun before a restart is begun again.
    key: hmac::Key,
    /// Those that went through, until they would be over anyway.
    used: Mutex<HashMap<Fixed<16>, UnixTime>>,
    sessions: Mutex<HashMap<Digest, SignInRow>>,
}

impl SignIns {
    pub(super) fn with(kept: Vec<SignInRow>) -> Result<Self, DenyReason> {
        let sessions = kept.into_iter().map(|row| (row.cookie, row)).collect();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()?);
        Ok(Self { key, used: Mutex::default(), sessions: Mutex::new(sessions) })
    }

    /// A sign-in's id: its end and randomness.
    fn begin(&self, now: UnixTime) -> Result<Fixed<16>, DenyReason> {
        let mut id = [0; 16];
        let random: [u8; 8] = random()?;
        for (to, from) in id.iter_mut().zip(now.plus(CHALLENGE_S).0.to_be_bytes().iter().chain(&random)) {
            *to = *from;
        }
        Ok(Fixed(id))
    }

    /// Its end, as the id says. Whoever makes one up has the nonce from nobody.
    fn end(id: &Fixed<16>) -> UnixTime {
        let mut end = [0; 8];
        for (to, from) in end.iter_mut().zip(&id.0) {
            *to = *from;
        }
        UnixTime(u64::from_be_bytes(end))
    }

    /// What the page makes the challenge of: a MAC over the id.
    fn nonce(&self, id: &Fixed<16>) -> Fixed<32> {
        let mut nonce = [0; 32];
        for (to, from) in nonce.iter_mut().zip(hmac::sign(&self.key, &id.0).as_ref()) {
            *to = *from;
        }
        Fixed(nonce)
    }

    /// The challenge of a sign-in that is not over.
    fn challenge(&self, id: &Fixed<16>, now: UnixTime) -> Result<Digest, DenyReason> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id);
        if used || now >= Self::end(id) {
            return Err(DenyReason::AssertionChallenge);
        }
        Ok(Digest::of(Domain::SignIn, &self.nonce(id).0))
    }

    /// Uses a sign-in up: it went through.
    fn redeem(&self, id: &Fixed<16>) -> Result<(), DenyReason> {
        match self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, Self::end(id)) {
            None => Ok(()),
            Some(_) => Err(DenyReason::AssertionChallenge),
        }
    }

    pub(super) fn tidy(&self, now: UnixTime) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, end| now < *end);
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, row| now < row.expires_at);
    }
}

impl Approvers {
    /// Starts a sign-in; names nobody.
    ///
    /// # Errors
    /// [`DenyReason::Internal`] when the random source fails.
    pub fn start_sign_in(&self) -> Result<SignInStart, DenyReason> {
        let sign_in = self.sign_ins.begin(self.engine.clock.now())?;
        Ok(SignInStart { sign_in, nonce: self.sign_ins.nonce(&sign_in) })
    }

    /// Verifies a sign-in; the cookie is new, whatever the browser held before.
    ///
    /// # Errors
    /// [`DenyReason::SignInNeeded`] for everything that does not verify; the audit log has the
    /// reason. [`DenyReason::StoreFailed`].
    pub async fn finish_sign_in(&self, finish: SignInFinish, from: &Source) -> Result<(Cookie, SignedIn), DenyReason> {
        let now = self.engine.clock.now();
        let roster = self.engine.roster();
        match self.verify_sign_in(&roster, &finish, now) {
            Ok((person, device)) => {
                let cookie = Cookie(Fixed(random()?));
                let row = SignInRow {
                    cookie: cookie.hash(),
                    person: person.id.clone(),
                    device: device.id.clone(),
                    record: device.record_digest(),
                    expires_at: now.plus(LIFE_S),
                };
                let signed_in = audit::Event::SignedIn {
                    person: row.person.clone(),
                    device: row.device.clone(),
                    assurance: device.assurance(),
                    from: from.to_string(),
                };
                self.commit(Work::SignIn(row.clone()), signed_in).await?;
                let session = session_of(&row);
                self.sign_ins.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(row.cookie, row);
                Ok((cookie, session))
            }
            Err(reason) => {
                self.engine.metrics.refused(reason);
                if self.engine.limits.is_worth_a_row(from.address) {
                    self.engine.note(vec![audit::Event::SignInRefused { reason, from: from.to_string() }]).await;
                }
                Err(DenyReason::SignInNeeded)
            }
        }
    }

    fn verify_sign_in<'r>(
        &self,
        roster: &'r Roster,
        finish: &SignInFinish,
        now: UnixTime,
    ) -> Result<(&'r Person, &'r Device), DenyReason> {
        let challenge = self.sign_ins.challenge(&finish.sign_in, now)?;
        let (person, device) = check_passkey(roster, finish, &challenge)?;
        verify_claim_signature(device, finish.device_signature.as_ref(), challenge.as_bytes())?;
        self.sign_ins.redeem(&finish.sign_in)?;
        Ok((person, device))
    }

    /// Whose passkey this is, where only the device key is missing: for a browser that dropped it.
    /// Signs nobody in.
    ///
    /// # Errors
    /// [`DenyReason::SignInNeeded`] for everything that does not verify.
    pub async fn verify_passkey_alone(
        &self,
        finish: &SignInFinish,
        from: &Source,
    ) -> Result<(Person, Device, Digest), DenyReason> {
        let (roster, now) = (self.engine.roster(), self.engine.clock.now());
        let checked = self.sign_ins.challenge(&finish.sign_in, now).and_then(|challenge| {
            let (person, device) = check_passkey(&roster, finish, &challenge)?;
            // A device that never had a key gets one with two signatures, by an invite.
            if device.device_key.is_none() || finish.device_signature.is_some() {
                return Err(DenyReason::DeviceSignature);
            }
            self.sign_ins.redeem(&finish.sign_in)?;
            Ok((person.clone(), device.clone(), challenge))
        });
        match checked {
            Ok(known) => Ok(known),
            Err(reason) => {
                self.engine.metrics.refused(reason);
                if self.engine.limits.is_worth_a_row(from.address) {
                    self.engine.note(vec![audit::Event::SignInRefused { reason, from: from.to_string() }]).await;
                }
                Err(DenyReason::SignInNeeded)
            }
        }
    }

    /// A roster was sealed: forgets the sign-ins of whoever is not in it any more, or suspended, and
    /// those on devices that are not what they were. One that begins meanwhile is held to the roster
    /// when it is used.
    pub fn end_sign_ins(&self, next: &Roster) {
        let stands = |row: &SignInRow| {
            let found = Self::approver(next, &session_of(row));
            found.is_ok_and(|(person, _)| person.standing == Standing::Active)
        };
        self.sign_ins.sessions.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, row| stands(row));
    }

    /// Who comes with this cookie.
    ///
    /// # Errors
    /// [`DenyReason::SignInNeeded`].
    pub fn signed_in(&self, cookie: &Cookie) -> Result<SignedIn, DenyReason> {
        let now = self.engine.clock.now();
        let session = {
            let sessions = self.sign_ins.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            let row = sessions.get(&cookie.hash()).ok_or(DenyReason::SignInNeeded)?;
            if now >= row.expires_at {
                return Err(DenyReason::SignInNeeded);
            }
            session_of(row)
        };
        let roster = self.engine.roster();
        let (person, _device) = Self::approver(&roster, &session)?;
        if person.standing == Standing::Active { Ok(session) } else { Err(DenyReason::SignInNeeded) }
    }

    /// Person and device of a sign-in.
    ///
    /// # Errors
    /// [`DenyReason::SignInNeeded`] when the roster no longer has them.
    pub fn who(&self, signed_in: &SignedIn) -> Result<(Person, Device), DenyReason> {
        let roster = self.engine.roster();
        Self::approver(&roster, signed_in).map(|(person, device)| (person.clone(), device.clone()))
    }

    /// A claim nonce for this sign-in.
    ///
    /// # Errors
    /// [`DenyReason::Internal`].
    pub fn claim_nonce(&self, signed_in: &SignedIn) -> Result<Fixed<32>, DenyReason> {
        self.nonces.make(&signed_in.cookie, self.engine.clock.now())
    }

    /// Forgets a sign-in.
    ///
    /// # Errors
    /// [`DenyReason::StoreFailed`].
    pub async fn sign_out(&self, signed_in: &SignedIn) -> Result<(), DenyReason> {
        let SignedIn { cookie, person, device, .. } = signed_in.clone();
        // First on disk: a sign-in that only memory forgot is back after a restart.
        self.commit(Work::SignOut(cookie), audit::Event::SignedOut { person, device }).await?;
        self.sign_ins.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&cookie);
        Ok(())
    }

    pub(super) async fn commit(&self, work: Work, event: audit::Event) -> Result<(), DenyReason> {
        let transaction = Transaction { at_ms: self.engine.clock.unix_ms(), work, events: vec![event] };
        self.engine.store.commit(transaction).await.map_err(|_| DenyReason::StoreFailed)
    }
}

fn session_of(row: &SignInRow) -> SignedIn {
    SignedIn {
        cookie: row.cookie,
        person: row.person.clone(),
        device: row.device.clone(),
        record: row.record,
        expires_at: row.expires_at,
    }
}

fn check_passkey<'r>(
    roster: &'r Roster,
    finish: &SignInFinish,
    challenge: &Digest,
) -> Result<(&'r Person, &'r Device), DenyReason> {
    let (person, device) = roster.device_by_credential(&finish.credential_id).ok_or(DenyReason::ApproverUnknown)?;
    webauthn::verify_assertion(roster, device, challenge, &finish.assertion)?;
    if person.standing == Standing::Active { Ok((person, device)) } else { Err(DenyReason::ApproverNotEligible) }
}

/// The device key's silent signature over a claim (or a sign-in's challenge): present exactly when
/// the device has a key.
pub(super) fn verify_claim_signature(
    device: &Device,
    given: Option<&Signature>,
    payload: &[u8],
) -> Result<(), DenyReason> {
    match (&device.device_key, given) {
        (Some(key), Some(given)) if signature::verify(key, &Domain::Claim.message(payload), given) => Ok(()),
        (None, None) => Ok(()),
        (Some(_), Some(_) | None) | (None, Some(_)) => Err(DenyReason::DeviceSignature),
    }
}
