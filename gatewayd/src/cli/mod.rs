//! The command line `twinlock`: sets up gateways and hosts, looks, revokes. Tables for people,
//! `--json` for programs; everything that came from elsewhere is escaped before it is printed.
//! Decides nothing about grants.

use std::error::Error;
use std::fmt::Write as _;

/// An error and its causes on one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
