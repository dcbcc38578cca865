//! `twinlock host prepare`: two keys, made here and never leaving, and the announcement that the
//! ceremony puts into the roster. Run again, it prints the same announcement: keys are not replaced.

use std::path::{Path, PathBuf};

use clap::Args;
use twinlock_protocol::ids::{GroupName, HostId};
use twinlock_protocol::roster::Host;
use twinlock_protocol::signature::{PublicKey, SigningKey};
use zeroize::Zeroizing;

use super::{AGENT_KEY_FILE, HOST_KEY_FILE};
use crate::cli::{Failure, files, output};
use crate::enrol::seal::{self, Owner};

/// What `twinlock host prepare` takes.
#[derive(Args)]
pub struct PrepareArgs {
    /// The name that people know; shown on page and terminal
    #[arg(long)]
    name: String,
    /// The id in the roster; the name in lower case without it
    #[arg(long)]
    id: Option<String>,
    /// A group of hosts that it belongs to
    #[arg(long = "group")]
    groups: Vec<String>,
    /// Where the announcement goes; standard output without it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where the keys are
    #[arg(long, default_value = "/etc/twinlock", value_name = "DIR")]
    etc_dir: PathBuf,
    /// The system user of the agent, when root runs this
    #[arg(long, default_value = "twinlock-agent", value_name = "USER")]
    agent_user: String,
}

/// Makes what is missing and prints the announcement.
///
/// # Errors
/// A [`Failure`].
pub fn run(arguments: &PrepareArgs) -> Result<(), Failure> {
    let id = arguments.id.clone().unwrap_or_else(|| arguments.name.to_lowercase());
    let id = HostId::new(&id).ok_or_else(|| {
        Failure::new(format!("{id} is no host id"), "give --id with lower-case letters, digits, dot, dash")
    })?;
    let groups = arguments.groups.iter().map(|name| {
        GroupName::new(name)
            .ok_or_else(|| Failure::new(format!("{name} is no group"), "lower-case letters, digits, dot, dash"))
    });
    let groups = groups.collect::<Result<Vec<_>, _>>()?;
    let agent = files::owner(&arguments.agent_user)?;
    files::directory(&arguments.etc_dir, 0o755, None)?;
    let host = Host {
        id,
        name: arguments.name.clone(),
        groups,
        host_key: key(&arguments.etc_dir.join(HOST_KEY_FILE), None)?,
        agent_key: key(&arguments.etc_dir.join(AGENT_KEY_FILE), agent)?,
    };
    match &arguments.out {
        None => output::json(&host),
        Some(path) => seal::replace(path, &twinlock_protocol::codec::encode(&host), 0o644, None)?,
    }
    Ok(())
}

/// The public half of the key in this file, which is made if there is none.
///
/// # Errors
/// A [`Failure`].
pub fn key(path: &Path, owner: Option<Owner>) -> Result<PublicKey, Failure> {
    match public_of(path)? {
        Some(public) => Ok(public),
        None => {
            let (pair, pkcs8) = SigningKey::generate()?;
            seal::replace(path, &Zeroizing::new(pkcs8), 0o600, owner)?;
            Ok(pair.public())
        }
    }
}

/// The public half of the key in this file, if there is one.
///
/// # Errors
/// A [`Failure`] when the file is there, but is no key: it is not replaced.
pub fn public_of(path: &Path) -> Result<Option<PublicKey>, Failure> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(_) | Ok(_) => {}
    }
    let bytes = Zeroizing::new(files::read(path, 4096)?);
    let pair = SigningKey::from_pkcs8(&bytes)
        .map_err(|_| Failure::plain(format!("{} is no P-256 key in PKCS #8", path.display())))?;
    Ok(Some(pair.public()))
}
