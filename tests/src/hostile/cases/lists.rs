//! Revocation lists: missing, stale, older than one that the host has seen, somebody else's, or one
//! that names the certificate itself.

use twinlock_certs::profile::oid;
use twinlock_protocol::DenyReason as R;
use twinlock_protocol::UnixTime;
use twinlock_protocol::bytes::Bytes;
use twinlock_protocol::wire::module::Granted;

use crate::hostile::Case;
use crate::hostile::mint::{Critical, Crl, Extension};
use crate::hostile::stage::{Attempt, Stage};

/// The cases.
pub fn cases(_: &Stage<'_>) -> Vec<Case> {
    let invalid = R::CrlInvalid;
    let mut cases = vec![
        list("a revocation list that is stale", |a, crl| {
            crl.this_update = UnixTime(a.now.0 - 1000);
            crl.next_update = Some(UnixTime(a.now.0 - 1));
        }),
        list("a revocation list from tomorrow", |a, crl| {
            crl.this_update = a.now.plus(86_400);
            crl.next_update = Some(a.now.plus(2 * 86_400));
        }),
        list("a revocation list that ends before it begins", |a, crl| {
            crl.this_update = a.now.plus(100);
            crl.next_update = Some(a.now.plus(50));
        }),
        list("a revocation list without an end", |_, crl| crl.next_update = None),
        list("a revocation list with a lower number than one seen", |a, crl| crl.number = a.stage.crl_number() - 1000),
        list("a revocation list with the number 0", |_, crl| crl.number = 0),
        list("a revocation list of another issuer's name", |_, crl| crl.issuer = vec![0x30, 0]),
        list("a revocation list with an unknown critical extension", |_, crl| {
            crl.more.push(Extension(vec![0x2a, 3, 4], Critical::Yes, vec![5, 0]));
        }),
        list("a revocation list of another scope (issuing distribution point)", |_, crl| {
            crl.more.push(Extension(vec![0x55, 0x1d, 0x1c], Critical::Yes, vec![0x30, 0]));
        }),
        list("a revocation list with its number twice", |_, crl| {
            crl.more.push(Extension(oid::CRL_NUMBER.to_vec(), Critical::No, vec![2, 1, 1]));
        }),
        list("a delta revocation list", |_, crl| {
            crl.more.push(Extension(vec![0x55, 0x1d, 0x1b], Critical::Yes, vec![2, 1, 1]));
        }),
        list("a revocation list that revokes a serial which no CA of ours makes", |_, crl| {
            crl.revoked.push(vec![5]);
        }),
    ];
    cases.extend([
        Case::grant("no revocation list", invalid, |a| with(a, |_| Vec::new())),
        Case::grant("the certificate as its own revocation list", invalid, |a| {
            let granted = a.grant(a.two());
            Granted { crl: a.pick(granted.certificate.clone(), granted.crl), ..granted }
        }),
        Case::grant("the revocation list of an earlier grant", invalid, |a| {
            with(a, |_| a.past("for root").granted.crl.0.clone())
        }),
        Case::grant("a revocation list by a self-made CA of the same name", invalid, |a| {
            with(a, |crl| a.stage.mint.namesake("Twinlock test CA", a.now).sign_crl(crl))
        }),
        Case::grant("a revocation list by another CA", invalid, |a| {
            with(a, |_| {
                let other = a.stage.mint.namesake("Twinlock other CA", a.now);
                other.sign_crl(&other.empty_crl(a.stage.next_crl_number(), a.now))
            })
        }),
        Case::grant("a revocation list changed after it was signed", invalid, |a| {
            with(a, |crl| {
                let mut bytes = a.stage.mint.sign_crl(crl);
                let at = bytes.len() / 3;
                bytes[at] ^= 1;
                bytes
            })
        }),
        Case::grant("a revocation list with a byte after it", invalid, |a| {
            with(a, |crl| [a.stage.mint.sign_crl(crl), vec![0]].concat())
        }),
        Case::grant("a revoked certificate", R::CertificateRevoked, |a| {
            let mut granted = a.grant(a.two());
            let mint = &a.stage.mint;
            let mut leaf = a.leaf(&granted.evidence.0);
            leaf.serial = twinlock_protocol::ids::CertSerial::from_random([7; 16]).0.0.to_vec();
            granted.certificate = Bytes(mint.sign(&leaf));
            let mut crl = mint.empty_crl(a.stage.next_crl_number(), a.now);
            crl.revoked = a.pick(vec![leaf.serial], vec![vec![0x41; 16]]);
            granted.crl = Bytes(mint.sign_crl(&crl));
            granted
        }),
    ]);
    cases
}

/// A list that says something else, signed by the stolen key.
fn list(name: &str, change: fn(&Attempt<'_, '_>, &mut Crl)) -> Case {
    Case::grant(name, R::CrlInvalid, move |a| {
        with(a, |crl| {
            let mut crl = crl.clone();
            change(a, &mut crl);
            a.stage.mint.sign_crl(&crl)
        })
    })
}

/// Everything honest, but in the attack this list.
fn with(a: &Attempt<'_, '_>, list: impl FnOnce(&Crl) -> Vec<u8>) -> Granted {
    let mut granted = a.grant(a.two());
    if a.attacks() {
        let crl = a.stage.mint.empty_crl(a.stage.next_crl_number(), a.now);
        granted.crl = Bytes(list(&crl));
    }
    granted
}
