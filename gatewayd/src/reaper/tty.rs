//! Lines on the requester's terminal: a warning before the end, and one line at the end. A terminal
//! that is stopped (Ctrl-S), slow or gone costs nothing but its line: writing happens on a thread
//! of its own, one at a time, and only when the terminal takes it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use twinlock_protocol::escape;
use twinlock_protocol::evidence::EndReason;

/// The terminal of a session.
#[derive(Clone, Debug)]
pub struct Terminal {
    fd: Arc<OwnedFd>,
    busy: Arc<AtomicBool>,
}

impl Terminal {
    /// Takes the descriptor that the module sent; none when it is no terminal.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Option<Self> {
        rustix::termios::isatty(&fd).then(|| Self { fd: Arc::new(fd), busy: Arc::default() })
    }

    /// Writes one line, if the terminal takes it now. Never waits.
    pub fn say(&self, line: &str) {
        if self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        // The session may have the terminal in raw mode: the line brings its own returns.
        let text = format!("\r\n{}\r\n", escape::visible(line.as_bytes()));
        let terminal = self.clone();
        tokio::task::spawn_blocking(move || {
            let mut ready = [PollFd::new(&*terminal.fd, PollFlags::OUT)];
            let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            if matches!(poll(&mut ready, Some(&none)), Ok(1..))
                && ready.first().is_some_and(|fd| fd.revents().contains(PollFlags::OUT))
            {
                // A short write loses the tail of one line; the terminal is not ours to insist.
                let _ = rustix::io::write(&*terminal.fd, text.as_bytes());
            }
            terminal.busy.store(false, Ordering::Release);
        });
    }
}

/// The warning that a session ends in `left_ms`.
#[must_use]
pub fn warning(left_ms: u64) -> String {
    let seconds = left_ms.div_ceil(1000);
    match (seconds.div_ceil(60), seconds) {
        (_, 1) => "twinlock: this session ends in 1 second".to_owned(),
        (_, ..=59) => format!("twinlock: this session ends in {seconds} seconds"),
        (1, _) => "twinlock: this session ends in 1 minute".to_owned(),
        (minutes, _) => format!("twinlock: this session ends in {minutes} minutes"),
    }
}

/// The line at the end; none when the command ended by itself.
#[must_use]
pub fn farewell(reason: EndReason) -> Option<&'static str> {
    match reason {
        EndReason::Finished => None,
        EndReason::Expired | EndReason::FoundOver => Some("twinlock: this session ended: expired"),
        EndReason::Revoked => Some("twinlock: this session ended: revoked"),
        EndReason::Dropped => Some("twinlock: this session ended: dropped"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_say_minutes_then_seconds() {
        assert_eq!(warning(300_000), "twinlock: this session ends in 5 minutes");
        assert_eq!(warning(60_000), "twinlock: this session ends in 1 minute");
        assert_eq!(warning(59_200), "twinlock: this session ends in 1 minute");
        assert_eq!(warning(58_000), "twinlock: this session ends in 58 seconds");
        assert_eq!(warning(900), "twinlock: this session ends in 1 second");
    }
}
