//! The two clocks. Deadlines count in `CLOCK_BOOTTIME`, which nobody can set and which goes on
//! while the machine sleeps; the wall clock only stands in requests and certificates.
#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use twinlock_protocol::UnixTime;

/// Milliseconds since boot, time asleep included.
#[must_use]
pub fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // Never negative: the clock starts at 0.
    u64::try_from(now.tv_sec)
        .unwrap_or_default()
        .saturating_mul(1000)
        .saturating_add(u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000_000)
}

/// The wall clock.
#[must_use]
pub fn wall() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// The time of day, UTC, as the terminal shows it.
#[must_use]
pub fn time_of_day(time: UnixTime) -> String {
    let second = time.0 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", second / 3600, second % 3600 / 60, second % 60)
}

/// Seconds as `1:47`.
#[must_use]
pub fn minutes(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
