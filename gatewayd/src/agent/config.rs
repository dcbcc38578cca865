//! `agent.toml`, strictly: an unknown key or a value that cannot be right is an error, and the
//! agent does not start. The file holds no secret; the key lies in a file of its own.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use twinlock_protocol::bytes::Fixed;
use twinlock_protocol::ids::HostId;

use crate::credential;

/// The agent's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This host, as enrolled.
    pub host: HostId,
    /// The gateway's agent port, `name:port`. Those that the roster lists are tried after it.
    pub gateway: String,
    /// SHA-256 of the gateway's SubjectPublicKeyInfo (DER), base64url: the only key that is talked to,
    /// besides those that the roster lists.
    pub gateway_key: Fixed32,
    /// The agent's private key, PKCS #8 (DER): a path, or `credential:NAME`.
    #[serde(default = "default_key")]
    pub key: PathBuf,
    /// Whether the key came as a credential of systemd.
    #[serde(skip)]
    pub key_is_credential: bool,
    /// Where the module connects.
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
    /// Where the reaper listens.
    #[serde(default = "default_reaper_socket")]
    pub reaper_socket: PathBuf,
    /// Where the module keeps the roster; read, never written.
    #[serde(default = "default_roster_dir")]
    pub roster_dir: PathBuf,
    /// How much one user may ask.
    #[serde(default)]
    pub limits: Limits,
}

/// How much one user may ask. The gateway has limits of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// New requests of one uid in a minute; as many at once after a quiet minute.
    pub requests_per_minute: NonZeroU32,
    /// Waiting requests of one uid.
    pub pending: NonZeroU32,
    /// Connections altogether.
    pub connections: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self { requests_per_minute: at_least_one(10), pending: at_least_one(4), connections: at_least_one(512) }
    }
}

/// 32 bytes in base64url.
pub type Fixed32 = Fixed<32>;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, an unknown or missing key, a wrong type.
    #[error("cannot use {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value that cannot be right.
    #[error("{key}: {rule}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What it must be.
        rule: &'static str,
    },
}

fn default_key() -> PathBuf {
    "/etc/twinlock/agent.key".into()
}

fn default_socket() -> PathBuf {
    "/run/twinlock/agent.sock".into()
}

fn default_reaper_socket() -> PathBuf {
    "/run/twinlock/reaper.sock".into()
}

fn default_roster_dir() -> PathBuf {
    "/var/lib/twinlock/roster".into()
}

/// The name or address of `name:port`, without the port.
#[must_use]
pub fn name_of(gateway: &str) -> &str {
    let name = gateway.rsplit_once(':').map_or(gateway, |(name, _)| name);
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name)
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.into(), source: Box::new(source) })?;
        config.key_is_credential = credential::is_credential(&config.key);
        config.key = credential::resolve(&config.key).map_err(|rule| ConfigError::Invalid { key: "key", rule })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let port = self.gateway.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) || name_of(&self.gateway).is_empty() {
            return Err(ConfigError::Invalid { key: "gateway", rule: "must be name:port" });
        }
        for (key, path) in [
            ("key", &self.key),
            ("socket", &self.socket),
            ("reaper_socket", &self.reaper_socket),
            ("roster_dir", &self.roster_dir),
        ] {
            if !path.is_absolute() {
                return Err(ConfigError::Invalid { key, rule: "must be an absolute path" });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn parse(text: &str) -> Option<Config> {
        let config: Config = toml::from_str(text).ok()?;
        config.check().ok()?;
        Some(config)
    }

    fn with(line: &str) -> String {
        format!("host = \"web01\"\ngateway = \"gw.example.org:8443\"\ngateway_key = \"{KEY}\"\n{line}\n")
    }

    #[test]
    fn a_short_file_takes_the_installed_paths_and_limits() {
        let config = parse(&with("")).unwrap();
        assert_eq!(config.socket, Path::new("/run/twinlock/agent.sock"));
        assert_eq!(name_of(&config.gateway), "gw.example.org");
        assert_eq!(config.roster_dir, Path::new("/var/lib/twinlock/roster"));
        assert_eq!(config.limits, Limits::default());
        assert_eq!(parse(&with("[limits]\npending = 9")).unwrap().limits.pending.get(), 9);
    }

    #[test]
    fn unknown_and_misspelt_keys_are_errors() {
        for line in ["fail_open = true", "Socket = \"/x\"", "[limits]\nper_minute = 3", "[limits]\npending = 0"] {
            assert_eq!(parse(&with(line)), None, "{line}");
        }
    }

    #[test]
    fn a_gateway_needs_a_name_a_port_and_a_whole_key() {
        for gateway in ["gw", ":8443", "gw:", "gw:0", "gw:99999"] {
            assert_eq!(parse(&with("").replace("gw.example.org:8443", gateway)), None, "{gateway}");
        }
        assert_eq!(parse(&with("").replace(KEY, "AAAA")), None);
        let bracketed = parse(&with("").replace("gw.example.org:8443", "[::1]:8443")).unwrap();
        assert_eq!(name_of(&bracketed.gateway), "::1");
    }
}
