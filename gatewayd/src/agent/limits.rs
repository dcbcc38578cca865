//! How much one user may ask of this host's agent: new requests per minute and requests that wait.
//! A user who is limited is told when to try again. The uid is the one of the host-signed request.

use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

/// A limited user is told to come back after this long when too many of their requests wait, in
/// seconds: one of them is then likely to be answered.
const PENDING_RETRY_S: u32 = 30;
/// Uids that are remembered before those without recent requests are forgotten.
const REMEMBERED: usize = 1024;

/// New requests of one uid in a minute.
pub struct RequestsPerUid<C: Clock = DefaultClock> {
    limiter: RateLimiter<u32, DashMapStateStore<u32>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
}

impl RequestsPerUid {
    /// By the system's monotonic clock.
    #[must_use]
    pub fn new(per_minute: NonZeroU32) -> Self {
        Self::with_clock(per_minute, DefaultClock::default())
    }
}

impl<C: Clock + Clone> RequestsPerUid<C> {
    /// By another clock.
    #[must_use]
    pub fn with_clock(per_minute: NonZeroU32, clock: C) -> Self {
        let limiter = RateLimiter::new(Quota::per_minute(per_minute), DashMapStateStore::default(), clock.clone());
        Self { limiter, clock }
    }

    /// Counts one request.
    ///
    /// # Errors
    /// Seconds until the next one is taken.
    pub fn admit(&self, uid: u32) -> Result<(), u32> {
        if self.limiter.len() > REMEMBERED {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(&uid).map_err(|until| {
            let wait = until.earliest_possible().duration_since(self.clock.now());
            u32::try_from(std::time::Duration::from(wait).as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
        })
    }
}

impl<C: Clock + Clone> std::fmt::Debug for RequestsPerUid<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} uids", self.limiter.len())
    }
}

/// Judges how many requests of one uid wait.
///
/// # Errors
/// Seconds until it is worth trying again.
pub fn admit_pending(waiting: usize, limit: NonZeroU32) -> Result<(), u32> {
    if waiting < limit.get() as usize { Ok(()) } else { Err(PENDING_RETRY_S) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn a_user_over_the_limit_is_told_when_to_come_back_and_others_are_not_affected() {
        let clock = FakeRelativeClock::default();
        let limit = RequestsPerUid::with_clock(NonZeroU32::new(2).unwrap(), clock.clone());
        assert_eq!(limit.admit(1001), Ok(()));
        assert_eq!(limit.admit(1001), Ok(()));
        assert_eq!(limit.admit(1001), Err(30));
        assert_eq!(limit.admit(1002), Ok(()));
        clock.advance(Duration::from_secs(30));
        assert_eq!(limit.admit(1001), Ok(()));
        assert_eq!(limit.admit(1001), Err(30));
    }

    #[test]
    fn the_limit_of_waiting_requests_counts_those_that_wait() {
        let limit = NonZeroU32::new(2).unwrap();
        assert_eq!(admit_pending(1, limit), Ok(()));
        assert_eq!(admit_pending(2, limit), Err(PENDING_RETRY_S));
    }
}
