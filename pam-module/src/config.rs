//! `/etc/twinlock/module.toml`, strictly: an unknown key, a value that contradicts another or a
//! file that others than root can write, and every elevation is refused. The path is fixed; the
//! environment and the PAM line can't move it.
#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use twinlock_protocol::ids::HostId;
use twinlock_protocol::{DenyReason, limits};

use crate::refusal::Refusal;
use crate::settings::{self, Value};
use crate::trusted::Owner;

/// Where the configuration is.
pub const PATH: &str = "/etc/twinlock/module.toml";
/// More than any configuration needs.
const LONGEST: usize = 64 * 1024;

/// Whether the requester is asked for a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasonRule {
    /// Never.
    Off,
    /// Yes, and an empty answer is one.
    Optional,
    /// Yes, and without one there is no request.
    Required,
}

/// Whether QR codes are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QrRule {
    /// Where the terminal can show one.
    Auto,
    /// Nowhere: address and code only.
    Never,
}

/// The module's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This host's id in the roster.
    pub host: HostId,
    /// The agent's socket.
    pub agent_socket: PathBuf,
    /// The reaper's socket.
    pub reaper_socket: PathBuf,
    /// The uid of the agent's listener, besides root.
    pub agent_uid: Option<u32>,
    /// The uid of the reaper's listener, besides root.
    pub reaper_uid: Option<u32>,
    /// The directory of the roster's slots.
    pub roster_dir: PathBuf,
    /// The host's signing key, PKCS #8, DER.
    pub host_key: PathBuf,
    /// The life that a request asks for, in seconds.
    pub ttl_s: u32,
    /// The host's own ceiling, in seconds.
    pub max_ttl_s: u32,
    /// From request to the second approval, in seconds.
    pub approve_by_s: u32,
    /// Whether a reason is asked for.
    pub reason: ReasonRule,
    /// Whether QR codes are drawn.
    pub qr: QrRule,
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`DenyReason::ConfigInvalid`], with words for the system log.
    pub fn load(path: &Path, owner: Owner) -> Result<Self, Refusal> {
        let bytes = owner.read(path, LONGEST).map_err(invalid)?;
        let text = std::str::from_utf8(&bytes).map_err(invalid)?;
        Self::parse(text)
    }

    /// Reads and checks its text.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let settings = settings::read(text).map_err(invalid)?;
        let named = settings.iter().find(|setting| setting.key == "host").map(|setting| setting.value);
        let mut config = match named {
            Some(Value::Text(name)) => Self::of(HostId::new(name).ok_or_else(|| invalid("host is not an id"))?),
            Some(Value::Number(_)) | None => return Err(invalid("host is missing, or is not a string")),
        };
        for setting in settings {
            config
                .set(setting.key, setting.value)
                .map_err(|why| invalid(format!("line {}: {}: {why}", setting.line, setting.key)))?;
        }
        config.check()?;
        Ok(config)
    }

    /// What holds where nothing is written.
    fn of(host: HostId) -> Self {
        Self {
            host,
            agent_socket: "/run/twinlock/agent.sock".into(),
            reaper_socket: "/run/twinlock/reaper.sock".into(),
            agent_uid: None,
            reaper_uid: None,
            roster_dir: "/var/lib/twinlock/roster".into(),
            host_key: "/etc/twinlock/host.key".into(),
            ttl_s: limits::DEFAULT_TTL_S,
            max_ttl_s: limits::MAX_TTL_S,
            approve_by_s: limits::DEFAULT_APPROVE_BY_S,
            reason: ReasonRule::Off,
            qr: QrRule::Auto,
        }
    }

    fn set(&mut self, key: &str, value: Value<'_>) -> Result<(), &'static str> {
        match (key, value) {
            ("host", Value::Text(_)) => {}
            ("agent_socket", Value::Text(path)) => self.agent_socket = path.into(),
            ("reaper_socket", Value::Text(path)) => self.reaper_socket = path.into(),
            ("roster_dir", Value::Text(path)) => self.roster_dir = path.into(),
            ("host_key", Value::Text(path)) => self.host_key = path.into(),
            ("agent_uid", Value::Number(uid)) => self.agent_uid = Some(uid),
            ("reaper_uid", Value::Number(uid)) => self.reaper_uid = Some(uid),
            ("ttl_s", Value::Number(seconds)) => self.ttl_s = seconds,
            ("max_ttl_s", Value::Number(seconds)) => self.max_ttl_s = seconds,
            ("approve_by_s", Value::Number(seconds)) => self.approve_by_s = seconds,
            ("reason", Value::Text("off")) => self.reason = ReasonRule::Off,
            ("reason", Value::Text("optional")) => self.reason = ReasonRule::Optional,
            ("reason", Value::Text("required")) => self.reason = ReasonRule::Required,
            ("qr", Value::Text("auto")) => self.qr = QrRule::Auto,
            ("qr", Value::Text("never")) => self.qr = QrRule::Never,
            _ => return Err("no such key, or not a value for it"),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Refusal> {
        let ttl = limits::MIN_TTL_S..=limits::MAX_TTL_S;
        let rules = [
            (ttl.contains(&self.max_ttl_s), "max_ttl_s is 1 to 3600"),
            (ttl.contains(&self.ttl_s) && self.ttl_s <= self.max_ttl_s, "ttl_s is 1 to max_ttl_s"),
            ((1..=limits::MAX_APPROVE_BY_S).contains(&self.approve_by_s), "approve_by_s is 1 to 600"),
        ];
        rules.into_iter().try_for_each(|(holds, rule)| if holds { Ok(()) } else { Err(invalid(rule)) })
    }

    /// Applies the words of the PAM line.
    ///
    /// # Errors
    /// [`DenyReason::ConfigInvalid`] for any word but `qr=never`.
    pub fn with_arguments(mut self, arguments: &[&CStr]) -> Result<Self, Refusal> {
        for argument in arguments {
            match argument.to_bytes() {
                b"qr=never" => self.qr = QrRule::Never,
                _ => return Err(invalid("an argument of the PAM line is unknown (there is only qr=never)")),
            }
        }
        Ok(self)
    }
}

fn invalid(detail: impl ToString) -> Refusal {
    Refusal::logging(DenyReason::ConfigInvalid, detail)
}
