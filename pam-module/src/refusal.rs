//! A refusal inside the module: the reason (the table of `protocol` says the rest) and, where it
//! helps, words of our own for the requester's terminal and for the system log. Neither ever holds
//! argv, environment or a secret.

use twinlock_protocol::DenyReason;
use twinlock_protocol::refusal::PamOutcome;

use crate::conversation::Conversation;

/// Why the module refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Refusal {
    /// The reason.
    pub reason: DenyReason,
    /// More words for the terminal, already escaped.
    pub said: Option<String>,
    /// More words for the system log.
    pub logged: Option<String>,
    /// Who found the reason.
    pub finder: Finder,
}

/// Who found the reason of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finder {
    /// This module, by a check of its own.
    Module,
    /// The agent or the gateway say so; nothing proves it.
    Daemon,
}

impl Refusal {
    /// A refusal with words for the requester, which must hold nothing untrusted unescaped.
    pub fn saying(reason: DenyReason, said: impl Into<String>) -> Self {
        Self { said: Some(said.into()), ..Self::from(reason) }
    }

    /// A refusal with words for the system log.
    pub fn logging(reason: DenyReason, logged: impl ToString) -> Self {
        Self { logged: Some(logged.to_string()), ..Self::from(reason) }
    }

    /// A refusal that an agent or a gateway told.
    pub fn told(reason: DenyReason, said: Option<String>) -> Self {
        Self { said, finder: Finder::Daemon, ..Self::from(reason) }
    }

    /// Whether what should have verified did not, by a check of this module's own.
    #[must_use]
    pub fn is_attack(&self) -> bool {
        self.finder == Finder::Module && self.reason.row().attack
    }

    /// What the module returns to `account`.
    #[must_use]
    pub fn outcome(&self) -> PamOutcome {
        self.reason.row().pam
    }

    /// The two lines for the terminal.
    #[must_use]
    pub fn lines(&self) -> String {
        let row = self.reason.row();
        let said = self.said.as_deref().map(|said| format!(": {said}")).unwrap_or_default();
        format!("twinlock: error: {}{said}\ntwinlock: hint: {}", row.line, row.hint)
    }

    /// Tells the requester.
    pub fn tell(&self, conversation: &mut dyn Conversation) {
        conversation.tell(&self.lines());
    }
}

impl From<DenyReason> for Refusal {
    fn from(reason: DenyReason) -> Self {
        Self { reason, said: None, logged: None, finder: Finder::Module }
    }
}
