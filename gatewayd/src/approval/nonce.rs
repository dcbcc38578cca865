//! Claim nonces: 32 bytes that are good once, for five minutes, for one sign-in. They are made
//! without keeping anything (a GET changes nothing): the first 16 bytes are expiry and randomness,
//! the last 16 a MAC over them and the sign-in under a key of this process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ring::hmac;
use twinlock_protocol::{DenyReason, Digest, Fixed, UnixTime};

use crate::random::random;

/// How long a nonce is good, in seconds.
const LIFE_S: u64 = 300;

pub(super) struct Nonces {
    key: hmac::Key,
    used: Mutex<HashMap<Fixed<32>, UnixTime>>,
}

impl Nonces {
    pub(super) fn new() -> Result<Self, DenyReason> {
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()?), used: Mutex::default() })
    }

    /// A nonce for this sign-in.
    pub(super) fn make(&self, sign_in: &Digest, now: UnixTime) -> Result<Fixed<32>, DenyReason> {
        let mut head = [0; 16];
        let expiry = now.plus(LIFE_S).0.to_be_bytes();
        let random: [u8; 8] = random()?;
        for (to, from) in head.iter_mut().zip(expiry.iter().chain(&random)) {
            *to = *from;
        }
        Ok(self.complete(head, sign_in))
    }

    /// Uses a nonce up.
    pub(super) fn redeem(&self, nonce: &Fixed<32>, sign_in: &Digest, now: UnixTime) -> Result<(), DenyReason> {
        let mut head = [0; 16];
        for (to, from) in head.iter_mut().zip(&nonce.0) {
            *to = *from;
        }
        let mut expiry = [0; 8];
        for (to, from) in expiry.iter_mut().zip(&head) {
            *to = *from;
        }
        let expiry = UnixTime(u64::from_be_bytes(expiry));
        // The comparison of the MAC need not be secret in time: a nonce is the signed-in page's own.
        if self.complete(head, sign_in) != *nonce || now >= expiry {
            return Err(DenyReason::BadInput);
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        match used.insert(*nonce, expiry) {
            None => Ok(()),
            Some(_) => Err(DenyReason::BadInput),
        }
    }

    pub(super) fn tidy(&self, now: UnixTime) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, expiry| now < *expiry);
    }

    fn complete(&self, head: [u8; 16], sign_in: &Digest) -> Fixed<32> {
        let mut message = head.to_vec();
        message.extend_from_slice(sign_in.as_bytes());
        let tag = hmac::sign(&self.key, &message);
        let mut nonce = [0; 32];
        for (to, from) in nonce.iter_mut().zip(head.iter().chain(tag.as_ref())) {
            *to = *from;
        }
        Fixed(nonce)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_nonce_is_good_once_for_its_sign_in_and_for_five_minutes() {
        let (nonces, now) = (Nonces::new().unwrap(), UnixTime(1_000_000));
        let (mine, other) = (Digest::plain(b"mine"), Digest::plain(b"other"));
        let nonce = nonces.make(&mine, now).unwrap();
        assert!(nonces.redeem(&nonce, &other, now).is_err());
        assert!(nonces.redeem(&nonce, &mine, now.plus(LIFE_S)).is_err());
        let mut changed = nonce;
        changed.0[9] ^= 1;
        assert!(nonces.redeem(&changed, &mine, now).is_err());
        assert!(nonces.redeem(&nonce, &mine, now).is_ok());
        assert!(nonces.redeem(&nonce, &mine, now).is_err());
    }
}
