//! Turns two people's approval into a certificate, and makes revocation lists. The only user of the
//! CA key; the proof is consumed, so nothing is issued twice on it.

use std::path::{Path, PathBuf};

use twinlock_certs::issue::{Ca, ElevationTemplate, IssueError, Reason, RevokedEntry};
use twinlock_protocol::evidence::{Evidence, EvidenceFormat, VERSION};
use twinlock_protocol::ids::CertSerial;
use twinlock_protocol::roster::VerifiedRoster;
use twinlock_protocol::verify::{TwoPersonApproval, VerifiedRequest};
use twinlock_protocol::{Bytes, DenyReason, UnixTime};
use zeroize::Zeroizing;

use crate::audit::RevokedBecause;
use crate::random::random;
use crate::request::{Certified, Given};
use crate::store::{CrlRow, RevocationRow};

/// The issuer could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Key and certificate do not belong together.
    #[error("ca.key and ca.der")]
    Ca(#[from] IssueError),
    /// Hosts would refuse everything that this CA issues.
    #[error("ca.der is not a CA of the roster")]
    NotInRoster,
}

/// Issues certificates and revocation lists.
pub struct Issuer {
    ca: Ca,
    crl_url: String,
    crl_life_s: u64,
}

impl Issuer {
    /// Loads `ca.der` and `ca.key` (PKCS #8, DER) from the state directory.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(dir: &Path, roster: &VerifiedRoster, origin: &str, crl_life_s: u32) -> Result<Self, LoadError> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).map_err(|source| LoadError::Read { path, source })
        };
        let certificate = read("ca.der")?;
        let key = Zeroizing::new(read("ca.key")?);
        if !roster.cas.iter().any(|ca| ca.certificate.0 == certificate) {
            return Err(LoadError::NotInRoster);
        }
        let ca = Ca::load(&certificate, &key)?;
        Ok(Self { ca, crl_url: format!("{origin}/crl.der"), crl_life_s: crl_life_s.into() })
    }

    /// Issues the certificate of a request: life from now, at most `max_ttl_s`.
    ///
    /// # Errors
    /// [`DenyReason::EvidenceOtherRequest`] when the proof is another request's;
    /// [`DenyReason::Internal`] when the CA or the random source fails.
    pub fn certify(
        &self,
        request: &VerifiedRequest,
        approval: TwoPersonApproval,
        given: &[Given; 2],
        now: UnixTime,
        max_ttl_s: u32,
    ) -> Result<Certified, DenyReason> {
        if approval.request() != request.id() {
            return Err(DenyReason::EvidenceOtherRequest);
        }
        let evidence = Evidence {
            format: EvidenceFormat::Evidence,
            version: VERSION,
            request_digest: request.id(),
            statements: given.iter().map(|given| given.signed.clone()).collect(),
            rosters: Vec::new(),
        }
        .to_bytes();
        let serial = CertSerial::from_random(random()?);
        let not_after = now.plus(approval.ttl_s().min(max_ttl_s).into());
        let asked = request.request();
        let template = ElevationTemplate {
            session_key: asked.session_key,
            serial,
            host: asked.host.clone(),
            target_user: asked.target.user.clone(),
            requesters: request.requesters().to_vec(),
            not_before: now,
            not_after,
            request: request.id(),
            evidence: Evidence::digest_of(&evidence),
            crl_url: self.crl_url.clone(),
        };
        let certificate = self.ca.elevation(&template).map_err(|error| {
            tracing::error!(%error, "the CA did not issue");
            DenyReason::Internal
        })?;
        Ok(Certified { serial, not_after, certificate: Bytes(certificate), evidence: Bytes(evidence) })
    }

    /// The next revocation list. Numbers also follow the clock, so that a database that was
    /// restored from a backup does not fall behind what hosts have seen.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn crl(&self, newest: Option<u64>, now: UnixTime, entries: &[RevocationRow]) -> Result<CrlRow, IssueError> {
        let number = newest.map_or(now.0, |newest| newest.saturating_add(1).max(now.0));
        let next_update = now.plus(self.crl_life_s);
        let entries = entries.iter().map(|entry| RevokedEntry {
            serial: entry.serial,
            revoked_at: entry.revoked_at.min(now),
            reason: match entry.because {
                RevokedBecause::SessionEnded | RevokedBecause::Expired => Reason::Ended,
                RevokedBecause::Revoked | RevokedBecause::Denied | RevokedBecause::Withdrawn => Reason::Withdrawn,
            },
        });
        let der = self.ca.crl(number, now, next_update, entries)?;
        Ok(CrlRow { number, this_update: now, next_update, der: Bytes(der) })
    }
}
