//! The `Clock` trait, real and test: the only readers of the time in the gateway. Everything that
//! decides takes the time as an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use twinlock_protocol::UnixTime;

/// Reads the wall clock.
pub trait Clock: Send + Sync {
    /// Now, in milliseconds since 1970-01-01T00:00:00Z.
    fn unix_ms(&self) -> u64;

    /// Now, in whole seconds.
    fn now(&self) -> UnixTime {
        UnixTime(self.unix_ms() / 1000)
    }
}

/// The system's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that tests move by hand.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<AtomicU64>);

impl TestClock {
    /// Stands at `now`.
    #[must_use]
    pub fn at(now: UnixTime) -> Self {
        Self(Arc::new(AtomicU64::new(now.0.saturating_mul(1000))))
    }

    /// Moves forward by `seconds`.
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds.saturating_mul(1000), Ordering::SeqCst);
    }

    /// Sets the moment, forward or back.
    pub fn set(&self, now: UnixTime) {
        self.0.store(now.0.saturating_mul(1000), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
