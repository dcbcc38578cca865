//! `twinlock host`: makes a host's keys, and pins a roster on it. Run by root on the host itself.

mod join;
mod online;
mod prepare;
mod token;

use clap::Subcommand;

use super::Failure;

/// What a host needs.
#[derive(Subcommand)]
pub enum HostCommand {
    /// Make this host's keys and print its announcement
    Prepare(prepare::PrepareArgs),
    /// Pin the roster that a token names, and write this host's configuration
    Join(join::JoinArgs),
    /// A token for a new host (on the gateway, as root)
    Token(token::TokenArgs),
    /// Propose that a host leaves (on the gateway, as root)
    Remove(token::RemoveArgs),
}

/// Runs one of them.
///
/// # Errors
/// A [`Failure`].
pub fn run(command: &HostCommand) -> Result<(), Failure> {
    match command {
        HostCommand::Prepare(arguments) => prepare::run(arguments),
        HostCommand::Join(arguments) => join::run(arguments),
        HostCommand::Token(arguments) => token::run(arguments),
        HostCommand::Remove(arguments) => token::remove(arguments),
    }
}

/// The host key: signs requests; root's.
pub const HOST_KEY_FILE: &str = "host.key";
/// The agent's mTLS key.
pub const AGENT_KEY_FILE: &str = "agent.key";
