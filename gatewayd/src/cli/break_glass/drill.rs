//! `twinlock break-glass drill`: shows on a host that two people have keys of the pinned roster at
//! hand, the same way as in earnest: a challenge, two answers. Writes when, who and which keys; a
//! drill's answers grant nothing. `enable` wants one that is at most 90 days old.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use twinlock_protocol::break_glass::{Answer, Drill, DrillFormat, Purpose, VERSION, challenge, verify_drill};
use twinlock_protocol::ids::{HostId, PersonId};
use twinlock_protocol::roster::{BreakGlassKey, VerifiedRoster};
use twinlock_protocol::signature::PublicKey;
use twinlock_protocol::words::words;
use twinlock_protocol::{Digest, Fixed, UnixTime, codec, escape, limits};

use crate::agent::pinned_roster;
use crate::cli::approve::ask;
use crate::cli::doctor::facts;
use crate::cli::{Failure, files, output, time};
use crate::clock::{Clock as _, SystemClock};
use crate::enrol::seal;

/// For how long a drill counts, in seconds.
pub const GOOD_FOR_S: u64 = 90 * 24 * 3600;
/// Its record's name.
pub const FILE: &str = "drill.json";

/// Where a host keeps what break-glass needs.
#[derive(Args, Clone)]
pub struct HostArgs {
    /// The module's configuration, which names the host
    #[arg(long, default_value = "/etc/twinlock/module.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// The roster's slots
    #[arg(long, default_value = "/var/lib/twinlock/roster", value_name = "DIR")]
    pub roster_dir: PathBuf,
    /// The record of drills and of what was used
    #[arg(long, default_value = "/var/lib/twinlock/break-glass", value_name = "DIR")]
    pub dir: PathBuf,
}

/// A drill that was verified: what doctor and enable read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillRecord {
    /// 1.
    pub version: u32,
    /// When it was verified.
    pub when: UnixTime,
    /// Who signed.
    pub persons: Vec<PersonId>,
    /// With which keys.
    pub keys: Vec<PublicKey>,
    /// The roster that named them.
    pub roster_digest: Digest,
}

/// The newest roster that follows from the one that this host pins. A host that has just joined pins
/// the ceremony's, which has no break-glass keys; the module pins newer ones only when it runs, and
/// before it may run for anybody there must have been a drill.
///
/// # Errors
/// A [`Failure`].
pub fn roster(arguments: &HostArgs) -> Result<VerifiedRoster, Failure> {
    let pinned = pinned_roster(&arguments.roster_dir).ok_or_else(|| {
        Failure::new(
            format!("no roster can be read in {}", arguments.roster_dir.display()),
            "run this as root on a host that has joined",
        )
    })?;
    let table = module_toml(&arguments.config).unwrap_or_default();
    let socket = table.get("agent_socket").and_then(toml::Value::as_str).unwrap_or("/run/twinlock/agent.sock");
    Ok(facts::newest(pinned, Path::new(socket)))
}

fn module_toml(config: &Path) -> Result<toml::Table, Failure> {
    Ok(String::from_utf8(files::read(config, 64 * 1024)?)?.parse()?)
}

/// This host's id.
pub fn host(config: &Path) -> Result<HostId, Failure> {
    let table = module_toml(config)?;
    let id = table.get("host").and_then(toml::Value::as_str).and_then(HostId::new);
    id.ok_or_else(|| Failure::plain(format!("{} names no host", config.display())))
}

/// Runs a drill.
///
/// # Errors
/// A [`Failure`]: no two keys, too many wrong answers, or it can't be written.
pub fn run(arguments: &HostArgs) -> Result<(), Failure> {
    let roster = roster(arguments)?;
    let now = SystemClock.now();
    let drill = Drill {
        format: DrillFormat::Drill,
        version: VERSION,
        host: host(&arguments.config)?,
        roster: roster.reference(),
        created_at: now,
        nonce: Fixed(crate::random::random()?),
    }
    .to_bytes();
    let mut persons: Vec<&PersonId> = roster.break_glass_keys.iter().map(|one| &one.person).collect();
    persons.sort();
    persons.dedup();
    if persons.len() < 2 {
        return Err(Failure::new(
            "the roster has break-glass keys of fewer than two people",
            "twinlock break-glass keygen, for each; then twinlock break-glass key add, on the gateway",
        ));
    }
    let names: Vec<String> = persons.iter().map(|id| name(&roster, id)).collect();
    output::line(&format!("two of {} answer this drill, each with: twinlock approve --offline", names.join(", ")));
    output::line(&challenge(Purpose::Drill, &drill));
    let holders = answers(&roster, &drill)?;
    let record = DrillRecord {
        version: VERSION,
        when: SystemClock.now(),
        persons: holders.iter().map(|one| one.person.clone()).collect(),
        keys: holders.iter().map(|one| one.key).collect(),
        roster_digest: roster.digest(),
    };
    if !arguments.dir.is_dir() {
        files::directory(&arguments.dir, 0o755, None)?;
    }
    seal::replace(&arguments.dir.join(FILE), &codec::encode(&record), 0o644, None)?;
    let until = record.when.plus(GOOD_FOR_S);
    output::line(&format!("both keys work; recorded. The next drill is due before {}", time::moment(until)));
    Ok(())
}

/// A person's name, escaped.
fn name(roster: &VerifiedRoster, id: &PersonId) -> String {
    roster.person(id).map_or_else(|| id.to_string(), |person| escape::visible(person.name.as_bytes()))
}

/// Two answers of two people, in as many tries as in earnest.
fn answers(roster: &VerifiedRoster, drill: &[u8]) -> Result<Vec<BreakGlassKey>, Failure> {
    let mut input = std::io::stdin().lock();
    let mut holders: Vec<BreakGlassKey> = Vec::new();
    let mut tries = 0;
    while holders.len() < 2 {
        if tries >= limits::BREAK_GLASS_TRIES {
            return Err(Failure::plain("too many wrong answers; nothing was recorded"));
        }
        let question = format!("answer {} of 2: ", holders.len() + 1);
        let Some(typed) = ask(&mut input, &question)? else {
            return Err(Failure::plain("given up; nothing was recorded"));
        };
        if typed.trim().is_empty() {
            tries += 1;
            continue;
        }
        let judged = Answer::from_text(&typed)
            .ok_or("a character is missing or wrong: copy the whole line")
            .and_then(|answer| verify_drill(roster, drill, &answer).map_err(|reason| reason.row().line));
        match judged {
            Ok(holder) if holders.iter().any(|one| one.person == holder.person) => {
                tries += 1;
                output::line("that is the same person again: two people answer");
            }
            Ok(holder) => {
                let key = words(&holder.key_digest()).join(" ");
                output::line(&format!("{} answered with {key}", name(roster, &holder.person)));
                holders.push(holder);
            }
            Err(why) => {
                tries += 1;
                output::line(&format!("not taken: {why}"));
            }
        }
    }
    Ok(holders)
}
