//! The system's random source, in one place. A failure is an error that denies, never a weak value.

use ring::rand::{SecureRandom, SystemRandom};

/// The system's random source failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's random source failed")]
pub struct RandomFailed;

/// `N` random bytes.
///
/// # Errors
/// [`RandomFailed`].
pub fn random<const N: usize>() -> Result<[u8; N], RandomFailed> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| RandomFailed)?;
    Ok(bytes)
}

impl From<RandomFailed> for twinlock_protocol::DenyReason {
    fn from(_: RandomFailed) -> Self {
        Self::Internal
    }
}
