//! `twinlock host`: makes a host's keys, and pins a roster on it. Run by root on the host itself.

mod join;
mod prepare;

use clap::Subcommand;

use super::Failure;

/// What a host needs.
#[derive(Subcommand)]
pub enum HostCommand {
    /// Make this host's keys and print its announcement
    Prepare(prepare::PrepareArgs),
    /// Pin the roster that a token names, and write this host's configuration
    Join(join::JoinArgs),
}

/// Runs one of them.
///
/// # Errors
/// A [`Failure`].
pub fn run(command: &HostCommand) -> Result<(), Failure> {
    match command {
        HostCommand::Prepare(arguments) => prepare::run(arguments),
        HostCommand::Join(arguments) => join::run(arguments),
    }
}

/// The host key: signs requests; root's.
pub const HOST_KEY_FILE: &str = "host.key";
/// The agent's mTLS key.
pub const AGENT_KEY_FILE: &str = "agent.key";
