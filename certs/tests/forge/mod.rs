//! What the tests need: a CA with its key at hand, an honest request's facts, and a forge that
//! writes certificates and CRLs from raw parts, so that each test changes exactly one of them and
//! signs the result with the real CA key. `issue` could not make most of what is made here.

#![allow(dead_code, clippy::unwrap_used)] // each test binary uses its part of this

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use twinlock_certs::check::{self, CheckedCertificate, Expected};
use twinlock_certs::der::{tag, value};
use twinlock_certs::issue::{Ca, ElevationTemplate};
use twinlock_certs::profile;
use twinlock_protocol::ids::{CertSerial, HostId, PersonId, RequestId};
use twinlock_protocol::signature::{PublicKey, SigningKey};
use twinlock_protocol::{DenyReason, Digest, Fixed, UnixTime};

/// 2027-01-15T08:00:00Z, the tests' present.
pub const NOW: UnixTime = UnixTime(1_800_000_000);
/// What both approvers granted.
pub const TTL_S: u32 = 900;
pub const CRL_URL: &str = "http://gw.example.test/crl";

/// A CA, and the facts of one granted request.
pub struct World {
    pub ca: Ca,
    pub ca_key: Vec<u8>,
    pub session_key: PublicKey,
    pub host: HostId,
    pub requesters: Vec<PersonId>,
    pub request: RequestId,
    pub evidence: Digest,
}

impl World {
    pub fn new() -> Self {
        let (ca, ca_key) = Ca::generate("elevation CA of example.test", NOW, 10).unwrap();
        Self {
            ca,
            ca_key: ca_key.to_vec(),
            session_key: SigningKey::generate().unwrap().0.public(),
            host: HostId::new("web01").unwrap(),
            requesters: vec![PersonId::new("alice").unwrap()],
            request: RequestId(Digest::plain(b"the request")),
            evidence: Digest::plain(b"the evidence"),
        }
    }

    pub fn expected(&self) -> Expected<'_> {
        Expected {
            session_key: &self.session_key,
            host: &self.host,
            target_user: "root",
            requesters: &self.requesters,
            request: self.request,
            evidence: self.evidence,
            ttl_s: TTL_S,
            now: NOW,
        }
    }

    pub fn template(&self) -> ElevationTemplate {
        ElevationTemplate {
            session_key: self.session_key,
            serial: CertSerial::from_random([0x11; 16]),
            host: self.host.clone(),
            target_user: "root".into(),
            requesters: self.requesters.clone(),
            not_before: NOW,
            not_after: NOW.plus(u64::from(TTL_S)),
            request: self.request,
            evidence: self.evidence,
            crl_url: CRL_URL.into(),
        }
    }

    pub fn certificate(&self) -> Vec<u8> {
        self.ca.elevation(&self.template()).unwrap()
    }

    pub fn check(&self, certificate: &[u8]) -> Result<CheckedCertificate, DenyReason> {
        check::elevation(certificate, self.ca.certificate(), &self.expected())
    }

    /// The honest certificate, in parts.
    pub fn forge(&self) -> Forge {
        let spki = |key: &PublicKey| profile::subject_public_key_info(key);
        let ca = Parts::of(self.ca.certificate());
        let names = profile::names(&self.host, self.request.grant(), "root", &self.requesters);
        Forge {
            version: vec![0xa0, 3, 2, 1, 2],
            serial: CertSerial::from_random([0x22; 16]).0.0.to_vec(),
            inner_algorithm: profile::ECDSA_WITH_SHA256.to_vec(),
            issuer: ca.subject.clone(),
            not_before: NOW,
            not_after: NOW.plus(u64::from(TTL_S)),
            subject: name("the grant"),
            spki: spki(&self.session_key),
            extensions: vec![
                extension(
                    profile::oid::AUTHORITY_KEY_ID,
                    false,
                    &profile::authority_key_identifier(&ca.key_identifier),
                ),
                extension(profile::oid::SUBJECT_KEY_ID, false, &value(tag::OCTET_STRING, &[&[7; 20]])),
                extension(profile::oid::KEY_USAGE, true, profile::KEY_USAGE_LEAF),
                extension(profile::oid::BASIC_CONSTRAINTS, true, profile::BASIC_CONSTRAINTS_LEAF),
                extension(profile::oid::EXTENDED_KEY_USAGE, false, &profile::extended_key_usage()),
                extension(profile::oid::SUBJECT_ALT_NAME, false, &profile::subject_alt_name(&names)),
                extension(profile::oid::CRL_DISTRIBUTION_POINTS, false, &crl_distribution_points()),
                extension(profile::oid::BINDING, false, &profile::binding(&self.request, &self.evidence)),
            ],
            after_extensions: Vec::new(),
            outer_algorithm: profile::ECDSA_WITH_SHA256.to_vec(),
        }
    }

    /// Signs a forged certificate with the CA's key.
    pub fn sign(&self, forge: &Forge) -> Vec<u8> {
        forge.signed(&forge.tbs(), |tbs| ecdsa(&self.ca_key, tbs))
    }
}

/// What is needed of the CA's certificate.
pub struct Parts {
    pub subject: Vec<u8>,
    pub key_identifier: Vec<u8>,
}

impl Parts {
    pub fn of(certificate: &[u8]) -> Self {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
        let identifier =
            parsed.extensions().iter().find(|extension| extension.oid.as_bytes() == profile::oid::SUBJECT_KEY_ID);
        Self {
            subject: parsed.subject().as_raw().to_vec(),
            key_identifier: identifier.unwrap().value.get(2..).unwrap().to_vec(),
        }
    }
}

/// A certificate in parts; each is DER.
#[derive(Clone)]
pub struct Forge {
    pub version: Vec<u8>,
    /// Content of the INTEGER.
    pub serial: Vec<u8>,
    pub inner_algorithm: Vec<u8>,
    pub issuer: Vec<u8>,
    pub not_before: UnixTime,
    pub not_after: UnixTime,
    pub subject: Vec<u8>,
    pub spki: Vec<u8>,
    pub extensions: Vec<Vec<u8>>,
    /// Inside the signed part, behind everything.
    pub after_extensions: Vec<u8>,
    pub outer_algorithm: Vec<u8>,
}

impl Forge {
    pub fn tbs(&self) -> Vec<u8> {
        let validity = value(tag::SEQUENCE, &[&utc_time(self.not_before), &utc_time(self.not_after)]);
        let extensions = value(0xa3, &[&value(tag::SEQUENCE, &[&self.extensions.concat()])]);
        value(
            tag::SEQUENCE,
            &[
                &self.version,
                &value(0x02, &[&self.serial]),
                &self.inner_algorithm,
                &self.issuer,
                &validity,
                &self.subject,
                &self.spki,
                &extensions,
                &self.after_extensions,
            ],
        )
    }

    pub fn signed(&self, tbs: &[u8], sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
        envelope(tbs, &self.outer_algorithm, &sign(tbs))
    }

    /// Replaces the extension with this identifier.
    pub fn replace(&mut self, id: &[u8], with: Vec<u8>) {
        let at = self.extensions.iter().position(|known| contains(known, id)).unwrap();
        *self.extensions.get_mut(at).unwrap() = with;
    }

    pub fn remove(&mut self, id: &[u8]) {
        self.extensions.retain(|known| !contains(known, id));
    }
}

fn contains(extension: &[u8], id: &[u8]) -> bool {
    let oid = value(tag::OID, &[id]);
    extension.windows(oid.len()).next_back().is_some() && extension.get(2..2 + oid.len()) == Some(&oid)
        || extension.get(3..3 + oid.len()) == Some(&oid)
}

pub fn envelope(tbs: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    value(tag::SEQUENCE, &[tbs, algorithm, &value(tag::BIT_STRING, &[&[0], signature])])
}

pub fn extension(id: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[0x01, 0x01, 0xff] } else { &[] };
    value(tag::SEQUENCE, &[&value(tag::OID, &[id]), flag, &value(tag::OCTET_STRING, &[content])])
}

pub fn name(common_name: &str) -> Vec<u8> {
    let attribute =
        value(tag::SEQUENCE, &[&value(tag::OID, &[&[0x55, 4, 3]]), &value(0x0c, &[common_name.as_bytes()])]);
    value(tag::SEQUENCE, &[&value(0x31, &[&attribute])])
}

fn crl_distribution_points() -> Vec<u8> {
    let uri = value(tag::URI, &[CRL_URL.as_bytes()]);
    value(tag::SEQUENCE, &[&value(tag::SEQUENCE, &[&value(0xa0, &[&value(0xa0, &[&uri])])])])
}

pub fn utc_time(time: UnixTime) -> Vec<u8> {
    let t = time::OffsetDateTime::from_unix_timestamp(i64::try_from(time.0).unwrap()).unwrap();
    let text = format!(
        "{:02}{:02}{:02}{:02}{:02}{:02}Z",
        t.year() % 100,
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    );
    value(0x17, &[text.as_bytes()])
}

/// ECDSA on P-256 with SHA-256 by a PKCS #8 key.
pub fn ecdsa(pkcs8: &[u8], message: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &random).unwrap();
    key.sign(&random, message).unwrap().as_ref().to_vec()
}

/// A CRL in parts.
#[derive(Clone)]
pub struct CrlForge {
    /// Content of the version, empty for none.
    pub version: Vec<u8>,
    pub issuer: Vec<u8>,
    pub this_update: UnixTime,
    pub next_update: Option<UnixTime>,
    /// Each a whole SEQUENCE.
    pub entries: Vec<Vec<u8>>,
    pub extensions: Vec<Vec<u8>>,
}

impl CrlForge {
    pub fn honest(world: &World, number: u8) -> Self {
        let ca = Parts::of(world.ca.certificate());
        Self {
            version: vec![0x02, 1, 1],
            issuer: ca.subject,
            this_update: NOW,
            next_update: Some(NOW.plus(3600)),
            entries: Vec::new(),
            extensions: vec![
                extension(
                    profile::oid::AUTHORITY_KEY_ID,
                    false,
                    &profile::authority_key_identifier(&ca.key_identifier),
                ),
                extension(profile::oid::CRL_NUMBER, false, &[0x02, 1, number]),
            ],
        }
    }

    pub fn tbs(&self) -> Vec<u8> {
        let entries =
            if self.entries.is_empty() { Vec::new() } else { value(tag::SEQUENCE, &[&self.entries.concat()]) };
        value(
            tag::SEQUENCE,
            &[
                &self.version,
                profile::ECDSA_WITH_SHA256,
                &self.issuer,
                &utc_time(self.this_update),
                &self.next_update.map(utc_time).unwrap_or_default(),
                &entries,
                &value(0xa0, &[&value(tag::SEQUENCE, &[&self.extensions.concat()])]),
            ],
        )
    }

    pub fn signed(&self, ca_key: &[u8]) -> Vec<u8> {
        let tbs = self.tbs();
        envelope(&tbs, profile::ECDSA_WITH_SHA256, &ecdsa(ca_key, &tbs))
    }
}

/// One CRL entry, with its entry extensions.
pub fn entry(serial: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let extensions = if extensions.is_empty() { Vec::new() } else { value(tag::SEQUENCE, &[&extensions.concat()]) };
    value(tag::SEQUENCE, &[&value(0x02, &[serial]), &utc_time(NOW), &extensions])
}

/// Another serial than the honest one.
pub fn serial(byte: u8) -> CertSerial {
    CertSerial(Fixed(CertSerial::from_random([byte; 16]).0.0))
}
