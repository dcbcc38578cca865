//! `twinlock host join`: pins the roster whose digest the token carries, and writes the three
//! configurations. How the roster's bytes got here does not matter: only the digest decides. A host
//! joins only as the host whose keys it holds (E7).

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use clap::Args;
use twinlock_protocol::roster::{RosterEnvelope, VerifiedRoster};
use twinlock_protocol::slots::{ROSTER_SLOT_BYTES, ROSTER_SLOTS, Slot, next_write};
use twinlock_protocol::{UnixTime, limits};

use super::prepare::{self, public_of};
use super::{AGENT_KEY_FILE, HOST_KEY_FILE};
use crate::cli::token::JoinToken;
use crate::cli::{Failure, files, output};
use crate::clock::{Clock as _, SystemClock};
use crate::enrol::seal::{self, Owner};

/// What `twinlock host join` takes.
#[derive(Args)]
pub struct JoinArgs {
    /// The token that twinlock init or twinlock host token printed for this host
    token: String,
    /// The roster, for a token of twinlock init: a copy of roster.json in the gateway's state directory
    #[arg(long, value_name = "FILE")]
    roster: Option<PathBuf>,
    /// Replace a configuration and a pin that are there already
    #[arg(long)]
    replace: bool,
    /// Keys and configuration
    #[arg(long, default_value = "/etc/twinlock", value_name = "DIR")]
    etc_dir: PathBuf,
    /// Roster and records
    #[arg(long, default_value = "/var/lib/twinlock", value_name = "DIR")]
    state_dir: PathBuf,
    /// The system user of the agent, when root runs this
    #[arg(long, default_value = "twinlock-agent", value_name = "USER")]
    agent_user: String,
    /// The system user of the reaper, when root runs this
    #[arg(long, default_value = "twinlock-reaper", value_name = "USER")]
    reaper_user: String,
    /// The group that may read the roster
    #[arg(long, default_value = "twinlock", value_name = "GROUP")]
    group: String,
}

/// Joins.
///
/// # Errors
/// A [`Failure`]; a pin that was there stays.
pub fn run(arguments: &JoinArgs) -> Result<(), Failure> {
    let token = JoinToken::from_text(&arguments.token)?;
    let agent = files::owner(&arguments.agent_user)?;
    let (roster, bytes) = match (&arguments.roster, &token.secret) {
        (Some(file), _) => {
            let bytes = files::read(file, 2 * limits::ROSTER_BYTES as u64)?;
            (verified(&token, &bytes, SystemClock.now())?, bytes)
        }
        (None, Some(secret)) => {
            if !arguments.replace {
                refuse_to_replace_pin(arguments, &token)?;
            }
            files::directory(&arguments.etc_dir, 0o755, None)?;
            prepare::key(&arguments.etc_dir.join(HOST_KEY_FILE), None)?;
            prepare::key(&arguments.etc_dir.join(AGENT_KEY_FILE), agent)?;
            super::online::join(&token, secret, &arguments.etc_dir)?
        }
        (None, None) => {
            return Err(Failure::new(
                "this token is for a roster that is brought here by hand",
                "give --roster FILE, a copy of roster.json in the gateway's state directory",
            ));
        }
    };
    check_keys(&token, &roster, &arguments.etc_dir)?;
    let reaper = files::owner(&arguments.reaper_user)?;
    let group = files::group(&arguments.group)?;
    let configurations = configurations(&token, agent, reaper);
    if !arguments.replace {
        refuse_to_replace(arguments, &token, &configurations)?;
    }
    let readers = agent.map(|_| Owner { uid: 0, gid: group });
    files::directory(&arguments.state_dir, 0o755, None)?;
    let slots = arguments.state_dir.join("roster");
    files::directory(&slots, 0o750, readers)?;
    files::directory(&arguments.state_dir.join("grants"), 0o700, reaper)?;
    pin(&slots, &roster, &bytes, readers)?;
    // What was replaced must not come back, should this slot ever fail.
    let mut pins = ROSTER_SLOTS.iter().filter_map(|name| read_slot(&slots.join(name))).map(|slot| slot.pin);
    if pins.any(|pin| pin != roster.digest()) {
        pin(&slots, &roster, &bytes, readers)?;
    }
    for (name, text) in &configurations {
        seal::replace(&arguments.etc_dir.join(name), text.as_bytes(), 0o644, None)?;
    }
    output::line(&format!("{} pins roster version {}", token.host, roster.roster().version));
    output::line(&format!("  {}", roster.digest().to_hex()));
    output::line(
        "next: start twinlock-reaper and twinlock-agent, try break-glass (twinlock break-glass drill), then: twinlock enable sudo",
    );
    Ok(())
}

fn verified(token: &JoinToken, bytes: &[u8], now: UnixTime) -> Result<VerifiedRoster, Failure> {
    let other = |error: twinlock_protocol::roster::RosterError| {
        Failure::from(error).hint("take roster.json and the token from the same twinlock init")
    };
    let envelope = RosterEnvelope::from_bytes(bytes)?;
    let roster = VerifiedRoster::genesis(&envelope, &token.roster).map_err(other)?;
    roster.check_time(now)?;
    Ok(roster)
}

/// The roster must name, for this host, the keys that lie here.
fn check_keys(token: &JoinToken, roster: &VerifiedRoster, etc_dir: &Path) -> Result<(), Failure> {
    let host = roster.roster().host(&token.host).ok_or_else(|| {
        Failure::new(format!("the roster has no host {}", token.host), "use the token that was printed for this host")
    })?;
    for (name, wanted) in [(HOST_KEY_FILE, host.host_key), (AGENT_KEY_FILE, host.agent_key)] {
        if public_of(&etc_dir.join(name))? != Some(wanted) {
            return Err(Failure::new(
                format!("{} is not the key that the roster names for {}", etc_dir.join(name).display(), token.host),
                "join on the machine that twinlock host prepare ran on, with the token for its own name",
            ));
        }
    }
    Ok(())
}

/// The three files with their text. Without root, and so without system users, no uid is written.
fn configurations(token: &JoinToken, agent: Option<Owner>, reaper: Option<Owner>) -> [(&'static str, String); 3] {
    let uid =
        |key: &str, owner: Option<Owner>| owner.map(|owner| format!("{key} = {}\n", owner.uid)).unwrap_or_default();
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let host = format!("host = {}\n", quoted(token.host.as_str()));
    [
        ("module.toml", format!("{host}{}{}", uid("agent_uid", agent), uid("reaper_uid", reaper))),
        (
            "agent.toml",
            format!("{host}gateway = {}\ngateway_key = \"{}\"\n", quoted(&token.gateway), token.gateway_key.to_text()),
        ),
        ("reaper.toml", uid("agent_uid", agent)),
    ]
}

fn refuse_to_replace(
    arguments: &JoinArgs,
    token: &JoinToken,
    configurations: &[(&'static str, String)],
) -> Result<(), Failure> {
    let hint = "give --replace to make this host trust the roster of this token instead";
    for (name, text) in configurations {
        let path = arguments.etc_dir.join(name);
        if fs::symlink_metadata(&path).is_ok() && files::read(&path, 64 * 1024)? != text.as_bytes() {
            return Err(Failure::new(format!("{} is there already and says something else", path.display()), hint));
        }
    }
    refuse_to_replace_pin(arguments, token)
}

fn refuse_to_replace_pin(arguments: &JoinArgs, token: &JoinToken) -> Result<(), Failure> {
    let hint = "give --replace to make this host trust the roster of this token instead";
    let dir = arguments.state_dir.join("roster");
    let pinned = ROSTER_SLOTS.iter().filter_map(|name| read_slot(&dir.join(name)));
    if pinned.max_by_key(|slot| slot.sequence).is_some_and(|slot| slot.pin != token.roster) {
        return Err(Failure::new("this host pins another roster", hint));
    }
    Ok(())
}

fn read_slot(path: &Path) -> Option<Slot> {
    Slot::decode(&files::read(path, ROSTER_SLOT_BYTES).ok()?).ok()
}

/// Writes the roster into the older slot; both files have their full size afterwards, so that a
/// later version never needs space.
fn pin(dir: &Path, roster: &VerifiedRoster, envelope: &[u8], readers: Option<Owner>) -> Result<(), Failure> {
    let paths = ROSTER_SLOTS.map(|name| dir.join(name));
    let current = paths.each_ref().map(|path| read_slot(path));
    let (target, sequence) = next_write(current.each_ref().map(Option::as_ref));
    let slot = Slot { sequence, version: roster.roster().version, pin: roster.digest(), payload: envelope.to_vec() };
    let bytes = slot.encode()?;
    for (index, path) in paths.iter().enumerate() {
        let written = (|| {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(path)?;
            if let Some(owner) = readers {
                fchown(&file, Some(owner.uid), Some(owner.gid))?;
            }
            file.set_permissions(fs::Permissions::from_mode(0o640))?;
            preallocate(&file)?;
            if index == target {
                file.write_all_at(&bytes, 0)?;
            }
            file.sync_all()
        })();
        written.map_err(|error: std::io::Error| Failure::plain(format!("cannot write {}: {error}", path.display())))?;
    }
    fs::File::open(dir)?.sync_all()?;
    Ok(())
}

/// Real blocks up to the slot's size, not a hole.
fn preallocate(file: &fs::File) -> std::io::Result<()> {
    const BLOCK: usize = 64 * 1024;
    let zeroes = [0; BLOCK];
    let mut at = file.metadata()?.len();
    while at < ROSTER_SLOT_BYTES {
        let left = usize::try_from(ROSTER_SLOT_BYTES - at).unwrap_or(BLOCK).min(BLOCK);
        file.write_all_at(zeroes.get(..left).unwrap_or_default(), at)?;
        at += left as u64;
    }
    Ok(())
}
