//! The checker against revocation lists (attack C4).

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod forge;

use forge::{CrlForge, NOW, World, entry, extension, name, serial};
use twinlock_certs::check;
use twinlock_certs::der::{tag, value};
use twinlock_certs::issue::{Reason, RevokedEntry};
use twinlock_certs::profile::{self, oid};
use twinlock_protocol::DenyReason::{CertificateRevoked, CrlInvalid};
use twinlock_protocol::ids::CertSerial;
use twinlock_protocol::{DenyReason, Fixed, UnixTime};

fn crl(world: &World, number: u64, revoked: &[CertSerial]) -> Vec<u8> {
    let entries = revoked.iter().map(|serial| RevokedEntry { serial: *serial, revoked_at: NOW, reason: Reason::Ended });
    world.ca.crl(number, NOW, NOW.plus(3600), entries).unwrap()
}

fn check_at(world: &World, bytes: &[u8], now: UnixTime, seen: u64) -> Result<check::CheckedCrl, DenyReason> {
    check::crl(bytes, world.ca.certificate(), now, seen)
}

#[test]
fn an_honest_crl_is_accepted_and_says_which_certificates_are_revoked() {
    let world = World::new();
    let certificate = world.check(&world.certificate()).unwrap();
    let empty = check_at(&world, &crl(&world, 1, &[]), NOW, 0).unwrap();
    assert_eq!(certificate.check_revocation(&empty), Ok(()));
    let revoked = crl(&world, 2, &[serial(1), certificate.serial(), serial(2)]);
    let revoked = check_at(&world, &revoked, NOW, 1).unwrap();
    assert_eq!(revoked.number(), 2);
    assert_eq!((revoked.this_update(), revoked.next_update()), (NOW, NOW.plus(3600)));
    assert!(revoked.contains(&serial(1)) && revoked.contains(&serial(2)) && !revoked.contains(&serial(3)));
    assert_eq!(certificate.check_revocation(&revoked), Err(CertificateRevoked));
}

#[test]
fn a_crl_that_is_longer_than_any_of_ours_is_refused() {
    let world = World::new();
    let listed = |count: u32| {
        let entries = (0..count).map(|n| {
            let mut bytes = [0x40; 16];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            RevokedEntry { serial: CertSerial::from_random(bytes), revoked_at: NOW, reason: Reason::Ended }
        });
        let bytes = world.ca.crl(1, NOW, NOW.plus(60), entries).unwrap();
        (bytes.len(), check_at(&world, &bytes, NOW, 0).map(|_| ()))
    };
    let (length, outcome) = listed(70_000);
    assert!(length < 4 << 20 && outcome.is_ok(), "control: {length} bytes");
    let (length, outcome) = listed(130_000);
    assert!(length > 4 << 20, "{length}");
    assert_eq!(outcome, Err(CrlInvalid));
}

/// Catalogue: C4 (control: an_honest_crl_is_accepted_and_says_which_certificates_are_revoked)
#[test]
fn the_list_of_another_ca_says_nothing_about_a_certificate() {
    let (world, other) = (World::new(), World::new());
    let certificate = world.check(&world.certificate()).unwrap();
    let theirs = check_at(&other, &crl(&other, 1, &[]), NOW, 0).unwrap();
    assert_eq!(certificate.check_revocation(&theirs), Err(CrlInvalid));
}

#[test]
fn a_long_crl_is_read() {
    let world = World::new();
    let entries = (0..5000_u32).map(|n| {
        let mut bytes = [0x40; 16];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        RevokedEntry { serial: CertSerial::from_random(bytes), revoked_at: NOW, reason: Reason::Withdrawn }
    });
    let bytes = world.ca.crl(70_000, NOW, NOW.plus(60), entries).unwrap();
    let checked = check_at(&world, &bytes, NOW, 69_999).unwrap();
    assert_eq!(checked.number(), 70_000);
    let mut last = [0x40; 16];
    last[..4].copy_from_slice(&4999_u32.to_be_bytes());
    assert!(checked.contains(&CertSerial::from_random(last)));
}

/// Catalogue: C4 (control: inline)
#[test]
fn a_stale_or_future_crl_is_refused() {
    let world = World::new();
    let bytes = crl(&world, 1, &[]);
    let at = |now| check_at(&world, &bytes, now, 0).map(|_| ());
    assert_eq!(at(UnixTime(NOW.0 - 120)), Ok(()), "the gateway's clock may be two minutes early");
    assert_eq!(at(UnixTime(NOW.0 - 121)), Err(CrlInvalid));
    assert_eq!(at(NOW.plus(3599)), Ok(()));
    assert_eq!(at(NOW.plus(3600)), Err(CrlInvalid));
}

/// Catalogue: C4 (control: inline)
#[test]
fn a_crl_older_than_one_already_seen_is_refused() {
    let world = World::new();
    let bytes = crl(&world, 7, &[]);
    assert!(check_at(&world, &bytes, NOW, 6).is_ok());
    assert!(check_at(&world, &bytes, NOW, 7).is_ok(), "the same one again");
    assert_eq!(check_at(&world, &bytes, NOW, 8), Err(CrlInvalid));
}

/// Catalogue: C4 (control: an_honest_crl_is_accepted_and_says_which_certificates_are_revoked)
#[test]
fn a_missing_crl_or_one_by_another_issuer_is_refused() {
    let (world, other) = (World::new(), World::new());
    let refused = |bytes: &[u8]| assert_eq!(check_at(&world, bytes, NOW, 0), Err(CrlInvalid));
    refused(&[]);
    refused(&crl(&other, 1, &[]));
    let honest = CrlForge::honest(&world, 1);
    refused(&honest.signed(&other.ca_key));
    refused(&CrlForge { issuer: name("another issuer"), ..honest }.signed(&world.ca_key));
    // A certificate is no CRL.
    refused(&world.certificate());
}

/// Catalogue: C4 (control: inline)
#[test]
fn a_crl_with_another_form_is_refused() {
    let world = World::new();
    let honest = CrlForge::honest(&world, 1);
    let forged = |lie: &dyn Fn(&mut CrlForge)| {
        let mut forge = honest.clone();
        lie(&mut forge);
        check_at(&world, &forge.signed(&world.ca_key), NOW, 0).map(|_| ())
    };
    assert_eq!(forged(&|_| ()), Ok(()));
    assert_eq!(forged(&|f| f.version = vec![]), Err(CrlInvalid));
    assert_eq!(forged(&|f| f.next_update = None), Err(CrlInvalid));
    assert_eq!(forged(&|f| f.next_update = Some(NOW)), Err(CrlInvalid));
    assert_eq!(forged(&|f| drop(f.extensions.remove(0))), Err(CrlInvalid), "no AKI");
    assert_eq!(forged(&|f| drop(f.extensions.remove(1))), Err(CrlInvalid), "no number");
    assert_eq!(
        forged(&|f| f.extensions[1] = extension(oid::CRL_NUMBER, false, &[2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0])),
        Err(CrlInvalid),
        "a number beyond 64 bits"
    );
    // Delta CRL indicator (2.5.29.27) and issuing distribution point (2.5.29.28), both critical.
    assert_eq!(forged(&|f| f.extensions.push(extension(&[0x55, 0x1d, 27], true, &[2, 1, 1]))), Err(CrlInvalid));
    let indirect = [0x30, 3, 0x84, 1, 0xff];
    assert_eq!(forged(&|f| f.extensions.push(extension(&[0x55, 0x1d, 28], true, &indirect))), Err(CrlInvalid));
    assert_eq!(forged(&|f| f.extensions.push(f.extensions[1].clone())), Err(CrlInvalid), "twice");
    // Entries: a plain one reads; certificateIssuer (critical) or another kind of serial does not.
    let ours = serial(1).0.0;
    assert_eq!(forged(&|f| f.entries = vec![entry(&ours, &[])]), Ok(()));
    let certificate_issuer = extension(&[0x55, 0x1d, 29], true, &[0x30, 0]);
    assert_eq!(forged(&|f| f.entries = vec![entry(&ours, std::slice::from_ref(&certificate_issuer))]), Err(CrlInvalid));
    assert_eq!(forged(&|f| f.entries = vec![entry(&[5], &[])]), Err(CrlInvalid));
    // Nothing is left over in an entry, nor behind the extensions' list.
    let left_over = value(tag::SEQUENCE, &[&value(tag::INTEGER, &[&ours]), &forge::utc_time(NOW), &[5, 0]]);
    assert_eq!(forged(&|f| f.entries = vec![left_over.clone()]), Err(CrlInvalid));
    assert_eq!(forged(&|f| f.extensions.push(vec![5, 0])), Err(CrlInvalid));
}

/// Catalogue: C4 (control: inline)
#[test]
fn a_crl_with_changed_or_extra_bytes_is_refused() {
    let world = World::new();
    let good = crl(&world, 1, &[serial(1)]);
    assert!(check_at(&world, &good, NOW, 0).is_ok());
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x04;
        assert_eq!(check_at(&world, &bad, NOW, 0), Err(CrlInvalid), "byte {at}");
    }
    assert_eq!(check_at(&world, &[good.as_slice(), &[0]].concat(), NOW, 0), Err(CrlInvalid));
}

/// Where ours accepts a signed list, whatever is in it, `x509-parser`'s own reader of whole lists finds
/// the same times, the same number and the same serials in it.
#[test]
fn what_is_accepted_a_general_reader_reads_the_same() {
    let world = World::new();
    let mut forge = CrlForge::honest(&world, 1);
    let reason = extension(&[0x55, 0x1d, 21], false, &[0x0a, 1, 4]);
    forge.entries = vec![entry(&serial(1).0.0, &[]), entry(&serial(2).0.0, &[reason])];
    let good = forge.tbs();
    let mut accepted = 0;
    for at in 0..good.len() {
        for change in [0x01, 0x04, 0x40, 0x80, 0xff] {
            let mut tbs = good.clone();
            tbs[at] ^= change;
            let bytes = forge::envelope(&tbs, profile::ECDSA_WITH_SHA256, &forge::ecdsa(&world.ca_key, &tbs));
            let Ok(ours) = check_at(&world, &bytes, NOW, 0) else { continue };
            let ([], theirs) = x509_parser::parse_x509_crl(&bytes).unwrap() else { panic!("byte {at}: left over") };
            let when = |time: x509_parser::time::ASN1Time| UnixTime(u64::try_from(time.timestamp()).unwrap());
            assert_eq!(when(theirs.last_update()), ours.this_update(), "byte {at}");
            assert_eq!(theirs.next_update().map(when), Some(ours.next_update()), "byte {at}");
            assert_eq!(theirs.crl_number(), Some(&ours.number().into()), "byte {at}");
            let serials: Vec<_> = theirs.iter_revoked_certificates().map(|revoked| revoked.raw_serial()).collect();
            assert_eq!(serials.len(), 2, "byte {at}");
            let holds = |raw: &&[u8]| ours.contains(&CertSerial(Fixed((*raw).try_into().unwrap())));
            assert!(serials.iter().all(holds), "byte {at}");
            accepted += 1;
        }
    }
    assert!(accepted > 50, "{accepted}: the test would look at nothing");
}
