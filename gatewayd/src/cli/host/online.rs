//! Joining a running gateway: this machine makes its keys, asks with its token, shows the words that
//! two people compare, waits until they have signed, and takes the roster chain from the digest that
//! the token names to the version that has this host. The gateway is believed nothing.

use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::codec::LengthDelimitedCodec;
use twinlock_protocol::roster::{Host, RosterEnvelope, VerifiedRoster};
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::wire::LENGTH_BYTES;
use twinlock_protocol::words::words;
use twinlock_protocol::{Fixed, codec, limits};
use zeroize::Zeroizing;

use super::{AGENT_KEY_FILE, HOST_KEY_FILE};
use crate::agent::tls::{peer_key, stranger};
use crate::api::join::ALPN;
use crate::cli::token::JoinToken;
use crate::cli::{Failure, files, output};
use crate::roster::{JoinAnswer, JoinHello};

/// To connect, and between two answers; people may take days, but the gateway says at once that it
/// waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// The head with this host in it, and its envelope's bytes.
///
/// # Errors
/// A [`Failure`]: refused, declined, or a chain that does not verify.
pub fn join(token: &JoinToken, secret: &Fixed<32>, etc_dir: &Path) -> Result<(VerifiedRoster, Vec<u8>), Failure> {
    let (host_key, agent_key) = (key(&etc_dir.join(HOST_KEY_FILE))?, key(&etc_dir.join(AGENT_KEY_FILE))?);
    let hello = hello(token, secret, &host_key, &agent_key)?;
    let own = Host {
        id: token.host.clone(),
        name: token.host.to_string(),
        groups: Vec::new(),
        host_key: hello.host_key,
        agent_key: hello.agent_key,
    };
    output::line("two people must sign this host into the roster. Its words, which they compare:");
    output::line(&format!("  {}", words(&own.keys_digest()).join(" ")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let envelopes = runtime.block_on(converse(token, &hello))?;
    let (head, bytes) = follow(token, envelopes)?;
    let entry = head.host(&token.host).ok_or_else(|| Failure::plain("the roster that came has no such host"))?;
    if (entry.host_key, entry.agent_key) != (hello.host_key, hello.agent_key) {
        return Err(Failure::new(
            format!("the roster names other keys for {}", token.host),
            "tell your security team: somebody else joined under this name",
        ));
    }
    Ok((head, bytes))
}

fn key(path: &Path) -> Result<SigningKey, Failure> {
    let bytes = Zeroizing::new(files::read(path, 4096)?);
    SigningKey::from_pkcs8(&bytes).map_err(|_| Failure::plain(format!("{} is no P-256 key in PKCS #8", path.display())))
}

fn hello(
    token: &JoinToken,
    secret: &Fixed<32>,
    host_key: &SigningKey,
    agent_key: &SigningKey,
) -> Result<JoinHello, Failure> {
    let message = JoinHello::message(secret, &token.host, &host_key.public(), &agent_key.public());
    Ok(JoinHello {
        version: 1,
        secret: *secret,
        host: token.host.clone(),
        host_key: host_key.public(),
        agent_key: agent_key.public(),
        host_signature: host_key.sign(&message)?,
        agent_signature: agent_key.sign(&message)?,
    })
}

/// From the digest in the token, step by step.
fn follow(token: &JoinToken, envelopes: Vec<Vec<u8>>) -> Result<(VerifiedRoster, Vec<u8>), Failure> {
    let refused = |error: &dyn std::error::Error| {
        Failure::new(
            format!("the roster chain does not verify: {}", crate::cli::chain(error)),
            "tell your security team: the gateway sent what it should not",
        )
    };
    let mut envelopes = envelopes.into_iter();
    let mut bytes = envelopes.next().ok_or_else(|| Failure::plain("the gateway sent no roster"))?;
    let first = RosterEnvelope::from_bytes(&bytes)?;
    let mut head = VerifiedRoster::pinned(&first, &token.roster).map_err(|error| refused(&error))?;
    for next in envelopes {
        let envelope = RosterEnvelope::from_bytes(&next)?;
        head = head.successor(&envelope).map_err(|error| refused(&error))?;
        bytes = next;
    }
    Ok((head, bytes))
}

async fn converse(token: &JoinToken, hello: &JoinHello) -> Result<Vec<Vec<u8>>, Failure> {
    let unreachable = |why: String| {
        Failure::new(
            format!("cannot reach the gateway at {}: {why}", token.gateway),
            "check its address and the network; the token is still good",
        )
    };
    let connect = async {
        let tcp = TcpStream::connect(&token.gateway).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("twinlock-gateway").map_err(std::io::Error::other)?;
        let config = stranger(ALPN).map_err(std::io::Error::other)?;
        TlsConnector::from(config).connect(name, tcp).await
    };
    let stream = tokio::time::timeout(PATIENCE, connect)
        .await
        .map_err(|_| unreachable("no answer".to_owned()))?
        .map_err(|error| unreachable(error.to_string()))?;
    if peer_key(stream.get_ref().1) != Some(token.gateway_key) {
        return Err(Failure::new(
            format!("{} is another gateway than the token's", token.gateway),
            "nothing was sent to it; check the address, and tell your security team",
        ));
    }
    let mut frames = LengthDelimitedCodec::builder()
        .length_field_length(LENGTH_BYTES)
        .max_frame_length(limits::FRAME_BYTES)
        .new_framed(stream);
    frames.send(axum::body::Bytes::from(codec::encode(hello))).await?;
    let mut envelopes = Vec::new();
    let mut told = None;
    loop {
        // People take their time: only the first answer is waited for with a clock.
        let next = match told {
            None => {
                tokio::time::timeout(PATIENCE, frames.next()).await.map_err(|_| unreachable("no answer".to_owned()))?
            }
            Some(_) => frames.next().await,
        };
        let frame = next.ok_or_else(|| unreachable("it hung up".to_owned()))??;
        let answer: JoinAnswer = serde_json::from_slice(&frame)?;
        match answer {
            JoinAnswer::Waiting { signed, needs } => {
                if told != Some(signed) {
                    output::line(&format!("waiting: {signed} of {needs} signed"));
                }
                told = Some(signed);
            }
            JoinAnswer::Rosters { envelopes: more } => {
                told.get_or_insert(0);
                let bytes: usize = envelopes.iter().map(Vec::len).sum();
                if bytes > limits::ROSTER_STEPS * limits::ROSTER_BYTES {
                    return Err(Failure::plain("the gateway sends more rosters than there can be"));
                }
                envelopes.extend(more.into_iter().map(|one| one.0));
            }
            JoinAnswer::Sealed {} => return Ok(envelopes),
            JoinAnswer::Refused { reason } => {
                let row = reason.row();
                return Err(Failure::new(row.line, "ask for a new token: twinlock host token, on the gateway"));
            }
        }
    }
}
