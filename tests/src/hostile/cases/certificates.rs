//! Certificates by the stolen CA key, and by others, over two honest approvals: for something else,
//! of another kind, in another spelling, or without anybody's approval.

use twinlock_certs::der::{tag, value};
use twinlock_certs::profile::{self, oid};
use twinlock_protocol::DenyReason as R;
use twinlock_protocol::bytes::Bytes;
use twinlock_protocol::digest::Digest;
use twinlock_protocol::ids::{HostId, PersonId};
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::wire::module::Granted;

use crate::hostile::Case;
use crate::hostile::mint::{About, Critical, Extension, Leaf, signed_part};
use crate::hostile::stage::{Attempt, Stage};

/// 1.3.6.1.5.5.7.3.1 and .2: TLS server and client.
const SERVER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
/// anyExtendedKeyUsage.
const ANY: &[u8] = &[0x55, 0x1d, 0x25, 0];

/// The cases.
pub fn cases(_: &Stage<'_>) -> Vec<Case> {
    [about(), kinds(), chains(), spellings()].into_iter().flatten().collect()
}

/// Two honest approvals and this certificate in the attack.
fn with(a: &Attempt<'_, '_>, certificate: impl FnOnce(&[u8]) -> Vec<u8>) -> Granted {
    let mut granted = a.grant(a.two());
    if a.attacks() {
        granted.certificate = Bytes(certificate(&granted.evidence.0));
    }
    granted
}

fn about() -> Vec<Case> {
    type Change = fn(&Attempt<'_, '_>, &mut About);
    let other = |name: &str, change: Change| {
        Case::grant(format!("a certificate for another {name}"), R::CertificateOther, move |a| {
            with(a, |evidence| {
                let mut about = a.about(evidence);
                change(a, &mut about);
                let leaf = Leaf { not_after: a.now.plus(870), ..a.stage.mint.leaf(&about, a.now, 900) };
                a.stage.mint.sign(&leaf)
            })
        })
    };
    vec![
        other("session key", |_, about| {
            about.session_key = SigningKey::generate().expect("a key").0.public();
        }),
        other("session key, the other host's", |a, about| about.session_key = a.stage.other_host.public()),
        other("host", |_, about| about.host = HostId::new("web02").expect("an id")),
        other("target", |_, about| about.target_user = "bob".into()),
        other("target in other letters", |_, about| about.target_user = "Root".into()),
        other("requester", |_, about| about.requesters = vec![PersonId::new("dave").expect("an id")]),
        other("requester beside the right one", |_, about| {
            about.requesters.push(PersonId::new("dave").expect("an id"));
        }),
        other("requester: nobody", |_, about| about.requesters.clear()),
        other("request", |a, about| about.request = a.past("for root").id),
        other("evidence", |a, about| {
            about.evidence = twinlock_protocol::evidence::Evidence::digest_of(&a.past("for root").granted.evidence.0);
        }),
        other("evidence: none", |_, about| about.evidence = Digest::plain(b"")),
        Case::grant("the certificate of an earlier grant", R::CertificateOther, |a| {
            with(a, |_| a.past("for root").granted.certificate.0.clone())
        }),
        Case::grant("a good certificate, with the evidence of an earlier grant", R::EvidenceOtherRequest, |a| {
            let mut granted = a.grant(a.two());
            granted.evidence = a.pick(a.past("for root").granted.evidence.clone(), granted.evidence);
            granted
        }),
        Case::grant("a good certificate, with fresh evidence that it was not made over", R::CertificateOther, |a| {
            let mut granted = a.grant(a.two());
            let other = a.evidence(vec![a.yes("bob-phone"), a.yes("dave-phone")]).to_bytes();
            granted.evidence = a.pick(Bytes(other), granted.evidence);
            granted
        }),
        Case::grant("a good certificate by the stolen CA key, without any evidence", R::EvidenceMalformed, |a| {
            let mut granted = a.grant(a.two());
            granted.evidence = a.pick(Bytes(Vec::new()), granted.evidence);
            granted
        }),
        Case::grant("no certificate", R::CertificateInvalid, |a| with(a, |_| Vec::new())),
    ]
}

/// A certificate that says something else about itself.
fn leaf(name: impl Into<String>, reason: R, change: impl Fn(&mut Leaf) + 'static) -> Case {
    Case::grant(name, reason, move |a| {
        with(a, |evidence| {
            let mut leaf = a.leaf(evidence);
            change(&mut leaf);
            a.stage.mint.sign(&leaf)
        })
    })
}

fn usage(ids: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<u8> = ids.iter().flat_map(|id| value(tag::OID, &[id])).collect();
    value(tag::SEQUENCE, &[&ids])
}

fn kinds() -> Vec<Case> {
    let invalid = R::CertificateInvalid;
    let eku = |name: &str, ids: &'static [&'static [u8]]| {
        leaf(format!("a certificate for {name}"), invalid, move |leaf| {
            leaf.extension(oid::EXTENDED_KEY_USAGE).2 = usage(ids);
        })
    };
    let mut cases = vec![
        eku("TLS servers", &[SERVER]),
        eku("TLS clients, an agent's", &[CLIENT]),
        eku("anything", &[ANY]),
        eku("elevation and TLS clients", &[oid::EKU_ELEVATION, CLIENT]),
        eku("no use", &[]),
    ];
    for (name, id) in [
        ("extended key usage", oid::EXTENDED_KEY_USAGE),
        ("binding", oid::BINDING),
        ("key usage", oid::KEY_USAGE),
        ("basic constraints", oid::BASIC_CONSTRAINTS),
        ("authority key identifier", oid::AUTHORITY_KEY_ID),
        ("subject key identifier", oid::SUBJECT_KEY_ID),
        ("CRL address", oid::CRL_DISTRIBUTION_POINTS),
    ] {
        cases.push(leaf(format!("a certificate without its {name}"), invalid, move |leaf| leaf.without(id)));
    }
    for (name, id) in [("binding", oid::BINDING), ("names", oid::SUBJECT_ALT_NAME), ("key usage", oid::KEY_USAGE)] {
        cases.push(leaf(format!("a certificate with its {name} twice"), invalid, move |leaf| {
            let again = leaf.extension(id).clone();
            leaf.extensions.push(again);
        }));
    }
    cases.extend([
        leaf("a certificate without names", R::CertificateOther, |leaf| leaf.without(oid::SUBJECT_ALT_NAME)),
        leaf("a certificate with an unknown critical extension", invalid, |leaf| {
            leaf.extensions.push(Extension(vec![0x2a, 3, 4], Critical::Yes, vec![5, 0]));
        }),
        leaf("a certificate with name constraints, critical", invalid, |leaf| {
            leaf.extensions.push(Extension(vec![0x55, 0x1d, 0x1e], Critical::Yes, vec![0x30, 0]));
        }),
        leaf("a certificate that says it needs no revocation (RFC 9608)", invalid, |leaf| {
            leaf.extensions.push(Extension(oid::NO_REV_AVAIL.to_vec(), Critical::No, vec![5, 0]));
        }),
        leaf("a certificate whose key usage also signs certificates", invalid, |leaf| {
            leaf.extension(oid::KEY_USAGE).2 = vec![0x03, 0x02, 0x02, 0x84];
        }),
        leaf("a certificate whose key usage is not critical", invalid, |leaf| {
            leaf.extension(oid::KEY_USAGE).1 = Critical::No;
        }),
        leaf("a CA as leaf", invalid, |leaf| {
            leaf.extension(oid::BASIC_CONSTRAINTS).2 = value(tag::SEQUENCE, &[&[1, 1, 0xff]]);
        }),
        leaf("a CA with a path length as leaf", invalid, |leaf| {
            leaf.extension(oid::BASIC_CONSTRAINTS).2 = profile::BASIC_CONSTRAINTS_CA.to_vec();
            leaf.extension(oid::KEY_USAGE).2 = profile::KEY_USAGE_CA.to_vec();
        }),
        leaf("a leaf with a path length", invalid, |leaf| {
            leaf.extension(oid::BASIC_CONSTRAINTS).2 = value(tag::SEQUENCE, &[&[2, 1, 5]]);
        }),
        leaf("a certificate of version 1", invalid, |leaf| leaf.version = 0),
        leaf("a certificate of version 4", invalid, |leaf| leaf.version = 3),
        leaf("a negative serial number", invalid, |leaf| leaf.serial[0] |= 0x80),
        leaf("the serial number 0", invalid, |leaf| leaf.serial = vec![0]),
        leaf("a short serial number", invalid, |leaf| leaf.serial.truncate(8)),
        leaf("a long serial number", invalid, |leaf| leaf.serial.insert(0, 0x41)),
        leaf("a padded serial number", invalid, |leaf| {
            leaf.serial[0] = 0;
            leaf.serial[1] &= 0x7f;
        }),
        leaf("an inner algorithm with SHA-384", invalid, |leaf| *leaf.algorithm.last_mut().expect("an id") = 3),
        leaf("an inner algorithm with SHA-1", invalid, |leaf| {
            leaf.algorithm = value(tag::SEQUENCE, &[&value(tag::OID, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1]])]);
        }),
        leaf("an inner algorithm with parameters", invalid, |leaf| {
            let id = value(tag::OID, &[&leaf.algorithm[4..]]);
            leaf.algorithm = value(tag::SEQUENCE, &[&id, &[5, 0]]);
        }),
        leaf("another authority key identifier", invalid, |leaf| {
            leaf.extension(oid::AUTHORITY_KEY_ID).2 = profile::authority_key_identifier(&[9; 20]);
        }),
        leaf("an issuer of another name", invalid, |leaf| {
            leaf.issuer = value(tag::SEQUENCE, &[]);
        }),
        leaf("a subject key as a compressed point", R::CertificateOther, |leaf| {
            let at = leaf.key.len() - 65;
            let point = [&[2 + (leaf.key[leaf.key.len() - 1] & 1)][..], &leaf.key[at + 1..at + 33]].concat();
            let algorithm = leaf.key[2..at - 3].to_vec();
            leaf.key = value(tag::SEQUENCE, &[&algorithm, &value(tag::BIT_STRING, &[&[0], &point])]);
        }),
    ]);
    cases
}

fn chains() -> Vec<Case> {
    let invalid = R::CertificateInvalid;
    vec![
        Case::grant("a certificate by a self-made CA of the same name", invalid, |a| {
            with(a, |evidence| {
                let other = a.stage.mint.namesake("Twinlock test CA", a.now);
                assert_eq!(other.name(), a.stage.mint.name());
                other.sign(&other.leaf(&a.about(evidence), a.now, 870))
            })
        }),
        Case::grant("the same, naming the real CA's key", invalid, |a| {
            with(a, |evidence| {
                let other = a.stage.mint.namesake("Twinlock test CA", a.now);
                other.sign(&a.leaf(evidence))
            })
        }),
        Case::grant("a certificate by a CA of another name", invalid, |a| {
            with(a, |evidence| {
                let other = a.stage.mint.namesake("Twinlock other CA", a.now);
                other.sign(&other.leaf(&a.about(evidence), a.now, 870))
            })
        }),
        Case::grant("the CA's own certificate", invalid, |a| with(a, |_| a.stage.mint.certificate.clone())),
        Case::grant("a CA's certificate of the same name", invalid, |a| {
            with(a, |_| a.stage.mint.namesake("Twinlock test CA", a.now).certificate)
        }),
        Case::grant("a certificate with its CA's after it", invalid, |a| {
            with(a, |evidence| [a.stage.mint.sign(&a.leaf(evidence)), a.stage.mint.certificate.clone()].concat())
        }),
        Case::grant("a certificate that the session key signed itself", invalid, |a| {
            with(a, |evidence| {
                let mut certificate = a.stage.mint.sign(&a.leaf(evidence));
                let last = certificate.len() - 1;
                certificate[last] ^= 1;
                certificate
            })
        }),
    ]
}

/// The same content, signed by the CA, in another spelling.
fn spellings() -> Vec<Case> {
    let invalid = R::CertificateInvalid;
    vec![
        Case::grant("a certificate with a byte after it", invalid, |a| {
            with(a, |evidence| [a.stage.mint.sign(&a.leaf(evidence)), vec![0]].concat())
        }),
        Case::grant("a certificate with an outer algorithm of SHA-384", invalid, |a| {
            with(a, |evidence| {
                let good = a.stage.mint.sign(&a.leaf(evidence));
                let mut algorithm = profile::ECDSA_WITH_SHA256.to_vec();
                *algorithm.last_mut().expect("an id") = 3;
                a.stage.mint.envelope_as(signed_part(&good), &algorithm)
            })
        }),
        Case::grant("a certificate in BER, with an endless length", invalid, |a| {
            with(a, |evidence| {
                let good = a.stage.mint.sign(&a.leaf(evidence));
                [&[0x30, 0x80][..], &good[4..], &[0, 0]].concat()
            })
        }),
        Case::grant("a certificate in BER, with a padded length", invalid, |a| {
            with(a, |evidence| {
                let good = a.stage.mint.sign(&a.leaf(evidence));
                [&[0x30, 0x83, 0, good[2], good[3]][..], &good[4..]].concat()
            })
        }),
        Case::grant("a certificate whose signature has unused bits", invalid, |a| {
            with(a, |evidence| {
                let good = a.stage.mint.sign(&a.leaf(evidence));
                let signed = signed_part(&good).to_vec();
                let mut other = a.stage.mint.envelope(&signed);
                let at = 4 + signed.len() + profile::ECDSA_WITH_SHA256.len() + 2;
                assert_eq!(other[at], 0);
                other[at] = 1;
                other
            })
        }),
        Case::grant("a certificate over its limit", invalid, |a| {
            with(a, |evidence| {
                let mut leaf = a.leaf(evidence);
                leaf.extensions.push(Extension(vec![0x2a, 3, 4], Critical::No, vec![0; 9000]));
                a.stage.mint.sign(&leaf)
            })
        }),
        Case::grant("a certificate with forty extensions", invalid, |a| {
            with(a, |evidence| {
                let mut leaf = a.leaf(evidence);
                leaf.extensions.extend((0..40).map(|n| Extension(vec![0x2a, 3, n], Critical::No, vec![5, 0])));
                a.stage.mint.sign(&leaf)
            })
        }),
        Case::grant("a certificate as text", invalid, |a| {
            with(a, |evidence| Bytes(a.stage.mint.sign(&a.leaf(evidence))).to_text().into_bytes())
        }),
    ]
}
