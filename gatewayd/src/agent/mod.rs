//! The per-host relay between modules and gateways: trusted for nothing but delivery.

/// Not in this build yet.
#[derive(Debug, thiserror::Error)]
#[error("agent is not in this build")]
pub struct Error;

/// Runs the role until SIGTERM.
///
/// # Errors
/// Always, until the role exists.
pub fn run(_config: &std::path::Path) -> Result<(), Error> {
    Err(Error)
}
