//! The proof of one elevation: a summary in which every figure is measured or verified
//! here, and a directory beside it with everything from which somebody else can compute
//! each figure again. What did not happen has no key.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::BASE64_MIME;
use serde::Serialize;
use serde_json::Value;
use twinlock_certs::check::{self, Expected};
use twinlock_protocol::evidence::GrantRecord;
use twinlock_protocol::roster::{RosterEnvelope, VerifiedRoster};
use twinlock_protocol::statement::StartStatement;
use twinlock_protocol::verify::{evidence_digest, verify_evidence, verify_request, verify_start};
use twinlock_protocol::{DenyReason, Digest};

/// The summary. A key is absent when the thing did not happen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// The command ran as root, and only then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granted: Option<bool>,
    /// Distinct persons who approved, by the verified evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persons: Option<usize>,
    /// Distinct devices they approved with, by the verified evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<usize>,
    /// From the moment the second phone's browser began to send the approval to the command's `main`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_approval_to_exec_ms: Option<f64>,
    /// What a sudo with the module takes longer than one with `pam_permit` when nobody is waited
    /// for: difference of medians of interleaved runs, less what the stand-in agent took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_added_ms: Option<f64>,
    /// From the deadline that the session key signed to the death of the last process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry_to_last_process_dead_ms: Option<f64>,
    /// OpenSSL's verdict with the list from before the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openssl_error_before: Option<u32>,
    /// OpenSSL's verdict with the list from after the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openssl_error_after: Option<u32>,
    /// The host's record verifies from the pin up: roster, request, evidence, certificate, start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence_verified: Option<bool>,
    /// What read the QR codes from the terminal's pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qr_decoded_by: Option<String>,
}

/// Where the proof is collected.
pub struct Proof {
    summary: PathBuf,
    dir: PathBuf,
    /// The figures so far.
    pub figures: Summary,
    raw: serde_json::Map<String, Value>,
}

impl Proof {
    /// Begins with an empty `FILE.d`; removes an older summary, so that none outlives a failed run.
    ///
    /// # Errors
    /// A directory that cannot be written.
    pub fn begin(summary: &Path) -> std::io::Result<Self> {
        let dir = directory(summary);
        for old in [summary, &dir] {
            match if old.is_dir() { fs::remove_dir_all(old) } else { fs::remove_file(old) } {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::create_dir_all(&dir)?;
        Ok(Self { summary: summary.to_owned(), dir, figures: Summary::default(), raw: serde_json::Map::new() })
    }

    /// A path in the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file into the directory.
    pub fn save(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Notes a raw measurement for `measurements.json`.
    pub fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.raw.insert(name.to_owned(), value.into());
    }

    /// A certificate or list, as DER and as PEM, for every tool there is.
    pub fn save_der(&self, name: &str, label: &str, der: &[u8]) {
        self.save(&format!("{name}.der"), der);
        let body = BASE64_MIME.encode(der).replace('\r', "");
        self.save(&format!("{name}.pem"), format!("-----BEGIN {label}-----\n{body}-----END {label}-----\n"));
    }

    /// `openssl verify` with one of the lists: its error number, 0 for none. Its own words are kept.
    #[must_use]
    pub fn openssl(&self, list: &str) -> Option<u32> {
        let arguments =
            ["verify", "-crl_check", "-no_check_time", "-CAfile", "ca.pem", "-CRLfile", list, "certificate.pem"];
        let output = Command::new("openssl").current_dir(&self.dir).args(arguments).output().ok()?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        self.save(&format!("openssl-{list}.txt"), format!("$ openssl {}\n{said}", arguments.join(" ")));
        if output.status.success() && said.contains("certificate.pem: OK") {
            return Some(0);
        }
        let (_, rest) = said.split_once("error ")?;
        rest.split(' ').next()?.parse().ok()
    }
}

/// A run that breaks off leaves what it has: the keys of what did not happen are absent.
impl Drop for Proof {
    fn drop(&mut self) {
        let raw = fs::write(self.path("measurements.json"), pretty(&self.raw));
        if let Err(error) = raw.and_then(|()| fs::write(&self.summary, pretty(&self.figures))) {
            println!("the summary could not be written: {error}");
        }
    }
}

/// `FILE.d` for `FILE`.
#[must_use]
pub fn directory(summary: &Path) -> PathBuf {
    let mut name = summary.as_os_str().to_owned();
    name.push(".d");
    name.into()
}

fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("plain data");
    bytes.push(b'\n');
    bytes
}

/// `zbarimg VERSION`, if it is there.
#[must_use]
pub fn qr_reader() -> Option<String> {
    let output = Command::new("zbarimg").arg("--version").output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!version.is_empty()).then(|| format!("zbarimg {version}"))
}

/// A grant that was verified from nothing but a pinned digest, as an auditor would.
#[derive(Clone, Debug)]
pub struct VerifiedGrant {
    /// Who approved.
    pub persons: Vec<String>,
    /// With which devices.
    pub devices: Vec<String>,
    /// When and where it started, until when it could run.
    pub start: StartStatement,
}

/// Verifies a GrantRecord's bytes as of the moment at which it started.
///
/// # Errors
/// The first check that fails.
pub fn verify_record(record: &[u8], roster: &[u8], pin: &Digest) -> Result<VerifiedGrant, DenyReason> {
    let malformed = |_| DenyReason::EvidenceMalformed;
    let record = GrantRecord::from_bytes(record).map_err(malformed)?;
    let envelope = RosterEnvelope::from_bytes(roster).map_err(|_| DenyReason::RosterMismatch)?;
    let roster = VerifiedRoster::genesis(&envelope, pin).map_err(|_| DenyReason::RosterMismatch)?;
    let started = StartStatement::from_bytes(&record.start.statement.0).map_err(malformed)?.started_at;
    let request = verify_request(&roster, &record.request, started)?;
    let given = record.authority.certificate().ok_or(DenyReason::EvidenceMalformed)?;
    let approval = verify_evidence(&roster, &request, &given.evidence.0, started)?;
    let start = verify_start(request.request(), request.id(), &record.start)?;
    let expected = Expected {
        session_key: &request.request().session_key,
        host: &request.request().host,
        target_user: &request.request().target.user,
        requesters: request.requesters(),
        request: request.id(),
        evidence: evidence_digest(&given.evidence.0),
        ttl_s: approval.ttl_s(),
        now: started,
    };
    let checked = roster
        .cas
        .iter()
        .find_map(|ca| check::elevation(&given.certificate.0, &ca.certificate.0, &expected).ok())
        .ok_or(DenyReason::CertificateInvalid)?;
    if start.serial != Some(checked.serial()) || record.grant != request.id().grant() {
        return Err(DenyReason::EvidenceOtherRequest);
    }
    let mut persons: Vec<_> = approval.signers().iter().map(|s| s.person().to_string()).collect();
    let mut devices: Vec<_> = approval.signers().iter().map(|s| s.device().to_string()).collect();
    for names in [&mut persons, &mut devices] {
        names.sort();
        names.dedup();
    }
    Ok(VerifiedGrant { persons, devices, start })
}
