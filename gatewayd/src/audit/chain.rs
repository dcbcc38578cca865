//! The hash chain: `hash = SHA-256("twinlock/audit/v1\0" ‖ previous hash ‖ number ‖ time ‖ event)`,
//! number and time as 8 big-endian bytes, the event as its JSON bytes. Deleting, changing,
//! inserting or reordering a row breaks the chain at that row.

use serde::{Deserialize, Serialize};
use twinlock_protocol::{Digest, Fixed};

use super::event::Event;

const TAG: &[u8] = b"twinlock/audit/v1\0";

/// The "hash" before the first row.
pub const GENESIS: Digest = Digest(Fixed([0; 32]));

/// One committed row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRow {
    /// 1, 2, 3 …
    pub number: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The hash of the row before.
    pub previous: Digest,
    /// The event's JSON bytes, as hashed.
    pub event: String,
    /// This row's hash.
    pub hash: Digest,
}

/// Where a chain breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A number is missing, repeated or out of order.
    #[error("row {expected} is missing or out of order: found row {found}")]
    Number {
        /// The number that should come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// A row's hash or link is wrong.
    #[error("row {0} was changed, or the row before it")]
    Hash(u64),
}

/// Makes the next row.
#[must_use]
pub fn link(previous: Digest, number: u64, at_ms: u64, event: &Event) -> AuditRow {
    let event = String::from_utf8(twinlock_protocol::codec::encode(event)).unwrap_or_default();
    let hash = hash(&previous, number, at_ms, &event);
    AuditRow { number, at_ms, previous, event, hash }
}

/// Checks rows that start after `previous` at `number`.
///
/// # Errors
/// [`ChainError`], naming the first row that does not fit.
pub fn verify_chain(mut previous: Digest, mut number: u64, rows: &[AuditRow]) -> Result<Digest, ChainError> {
    for row in rows {
        if row.number != number {
            return Err(ChainError::Number { expected: number, found: row.number });
        }
        if row.previous != previous || row.hash != hash(&previous, row.number, row.at_ms, &row.event) {
            return Err(ChainError::Hash(row.number));
        }
        previous = row.hash;
        number = number.saturating_add(1);
    }
    Ok(previous)
}

fn hash(previous: &Digest, number: u64, at_ms: u64, event: &str) -> Digest {
    let mut message = TAG.to_vec();
    message.extend_from_slice(previous.as_bytes());
    message.extend_from_slice(&number.to_be_bytes());
    message.extend_from_slice(&at_ms.to_be_bytes());
    message.extend_from_slice(event.as_bytes());
    Digest::plain(&message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn rows() -> Vec<AuditRow> {
        let mut previous = GENESIS;
        (1..=5)
            .map(|number| {
                let row = link(previous, number, 1000 + number, &Event::CrlIssued { number, entries: 0 });
                previous = row.hash;
                row
            })
            .collect()
    }

    #[test]
    fn an_untouched_chain_verifies() {
        let rows = rows();
        assert_eq!(verify_chain(GENESIS, 1, &rows).unwrap(), rows[4].hash);
    }

    /// Catalogue: L1 (control: an_untouched_chain_verifies)
    #[test]
    fn an_edit_a_deletion_an_insertion_and_a_swap_are_found_at_their_row() {
        let mut edited = rows();
        edited[2].event = edited[2].event.replace('3', "4");
        assert_eq!(verify_chain(GENESIS, 1, &edited), Err(ChainError::Hash(3)));
        let mut deleted = rows();
        deleted.remove(1);
        assert_eq!(verify_chain(GENESIS, 1, &deleted), Err(ChainError::Number { expected: 2, found: 3 }));
        let mut inserted = rows();
        inserted.insert(2, inserted[1].clone());
        assert_eq!(verify_chain(GENESIS, 1, &inserted), Err(ChainError::Number { expected: 3, found: 2 }));
        let mut swapped = rows();
        swapped.swap(1, 2);
        assert!(verify_chain(GENESIS, 1, &swapped).is_err());
    }
}
