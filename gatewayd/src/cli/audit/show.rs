//! `audit show GRANT`: one grant on one page, from what was verified; and `--evidence FILE`, which
//! takes everything along that shows it elsewhere.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use twinlock_protocol::Digest;
use twinlock_protocol::evidence::GrantRecord;
use twinlock_protocol::ids::GrantId;
use twinlock_protocol::roster::RosterEnvelope;

use super::chain::Chain;
use super::file::{EvidenceFile, EvidenceFileFormat, VERSION};
use super::verify::{Doubt, Findings, verify_file};
use super::{page, pin, rosters};
use crate::api::admin::GrantFile;
use crate::cli::Failure;
use crate::cli::admin::{self, AdminArgs};
use crate::cli::output::{json as print_json, line};
use crate::enrol::seal::PIN_FILE;

/// `twinlock audit show`.
#[derive(Args)]
pub struct ShowArgs {
    /// The grant
    #[arg(value_parser = admin::grant)]
    grant: GrantId,
    #[command(flatten)]
    admin: AdminArgs,
    /// The gateway's state: the roster and its pin
    #[arg(long, default_value = "/var/lib/twinlock-gateway", value_name = "DIR")]
    state_dir: PathBuf,
    /// The digest of roster version 1, from somewhere that is trusted more than this gateway
    #[arg(long, value_name = "DIGEST", allow_hyphen_values = true, value_parser = pin::parse)]
    pin: Option<Digest>,
    /// Write everything that shows this grant into a new file, for `twinlock audit verify`
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
}

/// Shows and verifies.
///
/// # Errors
/// A [`Failure`] that names what does not verify.
pub fn run(arguments: &ShowArgs) -> Result<(), Failure> {
    let at_home = |failure: Failure| match failure.hint {
        None => failure.hint("run this as root on the gateway, or give its --state-dir"),
        Some(_) => failure,
    };
    let pin = match arguments.pin {
        Some(pin) => pin,
        None => pin::read(&arguments.state_dir.join(PIN_FILE)).map_err(at_home)?,
    };
    let rosters = rosters::all(&arguments.state_dir, &arguments.admin.socket).map_err(at_home)?;
    // First of all: a gateway with another roster is told of before anything that it says.
    let chain = Chain::follow(&rosters, &pin).map_err(|error| doubted(Doubt::Roster(error)))?;
    let path = format!("/v1/grants/{}/record", arguments.grant);
    let handed: GrantFile = admin::get(&arguments.admin.socket, &path)?;
    let whole = file_of(arguments.grant, rosters, handed)?;
    let findings = verify_file(&chain, &whole).map_err(doubted)?;
    if let Some(path) = &arguments.evidence {
        let file = EvidenceFile { rosters: used(&whole.rosters, &findings), ..whole.clone() };
        write_new(path, &file.to_bytes())?;
    }
    if arguments.admin.json {
        print_json(&page::as_json(&chain, &findings));
        return Ok(());
    }
    page::story(&findings).iter().for_each(|text| line(text));
    let checked: Vec<&str> = page::proved(&chain, &findings).iter().map(|said| said.about).collect();
    line(&format!("verified   {}", summary(&checked)));
    page::remarks(&findings).iter().for_each(|said| line(&format!("NOTE       {}", said.words)));
    if let Some(path) = &arguments.evidence {
        line(&format!("evidence   {}", path.display()));
        line(&format!("           twinlock audit verify {} --pin {}", path.display(), pin.to_hex()));
    }
    Ok(())
}

/// What was checked, in the order of the checks.
fn summary(checked: &[&str]) -> String {
    let words = [
        ("request", "request signed by its host and its session key"),
        ("answers", "every answer signed by passkey, and by device key where the device has one"),
        ("approvals", "two distinct people approved this very request"),
        ("certificate", "certificate by the roster's CA, for this key, host, target and evidence"),
        ("break_glass", "by break-glass keys of the roster, offline"),
        ("start", "start signed by the session key"),
    ];
    let told: Vec<&str> = words.iter().filter(|(about, _)| checked.contains(about)).map(|(_, words)| *words).collect();
    told.join("; ")
}

fn doubted(doubt: Doubt) -> Failure {
    Failure::from(doubt).hint("tell your security team: gateway or database show what they should not")
}

/// The file of what the gateway handed over.
fn file_of(grant: GrantId, rosters: Vec<RosterEnvelope>, handed: GrantFile) -> Result<EvidenceFile, Failure> {
    let GrantFile { grant: named, request, statements, record, ended } = handed;
    if named != grant {
        return Err(Failure::plain("the gateway handed over another grant"));
    }
    let record =
        record.map(|bytes| GrantRecord::from_bytes(&bytes.0)).transpose().map_err(|_| doubted(Doubt::Record))?;
    let format = EvidenceFileFormat::EvidenceFile;
    Ok(EvidenceFile { format, version: VERSION, grant, rosters, request, statements, record, ended })
}

/// Versions up to the newest that anything was decided under: later ones are nobody's business here.
fn used(rosters: &[RosterEnvelope], findings: &Findings<'_>) -> Vec<RosterEnvelope> {
    let answers = findings.answers.iter().map(|answer| answer.roster.version);
    let session = findings.session.as_ref().map(|session| session.roster.version);
    let newest = answers.chain(session).max().unwrap_or(findings.roster.version).max(findings.roster.version);
    rosters.iter().filter(|envelope| envelope.version <= newest).cloned().collect()
}

/// Never over a file that is there: evidence replaces nothing by mistake.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error: std::io::Error| Failure::plain(format!("cannot write {}: {error}", path.display())))
}
