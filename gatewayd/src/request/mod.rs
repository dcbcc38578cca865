//! The life of an elevation request as a pure state machine: (state, event, context) → (state,
//! effects, reply). No I/O, no clock, no random source: time and fresh tickets arrive in the
//! context, proof tokens in events. It never knows HTTP or SQL.
//!
//! ```text
//! Pending ──approval──► AwaitingSecond ──approval──► Approved ──► Issued ──start──► Active ──► Ended
//!    │                        │                                     │
//!    └──────── Denied · Expired · Withdrawn ◄───────────────────────┘ (until the session starts)
//! ```

mod desk;
mod meet;
mod snapshot;
mod state;
mod step;

#[cfg(test)]
mod histories;

pub use desk::{ClaimBy, Claimant, Desk, Lease};
pub use snapshot::{ReviveError, Snapshot, Stored};
pub use state::{
    Active, Approved, AwaitingSecond, Case, Certified, Denied, Ended, Expired, Given, Hold, Issued, LinkState, Pending,
    State, Withdrawn,
};
pub use step::{Answer, Context, Effect, Event, Reply, Step, Submitted, admit, resume_events, step};
