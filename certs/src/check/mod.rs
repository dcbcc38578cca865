//! The checker of elevation certificates: local, total, pinned. A certificate is accepted only when
//! every byte that matters is the one that our own issuer writes; names, extensions and keys are
//! rebuilt and compared, not interpreted. `x509-parser` only finds where the fields are.
//!
//! What is *not* decided here: whether two people approved. A certificate without evidence is
//! worth nothing (T1).

mod crl;
mod envelope;
mod list;

pub use crl::{CheckedCrl, crl};

use twinlock_protocol::ids::{CertSerial, HostId, PersonId, RequestId};
use twinlock_protocol::signature::PublicKey;
use twinlock_protocol::{DenyReason, Digest, Fixed, UnixTime, limits};
use x509_parser::certificate::{TbsCertificate, X509Certificate, X509CertificateParser};
use x509_parser::extensions::X509Extension;
use x509_parser::nom::Parser as _;
use x509_parser::x509::X509Version;

use crate::profile::{self, oid};

/// What the certificate must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The session key of the request.
    pub session_key: &'a PublicKey,
    /// This host.
    pub host: &'a HostId,
    /// The target of the request.
    pub target_user: &'a str,
    /// `VerifiedRequest::requesters`, in its order.
    pub requesters: &'a [PersonId],
    /// The request; its grant's id is made from it.
    pub request: RequestId,
    /// The digest of the evidence's bytes.
    pub evidence: Digest,
    /// The life that both approvers granted, in seconds (`TwoPersonApproval::ttl_s`, and the
    /// host's own ceiling if that is less). The certificate's window may be longer by the clock
    /// skew, not more.
    pub ttl_s: u32,
    /// The host's wall clock.
    pub now: UnixTime,
}

/// A certificate that the checker accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct CheckedCertificate {
    /// The key of the CA that signed it.
    issuer: PublicKey,
    serial: CertSerial,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl CheckedCertificate {
    /// Its serial number.
    #[must_use]
    pub fn serial(&self) -> CertSerial {
        self.serial
    }

    /// Valid from, by the gateway's clock.
    #[must_use]
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// Valid until, by the gateway's clock. May only shorten what the host allows.
    #[must_use]
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Whether `crl` is by this certificate's own CA and does not list it.
    ///
    /// # Errors
    /// [`DenyReason::CrlInvalid`] for another CA's list, [`DenyReason::CertificateRevoked`].
    pub fn check_revocation(&self, crl: &CheckedCrl) -> Result<(), DenyReason> {
        if self.issuer != crl.issuer() {
            return Err(DenyReason::CrlInvalid);
        }
        if crl.contains(&self.serial) { Err(DenyReason::CertificateRevoked) } else { Ok(()) }
    }
}

/// Checks an elevation certificate (DER) under a CA certificate (DER) of the roster.
///
/// # Errors
/// [`DenyReason::CertificateInvalid`] for everything about form, algorithms, chain, usages and
/// extensions; [`DenyReason::CertificateOther`] when it is sound, but for another key, host, grant,
/// target, requester, request or evidence; [`DenyReason::CertificateTime`].
pub fn elevation(certificate: &[u8], ca: &[u8], expected: &Expected<'_>) -> Result<CheckedCertificate, DenyReason> {
    let ca_parsed = parse(ca)?;
    let authority = Authority::of(&ca_parsed, ca)?;
    authority.check_time(expected.now)?;
    let parsed = parse(certificate)?;
    let tbs = &parsed.tbs_certificate;
    if tbs.issuer.as_raw() != authority.name {
        return Err(DenyReason::CertificateInvalid);
    }
    authority.check_signature(certificate, tbs.as_ref(), &parsed)?;
    let serial = check_leaf(tbs, &authority)?;
    check_binding(tbs, expected)?;
    let (not_before, not_after) = window(tbs)?;
    check_window(not_before, not_after, expected)?;
    Ok(CheckedCertificate { issuer: authority.key, serial, not_before, not_after })
}

/// A CA certificate of the roster, checked.
struct Authority<'a> {
    name: &'a [u8],
    key: PublicKey,
    key_identifier: &'a [u8],
    not_before: UnixTime,
    not_after: UnixTime,
}

impl<'a> Authority<'a> {
    /// Checks that it is an elevation CA's own certificate: self-signed, CA with path length 0, key
    /// usages exactly certificate and CRL signing, a P-256 key.
    fn of(parsed: &'a X509Certificate<'a>, bytes: &[u8]) -> Result<Self, DenyReason> {
        let invalid = DenyReason::CertificateInvalid;
        let tbs = &parsed.tbs_certificate;
        check_form(tbs)?;
        let name = tbs.subject.as_raw();
        if tbs.issuer.as_raw() != name {
            return Err(invalid);
        }
        let extensions = tbs.extensions();
        check_extensions(extensions, &[oid::KEY_USAGE, oid::BASIC_CONSTRAINTS])?;
        require(extensions, oid::BASIC_CONSTRAINTS, Some(Critical), profile::BASIC_CONSTRAINTS_CA, invalid)?;
        require(extensions, oid::KEY_USAGE, Some(Critical), profile::KEY_USAGE_CA, invalid)?;
        let (not_before, not_after) = window(tbs)?;
        let authority = Self {
            name,
            key: profile::public_key_of(tbs.subject_pki.raw).ok_or(invalid)?,
            key_identifier: key_identifier(extensions).ok_or(invalid)?,
            not_before,
            not_after,
        };
        authority.check_signature(bytes, tbs.as_ref(), parsed)?;
        Ok(authority)
    }

    fn check_time(&self, now: UnixTime) -> Result<(), DenyReason> {
        let begun = now.plus(limits::CLOCK_SKEW_S) >= self.not_before;
        if begun && now < self.not_after { Ok(()) } else { Err(DenyReason::CertificateTime) }
    }

    fn check_signature(&self, bytes: &[u8], tbs: &[u8], parsed: &X509Certificate<'_>) -> Result<(), DenyReason> {
        envelope::check(bytes, tbs, &parsed.signature_value, &self.key).ok_or(DenyReason::CertificateInvalid)
    }
}

fn parse(bytes: &[u8]) -> Result<X509Certificate<'_>, DenyReason> {
    if bytes.len() > limits::CERTIFICATE_BYTES {
        return Err(DenyReason::CertificateInvalid);
    }
    match X509CertificateParser::new().with_deep_parse_extensions(false).parse(bytes) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(DenyReason::CertificateInvalid),
    }
}

/// Version 3, the inner algorithm is ours, no unique ids (RFC 5280 §4.1.2.8 forbids them).
fn check_form(tbs: &TbsCertificate<'_>) -> Result<(), DenyReason> {
    let algorithm = envelope::is_our_algorithm(&tbs.signature);
    if tbs.version == X509Version::V3 && algorithm && tbs.issuer_uid.is_none() && tbs.subject_uid.is_none() {
        Ok(())
    } else {
        Err(DenyReason::CertificateInvalid)
    }
}

fn check_leaf(tbs: &TbsCertificate<'_>, authority: &Authority<'_>) -> Result<CertSerial, DenyReason> {
    let invalid = DenyReason::CertificateInvalid;
    check_form(tbs)?;
    let extensions = tbs.extensions();
    check_extensions(extensions, &[oid::KEY_USAGE, oid::BASIC_CONSTRAINTS])?;
    require(extensions, oid::BASIC_CONSTRAINTS, Some(Critical), profile::BASIC_CONSTRAINTS_LEAF, invalid)?;
    require(extensions, oid::KEY_USAGE, Some(Critical), profile::KEY_USAGE_LEAF, invalid)?;
    require(extensions, oid::EXTENDED_KEY_USAGE, None, &profile::extended_key_usage(), invalid)?;
    let authority_key = profile::authority_key_identifier(authority.key_identifier);
    require(extensions, oid::AUTHORITY_KEY_ID, None, &authority_key, invalid)?;
    key_identifier(extensions).ok_or(invalid)?;
    find(extensions, oid::CRL_DISTRIBUTION_POINTS).ok_or(invalid)?;
    serial(tbs.raw_serial()).ok_or(invalid)
}

fn check_binding(tbs: &TbsCertificate<'_>, expected: &Expected<'_>) -> Result<(), DenyReason> {
    let other = DenyReason::CertificateOther;
    let extensions = tbs.extensions();
    // Without our extension it is no elevation certificate at all; with another content, it is one
    // for somebody else.
    find(extensions, oid::BINDING).ok_or(DenyReason::CertificateInvalid)?;
    if tbs.subject_pki.raw != profile::subject_public_key_info(expected.session_key) {
        return Err(other);
    }
    let names = profile::names(expected.host, expected.request.grant(), expected.target_user, expected.requesters);
    require(extensions, oid::SUBJECT_ALT_NAME, None, &profile::subject_alt_name(&names), other)?;
    require(extensions, oid::BINDING, None, &profile::binding(&expected.request, &expected.evidence), other)
}

/// The gateway's clock may be off by the skew at the beginning; past its end a certificate is over,
/// and its window is no longer than what people signed, plus the skew.
fn check_window(not_before: UnixTime, not_after: UnixTime, expected: &Expected<'_>) -> Result<(), DenyReason> {
    let begun = expected.now.plus(limits::CLOCK_SKEW_S) >= not_before;
    let longest = u64::from(expected.ttl_s).saturating_add(limits::CLOCK_SKEW_S);
    let fits = not_before < not_after && not_after.since(not_before) <= longest;
    if begun && expected.now < not_after && fits { Ok(()) } else { Err(DenyReason::CertificateTime) }
}

fn window(tbs: &TbsCertificate<'_>) -> Result<(UnixTime, UnixTime), DenyReason> {
    let moment = |seconds: i64| u64::try_from(seconds).map(UnixTime).map_err(|_| DenyReason::CertificateInvalid);
    Ok((moment(tbs.validity.not_before.timestamp())?, moment(tbs.validity.not_after.timestamp())?))
}

/// A serial of ours: positive, 16 bytes, no padding.
fn serial(raw: &[u8]) -> Option<CertSerial> {
    let bytes: [u8; 16] = raw.try_into().ok()?;
    (1..0x80).contains(bytes.first()?).then_some(CertSerial(Fixed(bytes)))
}

/// Stands where a bool would: an extension that must be marked critical.
struct Critical;

/// More extensions than any certificate of ours has; the search for duplicates is quadratic.
const MOST_EXTENSIONS: usize = 32;

/// No extension twice, none critical that is not in `known`, and never "no revocation available".
fn check_extensions(extensions: &[X509Extension<'_>], known: &[&[u8]]) -> Result<(), DenyReason> {
    let twice =
        |extension: &X509Extension<'_>| extensions.iter().filter(|other| other.oid == extension.oid).count() > 1;
    let unknown = |extension: &X509Extension<'_>| extension.critical && !known.contains(&extension.oid.as_bytes());
    let refused = |extension: &X509Extension<'_>| extension.oid.as_bytes() == oid::NO_REV_AVAIL;
    if extensions.len() > MOST_EXTENSIONS
        || extensions.iter().any(|extension| twice(extension) || unknown(extension) || refused(extension))
    {
        return Err(DenyReason::CertificateInvalid);
    }
    Ok(())
}

fn find<'a>(extensions: &'a [X509Extension<'a>], id: &[u8]) -> Option<&'a X509Extension<'a>> {
    extensions.iter().find(|extension| extension.oid.as_bytes() == id)
}

fn require(
    extensions: &[X509Extension<'_>],
    id: &[u8],
    critical: Option<Critical>,
    content: &[u8],
    otherwise: DenyReason,
) -> Result<(), DenyReason> {
    let holds = |extension: &X509Extension<'_>| extension.value == content && extension.critical == critical.is_some();
    if find(extensions, id).is_some_and(holds) { Ok(()) } else { Err(otherwise) }
}

/// The subject key identifier: an OCTET STRING of 20 bytes (RFC 7093 §2, method 1).
fn key_identifier<'a>(extensions: &'a [X509Extension<'a>]) -> Option<&'a [u8]> {
    let extension = find(extensions, oid::SUBJECT_KEY_ID)?;
    match extension.value {
        [0x04, 20, identifier @ ..] if identifier.len() == 20 && !extension.critical => Some(identifier),
        _ => None,
    }
}
