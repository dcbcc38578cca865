//! `requests`, `grants` and `revoke`: the gateway's admin socket, for root on the gateway. Lists and
//! ends; nothing here can grant.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes as Body;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use twinlock_protocol::ids::GrantId;

use super::output::{json, line, table, visible};
use super::{Failure, time, user};
use crate::api::admin::{GrantLine, WaitingRequest};

/// From connecting to the last byte of the answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer: lists of ten thousand rows.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Where the gateway is, and how to answer.
#[derive(Args, Clone, Debug)]
pub struct AdminArgs {
    /// The gateway's admin socket
    #[arg(long, default_value = "/run/twinlock-gateway/admin.sock", value_name = "PATH")]
    pub socket: PathBuf,
    /// JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `twinlock requests`.
#[derive(Args)]
pub struct RequestsArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// `twinlock status`.
#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// `twinlock grants`.
#[derive(Args)]
pub struct GrantsArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// My own live grants on this host, from its reaper; needs no root
    #[arg(long)]
    mine: bool,
    /// At most this many, newest first
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// The reaper's socket, for --mine
    #[arg(long, default_value = user::SOCKET, value_name = "PATH")]
    user_socket: PathBuf,
}

/// `twinlock revoke`.
#[derive(Args)]
pub struct RevokeArgs {
    /// The grant
    #[arg(value_parser = grant)]
    grant: GrantId,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Reads a grant's id as it is printed everywhere.
pub fn grant(text: &str) -> Result<GrantId, &'static str> {
    GrantId::from_text(text).ok_or("a grant's id is 26 characters of a-z and 2-7")
}

/// Tells the gateway's warnings.
pub fn status(arguments: &StatusArgs) -> Result<(), Failure> {
    let warnings: Vec<String> = get(&arguments.admin.socket, "/v1/warnings")?;
    if arguments.admin.json {
        json(&serde_json::json!({ "warnings": warnings }));
    } else if warnings.is_empty() {
        line("the gateway serves, and has nothing to warn of");
    }
    for warning in warnings.iter().filter(|_| !arguments.admin.json) {
        line(&format!("warning: {}", visible(warning)));
    }
    Ok(())
}

/// Lists what waits.
pub fn requests(arguments: &RequestsArgs) -> Result<(), Failure> {
    let waiting: Vec<WaitingRequest> = get(&arguments.admin.socket, "/v1/requests")?;
    if arguments.admin.json {
        json(&waiting);
        return Ok(());
    }
    if waiting.is_empty() {
        line("nothing waits");
        return Ok(());
    }
    let names = |persons: &[twinlock_protocol::ids::PersonId]| {
        persons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let rows = waiting.iter().map(|one| {
        vec![
            one.grant.to_string(),
            names(&one.requesters),
            format!("{} on {}", one.target, one.host),
            if one.approved.is_empty() { "-".to_owned() } else { names(&one.approved) },
            time::span(one.left_s),
            one.summary.clone(),
        ]
    });
    let rows: Vec<_> = rows.collect();
    line(table(&["GRANT", "WHO", "AS", "APPROVED", "LEFT", "COMMAND"], &rows).trim_end());
    Ok(())
}

/// Lists what was granted, or not.
pub fn grants(arguments: &GrantsArgs) -> Result<(), Failure> {
    if arguments.mine {
        return user::list(&arguments.user_socket, arguments.admin.json);
    }
    let lines: Vec<GrantLine> = get(&arguments.admin.socket, &format!("/v1/grants?limit={}", arguments.limit))?;
    if arguments.admin.json {
        json(&lines);
        return Ok(());
    }
    if lines.is_empty() {
        line("no requests yet");
        return Ok(());
    }
    let rows: Vec<_> = lines
        .iter()
        .map(|one| {
            vec![
                one.grant.to_string(),
                one.state.clone(),
                time::moment(one.admitted_at),
                one.requester.clone(),
                format!("{} on {}", one.target, one.host),
                one.not_after.map_or_else(|| "-".to_owned(), time::moment),
                one.summary.clone(),
            ]
        })
        .collect();
    line(table(&["GRANT", "STATE", "ASKED", "WHO", "AS", "CERTIFICATE ENDS", "COMMAND"], &rows).trim_end());
    Ok(())
}

/// Revokes a grant: its certificate goes onto the list, its session is ended.
pub fn revoke(arguments: &RevokeArgs) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Answer {
        grant: GrantId,
    }
    let path = format!("/v1/grants/{}/revoke", arguments.grant);
    let answer: Answer = call(&arguments.admin.socket, Method::POST, &path, Vec::new())?;
    if arguments.admin.json {
        json(&serde_json::json!({ "revoked": answer.grant }));
    } else {
        line(&format!("{} is revoked; its host ends what runs under it", answer.grant));
    }
    Ok(())
}

/// A `GET` on the admin socket.
///
/// # Errors
/// A [`Failure`]: no gateway, or its refusal.
pub fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, Failure> {
    call(socket, Method::GET, path, Vec::new())
}

/// A `POST` with a JSON body.
///
/// # Errors
/// A [`Failure`]: no gateway, or its refusal.
pub fn post<T: DeserializeOwned>(socket: &Path, path: &str, body: &impl Serialize) -> Result<T, Failure> {
    call(socket, Method::POST, path, twinlock_protocol::codec::encode(body))
}

/// A `POST` that has no answer but done.
///
/// # Errors
/// A [`Failure`]: no gateway, or its refusal.
pub fn tell(socket: &Path, path: &str) -> Result<(), Failure> {
    let body = answer(socket, Method::POST, path, Vec::new())?;
    if body.is_empty() { Ok(()) } else { Err(Failure::plain("the gateway answered something else")) }
}

#[derive(Deserialize)]
struct Problem {
    title: String,
    detail: String,
}

fn call<T: DeserializeOwned>(socket: &Path, method: Method, path: &str, body: Vec<u8>) -> Result<T, Failure> {
    let answer = answer(socket, method, path, body)?;
    serde_json::from_slice(&answer)
        .map_err(|error| Failure::from(error).hint("gateway and command line have different versions, perhaps"))
}

fn answer(socket: &Path, method: Method, path: &str, body: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exchange = exchange(socket, method, path, body);
    let answered = runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange).await });
    let (status, body) = answered.map_err(|_| Failure::plain("the gateway does not answer"))??;
    if (200..300).contains(&status) {
        return Ok(body);
    }
    Err(match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => Failure::new(problem.title, problem.detail),
        Err(_) => Failure::plain(format!("the gateway answered {status}")),
    })
}

async fn exchange(socket: &Path, method: Method, path: &str, body: Vec<u8>) -> Result<(u16, Vec<u8>), Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        Failure::plain(format!("cannot reach the gateway at {}: {error}", socket.display()))
            .hint("run this as root on the gateway; systemctl status twinlock-gateway")
    })?;
    let closed = |error: hyper::Error| {
        Failure::from(error).hint("the gateway talks to root only, and its log says why it closed the connection")
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(closed)?;
    tokio::spawn(connection);
    let request =
        Request::builder().method(method).uri(path).header("host", "gateway").body(Full::new(Body::from(body)))?;
    let answer = sender.send_request(request).await.map_err(closed)?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES)
        .collect()
        .await
        .map_err(|error| Failure::plain(format!("the gateway's answer broke off: {error}")))?;
    Ok((status, body.to_bytes().to_vec()))
}
