//! Strict JSON. What is signed is encoded once and decoded by [`decode_canonical`], which accepts
//! exactly one spelling of each value; what is only carried is decoded by [`decode`]. Both refuse
//! unknown and duplicate fields, trailing bytes and over-long input; every type says
//! `deny_unknown_fields`.

mod reader;
mod strict;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::reader::{Fault, Reader};

/// Why bytes were not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input is longer than its limit, in bytes; it was not parsed.
    #[error("{what} of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// What was being decoded.
        what: &'static str,
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not JSON, a wrong type, an unknown, duplicate or missing field, or bytes after the value.
    #[error("{what} is malformed: {reason}")]
    Malformed {
        /// What was being decoded.
        what: &'static str,
        /// Where and why, in the reader's words. Quotes nothing but the name of a field or an alternative.
        reason: String,
    },
    /// The value reads, but is not spelt as the protocol spells it (spaces, order, escapes).
    #[error("{what} is not in its canonical spelling")]
    NotCanonical {
        /// What was being decoded.
        what: &'static str,
    },
    /// The value reads, but breaks a rule of its type.
    #[error("{what} is invalid: {rule}")]
    Invalid {
        /// What was being decoded.
        what: &'static str,
        /// The rule that it breaks.
        rule: &'static str,
    },
}

/// Decodes a value that is carried but not signed.
///
/// # Errors
/// [`DecodeError::TooLong`] before parsing; [`DecodeError::Malformed`] for everything else.
pub fn decode<T: DeserializeOwned>(what: &'static str, limit: usize, bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLong { what, length: bytes.len(), limit });
    }
    let mut reader = Reader::new(bytes);
    let value = T::deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|fault: Fault| DecodeError::Malformed { what, reason: format!("{fault} at byte {}", reader.at()) })
}

/// Decodes a value that is signed: the bytes must be exactly what [`encode`] makes of the value,
/// so that no two byte strings mean the same.
///
/// # Errors
/// As [`decode`], and [`DecodeError::NotCanonical`].
pub fn decode_canonical<T: DeserializeOwned + Serialize>(
    what: &'static str,
    limit: usize,
    bytes: &[u8],
) -> Result<T, DecodeError> {
    let value: T = decode(what, limit, bytes)?;
    if encode(&value) == bytes { Ok(value) } else { Err(DecodeError::NotCanonical { what }) }
}

/// Encodes a protocol value: compact JSON, fields in the order of the type, UTF-8.
#[must_use]
#[allow(clippy::expect_used)] // Vec never fails to write, and no protocol type has map keys or fails to serialise
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("protocol types always serialise")
}
