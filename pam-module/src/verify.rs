//! The local and total check of a grant: certificate, revocation list, evidence, times. Whatever
//! the gateway says, this file decides, with the module's own request, clock and roster; it is the
//! only maker of a [`Grant`]. Gateway times may only shorten.
#![forbid(unsafe_code)]

use std::path::Path;

use twinlock_certs::check::{self, CheckedCertificate, Expected};
use twinlock_protocol::evidence::{Authority, Certified, Evidence};
use twinlock_protocol::ids::PersonId;
use twinlock_protocol::roster::{Ca, VerifiedRoster};
use twinlock_protocol::verify::{VerifiedRequest, verify_evidence};
use twinlock_protocol::wire::module::Granted;
use twinlock_protocol::{DenyReason, UnixTime};
use zeroize::Zeroizing;

use crate::grant_store::Grant;
use crate::refusal::Refusal;
use crate::roster_slots;
use crate::trusted::Owner;

/// What the module itself knows.
pub struct Own<'a> {
    /// The pinned roster.
    pub roster: &'a VerifiedRoster,
    /// The request, as this very invocation made and verified it.
    pub request: &'a VerifiedRequest,
    /// Who approved by the gateway's word and is not in that roster.
    pub newcomers: &'a [PersonId],
    /// Until when both approvals count, in milliseconds of `CLOCK_BOOTTIME`.
    pub approve_by_boot_ms: u64,
    /// The host's ceiling, in seconds.
    pub max_ttl_s: u32,
    /// Where revocation list numbers are kept.
    pub roster_dir: &'a Path,
    /// Whose files count there.
    pub owner: Owner,
}

/// Now, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The wall clock.
    pub wall: UnixTime,
    /// Milliseconds of `CLOCK_BOOTTIME`.
    pub boot_ms: u64,
}

/// A grant and what the terminal tells of it.
pub struct Verified {
    /// The grant.
    pub grant: Grant,
    /// The names of those who approved, as the roster has them under which they did.
    pub approvers: [String; 2],
    /// The certificate's end, by the gateway's clock.
    pub not_after: UnixTime,
}

/// Checks everything and makes the grant.
///
/// # Errors
/// The reason of the first check that fails; [`DenyReason::RecordFailed`] when the revocation
/// list's number can't be stored, [`DenyReason::RosterNotStored`] when a newer roster can't.
pub fn verify(
    own: &Own<'_>,
    granted: &Granted,
    session_key: Zeroizing<Vec<u8>>,
    now: Now,
) -> Result<Verified, Refusal> {
    if now.boot_ms >= own.approve_by_boot_ms {
        return Err(DenyReason::Expired.into());
    }
    let evidence = verify_evidence(own.roster, own.request, &granted.evidence.0, now.wall)?;
    let roster = evidence.head().unwrap_or(own.roster);
    // A newer roster may leave less time than the request was made with.
    let under_head = evidence.request_under_head().unwrap_or(own.request);
    let less_s = own.request.approve_by_s().saturating_sub(under_head.approve_by_s());
    if now.boot_ms >= own.approve_by_boot_ms.saturating_sub(u64::from(less_s).saturating_mul(1000)) {
        return Err(DenyReason::Expired.into());
    }
    let person = |id: &PersonId| roster.roster().person(id).ok_or(DenyReason::ApproverUnknown);
    // The requester was told that these approved: whoever is in no roster was made up.
    own.newcomers.iter().try_for_each(|id| person(id).map(drop))?;
    let [first, second] = evidence.signers();
    let approvers = [person(first.person())?.name.clone(), person(second.person())?.name.clone()];
    match evidence.head_envelope() {
        Some(envelope) => roster_slots::adopt(own.roster_dir, own.owner, roster, envelope)?,
        None => roster_slots::check_newest(own.roster_dir, own.owner, &roster.reference())?,
    }
    let ttl_s = evidence.ttl_s().min(own.max_ttl_s);
    let request = own.request.request();
    let expected = Expected {
        session_key: &request.session_key,
        host: &request.host,
        target_user: &request.target.user,
        requesters: under_head.requesters(),
        request: own.request.id(),
        evidence: Evidence::digest_of(&granted.evidence.0),
        ttl_s,
        now: now.wall,
    };
    let (ca, certificate) = under_a_ca(roster, &granted.certificate.0, &expected)?;
    check_revocation(own, ca, &certificate, &granted.crl.0, now.wall)?;
    let window_s = certificate.not_after().since(certificate.not_before());
    let life_ms = u64::from(ttl_s).min(window_s).saturating_mul(1000);
    let grant = Grant {
        request: request.clone(),
        id: own.request.id(),
        signed: own.request.signed().clone(),
        authority: Authority::Certificate(Certified {
            evidence: granted.evidence.clone(),
            certificate: granted.certificate.clone(),
        }),
        serial: Some(certificate.serial()),
        session_key,
        roster: roster.reference(),
        deadline_boot_ms: now.boot_ms.saturating_add(life_ms),
    };
    Ok(Verified { grant, approvers, not_after: certificate.not_after() })
}

/// The CA of the roster under which the certificate is good. With several, the last one's reason
/// is told.
fn under_a_ca<'a>(
    roster: &'a VerifiedRoster,
    certificate: &[u8],
    expected: &Expected<'_>,
) -> Result<(&'a Ca, CheckedCertificate), DenyReason> {
    let mut refused = DenyReason::CertificateInvalid;
    for ca in &roster.roster().cas {
        match check::elevation(certificate, &ca.certificate.0, expected) {
            Ok(checked) => return Ok((ca, checked)),
            // A CA that did not sign it says "invalid"; anything else is more to the point.
            Err(DenyReason::CertificateInvalid) => {}
            Err(reason) => refused = reason,
        }
    }
    Err(refused)
}

/// The list must be at least as new as any that this host has accepted, and the host must have
/// stored its number before anything counts on it.
fn check_revocation(
    own: &Own<'_>,
    ca: &Ca,
    certificate: &CheckedCertificate,
    crl: &[u8],
    now: UnixTime,
) -> Result<(), Refusal> {
    let floor = roster_slots::crl_floor(own.roster_dir, own.owner, &ca.id, &ca.certificate.0)?;
    let list = check::crl(crl, &ca.certificate.0, now, floor)?;
    certificate.check_revocation(&list)?;
    roster_slots::raise_crl_floor(own.roster_dir, own.owner, &ca.id, &ca.certificate.0, list.number())
}
