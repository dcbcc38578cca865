//! Enrolment: passkey registration, and the ceremony that makes roster version 1. The ceremony is
//! served by `twinlock init` in its own process; a gateway that serves a sealed roster has no
//! invites to honour.

mod attestation;
pub mod ceremony;
pub mod compose;
pub mod http;
pub mod passkey;
pub mod seal;

#[cfg(test)]
pub(crate) mod tests;

pub use http::{Progress, Room, router};
