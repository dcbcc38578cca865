//! The per-host end of sessions: deadlines, cgroups, grant records; no network.

/// Not in this build yet.
#[derive(Debug, thiserror::Error)]
#[error("reaper is not in this build")]
pub struct Error;

/// Runs the role until SIGTERM.
///
/// # Errors
/// Always, until the role exists.
pub fn run(_config: &std::path::Path) -> Result<(), Error> {
    Err(Error)
}
