//! The elevation CA: makes its own certificate, elevation certificates and CRLs. Whoever holds a
//! [`Ca`] can mint certificates, so the gateway's `issue` module is its only user in production;
//! hosts believe a certificate only together with two people's signatures.
//!
//! Every validity is stated: the defaults of rcgen reach from 1975 to 4096.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, RevokedCertParams, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use time::OffsetDateTime;
use twinlock_protocol::ids::{CertSerial, HostId, PersonId, RequestId};
use twinlock_protocol::signature::PublicKey;
use twinlock_protocol::{Digest, UnixTime};
use zeroize::Zeroizing;

use crate::profile;

/// Seconds of a CA year: 365 days.
const YEAR_S: u64 = 365 * 24 * 3600;
/// A CA begins to be valid this long before it is made, in seconds, for hosts whose clock is late.
const BACKDATE_S: u64 = 3600;

/// A certificate or CRL could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The encoder or the signer refused.
    #[error(transparent)]
    Encode(#[from] rcgen::Error),
    /// A moment that X.509 cannot say.
    #[error("the time {0} is outside what a certificate can say")]
    Time(u64),
    /// The CA certificate is not one of ours, or belongs to another key.
    #[error("the CA certificate does not fit the CA key or the profile")]
    CaCertificate,
    /// The window is empty or backwards.
    #[error("not_after is not later than not_before")]
    Window,
}

/// Everything that an elevation certificate says.
#[derive(Clone, Debug)]
pub struct ElevationTemplate {
    /// The session key: P-256, SEC1 uncompressed; the request names it.
    pub session_key: PublicKey,
    /// The serial number.
    pub serial: CertSerial,
    /// The host.
    pub host: HostId,
    /// As whom.
    pub target_user: String,
    /// Who asked, in the order of `VerifiedRequest::requesters`.
    pub requesters: Vec<PersonId>,
    /// Valid from, inclusive.
    pub not_before: UnixTime,
    /// Valid until, inclusive.
    pub not_after: UnixTime,
    /// The request; the grant's id is made from it.
    pub request: RequestId,
    /// The digest of the evidence's bytes.
    pub evidence: Digest,
    /// Where the CRL can be fetched, for stock tools.
    pub crl_url: String,
}

/// Why a certificate is on the CRL (RFC 5280 §5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The session is over: `cessationOfOperation`.
    Ended,
    /// An administrator took it away: `privilegeWithdrawn`.
    Withdrawn,
}

/// One entry of a CRL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedEntry {
    /// The certificate.
    pub serial: CertSerial,
    /// Since when.
    pub revoked_at: UnixTime,
    /// Why.
    pub reason: Reason,
}

/// The elevation CA with its key.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
}

impl Ca {
    /// Makes a CA that is valid for `years` from `now`. Returns it with its key in PKCS #8 (DER),
    /// which the caller stores 0600.
    ///
    /// # Errors
    /// [`IssueError`] when the random source or the encoder fails.
    pub fn generate(name: &str, now: UnixTime, years: u32) -> Result<(Self, Zeroizing<Vec<u8>>), IssueError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let pkcs8 = Zeroizing::new(key.serialize_der());
        let mut params = CertificateParams::default();
        params.not_before = moment(UnixTime(now.0.saturating_sub(BACKDATE_S)))?;
        params.not_after = moment(now.plus(u64::from(years).saturating_mul(YEAR_S)))?;
        params.distinguished_name = distinguished_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.key_identifier_method = KeyIdMethod::Sha256;
        // rcgen derives the serial from the key's digest: unique per CA key, positive, 20 bytes.
        params.serial_number = None;
        let certificate = params.self_signed(&key)?.der().to_vec();
        Ok((Self { issuer: Issuer::new(params, key), certificate }, pkcs8))
    }

    /// Reads a CA from its certificate (DER) and key (PKCS #8, DER).
    ///
    /// # Errors
    /// [`IssueError::CaCertificate`] when they do not belong together, [`IssueError::Encode`] when
    /// they do not parse.
    pub fn load(certificate: &[u8], pkcs8: &[u8]) -> Result<Self, IssueError> {
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.into(), &PKCS_ECDSA_P256_SHA256)?;
        let spki = key.subject_public_key_info();
        // The certificate carries its own key as one run of bytes; a full check is the verifier's.
        if !certificate.windows(spki.len()).any(|window| window == spki.as_slice()) {
            return Err(IssueError::CaCertificate);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate.into(), key)?;
        Ok(Self { issuer, certificate: certificate.to_vec() })
    }

    /// The CA's certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Makes an elevation certificate, DER.
    ///
    /// # Errors
    /// [`IssueError`] when a value cannot be encoded.
    pub fn elevation(&self, template: &ElevationTemplate) -> Result<Vec<u8>, IssueError> {
        if template.not_after <= template.not_before {
            return Err(IssueError::Window);
        }
        let grant = template.request.grant();
        let names = profile::names(&template.host, grant, &template.target_user, &template.requesters);
        let spki = SubjectPublicKeyInfo::from_der(&profile::subject_public_key_info(&template.session_key))?;
        let mut params = CertificateParams::default();
        params.not_before = moment(template.not_before)?;
        params.not_after = moment(template.not_after)?;
        params.serial_number = Some(SerialNumber::from_slice(&template.serial.0.0));
        params.distinguished_name = distinguished_name(&grant.to_string());
        params.subject_alt_names =
            names.into_iter().map(|name| Ok(SanType::URI(name.try_into()?))).collect::<Result<_, rcgen::Error>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(profile::EKU_ELEVATION.to_vec())];
        params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![template.crl_url.clone()] }];
        params.use_authority_key_identifier_extension = true;
        // Not critical: stock verifiers refuse what they do not know; ours requires it.
        let binding = profile::binding(&template.request, &template.evidence);
        params.custom_extensions.push(CustomExtension::from_oid_content(profile::EXT_BINDING, binding));
        // rcgen writes BasicConstraints and the subject key identifier for `ExplicitNoCa` itself.
        Ok(params.signed_by(&spki, &self.issuer)?.der().to_vec())
    }

    /// Makes a CRL, DER. Numbers only grow; the caller keeps them.
    ///
    /// # Errors
    /// [`IssueError`] when a value cannot be encoded.
    pub fn crl(
        &self,
        number: u64,
        this_update: UnixTime,
        next_update: UnixTime,
        entries: impl IntoIterator<Item = RevokedEntry>,
    ) -> Result<Vec<u8>, IssueError> {
        let revoked = |entry: RevokedEntry| {
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from_slice(&entry.serial.0.0),
                revocation_time: moment(entry.revoked_at)?,
                reason_code: Some(match entry.reason {
                    Reason::Ended => rcgen::RevocationReason::CessationOfOperation,
                    Reason::Withdrawn => rcgen::RevocationReason::PrivilegeWithdrawn,
                }),
                invalidity_date: None,
            })
        };
        let params = CertificateRevocationListParams {
            this_update: moment(this_update)?,
            next_update: moment(next_update)?,
            crl_number: SerialNumber::from_slice(&number.to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs: entries.into_iter().map(revoked).collect::<Result<_, IssueError>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer)?.der().to_vec())
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an elevation CA")
    }
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Twinlock");
    name.push(DnType::CommonName, common_name);
    name
}

/// X.509 says whole seconds; after 2049 as GeneralizedTime, until the year 9999.
fn moment(time: UnixTime) -> Result<OffsetDateTime, IssueError> {
    let error = IssueError::Time(time.0);
    let Ok(seconds) = i64::try_from(time.0) else { return Err(error) };
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| error)
}
