//! Sign-in, claims, and the road of one person's answer to `protocol::verify`, the only maker of
//! approval tokens. Knows no HTTP. Of what waits, the inbox tells whoever holds the cookie of a
//! person who may answer it one line each; the request itself only to a claim that their device key
//! has signed.

mod answer;
mod nonce;
mod sign_in;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use twinlock_protocol::roster::{Device, Person, Roster};
use twinlock_protocol::{DenyReason, escape};

use crate::serve::Engine;

pub use answer::{ClaimProof, ClaimState, ClaimView, GaveState, InboxLine, RequesterView, summary};
pub use sign_in::{COOKIE_BYTES, Cookie, SignInFinish, SignInStart, SignedIn};

/// What is kept of a browser's name for itself, in characters.
const BROWSER_CHARS: usize = 160;

/// Where a call comes from, for limits and the audit log (Q1). The browser's name is its own claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    address: IpAddr,
    browser: String,
}

impl Source {
    /// `browser` as it named itself; cut, and made visible.
    #[must_use]
    pub fn new(address: IpAddr, browser: &str) -> Self {
        let cut: String = browser.chars().take(BROWSER_CHARS).collect();
        Self { address, browser: escape::visible(cut.as_bytes()) }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.address, self.browser)
    }
}

/// The approvers' side of the gateway.
pub struct Approvers {
    engine: Arc<Engine>,
    sign_ins: sign_in::SignIns,
    nonces: nonce::Nonces,
}

impl Approvers {
    /// With the sign-ins that the database holds.
    ///
    /// # Errors
    /// The database, or the random source.
    pub fn start(engine: Arc<Engine>) -> Result<Self, DenyReason> {
        let kept = engine.store.sign_ins(engine.clock.now()).map_err(|_| DenyReason::StoreFailed)?;
        let sign_ins = sign_in::SignIns::with(kept)?;
        let nonces = nonce::Nonces::new()?;
        Ok(Self { engine, sign_ins, nonces })
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Forgets what is over.
    pub fn tidy(&self) {
        let now = self.engine.clock.now();
        self.sign_ins.tidy(now);
        self.nonces.tidy(now);
        self.engine.limits.tidy();
    }

    /// Person and device of a sign-in, as this roster has them; a device whose record is another one,
    /// its key restored perhaps, is not the one that signed in.
    fn approver<'r>(roster: &'r Roster, signed_in: &SignedIn) -> Result<(&'r Person, &'r Device), DenyReason> {
        let person = roster.person(&signed_in.person).ok_or(DenyReason::SignInNeeded)?;
        let device = person.devices.iter().find(|device| device.id == signed_in.device);
        let device = device.filter(|device| device.record_digest() == signed_in.record);
        device.map(|device| (person, device)).ok_or(DenyReason::SignInNeeded)
    }
}
