//! Wire version 1: length-prefixed JSON frames between module, agent, reaper and gateway.
//!
//! A frame is a 4-byte big-endian length and that many bytes of JSON (strict, see
//! [`crate::codec::decode`]). Every connection opens with a hello from the client that names the
//! wire version; a peer that speaks another one is refused with
//! [`DenyReason::WireMismatch`](crate::DenyReason::WireMismatch).

pub mod agent;
pub mod module;
pub mod reaper;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, DecodeError};

/// The wire version that this code speaks.
pub const WIRE_VERSION: u32 = 1;

/// Bytes of a frame's length prefix.
pub const LENGTH_BYTES: usize = 4;

/// A message as one frame, with its length prefix.
#[must_use]
pub fn frame<T: Serialize>(message: &T) -> Vec<u8> {
    let body = codec::encode(message);
    // A body beyond 4 GiB cannot be made from values that respect the limits; the receiver's own
    // limit refuses anything that the saturated length would announce.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    frame
}

/// The body length that a prefix announces, refused over `limit` before anything is read.
///
/// # Errors
/// [`DecodeError::TooLong`].
pub fn body_length(prefix: [u8; LENGTH_BYTES], limit: usize) -> Result<usize, DecodeError> {
    let length = u32::from_be_bytes(prefix) as usize;
    if length > limit {
        return Err(DecodeError::TooLong { what: "frame", length, limit });
    }
    Ok(length)
}

/// Reads a frame's body.
///
/// # Errors
/// Over-long or malformed input.
pub fn message<T: DeserializeOwned>(body: &[u8], limit: usize) -> Result<T, DecodeError> {
    codec::decode("message", limit, body)
}
