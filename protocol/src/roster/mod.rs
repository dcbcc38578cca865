//! The roster: persons, devices, hosts, keys and the rules of T1, under one digest that hosts pin.
//! Version 1 is a ceremony: every person with devices signs its digest. Later versions extend the
//! same envelope; until roster changes exist, a chain has exactly one step.
//!
//! [`Roster`] is only a claim. [`VerifiedRoster`] is the proof token: it has one maker per way of
//! coming to trust, and everything that decides takes it.

mod chain;
mod content;
mod envelope;
mod lookup;
mod sound;

pub use chain::{RosterError, VerifiedRoster, verify_roster_signature};
pub use content::{
    AnyMark, Assurance, Ca, ClientClass, Device, FORMAT_VERSION, Gate, Host, HumanMark, Person, PersonKind, Roster,
    RosterFormat, Rules, ServiceOwner, Standing, UidEntry, Which,
};
pub use envelope::RosterEnvelope;
