//! `twinlock roster`: what the roster is, what is proposed, and to propose. On the gateway, as root;
//! nothing is sealed here: that takes two people on their phones.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use twinlock_protocol::ids::{CaId, PersonId};
use twinlock_protocol::roster::change::{Change, changes};
use twinlock_protocol::roster::{GatewayEntry, PersonKind, Roster, Standing};
use twinlock_protocol::words::words;
use twinlock_protocol::{Bytes, Digest, Fixed, UnixTime, limits};

use super::admin::{AdminArgs, get, post};
use super::output::{json, line, table};
use super::{Failure, files, time};
use crate::api::changes::{HeadFile, ProposalFile, ProposalLine, ProposeBody};
use crate::clock::{Clock as _, SystemClock};
use crate::roster::op::Op;

/// `twinlock roster`.
#[derive(Subcommand)]
pub enum RosterCommand {
    /// The roster as it is: people, devices, hosts
    Show {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Proposals that wait for signatures
    Proposals {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Every difference that a proposal would make
    Changes {
        /// The proposal
        proposal: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Write the roster to a file, to edit and propose
    Export {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Propose an edited roster
    Propose {
        /// A roster as export wrote it, edited
        file: PathBuf,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Take a proposal back
    Withdraw {
        /// The proposal
        proposal: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Propose a later end
    Renew {
        /// For how many days from now
        #[arg(long, default_value_t = 180)]
        days: u64,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Propose another gateway for agents
    AddGateway {
        /// Its agent listener, HOST:PORT
        address: String,
        /// SHA-256 of its key, base64url, as `twinlock init` printed it
        #[arg(long, allow_hyphen_values = true)]
        key: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Propose that a gateway leaves
    RemoveGateway {
        /// Its agent listener
        address: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Make a new elevation CA in the gateway's state directory, and propose it
    AddCa {
        /// Its id
        id: String,
        /// The gateway's state directory
        #[arg(long, default_value = "/var/lib/twinlock-gateway", value_name = "DIR")]
        state_dir: PathBuf,
        /// The gateway's system user, when root runs this
        #[arg(long, default_value = "twinlock-gateway", value_name = "USER")]
        user: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Propose that an elevation CA leaves
    RemoveCa {
        /// Its id
        id: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// Runs one of them.
///
/// # Errors
/// A [`Failure`].
pub fn run(command: &RosterCommand) -> Result<(), Failure> {
    match command {
        RosterCommand::Show { admin } => show(admin),
        RosterCommand::Proposals { admin } => proposals(admin),
        RosterCommand::Changes { proposal, admin } => show_changes(proposal, admin),
        RosterCommand::Export { file, admin } => export(file, admin),
        RosterCommand::Propose { file, admin } => propose_file(file, admin),
        RosterCommand::Withdraw { proposal, admin } => withdraw(proposal, admin),
        RosterCommand::Renew { days, admin } => {
            let expires_at = SystemClock.now().plus(days.saturating_mul(86_400));
            propose(admin, vec![Op::Renew { expires_at }])
        }
        RosterCommand::AddGateway { address, key, admin } => {
            let key = Fixed::from_text(key)
                .map(Digest)
                .ok_or_else(|| Failure::plain("a gateway's key is 43 characters of base64url"))?;
            propose(admin, vec![Op::AddGateway { gateway: GatewayEntry { address: address.clone(), key } }])
        }
        RosterCommand::RemoveGateway { address, admin } => {
            let (roster, _) = head(admin)?;
            let found = roster.gateways.iter().find(|one| one.address == *address);
            let key = found.ok_or_else(|| Failure::plain(format!("the roster has no gateway {address}")))?.key;
            propose(admin, vec![Op::RemoveGateway { key }])
        }
        RosterCommand::AddCa { id, state_dir, user, admin } => add_ca(id, state_dir, user, admin),
        RosterCommand::RemoveCa { id, admin } => propose(admin, vec![Op::RemoveCa { ca: ca_id(id)? }]),
    }
}

/// The head, as the gateway tells it.
///
/// # Errors
/// A [`Failure`].
pub fn head(admin: &AdminArgs) -> Result<(Roster, HeadFile), Failure> {
    let file: HeadFile = get(&admin.socket, "/v1/roster")?;
    Ok((Roster::from_bytes(&file.bytes.0)?, file))
}

/// Proposes operations, and says what to do next.
///
/// # Errors
/// A [`Failure`].
pub fn propose(admin: &AdminArgs, ops: Vec<Op>) -> Result<(), Failure> {
    let made: ProposalFile = post(&admin.socket, "/v1/roster/propose", &ProposeBody { ops })?;
    if admin.json {
        json(&made.line);
        return Ok(());
    }
    print_changes(&made)?;
    line(&format!("proposal {}: {} must sign it on the page", made.line.id.to_text(), people(made.line.needs)));
    Ok(())
}

fn people(count: usize) -> String {
    if count == 1 { "one person".to_owned() } else { format!("{count} people") }
}

fn show(admin: &AdminArgs) -> Result<(), Failure> {
    let (roster, file) = head(admin)?;
    if admin.json {
        json(&serde_json::from_slice::<serde_json::Value>(&file.bytes.0)?);
        return Ok(());
    }
    line(&format!("version {}, until {}", file.version, time::moment(roster.expires_at)));
    line(&format!("  {}", file.digest.to_hex()));
    let rows: Vec<_> = roster
        .persons
        .iter()
        .map(|one| {
            let standing = match &one.standing {
                Standing::Active => "active".to_owned(),
                Standing::Suspended(suspension) => {
                    suspension.by.as_ref().map_or("suspended".to_owned(), |by| format!("suspended by {by}"))
                }
            };
            let kind = match &one.kind {
                PersonKind::Human(_) => String::new(),
                PersonKind::Service(service) => format!("service of {}", service.owner),
            };
            let groups: Vec<String> = one.groups.iter().map(ToString::to_string).collect();
            let asks = if one.may_request { "asks" } else { "" };
            let devices = one.devices.len().to_string();
            vec![
                one.id.to_string(),
                one.name.clone(),
                one.logins.join(","),
                groups.join(","),
                devices,
                [asks, &kind].join(" ").trim().to_owned(),
                standing,
            ]
        })
        .collect();
    line(table(&["PERSON", "NAME", "LOGINS", "GROUPS", "DEVICES", "", "STANDING"], &rows).trim_end());
    let rows: Vec<_> = roster
        .hosts
        .iter()
        .map(|one| {
            let groups: Vec<String> = one.groups.iter().map(ToString::to_string).collect();
            vec![one.id.to_string(), one.name.clone(), groups.join(","), words(&one.keys_digest()).join(" ")]
        })
        .collect();
    line(table(&["HOST", "NAME", "GROUPS", "WORDS"], &rows).trim_end());
    Ok(())
}

fn proposals(admin: &AdminArgs) -> Result<(), Failure> {
    let open: Vec<ProposalLine> = get(&admin.socket, "/v1/roster/proposals")?;
    if admin.json {
        json(&open);
        return Ok(());
    }
    if open.is_empty() {
        line("nothing is proposed");
        return Ok(());
    }
    let rows: Vec<_> = open
        .iter()
        .map(|one| {
            let signed: Vec<String> = one.signed.iter().map(PersonId::to_string).collect();
            let mark = if one.contested { " (link opened twice!)" } else { "" };
            vec![
                one.id.to_text(),
                format!("{}{mark}", one.title),
                one.by.clone(),
                format!("{} of {}: {}", signed.len(), one.needs, signed.join(", "))
                    .trim_end_matches([':', ' '])
                    .to_owned(),
                time::moment(one.expires_at),
            ]
        })
        .collect();
    line(table(&["PROPOSAL", "WHAT", "BY", "SIGNED", "UNTIL"], &rows).trim_end());
    Ok(())
}

fn print_changes(file: &ProposalFile) -> Result<(), Failure> {
    for change in between(&file.base, &file.next)? {
        line(&super::output::visible(&change.to_line()));
    }
    Ok(())
}

fn between(base: &Bytes, next: &Bytes) -> Result<Vec<Change>, Failure> {
    Ok(changes(&Roster::from_bytes(&base.0)?, &Roster::from_bytes(&next.0)?))
}

fn show_changes(proposal: &str, admin: &AdminArgs) -> Result<(), Failure> {
    let file: ProposalFile = get(&admin.socket, &format!("/v1/roster/proposals/{}", id(proposal)?))?;
    if admin.json {
        json(&between(&file.base, &file.next)?);
        return Ok(());
    }
    print_changes(&file)
}

/// An id as it is printed; nothing else goes into a path.
fn id(text: &str) -> Result<String, Failure> {
    let id: Option<Fixed<16>> = Fixed::from_text(text);
    id.map(|id| id.to_text())
        .ok_or_else(|| Failure::new("this is no proposal's id", "twinlock roster proposals lists them"))
}

fn export(path: &Path, admin: &AdminArgs) -> Result<(), Failure> {
    let (_, file) = head(admin)?;
    let value: serde_json::Value = serde_json::from_slice(&file.bytes.0)?;
    crate::enrol::seal::replace(path, &serde_json::to_vec_pretty(&value)?, 0o600, None)?;
    line(&format!("version {} is in {}; edit it, then twinlock roster propose", file.version, path.display()));
    Ok(())
}

fn propose_file(path: &Path, admin: &AdminArgs) -> Result<(), Failure> {
    let bytes = files::read(path, 4 * limits::ROSTER_BYTES as u64)?;
    let roster: Roster =
        serde_json::from_slice(&bytes).map_err(|error| Failure::plain(format!("{}: {error}", path.display())))?;
    let (_, head) = head(admin)?;
    // What was exported says by version and predecessor which one was edited.
    let edited = Roster::from_bytes(&head.bytes.0)?;
    if (roster.version, roster.previous) != (edited.version, edited.previous) {
        return Err(Failure::new(
            format!(
                "{} was made from version {}, and the roster is at {}",
                path.display(),
                roster.version,
                head.version
            ),
            "twinlock roster export, and edit that",
        ));
    }
    propose(admin, vec![Op::Replace { base: head.digest, roster: Box::new(roster) }])
}

fn withdraw(proposal: &str, admin: &AdminArgs) -> Result<(), Failure> {
    super::admin::tell(&admin.socket, &format!("/v1/roster/proposals/{}/withdraw", id(proposal)?))?;
    if !admin.json {
        line("taken back");
    }
    Ok(())
}

fn ca_id(text: &str) -> Result<CaId, Failure> {
    CaId::new(text).ok_or_else(|| Failure::plain(format!("{text} is no id: lower-case letters, digits, dot, dash")))
}

/// The gateway takes the key up by itself once the roster names its certificate.
fn add_ca(name: &str, state_dir: &Path, user: &str, admin: &AdminArgs) -> Result<(), Failure> {
    let ca = ca_id(name)?;
    let owner = files::owner(user)?;
    let (key_file, file) = (state_dir.join(format!("ca-{ca}.key")), state_dir.join(format!("ca-{ca}.der")));
    if std::fs::symlink_metadata(&file).is_ok() || std::fs::symlink_metadata(&key_file).is_ok() {
        return Err(Failure::new(format!("{} is there already", file.display()), "choose another id"));
    }
    let now: UnixTime = SystemClock.now();
    let (made, key) = twinlock_certs::issue::Ca::generate(&format!("Twinlock elevation CA {ca}"), now, 10)?;
    crate::enrol::seal::replace(&key_file, &key, 0o600, owner)?;
    crate::enrol::seal::replace(&file, made.certificate(), 0o600, owner)?;
    let ca = twinlock_protocol::roster::Ca { id: ca, certificate: Bytes(made.certificate().to_vec()) };
    propose(admin, vec![Op::AddCa { ca }])
}
