//! `/etc/twinlock/module.toml`, strictly: an unknown key, a value that contradicts another or a
//! file that others than root can write, and every elevation is refused. The path is fixed; the
//! environment and the PAM line can't move it.
#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use twinlock_protocol::ids::HostId;
use twinlock_protocol::{DenyReason, limits};

use crate::refusal::Refusal;
use crate::trusted::Owner;

/// Where the configuration is.
pub const PATH: &str = "/etc/twinlock/module.toml";
/// More than any configuration needs.
const LONGEST: usize = 64 * 1024;

/// Whether the requester is asked for a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReasonRule {
    /// Never.
    Off,
    /// Yes, and an empty answer is one.
    Optional,
    /// Yes, and without one there is no request.
    Required,
}

/// Whether QR codes are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QrRule {
    /// Where the terminal can show one.
    Auto,
    /// Nowhere: address and code only.
    Never,
}

/// The module's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This host's id in the roster.
    pub host: HostId,
    /// The agent's socket.
    #[serde(default = "default_agent_socket")]
    pub agent_socket: PathBuf,
    /// The reaper's socket.
    #[serde(default = "default_reaper_socket")]
    pub reaper_socket: PathBuf,
    /// The uid of the agent's listener, besides root.
    pub agent_uid: Option<u32>,
    /// The uid of the reaper's listener, besides root.
    pub reaper_uid: Option<u32>,
    /// The directory of the roster's slots.
    #[serde(default = "default_roster_dir")]
    pub roster_dir: PathBuf,
    /// The host's signing key, PKCS #8, DER.
    #[serde(default = "default_host_key")]
    pub host_key: PathBuf,
    /// The life that a request asks for, in seconds.
    #[serde(default = "default_ttl_s")]
    pub ttl_s: u32,
    /// The host's own ceiling, in seconds.
    #[serde(default = "default_max_ttl_s")]
    pub max_ttl_s: u32,
    /// From request to the second approval, in seconds.
    #[serde(default = "default_approve_by_s")]
    pub approve_by_s: u32,
    /// Whether a reason is asked for.
    #[serde(default = "default_reason")]
    pub reason: ReasonRule,
    /// Whether QR codes are drawn.
    #[serde(default = "default_qr")]
    pub qr: QrRule,
}

fn default_agent_socket() -> PathBuf {
    "/run/twinlock/agent.sock".into()
}
fn default_reaper_socket() -> PathBuf {
    "/run/twinlock/reaper.sock".into()
}
fn default_roster_dir() -> PathBuf {
    "/var/lib/twinlock/roster".into()
}
fn default_host_key() -> PathBuf {
    "/etc/twinlock/host.key".into()
}
const fn default_ttl_s() -> u32 {
    limits::DEFAULT_TTL_S
}
const fn default_max_ttl_s() -> u32 {
    limits::MAX_TTL_S
}
const fn default_approve_by_s() -> u32 {
    limits::DEFAULT_APPROVE_BY_S
}
const fn default_reason() -> ReasonRule {
    ReasonRule::Off
}
const fn default_qr() -> QrRule {
    QrRule::Auto
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
        let config: Self = toml::from_str(text).map_err(|error| invalid(error.message()))?;
        config.check()?;
        Ok(config)
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
