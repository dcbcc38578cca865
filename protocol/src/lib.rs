//! What crosses a process border in Twinlock: wire types, typed ids, digests, statements, the
//! roster, and [`verify`], the only maker of [`verify::VerifiedApproval`] and
//! [`verify::TwoPersonApproval`].
//!
//! Nothing here does I/O or reads a clock: time arrives as an argument. The PAM module, the
//! gateway and the command line all link this crate, so that there is one verifier.

mod base;
pub mod break_glass;
pub mod bytes;
pub mod codec;
pub mod digest;
pub mod escape;
pub mod evidence;
pub mod ids;
pub mod limits;
pub mod refusal;
pub mod request;
pub mod roster;
pub mod signature;
pub mod slots;
#[cfg(feature = "softphone")]
pub mod softphone;
pub mod statement;
pub mod verify;
pub mod webauthn;
pub mod wire;
pub mod words;

pub use bytes::{Bytes, Fixed};
pub use digest::Digest;
pub use refusal::DenyReason;

/// Seconds since 1970-01-01T00:00:00Z, without leap seconds (POSIX time).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// This moment moved forward by `seconds`, saturating at the end of the type.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Seconds from `earlier` to this moment; zero when `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The distance between two moments in seconds, whichever is earlier.
    #[must_use]
    pub const fn distance(self, other: Self) -> u64 {
        self.0.abs_diff(other.0)
    }
}
