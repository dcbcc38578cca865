//! `reaper.toml`, strictly: an unknown key or a value that contradicts another is an error, and
//! the reaper does not start. The file holds no secret.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The reaper's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the module registers and the agent watches.
    pub socket: PathBuf,
    /// Where anybody lists and drops their own grants.
    pub user_socket: PathBuf,
    /// Where GrantRecords rest.
    pub grants: PathBuf,
    /// Where break-glass grants are marked until they are reviewed.
    pub break_glass: PathBuf,
    /// The uid that may watch and pass on orders to end.
    pub agent_uid: u32,
    /// The directory of the leaves, relative to the cgroup2 mount; none: below the reaper's own.
    pub cgroup: Option<PathBuf>,
    /// For how many days the record of an ended grant is kept, once the gateway has it.
    pub keep_days: u32,
}

/// As long as a record is kept when nothing else is said: a year, and what an audit of it takes.
const KEEP_DAYS: u32 = 400;
/// `audit report` looks back 90 days by default, and holds the records against the log.
const KEEP_DAYS_LEAST: u32 = 90;
/// A hundred years.
const KEEP_DAYS_MOST: u32 = 36_500;

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "default_socket")]
    socket: PathBuf,
    #[serde(default = "default_user_socket")]
    user_socket: PathBuf,
    #[serde(default = "default_grants")]
    grants: PathBuf,
    #[serde(default = "default_break_glass")]
    break_glass: PathBuf,
    agent_uid: Option<u32>,
    agent_user: Option<String>,
    cgroup: Option<PathBuf>,
    #[serde(default = "default_keep_days")]
    keep_days: u32,
}

fn default_keep_days() -> u32 {
    KEEP_DAYS
}

fn default_socket() -> PathBuf {
    "/run/twinlock/reaper.sock".into()
}

fn default_user_socket() -> PathBuf {
    "/run/twinlock/user.sock".into()
}

fn default_grants() -> PathBuf {
    "/var/lib/twinlock/grants".into()
}

fn default_break_glass() -> PathBuf {
    "/var/lib/twinlock/break-glass".into()
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        let file: File = toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.into(), source: Box::new(source) })?;
        file.check()
    }
}

impl File {
    fn check(self) -> Result<Config, ConfigError> {
        let paths = [
            ("socket", &self.socket),
            ("user_socket", &self.user_socket),
            ("grants", &self.grants),
            ("break_glass", &self.break_glass),
        ];
        for (key, path) in paths {
            if !path.is_absolute() {
                return Err(ConfigError::Invalid { key, rule: "must be an absolute path" });
            }
        }
        let plain = |path: &Path| path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if self.cgroup.as_deref().is_some_and(|path| path.as_os_str().is_empty() || !plain(path)) {
            return Err(ConfigError::Invalid {
                key: "cgroup",
                rule: "must be relative to the cgroup2 mount, without . or ..",
            });
        }
        let agent_uid = match (self.agent_uid, self.agent_user.as_deref()) {
            (Some(_), Some(_)) => {
                return Err(ConfigError::Invalid { key: "agent_uid", rule: "must not stand beside agent_user" });
            }
            (Some(uid), None) => uid,
            (None, name) => uid_of(name.unwrap_or("twinlock-agent"))?,
        };
        if !(KEEP_DAYS_LEAST..=KEEP_DAYS_MOST).contains(&self.keep_days) {
            return Err(ConfigError::Invalid { key: "keep_days", rule: "must be between 90 and 36500" });
        }
        let Self { socket, user_socket, grants, break_glass, cgroup, keep_days, .. } = self;
        Ok(Config { socket, user_socket, grants, break_glass, agent_uid, cgroup, keep_days })
    }
}

fn uid_of(name: &str) -> Result<u32, ConfigError> {
    match nix::unistd::User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) | Err(_) => Err(ConfigError::Invalid { key: "agent_user", rule: "must be a user of this host" }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(text: &str) -> Result<Config, ConfigError> {
        toml::from_str::<File>(text)
            .map_err(|source| ConfigError::Parse { path: "test".into(), source: Box::new(source) })?
            .check()
    }

    #[test]
    fn a_file_with_only_the_agent_takes_the_installed_paths() {
        let config = check("agent_uid = 771").unwrap();
        assert_eq!(config.socket, Path::new("/run/twinlock/reaper.sock"));
        assert_eq!(config.user_socket, Path::new("/run/twinlock/user.sock"));
        assert_eq!(config.grants, Path::new("/var/lib/twinlock/grants"));
        assert_eq!(config.agent_uid, 771);
        assert_eq!((config.cgroup, config.keep_days), (None, 400));
    }

    #[test]
    fn records_are_kept_for_at_least_as_long_as_a_report_looks_back() {
        assert_eq!(check("agent_uid = 1\nkeep_days = 90").unwrap().keep_days, 90);
        for days in ["0", "89", "36501", "-1", "\"90\"", "90.5"] {
            assert!(check(&format!("agent_uid = 1\nkeep_days = {days}")).is_err(), "{days}");
        }
    }

    #[test]
    fn an_agent_can_be_named_and_root_is_uid_0() {
        assert_eq!(check("agent_user = \"root\"").unwrap().agent_uid, 0);
        assert!(check("agent_user = \"no such user\"").is_err());
        assert!(check("agent_user = \"root\"\nagent_uid = 0").is_err());
    }

    #[test]
    fn unknown_repeated_and_misspelt_keys_are_errors() {
        for text in ["agent_uid = 1\ngrant = \"/x\"", "agent_uid = 1\nagent_uid = 2", "agent_uid = \"1\""] {
            assert!(check(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_that_could_mean_another_place_are_errors() {
        for text in ["grants = \"grants\"", "cgroup = \"/twinlock\"", "cgroup = \"../x\"", "cgroup = \"\""] {
            assert!(check(&format!("agent_uid = 1\n{text}")).is_err(), "{text}");
        }
        assert!(check("agent_uid = 1\ncgroup = \"a/b\"").is_ok());
    }
}
