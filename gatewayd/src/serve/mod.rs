//! Starts the gateway: listeners, store, timers, and an orderly stop.

mod engine;

mod hub;
mod metrics;

pub use engine::{Engine, Refusal};

use std::path::Path;

use crate::config::{ConfigError, GatewayConfig};

/// Why the gateway stopped or did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration.
    #[error("configuration")]
    Config(#[from] ConfigError),
    /// The listeners are not in this build yet.
    #[error("serve is not in this build")]
    NotBuilt,
}

/// Runs the gateway until SIGTERM.
///
/// # Errors
/// [`ServeError`].
pub fn run(config: &Path) -> Result<(), ServeError> {
    let config = GatewayConfig::load(config)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    Err(ServeError::NotBuilt)
}
