//! The life of people, devices, hosts and keys: proposals to change the roster, the signatures that
//! seal them, invites and host tokens. The gateway only carries this: every step is verified by
//! `protocol::roster`, here, at every agent and in every module, from the envelopes alone.

mod chain;
mod enrolment;
mod hosts;
pub mod invite;
mod keeper;
pub mod op;
mod papers;
pub mod proposal;
mod restoration;

pub use chain::{Chain, Link, Rosters};
pub use enrolment::{EnrolStatus, ListedInvite, NewInvite, OpenedInvite, Progress, ToProve};
pub use hosts::{JoinAnswer, JoinHello, Joining, NewHostToken};
pub(crate) use keeper::ended_sign_ins;
pub use keeper::{ChangeError, Changes, Seen, SignOutcome};
pub use restoration::RestoreStart;
