//! The facts about a host that checks judge: files read below a root, and, where that is the running
//! system, sockets asked. Gathering never fails; what can't be learnt is a fact as well.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use twinlock_protocol::ids::{HostId, RequestId};
use twinlock_protocol::roster::{RosterEnvelope, VerifiedRoster};
use twinlock_protocol::wire::module::{AskRosters, ModuleEvent, ModuleMessage, Resume};
use twinlock_protocol::wire::reaper::{List, ReaperReply, ReaperRequest};
use twinlock_protocol::wire::{self, LENGTH_BYTES, WIRE_VERSION};
use twinlock_protocol::{Digest, Fixed, UnixTime, codec, limits};

use super::below::Below;
use super::sudoers::{self, Setting};
use crate::agent::pinned_roster;
use crate::cli::break_glass::drill::{self, DrillRecord};
use crate::cli::user;
use crate::random::random;
use crate::reaper::clock::wall;

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where modules of PAM are; `*` stands for one multiarch directory.
const MODULE_DIRS: [&str; 4] = ["/usr/lib/*/security", "/lib/*/security", "/usr/lib64/security", "/usr/lib/security"];
const MODULE: &str = "pam_twinlock.so";
/// More than two persons and two keys need.
const DRILL_BYTES: usize = 16 * 1024;

/// A file's owner and mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFact {
    /// Where.
    pub path: PathBuf,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Type and permission bits.
    pub mode: u32,
    /// Directories above it that others than root can write.
    pub open_above: Vec<PathBuf>,
}

/// `visudo -c`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visudo {
    /// Nothing to complain about.
    Fine,
    /// What it says.
    Broken(String),
    /// There is none to ask.
    Missing,
}

/// Everything that checks look at.
#[derive(Debug)]
pub struct Facts {
    /// The wall clock.
    pub now: UnixTime,
    /// The module's file; more than one is one too many.
    pub modules: Vec<FileFact>,
    /// The key that signs requests.
    pub host_key: Option<FileFact>,
    /// The host's id in `module.toml`.
    pub host: Result<HostId, String>,
    /// The roster that this host pins, or the newest that follows from it and that the agent has.
    pub roster: Option<VerifiedRoster>,
    /// The logins of this host, root and others with uid 0 apart.
    pub logins: Vec<String>,
    /// The agent's answer.
    pub agent: Result<(), String>,
    /// The gateway's, through the agent.
    pub gateway: Result<(), String>,
    /// How long that took.
    pub gateway_took: Option<Duration>,
    /// The reaper's.
    pub reaper: Result<(), String>,
    /// The last break-glass drill.
    pub drill: Result<DrillRecord, String>,
    /// sudoers' settings that switch PAM's phases off or move them.
    pub phase_settings: Vec<Setting>,
    /// What `visudo -c` says.
    pub visudo: Visudo,
}

impl Facts {
    /// Gathers everything below `root`. Sockets and programs are those of the running system, and are
    /// left alone where `root` is another's.
    #[must_use]
    pub fn gather(root: &Path) -> Self {
        let below = Below::new(root);
        let module_toml = table(&below, "/etc/twinlock/module.toml");
        let named = |key: &str, otherwise: &str| {
            let named = module_toml.as_ref().ok().and_then(|table| table.get(key)).and_then(toml::Value::as_str);
            PathBuf::from(named.unwrap_or(otherwise))
        };
        let reaper_toml = table(&below, "/etc/twinlock/reaper.toml").unwrap_or_default();
        let user_socket = reaper_toml.get("user_socket").and_then(toml::Value::as_str).unwrap_or(user::SOCKET);
        let roster = pinned_roster(&below.on_disk(&named("roster_dir", "/var/lib/twinlock/roster")));
        let agent_socket = named("agent_socket", "/run/twinlock/agent.sock");
        let above = roster.as_ref().map_or(0, |roster| roster.roster().version);
        let elsewhere = || Err("this is not the running system".to_owned());
        let agent = if below.is_running() { ask_agent(&agent_socket, above) } else { elsewhere() };
        let begun = Instant::now();
        let gateway = agent.clone().and_then(|()| ask_gateway(&agent_socket));
        let gateway_took = gateway.is_ok().then(|| begun.elapsed());
        let reaper_socket = named("reaper_socket", "/run/twinlock/reaper.sock");
        let running = below.is_running();
        // As long as the agent does not answer, the pinned one counts.
        let roster = roster.map(|pinned| if agent.is_ok() { newest(pinned, &agent_socket) } else { pinned });
        Self {
            now: wall(),
            modules: module_files(&below),
            host_key: below.file(named("host_key", "/etc/twinlock/host.key")),
            host: module_toml.clone().and_then(|table| {
                let name = table.get("host").and_then(toml::Value::as_str);
                name.and_then(HostId::new).ok_or_else(|| "it names no host".to_owned())
            }),
            roster,
            logins: logins(&below),
            gateway,
            gateway_took,
            agent,
            reaper: if running { ask_reaper(Path::new(user_socket), &reaper_socket) } else { elsewhere() },
            drill: drill_record(&below.on_disk(&Path::new("/var/lib/twinlock/break-glass").join(drill::FILE))),
            phase_settings: sudoers::phase_settings(&below),
            visudo: if running { visudo() } else { Visudo::Missing },
        }
    }
}

fn drill_record(path: &Path) -> Result<DrillRecord, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let record: DrillRecord =
        codec::decode("drill", DRILL_BYTES, &bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    if record.version == 1 { Ok(record) } else { Err(format!("{} is of another version", path.display())) }
}

fn table(below: &Below, path: &str) -> Result<toml::Table, String> {
    let text = std::fs::read_to_string(below.on_disk(Path::new(path))).map_err(|error| error.to_string())?;
    text.parse().map_err(|error: toml::de::Error| error.message().to_owned())
}

/// Each once: `/lib` is a link to `/usr/lib` on most systems.
fn module_files(below: &Below) -> Vec<FileFact> {
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for dir in MODULE_DIRS {
        let dirs = match dir.split_once("/*/") {
            None => vec![PathBuf::from(dir)],
            Some((above, under)) => below.list(above).iter().map(|one| one.join(under)).collect(),
        };
        for path in dirs.into_iter().map(|dir| dir.join(MODULE)) {
            if let (Some(meta), Some(fact)) = (below.meta(&path), below.file(&path))
                && !seen.contains(&(meta.dev(), meta.ino()))
            {
                seen.push((meta.dev(), meta.ino()));
                found.push(fact);
            }
        }
    }
    found
}

fn logins(below: &Below) -> Vec<String> {
    let text = below.text("/etc/passwd").unwrap_or_default();
    let login = |line: &str| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?);
        (uid != "0").then(|| name.to_owned())
    };
    text.lines().filter_map(login).collect()
}

fn ask_agent(socket: &Path, above: u64) -> Result<(), String> {
    match ask(socket, &ModuleMessage::Rosters(AskRosters { wire: WIRE_VERSION, above }))? {
        ModuleEvent::Rosters(_) => Ok(()),
        _ => Err("it answers something else".to_owned()),
    }
}

/// The newest roster that follows from the pinned one, as far as the agent has it: the one that the
/// module takes and pins when it runs next. Without an agent, the pinned one.
#[must_use]
pub fn newest(pinned: VerifiedRoster, agent_socket: &Path) -> VerifiedRoster {
    let mut head = pinned;
    for _ in 0..limits::ROSTER_STEPS {
        let ask_for = AskRosters { wire: WIRE_VERSION, above: head.roster().version };
        let Ok(ModuleEvent::Rosters(more)) = ask(agent_socket, &ModuleMessage::Rosters(ask_for)) else { return head };
        let before = head.roster().version;
        for bytes in &more.envelopes {
            let next = RosterEnvelope::from_bytes(&bytes.0).ok().and_then(|envelope| head.successor(&envelope).ok());
            let Some(next) = next else { return head };
            head = next;
        }
        if head.roster().version == before {
            return head;
        }
    }
    head
}

/// A request that nobody made: a gateway says that it does not know it; an agent without one says so.
fn ask_gateway(socket: &Path) -> Result<(), String> {
    let random = || random().map(Fixed).map_err(|error| error.to_string());
    let resume = Resume { wire: WIRE_VERSION, request: RequestId(Digest(random()?)), resume_token: random()? };
    match ask(socket, &ModuleMessage::Resume(resume))? {
        ModuleEvent::Refused(_) => Ok(()),
        ModuleEvent::Link(link) if !link.up => Err("the agent has no link to it".to_owned()),
        _ => Err("it answers something else".to_owned()),
    }
}

/// It answers to anybody at the one socket; at the other, where only registrations are taken, it must
/// be there.
fn ask_reaper(user_socket: &Path, socket: &Path) -> Result<(), String> {
    UnixStream::connect(socket).map_err(|error| error.to_string())?;
    match ask(user_socket, &ReaperRequest::List(List { wire: WIRE_VERSION }))? {
        ReaperReply::Grants(_) => Ok(()),
        _ => Err("it answers something else".to_owned()),
    }
}

fn ask<T: DeserializeOwned>(socket: &Path, message: &impl serde::Serialize) -> Result<T, String> {
    let text = |error: io::Error| error.to_string();
    let mut stream = UnixStream::connect(socket).map_err(text)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(text)?;
    stream.write_all(&wire::frame(message)).map_err(text)?;
    let mut prefix = [0; LENGTH_BYTES];
    stream.read_exact(&mut prefix).map_err(text)?;
    let length = wire::body_length(prefix, limits::FRAME_BYTES).map_err(|error| error.to_string())?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).map_err(text)?;
    wire::message(&body, limits::FRAME_BYTES).map_err(|error| error.to_string())
}

fn visudo() -> Visudo {
    for program in ["/usr/sbin/visudo", "/sbin/visudo", "/usr/sbin/visudo-rs", "/usr/bin/visudo-rs"] {
        let run = Command::new(program).arg("-c").stdin(Stdio::null()).output();
        match run {
            Ok(output) if output.status.success() => return Visudo::Fine,
            Ok(output) => {
                let said = [output.stderr, output.stdout].concat();
                return Visudo::Broken(String::from_utf8_lossy(&said).trim().to_owned());
            }
            Err(_) => {}
        }
    }
    Visudo::Missing
}
