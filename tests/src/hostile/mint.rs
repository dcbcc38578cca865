//! A hostile CA: elevation certificates and revocation lists put together by hand, with the
//! gateway's own CA key, so that each part can be wrong alone. What it makes without being told to
//! lie is what `certs::issue` would have made; the controls hold it to that.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use time::OffsetDateTime;
use twinlock_certs::der::{tag, value};
use twinlock_certs::issue::Ca;
use twinlock_certs::profile::{self, oid};
use twinlock_protocol::ids::{CertSerial, HostId, PersonId, RequestId};
use twinlock_protocol::signature::PublicKey;
use twinlock_protocol::softphone::random;
use twinlock_protocol::{Digest, UnixTime};

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const SET: u8 = 0x31;
const UTF8: u8 = 0x0c;
const GENERALIZED_TIME: u8 = 0x18;
const UTC_TIME: u8 = 0x17;

/// A CA with its key.
pub struct Mint {
    key: EcdsaKeyPair,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    name: Vec<u8>,
    key_identifier: Vec<u8>,
}

/// An extension: its identifier's content bytes, whether it is critical, its content.
#[derive(Clone)]
pub struct Extension(pub Vec<u8>, pub Critical, pub Vec<u8>);

/// Whether an extension is marked critical.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Critical {
    /// Yes.
    Yes,
    /// No.
    No,
}

/// What a certificate is to say. Every field may be changed before it is signed.
#[derive(Clone)]
pub struct Leaf {
    /// The version's INTEGER; 2 means v3.
    pub version: u8,
    /// The serial's content bytes.
    pub serial: Vec<u8>,
    /// The inner algorithm identifier, DER.
    pub algorithm: Vec<u8>,
    /// The issuer's name, DER.
    pub issuer: Vec<u8>,
    /// From when on.
    pub not_before: UnixTime,
    /// Until when.
    pub not_after: UnixTime,
    /// The subject's key, DER.
    pub key: Vec<u8>,
    /// The extensions.
    pub extensions: Vec<Extension>,
}

impl Leaf {
    /// The extension with this identifier.
    pub fn extension(&mut self, id: &[u8]) -> &mut Extension {
        self.extensions.iter_mut().find(|extension| extension.0 == id).expect("an extension of the profile")
    }

    /// Takes an extension away.
    pub fn without(&mut self, id: &[u8]) {
        self.extensions.retain(|extension| extension.0 != id);
    }
}

/// What a certificate is about.
#[derive(Clone)]
pub struct About {
    /// The session key.
    pub session_key: PublicKey,
    /// The host.
    pub host: HostId,
    /// As whom.
    pub target_user: String,
    /// Who asks.
    pub requesters: Vec<PersonId>,
    /// The request.
    pub request: RequestId,
    /// The evidence.
    pub evidence: Digest,
}

/// What a revocation list is to say.
#[derive(Clone)]
pub struct Crl {
    /// Its number.
    pub number: u64,
    /// Since when.
    pub this_update: UnixTime,
    /// Until when; none leaves it out.
    pub next_update: Option<UnixTime>,
    /// Serial numbers' content bytes.
    pub revoked: Vec<Vec<u8>>,
    /// The issuer's name, DER.
    pub issuer: Vec<u8>,
    /// More extensions.
    pub more: Vec<Extension>,
}

impl Mint {
    /// From a CA's certificate and key, DER.
    pub fn new(certificate: &[u8], pkcs8: &[u8]) -> Self {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).expect("a certificate");
        let key_identifier = parsed
            .extensions()
            .iter()
            .find(|extension| extension.oid.as_bytes() == oid::SUBJECT_KEY_ID)
            .expect("a key identifier");
        Self {
            key: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &SystemRandom::new()).expect("a key"),
            certificate: certificate.to_vec(),
            name: parsed.subject().as_raw().to_vec(),
            key_identifier: key_identifier.value[2..].to_vec(),
        }
    }

    /// Another CA that calls itself the same, with a key of its own.
    pub fn namesake(&self, name: &str, now: UnixTime) -> Self {
        let (ca, pkcs8) = Ca::generate(name, now, 10).expect("a CA");
        Self::new(ca.certificate(), &pkcs8)
    }

    /// Its name, DER.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// An honest certificate, not signed yet.
    pub fn leaf(&self, about: &About, not_before: UnixTime, life_s: u64) -> Leaf {
        let names = profile::names(&about.host, about.request.grant(), &about.target_user, &about.requesters);
        let content = |id: &[u8], critical, content: Vec<u8>| Extension(id.to_vec(), critical, content);
        let crl_url = value(0x86, &[b"https://tl.example.org/crl"]);
        let point = value(tag::SEQUENCE, &[&value(tag::SEQUENCE, &[&value(0xa0, &[&value(0xa0, &[&crl_url])])])]);
        Leaf {
            version: 2,
            serial: CertSerial::from_random(random()).0.0.to_vec(),
            algorithm: profile::ECDSA_WITH_SHA256.to_vec(),
            issuer: self.name.clone(),
            not_before,
            not_after: not_before.plus(life_s),
            key: profile::subject_public_key_info(&about.session_key),
            extensions: vec![
                content(oid::AUTHORITY_KEY_ID, Critical::No, profile::authority_key_identifier(&self.key_identifier)),
                content(oid::SUBJECT_ALT_NAME, Critical::No, profile::subject_alt_name(&names)),
                content(oid::KEY_USAGE, Critical::Yes, profile::KEY_USAGE_LEAF.to_vec()),
                content(oid::EXTENDED_KEY_USAGE, Critical::No, profile::extended_key_usage()),
                content(oid::CRL_DISTRIBUTION_POINTS, Critical::No, point),
                content(oid::SUBJECT_KEY_ID, Critical::No, value(tag::OCTET_STRING, &[&[7; 20]])),
                content(oid::BASIC_CONSTRAINTS, Critical::Yes, profile::BASIC_CONSTRAINTS_LEAF.to_vec()),
                content(oid::BINDING, Critical::No, profile::binding(&about.request, &about.evidence)),
            ],
        }
    }

    /// Signs a certificate.
    pub fn sign(&self, leaf: &Leaf) -> Vec<u8> {
        let validity = value(tag::SEQUENCE, &[&moment(leaf.not_before), &moment(leaf.not_after)]);
        let common_name = value(tag::SEQUENCE, &[&value(tag::OID, &[&[0x55, 0x04, 0x03]]), &value(UTF8, &[b"grant"])]);
        let subject = value(tag::SEQUENCE, &[&value(SET, &[&common_name])]);
        let extensions: Vec<u8> = leaf.extensions.iter().flat_map(extension).collect();
        let extensions = value(0xa3, &[&value(tag::SEQUENCE, &[&extensions])]);
        let version = value(0xa0, &[&value(INTEGER, &[&[leaf.version]])]);
        let serial = value(INTEGER, &[&leaf.serial]);
        self.envelope(&value(
            tag::SEQUENCE,
            &[&version, &serial, &leaf.algorithm, &leaf.issuer, &validity, &subject, &leaf.key, &extensions],
        ))
    }

    /// An honest, empty list.
    pub fn empty_crl(&self, number: u64, now: UnixTime) -> Crl {
        Crl {
            number,
            this_update: UnixTime(now.0 - 30),
            next_update: Some(now.plus(600)),
            revoked: Vec::new(),
            issuer: self.name.clone(),
            more: Vec::new(),
        }
    }

    /// Signs a revocation list.
    pub fn sign_crl(&self, crl: &Crl) -> Vec<u8> {
        let entry = |serial: &Vec<u8>| value(tag::SEQUENCE, &[&value(INTEGER, &[serial]), &moment(crl.this_update)]);
        let entries: Vec<u8> = crl.revoked.iter().flat_map(entry).collect();
        // `revokedCertificates` is left out when it is empty (RFC 5280 §5.1.2.6).
        let revoked = if entries.is_empty() { Vec::new() } else { value(tag::SEQUENCE, &[&entries]) };
        let authority = Extension(
            oid::AUTHORITY_KEY_ID.to_vec(),
            Critical::No,
            profile::authority_key_identifier(&self.key_identifier),
        );
        let mut number: Vec<u8> = crl.number.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        if number.first().is_none_or(|first| *first >= 0x80) {
            number.insert(0, 0);
        }
        let number = Extension(oid::CRL_NUMBER.to_vec(), Critical::No, value(INTEGER, &[&number]));
        let extensions: Vec<u8> = [authority, number].iter().chain(&crl.more).flat_map(extension).collect();
        let extensions = value(0xa0, &[&value(tag::SEQUENCE, &[&extensions])]);
        let next = crl.next_update.map(moment).unwrap_or_default();
        self.envelope(&value(
            tag::SEQUENCE,
            &[
                &value(INTEGER, &[&[1]]),
                profile::ECDSA_WITH_SHA256,
                &crl.issuer,
                &moment(crl.this_update),
                &next,
                &revoked,
                &extensions,
            ],
        ))
    }

    /// Signs any content.
    pub fn envelope(&self, signed: &[u8]) -> Vec<u8> {
        self.envelope_as(signed, profile::ECDSA_WITH_SHA256)
    }

    /// Signs any content, and names this algorithm outside.
    pub fn envelope_as(&self, signed: &[u8], algorithm: &[u8]) -> Vec<u8> {
        let signature = self.key.sign(&SystemRandom::new(), signed).expect("a signature");
        let bits = value(tag::BIT_STRING, &[&[0], signature.as_ref()]);
        value(tag::SEQUENCE, &[signed, algorithm, &bits])
    }
}

/// What a certificate or list signs: the first element of its envelope.
pub fn signed_part(envelope: &[u8]) -> &[u8] {
    let start = header(envelope);
    let inner = &envelope[start..];
    let length = usize::from(inner[1]);
    let end = match length {
        0..0x80 => 2 + length,
        _ => {
            let bytes = &inner[2..2 + (length & 0x7f)];
            header(inner) + bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
        }
    };
    &inner[..end]
}

/// Bytes of a value's tag and length.
fn header(der: &[u8]) -> usize {
    if der[1] < 0x80 { 2 } else { 2 + usize::from(der[1] & 0x7f) }
}

fn extension(Extension(id, critical, content): &Extension) -> Vec<u8> {
    let critical = match critical {
        Critical::Yes => value(BOOLEAN, &[&[0xff]]),
        Critical::No => Vec::new(),
    };
    value(tag::SEQUENCE, &[&value(tag::OID, &[id]), &critical, &value(tag::OCTET_STRING, &[content])])
}

/// UTCTime until 2049, GeneralizedTime from 2050 on (RFC 5280 §4.1.2.5).
fn moment(time: UnixTime) -> Vec<u8> {
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(time.0).expect("a time")).expect("a time");
    let rest =
        format!("{:02}{:02}{:02}{:02}{:02}Z", u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second());
    if at.year() < 2050 {
        value(UTC_TIME, &[format!("{:02}{rest}", at.year() % 100).as_bytes()])
    } else {
        value(GENERALIZED_TIME, &[format!("{:04}{rest}", at.year()).as_bytes()])
    }
}
