//! The roster: persons, devices, hosts, keys and the rules of T1, under one digest that hosts pin.
//! Version 1 is a ceremony: every person with devices signs its digest. Every later version is signed
//! by people of the one before (the rules are in `step`), so that from a pinned version a chain of
//! envelopes leads to the newest.
//!
//! [`Roster`] is only a claim. [`VerifiedRoster`] is the proof token: it has one maker per way of
//! coming to trust, and everything that decides takes it.

pub mod change;

mod chain;
mod content;
mod envelope;
mod lookup;
mod sound;
mod step;

pub use chain::{ChainError, RosterError, VerifiedRoster, verify_roster_signature};
pub use content::{
    AnyMark, Assurance, BreakGlassKey, BreakGlassRules, Ca, ClientClass, Device, FORMAT_VERSION, Gate, GatewayEntry,
    Host, HumanMark, Person, PersonKind, Roster, RosterFormat, Rules, ServiceOwner, Standing, Suspension, UidEntry,
    Which,
};
pub use envelope::RosterEnvelope;
pub(crate) use lookup::insert_once;
pub use step::Step;
