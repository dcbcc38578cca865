//! The audit log: a closed enum of events, committed with the change that they tell of, in a hash
//! chain; then handed to syslog and a file of JSON lines. It never holds a secret.

mod chain;
mod event;
mod sinks;

pub use chain::{AuditRow, ChainError, GENESIS, link, verify_chain};
pub use event::{Event, LimitName, RevokedBecause, Way, Withdrawal};
pub use sinks::Sinks;
