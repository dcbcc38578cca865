//! The command line `twinlock`: sets up gateways and hosts, looks, revokes. Tables for people,
//! `--json` for programs; everything that came from elsewhere is escaped before it is printed.
//! Decides nothing about grants.

mod admin;
mod approve;
mod audit;
mod backup;
mod break_glass;
pub mod doctor;
pub mod enable;
mod files;
mod host;
mod init;
mod output;
mod people;
mod person;
mod qr;
mod roster;
mod time;
mod token;
mod user;

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

pub use output::Failure;

/// Two-person, just-in-time privilege elevation.
#[derive(Parser)]
#[command(name = "twinlock", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a gateway: people enrol their devices and sign the roster
    Init(Box<init::InitArgs>),
    /// Make a host ready, and pin a roster on it
    #[command(subcommand)]
    Host(host::HostCommand),
    /// Requests that wait (on the gateway, as root)
    Requests(admin::RequestsArgs),
    /// Requests and what became of them (on the gateway, as root), or my own live grants
    Grants(admin::GrantsArgs),
    /// End a grant now (on the gateway, as root)
    Revoke(admin::RevokeArgs),
    /// End a grant of mine on this host
    Drop(user::DropArgs),
    /// The audit log and the evidence of grants (on the gateway, as root; verify: anywhere, as anybody)
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// What the gateway has to say of itself: doubtful settings, a restore, hosts that are ahead (as root)
    Status(admin::StatusArgs),
    /// Copy the gateway's database into one private file (on the gateway, as root)
    Backup(backup::BackupArgs),
    /// The roster: what it is, what is proposed, what to propose (on the gateway, as root)
    #[command(subcommand)]
    Roster(Box<roster::RosterCommand>),
    /// People: invite, remove, suspend, lift, import (on the gateway, as root)
    #[command(subcommand)]
    Person(person::PersonCommand),
    /// Devices: list, remove (on the gateway, as root)
    #[command(subcommand)]
    Device(person::DeviceCommand),
    /// As `person invite`
    #[command(subcommand)]
    Approver(ApproverCommand),
    /// Sign a break-glass challenge, on any machine
    Approve(approve::ApproveArgs),
    /// While no gateway can be reached: keys, drills, reviews
    #[command(subcommand)]
    BreakGlass(break_glass::BreakGlassCommand),
    /// Gate sudo or su on this host, and put everything back unless that is confirmed (as root)
    Enable(enable::EnableArgs),
    /// Take a gate away again (as root)
    Disable(enable::DisableArgs),
    /// What is wrong with this host, and how else one becomes root on it; exits with 1 for warnings, 2 for failures
    Doctor(doctor::DoctorArgs),
    /// Where to see Twinlock at work
    Demo,
}

#[derive(Subcommand)]
enum ApproverCommand {
    /// Invite somebody to enrol a device
    Invite(person::InviteArgs),
}

/// The whole command line as clap knows it, for manual pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command line and returns its exit code: 0 done, 1 refused or failed, 2 wrong usage.
#[must_use]
pub fn main() -> ExitCode {
    // TWINLOCK_LOG takes tracing filters; without it only what the commands print is seen.
    let filter = tracing_subscriber::EnvFilter::try_from_env("TWINLOCK_LOG").unwrap_or_else(|_| "off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let outcome = match Arguments::parse().command {
        Command::Init(arguments) => init::run(&arguments),
        Command::Host(command) => host::run(&command),
        Command::Requests(arguments) => admin::requests(&arguments),
        Command::Grants(arguments) => admin::grants(&arguments),
        Command::Revoke(arguments) => admin::revoke(&arguments),
        Command::Drop(arguments) => user::drop_grant(&arguments),
        Command::Audit(command) => audit::run(&command),
        Command::Status(arguments) => admin::status(&arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Roster(command) => roster::run(&command),
        Command::Person(command) => person::run(&command),
        Command::Device(command) => person::run_device(&command),
        Command::Approver(ApproverCommand::Invite(arguments)) => person::invite(&arguments),
        Command::Approve(arguments) => approve::run(&arguments),
        Command::BreakGlass(command) => break_glass::run(&command),
        Command::Enable(arguments) => enable::enable(&arguments),
        Command::Disable(arguments) => enable::disable(&arguments),
        Command::Doctor(arguments) => return doctor::run(&arguments),
        Command::Demo => {
            output::line("make demo, in the source tree, runs the whole of it in a private namespace");
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes on one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
