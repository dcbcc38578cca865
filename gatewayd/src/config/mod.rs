//! Turns `gateway.toml` into types that cannot contradict each other. Unknown, duplicate and
//! misspelt keys are errors: the gateway refuses to start. Settings that are allowed but doubtful
//! become warnings that an administrator can see. Configuration can only narrow what the roster
//! allows; nothing here weakens a check.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use twinlock_protocol::limits;

use crate::credential;

/// `gateway.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// The one origin of the page, exactly as the roster names it.
    pub origin: String,
    /// Database, roster and keys.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Where phones come in.
    pub approver: ApproverConfig,
    /// Where agents come in.
    pub agents: AgentsConfig,
    /// Metrics and health.
    #[serde(default)]
    pub monitor: Option<MonitorConfig>,
    /// The administrator's socket.
    #[serde(default)]
    pub admin: AdminConfig,
    /// What grants and revocation lists are like.
    #[serde(default)]
    pub grants: GrantsConfig,
    /// How much is too much.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// How devices are enrolled by invite.
    #[serde(default)]
    pub enrolment: EnrolmentConfig,
    /// Where the audit log goes besides the database.
    #[serde(default)]
    pub audit: AuditConfig,
}

/// The approver listener: TLS 1.3, certificates that phones trust.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApproverConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// Certificate chain, PEM; read again on SIGHUP. A path, or `credential:NAME`.
    pub tls_cert: PathBuf,
    /// Its private key, PEM; read again on SIGHUP. A path, or `credential:NAME`.
    pub tls_key: PathBuf,
}

/// The agent listener: TLS 1.3, client certificates over keys of the roster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentsConfig {
    /// Address and port.
    pub listen: SocketAddr,
}

/// `/metrics` and `/healthz`, in clear: loopback unless somebody insists.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitorConfig {
    /// Address and port.
    pub listen: SocketAddr,
}

/// The administrator's unix socket: peer uid 0 alone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Its path.
    pub socket: PathBuf,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { socket: PathBuf::from("/run/twinlock-gateway/admin.sock") }
    }
}

/// Limits that this gateway sets below the roster's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrantsConfig {
    /// The longest life of a grant through this gateway, in seconds.
    pub max_ttl_s: u32,
    /// The life of a revocation list, in seconds; a new one is made at half of it.
    pub crl_life_s: u32,
}

impl Default for GrantsConfig {
    fn default() -> Self {
        Self { max_ttl_s: limits::MAX_TTL_S, crl_life_s: 24 * 3600 }
    }
}

/// Rates, each per minute with a burst of the same size, and caps.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// New requests of one person on one host, per minute.
    pub requests_per_person: u32,
    /// New requests of one host, per minute.
    pub requests_per_host: u32,
    /// API calls of one source address, per minute.
    pub calls_per_address: u32,
    /// Claims and answers of one approver's sign-in, per minute.
    pub calls_per_approver: u32,
    /// Requests of one person on one host that wait at the same time.
    pub pending_per_person: u32,
    /// Requests of one host that wait at the same time.
    pub pending_per_host: u32,
    /// Requests that wait at the same time, all together.
    pub pending: u32,
    /// Open connections of one source address.
    pub connections_per_address: u32,
    /// Open connections of approvers, all together.
    pub connections: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            requests_per_person: 20,
            requests_per_host: 120,
            calls_per_address: 600,
            calls_per_approver: 60,
            pending_per_person: 5,
            pending_per_host: 100,
            pending: 10_000,
            connections_per_address: 64,
            connections: 2_048,
        }
    }
}

/// Enrolment by invite. What counts is the roster's: its floor and its list of models.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnrolmentConfig {
    /// Makers' attestation roots, PEM; without any, no device counts as attested.
    pub attestation_roots: Vec<PathBuf>,
}

/// A syslog facility (RFC 5424 §6.2.1) that suits an audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyslogFacility {
    /// 10.
    Authpriv,
    /// 4.
    Auth,
    /// 3.
    Daemon,
    /// 16.
    Local0,
    /// 17.
    Local1,
    /// 18.
    Local2,
    /// 19.
    Local3,
    /// 20.
    Local4,
    /// 21.
    Local5,
    /// 22.
    Local6,
    /// 23.
    Local7,
}

/// Where audit events go after they are committed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// The facility; syslog gets nothing when there is none.
    pub syslog: Option<SyslogFacility>,
    /// The socket of the system's log.
    pub syslog_socket: PathBuf,
    /// A file of JSON lines, appended to; opened again on SIGHUP.
    pub json_lines: Option<PathBuf>,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { syslog: None, syslog_socket: PathBuf::from("/dev/log"), json_lines: None }
    }
}

/// Why a configuration was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, an unknown or duplicate key, or a value of another type; names line and key.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        reason: String,
    },
    /// A value that cannot be used.
    #[error("{path}: {key}: {rule}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it must be.
        rule: &'static str,
    },
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/twinlock-gateway")
}

impl GatewayConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`]; the gateway does not start.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config = Self::parse(path, &text)?;
        let approver = &mut config.approver;
        for (key, file) in [("approver.tls_cert", &mut approver.tls_cert), ("approver.tls_key", &mut approver.tls_key)]
        {
            *file =
                credential::resolve(file).map_err(|rule| ConfigError::Invalid { path: path.to_owned(), key, rule })?;
        }
        Ok(config)
    }

    /// Checks a file's text; `path` is for messages.
    ///
    /// # Errors
    /// [`ConfigError::Malformed`], [`ConfigError::Invalid`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)
            .map_err(|error| ConfigError::Malformed { path: path.to_owned(), reason: error.to_string() })?;
        config.check().map_err(|(key, rule)| ConfigError::Invalid { path: path.to_owned(), key, rule })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if !self.origin.starts_with("https://") || self.origin.ends_with('/') {
            return Err(("origin", "is https://HOST[:PORT], without a path"));
        }
        if !(limits::MIN_TTL_S..=limits::MAX_TTL_S).contains(&self.grants.max_ttl_s) {
            return Err(("grants.max_ttl_s", "is 1 to 3600"));
        }
        if !(60..=30 * 24 * 3600).contains(&self.grants.crl_life_s) {
            return Err(("grants.crl_life_s", "is 60 to 2592000"));
        }
        let limits = &self.limits;
        let none = [
            limits.requests_per_person,
            limits.requests_per_host,
            limits.calls_per_address,
            limits.calls_per_approver,
            limits.pending_per_person,
            limits.pending_per_host,
            limits.pending,
            limits.connections_per_address,
            limits.connections,
        ]
        .contains(&0);
        if none {
            return Err(("limits", "are at least 1; there is no way to switch a limit off"));
        }
        Ok(())
    }

    /// The authority (`HOST[:PORT]`) of the origin, as browsers send it in `Host`.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.origin.strip_prefix("https://").unwrap_or(&self.origin)
    }

    /// What is allowed but doubtful, in words for an administrator.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(monitor) = &self.monitor
            && !monitor.listen.ip().is_loopback()
        {
            warnings.push(format!("monitor.listen {} is not loopback: metrics travel in clear", monitor.listen));
        }
        if self.audit.syslog.is_none() && self.audit.json_lines.is_none() {
            warnings.push("audit: neither syslog nor json_lines is set; the database is the only record".to_owned());
        }
        if self.grants.crl_life_s > 7 * 24 * 3600 {
            warnings.push("grants.crl_life_s is over a week: a stolen list serves that long".to_owned());
        }
        if self.limits.requests_per_person > 600 {
            warnings.push("limits.requests_per_person is over 600: one person can tire every approver".to_owned());
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    const GOOD: &str = r#"
        origin = "https://tl.example.org"
        [approver]
        listen = "127.0.0.1:8443"
        tls_cert = "cert.pem"
        tls_key = "key.pem"
        [agents]
        listen = "127.0.0.1:8444"
    "#;

    fn parse(text: &str) -> Result<GatewayConfig, ConfigError> {
        GatewayConfig::parse(Path::new("gateway.toml"), text)
    }

    #[test]
    fn the_smallest_configuration_is_accepted_and_has_the_documented_defaults() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.state_dir, Path::new("/var/lib/twinlock-gateway"));
        assert_eq!(config.authority(), "tl.example.org");
        assert_eq!(config.grants.max_ttl_s, 3600);
    }

    /// Catalogue: K5 (control: the_smallest_configuration_is_accepted_and_has_the_documented_defaults)
    #[test]
    fn unknown_misspelt_and_duplicate_keys_are_refused_and_named() {
        for (extra, named) in [
            ("fail_open = true", "fail_open"),
            ("[approvers]\nlisten = \"127.0.0.1:1\"", "approvers"),
            ("[grants]\nmax_ttl = 60", "max_ttl"),
            ("[limits]\nrequests_per_persons = 1", "requests_per_persons"),
            ("[audit]\nsyslog = \"mail\"", "mail"),
            ("[agents]\nlisten = \"127.0.0.1:9\"", "agents"),
        ] {
            let error = parse(&format!("{GOOD}\n{extra}")).unwrap_err().to_string();
            assert!(error.contains(named), "{extra}: {error}");
        }
        assert!(parse(&format!("fail_open = true\n{GOOD}")).is_err());
    }

    #[test]
    fn values_that_cannot_be_used_are_refused() {
        for extra in ["[grants]\nmax_ttl_s = 0", "[grants]\nmax_ttl_s = 3601", "[limits]\npending = 0"] {
            assert!(matches!(parse(&format!("{GOOD}\n{extra}")), Err(ConfigError::Invalid { .. })), "{extra}");
        }
        assert!(parse(&GOOD.replace("https://tl", "http://tl")).is_err());
    }

    #[test]
    fn the_sample_is_accepted_and_what_it_comments_out_is_the_default() {
        let sample = include_str!("../../../packaging/gateway.toml");
        let config = parse(sample).unwrap();
        assert!(config.warnings().is_empty(), "{:?}", config.warnings());
        // The same with every default written out; the one key without a default gets a value.
        let is_key = |line: &str| line.starts_with('#') && line.contains(" = ") && !line.starts_with("# ");
        let written: Vec<&str> =
            sample.lines().map(|line| if is_key(line) { line.trim_start_matches('#') } else { line }).collect();
        let mut spelt_out = parse(&written.join("\n")).unwrap();
        assert!(spelt_out.audit.json_lines.take().is_some());
        assert_eq!(spelt_out, config);
    }

    #[test]
    fn doubtful_settings_become_warnings() {
        let config = parse(&format!("{GOOD}\n[monitor]\nlisten = \"0.0.0.0:9000\"")).unwrap();
        assert!(config.warnings().iter().any(|warning| warning.contains("not loopback")));
    }
}
