//! Every part of a WebAuthn assertion, wrong in turn: signed so by the real passkey, as a hostile
//! page can have it, or changed after the signature.

use twinlock_protocol::DenyReason as R;
use twinlock_protocol::bytes::Bytes;
use twinlock_protocol::digest::{Digest, Domain};
use twinlock_protocol::softphone::AssertionForm;
use twinlock_protocol::statement::{Assertion, Decision, SignedStatement};

use super::asserted;
use crate::hostile::Case;
use crate::hostile::stage::{Attempt, Stage};

/// The cases.
pub fn cases(_: &Stage<'_>) -> Vec<Case> {
    [forms(), challenges(), client_data(), encodings(), bytes()].into_iter().flatten().collect()
}

/// bob's assertion has another form, signed by his passkey.
fn form(name: &str, reason: R, change: fn(&mut AssertionForm)) -> Case {
    Case::grant(format!("an assertion with {name}"), reason, move |a| {
        let bob = asserted(a, "bob-phone", |form| {
            if a.attacks() {
                change(form);
            }
        });
        a.grant(vec![bob, a.yes("carol-phone")])
    })
}

fn forms() -> Vec<Case> {
    vec![
        form("the type of an enrolment", R::AssertionType, |f| f.kind = "webauthn.create".into()),
        form("the type of a payment", R::AssertionType, |f| f.kind = "payment.get".into()),
        form("its type in capitals", R::AssertionType, |f| f.kind = "WEBAUTHN.GET".into()),
        form("an empty type", R::AssertionType, |f| f.kind = String::new()),
        form("another site's origin", R::AssertionOrigin, |f| f.origin = "https://tl.example.com".into()),
        form("a subdomain's origin", R::AssertionOrigin, |f| f.origin = "https://x.tl.example.org".into()),
        form("the parent domain's origin", R::AssertionOrigin, |f| f.origin = "https://example.org".into()),
        form("an origin without TLS", R::AssertionOrigin, |f| f.origin = "http://tl.example.org".into()),
        form("another port's origin", R::AssertionOrigin, |f| f.origin = "https://tl.example.org:8443".into()),
        form("its origin in capitals", R::AssertionOrigin, |f| f.origin = "HTTPS://TL.EXAMPLE.ORG".into()),
        form("its origin and a slash", R::AssertionOrigin, |f| f.origin = "https://tl.example.org/".into()),
        form("an app's origin", R::AssertionOrigin, |f| f.origin = "android:apk-key-hash:AAAA".into()),
        form("no origin to speak of", R::AssertionOrigin, |f| f.origin = "null".into()),
        form("crossOrigin true", R::AssertionOrigin, |f| f.cross_origin = true),
        form("a topOrigin", R::AssertionOrigin, |f| f.top_origin = Some("https://evil.example".into())),
        form("our own topOrigin", R::AssertionOrigin, |f| f.top_origin = Some("https://tl.example.org".into())),
        form("another site's rpIdHash", R::AssertionRpId, |f| f.rp_id = "tl.example.com".into()),
        form("the parent domain's rpIdHash", R::AssertionRpId, |f| f.rp_id = "example.org".into()),
        form("the origin's hash as rpIdHash", R::AssertionRpId, |f| f.rp_id = "https://tl.example.org".into()),
        form("UP=0", R::AssertionUserPresence, |f| f.flags &= !0x01),
        form("UV=0", R::AssertionUserVerification, |f| f.flags &= !0x04),
        form("UP=0 and UV=0", R::AssertionUserPresence, |f| f.flags &= !0x05),
        form("BE=0, where it was enrolled with BE=1", R::AssertionBackup, |f| f.flags &= !0x18),
        form("BS=1 and BE=0", R::AssertionBackup, |f| f.flags = (f.flags & !0x08) | 0x10),
        form("attested credential data announced", R::AssertionMalformed, |f| f.flags |= 0x40),
        form("extensions announced", R::AssertionMalformed, |f| f.flags |= 0x80),
        form("the reserved flag 0x02", R::AssertionMalformed, |f| f.flags |= 0x02),
        form("the reserved flag 0x20", R::AssertionMalformed, |f| f.flags |= 0x20),
        form("extra bytes", R::AssertionMalformed, |f| f.extra = vec![0]),
        form("an extension's bytes", R::AssertionMalformed, |f| {
            f.flags |= 0x80;
            f.extra = vec![0xa0];
        }),
        Case::grant("an assertion with BE=1, where it was enrolled with BE=0", R::AssertionBackup, |a| {
            let dave = asserted(a, "dave-key", |form| form.flags = a.pick(0x0d, 0x05));
            a.grant(vec![dave, a.yes("carol-phone")])
        }),
        Case::grant("an assertion with BE=1 and BS=1, where it was enrolled with BE=0", R::AssertionBackup, |a| {
            let dave = asserted(a, "dave-key", |form| form.flags = a.pick(0x1d, 0x05));
            a.grant(vec![dave, a.yes("carol-phone")])
        }),
        Case::grant("an assertion with BS=1, where it was enrolled with BE=0", R::AssertionBackup, |a| {
            let dave = asserted(a, "dave-key", |form| form.flags = a.pick(0x15, 0x05));
            a.grant(vec![dave, a.yes("carol-phone")])
        }),
    ]
}

fn challenges() -> Vec<Case> {
    let challenge = |name: &str, wrong: fn(&Attempt<'_, '_>, &str) -> String| {
        Case::grant(format!("an assertion whose challenge is {name}"), R::AssertionChallenge, move |a| {
            let bob = asserted(a, "bob-phone", |form| {
                if a.attacks() {
                    form.challenge = wrong(a, &form.challenge);
                }
            });
            a.grant(vec![bob, a.yes("carol-phone")])
        })
    };
    vec![
        challenge("empty", |_, _| String::new()),
        challenge("padded", |_, honest| format!("{honest}=")),
        challenge("cut", |_, honest| honest[..42].to_owned()),
        challenge("the request's digest", |a, _| a.id.0.0.to_text()),
        challenge("carol's", |a, _| {
            let bytes = a.phone("carol-phone").statement(a.id, Decision::Approve).to_bytes();
            Digest::of(Domain::Approval, &bytes).0.to_text()
        }),
        challenge("made without a domain", |a, _| {
            let bytes = a.phone("bob-phone").statement(a.id, Decision::Approve).to_bytes();
            Digest::plain(&bytes).0.to_text()
        }),
        challenge("a sign-in's", |a, _| Digest::of(Domain::SignIn, a.id.0.as_bytes()).0.to_text()),
        challenge("with other trailing bits", |_, honest| {
            // The last character of 43 carries four bits; the two below must be zero.
            let last = honest.chars().last().expect("43 characters");
            let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let at = alphabet.find(last).expect("base64url");
            format!("{}{}", &honest[..42], &alphabet[at + 1..at + 2])
        }),
    ]
}

/// bob's assertion over client data of any text, signed by his passkey.
fn over(a: &Attempt<'_, '_>, change: impl Fn(&str) -> String) -> SignedStatement {
    let bob = a.phone("bob-phone");
    let honest = a.yes("bob-phone");
    let text = String::from_utf8(honest.assertion.client_data_json.0.clone()).expect("JSON");
    let client_data = change(&text).into_bytes();
    // The phone signs what it is given as statement; only its assertion over these bytes is used.
    let Assertion { authenticator_data, .. } = honest.assertion.clone();
    let signature = bob.assertion_signature(&authenticator_data.0, &client_data);
    let assertion = Assertion { authenticator_data, client_data_json: Bytes(client_data), signature };
    SignedStatement { assertion, ..honest }
}

fn client_data() -> Vec<Case> {
    let text = |name: &str, reason: R, change: fn(&str) -> String| {
        Case::grant(format!("client data {name}"), reason, move |a| {
            let bob = over(a, |text| if a.attacks() { change(text) } else { text.to_owned() });
            a.grant(vec![bob, a.yes("carol-phone")])
        })
    };
    vec![
        text("with its type twice", R::AssertionMalformed, |t| t.replacen('{', "{\"type\":\"webauthn.create\",", 1)),
        text("with its challenge twice", R::AssertionMalformed, |t| t.replacen('{', "{\"challenge\":\"\",", 1)),
        text("with its origin twice", R::AssertionMalformed, |t| {
            t.replacen('{', "{\"origin\":\"https://evil.example\",", 1)
        }),
        text("that is a list", R::AssertionMalformed, |t| {
            let field = |name: &str| {
                let (_, after) = t.split_once(&format!("\"{name}\":\"")).expect("a field");
                after.split('"').next().expect("its value").to_owned()
            };
            format!("[\"{}\",\"{}\",\"{}\",false,null]", field("type"), field("challenge"), field("origin"))
        }),
        text("after a byte order mark", R::AssertionMalformed, |t| format!("\u{feff}{t}")),
        text("with bytes after it", R::AssertionMalformed, |t| format!("{t}{{}}")),
        text("that is cut", R::AssertionMalformed, |t| t[..t.len() - 1].to_owned()),
        text("that is empty", R::AssertionMalformed, |_| String::new()),
        text("without a type", R::AssertionMalformed, |t| t.replacen("\"type\"", "\"typ\"", 1)),
        text("without a challenge", R::AssertionMalformed, |t| t.replacen("\"challenge\"", "\"c\"", 1)),
        text("without an origin", R::AssertionMalformed, |t| t.replacen("\"origin\"", "\"o\"", 1)),
        text("whose crossOrigin is text", R::AssertionMalformed, |t| t.replacen(":false", ":\"false\"", 1)),
        text("over its limit", R::AssertionMalformed, |t| {
            t.replacen("template\"", &format!("template{}\"", "x".repeat(5000)), 1)
        }),
    ]
}

/// An ECDSA signature's two numbers, from DER.
fn numbers(der: &[u8]) -> [Vec<u8>; 2] {
    let first = usize::from(der[3]);
    let number = |at: usize| {
        let length = usize::from(der[at + 1]);
        let bytes: Vec<u8> = der[at + 2..at + 2 + length].iter().copied().skip_while(|byte| *byte == 0).collect();
        [vec![0; 32 - bytes.len()], bytes].concat()
    };
    [number(2), number(4 + first)]
}

fn encodings() -> Vec<Case> {
    type Encode = fn(&[u8]) -> Vec<u8>;
    let encode = |name: &str, encode: Encode| {
        Case::grant(format!("an assertion's signature {name}"), R::AssertionSignature, move |a| {
            let mut bob = a.yes("bob-phone");
            let der = bob.assertion.signature.0.clone();
            bob.assertion.signature = Bytes(a.pick(encode(&der), der));
            a.grant(vec![bob, a.yes("carol-phone")])
        })
    };
    vec![
        encode("as r and s alone", |der| numbers(der).concat()),
        encode("that is empty", |_| Vec::new()),
        encode("that is two zeros", |_| vec![0x30, 6, 2, 1, 0, 2, 1, 0]),
        encode("with a byte after it", |der| [der, &[0]].concat()),
        encode("with a byte less", |der| der[..der.len() - 1].to_vec()),
        encode("with a long length", |der| [&[0x30, 0x81, der[1]], &der[2..]].concat()),
        encode("with a padded number", |der| {
            let [r, s] = numbers(der);
            let padded = [&[0x02, 34, 0, 0][..], &r, &[0x02, 33, 0], &s].concat();
            [&[0x30, u8::try_from(padded.len()).expect("short")][..], &padded].concat()
        }),
        encode("with its numbers swapped", |der| {
            let [r, s] = numbers(der).map(|number| [&[0x02, 33, 0][..], &number].concat());
            let body = [s, r].concat();
            [&[0x30, u8::try_from(body.len()).expect("short")][..], &body].concat()
        }),
        encode("inside an octet string", |der| [&[0x04, u8::try_from(der.len()).expect("short")], der].concat()),
        Case::grant("one approval twice, the second with its signature spelt anew (high s)", R::SamePerson, |a| {
            let bob = a.yes("bob-phone");
            let mut again = bob.clone();
            again.assertion.signature = Bytes(other_s(&bob.assertion.signature.0));
            assert_ne!(again, bob);
            a.grant(vec![bob, a.pick(again, a.yes("carol-phone"))])
        }),
        Case::grant("an assertion signed by the device key", R::AssertionSignature, |a| {
            let mut bob = a.yes("bob-phone");
            let raw = bob.device_signature.expect("a device signature").0;
            let number = |part: &[u8]| [&[0x02, 33, 0][..], part].concat();
            let body = [number(&raw[..32]), number(&raw[32..])].concat();
            let der = [&[0x30, u8::try_from(body.len()).expect("short")][..], &body].concat();
            bob.assertion.signature = Bytes(a.pick(der, bob.assertion.signature.0));
            a.grant(vec![bob, a.yes("carol-phone")])
        }),
        Case::grant("a device signature with its numbers swapped", R::DeviceSignature, |a| {
            let mut bob = a.yes("bob-phone");
            let mut raw = bob.device_signature.expect("a device signature");
            if a.attacks() {
                raw.0.rotate_left(32);
            }
            bob.device_signature = Some(raw);
            a.grant(vec![bob, a.yes("carol-phone")])
        }),
        Case::grant("a device signature of zeros", R::DeviceSignature, |a| {
            let mut bob = a.yes("bob-phone");
            let zeros = Some(twinlock_protocol::Fixed([0; 64]));
            bob.device_signature = a.pick(zeros, bob.device_signature);
            a.grant(vec![bob, a.yes("carol-phone")])
        }),
    ]
}

/// The same signature with n − s in place of s: it verifies as well.
fn other_s(der: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
        0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let [r, s] = numbers(der);
    let mut borrow = 0;
    let mut other = vec![0; 32];
    for at in (0..32).rev() {
        let difference = i16::from(ORDER[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(difference < 0);
        other[at] = u8::try_from(difference.rem_euclid(256)).expect("one byte");
    }
    let number = |bytes: &[u8]| {
        let mut bytes: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        if bytes[0] >= 0x80 {
            bytes.insert(0, 0);
        }
        [&[0x02, u8::try_from(bytes.len()).expect("short")][..], &bytes].concat()
    };
    let body = [number(&r), number(&other)].concat();
    [&[0x30, u8::try_from(body.len()).expect("short")][..], &body].concat()
}

/// Bytes of authenticator data and client data changed after the signature.
fn bytes() -> Vec<Case> {
    let data = |name: &str, reason: R, change: fn(&mut Vec<u8>)| {
        Case::grant(format!("authenticator data {name}, after it was signed"), reason, move |a| {
            let mut bob = a.yes("bob-phone");
            if a.attacks() {
                change(&mut bob.assertion.authenticator_data.0);
            }
            a.grant(vec![bob, a.yes("carol-phone")])
        })
    };
    vec![
        data("with another first byte", R::AssertionRpId, |d| d[0] ^= 1),
        data("with another last byte of rpIdHash", R::AssertionRpId, |d| d[31] ^= 1),
        data("not backed up", R::AssertionSignature, |d| d[32] ^= 0x10),
        data("with another counter", R::AssertionSignature, |d| d[36] ^= 1),
        data("cut", R::AssertionMalformed, |d| d.truncate(36)),
        data("that is empty", R::AssertionMalformed, Vec::clear),
        data("over its limit", R::AssertionMalformed, |d| d.resize(70_000, 0)),
        Case::grant("client data changed after it was signed", R::AssertionSignature, |a| {
            let mut bob = a.yes("bob-phone");
            if a.attacks() {
                let text = String::from_utf8(bob.assertion.client_data_json.0).expect("JSON");
                bob.assertion.client_data_json = Bytes(text.replacen("do not", "now do", 1).into_bytes());
            }
            a.grant(vec![bob, a.yes("carol-phone")])
        }),
        Case::grant("carol's assertion under bob's statement", R::AssertionChallenge, |a| {
            let mut bob = a.yes("bob-phone");
            bob.assertion = a.pick(a.yes("carol-phone").assertion, bob.assertion);
            a.grant(vec![bob, a.yes("carol-phone")])
        }),
    ]
}
