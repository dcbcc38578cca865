//! Turns two people's approval into a certificate, and makes revocation lists. The only user of the
//! CA key; the proof is consumed, so nothing is issued twice on it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use twinlock_certs::issue::{Ca, ElevationTemplate, IssueError, Reason, RevokedEntry};
use twinlock_protocol::evidence::{Evidence, EvidenceFormat, VERSION};
use twinlock_protocol::ids::CertSerial;
use twinlock_protocol::roster::{RosterEnvelope, VerifiedRoster};
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

/// Issues certificates and revocation lists, with the first CA of the roster whose key lies here.
pub struct Issuer {
    dir: PathBuf,
    ca: RwLock<Arc<Issuing>>,
    crl_url: String,
    crl_life_s: u64,
}

struct Issuing {
    certificate: Vec<u8>,
    ca: Ca,
}

impl Issuer {
    /// Loads the CA from the state directory: `ca.der` and `ca.key` (PKCS #8, DER), or one that came
    /// by a roster change, `ca-ID.der` and `ca-ID.key`.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(dir: &Path, roster: &VerifiedRoster, origin: &str, crl_life_s: u32) -> Result<Self, LoadError> {
        let issuing = find(dir, roster)?.ok_or(LoadError::NotInRoster)?;
        let (crl_url, crl_life_s) = (format!("{origin}/crl.der"), crl_life_s.into());
        Ok(Self { dir: dir.to_owned(), ca: RwLock::new(Arc::new(issuing)), crl_url, crl_life_s })
    }

    /// Follows the roster: whether another CA issues from now on. Where no key of the roster's CAs
    /// lies here, the old one stays; hosts refuse what it issues, and the log says so.
    pub fn choose(&self, roster: &VerifiedRoster) -> bool {
        match find(&self.dir, roster) {
            Ok(Some(issuing)) => {
                let mut ca = self.ca.write().unwrap_or_else(PoisonError::into_inner);
                let changed = ca.certificate != issuing.certificate;
                *ca = Arc::new(issuing);
                changed
            }
            Ok(None) => {
                tracing::error!("no CA of the roster has its key here: nothing that is issued now will be accepted");
                false
            }
            Err(error) => {
                tracing::error!(%error, "the CA was not changed");
                false
            }
        }
    }

    fn ca(&self) -> Arc<Issuing> {
        Arc::clone(&self.ca.read().unwrap_or_else(PoisonError::into_inner))
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
        rosters: Vec<Arc<RosterEnvelope>>,
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
            rosters: rosters.iter().map(|envelope| (**envelope).clone()).collect(),
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
        let certificate = self.ca().ca.elevation(&template).map_err(|error| {
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
                RevokedBecause::Revoked
                | RevokedBecause::Denied
                | RevokedBecause::Withdrawn
                | RevokedBecause::RosterChanged => Reason::Withdrawn,
            },
        });
        let der = self.ca().ca.crl(number, now, next_update, entries)?;
        Ok(CrlRow { number, this_update: now, next_update, der: Bytes(der) })
    }
}

/// The first CA of the roster whose certificate and key lie in the state directory.
fn find(dir: &Path, roster: &VerifiedRoster) -> Result<Option<Issuing>, LoadError> {
    for entry in &roster.cas {
        for stem in ["ca".to_owned(), format!("ca-{}", entry.id)] {
            let Some(certificate) = read(dir, &format!("{stem}.der"))? else { continue };
            if certificate != entry.certificate.0 {
                continue;
            }
            let Some(key) = read(dir, &format!("{stem}.key"))? else { continue };
            let ca = Ca::load(&certificate, &Zeroizing::new(key))?;
            return Ok(Some(Issuing { certificate, ca }));
        }
    }
    Ok(None)
}

fn read(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, LoadError> {
    let path = dir.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LoadError::Read { path, source }),
    }
}
