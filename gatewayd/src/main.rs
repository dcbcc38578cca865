//! `twinlock-gatewayd serve | agent | reaper --config FILE`: parses arguments and starts a role.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Twinlock's daemon.
#[derive(Parser)]
#[command(name = "twinlock-gatewayd", version)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// The gateway: requests, approvals, certificates, revocation, audit, the page
    Serve {
        /// Its configuration
        #[arg(long, default_value = "/etc/twinlock/gateway.toml")]
        config: PathBuf,
    },
    /// The relay between this host's PAM module and its gateways
    Agent {
        /// Its configuration
        #[arg(long, default_value = "/etc/twinlock/agent.toml")]
        config: PathBuf,
    },
    /// Deadlines, containment and records of this host's elevated sessions
    Reaper {
        /// Its configuration
        #[arg(long, default_value = "/etc/twinlock/reaper.toml")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    // TWINLOCK_LOG takes tracing filters, e.g. `debug`; it decides nothing but verbosity.
    let filter = tracing_subscriber::EnvFilter::try_from_env("TWINLOCK_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let outcome: Result<(), Box<dyn Error>> = match Arguments::parse().role {
        Role::Serve { config } => twinlock_gatewayd::serve::run(&config).map_err(Into::into),
        Role::Agent { config } => twinlock_gatewayd::agent::run(&config).map_err(Into::into),
        Role::Reaper { config } => twinlock_gatewayd::reaper::run(&config).map_err(Into::into),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its sources, on one line.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}
