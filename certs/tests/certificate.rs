//! The checker against elevation certificates with one lie each (attacks C1–C3, C5). Every lie is
//! signed by the real CA key unless the lie is the signature.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod forge;

use forge::{NOW, TTL_S, World, ecdsa, envelope, extension, name};
use proptest::prelude::*;
use ring::signature::KeyPair as _;
use twinlock_certs::check;
use twinlock_certs::der::{tag, value};
use twinlock_certs::issue::{Ca, ElevationTemplate};
use twinlock_certs::profile::{self, oid};
use twinlock_protocol::DenyReason::{CertificateInvalid, CertificateOther, CertificateTime};
use twinlock_protocol::ids::{HostId, PersonId, RequestId};
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::{DenyReason, Digest, UnixTime};

#[test]
fn an_honest_certificate_is_accepted() {
    let world = World::new();
    let checked = world.check(&world.certificate()).unwrap();
    assert_eq!(checked.serial(), world.template().serial);
    assert_eq!((checked.not_before(), checked.not_after()), (NOW, NOW.plus(u64::from(TTL_S))));
}

#[test]
fn a_forged_certificate_without_a_lie_is_accepted() {
    let world = World::new();
    assert!(world.check(&world.sign(&world.forge())).is_ok());
}

#[test]
fn a_ca_that_was_stored_and_loaded_issues_what_the_checker_accepts() {
    let world = World::new();
    let loaded = Ca::load(world.ca.certificate(), &world.ca_key).unwrap();
    assert!(world.check(&loaded.elevation(&world.template()).unwrap()).is_ok());
}

#[test]
fn a_ca_certificate_with_another_key_is_not_loaded() {
    let (world, other) = (World::new(), World::new());
    assert!(Ca::load(world.ca.certificate(), &other.ca_key).is_err());
}

fn refused_with(template: impl FnOnce(&mut ElevationTemplate)) -> DenyReason {
    let world = World::new();
    let mut changed = world.template();
    template(&mut changed);
    world.check(&world.ca.elevation(&changed).unwrap()).unwrap_err()
}

/// Catalogue: C1, V3 (control: an_honest_certificate_is_accepted)
#[test]
fn a_certificate_for_another_key_host_grant_target_or_requester_is_refused() {
    let other_key = SigningKey::generate().unwrap().0.public();
    assert_eq!(refused_with(|t| t.session_key = other_key), CertificateOther);
    assert_eq!(refused_with(|t| t.host = HostId::new("web02").unwrap()), CertificateOther);
    assert_eq!(refused_with(|t| t.request = RequestId(Digest::plain(b"another request"))), CertificateOther);
    assert_eq!(refused_with(|t| t.target_user = "postgres".into()), CertificateOther);
    assert_eq!(refused_with(|t| t.requesters = vec![PersonId::new("mallory").unwrap()]), CertificateOther);
    assert_eq!(refused_with(|t| t.requesters.push(PersonId::new("mallory").unwrap())), CertificateOther);
}

/// Catalogue: C5 (control: an_honest_certificate_is_accepted)
#[test]
fn a_certificate_for_other_evidence_is_refused() {
    assert_eq!(refused_with(|t| t.evidence = Digest::plain(b"other evidence")), CertificateOther);
}

/// Catalogue: C1 (control: inline)
#[test]
fn a_certificate_outside_its_time_or_with_too_long_a_window_is_refused() {
    let world = World::new();
    let certificate = world.certificate();
    let at = |now: UnixTime| {
        let expected = check::Expected { now, ..world.expected() };
        check::elevation(&certificate, world.ca.certificate(), &expected).map(|_| ())
    };
    let end = NOW.plus(u64::from(TTL_S));
    assert_eq!(at(NOW), Ok(()));
    assert_eq!(at(UnixTime(NOW.0 - 120)), Ok(()), "the gateway's clock may be two minutes early");
    assert_eq!(at(UnixTime(NOW.0 - 121)), Err(CertificateTime));
    assert_eq!(at(UnixTime(end.0 - 1)), Ok(()));
    assert_eq!(at(end), Err(CertificateTime));
    assert_eq!(at(end.plus(1)), Err(CertificateTime));

    let window = |life: u64| {
        let mut template = world.template();
        template.not_after = template.not_before.plus(life);
        world.check(&world.ca.elevation(&template).unwrap()).map(|_| ())
    };
    assert_eq!(window(u64::from(TTL_S) + 120), Ok(()));
    assert_eq!(window(u64::from(TTL_S) + 121), Err(CertificateTime));
    // A window that ends where it begins is none, also while the clocks' difference leaves room.
    let empty = |not_after: UnixTime| {
        forged(|f| {
            f.not_before = NOW.plus(60);
            f.not_after = not_after;
        })
    };
    assert_eq!(empty(NOW.plus(61)), Ok(()), "control: one second");
    assert_eq!(empty(NOW.plus(60)), Err(CertificateTime));
}

/// Catalogue: C1 (control: inline)
#[test]
fn a_ca_that_is_not_valid_now_is_refused() {
    let ending = |not_after: UnixTime| under_a_forged_ca(|ca| ca.not_after = not_after);
    assert_eq!(ending(NOW.plus(1)), Ok(()), "control: its last second");
    assert_eq!(ending(NOW), Err(CertificateTime));
    let world = World::new();
    let (old, old_key) = Ca::generate("elevation CA of example.test", UnixTime(NOW.0 - 400 * 24 * 3600), 1).unwrap();
    let old = World { ca: old, ca_key: old_key.to_vec(), ..world };
    assert_eq!(old.check(&old.certificate()), Err(CertificateTime));
    let (young, young_key) =
        Ca::generate("elevation CA of example.test", UnixTime(NOW.0 - 300 * 24 * 3600), 1).unwrap();
    let young = World { ca: young, ca_key: young_key.to_vec(), ..old };
    assert!(young.check(&young.certificate()).is_ok());
}

fn forged(lie: impl FnOnce(&mut forge::Forge)) -> Result<(), DenyReason> {
    let world = World::new();
    let mut forge = world.forge();
    lie(&mut forge);
    world.check(&world.sign(&forge)).map(|_| ())
}

/// id-kp-clientAuth, id-kp-serverAuth (RFC 5280 §4.2.1.12).
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];

fn usages(ids: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = ids.iter().flat_map(|id| value(tag::OID, &[id])).collect();
    extension(oid::EXTENDED_KEY_USAGE, false, &value(tag::SEQUENCE, &[&list]))
}

/// Catalogue: C2 (control: inline)
#[test]
fn an_agent_or_server_certificate_is_no_elevation_certificate_nor_the_other_way_round() {
    let usage = |ids: &[&[u8]]| forged(|f| f.replace(oid::EXTENDED_KEY_USAGE, usages(ids)));
    assert_eq!(usage(&[oid::EKU_ELEVATION]), Ok(()));
    assert_eq!(usage(&[CLIENT_AUTH]), Err(CertificateInvalid));
    assert_eq!(usage(&[SERVER_AUTH]), Err(CertificateInvalid));
    assert_eq!(usage(&[oid::EKU_ELEVATION, CLIENT_AUTH]), Err(CertificateInvalid));
    assert_eq!(forged(|f| f.remove(oid::EXTENDED_KEY_USAGE)), Err(CertificateInvalid));
    assert_eq!(forged(|f| f.remove(oid::BINDING)), Err(CertificateInvalid));
}

/// Catalogue: C3 (control: an_honest_certificate_is_accepted)
#[test]
fn the_ca_itself_as_the_leaf_is_refused() {
    let world = World::new();
    assert_eq!(world.check(world.ca.certificate()), Err(CertificateInvalid));
    assert_eq!(
        forged(|f| f
            .replace(oid::BASIC_CONSTRAINTS, extension(oid::BASIC_CONSTRAINTS, true, profile::BASIC_CONSTRAINTS_CA))),
        Err(CertificateInvalid)
    );
}

/// Makes a CA certificate in which one thing is a lie, and a leaf under it.
fn under_a_forged_ca(lie: impl FnOnce(&mut forge::Forge)) -> Result<(), DenyReason> {
    let world = World::new();
    let ca_public = profile::subject_public_key_info(&twinlock_protocol::Fixed(
        ring::signature::EcdsaKeyPair::from_pkcs8(
            &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            &world.ca_key,
            &ring::rand::SystemRandom::new(),
        )
        .unwrap()
        .public_key()
        .as_ref()
        .try_into()
        .unwrap(),
    ));
    let parts = forge::Parts::of(world.ca.certificate());
    let mut ca = forge::Forge {
        subject: parts.subject.clone(),
        spki: ca_public,
        not_before: UnixTime(NOW.0 - 1000),
        not_after: NOW.plus(100_000),
        extensions: vec![
            extension(oid::KEY_USAGE, true, profile::KEY_USAGE_CA),
            extension(oid::BASIC_CONSTRAINTS, true, profile::BASIC_CONSTRAINTS_CA),
            extension(oid::SUBJECT_KEY_ID, false, &value(tag::OCTET_STRING, &[&parts.key_identifier])),
        ],
        ..world.forge()
    };
    lie(&mut ca);
    let ca = world.sign(&ca);
    check::elevation(&world.certificate(), &ca, &world.expected()).map(|_| ())
}

/// Catalogue: C3 (control: inline)
#[test]
fn a_ca_without_ca_flag_path_length_or_usages_is_refused() {
    let replaced = |id: &'static [u8], content: &'static [u8]| {
        under_a_forged_ca(|ca| ca.replace(id, extension(id, true, content)))
    };
    assert_eq!(under_a_forged_ca(|_| ()), Ok(()));
    assert_eq!(replaced(oid::BASIC_CONSTRAINTS, profile::BASIC_CONSTRAINTS_LEAF), Err(CertificateInvalid));
    // cA TRUE without pathLen, and with pathLen 1: room for a sub-CA.
    assert_eq!(replaced(oid::BASIC_CONSTRAINTS, &[0x30, 3, 1, 1, 0xff]), Err(CertificateInvalid));
    assert_eq!(replaced(oid::BASIC_CONSTRAINTS, &[0x30, 6, 1, 1, 0xff, 2, 1, 1]), Err(CertificateInvalid));
    assert_eq!(replaced(oid::KEY_USAGE, &[3, 2, 2, 4]), Err(CertificateInvalid), "keyCertSign alone");
    assert_eq!(replaced(oid::KEY_USAGE, &[3, 2, 1, 2]), Err(CertificateInvalid), "cRLSign alone");
    assert_eq!(under_a_forged_ca(|ca| ca.remove(oid::KEY_USAGE)), Err(CertificateInvalid));
    assert_eq!(under_a_forged_ca(|ca| ca.remove(oid::BASIC_CONSTRAINTS)), Err(CertificateInvalid));
    assert_eq!(under_a_forged_ca(|ca| ca.remove(oid::SUBJECT_KEY_ID)), Err(CertificateInvalid));
    // The name of the CA's key is what the leaf and the lists point at: twenty bytes, never critical.
    let key_id = |critical, before: &[u8], after: &[u8]| {
        under_a_forged_ca(|ca| {
            let own = ca.extensions[2][ca.extensions[2].len() - 20..].to_vec();
            let content = [before, &own, after].concat();
            ca.extensions[2] = extension(oid::SUBJECT_KEY_ID, critical, &content);
        })
    };
    assert_eq!(key_id(false, &[4, 20], &[]), Ok(()), "control");
    assert_eq!(key_id(true, &[4, 20], &[]), Err(CertificateInvalid));
    assert_eq!(key_id(false, &[4, 20], &[0]), Err(CertificateInvalid));
    assert_eq!(under_a_forged_ca(|ca| ca.issuer = name("somebody else")), Err(CertificateInvalid));
    let critical = extension(&[0x2a, 3, 4], true, &[5, 0]);
    assert_eq!(under_a_forged_ca(|ca| ca.extensions.push(critical)), Err(CertificateInvalid));
}

/// Catalogue: C3 (control: an_honest_certificate_is_accepted)
#[test]
fn a_self_signed_certificate_or_a_ca_of_the_same_name_is_refused() {
    let world = World::new();
    let (_, own_key) = SigningKey::generate().unwrap();
    let forge = world.forge();
    let self_signed = forge.signed(&forge.tbs(), |tbs| ecdsa(&own_key, tbs));
    assert_eq!(world.check(&self_signed), Err(CertificateInvalid));
    // A second CA with the same name, its own key: its leaves do not verify under the first.
    let twin = World::new();
    let theirs = twin.ca.elevation(&world.template()).unwrap();
    assert_eq!(world.check(&theirs), Err(CertificateInvalid));
    // And another name with the right key is not the chain either.
    assert_eq!(forged(|f| f.issuer = name("another issuer")), Err(CertificateInvalid));
}

/// Catalogue: C3 (control: inline)
#[test]
fn an_unknown_critical_extension_is_refused_and_an_unknown_other_one_is_not() {
    let unknown = |critical| forged(|f| f.extensions.push(extension(&[0x2a, 3, 4], critical, &[5, 0])));
    assert_eq!(unknown(false), Ok(()));
    assert_eq!(unknown(true), Err(CertificateInvalid));
    // Our own must not be critical: stock tools would refuse the certificate.
    let world = World::new();
    let binding = profile::binding(&world.request, &world.evidence);
    assert!(forged(|f| f.replace(oid::BINDING, extension(oid::BINDING, true, &binding))).is_err());
}

#[test]
fn a_certificate_that_is_longer_than_any_of_ours_is_refused() {
    let padded = |bytes: usize| forged(|f| f.extensions.push(extension(&[0x2a, 3, 4], false, &vec![5; bytes])));
    assert_eq!(padded(6000), Ok(()), "control");
    assert_eq!(padded(9000), Err(CertificateInvalid));
}

/// Catalogue: C3 (control: a_forged_certificate_without_a_lie_is_accepted)
#[test]
fn an_extension_that_stands_twice_is_refused() {
    for at in 0..8 {
        let twice = forged(|f| {
            let again = f.extensions[at].clone();
            f.extensions.push(again);
        });
        assert_eq!(twice, Err(CertificateInvalid), "extension {at}");
    }
    let many = |count: usize| {
        forged(|f| {
            let own = f.extensions.len();
            f.extensions.extend((own..count).map(|n| extension(&[0x2a, 3, u8::try_from(n).unwrap()], false, &[5, 0])));
        })
    };
    assert_eq!(many(32), Ok(()), "control: so many are read");
    assert_eq!(many(33), Err(CertificateInvalid));
}

/// Catalogue: C3 (control: a_forged_certificate_without_a_lie_is_accepted)
#[test]
fn a_missing_extension_usage_or_form_is_refused() {
    for id in [
        oid::AUTHORITY_KEY_ID,
        oid::SUBJECT_KEY_ID,
        oid::KEY_USAGE,
        oid::BASIC_CONSTRAINTS,
        oid::CRL_DISTRIBUTION_POINTS,
    ] {
        assert_eq!(forged(|f| f.remove(id)), Err(CertificateInvalid), "{id:?}");
    }
    assert_eq!(forged(|f| f.remove(oid::SUBJECT_ALT_NAME)), Err(CertificateOther));
    let no_rev_avail = extension(oid::NO_REV_AVAIL, false, &[5, 0]);
    assert_eq!(forged(|f| f.extensions.push(no_rev_avail)), Err(CertificateInvalid));
    let key_cert_sign = extension(oid::KEY_USAGE, true, &[3, 2, 2, 0x84]);
    assert_eq!(forged(|f| f.replace(oid::KEY_USAGE, key_cert_sign)), Err(CertificateInvalid));
    assert_eq!(forged(|f| f.version = vec![]), Err(CertificateInvalid));
    assert_eq!(forged(|f| f.version = vec![0xa0, 3, 2, 1, 1]), Err(CertificateInvalid));
}

/// Catalogue: C3 (control: inline)
#[test]
fn a_serial_that_is_not_sixteen_positive_bytes_is_refused() {
    let with = |serial: Vec<u8>| forged(|f| f.serial = serial);
    assert_eq!(with(vec![0x41; 16]), Ok(()));
    assert_eq!(with(vec![0x81; 16]), Err(CertificateInvalid), "negative");
    assert_eq!(with([vec![0], vec![0x41; 15]].concat()), Err(CertificateInvalid), "padded");
    assert_eq!(with(vec![0x41; 8]), Err(CertificateInvalid));
    assert_eq!(with(vec![0x41; 20]), Err(CertificateInvalid));
    assert_eq!(with(vec![]), Err(CertificateInvalid));
}

/// ecdsa-with-SHA384, ecdsa-with-SHA1, Ed25519, sha256WithRSAEncryption.
const OTHER_ALGORITHMS: [&[u8]; 4] = [
    &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
    &[0x30, 0x09, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1],
    &[0x30, 0x05, 6, 3, 0x2b, 0x65, 0x70],
    &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0],
];

/// Catalogue: C3 (control: a_forged_certificate_without_a_lie_is_accepted)
#[test]
fn another_algorithm_inside_or_outside_is_refused() {
    for algorithm in OTHER_ALGORITHMS {
        assert_eq!(forged(|f| f.inner_algorithm = algorithm.to_vec()), Err(CertificateInvalid));
        assert_eq!(forged(|f| f.outer_algorithm = algorithm.to_vec()), Err(CertificateInvalid));
        let both = forged(|f| {
            f.inner_algorithm = algorithm.to_vec();
            f.outer_algorithm = algorithm.to_vec();
        });
        assert_eq!(both, Err(CertificateInvalid));
    }
    // The right algorithm with NULL parameters is another spelling of it.
    let null = [0x30, 0x0c, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2, 5, 0];
    assert_eq!(forged(|f| f.inner_algorithm = null.to_vec()), Err(CertificateInvalid));
    assert_eq!(forged(|f| f.outer_algorithm = null.to_vec()), Err(CertificateInvalid));
}

/// Catalogue: C3 (control: an_honest_certificate_is_accepted)
#[test]
fn whole_chains_with_other_keys_are_refused() {
    let world = World::new();
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.not_before = time::OffsetDateTime::from_unix_timestamp(i64::try_from(NOW.0 - 10).unwrap()).unwrap();
        params.not_after = time::OffsetDateTime::from_unix_timestamp(i64::try_from(NOW.0 + 1000).unwrap()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let ca = params.self_signed(&key).unwrap();
        assert_eq!(check::elevation(&world.certificate(), ca.der(), &world.expected()), Err(CertificateInvalid));
    }
}

/// Catalogue: C3 (control: an_honest_certificate_is_accepted)
#[test]
fn bytes_that_are_not_exactly_one_der_certificate_are_refused() {
    let world = World::new();
    let good = world.certificate();
    let refused = |bytes: &[u8]| assert_eq!(world.check(bytes).map(|_| ()), Err(CertificateInvalid));
    refused(&[]);
    refused(&[good.as_slice(), &[0]].concat());
    refused(&good[..good.len() - 1]);
    refused(&[good.as_slice(), good.as_slice()].concat());
    // The outer length in one byte more than it needs, and the indefinite form.
    assert_eq!(good[..2], [0x30, 0x82]);
    refused(&[&[0x30, 0x83, 0], &good[2..]].concat());
    refused(&[&[0x30, 0x80], &good[4..], &[0, 0]].concat());
    // Spare bits in the signature, bytes behind it inside the envelope, bytes behind the extensions.
    let forge = world.forge();
    let tbs = forge.tbs();
    let signature = ecdsa(&world.ca_key, &tbs);
    let with_bits = |bits: &[u8], tail: &[u8]| {
        value(tag::SEQUENCE, &[&tbs, profile::ECDSA_WITH_SHA256, &value(tag::BIT_STRING, &[bits, &signature]), tail])
    };
    assert!(world.check(&with_bits(&[0], &[])).is_ok());
    refused(&with_bits(&[1], &[]));
    refused(&with_bits(&[0], &[5, 0]));
    let mut longer = world.forge();
    longer.after_extensions = vec![5, 0];
    refused(&world.sign(&longer));
    // A signature that is not DER.
    refused(&envelope(&tbs, profile::ECDSA_WITH_SHA256, &[signature.as_slice(), &[0]].concat()));
    // And more than a certificate may have.
    refused(&vec![0x30; 9000]);
}

proptest! {
    /// Catalogue: C3 (control: an_honest_certificate_is_accepted)
    #[test]
    fn a_certificate_with_flipped_bytes_never_verifies(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 1u8..=255), 1..4)
    ) {
        use std::sync::LazyLock;
        static WORLD: LazyLock<(World, Vec<u8>)> = LazyLock::new(|| {
            let world = World::new();
            let certificate = world.certificate();
            (world, certificate)
        });
        let (world, good) = &*WORLD;
        let mut bad = good.clone();
        for (at, flip) in flips {
            bad[at.index(good.len())] ^= flip;
        }
        prop_assume!(bad != *good);
        prop_assert!(world.check(&bad).is_err());
    }

    #[test]
    fn no_bytes_make_the_checker_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let world = World::new();
        let checked = world.check(&bytes);
        prop_assert!(checked.is_err());
        prop_assert!(check::crl(&bytes, world.ca.certificate(), NOW, 0).is_err());
    }

    /// The parser meets nearly right bytes, in the part that is signed.
    #[test]
    fn no_signed_nonsense_makes_the_checker_panic(
        at in any::<prop::sample::Index>(), flip in 1u8..=255
    ) {
        let world = World::new();
        let forge = world.forge();
        let mut tbs = forge.tbs();
        let index = at.index(tbs.len());
        tbs[index] ^= flip;
        let signature = ecdsa(&world.ca_key, &tbs);
        // Free text, serial and times have other good values, so some of it passes; what matters
        // here is that the parser survives what only the CA itself could sign.
        let _ = world.check(&envelope(&tbs, profile::ECDSA_WITH_SHA256, &signature));
    }
}
