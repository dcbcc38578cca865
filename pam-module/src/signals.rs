//! Waiting inside somebody else's process: the signals that mean "give up" are blocked and read
//! from a descriptor, so that Ctrl-C, a closed terminal and TERM end the wait within 0.1 s in sudo,
//! su and sudo-rs alike, whatever handlers they have. A changed parent counts as a closed terminal.
//! The mask is restored on every way out.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, getppid};
use twinlock_protocol::DenyReason;

use crate::refusal::Refusal;

/// The longest time between two looks at parent and clock, in milliseconds.
const LONGEST_MS: u64 = 500;

/// Blocked signals with their descriptor.
pub struct Signals {
    descriptor: SignalFd,
    before: SigSet,
    /// The shell that waits for us, and must stay; pid 1 of a namespace has none.
    parent: Option<Pid>,
}

/// What a wait is for, besides signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Something to read, or the end of the connection.
    Reading,
    /// Room to write.
    Writing,
}

impl Signals {
    /// Blocks INT, QUIT, HUP, TERM and TSTP. TTOU too: a flush of the terminal from the background
    /// must not stop us.
    ///
    /// # Errors
    /// [`DenyReason::Internal`].
    pub fn block() -> Result<Self, Refusal> {
        let internal = |error: nix::Error| Refusal::logging(DenyReason::Internal, format!("signals: {error}"));
        let read =
            SigSet::from_iter([Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGTSTP]);
        let descriptor =
            SignalFd::with_flags(&read, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(internal)?;
        let mut blocked = read;
        blocked.add(Signal::SIGTTOU);
        let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(internal)?;
        // nix takes only -1 for an error, and pthread_sigmask returns its errors as they are.
        if !SigSet::thread_get_mask().map_err(internal)?.contains(Signal::SIGTTOU) {
            return Err(internal(nix::Error::EAGAIN));
        }
        Ok(Self { descriptor, before, parent: getppid() })
    }

    /// Waits until `descriptor` is ready or `milliseconds` have passed. Says whether it is ready.
    ///
    /// # Errors
    /// [`DenyReason::Cancelled`] when the requester gave up; [`DenyReason::Internal`].
    pub fn wait(&self, descriptor: Option<(BorrowedFd<'_>, For)>, milliseconds: u64) -> Result<bool, Refusal> {
        let milliseconds = milliseconds.min(LONGEST_MS);
        let timeout = Timespec {
            tv_sec: 0,
            // At most half a second in nanoseconds: fits any width.
            tv_nsec: i64::try_from(milliseconds * 1_000_000).unwrap_or(500_000_000),
        };
        let own = self.descriptor.as_fd();
        let mut polled = vec![PollFd::from_borrowed_fd(own, PollFlags::IN)];
        polled.extend(descriptor.map(|(fd, what)| {
            let flags = match what {
                For::Reading => PollFlags::IN | PollFlags::RDHUP,
                For::Writing => PollFlags::OUT,
            };
            PollFd::from_borrowed_fd(fd, flags)
        }));
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Refusal::logging(DenyReason::Internal, format!("poll: {error}"))),
        }
        self.check()?;
        Ok(polled.get(1).is_some_and(|fd| !fd.revents().is_empty()))
    }

    /// Whether the requester gave up.
    ///
    /// # Errors
    /// [`DenyReason::Cancelled`].
    pub fn check(&self) -> Result<(), Refusal> {
        loop {
            match self.descriptor.read_signal() {
                // Ctrl-Z is swallowed: sudo would stop itself after the approval otherwise.
                Ok(Some(signal)) if Signal::try_from(signal.ssi_signo.cast_signed()) == Ok(Signal::SIGTSTP) => {}
                Ok(Some(_)) => return Err(DenyReason::Cancelled.into()),
                Ok(None) => break,
                Err(error) => return Err(Refusal::logging(DenyReason::Internal, format!("signalfd: {error}"))),
            }
        }
        if getppid() == self.parent { Ok(()) } else { Err(DenyReason::Cancelled.into()) }
    }
}

impl Signals {
    /// Runs a question of the application's with the signals as the application had them: it reads the
    /// terminal itself, and Ctrl-C must reach it.
    ///
    /// # Errors
    /// [`DenyReason::Cancelled`] when the requester gave up; [`DenyReason::Internal`].
    pub fn aside<T>(&self, question: impl FnOnce() -> T) -> Result<T, Refusal> {
        let internal = |error: nix::Error| Refusal::logging(DenyReason::Internal, format!("signals: {error}"));
        self.check()?;
        let blocked = SigSet::thread_get_mask().map_err(internal)?;
        self.before.thread_set_mask().map_err(internal)?;
        let answer = question();
        blocked.thread_set_mask().map_err(internal)?;
        if !SigSet::thread_get_mask().map_err(internal)?.contains(Signal::SIGTTOU) {
            return Err(internal(nix::Error::EAGAIN));
        }
        self.check()?;
        Ok(answer)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _as_it_was = self.before.thread_set_mask();
    }
}
