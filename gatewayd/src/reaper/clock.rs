//! The host's clocks, read here and nowhere else in the reaper. Deadlines count in
//! `CLOCK_BOOTTIME`, which nobody can set and which goes on while the machine is suspended.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use twinlock_protocol::UnixTime;

/// A moment of `CLOCK_BOOTTIME`, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootMs(pub u64);

impl BootMs {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let part = |value: i64| u64::try_from(value).unwrap_or(0);
        Self(part(now.tv_sec).saturating_mul(1000).saturating_add(part(now.tv_nsec) / 1_000_000))
    }

    /// This moment moved forward by `ms`.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// This moment moved back by `ms`.
    #[must_use]
    pub const fn minus(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier`; zero when it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// How long to wait until this moment, seen from `now`.
    #[must_use]
    pub const fn after(self, now: Self) -> Duration {
        Duration::from_millis(self.since(now))
    }
}

/// The wall clock, for people: decides nothing.
#[must_use]
pub fn wall() -> UnixTime {
    let now = clock_gettime(ClockId::Realtime);
    UnixTime(u64::try_from(now.tv_sec).unwrap_or(0))
}

/// This boot's id (`/proc/sys/kernel/random/boot_id`), lower case.
///
/// # Errors
/// When the file cannot be read.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_ascii_lowercase())
}
