//! `twinlock host token` and `remove`, on the gateway: a token for one new host, which two people then
//! sign into the roster; and the proposal that a host leaves.

use clap::Args;
use twinlock_protocol::escape;
use twinlock_protocol::ids::{GroupName, HostId};

use crate::api::changes::{HostTokenAnswer, HostTokenBody};
use crate::cli::admin::{AdminArgs, post};
use crate::cli::roster::propose;
use crate::cli::token::JoinToken;
use crate::cli::{Failure, output, time};
use crate::roster::op::Op;

/// What `twinlock host token` takes.
#[derive(Args)]
pub struct TokenArgs {
    /// The name that people know; shown on page and terminal
    name: String,
    /// The id in the roster; the name in lower case without it
    #[arg(long)]
    id: Option<String>,
    /// A group of hosts that it belongs to
    #[arg(long = "group")]
    groups: Vec<String>,
    /// This gateway's agent listener as the host reaches it, HOST:PORT; from the roster without it
    #[arg(long)]
    gateway: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What `twinlock host remove` takes.
#[derive(Args)]
pub struct RemoveArgs {
    /// The host's id
    host: String,
    #[command(flatten)]
    admin: AdminArgs,
}

fn host_id(text: &str) -> Result<HostId, Failure> {
    HostId::new(text).ok_or_else(|| {
        let shown = escape::visible(text.as_bytes());
        Failure::new(format!("{shown} is no host id"), "give --id with lower-case letters, digits, dot, dash")
    })
}

/// Makes a token.
///
/// # Errors
/// A [`Failure`].
pub fn run(arguments: &TokenArgs) -> Result<(), Failure> {
    let host = host_id(arguments.id.as_deref().unwrap_or(&arguments.name.to_lowercase()))?;
    let group = |name: &String| {
        GroupName::new(name)
            .ok_or_else(|| Failure::new(format!("{name} is no group"), "lower-case letters, digits, dot, dash"))
    };
    let groups = arguments.groups.iter().map(group).collect::<Result<Vec<_>, _>>()?;
    let body = HostTokenBody { host: host.clone(), name: arguments.name.clone(), groups };
    let made: HostTokenAnswer = post(&arguments.admin.socket, "/v1/host-tokens", &body)?;
    let listed = made.gateways.iter().find(|(_, key)| **key == made.gateway_key).map(|(address, _)| address.clone());
    let gateway = arguments.gateway.clone().or(listed).ok_or_else(|| {
        Failure::new(
            "the roster does not say where agents reach this gateway",
            "give --gateway HOST:PORT, the [agents] listener as hosts see it",
        )
    })?;
    let token = JoinToken {
        host,
        gateway,
        gateway_key: made.gateway_key.0,
        roster: made.roster.digest,
        secret: Some(made.secret),
    }
    .to_text();
    if arguments.admin.json {
        output::json(&serde_json::json!({ "token": token, "until": made.until }));
        return Ok(());
    }
    output::line(&format!("good until {}, for one host; on that machine, as root:", time::moment(made.until)));
    output::line(&format!("  twinlock host join {token}"));
    Ok(())
}

/// Proposes that a host leaves.
///
/// # Errors
/// A [`Failure`].
pub fn remove(arguments: &RemoveArgs) -> Result<(), Failure> {
    propose(&arguments.admin, vec![Op::RemoveHost { host: host_id(&arguments.host)? }])
}
