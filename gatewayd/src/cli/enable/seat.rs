//! Which login session a process belongs to, from `/proc`, and whether another is a different one:
//! who enables and who confirms must not sit in the same.

use std::fs;

use serde::{Deserialize, Serialize};

use super::state::Process;
use crate::reaper::process::{Stat, stat};

/// Further up than any shell in a shell in a multiplexer.
const ANCESTORS: usize = 64;

/// A login session, as the kernel tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// The audit session, which pam_loginuid begins at login and nobody can change; none where the
    /// kernel or the login has none.
    pub audit_session: Option<u32>,
    /// The audit login uid.
    pub login_uid: Option<u32>,
    /// The POSIX sessions of the process and of those that it descends from, as far as they have a
    /// terminal.
    pub sessions: Vec<u32>,
}

/// Why a session does not count as another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SameSeat {
    /// The audit session is the same.
    #[error("it came from the login session that enabled")]
    AuditSession,
    /// The enabling login has an audit session, the other has none.
    #[error("its login session has no audit session id (pam_loginuid), so it cannot be told from the enabling one")]
    NotAudited,
    /// There is no audit session on either side, and the terminal's session is shared.
    #[error("it came from the terminal session that enabled")]
    TerminalSession,
    /// It has no terminal, and nothing else is known of it.
    #[error("it came from no login session")]
    NoLogin,
}

impl Seat {
    /// Whether `other` is another login session than this one, which enabled.
    ///
    /// # Errors
    /// [`SameSeat`].
    pub fn differs_from(&self, other: &Self) -> Result<(), SameSeat> {
        match (self.audit_session, other.audit_session) {
            (Some(ours), Some(theirs)) if ours == theirs => Err(SameSeat::AuditSession),
            (Some(_), Some(_)) => Ok(()),
            (Some(_), None) => Err(SameSeat::NotAudited),
            (None, Some(_)) if other.login_uid.is_some() => Ok(()),
            // Kernels without audit, and containers: terminals are all there is to tell logins by.
            (None, _) if other.sessions.is_empty() => Err(SameSeat::NoLogin),
            (None, _) if other.sessions.iter().any(|one| self.sessions.contains(one)) => Err(SameSeat::TerminalSession),
            (None, _) => Ok(()),
        }
    }

    /// The seat of a process that runs.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let number = |file: &str| {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
            text.trim().parse().ok().filter(|number| *number != u32::MAX)
        };
        Self { audit_session: number("sessionid"), login_uid: number("loginuid"), sessions: sessions(pid) }
    }

    /// The seat of the session that a process of a GrantRecord belongs to: its own while it runs, its
    /// session leader's (a login shell, mostly) once it is gone. None when both are.
    #[must_use]
    pub fn of_recorded(process: Process, session: u32) -> Option<Self> {
        let is_it = |stat: Stat| stat.start_time == process.start_time;
        if stat(process.pid).is_some_and(is_it) {
            let seat = Self::of(process.pid);
            // Still the same one after it was read.
            return stat(process.pid).is_some_and(is_it).then_some(seat);
        }
        let leads = |stat: Stat| stat.session == session && stat.start_time <= process.start_time;
        stat(session).is_some_and(leads).then(|| Self::of(session))
    }
}

fn sessions(pid: u32) -> Vec<u32> {
    let mut sessions = Vec::new();
    let mut next = pid;
    for _ in 0..ANCESTORS {
        let Some(stat) = stat(next) else { break };
        if stat.has_terminal && !sessions.contains(&stat.session) {
            sessions.push(stat.session);
        }
        if stat.parent <= 1 {
            break;
        }
        next = stat.parent;
    }
    sessions
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn seat(audit_session: Option<u32>, sessions: &[u32]) -> Seat {
        Seat { audit_session, login_uid: audit_session.map(|_| 1001), sessions: sessions.to_vec() }
    }

    #[test]
    fn another_audit_session_counts_whatever_the_terminals_are() {
        let enabler = seat(Some(7), &[100]);
        assert_eq!(enabler.differs_from(&seat(Some(8), &[100])), Ok(()));
        assert_eq!(enabler.differs_from(&seat(Some(7), &[200])), Err(SameSeat::AuditSession), "a second window");
        assert_eq!(enabler.differs_from(&seat(None, &[200])), Err(SameSeat::NotAudited));
    }

    #[test]
    fn without_audit_another_terminal_session_counts() {
        let enabler = seat(None, &[100, 50]);
        assert_eq!(enabler.differs_from(&seat(None, &[200])), Ok(()));
        assert_eq!(
            enabler.differs_from(&seat(None, &[200, 50])),
            Err(SameSeat::TerminalSession),
            "below the same shell"
        );
        assert_eq!(enabler.differs_from(&seat(None, &[])), Err(SameSeat::NoLogin), "cron and the like");
        assert_eq!(enabler.differs_from(&seat(Some(9), &[])), Ok(()), "a login with an audit session");
    }

    #[test]
    fn a_process_is_found_again_by_its_start_and_nobody_else_is() {
        let own = std::process::id();
        let start_time = stat(own).unwrap().start_time;
        let session = stat(own).unwrap().session;
        assert_eq!(Seat::of_recorded(Process { pid: own, start_time }, session), Some(Seat::of(own)));
        assert_eq!(Seat::of_recorded(Process { pid: own, start_time: start_time + 1 }, u32::MAX - 1), None);
    }
}
