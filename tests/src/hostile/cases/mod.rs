//! The cases, by what they lie about. Each file makes its own; a case says what it expects.

pub mod certificates;
pub mod fields;
pub mod lists;
pub mod past;
pub mod people;
pub mod rosters;
pub mod times;
pub mod webauthn;
pub mod words;

use twinlock_protocol::Bytes;
use twinlock_protocol::softphone::AssertionForm;
use twinlock_protocol::statement::{APPROVAL_DOMAINS, ApprovalStatement, Decision, SignedStatement};

use super::Case;
use super::stage::{Ask, Attempt, Stage};

/// Makes cases, once the stage stands: some are about each field of what was seen there.
pub type Group = fn(&Stage<'_>) -> Vec<Case>;

/// Every group, with its name.
pub const GROUPS: &[(&str, Group)] = &[
    ("who approves", people::cases),
    ("approvals of something else", past::cases),
    ("every field of what is signed", fields::cases),
    ("every part of an assertion", webauthn::cases),
    ("certificates", certificates::cases),
    ("revocation lists", lists::cases),
    ("time", times::cases),
    ("rosters", rosters::cases),
    ("words and frames", words::cases),
];

/// What a hostile gateway has seen before it begins.
pub fn remember(stage: &mut Stage<'_>) {
    stage.remember("for root", &Ask::default());
    stage.remember("for bob", &Ask { options: &["-u", "bob"], ..Ask::default() });
}

/// A statement of this device about this request, changed before it is signed.
pub fn stated(attempt: &Attempt<'_, '_>, device: &str, change: impl FnOnce(&mut ApprovalStatement)) -> SignedStatement {
    let phone = attempt.phone(device);
    let mut statement = phone.statement(attempt.id, Decision::Approve);
    change(&mut statement);
    phone.sign(attempt.roster(), APPROVAL_DOMAINS, &statement.to_bytes())
}

/// An approval of this device whose assertion has another form.
pub fn asserted(attempt: &Attempt<'_, '_>, device: &str, change: impl FnOnce(&mut AssertionForm)) -> SignedStatement {
    let phone = attempt.phone(device);
    let bytes = phone.statement(attempt.id, Decision::Approve).to_bytes();
    let mut signed = phone.sign(attempt.roster(), APPROVAL_DOMAINS, &bytes);
    let mut form = phone.honest(attempt.roster(), &APPROVAL_DOMAINS.challenge(&bytes));
    change(&mut form);
    signed.assertion = phone.assert(&form);
    signed
}

/// Signs these bytes as if they were a statement: a page that lies about what it shows.
pub fn signed_bytes(attempt: &Attempt<'_, '_>, device: &str, bytes: &[u8]) -> SignedStatement {
    attempt.phone(device).sign(attempt.roster(), APPROVAL_DOMAINS, bytes)
}

/// The same with the statement's bytes changed after the signatures.
pub fn altered(mut signed: SignedStatement, bytes: Vec<u8>) -> SignedStatement {
    signed.statement = Bytes(bytes);
    signed
}
