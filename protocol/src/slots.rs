//! The form of a slot: a preallocated file of fixed size, overwritten in place, so that a full disk
//! neither blocks a newer roster nor rolls back to an older one. A host keeps two slots for its
//! roster, and two for the highest revocation list number of each CA; a write goes to the one with
//! the lower sequence, so that a torn write leaves the other. Pure encode and decode: the command
//! line and the module do the I/O (`pwrite` at 0, then `fsync`).
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | ASCII `TWLSLOT1` |
//! | 8 | 8 | sequence: the highest valid one counts; big-endian, never 0 |
//! | 16 | 8 | version of the roster, or number of the revocation list; big-endian |
//! | 24 | 32 | pin: digest of the roster to trust, or SHA-256 of the CA's certificate |
//! | 56 | 4 | length of the payload; big-endian |
//! | 60 | 32 | SHA-256 of bytes 0 to 59 and the payload |
//! | 92 | length | payload: the roster envelope, or nothing |
//!
//! What follows the payload is not looked at.

use crate::bytes::Fixed;
use crate::digest::Digest;
use crate::limits;

const MAGIC: &[u8; 8] = b"TWLSLOT1";
/// Bytes of a slot's header, checksum included.
pub const HEADER_BYTES: usize = 92;
/// The header without its checksum.
const SUMMED_BYTES: usize = 60;
/// The longest payload: a roster envelope.
pub const PAYLOAD_BYTES: usize = limits::ROSTER_ENVELOPE_BYTES;
/// The size to which a roster slot is preallocated.
pub const ROSTER_SLOT_BYTES: u64 = (HEADER_BYTES + PAYLOAD_BYTES) as u64;
/// The size to which a revocation list slot is preallocated: one block.
pub const CRL_SLOT_BYTES: u64 = 4096;
/// The roster's slots, in its directory (`/var/lib/twinlock/roster`).
pub const ROSTER_SLOTS: [&str; 2] = ["slot0", "slot1"];

/// What a slot says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Grows by one with each write; the higher valid one of two slots counts.
    pub sequence: u64,
    /// The roster's version, or the revocation list's number.
    pub version: u64,
    /// The digest of the roster to trust, or of the CA's certificate.
    pub pin: Digest,
    /// The roster envelope's bytes, or nothing.
    pub payload: Vec<u8>,
}

/// A slot does not hold anything that counts: never written, torn, or of another form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the slot holds nothing valid")]
pub struct SlotError;

/// A header, read before its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotHeader {
    sequence: u64,
    version: u64,
    pin: Digest,
    length: usize,
    sum: Digest,
    summed: Vec<u8>,
}

impl Slot {
    /// The bytes to write at offset 0.
    ///
    /// # Errors
    /// [`SlotError`] when the payload is over [`PAYLOAD_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, SlotError> {
        if self.payload.len() > PAYLOAD_BYTES {
            return Err(SlotError);
        }
        let length = u32::try_from(self.payload.len()).map_err(|_| SlotError)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(self.pin.as_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        let sum = checksum(&bytes, &self.payload);
        bytes.extend_from_slice(sum.as_bytes());
        bytes.extend_from_slice(&self.payload);
        Ok(bytes)
    }

    /// Reads a whole slot from its bytes.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, SlotError> {
        let header = SlotHeader::decode(bytes)?;
        let end = HEADER_BYTES.checked_add(header.length).ok_or(SlotError)?;
        header.with_payload(bytes.get(HEADER_BYTES..end).ok_or(SlotError)?.to_vec())
    }
}

impl SlotHeader {
    /// Reads the first [`HEADER_BYTES`]; the checksum is checked with the payload.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, SlotError> {
        let summed = bytes.get(..SUMMED_BYTES).ok_or(SlotError)?;
        let length = u32::from_be_bytes(array(summed, 56)?) as usize;
        let header = Self {
            sequence: u64::from_be_bytes(array(summed, 8)?),
            version: u64::from_be_bytes(array(summed, 16)?),
            pin: Digest(Fixed(array(summed, 24)?)),
            length,
            sum: Digest(Fixed(array(bytes, SUMMED_BYTES)?)),
            summed: summed.to_vec(),
        };
        if !summed.starts_with(MAGIC) || length > PAYLOAD_BYTES || header.sequence == 0 {
            return Err(SlotError);
        }
        Ok(header)
    }

    /// The roster's version, or the revocation list's number: nothing until the payload is joined.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The slot's pin, likewise.
    #[must_use]
    pub fn pin(&self) -> Digest {
        self.pin
    }

    /// The slot's sequence, likewise.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Bytes of payload that follow the header.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.length
    }

    /// Joins the payload that was read.
    ///
    /// # Errors
    /// [`SlotError`] when length or checksum differ.
    pub fn with_payload(self, payload: Vec<u8>) -> Result<Slot, SlotError> {
        if payload.len() != self.length || checksum(&self.summed, &payload) != self.sum {
            return Err(SlotError);
        }
        Ok(Slot { sequence: self.sequence, version: self.version, pin: self.pin, payload })
    }
}

/// Which of two slots a new value goes to, and with which sequence, so that the newer valid one is
/// never overwritten.
#[must_use]
pub fn next_write(current: [Option<&Slot>; 2]) -> (usize, u64) {
    match current.map(|slot| slot.map_or(0, |slot| slot.sequence)) {
        [first, second] if first > second => (1, first.saturating_add(1)),
        [_, second] => (0, second.saturating_add(1)),
    }
}

fn checksum(summed: &[u8], payload: &[u8]) -> Digest {
    let mut bytes = summed.to_vec();
    bytes.extend_from_slice(payload);
    Digest::plain(&bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], SlotError> {
    let end = at.checked_add(N).ok_or(SlotError)?;
    bytes.get(at..end).and_then(|part| part.try_into().ok()).ok_or(SlotError)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn slot() -> Slot {
        Slot { sequence: 7, version: 3, pin: Digest::plain(b"pin"), payload: b"envelope".to_vec() }
    }

    #[test]
    fn a_slot_reads_back_and_ignores_what_follows_it() {
        let mut bytes = slot().encode().unwrap();
        bytes.extend_from_slice(&[0xff; 100]);
        assert_eq!(Slot::decode(&bytes).unwrap(), slot());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let bytes = slot().encode().unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut torn = bytes.clone();
                torn[at] ^= 1 << bit;
                assert_eq!(Slot::decode(&torn), Err(SlotError), "byte {at} bit {bit}");
            }
            assert_eq!(Slot::decode(&bytes[..at]), Err(SlotError), "cut at {at}");
        }
        assert_eq!(Slot::decode(&[0; 4096]), Err(SlotError));
    }

    #[test]
    fn a_write_never_goes_to_the_newest_slot() {
        let with = |sequence| Slot { sequence, ..slot() };
        assert_eq!(next_write([None, None]), (0, 1));
        assert_eq!(next_write([Some(&with(1)), None]), (1, 2));
        assert_eq!(next_write([Some(&with(1)), Some(&with(2))]), (0, 3));
        assert_eq!(next_write([None, Some(&with(9))]), (0, 10));
    }

    #[test]
    fn an_over_long_payload_is_not_written() {
        let long = Slot { payload: vec![0; PAYLOAD_BYTES + 1], ..slot() };
        assert_eq!(long.encode(), Err(SlotError));
        assert!(Slot { payload: vec![0; PAYLOAD_BYTES], ..slot() }.encode().is_ok());
    }
}
