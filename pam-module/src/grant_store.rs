//! Where a verified grant waits between `account` and `open_session`. For sudo and su that is the
//! PAM handle: the memory of this very process, inherited by the child of `sudo -b`. (sshd splits
//! the two over processes; its form will be a single-use file.)
#![forbid(unsafe_code)]

use std::rc::Rc;

use twinlock_protocol::evidence::{Authority, SignedRequest};
use twinlock_protocol::ids::{CertSerial, RequestId};
use twinlock_protocol::request::{ElevationRequest, RosterRef};
use zeroize::Zeroizing;

use crate::refusal::Refusal;

/// Everything that `open_session` needs to start the session: only `verify` makes one, and `break_glass`.
pub struct Grant {
    /// The request.
    pub request: ElevationRequest,
    /// Its id.
    pub id: RequestId,
    /// Its bytes and signatures.
    pub signed: SignedRequest,
    /// What it rests on.
    pub authority: Authority,
    /// The certificate's serial number, where there is one.
    pub serial: Option<CertSerial>,
    /// The session key, PKCS #8.
    pub session_key: Zeroizing<Vec<u8>>,
    /// The roster under which it was given.
    pub roster: RosterRef,
    /// When the grant ends, in milliseconds of `CLOCK_BOOTTIME`.
    pub deadline_boot_ms: u64,
}

/// What a handle remembers of `account`.
#[derive(Clone)]
pub enum Remembered {
    /// `account` asked, and this is the grant; nobody has used it. It is recorded, and this process
    /// is in its leaf, as the kernel names that.
    Granted(Rc<Grant>, Vec<u8>),
    /// `account` let root pass, or the same user, in this cgroup, which is a grant's leaf: what
    /// runs under a grant stays there.
    Contained(Vec<u8>),
    /// `account` asked in this handle, and the grant is used up or was never given.
    Asked,
}

/// Keeps one grant for one session.
pub trait GrantStore {
    /// Remembers; what was remembered before is forgotten.
    ///
    /// # Errors
    /// A refusal when it can't be kept.
    fn remember(&mut self, what: Remembered) -> Result<(), Refusal>;
    /// What is remembered; a grant is given out once, and [`Remembered::Asked`] stays.
    fn take(&mut self) -> Option<Remembered>;
}
