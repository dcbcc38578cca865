//! What others say about our certificates and CRLs: OpenSSL's command line, rustls-webpki, and the
//! linter pkilint (RFC 5280 and its updates). A bug shared by our issuer and our checker shows here.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod forge;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use forge::{NOW, World, serial};
use rustls_pki_types::{CertificateDer, UnixTime as PkiTime};
use twinlock_certs::issue::{Reason, RevokedEntry};
use twinlock_protocol::ids::CertSerial;
use webpki::{EndEntityCert, Error, KeyUsage};

fn crl_with(world: &World, number: u64, revoked: &[CertSerial]) -> Vec<u8> {
    let entries =
        revoked.iter().map(|serial| RevokedEntry { serial: *serial, revoked_at: NOW, reason: Reason::Withdrawn });
    world.ca.crl(number, NOW, NOW.plus(3600), entries).unwrap()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The files that command line tools read.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, label: &str, der: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, pem(label, der)).unwrap();
        path
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn openssl_verify(ca: &Path, crl: &Path, certificate: &Path) -> Output {
    Command::new("openssl")
        .args([
            "verify",
            "-x509_strict",
            "-check_ss_sig",
            "-crl_check",
            "-attime",
            &NOW.plus(1).0.to_string(),
            "-CAfile",
        ])
        .arg(ca)
        .arg("-CRLfile")
        .arg(crl)
        .arg(certificate)
        .output()
        .unwrap()
}

/// Catalogue: C4 (control: inline)
#[test]
fn openssl_accepts_a_certificate_until_the_crl_lists_it() {
    let (world, files) = (World::new(), Files::new());
    let ca = files.write("ca.pem", "CERTIFICATE", world.ca.certificate());
    let certificate = files.write("leaf.pem", "CERTIFICATE", &world.certificate());
    let before = files.write("crl1.pem", "X509 CRL", &crl_with(&world, 1, &[serial(9)]));
    let after = files.write("crl2.pem", "X509 CRL", &crl_with(&world, 2, &[serial(9), world.template().serial]));

    let good = openssl_verify(&ca, &before, &certificate);
    assert!(good.status.success(), "{}", text(&good));
    let revoked = openssl_verify(&ca, &after, &certificate);
    assert!(!revoked.status.success());
    assert!(text(&revoked).contains("error 23"), "{}", text(&revoked));
}

/// Catalogue: C2 (control: inline)
#[test]
fn webpki_accepts_a_certificate_for_our_usage_only_and_until_it_is_revoked() {
    let world = World::new();
    let ca = CertificateDer::from(world.ca.certificate());
    let anchor = webpki::anchor_from_trusted_cert(&ca).unwrap();
    let der = CertificateDer::from(world.certificate());
    let certificate = EndEntityCert::try_from(&der).unwrap();
    let time = PkiTime::since_unix_epoch(std::time::Duration::from_secs(NOW.0 + 1));
    let judge = |usage: KeyUsage, crl: &[u8]| {
        let crl = webpki::BorrowedCertRevocationList::from_der(crl).unwrap().into();
        let crls = [&crl];
        let revocation = webpki::RevocationOptionsBuilder::new(&crls)
            .unwrap()
            .with_expiration_policy(webpki::ExpirationPolicy::Enforce)
            .build();
        let algorithms = [webpki::ring::ECDSA_P256_SHA256];
        let anchors = [anchor.clone()];
        certificate.verify_for_usage(&algorithms, &anchors, &[], time, usage, Some(revocation), None).map(|_| ())
    };
    let ours = || KeyUsage::required(twinlock_certs::profile::oid::EKU_ELEVATION);
    let empty = crl_with(&world, 1, &[]);
    assert_eq!(judge(ours(), &empty), Ok(()));
    assert_eq!(judge(ours(), &crl_with(&world, 2, &[world.template().serial])), Err(Error::CertRevoked));
    // Nobody's TLS stack takes it for a client's or a server's.
    assert!(matches!(judge(KeyUsage::client_auth(), &empty), Err(Error::RequiredEkuNotFoundContext(_))));
    assert!(matches!(judge(KeyUsage::server_auth(), &empty), Err(Error::RequiredEkuNotFoundContext(_))));
}

/// Where pkilint is: `TWINLOCK_PKILINT` (a directory of programs), or the virtual environment that
/// `make deps` makes in the target directory. Missing is a failure under `CI=true`.
#[allow(clippy::print_stderr)] // a skipped test says so
fn pkilint() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let bin = std::env::var_os("TWINLOCK_PKILINT").map_or_else(|| target.join("venv/bin"), PathBuf::from);
    if bin.join("lint_pkix_cert").exists() {
        return Some(bin);
    }
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "pkilint is missing: run make deps");
    eprintln!("SKIPPED: no pkilint in {}: run make deps", bin.display());
    None
}

/// Findings of the linter that we accept, each with its reason.
const ACCEPTED: &[(&str, &str)] = &[(
    "pkix.invalid_uri_syntax (ERROR): Invalid URI syntax: \"urn:twinlock:",
    "the linter asks a URL parser that wants an authority (\"//\"); RFC 5280 §4.2.1.6 wants an absolute URI \
     with a scheme-specific part, which a URN (RFC 8141) is; the unit tests of `profile` fix its alphabet",
)];

fn lint(bin: &Path, tool: &str, arguments: &[&std::ffi::OsStr]) -> String {
    let output = Command::new(bin.join(tool)).args(["lint", "-s", "WARNING"]).args(arguments).output().unwrap();
    // The linter's exit status counts findings; its errors are on stderr.
    assert!(output.stderr.is_empty(), "{tool}: {}", text(&output));
    // Each place is a line, its findings follow indented.
    let (mut place, mut left) = (String::new(), Vec::new());
    for line in String::from_utf8(output.stdout).unwrap().lines().filter(|line| !line.trim().is_empty()) {
        if !line.starts_with(' ') {
            place = line.to_owned();
        } else if !ACCEPTED.iter().any(|(known, _reason)| line.contains(known)) {
            left.push(format!("{place}: {}", line.trim()));
        }
    }
    left.join("\n")
}

/// The same certificate with the first arcs of our identifiers replaced (1.2.3.21 for 2.999.21, of
/// the same length) and signed again: the linter's decoder takes the first two bytes of 2.999 for
/// an arc "3" and reads nothing else. OpenSSL and webpki judge the original.
fn readable_for_the_linter(world: &World, certificate: &[u8]) -> Vec<u8> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
    let mut tbs = parsed.tbs_certificate.as_ref().to_vec();
    let mut replaced = 0;
    for at in 0..tbs.len() - 3 {
        let arcs = tbs.get_mut(at..at + 3).unwrap();
        if arcs == [0x88, 0x37, 0x15] {
            arcs.copy_from_slice(&[0x2a, 0x03, 0x15]);
            replaced += 1;
        }
    }
    assert_eq!(replaced, 2, "usage and extension");
    forge::envelope(&tbs, twinlock_certs::profile::ECDSA_WITH_SHA256, &forge::ecdsa(&world.ca_key, &tbs))
}

#[test]
fn the_linter_finds_nothing_to_say_about_ca_certificate_chain_and_crls() {
    let Some(bin) = pkilint() else { return };
    let (world, files) = (World::new(), Files::new());
    let ca = files.write("ca.pem", "CERTIFICATE", world.ca.certificate());
    let readable = |certificate: &[u8]| readable_for_the_linter(&world, certificate);
    let certificate = files.write("leaf.pem", "CERTIFICATE", &readable(&world.certificate()));
    let mut template = world.template();
    template.target_user = "CORP\\admin \u{e9}".into();
    let odd = files.write("odd.pem", "CERTIFICATE", &readable(&world.ca.elevation(&template).unwrap()));
    let empty = files.write("crl1.pem", "X509 CRL", &crl_with(&world, 1, &[]));
    let revoked = files.write("crl2.pem", "X509 CRL", &crl_with(&world, 2, &[serial(9), serial(10)]));

    for path in [&ca, &certificate, &odd] {
        assert_eq!(lint(&bin, "lint_pkix_cert", &[path.as_os_str()]), "", "{}", path.display());
    }
    assert_eq!(lint(&bin, "lint_pkix_signer_signee_cert_chain", &[ca.as_os_str(), certificate.as_os_str()]), "");
    for path in [&empty, &revoked] {
        let arguments = ["-t", "CRL", "-p", "PKIX"].map(std::ffi::OsStr::new);
        assert_eq!(lint(&bin, "lint_crl", &[arguments.as_slice(), &[path.as_os_str()]].concat()), "");
    }
}

/// The linter has an opinion at all: a certificate that is wrong in one place is not passed over.
#[test]
fn the_linter_does_find_a_certificate_without_key_identifiers() {
    let Some(bin) = pkilint() else { return };
    let (world, files) = (World::new(), Files::new());
    let mut forge = world.forge();
    forge.remove(twinlock_certs::profile::oid::AUTHORITY_KEY_ID);
    let bad = files.write("bad.pem", "CERTIFICATE", &readable_for_the_linter(&world, &world.sign(&forge)));
    assert!(lint(&bin, "lint_pkix_cert", &[bad.as_os_str()]).contains("authority_key_identifier"));
}
