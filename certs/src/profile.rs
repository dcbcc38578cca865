//! The profile of an elevation certificate, once, for issuer and checker: object identifiers, the
//! bytes of every extension whose content is fixed, and the `urn:twinlock:` names.
//!
//! The own identifiers live under 2.999.21, the example arc (ITU-T X.660), until an enterprise
//! number is assigned: 2.999.21.1 is the extended key usage, 2.999.21.2 the extension that binds a
//! certificate to request and evidence.

use twinlock_protocol::Digest;
use twinlock_protocol::ids::{GrantId, HostId, PersonId, RequestId};
use twinlock_protocol::signature::PublicKey;

use crate::der::{tag, value};

/// 2.999.21.1: extended key usage "elevation on a host".
pub const EKU_ELEVATION: &[u64] = &[2, 999, 21, 1];
/// 2.999.21.2: the extension that carries request digest and evidence digest.
pub const EXT_BINDING: &[u64] = &[2, 999, 21, 2];
/// 2.5.29.14: subject key identifier.
pub const EXT_SUBJECT_KEY_ID: &[u64] = &[2, 5, 29, 14];

/// The content bytes of an identifier, as they stand in DER after tag and length.
pub mod oid {
    /// 2.999.21.1
    pub const EKU_ELEVATION: &[u8] = &[0x88, 0x37, 0x15, 0x01];
    /// 2.999.21.2
    pub const BINDING: &[u8] = &[0x88, 0x37, 0x15, 0x02];
    /// 2.5.29.14
    pub const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
    /// 2.5.29.15
    pub const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
    /// 2.5.29.17
    pub const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
    /// 2.5.29.19
    pub const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
    /// 2.5.29.20
    pub const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
    /// 2.5.29.31
    pub const CRL_DISTRIBUTION_POINTS: &[u8] = &[0x55, 0x1d, 0x1f];
    /// 2.5.29.35
    pub const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
    /// 2.5.29.37
    pub const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
    /// 2.5.29.56, RFC 9608: "no revocation available". Never ours.
    pub const NO_REV_AVAIL: &[u8] = &[0x55, 0x1d, 0x38];
}

/// AlgorithmIdentifier ecdsa-with-SHA256, without parameters (RFC 5758 §3.2).
pub const ECDSA_WITH_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// AlgorithmIdentifier id-ecPublicKey with prime256v1 (RFC 5480 §2.1).
const EC_PUBLIC_KEY_P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07,
];
/// KeyUsage { digitalSignature }.
pub const KEY_USAGE_LEAF: &[u8] = &[0x03, 0x02, 0x07, 0x80];
/// KeyUsage { keyCertSign, cRLSign }.
pub const KEY_USAGE_CA: &[u8] = &[0x03, 0x02, 0x01, 0x06];
/// BasicConstraints { } : not a CA.
pub const BASIC_CONSTRAINTS_LEAF: &[u8] = &[0x30, 0x00];
/// BasicConstraints { cA TRUE, pathLenConstraint 0 }.
pub const BASIC_CONSTRAINTS_CA: &[u8] = &[0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00];

/// SubjectPublicKeyInfo of a P-256 key, DER.
#[must_use]
pub fn subject_public_key_info(key: &PublicKey) -> Vec<u8> {
    value(tag::SEQUENCE, &[EC_PUBLIC_KEY_P256, &value(tag::BIT_STRING, &[&[0], &key.0])])
}

/// The key of a P-256 SubjectPublicKeyInfo; none for any other algorithm, curve, point form or
/// spelling.
#[must_use]
pub fn public_key_of(spki: &[u8]) -> Option<PublicKey> {
    let start = spki.len().checked_sub(65)?;
    let key = twinlock_protocol::Fixed(spki.get(start..)?.try_into().ok()?);
    (subject_public_key_info(&key) == spki).then_some(key)
}

/// ExtendedKeyUsage { 2.999.21.1 }, and nothing else.
#[must_use]
pub fn extended_key_usage() -> Vec<u8> {
    value(tag::SEQUENCE, &[&value(tag::OID, &[oid::EKU_ELEVATION])])
}

/// The binding extension: SEQUENCE { OCTET STRING request digest, OCTET STRING evidence digest }.
#[must_use]
pub fn binding(request: &RequestId, evidence: &Digest) -> Vec<u8> {
    let octets = |digest: &Digest| value(tag::OCTET_STRING, &[digest.as_bytes()]);
    value(tag::SEQUENCE, &[&octets(&request.0), &octets(evidence)])
}

/// What the certificate names: host, grant, target and requesters, each as a URN (RFC 8141), in
/// this order.
#[must_use]
pub fn names(host: &HostId, grant: GrantId, target_user: &str, requesters: &[PersonId]) -> Vec<String> {
    let mut names = vec![
        format!("urn:twinlock:host:{host}"),
        format!("urn:twinlock:grant:{grant}"),
        format!("urn:twinlock:target:{}", percent_encoded(target_user)),
    ];
    names.extend(requesters.iter().map(|person| format!("urn:twinlock:requester:{person}")));
    names
}

/// SubjectAltName of exactly these URIs.
#[must_use]
pub fn subject_alt_name(names: &[String]) -> Vec<u8> {
    let uris: Vec<u8> = names.iter().flat_map(|name| value(tag::URI, &[name.as_bytes()])).collect();
    value(tag::SEQUENCE, &[&uris])
}

/// AuthorityKeyIdentifier { keyIdentifier } (RFC 5280 §4.2.1.1).
#[must_use]
pub fn authority_key_identifier(key_identifier: &[u8]) -> Vec<u8> {
    value(tag::SEQUENCE, &[&value(tag::KEY_IDENTIFIER, &[key_identifier])])
}

/// A login name may hold what a URN may not: everything but RFC 3986's unreserved characters is
/// percent-encoded, upper case, so each name has one spelling.
fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_uris_whatever_the_login_is_called() {
        let host = HostId::new("web01").unwrap();
        let grant = GrantId::from_text(&"a".repeat(26)).unwrap();
        let names = names(&host, grant, "CORP\\admin%\u{e9}", &[PersonId::new("alice").unwrap()]);
        assert_eq!(
            names,
            [
                "urn:twinlock:host:web01",
                "urn:twinlock:grant:aaaaaaaaaaaaaaaaaaaaaaaaaa",
                "urn:twinlock:target:CORP%5Cadmin%25%C3%A9",
                "urn:twinlock:requester:alice",
            ]
        );
    }

    #[test]
    fn a_key_is_read_only_from_its_one_spelling() {
        let key = twinlock_protocol::Fixed([4; 65]);
        let spki = subject_public_key_info(&key);
        assert_eq!(public_key_of(&spki), Some(key));
        for at in 0..spki.len() - 65 {
            let mut other = spki.clone();
            *other.get_mut(at).unwrap() ^= 1;
            assert_eq!(public_key_of(&other), None, "byte {at}");
        }
    }
}
