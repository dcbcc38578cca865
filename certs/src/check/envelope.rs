//! The outermost SEQUENCE of a certificate or CRL: `{ what is signed, algorithm, signature }`. It
//! is rebuilt from its parts and compared with the input, so there are no spare bytes, no other
//! algorithm and no second spelling of one certificate.

use twinlock_protocol::signature::{self, PublicKey};
use x509_parser::asn1_rs::BitString;
use x509_parser::x509::AlgorithmIdentifier;

use crate::der::{tag, value};
use crate::profile;

/// Whether the whole input is exactly this envelope and the key signed it: ECDSA on P-256 with
/// SHA-256, whatever the certificate says about itself.
pub fn check(bytes: &[u8], signed: &[u8], signature: &BitString<'_>, key: &PublicKey) -> Option<()> {
    let bits = value(tag::BIT_STRING, &[&[0], signature.data.as_ref()]);
    let whole = value(tag::SEQUENCE, &[signed, profile::ECDSA_WITH_SHA256, &bits]);
    (whole == bytes && signature::verify_der(key, signed, signature.data.as_ref())).then_some(())
}

/// Whether an inner algorithm identifier is ecdsa-with-SHA256 without parameters.
pub fn is_our_algorithm(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    // The constant is SEQUENCE { OID }: four bytes of headers, then the identifier.
    profile::ECDSA_WITH_SHA256.get(4..) == Some(algorithm.algorithm.as_bytes()) && algorithm.parameters.is_none()
}
