//! Elevation certificates and their revocation lists: `issue` (feature `issue`; the gateway, with
//! the CA key) and `check` (feature `check`; the PAM module, the gateway and the command line).
//!
//! Both sides share one profile, written down once in [`profile`]: the checker compares bytes with
//! what the issuer would have written and decodes as little as it can. Nothing here reads a clock,
//! a file or the network.

#[cfg(feature = "check")]
pub mod check;
pub mod der;
#[cfg(feature = "issue")]
pub mod issue;
pub mod profile;
