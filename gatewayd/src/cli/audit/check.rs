//! `audit verify FILE --pin DIGEST`: checks an evidence file anywhere, as anybody, with neither
//! gateway nor configuration nor network, and says what it proved and what it did not. Reads one
//! file and nothing else.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use twinlock_protocol::Digest;

use super::file::{EvidenceFile, FILE_BYTES};
use super::verify::{Doubt, chain_of, verify_file};
use super::{page, pin};
use crate::cli::output::{json as print_json, line};
use crate::cli::{Failure, chain as causes, files};

/// `twinlock audit verify`.
#[derive(Args)]
pub struct VerifyArgs {
    /// What `twinlock audit show GRANT --evidence FILE` wrote
    file: PathBuf,
    /// The digest of roster version 1, from somewhere you trust: a host that pins it, a signed
    /// protocol of the ceremony
    #[arg(long, value_name = "DIGEST", allow_hyphen_values = true, value_parser = pin::parse)]
    pin: Digest,
    /// JSON instead of words
    #[arg(long)]
    json: bool,
}

/// Verifies.
///
/// # Errors
/// A [`Failure`] that names the check that failed.
pub fn run(arguments: &VerifyArgs) -> Result<(), Failure> {
    let bytes = files::read(&arguments.file, FILE_BYTES as u64)?;
    let file = EvidenceFile::from_bytes(&bytes).map_err(|error| failed(arguments, "file", &error))?;
    let doubted = |doubt: Doubt| failed(arguments, doubt.check(), &doubt);
    let chain = chain_of(&file, &arguments.pin).map_err(doubted)?;
    let findings = verify_file(&chain, &file).map_err(doubted)?;
    if arguments.json {
        print_json(&page::as_json(&chain, &findings));
        return Ok(());
    }
    line("VERIFIED, from the digest that you gave and signatures alone");
    line(&format!("pin        {}", page::fingerprint(&arguments.pin)));
    page::story(&findings).iter().for_each(|text| line(text));
    let section = |title: &str, all: Vec<page::Said>| {
        if !all.is_empty() {
            line("");
            line(title);
            all.iter().for_each(|said| line(&format!("- {}: {}", said.about, said.words)));
        }
    };
    section("LOOK AT THIS", page::remarks(&findings));
    section("Proved", page::proved(&chain, &findings));
    section("Not proved", page::not_proved(&findings));
    Ok(())
}

/// Names the check that failed, for people and programs.
fn failed(arguments: &VerifyArgs, check: &'static str, why: &dyn std::error::Error) -> Failure {
    let words = causes(why);
    if arguments.json {
        print_json(&json!({ "verified": false, "check": check, "words": words }));
    }
    let hint = match check {
        "file" => "give the file that twinlock audit show --evidence wrote",
        "roster" => "is the digest the one of roster version 1, and of this organisation?",
        _ => "this file proves nothing: compare with the host's own record, and tell your security team",
    };
    Failure::new(format!("not verified: the check \"{check}\" failed: {words}"), hint)
}
