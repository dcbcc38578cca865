//! Moments and spans as people read them: UTC, to the second.

use time::OffsetDateTime;
use time::macros::format_description;
use twinlock_protocol::UnixTime;

/// `2027-01-15 08:00:00Z`.
#[must_use]
pub fn moment(time: UnixTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    i64::try_from(time.0)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|moment| moment.format(format).ok())
        .unwrap_or_else(|| format!("{} s after 1970", time.0))
}

/// `1:47`, or `1:02:03`.
#[must_use]
pub fn span(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours == 0 { format!("{minutes}:{rest:02}") } else { format!("{hours}:{minutes:02}:{rest:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_spans_read_well() {
        assert_eq!(moment(UnixTime(1_800_000_000)), "2027-01-15 08:00:00Z");
        assert_eq!(moment(UnixTime(u64::MAX)), format!("{} s after 1970", u64::MAX));
        assert_eq!((span(107), span(3723), span(0)), ("1:47".to_owned(), "1:02:03".to_owned(), "0:00".to_owned()));
    }
}
