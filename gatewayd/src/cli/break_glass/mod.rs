//! `twinlock break-glass`: keys for the day when no gateway can be reached, the drill that shows that
//! they are at hand, and what is left of it when they were used.

pub mod drill;
pub mod signer;
pub mod words;

mod keys;
mod review;
mod status;

use clap::Subcommand;

use super::Failure;

/// `twinlock break-glass`.
#[derive(Subcommand)]
pub enum BreakGlassCommand {
    /// Make a key: on the machine of the person whose it is
    Keygen(keys::KeygenArgs),
    /// Propose that a key comes or goes (on the gateway, as root)
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// Show that two people have their keys at hand (on a host, as root)
    Drill(drill::HostArgs),
    /// What was used and not reviewed (on the gateway, as root)
    List(review::ListArgs),
    /// Close a review, by somebody who neither asked nor answered (on the gateway, as root)
    Review(review::ReviewArgs),
    /// Take the banner down when no gateway can (on a host, as root); the system log keeps it
    Dismiss(status::DismissArgs),
    /// Who has keys, the last drill, what was used and not reviewed (on a host)
    Status(status::StatusArgs),
}

/// Runs one of them.
///
/// # Errors
/// A [`Failure`].
pub fn run(command: &BreakGlassCommand) -> Result<(), Failure> {
    match command {
        BreakGlassCommand::Keygen(arguments) => keys::keygen(arguments),
        BreakGlassCommand::Key(command) => keys::run(command),
        BreakGlassCommand::Drill(arguments) => drill::run(arguments),
        BreakGlassCommand::List(arguments) => review::list(arguments),
        BreakGlassCommand::Review(arguments) => review::run(arguments),
        BreakGlassCommand::Dismiss(arguments) => status::dismiss(arguments),
        BreakGlassCommand::Status(arguments) => status::run(arguments),
    }
}
