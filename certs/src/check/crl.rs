//! The checker of revocation lists: complete CRLs of one elevation CA, signed by it, in date, and
//! never older than one already seen. Indirect and delta CRLs are refused with every other critical
//! extension. A list that cannot be read in full proves nothing and is refused.

use twinlock_protocol::ids::CertSerial;
use twinlock_protocol::signature::PublicKey;
use twinlock_protocol::{DenyReason, UnixTime, limits};
use x509_parser::asn1_rs::FromDer as _;

use super::list::{Entry, List};
use super::{Authority, check_extensions, envelope, find, parse, require, serial};
use crate::profile::{self, oid};

/// A CRL that the checker accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct CheckedCrl {
    /// The key of the CA that signed it.
    issuer: PublicKey,
    number: u64,
    this_update: UnixTime,
    next_update: UnixTime,
    /// In the list's order: one certificate is looked up, and to sort them would cost more.
    revoked: Vec<CertSerial>,
}

impl CheckedCrl {
    pub(super) fn issuer(&self) -> PublicKey {
        self.issuer
    }

    /// Its number; the caller keeps the highest.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// When it was made, by the gateway's clock.
    #[must_use]
    pub fn this_update(&self) -> UnixTime {
        self.this_update
    }

    /// From when on it is stale.
    #[must_use]
    pub fn next_update(&self) -> UnixTime {
        self.next_update
    }

    /// Whether it lists this certificate.
    #[must_use]
    pub fn contains(&self, serial: &CertSerial) -> bool {
        self.revoked.contains(serial)
    }
}

/// Checks a CRL (DER) under a CA certificate (DER) of the roster. `highest_number_seen` is 0 on a
/// host that has seen none.
///
/// # Errors
/// [`DenyReason::CrlInvalid`]; [`DenyReason::CertificateInvalid`] when the CA itself is unsound.
pub fn crl(bytes: &[u8], ca: &[u8], now: UnixTime, highest_number_seen: u64) -> Result<CheckedCrl, DenyReason> {
    let ca_parsed = parse(ca)?;
    let authority = Authority::of(&ca_parsed, ca)?;
    if bytes.len() > limits::CRL_BYTES {
        return Err(DenyReason::CrlInvalid);
    }
    read(bytes, &authority, now, highest_number_seen).ok_or(DenyReason::CrlInvalid)
}

fn read(bytes: &[u8], authority: &Authority<'_>, now: UnixTime, highest_number_seen: u64) -> Option<CheckedCrl> {
    let list = List::read(bytes)?;
    if !envelope::is_our_algorithm(&list.algorithm) || list.issuer != authority.name {
        return None;
    }
    envelope::check(bytes, list.signed, &list.signature, &authority.key)?;
    check_extensions(&list.extensions, &[]).ok()?;
    let authority_key = profile::authority_key_identifier(authority.key_identifier);
    require(&list.extensions, oid::AUTHORITY_KEY_ID, None, &authority_key, DenyReason::CrlInvalid).ok()?;
    let ([], number) = u64::from_der(find(&list.extensions, oid::CRL_NUMBER)?.value).ok()? else { return None };
    let this_update = UnixTime(u64::try_from(list.this_update).ok()?);
    let next_update = UnixTime(u64::try_from(list.next_update).ok()?);
    let begun = this_update <= now.plus(limits::CLOCK_SKEW_S);
    if number < highest_number_seen || !begun || next_update <= now || next_update <= this_update {
        return None;
    }
    let revoked = list.entries.iter().map(entry).collect::<Option<_>>()?;
    Some(CheckedCrl { issuer: authority.key, number, this_update, next_update, revoked })
}

/// Our CA lists only serials of its own making, without critical entry extensions: anything else
/// may mean something that we would misread.
fn entry(revoked: &Entry<'_>) -> Option<CertSerial> {
    check_extensions(&revoked.extensions, &[]).ok()?;
    serial(revoked.serial)
}
