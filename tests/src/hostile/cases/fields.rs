//! Each field of what is signed, changed in turn, found in the bytes themselves: a field that is
//! added to the protocol is attacked without a line here. And the spellings that a decoder must not
//! take for the same value.

use twinlock_protocol::DenyReason as R;
use twinlock_protocol::request::ElevationRequest;
use twinlock_protocol::statement::Decision;
use twinlock_protocol::wire::module::Granted;

use super::{altered, signed_bytes};
use crate::hostile::Case;
use crate::hostile::json::{Leaf, leaves, others, replaced};
use crate::hostile::stage::{Attempt, Stage};

/// The cases.
pub fn cases(stage: &Stage<'_>) -> Vec<Case> {
    let seen = &stage.past[0].1;
    let mut cases = Vec::new();
    each(&seen.signed.request.0, |leaf, at, other| cases.push(request(leaf, at, other)));
    each(&seen.statements[0].statement.0, |leaf, at, other| cases.push(statement(leaf, at, other)));
    each(&seen.granted.evidence.0, |leaf, at, other| cases.push(evidence(leaf, at, other)));
    cases.extend(spellings());
    cases.extend(compatibility());
    cases
}

/// Calls `make` for every other value of every leaf: the leaf, its number, the other value's
/// number.
fn each(text: &[u8], mut make: impl FnMut(&Leaf, usize, usize)) {
    for (at, leaf) in leaves(text).iter().enumerate() {
        for other in 0..others(text, leaf).len() {
            make(leaf, at, other);
        }
    }
}

/// The text with its `at`th leaf changed.
fn flipped(text: &[u8], at: usize, other: usize) -> Vec<u8> {
    let leaf = &leaves(text)[at];
    replaced(text, leaf, &others(text, leaf)[other])
}

/// People were shown, and signed, a request that differs in one field.
fn request(leaf: &Leaf, at: usize, other: usize) -> Case {
    Case::grant(
        format!("approvals of a request with another {}", nth(leaf, other)),
        R::EvidenceOtherRequest,
        move |a| {
            let bytes = &a.signed.request.0;
            let id = ElevationRequest::id_of(&a.pick(flipped(bytes, at, other), bytes.clone()));
            let yes = |device| a.phone(device).answer(a.roster(), id, Decision::Approve);
            a.grant(vec![yes("bob-phone"), yes("carol-phone")])
        },
    )
}

/// One field of a statement is changed after it was signed.
fn statement(leaf: &Leaf, at: usize, other: usize) -> Case {
    let allowed: &[R] = match leaf.path.as_str() {
        "kind" | "version" | "deny_reason" => &[R::EvidenceMalformed],
        "request_digest" => &[R::EvidenceOtherRequest],
        "person" | "credential_id" | "device_id" => &[R::ApproverUnknown],
        "scope" => &[R::KindUnsupported, R::EvidenceMalformed],
        "decision" | "ttl_s" | "gateway_salt" => &[R::AssertionChallenge],
        // A field that this list does not know breaks the challenge, if it still decodes.
        _ => &[R::AssertionChallenge, R::EvidenceMalformed],
    };
    Case::grant_any(format!("a statement with another {}, after it was signed", nth(leaf, other)), allowed, move |a| {
        let yes = a.yes("bob-phone");
        let bytes = a.pick(flipped(&yes.statement.0, at, other), yes.statement.0.clone());
        a.grant(vec![altered(yes, bytes), a.yes("carol-phone")])
    })
}

/// One leaf of the evidence is changed; the certificate is made over the changed evidence.
fn evidence(leaf: &Leaf, at: usize, other: usize) -> Case {
    let allowed: &[R] = match leaf.path.rsplit('.').next().unwrap_or_default() {
        "request_digest" => &[R::EvidenceOtherRequest],
        // The first byte of each.
        "statement" => &[R::EvidenceMalformed],
        "client_data_json" => &[R::AssertionMalformed],
        "authenticator_data" => &[R::AssertionRpId],
        "signature" => &[R::AssertionSignature],
        "device_signature" => &[R::DeviceSignature],
        _ => &[R::EvidenceMalformed],
    };
    Case::grant_any(format!("evidence with another {}", nth(leaf, other)), allowed, move |a| {
        let bytes = a.evidence(a.two()).to_bytes();
        a.grant_bytes(a.pick(flipped(&bytes, at, other), bytes))
    })
}

fn nth(leaf: &Leaf, other: usize) -> String {
    if other == 0 { leaf.path.clone() } else { format!("{} ({})", leaf.path, other + 1) }
}

/// A18: one value has one spelling, in what is signed and in what carries it.
fn spellings() -> Vec<Case> {
    type Change = fn(&str) -> String;
    let changes: &[(&str, Change)] = &[
        ("a space", |text| text.replacen(':', ": ", 1)),
        ("a line end after it", |text| format!("{text}\n")),
        ("a byte order mark", |text| format!("\u{feff}{text}")),
        ("a second value after it", |text| format!("{text}{text}")),
        ("an unknown field", |text| text.replacen('{', "{\"admin\":true,", 1)),
        ("a field twice, the same", |text| text.replacen("\"version\":1", "\"version\":1,\"version\":1", 1)),
        ("a field twice, first another value", |text| text.replacen("\"version\":1", "\"version\":2,\"version\":1", 1)),
        ("its fields in another order", |text| {
            let (head, rest) = text.split_once(",").expect("two fields");
            let (second, rest) = rest.split_once(",").expect("three fields");
            format!("{{{second},{},{rest}", &head[1..])
        }),
        ("an escaped letter", |text| text.replacen("\":\"", "\":\"\\u0061", 1).replacen("\\u0061a", "\\u0061", 1)),
        ("a number with a fraction", |text| text.replacen("\"version\":1", "\"version\":1.0", 1)),
        ("a number with an exponent", |text| text.replacen("\"version\":1", "\"version\":1e0", 1)),
        ("a version as text", |text| text.replacen("\"version\":1", "\"version\":\"1\"", 1)),
    ];
    let mut cases = Vec::new();
    for (name, change) in changes {
        cases.push(Case::grant(format!("a signed statement with {name}"), R::EvidenceMalformed, move |a| {
            let bytes = a.phone("bob-phone").statement(a.id, Decision::Approve).to_bytes();
            let text = String::from_utf8(bytes).expect("JSON");
            a.grant(vec![signed_bytes(a, "bob-phone", a.pick(change(&text), text).as_bytes()), a.yes("carol-phone")])
        }));
        cases.push(Case::grant(format!("evidence with {name}"), R::EvidenceMalformed, move |a| {
            let text = String::from_utf8(a.evidence(a.two()).to_bytes()).expect("JSON");
            a.grant_bytes(a.pick(change(&text), text).into_bytes())
        }));
    }
    let padded = |a: &Attempt<'_, '_>| {
        let text = String::from_utf8(a.evidence(a.two()).to_bytes()).expect("JSON");
        a.grant_bytes(a.pick(text.replacen("\",\"assertion\"", "=\",\"assertion\"", 1), text).into_bytes())
    };
    let long = |a: &Attempt<'_, '_>| {
        let bytes = a.phone("bob-phone").statement(a.id, Decision::Approve).to_bytes();
        let text = String::from_utf8(bytes).expect("JSON");
        let long = text.replacen("\"deny_reason\":null", &format!("\"deny_reason\":\"{}\"", "x".repeat(5000)), 1);
        a.grant(vec![signed_bytes(a, "bob-phone", a.pick(long, text).as_bytes()), a.yes("carol-phone")])
    };
    cases.push(Case::grant("evidence with padded base64url", R::EvidenceMalformed, padded));
    cases.push(Case::grant("a statement over its limit", R::EvidenceMalformed, long));
    cases.push(Case::grant("more statements than evidence may hold", R::EvidenceMalformed, |a| {
        let many = (0..17).map(|_| a.yes("bob-phone")).collect();
        a.grant(a.pick(many, a.two()))
    }));
    cases.push(Case::grant("evidence over its limit", R::EvidenceMalformed, |a| {
        let bytes = a.evidence(a.two()).to_bytes();
        let mut long = bytes.clone();
        long.resize(twinlock_protocol::limits::EVIDENCE_BYTES + 1, b' ');
        a.grant_bytes(a.pick(long, bytes))
    }));
    cases.push(Case::grant("no evidence at all, only a certificate", R::EvidenceMalformed, |a| {
        a.grant_bytes(a.pick(Vec::new(), a.evidence(a.two()).to_bytes()))
    }));
    cases.push(Case::grant("evidence that is a list", R::EvidenceMalformed, |a| {
        a.grant_bytes(a.pick(b"[]".to_vec(), a.evidence(a.two()).to_bytes()))
    }));
    cases
}

/// A19: nothing is left out "for compatibility".
fn compatibility() -> Vec<Case> {
    let ticket = twinlock_protocol::ids::Ticket::from_random(&[7; 16]).hash();
    let versions = |version: u32| {
        move |a: &Attempt<'_, '_>| -> Granted {
            let bytes = a.phone("bob-phone").statement(a.id, Decision::Approve).to_bytes();
            let text = String::from_utf8(bytes).expect("JSON");
            let other = text.replacen("\"version\":1", &format!("\"version\":{version}"), 1);
            a.grant(vec![signed_bytes(a, "bob-phone", a.pick(other, text).as_bytes()), a.yes("carol-phone")])
        }
    };
    let evidences = |version: u32| {
        move |a: &Attempt<'_, '_>| -> Granted {
            let mut evidence = a.evidence(a.two());
            evidence.version = a.pick(version, 1);
            a.grant_bytes(evidence.to_bytes())
        }
    };
    vec![
        Case::grant("a signed statement of version 0", R::EvidenceMalformed, versions(0)),
        Case::grant("a signed statement of version 2", R::EvidenceMalformed, versions(2)),
        Case::grant("evidence of version 0", R::EvidenceMalformed, evidences(0)),
        Case::grant("evidence of version 2", R::EvidenceMalformed, evidences(2)),
        Case::grant("an approval without its device signature", R::DeviceSignature, |a| {
            let mut yes = a.yes("bob-phone");
            yes.device_signature = a.pick(None, yes.device_signature);
            a.grant(vec![yes, a.yes("carol-phone")])
        }),
        Case::grant("both approvals without device signatures", R::DeviceSignature, |a| {
            let mut both = a.two();
            for yes in &mut both {
                yes.device_signature = a.pick(None, yes.device_signature);
            }
            a.grant(both)
        }),
        Case::grant("a device signature by a key that nobody enrolled", R::DeviceSignature, |a| {
            let mut grace = a.yes("grace-phone");
            let other = a.yes("bob-phone");
            grace.device_signature = a.pick(other.device_signature, grace.device_signature);
            a.grant(vec![grace, a.yes("carol-phone")])
        })
        .under(|roster| roster.rules.floor = twinlock_protocol::roster::Assurance::D),
        Case::grant("a statement with another channel, after it was signed", R::AssertionChallenge, move |a| {
            let yes = a.yes("bob-phone");
            let text = String::from_utf8(yes.statement.0.clone()).expect("JSON");
            let scanned = text.replacen("{\"inbox\":{}}", &format!("{{\"ticket\":\"{}\"}}", ticket.0.to_text()), 1);
            assert_ne!(text, scanned);
            a.grant(vec![altered(yes, a.pick(scanned, text).into_bytes()), a.yes("carol-phone")])
        }),
        Case::grant("a statement for a whole session", R::KindUnsupported, |a| {
            let scope = a.pick(twinlock_protocol::request::Scope::Session, twinlock_protocol::request::Scope::Command);
            a.grant(vec![super::stated(a, "bob-phone", |statement| statement.scope = scope), a.yes("carol-phone")])
        }),
    ]
}
