//! `drop` and `grants --mine`: this host's reaper, over the socket that is open to everybody. Who
//! asks is decided by the kernel's peer credentials, never by a frame.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use twinlock_protocol::ids::GrantId;
use twinlock_protocol::limits;
use twinlock_protocol::wire::reaper::{DropGrant, List, LiveGrant, ReaperReply, ReaperRequest};
use twinlock_protocol::wire::{self, LENGTH_BYTES, WIRE_VERSION};

use super::output::{json, line, table};
use super::{Failure, admin, time};

/// The reaper's user socket of an installed system.
pub const SOCKET: &str = "/run/twinlock/user.sock";
/// For one frame either way. Ending a session can take the reaper some seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// `twinlock drop`.
#[derive(Args)]
pub struct DropArgs {
    /// The grant; without it, the only one that is live
    #[arg(value_parser = admin::grant)]
    grant: Option<GrantId>,
    /// The reaper's socket
    #[arg(long, default_value = SOCKET, value_name = "PATH")]
    socket: PathBuf,
    /// JSON instead of words
    #[arg(long)]
    json: bool,
}

/// Lists the caller's live grants on this host.
pub fn list(socket: &Path, as_json: bool) -> Result<(), Failure> {
    let grants = mine(socket)?;
    if as_json {
        json(&grants);
    } else if grants.is_empty() {
        line("you have no live grant on this host");
    } else {
        line(shown(&grants).trim_end());
    }
    Ok(())
}

/// Ends one of the caller's grants.
pub fn drop_grant(arguments: &DropArgs) -> Result<(), Failure> {
    let grant = match arguments.grant {
        Some(grant) => grant,
        None => only_one(&mine(&arguments.socket)?)?,
    };
    let request = ReaperRequest::Drop(DropGrant { wire: WIRE_VERSION, grant });
    match ask(&arguments.socket, &request)? {
        ReaperReply::Dropped(dropped) if arguments.json => json(&serde_json::json!({ "dropped": dropped.grant })),
        ReaperReply::Dropped(dropped) => line(&format!("{} is over; what ran under it was ended", dropped.grant)),
        other => return Err(unexpected(&other)),
    }
    Ok(())
}

fn only_one(grants: &[LiveGrant]) -> Result<GrantId, Failure> {
    match grants {
        [] => Err(Failure::plain("you have no live grant on this host")),
        [one] => Ok(one.grant),
        [..] => {
            line(shown(grants).trim_end());
            Err(Failure::new("there is more than one", "say which: twinlock drop GRANT"))
        }
    }
}

fn shown(grants: &[LiveGrant]) -> String {
    let row = |one: &LiveGrant| {
        vec![
            one.grant.to_string(),
            one.target_user.clone(),
            time::moment(one.started_at),
            time::span(one.left_s),
            if one.lingering { "lingering".to_owned() } else { "running".to_owned() },
            one.command.clone(),
        ]
    };
    table(&["GRANT", "AS", "STARTED", "LEFT", "STATE", "COMMAND"], &grants.iter().map(row).collect::<Vec<_>>())
}

fn mine(socket: &Path) -> Result<Vec<LiveGrant>, Failure> {
    match ask(socket, &ReaperRequest::List(List { wire: WIRE_VERSION }))? {
        ReaperReply::Grants(grants) => Ok(grants.grants),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(reply: &ReaperReply) -> Failure {
    match reply {
        ReaperReply::Refused(refused) => Failure::new(refused.reason.row().line, refused.reason.row().hint),
        ReaperReply::Registered(_)
        | ReaperReply::Confirmed(_)
        | ReaperReply::Started(_)
        | ReaperReply::Ended(_)
        | ReaperReply::Lingering(_)
        | ReaperReply::Grants(_)
        | ReaperReply::Dropped(_) => Failure::plain("the reaper answered something else"),
    }
}

fn ask(socket: &Path, request: &ReaperRequest) -> Result<ReaperReply, Failure> {
    let unreachable = |error: std::io::Error| {
        Failure::plain(format!("cannot reach the reaper at {}: {error}", socket.display()))
            .hint("systemctl status twinlock-reaper")
    };
    let mut stream = UnixStream::connect(socket).map_err(unreachable)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&wire::frame(request)).map_err(unreachable)?;
    let mut prefix = [0; LENGTH_BYTES];
    stream.read_exact(&mut prefix).map_err(unreachable)?;
    let mut body = vec![0; wire::body_length(prefix, limits::FRAME_BYTES)?];
    stream.read_exact(&mut body).map_err(unreachable)?;
    Ok(wire::message(&body, limits::FRAME_BYTES)?)
}
