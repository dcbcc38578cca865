//! Making break-glass keys, and proposing that they come into the roster or leave it. Two people
//! compare the key's words with its holder before they sign.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use twinlock_protocol::ids::PersonId;
use twinlock_protocol::roster::BreakGlassKey;
use twinlock_protocol::words::words;

use super::signer;
use crate::cli::Failure;
use crate::cli::admin::AdminArgs;
use crate::cli::output::{json, line, table};
use crate::cli::roster::{head, propose};
use crate::enrol::seal;
use crate::roster::op::Op;

/// `twinlock break-glass keygen`.
#[derive(Args)]
pub struct KeygenArgs {
    /// Whose key it is: the id in the roster
    #[arg(long)]
    person: String,
    /// Where the private key goes; keep it off the gateway and off the hosts
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// `twinlock break-glass key`.
#[derive(Subcommand)]
pub enum KeyCommand {
    /// Propose that a person gets a key
    Add {
        /// The person's id
        person: String,
        /// The public key: as keygen prints it, or an OpenSSH ecdsa-sha2-nistp256 line in quotes
        #[arg(allow_hyphen_values = true)]
        key: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Propose that keys leave: lost, used, or of somebody who leaves
    Remove {
        /// Public keys, or ids of persons, all of whose keys leave
        #[arg(required = true, allow_hyphen_values = true)]
        keys: Vec<String>,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Keys in the roster
    List {
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// Makes a key.
///
/// # Errors
/// A [`Failure`]: the file is there already, or can't be written.
pub fn keygen(arguments: &KeygenArgs) -> Result<(), Failure> {
    let person = person(&arguments.person)?;
    if std::fs::symlink_metadata(&arguments.out).is_ok() {
        return Err(Failure::plain(format!("{} is there already", arguments.out.display())));
    }
    let (text, key) = signer::make(person.as_str())?;
    seal::replace(&arguments.out, text.as_bytes(), 0o600, None)?;
    let entry = BreakGlassKey { person, key };
    line(&format!("the private key is in {}: keep it where you find it without a network", arguments.out.display()));
    line(&format!("words:  {}", words(&entry.key_digest()).join(" ")));
    line(&format!("public: {}", key.to_text()));
    line(&format!("next, on the gateway: twinlock break-glass key add {} {}", entry.person, key.to_text()));
    Ok(())
}

fn person(id: &str) -> Result<PersonId, Failure> {
    PersonId::new(id).ok_or_else(|| Failure::new(format!("{id} is no person's id"), "twinlock roster show lists them"))
}

/// Runs one of them.
///
/// # Errors
/// A [`Failure`].
pub fn run(command: &KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::Add { person: whose, key, admin } => {
            let key = signer::public(key).ok_or_else(|| {
                Failure::new("this is no P-256 public key", "as keygen prints it, or an ecdsa-sha2-nistp256 line")
            })?;
            propose(admin, vec![Op::AddBreakGlassKey { key: BreakGlassKey { person: person(whose)?, key } }])
        }
        KeyCommand::Remove { keys, admin } => {
            let (roster, _) = head(admin)?;
            let mut ops = Vec::new();
            for given in keys {
                let key = signer::public(given);
                let fits = |one: &&BreakGlassKey| one.person.as_str() == given || key == Some(one.key);
                let found: Vec<Op> = roster
                    .break_glass_keys
                    .iter()
                    .filter(fits)
                    .map(|one| Op::RemoveBreakGlassKey { key: one.key })
                    .collect();
                if found.is_empty() {
                    return Err(Failure::plain(format!("the roster has no break-glass key {given}")));
                }
                ops.extend(found);
            }
            propose(admin, ops)
        }
        KeyCommand::List { admin } => {
            let (roster, _) = head(admin)?;
            if admin.json {
                json(&roster.break_glass_keys);
                return Ok(());
            }
            if roster.break_glass_keys.is_empty() {
                line("there are none: without two people's, nobody gets in while the gateway is away");
                return Ok(());
            }
            let row = |one: &BreakGlassKey| {
                vec![one.person.to_string(), words(&one.key_digest()).join(" "), one.key.to_text()]
            };
            let rows: Vec<_> = roster.break_glass_keys.iter().map(row).collect();
            line(table(&["PERSON", "WORDS", "KEY"], &rows).trim_end());
            Ok(())
        }
    }
}
